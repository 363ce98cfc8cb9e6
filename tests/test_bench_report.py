"""Tables and pictures of what `rdh bench` writes: numbers computed by hand, and every error in one line."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_modules import load, write_rows
from command_line import failure, help_of, usage_error

from rdh_ext import cli

choice, draw, pictures, tables, words, bench_report, report, rows_module = load(
    "_bench_choice",
    "_bench_draw",
    "_bench_pictures",
    "_bench_tables",
    "_bench_words",
    "bench_report",
    "report",
    "_rows",
)
PNG = b"\x89PNG\r\n\x1a\n"
Rows = list[dict[str, str]]


def row(op: str, provider: str, time: float | None, **cells: object) -> dict[str, str]:
    """What is not told is as on a CPU in the default case."""
    kind = "rdh_ext" if provider.startswith("rdh_ext") else "ceiling" if provider == "ceiling" else "peer"
    told = {
        "op": op,
        "mode": "forward",
        "sweep": "default",
        "case": "1,000 x 64",
        "provider": provider,
        "kind": kind,
        "status": "measured" if time else "missing",
        "reason": "" if time else f"{provider} is not installed",
        "ceiling": "copy of as many bytes",
        "threads": 1,
        "device": "a CPU",
        "level": "avx512",
        "torch": "2.15",
        "rdh_ext": "0.1.0",
        "rounds": 20,
        "command": "rdh bench",
        **cells,
    }
    if time:
        told = {"p20_us": 0.9 * time, "p50_us": time, "p80_us": 1.2 * time, **told}
    return {column: str(told.get(column, "")) for column in rows_module.COLUMNS}


def case(op: str, ours: float, others: dict[str, float | None], limit: float, **cells: object) -> Rows:
    """One case: rdh_ext, its limit, and others as multiples of it."""
    found = [row(op, "rdh_ext", ours, times_rdh_ext=1, of_ceiling=limit / ours, extra_bytes=2**20, **cells)]
    for name, times in others.items():
        part = {"times_rdh_ext": times, "of_ceiling": limit / ours / times} if times else {}
        spread = {"times_rdh_ext_p20": 0.9 * times, "times_rdh_ext_p80": 1.1 * times} if times else {}
        found.append(row(op, name, times and ours * times, **{**part, **spread, **cells}))
    return [*found, row(op, "ceiling", limit, of_ceiling=1, **cells)]


def synthetic() -> Rows:
    """Two ops: one with a sweep in which a peer stops early and memory grows, one with the paper's sizes."""
    others = {"eager": 4.0, "eager, best form": 2.5, "tanh alone": 0.5, "KeOps": None, "rdh_ext avx2": 1.5}
    found = case("amplified", 100.0, others, 80.0)
    for i, rows in enumerate((16, 256, 4096, 65_536)):
        ours = 100.0 * 10**i
        here = {"eager": 8.0, "torch.compile": 2.0 + i}
        each = case("amplified", ours, here, ours / 2, sweep="rows", x=rows, case=f"{rows:,} x 64, float32")
        for one in each[1:3]:
            one["extra_bytes"] = str(2**20 * 4**i)
        if i == 3:
            each[1].update(status="left out", reason="it needs 40 GiB", p20_us="", p50_us="", p80_us="")
        found += each
    found += case("search", 2e3, {"FAISS": 3.0, "numpy argsort": 150.0}, 500.0, mode="", ceiling="scan", case="1,000 q")
    paper = {"sweep": "paper", "mode": "", "ceiling": "scan"}
    found += case("search", 4e3, {"FAISS": 3.0, "numpy argsort": 99.0}, 1e3, x="CIFAR-10", case="59,000", **paper)
    found += case("search", 8e6, {"FAISS": 5.0}, 1e3, x="NUS-WIDE", case="193,734", **paper)
    return found


def of(rows: Rows, op: str, sweep: str = "default") -> Rows:
    return [each for each in rows if (each["op"], each["sweep"]) == (op, sweep)]


