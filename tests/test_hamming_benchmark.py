"""The benchmark of the Hamming ops: it compares results before it times them, and ratios and bars are what they say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_modules import load, write_rows
from oracles import average_precision as precision_oracle
from oracles import hamming as oracle

import rdh_ext

bars, cuda, peers, run, peaks, script, report = load(
    "_hamming_bars", "_hamming_cuda", "_hamming_peers", "_hamming_run", "peaks", "hamming", "report"
)

SMALL = tuple(replace(shape, queries=7, items=300) for shape in peers.SHAPES.values())
SHAPES = pytest.mark.parametrize("shape", SMALL, ids=lambda shape: shape.name)
QUERIES = range(7)
NAMES = tuple(peers.SHAPES)


@SHAPES
def test_peers_get_what_rdh_ext_gets(shape: Any) -> None:
    x = peers.make_inputs(shape)
    sides = ((x.q, x.q_labels, x.q_signs, x.q_hot), (x.g, x.g_labels, x.g_signs, x.g_hot))
    for codes, labels, signs, hot in sides:
        assert np.array_equal(codes.numpy(), oracle.pack(signs))
        assert set(np.unique(signs)) == {-1, 1}
        assert hot.shape == (len(codes), shape.classes)
        own = labels.numpy() if shape.multi_hot else np.eye(shape.classes)[labels.numpy()]
        assert np.array_equal(hot, own)
    assert (len(x.q), len(x.g), x.g_signs.shape[1]) == (7, 300, shape.bits)
    again, other = peers.make_inputs(shape), peers.make_inputs(shape, seed=1)
    assert torch.equal(again.g, x.g)
    assert not torch.equal(other.g, x.g)


def test_trained_codes_repeat_and_rank_their_class_first() -> None:
    random, trained = (peers.make_inputs(replace(peers.SHAPES[name], queries=20, items=2000)) for name in NAMES[:2])
    different = [len(torch.unique(x.g, dim=0)) for x in (random, trained)]
    assert different[0] == 2000
    assert 10 < different[1] < 1000
    assert run.evaluate(random).map < 0.15
    assert 0.6 < run.evaluate(trained).map < 0.95  # a tenth is somewhere else


@SHAPES
def test_the_truth_is_that_of_the_oracles(shape: Any) -> None:
    x = peers.make_inputs(shape)
    q, g, q_labels, g_labels = (part.numpy() for part in x[:4])
    distances, relevant = oracle.distances(q, g), oracle.relevance(q_labels, g_labels)
    histogram = oracle.histogram(q, g, q_labels, g_labels, shape.bits)
    for i in QUERIES:
        assert np.array_equal(peers.distances_of(x, i), distances[i])
        assert np.array_equal(peers.relevance_of(x, i), relevant[i])
        assert np.array_equal(peers.histogram_of(x, i), histogram[i])
        stable = precision_oracle.stable_average_precision(distances[i], relevant[i], 300, "found")
        assert peers.stable_precision(x, i) == pytest.approx(stable, rel=1e-14)


@pytest.mark.parametrize("buckets", [[(3, 1), (4, 4), (2, 0)], [(1, 1)], [(5, 0)], [(0, 0), (6, 5), (1, 1)], [(8, 3)]])
def test_expected_precision_is_the_mean_over_all_orders(buckets: list[tuple[int, int]]) -> None:
    items = sum(bucket[0] for bucket in buckets)
    mean, _, _ = precision_oracle.mean_and_bounds(buckets, items, "found")
    assert peers.expected_precision(np.array(buckets)) == pytest.approx(float(mean), rel=1e-14)


def without_ties() -> Any:
    """One query, and a gallery with one item at each distance; every third is relevant."""
    signs = np.where(np.arange(32)[:, None] < np.arange(33)[None, :], -1, 1).astype(np.float32).T
    labels = np.arange(33) % 3
    order = np.random.default_rng(0).permutation(33)
    hot = np.eye(3, dtype=np.float32)
    q_signs = np.ones((20, 32), dtype=np.float32)
    codes = [torch.from_numpy(oracle.pack(part)) for part in (q_signs, signs[order])]
    ids = [torch.zeros(20, dtype=torch.int64), torch.from_numpy(labels[order])]
    return peers.Inputs(*codes, *ids, q_signs, signs[order], hot[ids[0].numpy()], hot[ids[1].numpy()])


def test_where_nothing_is_tied_all_find_the_same() -> None:
    x = without_ties()
    right = float(np.mean(np.arange(1, 12) / np.arange(1, 34, 3)))
    others = peers.other_maps(x)
    assert set(others) == {"torchmetrics", "scikit-learn"}
    for name, step in (
        others | {"argsort": lambda: peers.argsort_map(x), "rdh_ext": lambda: run.evaluate(x).map}
    ).items():
        assert step() == pytest.approx(right, rel=1e-6), name
    assert run.check_map(x, range(3)) == pytest.approx(right, rel=1e-12)


def test_faiss_finds_what_the_oracle_finds() -> None:
    pytest.importorskip("faiss")
    x = peers.make_inputs(SMALL[2])
    distances, _ = oracle.topk(x.q.numpy(), x.g.numpy(), 50)
    searches = peers.faiss_searches(x)
    assert set(searches) == {"FAISS heap", "FAISS counting"}
    for search in searches.values():
        assert np.array_equal(search(50)[0], distances)


@SHAPES
def test_right_results_pass(shape: Any) -> None:
    x = peers.make_inputs(shape)
    assert run.check_map(x, QUERIES) == pytest.approx(run.evaluate(x).map, rel=1e-12)
    run.check_topk(x, 100, QUERIES)
    run.check_codes(x, QUERIES)
    run.check_scans(x, run.scan_steps(x)[0])


def one_off(values: torch.Tensor) -> torch.Tensor:
    """The same but for the last value."""
    changed = values.clone()
    changed.view(-1)[-1] += 1
    return changed


def test_wrong_results_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    x = peers.make_inputs(SMALL[0])
    right = {name: getattr(rdh_ext, name) for name in ("hamming_histogram", "evaluate", "hamming_topk")}

    def swapped(q: Any, g: Any, k: int) -> Any:  # two ids of one distance
        distances, ids = (part.clone() for part in right["hamming_topk"](q, g, k))
        place = int((distances[0, 1:] == distances[0, :-1]).nonzero()[0])
        ids[0, place : place + 2] = ids[0, place : place + 2].flip(0)
        return distances, ids

    def farther(q: Any, g: Any, k: int) -> Any:
        distances, ids = right["hamming_topk"](q, g, k)
        return one_off(distances), ids

    def biased(*args: Any, ties: str = "expected", **kwargs: Any) -> Any:
        result = right["evaluate"](*args, ties=ties, **kwargs)
        return replace(result, ap=result.ap * (1 + 1e-11)) if ties == wrong_ties else result

    def histogram(*args: Any, **kwargs: Any) -> Any:
        return one_off(right["hamming_histogram"](*args, **kwargs))

    for function in (swapped, farther):
        with monkeypatch.context() as patch:
            patch.setattr(rdh_ext, "hamming_topk", function)
            with pytest.raises(run.Wrong, match="top-100"):
                run.check_topk(x, 100, QUERIES)
    for wrong_ties in ("expected", "stable"):
        with monkeypatch.context() as patch:
            patch.setattr(rdh_ext, "evaluate", biased)
            with pytest.raises(run.Wrong, match=f"AP of query 0, {wrong_ties}"):
                run.check_map(x, QUERIES)
    with monkeypatch.context() as patch:
        patch.setattr(rdh_ext, "hamming_histogram", histogram)
        with pytest.raises(run.Wrong, match="histogram of query 6"):
            run.check_map(x, QUERIES)
    for name in ("hamming_distance", "pack_codes", "unpack_codes"):
        with monkeypatch.context() as patch:
            function = getattr(rdh_ext, name)
            patch.setattr(rdh_ext, name, lambda *args, function=function: one_off(function(*args)))
            with pytest.raises(run.Wrong):
                run.check_codes(x, QUERIES)
    with pytest.raises(run.Wrong, match="made-up finds another sum"):
        run.check_scans(x, {"made-up": lambda: 12345})
    monkeypatch.setattr(run, "argsort_map", lambda x: 0.9)
    with pytest.raises(run.Wrong, match="argsort finds"):
        run.check_map(x, QUERIES)


def test_levels_and_threads_that_differ_are_found() -> None:
    calls: Iterator[int] = iter(range(100))
    run.everywhere("constant", lambda: (torch.ones(2),))
    if len(list(run.forms())) == 0:
        pytest.skip("one level and one core")
    with pytest.raises(run.Wrong, match=r"counting: rdh_ext .* is not what"):
        run.everywhere("counting", lambda: (torch.tensor([next(calls)]),))


@pytest.mark.parametrize("name", ["64-bits", "64-bits-multi-hot"])
def test_a_process_measures_everything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "TOPK", (3, 100))
    done = run.measure_time(name, queries=20, items=300, rounds=2, seconds=0.0, seed=0)
    samples = done["samples"]
    wanted = {
        "mAP: rdh_ext",
        "mAP: rdh_ext stable",
        "mAP: rdh_ext histogram",
        "mAP: numpy argsort",
        "mAP: scikit-learn",
    }
    if name == "64-bits":
        wanted |= {f"{task}: rdh_ext" for task in ("top-3", "top-100", "distance", "pack", "unpack")}
    assert wanted <= set(samples)
    assert all(len(values) == 2 and min(values) > 0 for values in samples.values())
    assert ("top-3: rdh_ext" in samples) == (name == "64-bits")
    assert 0 < done["map"] < 1
    assert done["different_codes"] == 300
    shape = replace(peers.SHAPES[name], queries=20, items=300)
    rows = bars.rows_of(shape, [done, done])
    assert len(rows) == len(samples)
    assert len({tuple(row) for row in rows}) == 1
    assert {row["op"] for row in rows if row["task"].startswith("top")} <= {"hamming_topk"}
    script.print_shape(shape, [done])


def process(level: str = "avx512", **samples: list[float]) -> Any:
    """What a process printed."""
    facts = {"map": 0.5, "relevant": 0.1, "different_codes": 5, "scan_missing": "", "not_installed": []}
    return {"samples": samples, "machine": {"level": level}, **facts}


RUNS = [
    process(
        **{
            "mAP: rdh_ext": [10, 20, 40],
            "mAP: rdh_ext stable": [50, 60, 80],
            "mAP: rdh_ext 2 threads": [5, 10, 20],
            "mAP: numpy argsort": [1000, 2200],  # in the first rounds only
            "mAP: FAISS heap k=1": [30, 60, 120],
            "mAP: FAISS counting k=1": [20, 40, 80],
            "mAP: scan popcnt": [8, 16, 32],
            "mAP: scan avx2": [4, 8, 16],
            "mAP: scan 2 threads": [2, 4, 8],
            "top-100: rdh_ext": [1, 1, 1],
            "top-100: FAISS heap": [7, 7, 7],
            "top-100: FAISS counting": [5, 5, 5],
            "top-1000: rdh_ext": [1, 1, 1],
            "top-1000: FAISS heap": [6, 6, 6],
        }
    )
]


def test_bars_hold_or_are_missed_by_their_figures() -> None:
    shape = peers.SHAPES["64-bits"]
    found = {bar.what: (bar.figure, bar.verdict) for bar in bars.check({"64-bits": shape}, {"64-bits": RUNS})}
    assert found == {
        "mAP: numpy argsort / rdh_ext": (105, "held"),
        "mAP: FAISS counting k=1 / rdh_ext": (2, "MISSED"),  # the faster mode
        "mAP: pairs per second of rdh_ext / of the scan avx2": (0.4, "held"),  # the fastest level on one thread
        "mAP: stable / expected": (3, "held"),
        "mAP: one thread / two threads": (2, "held"),
        "top-100: FAISS counting / rdh_ext": (5, "MISSED"),
        "top-1000: FAISS heap / rdh_ext": (6, "held"),
        "top-5000: none / rdh_ext": (None, "not measured"),
    }
    multi_hot = peers.SHAPES["64-bits-multi-hot"]
    names = [bar.what for bar in bars.check({"m": multi_hot}, {"m": RUNS})]
    assert len(names) == 4
    assert not any("stable" in name or "top" in name for name in names)


def test_the_bar_of_the_scan_is_about_avx_512() -> None:
    runs = [process("avx2", **{"mAP: rdh_ext": [10, 10], "mAP: scan avx2": [9, 9]})]
    (bar,) = [bar for bar in bars.check(peers.SHAPES, {"24-bits": runs}) if "scan" in bar.what]
    assert bar.verdict == "not measured"


def test_a_figure_is_the_median_over_the_processes() -> None:
    runs = [process(**{"mAP: rdh_ext": [1, 1], "mAP: numpy argsort": [time, time]}) for time in (90, 110, 300)]
    assert bars.middle(runs, "mAP: numpy argsort", "mAP: rdh_ext") == 110
    row = bars.rows_of(peers.SHAPES["64-bits"], runs)[1]
    assert (row["times_rdh_ext_lowest"], row["times_rdh_ext"], row["times_rdh_ext_highest"]) == (
        "90.000",
        "110.000",
        "300.000",
    )
    assert float(row["p50_us"]) == 110e6
    assert float(row["gpairs_per_second"]) == pytest.approx(0.059 / 110, rel=1e-3)


def test_remarks_name_what_is_missing() -> None:
    assert bars.remarks(RUNS) == ["the scan avx2 on two threads is 2.00 times as fast as on one"]
    without = RUNS[0] | {"scan_missing": "no compiler", "not_installed": ["FAISS"], "samples": {"mAP: rdh_ext": [1, 1]}}
    assert bars.remarks([without]) == ["no plain scan: no compiler", "FAISS is not installed"]
    assert run.not_installed({"mAP: FAISS heap k=1": [1.0]}) == ["torchmetrics", "scikit-learn"]


def test_only_the_whole_measurement_writes_the_committed_results() -> None:
    assert script.parse([]).whole
    assert (script.parse([]).queries, script.parse([]).items) == (1000, 59_000)
    for arguments in (["--quick"], ["--shapes", "24-bits"], ["--queries", "10"], ["--items", "10"]):
        assert not script.parse(arguments).whole
    assert script.parse(["--device", "cuda"]).items == 100_000_000
    for wrong in (["--rounds", "1"], ["--items", "0"], ["--shapes", "no-such-shape"]):
        with pytest.raises(SystemExit):
            script.parse(wrong)


def test_rows_say_where_they_differ_from_the_machine() -> None:
    assert script.exceptions("rdh_ext gallery 2 threads") == {"threads": "2"}
    assert script.exceptions("rdh_ext stable") == {}
    for level in rdh_ext.build_info()["cpu_levels"]:
        assert script.exceptions(f"rdh_ext {level}") == {"level": level}


def memory(tmp_path: Path) -> Any:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    return peaks.Memory(tmp_path)


@pytest.mark.parametrize("bits", [8, 24, 32, 48, 64])
def test_every_scan_adds_up_all_distances(bits: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    ours = memory(tmp_path_factory.getbasetemp() / "peaks")
    names = ours.scans()
    assert set(rdh_ext.build_info()["cpu_levels"]) - {"scalar"} <= set(names)
    rng = np.random.default_rng(bits)
    for queries, items in ((0, 5), (3, 0), (1, 1), (5, 63), (4, 64), (3, 129), (2, 1000)):
        q, g = (rng.integers(0, 256, (rows, bits // 8), dtype=np.uint8) for rows in (queries, items))
        total = oracle.distances(q, g).sum()
        words = [peaks.as_words(codes) for codes in (q, g)]
        assert words[0].shape[1] in (4, 8)
        for name in names:
            for threads in (1, 2):
                assert ours.scan(name, *words, threads=threads) == total, (name, queries, items)
    assert ours.scan("avx2", *(np.zeros((1, 3), dtype=np.uint8),) * 2) == -1
    with pytest.raises(peaks.Unavailable, match="have 9"):
        peaks.as_words(np.zeros((1, 9), dtype=np.uint8))


def test_without_a_compiler_there_is_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    steps, missing = run.scan_steps(peers.make_inputs(SMALL[0]))
    assert steps == {}
    assert "no-such-compiler" in missing
    assert "pack: reading it" not in run.code_steps(peers.make_inputs(SMALL[0]))


def test_the_measurement_of_the_gpu_checks_and_measures() -> None:
    rows = cuda.measure("cpu", queries=4, galleries=(50, 700), rounds=2)
    assert [(row["op"], row["items"]) for row in rows] == [
        (op, items) for items in ("50", "700") for op in ("hamming_histogram", "evaluate")
    ]
    rows[2]["pairs_per_second"], rows[3]["p50_ms"] = "2e12", "1600"
    assert [(bar.shape, bar.figure, bar.verdict) for bar in cuda.bars_of(rows)] == [
        ("4x700", 2e12, "held"),
        ("4x700", 1.6, "MISSED"),
    ]


def test_the_measurement_of_the_gpu_finds_a_wrong_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rdh_ext.hamming_histogram
    q, g = (torch.from_numpy(np.random.default_rng(n).integers(0, 256, (n, 8), dtype=np.uint8)) for n in (3, 50))
    labels = (torch.tensor([0, 1, 2]), torch.arange(50) % 10)
    cuda.check(q, g, *labels)
    counts = oracle.histogram(q.numpy(), g.numpy(), labels[0].numpy(), labels[1].numpy(), 64)
    for i in range(3):
        found = cuda.histogram_by_table(q[i], g, labels[1] == labels[0][i], piece=7)
        assert np.array_equal(found.numpy(), counts[i])
    monkeypatch.setattr(rdh_ext, "hamming_histogram", lambda *args: right(*args).roll(1, 0))
    with pytest.raises(SystemExit, match="wrong"):
        cuda.check(q, g, *labels)


def test_the_readme_shows_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.hamming() == ""
    facts = {"device": "a CPU", "threads": "1", "level": "avx512", "torch": "2", "rdh_ext": "0"}
    rows = [{**row, **facts} for shape in peers.SHAPES.values() for row in bars.rows_of(shape, RUNS)]
    write_rows(tmp_path / "hamming_cpu.csv", rows)
    text = report.hamming()
    times = " | ".join(["20,000.00 ms"] * 4)
    assert f"| **rdh_ext** | {times} |" in text
    assert "| argsort in numpy, as in DeepHash-pytorch | 105 x |" in text
    assert "one nearest item | 2.00 x |" in text
    assert "nothing kept | 0.40 x |" in text
    assert "| FAISS, heap | 7.00 x | 6.00 x |  |" in text
    assert "1,000 queries x 59,000 codes" in text
    assert "gallery prepared" not in text  # nobody measured it
    assert "torchmetrics" not in text
