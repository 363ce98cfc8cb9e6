"""From what processes of `rdh bench` have sampled to rows and to text: numbers computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmark_modules import load, write_rows

rows, text, columns, problems = load("_bench_rows", "_bench_text", "_rows", "_problem")
OP = problems.Op("scan", "a scan", "forward", build=lambda case: None, default={"items": 10})
CASE = problems.Case("scan", {"items": 10}, threads=2)
FACTS = {"device": "a CPU", "level": "avx2", "torch": "2.15", "rdh_ext": "0.1.0", "command": "rdh bench scan"}
Row = dict[str, str]


def told(samples: list[float], kind: str = "peer", status: str = "measured", **more: Any) -> dict[str, Any]:
    """Of one provider; microseconds."""
    shared = {"kind": kind, "status": status, "reason": "", "error": None, "extra_bytes": None, "version": "lib 1"}
    return {**shared, "samples": [each * 1e-6 for each in samples], **more}


def run_of(**providers: dict[str, Any]) -> dict[str, Any]:
    """What a process prints of a case."""
    cost = {"bytes": 800, "flops": 0, "pairs": 100}
    return {"title": "10 items", "cost": cost, "ceiling": "plain scan", "providers": providers}


def table(*runs: dict[str, Any]) -> dict[str, Row]:
    """Rows by provider."""
    found = rows.rows_of(OP, CASE, list(runs), FACTS)
    assert all(list(row) == list(columns.COLUMNS) for row in found)
    assert all(isinstance(value, str) for row in found for value in row.values())
    return {row["provider"]: row for row in found}


def ours(*samples: float, **more: Any) -> dict[str, Any]:
    return told(list(samples), "rdh_ext", **more)


def test_one_process() -> None:
    found = table(
        run_of(
            rdh_ext=ours(10, 20, 10, 40, 20, error=1.23456e-8, extra_bytes=4096),
            eager=told([20, 60, 50, 40, 30], error=0.0),
            missing=told([], status="missing", reason="missing is not installed", version=""),
            ceiling=told([5, 5, 6, 8, 16], "ceiling", version=""),
        )
    )
    assert list(found) == ["rdh_ext", "eager", "missing", "ceiling"]
    mine, eager, missing, ceiling = found.values()
    # sorted 10 10 20 20 40: percentile 20 lies at 0.8 of the way from the first to the second
    assert (mine["p20_us"], mine["p50_us"], mine["p80_us"], mine["rounds"]) == ("10", "20", "24", "5")
    assert (mine["times_rdh_ext"], mine["times_rdh_ext_p20"], mine["times_rdh_ext_p80"]) == ("1", "1", "1")
    assert mine["of_ceiling"] == "0.5"  # of 0.5, 0.25, 0.6, 0.2, 0.8
    assert (mine["error"], mine["extra_bytes"]) == ("1.2e-08", "4096")
    # round by round 2, 3, 5, 1, 1.5; the quotient of the medians would be another: the same 2, of other percentiles
    assert (eager["p50_us"], eager["times_rdh_ext"]) == ("40", "2")
    assert (eager["times_rdh_ext_p20"], eager["times_rdh_ext_p80"]) == ("1.4", "3.4")
    assert eager["of_ceiling"] == "0.2"  # of 0.25, 0.0833, 0.12, 0.2, 0.5333
    assert (eager["error"], eager["extra_bytes"]) == ("0", "")
    assert (ceiling["kind"], ceiling["p50_us"], ceiling["of_ceiling"]) == ("ceiling", "6", "1")
    assert (missing["status"], missing["reason"]) == ("missing", "missing is not installed")
    assert {missing[name] for name in ("p50_us", "times_rdh_ext", "of_ceiling", "rounds", "extra_bytes")} == {""}
    for row in found.values():
        assert (row["op"], row["mode"], row["sweep"], row["x"]) == ("scan", "forward", "default", "")
        assert (row["case"], row["ceiling"], row["threads"]) == ("10 items", "plain scan", "2")
        assert (row["bytes"], row["flops"], row["pairs"]) == ("800", "0", "100")
        assert {name: row[name] for name in FACTS} == FACTS
    assert [row["kind"] for row in found.values()] == ["rdh_ext", "peer", "peer", "ceiling"]


def test_ratios_are_those_of_the_same_round() -> None:
    """A machine that is half as fast from the third round on: the ratio is 2 all the time."""
    found = table(run_of(rdh_ext=ours(1, 1, 9, 9), eager=told([2, 2, 18, 18])))["eager"]
    assert [found[f"times_rdh_ext{end}"] for end in ("", "_p20", "_p80")] == ["2", "2", "2"]
    assert (found["p20_us"], found["p80_us"]) == ("2", "18")
    assert found["of_ceiling"] == ""  # nobody knows the limit


def test_fewer_rounds_than_others() -> None:
    found = table(run_of(rdh_ext=ours(1, 2, 4, 8), eager=told([3, 4]), ceiling=told([1, 1, 1, 1], "ceiling")))
    assert (found["eager"]["rounds"], found["eager"]["times_rdh_ext"]) == ("2", "2.5")  # of 3 and 2
    assert found["eager"]["of_ceiling"] == "0.2917"  # of 1/3 and 1/4


def test_a_single_sample_is_compared_with_medians() -> None:
    found = table(run_of(rdh_ext=ours(1, 2, 9), eager=told([30]), ceiling=told([1, 3, 4], "ceiling")))["eager"]
    assert (found["p20_us"], found["p50_us"], found["p80_us"], found["rounds"]) == ("30", "30", "30", "1")
    assert [found[f"times_rdh_ext{end}"] for end in ("", "_p20", "_p80")] == ["15", "15", "15"]
    assert found["of_ceiling"] == "0.1"


def test_of_several_processes_the_best_of_a_peer_and_the_middle_one_of_rdh_ext() -> None:
    runs = [
        run_of(rdh_ext=ours(10, 10), eager=told([90, 90]), ceiling=told([4, 4], "ceiling")),
        run_of(rdh_ext=ours(30, 30), eager=told([60, 60]), ceiling=told([6, 6], "ceiling")),
        run_of(rdh_ext=ours(20, 20), eager=told([80, 80]), ceiling=told([5, 5], "ceiling")),
    ]
    found = table(*runs)
    assert found["rdh_ext"]["p50_us"] == "20"
    assert found["rdh_ext"]["of_ceiling"] == "0.25"  # with the limit of its own process
    assert (found["eager"]["p50_us"], found["eager"]["times_rdh_ext"]) == ("60", "2")
    assert found["ceiling"]["p50_us"] == "5"
    assert table(*runs[:2])["rdh_ext"]["p50_us"] == "10"


def test_somebody_who_fails_in_one_process_is_taken_from_another() -> None:
    failed = told([], status="failed", reason="RuntimeError: once")
    runs = [run_of(rdh_ext=ours(1, 1), eager=failed), run_of(rdh_ext=ours(2, 2), eager=told([6, 6]))]
    found = table(*runs)["eager"]
    assert (found["status"], found["reason"], found["times_rdh_ext"]) == ("measured", "", "3")
    again = table(runs[0], runs[0])["eager"]
    assert (again["status"], again["reason"], again["p50_us"]) == ("failed", "RuntimeError: once", "")


def test_a_part_of_the_work_is_said_beside_the_numbers() -> None:
    part = told([100, 100], reason="a part of the work, its time counted 20 times")
    found = table(run_of(rdh_ext=ours(1, 1), eager=part))["eager"]
    assert (found["status"], found["reason"]) == ("measured", part["reason"])


def test_a_case_that_came_to_nothing() -> None:
    case = problems.Case("scan", {"items": 7}, sweep="items", threads=4)
    [row] = rows.row_of_nothing(OP, case, {"failed": "its process ended with 9", "status": "failed"}, FACTS)
    assert list(row) == list(columns.COLUMNS)
    said = {name: value for name, value in row.items() if value}
    assert said == {
        "op": "scan",
        "mode": "forward",
        "sweep": "items",
        "x": "7",
        "case": "scan, items 7",
        "provider": "rdh_ext",
        "kind": "rdh_ext",
        "status": "failed",
        "reason": "its process ended with 9",
        "threads": "4",
        **FACTS,
    }


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    written = list(table(run_of(rdh_ext=ours(1, 2), eager=told([3, 4]))).values())
    write_rows(path, written)
    assert columns.read(path) == written
    write_rows(path, [{"op": "scan", "milliseconds": 3}])
    with pytest.raises(ValueError, match=r"rows\.csv: no result of rdh bench: columns .*milliseconds"):
        columns.read(path)


@pytest.mark.parametrize(
    ("microseconds", "said"),
    [
        ("", "-"),
        ("0.0412", "0.0412 us"),
        ("999.2", "999 us"),
        ("999.7", "1 ms"),
        ("1234", "1.23 ms"),
        ("999700", "1 s"),
        ("12345678", "12.3 s"),
        ("999700000", "1,000 s"),
        ("3.6e9", "3,600 s"),
    ],
)
def test_times(microseconds: str, said: str) -> None:
    assert text.time_of(microseconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("", "-"),
        ("0", "0 B"),
        ("1023", "1023 B"),
        ("1024", "1 KiB"),
        (str(1023 * 1024 + 700), "1024 KiB"),
        (str(999.7 * 1024), "1000 KiB"),
        (str(5 << 20), "5 MiB"),
        (str(3 << 29), "1.5 GiB"),
        (str(2000 << 30), "2000 GiB"),
    ],
)
def test_bytes(number: str, said: str) -> None:
    assert text.bytes_of(number) == said


def test_text_of_a_case() -> None:
    shared = {"rdh_ext": ours(10, 10, extra_bytes=2048), "ceiling": told([5, 5], "ceiling")}
    found = table(
        run_of(
            **shared,
            **{
                "eager": told([1230, 1230]),
                "eager, best form": told([25, 25], extra_bytes=3 << 20),
                "tanh alone": told([5, 5]),
                "faiss": told([], status="missing", reason="faiss is not installed; pip install faiss-cpu"),
                "numpy": told([], status="left out", reason="a call would take about 90 s, more than 30 s"),
            },
        )
    )
    lines = [" ".join(line.split()) for line in text.text_of(found.values()).splitlines()]
    assert lines == [
        "scan, forward: 10 items",
        "time against rdh_ext of the limit memory",
        "rdh_ext 10 us 50 % 2 KiB",
        "limit: plain scan 5 us 0.50 x (0.50 .. 0.50)",
        "eager 1.23 ms 123 x (123 .. 123) 0.407 % -",
        "eager, best form 25 us 2.50 x (2.50 .. 2.50) 20 % 3 MiB",
        "tanh alone 5 us 0.50 x (0.50 .. 0.50) 100 % -",
        "faiss: missing, faiss is not installed; pip install faiss-cpu",
        "numpy: left out, a call would take about 90 s, more than 30 s",
        "",
        "in short:",
        "rdh_ext of the limit the best other way the obvious way",
        "scan 10 us 50 % 2.50 x eager, best form 123 x eager",
        "",
        "a CPU, avx2, 2 threads, torch 2.15, rdh_ext 0.1.0; medians of rounds in which all take turns, "
        "(20th .. 80th percentile)",
    ]
    assert all(line == line.rstrip() for line in text.text_of(found.values()).splitlines())


def test_text_where_little_was_measured() -> None:
    assert text.text_of([]) == "nothing was measured"
    [row] = rows.row_of_nothing(OP, CASE, {"failed": "lightning is not installed", "status": "missing"}, FACTS)
    told_of_it = text.text_of([row])
    assert "rdh_ext: missing, lightning is not installed" in told_of_it
    assert "in short" not in told_of_it
    assert "memory" not in told_of_it
    alone = table(run_of(rdh_ext=ours(1, 1)))
    assert "in short" not in text.text_of(alone.values())


def test_the_summary_is_of_default_cases() -> None:
    default = table(run_of(rdh_ext=ours(1, 1), eager=told([2, 2])))
    swept = [{**row, "sweep": "items", "x": "20"} for row in default.values()]
    said = text.text_of([*default.values(), *swept])
    assert said.count("scan, forward: 10 items") == 2
    assert said.partition("in short:")[2].count("scan") == 1
    public = table(run_of(**{"rdh_ext": ours(1, 1), "eager": told([2, 2]), "numpy argsort": told([150, 150])}))
    assert text.text_of(public.values()).count("150 x  numpy argsort") == 1


@pytest.mark.parametrize(
    ("share", "said"), [("", ""), ("0.4298", "43 %"), ("0.00031", "0.031 %"), ("1", "100 %"), ("12.345", "1,234 %")]
)
def test_shares(share: str, said: str) -> None:
    assert text.share_of({"of_ceiling": share, "kind": "peer"}) == said
    assert text.share_of({"of_ceiling": share, "kind": "ceiling"}) == ""