def test_words() -> None:
    assert [words.time(us) for us in (0.04, 1, 35.26, 999.7, 1328, 24_963, 3.88e6, 1e9)] == [
        "0.04 us", "1.00 us", "35.3 us", "1.00 ms", "1.33 ms", "25.0 ms", "3.88 s", "1,000 s",
    ]  # fmt: skip
    assert [words.memory(size) for size in (0, 240, 80_000, 2**20, 540 * 2**20, 2**33)] == [
        "0", "240 B", "78 KiB", "1.0 MiB", "540 MiB", "8.0 GiB",
    ]  # fmt: skip
    assert [words.times(ratio) for ratio in (0.02, 0.95, 2.104, 9.996, 29.09, 1138.2)] == [
        "0.02 x", "0.95 x", "2.10 x", "10.0 x", "29.1 x", "1,138 x",
    ]  # fmt: skip
    assert [words.percent(share) for share in (1.04, 0.634, 0.01, 0.0003)] == ["104 %", "63 %", "1 %", "0.03 %"]
    assert [words.count(x) for x in (8, 0.5, 5000, 59_000, 100_000, 262_144, 1e6, 1_500_000)] == [
        "8", "0.5", "5,000", "59,000", "100k", "262,144", "1M", "1.5M",
    ]  # fmt: skip
    assert words.round_time(300) == "300 us"
    assert words.round_time(1e5) == "100 ms"
    assert words.threads(["1", "", "8", "2"]) == "1 to 8 threads"
    assert words.threads([""]) == ""
    assert words.fixed(["128 x 1,000, 64 bits, 8 classes", "128 x 5,000, 64 bits, 9 classes"]) == "128 x N, 64 bits"
    assert words.fixed(["64 bits", "64 bits, trained"]) == "64 bits"
    assert words.fixed([]) == ""


def test_the_default_case_in_a_table() -> None:
    lines = tables.default_table(synthetic()).splitlines()
    head = "| 1,000 x 64 | time | times rdh_ext (p20 .. p80) | of the limit | extra memory | version |"
    assert lines == [
        head,
        "|---|---:|---:|---:|---:|---:|",
        "| **rdh_ext** | 100 us | 1 | 80 % | 1.0 MiB |  |",
        "| tanh alone | 50.0 us | 0.50 x (0.45 .. 0.55) | 160 % |  |  |",
        "| eager, best form | 250 us | 2.50 x (2.25 .. 2.75) | 32 % |  |  |",
        "| eager | 400 us | 4.00 x (3.60 .. 4.40) | 20 % |  |  |",
        "| *limit: copy bandwidth* | 80.0 us | 0.80 x |  |  |  |",
        "",
        "- KeOps is not installed",
        "- tanh alone: a part of the work, no rival",
        "",
        "a CPU, avx512, 1 thread, torch 2.15; medians of 20 rounds, everybody once in each: `rdh bench`.",
    ]
    assert "| rdh_ext avx2 | 150 us | 1.50 x" in tables.default_table(synthetic(), levels=True)


def test_a_sweep_in_a_table() -> None:
    assert tables.sweep_table(of(synthetic(), "amplified", "rows")).splitlines() == [
        "| rows (N x 64, float32) | 16 | 256 | 4,096 | 65,536 |",
        "|---|---:|---:|---:|---:|",
        "| **rdh_ext** | 100 us | 1.00 ms | 10.0 ms | 100 ms |",
        "| of the limit, copy bandwidth | 50 % | 50 % | 50 % | 50 % |",
        "| extra memory | 1.0 MiB | 1.0 MiB | 1.0 MiB | 1.0 MiB |",
        "| fastest peer | torch.compile 2.00 x | torch.compile 3.00 x | torch.compile 4.00 x | torch.compile 5.00 x |",
        "",
        "- eager: left out at 65,536: it needs 40 GiB",
    ]


def test_the_papers_sizes_and_the_summary() -> None:
    assert tables.paper_table(synthetic()).splitlines()[2:] == [
        "| `search` | CIFAR-10 | 59,000 | 4.00 ms | numpy argsort: 396 ms, 99.0 x | FAISS 3.00 x |",
        "| `search` | NUS-WIDE | 193,734 | 8.00 s |  | FAISS 5.00 x |",
    ]
    assert tables.summary_table(synthetic()).splitlines()[2:] == [
        "| `amplified`, forward | 1,000 x 64 | 100 us | 80 %, copy bandwidth | "
        "eager, best form 2.50 x | eager 4.00 x |",
        "| `search` | 1,000 q | 2.00 ms | 25 %, xor + popcount alone | FAISS 3.00 x | numpy argsort 150 x |",
    ]
    assert tables.paper_table(of(synthetic(), "amplified")) == ""
    assert tables.summary_table([row("amplified", "rdh_ext", None)]) == ""


def test_everything_that_was_not_measured_is_named() -> None:
    rows = [
        row("op", "rdh_ext", 5.0),
        row("op", "KeOps", None),
        row("op", "eager", None, status="left out", reason="its mask is 40 GiB"),
        row("op", "numpy", None, status="failed", reason="its result is off by 2"),
        row("op", "ceiling", None, reason="no compiler"),
        row("op", "FAISS", 3.0, p50_us="nonsense"),
    ]
    assert tables.absent(rows) == [
        "- KeOps is not installed",
        "- eager: left out, its mask is 40 GiB",
        "- numpy: failed, its result is off by 2",
        "- limit, copy bandwidth: no compiler",
    ]
    assert choice.peers(rows) == []
    assert "5.00 us | 1 |  |" in tables.default_table(rows)
    broken = row("op", "rdh_ext", None, status="failed", reason="no memory", case="op, k 3", sweep="k", x=3)
    assert tables.default_table([broken]) == tables.sweep_table([broken]) == "- rdh_ext: failed, no memory"
    sweep = [row("op", "rdh_ext", 2.0 * x, sweep="k", x=x, case=f"{x} x 64") for x in (1, 2)]
    text = tables.sweep_table([*sweep, broken])
    assert "k (N x 64) | 1 | 2 | 3 |" in text
    assert text.endswith("| 2.00 us | 4.00 us |  |\n\n- rdh_ext: failed at 3: no memory")
    slow = row("op", "numpy", 9e6, rounds=1)
    assert "medians of 20 rounds, everybody once in each, where that is slow in fewer" in tables.where([rows[0], slow])
    panel = pictures._bars(rows, rows[0], rows)
    assert [(bar.name, bar.note) for bar in panel if bar.value is None] == [
        ("KeOps", "not installed"), ("eager", "left out, no time"), ("numpy", "failed"),
    ]  # fmt: skip


def test_who_tells_most() -> None:
    peers = {f"peer {i}": 2.0 + i for i in range(9)} | {"eager": 30.0, "FAISS": 40.0, "rdh_ext avx2": 1.5}
    rows = [each for x in (1, 2, 3) for each in case("op", 10.0, peers, 5.0, sweep="k", x=x)]
    assert choice.telling(rows) == ["rdh_ext", "peer 0", "eager", "FAISS", "peer 1", "peer 2"]
    assert choice.telling(rows, levels=True)[:2] == ["rdh_ext", "rdh_ext avx2"]
    without_limit = [{**each, "of_ceiling": ""} for each in rows if each["kind"] != "ceiling"]
    assert len(choice.telling(without_limit)) == 7
    assert choice.ceiling(rows[:1]) == 5.0  # from our share of it
    assert choice.ceiling(without_limit) is None


def test_labels_stand_apart_and_inside() -> None:
    places = draw.spread([0.5, 0.5, 0.52, 0.0, 1.0], [0.1] * 5, 0.0, 1.0)
    assert sorted(places) == [places[3], *sorted(places[:2]), places[2], places[4]]
    steps = sorted(places)
    assert all(b - a >= 0.1 - 1e-12 for a, b in itertools.pairwise(steps))
    assert steps[0] >= 0.05 - 1e-12
    assert steps[-1] <= 0.95 + 1e-12
    assert sum(places[:3]) / 3 == pytest.approx(1.52 / 3)  # as near as can be
    assert draw.spread([0.9, 0.95], [0.2, 0.2], 0.0, 1.0) == pytest.approx([0.7, 0.9])


def test_pictures_are_small_and_the_same_twice() -> None:
    rows = synthetic()
    first, again = pictures.pictures(rows), pictures.pictures(rows)
    assert first == again
    assert set(first) == {"overview.png", "amplified-rows.png", "amplified-rows-memory.png"}
    for content in first.values():
        assert content.startswith(PNG)
        assert 5_000 < len(content) < 60_000


def test_a_picture_shows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(pictures, "png", lambda figure: b"")
    monkeypatch.setattr(pictures, "curves_figure", lambda plot, curves: seen.append((plot, curves)))
    pictures.sweep_picture(of(synthetic(), "amplified", "rows"))
    plot, (ours, compiled, eager, limit) = seen[0]
    assert (plot.title, plot.subtitle, plot.xlabel) == ("amplified, forward", "N x 64, float32", "rows, N")
    assert plot.footer == "a CPU, avx512, 1 thread, torch 2.15"
    assert (ours.label, compiled.label) == ("rdh_ext\u2002100 ms", "torch.compile\u20025.00 x")
    assert eager.label == "eager\u20028.00 x\nat 4,096"  # left out at the last size
    assert (list(eager.xs), list(eager.ys)) == ([16, 256, 4096], [800, 8000, 80_000])
    assert (list(ours.ys), ours.lows, ours.highs) == (
        [100, 1e3, 1e4, 1e5],
        [90, 900, 9e3, 9e4],
        [120, 1200, 12e3, 12e4],
    )
    assert (limit.label, limit.shaded, list(limit.ys)) == ("limit: copy bandwidth", True, [50, 500, 5e3, 5e4])
    assert len({ours.colour, compiled.colour, eager.colour, limit.colour}) == 4


def test_sweeps_that_are_not_drawn() -> None:
    few = [each for x in (1, 2) for each in case("op", 10.0, {"eager": 2.0}, 5.0, sweep="k", x=x)]
    named = [each for x in ("a", "b", "c") for each in case("op", 10.0, {}, 5.0, sweep="dtype", x=x)]
    gone = [row("op", "rdh_ext", None, sweep="k", x=x) for x in (1, 2, 3)]
    assert [pictures.sweep_picture(rows) for rows in (few, named, gone)] == [None, None, None]
    assert pictures.memory_picture(of(synthetic(), "search", "paper")) is None
    assert "| dtype (1,000 x 64) | a | b | c |" in tables.sweep_table(named)
    assert tables.sweep_table(gone) == ""


def test_a_sweep_of_rdh_ext_alone() -> None:
    rows = [row("op", "rdh_ext", 10.0 * x, sweep="k", x=x, ceiling="") for x in (4, 1, 2)]
    assert pictures.sweep_picture(rows).startswith(PNG)
    assert tables.sweep_table(rows).splitlines() == [
        "| neighbours kept of each query, k (1,000 x 64) | 1 | 2 | 4 |",
        "|---|---:|---:|---:|",
        "| **rdh_ext** | 10.0 us | 20.0 us | 40.0 us |",
    ]


def test_odd_names_stay_text() -> None:
    odd = "a|b <i>`*_$x$_ 日本 " + "long " * 20
    rows = [
        each for x in (1, 2, 3) for each in case(odd, 10.0, {odd: 3.0, "$\\frac{": 2.0}, 5.0, sweep=odd, x=x, case=odd)
    ]
    for name, content in pictures.pictures(rows).items():
        assert content.startswith(PNG)
        assert name.replace("-", "").replace(".", "").replace("_", "").isalnum()
        assert len(name) < 200
    text = tables.default_table(rows) + tables.sweep_table(rows)
    assert "a\\|b \\<i>\\`\\*" in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {7, 5}  # six columns, and four


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.csv"
    write_rows(path, synthetic())
    return path


def ask(capsys: pytest.CaptureFixture[str], **request: object) -> tuple[int, str, str]:
    status = bench_report.main([json.dumps(request)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_report(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folder" / "report"
    status, said, errors = ask(capsys, files=[str(results)], out=str(out))
    assert (status, errors) == (0, "")
    assert said == f"report: {out / 'report.md'}\npictures: 3 beside it\n"
    text = (out / "report.md").read_text()
    names = {path.name for path in out.iterdir()}
    assert names == {".rdh-report", "report.md", "overview.png", "amplified-rows.png", "amplified-rows-memory.png"}
    assert all(f"({name})" in text for name in names if name.endswith(".png"))
    assert text.count('<a id="amplified"></a>') == 1
    assert "- [`amplified`](#amplified)\n- [`search`](#search)\n- [The paper's data sets](#paper)\n" in text
    rows = synthetic()
    for table in (tables.summary_table(rows), tables.paper_table(rows), tables.default_table(of(rows, "search"))):
        assert table in text
    kept = {name: (out / name).read_bytes() for name in names}
    assert ask(capsys, files=[str(results)], out=str(out))[0] == 0
    assert {name: (out / name).read_bytes() for name in names} == kept


def test_two_files_side_by_side(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faster = [{**each, "device": "a GPU", "level": "cuda"} for each in synthetic()]
    for each in faster:
        each["p50_us"] = each["p50_us"] and str(float(each["p50_us"]) / 10)
    write_rows(tmp_path / "gpu.csv", faster)
    out = tmp_path / "report"
    assert ask(capsys, files=[str(results), str(tmp_path / "gpu.csv")], out=str(out))[0] == 0
    text = (out / "report.md").read_text()
    assert "| op | size | a CPU | a GPU |" in text
    assert "| `amplified`, forward | 1,000 x 64 | 100 us | 10.0 us, 0.10 x |" in text
    assert (out / "compared-amplified-forward-rows.png").read_bytes().startswith(PNG)
    assert "(1-overview.png)" in text
    assert "(2-overview.png)" in text
    assert "## a GPU" in text


def test_files_are_told_apart() -> None:
    rows = synthetic()
    newer = [{**each, "rdh_ext": "0.2.0"} for each in rows]
    assert list(bench_report.named({Path("x/a.csv"): rows, Path("x/b.csv"): newer})) == [
        "rdh_ext 0.1.0",
        "rdh_ext 0.2.0",
    ]
    assert list(bench_report.named({Path("x/a.csv"): rows, Path("x/b.csv"): rows})) == ["a", "b"]
    assert list(bench_report.named({Path("x/a.csv"): rows, Path("y/a.csv"): rows})) == ["x/a.csv", "y/a.csv"]


def test_other_sizes_are_not_compared() -> None:
    rows = of(synthetic(), "amplified", "rows")
    other = [{**each, "case": each["case"].replace("64", "32")} for each in rows]
    assert pictures.comparison_picture({"a": rows, "b": rows}) is not None
    assert pictures.comparison_picture({"a": rows, "b": other}) is None
    assert tables.files_table({"a": rows, "b": other}).count("\n") == 3  # a line for each size


def test_tables_without_matplotlib(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, said, errors = ask(capsys, files=[str(results)], out=str(tmp_path / "report"))
    assert (status, said) == (0, f"report: {tmp_path / 'report' / 'report.md'}\n")
    assert errors == "no pictures: matplotlib is not installed; get it with: pip install 'rdh_ext[cli]'\n"
    assert "![" not in (tmp_path / "report" / "report.md").read_text()
    assert not list((tmp_path / "report").glob("*.png"))


def header_and(*lines: str) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerow(rows_module.COLUMNS)
    return (file.getvalue() + "".join(lines)).encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no result of rdh bench"),
        (b"a,b\n1,2\n", "no result of rdh bench: the column op is missing"),
        (b"\x89PNG\xff\xfe", "no result of rdh bench"),
        (header_and(), "no rows"),
        (header_and("op,forward\n"), "too few cells or too many"),
        (header_and("," * 40 + "\n"), "no result"),
    ],
)
def test_files_that_are_no_results(
    content: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    status, said, errors = ask(capsys, files=[str(path)], out=str(tmp_path / "report"))
    assert (status, said) == (1, "")
    assert errors.startswith(f"{path}: ")
    assert expected in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_folders_of_others_are_left_alone(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "report.md").write_text("years of work")
    status, _, errors = ask(capsys, files=[str(results)], out=str(tmp_path / "thesis"))
    assert status == 1
    assert f"--out {tmp_path / 'thesis'} is not empty" in errors
    assert (tmp_path / "thesis" / "report.md").read_text() == "years of work"
    assert ask(capsys, files=[str(results)], out=str(tmp_path / "thesis"), force=True)[0] == 0
    status, _, errors = ask(capsys, files=[str(results)], out=str(results))
    assert (status, errors) == (1, f"--out {results} is a file; name a folder\n")


def test_the_command_passes_on_what_was_asked(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pytest.importorskip("rdh_ext.cli.benchmark_folder")
    asked: list[Any] = []
    monkeypatch.setattr(folder, "run_program", lambda *words: asked.append(words))
    assert cli.main(["report", str(results)]) == 0
    assert cli.main(["report", str(results), "--out", str(results.parent / "x"), "--levels", "--force"]) == 0
    wanted = {"files": [str(results)], "out": str(results.parent / "results-report"), "levels": False, "force": False}
    other = {**wanted, "out": str(results.parent / "x"), "levels": True, "force": True}
    assert asked == [("bench_report.py", wanted), ("bench_report.py", other)]


def test_errors_of_the_command(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results.parent
    assert f"{folder / 'no.csv'}: no such file" in failure(capsys, ["report", str(folder / "no.csv")])
    assert "is a folder" in failure(capsys, ["report", str(folder)])
    assert "named twice" in failure(capsys, ["report", str(results), str(results)])
    (folder / "results.json").write_text("[]")
    assert "made of CSV files" in failure(capsys, ["report", str(folder / "results.json")])
    assert "FILE.csv" in usage_error(capsys, ["report"])
    assert "name of a folder" in usage_error(capsys, ["report", str(results), "--out", ""])
    assert "rdh report cpu.csv gpu.csv" in help_of(capsys, ["report"])


def test_the_command_in_a_child_process(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rdh_ext.cli.benchmark_folder")
    assert cli.main(["report", str(results)]) == 0
    assert "report: " in capfd.readouterr().out
    assert (results.parent / "results-report" / "report.md").exists()
    wrong = results.parent / "wrong.csv"
    wrong.write_text("a,b\n")
    assert cli.main(["report", str(wrong)]) == 1
    assert "no result of rdh bench" in capfd.readouterr().err.splitlines()[-1]


def test_sections_of_the_readme(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, folder = synthetic(), results.parent
    monkeypatch.setattr(report, "RESULTS", folder)
    assert (report.bench_summary(), report.bench_paper(), report.gpu()) == ("", "", "")
    write_rows(folder / "cpu.csv", rows)
    (folder / "other.csv").write_text("a,level\n1,cuda\n")
    where = "a CPU, avx512, 1 thread, torch 2.15; medians of 20 rounds, everybody once in each: `rdh bench`."
    assert report.bench_summary() == f"{tables.summary_table(rows)}\n\n{where}"
    assert report.bench_paper() == f"{tables.paper_table(rows)}\n\n{where}"
    assert report.gpu() == ""
    write_rows(folder / "h100.csv", [{**each, "level": "cuda", "device": "H100"} for each in rows])
    text = report.gpu()
    assert text.startswith(tables.summary_table(rows))
    assert tables.paper_table(rows) in text
    assert text.endswith(where.replace("a CPU, avx512", "H100, cuda"))
