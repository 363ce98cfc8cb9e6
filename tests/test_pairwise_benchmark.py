"""The benchmark of the pairwise loss: peers compute what it says, ratios and bars are what they are called."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_modules import load, write_rows
from oracles import pairwise_loss as oracle

import rdh_ext

bars, cuda, peers, run, peaks, script, report = load(
    "_pairwise_bars", "_pairwise_cuda", "_pairwise_peers", "_pairwise_run", "peaks", "pairwise_loss", "report"
)

SMALL = (
    peers.Shape("bank", 9, 31, 8, classes=3, literal=True),
    peers.Shape("itself", 12, 12, 8, classes=3, with_itself=True, literal=True),
    peers.Shape("multi-hot", 9, 31, 8, classes=80, multi_hot=True),
)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", SMALL, ids=lambda shape: shape.name)
def test_everybody_computes_the_same(shape: Any, trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    torch.manual_seed(0)
    x = peers.make_inputs(shape, trained=trained)
    assert len(x.labels) == shape.rows
    true = peers.truth(x)
    expected = oracle.pairwise_loss(x.h, x.bank, x.s.double(), scale=peers.SCALE, eta=peers.ETA)
    assert true[:3] == pytest.approx(tuple(value.item() for value in expected[:3]), rel=1e-12)
    torch.testing.assert_close(true.grad, expected.grad, rtol=1e-10, atol=1e-15)
    losses = peers.peers(shape)
    assert ("literal" in losses, "compiled class sums" in losses) == (shape.literal, not shape.multi_hot)
    for name, loss in (losses | {"rdh_ext": run.ours}).items():
        errors = run.errors_of(loss, x, true)
        assert max(errors.values()) < 1e-5, name
    assert max(run.part_errors(x, true).values()) < 1e-5


def test_errors_show_a_wrong_gradient() -> None:
    true = torch.ones(4, dtype=torch.float64)
    assert peers.gradient_error(torch.tensor([1.0, 1.0, 1.0, 1.1]), true) == pytest.approx(0.05, rel=1e-4)
    assert peers.gradient_error(torch.tensor([1.0, 1.0, 1.0, torch.nan]), true) == float("inf")
    assert peers.relative(1.5, -1.0) == 2.5
    assert peers.relative(float("nan"), 1.0) == float("inf")


def test_labels_are_like_those_of_coco() -> None:
    torch.manual_seed(0)
    labels = peers.coco_like_labels(20_000)
    per_item, share = labels.sum(1), labels.float().mean(0)
    assert labels.dtype == torch.bool
    assert per_item.min() >= 1
    assert 2.8 < per_item.float().mean() < 3.1
    assert share[0] > 0.5
    assert 0.001 < share[-1] < 0.005


@pytest.mark.parametrize("items", [7, 24])
def test_chunked_peers_of_the_gpu(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "chunk_rows", lambda items: 1 if items == 7 else 8)
    torch.manual_seed(0)
    labels, h = torch.randint(0, cuda.CLASSES, (items,)), torch.tanh(torch.randn(items, 16))
    s = peers.similarity(labels, labels)
    true = oracle.pairwise_loss(h, None, s.double(), scale=peers.SCALE, eta=peers.ETA)
    for step in (cuda.chunked(cuda.block_loss, h.double(), labels), cuda.ours(h, labels)):
        loss, grad = step()
        torch.testing.assert_close(loss.double(), true.loss, rtol=1e-6, atol=0)
        torch.testing.assert_close(grad.double(), true.grad, rtol=1e-4, atol=1e-8)


def test_chunks_divide_all_rows() -> None:
    assert cuda.chunk_rows(59_000) == 1000
    assert cuda.chunk_rows(1009) == 1009
    assert cuda.chunk_rows(2027) == 1  # a prime


def process(**samples: list[float]) -> Any:
    named = {name.replace("_", " ").replace("rdh ext", "rdh_ext"): values for name, values in samples.items()}
    errors = {"rdh_ext": {"gradient": 2e-7}, "eager": {"gradient": 3e-7}, "eager BCE": {"gradient": 1e-7}}
    return {"samples": named, "errors": errors, "similar": 0.1, "floor_missing": "", "machine": {"threads": "1"}}


RUNS = [
    process(
        rdh_ext=[1, 2, 4], eager=[60, 120, 240], compiled=[5, 8, 20], literal=[900, 1800], rdh_ext_2_threads=[1, 1, 2]
    ),
    process(rdh_ext=[1, 1, 1], eager=[3, 3, 30], compiled=[9, 9, 9], literal=[700, 700], rdh_ext_2_threads=[1, 1, 1]),
    process(rdh_ext=[2, 2, 2], eager=[60, 60, 60], compiled=[9, 9, 9], literal=[700, 700], rdh_ext_2_threads=[1, 1, 1]),
]


def test_a_ratio_is_the_median_over_rounds() -> None:
    assert bars.ratios(RUNS, "compiled", "rdh_ext") == [5, 9, 4.5]
    assert bars.ratios(RUNS, "literal", "rdh_ext") == [900, 700, 350]  # of the rounds it took part in
    assert bars.ratios(RUNS, "floor", "rdh_ext") == []


def test_of_a_peer_counts_its_best_process() -> None:
    assert bars.fastest(RUNS) == ("eager", 3)  # compiled has 4.5 in the third, but was fastest in the first
    assert bars.fastest(RUNS[::2]) == ("compiled", 5)
    assert bars.fastest(RUNS, "rdh_ext avx2") == ("none", None)
    rows = {row["provider"]: row for row in bars.rows_of(peers.SHAPES["128x5000"], RUNS)}
    assert float(rows["eager"]["times_rdh_ext"]) == 3
    assert float(rows["eager"]["p50_us"]) == 3e6
    assert float(rows["eager"]["times_rdh_ext_median"]) == 30
    assert float(rows["compiled"]["times_rdh_ext"]) == 5
    assert float(rows["compiled"]["times_rdh_ext_lowest"]) == 4.5
    assert float(rows["rdh_ext"]["times_rdh_ext"]) == 1
    assert float(rows["rdh_ext"]["p50_us"]) == 2e6  # the middle one of its own
    assert float(rows["rdh_ext 2 threads"]["times_rdh_ext"]) == pytest.approx(1 / 2)
    assert rows["rdh_ext"]["gradient_error"] == "2.00e-07"
    assert rows["rdh_ext"]["likelihood_error"] == ""
    assert len({tuple(row) for row in rows.values()}) == 1


def test_the_floor_is_two_products_and_the_elementwise_part() -> None:
    shape = peers.Shape("any", 10, 20, 8)
    made = bars.with_floor(shape, process(rdh_ext=[1.0], fma=[64000.0], elementwise=[0.001]))
    assert made["samples"]["floor"] == [4 * 10 * 20 * 8 / 64000 + 10 * 20 * 0.001]
    assert "floor" not in bars.with_floor(shape, process(rdh_ext=[1.0], fma=[64000.0]))["samples"]


def memory_rows(*sizes: int) -> list[dict[str, str]]:
    return [
        {
            "provider": provider,
            "labels": "class ids",
            "rows": "128",
            "columns": str(1000 << k),
            "extra_bytes": str(size * factor),
            "floats_per_code_element": str(1.5 * factor),
        }
        for provider, factor in (("rdh_ext", 1), ("eager", 100))
        for k, size in enumerate(sizes)
    ]


def test_bars_hold_or_are_missed_by_their_figures() -> None:
    checked = bars.check({"128x5000": RUNS, "1024x10500": RUNS}, memory_rows(8 << 20, 15 << 20, 30 << 20))
    found = {(bar.shape, bar.what): (bar.figure, bar.verdict) for bar in checked}
    assert found["128x5000", "fastest peer (eager) / rdh_ext"] == (3, "MISSED")
    assert found["128x5000", "Eq. 4 literal / rdh_ext"] == (700, "held")
    assert found["128x5000", "rdh_ext / floor"] == (None, "not measured")
    assert found["1024x10500", "one thread / two threads"] == (2, "held")
    assert found["128x5000", "gradient error of rdh_ext"] == (pytest.approx(2e-7), "held")
    assert found["128x5000", "gradient error of rdh_ext / of eager"] == (pytest.approx(2 / 3), "held")
    assert found["128x4000", "extra memory in (B + N) K floats, class ids"] == (1.5, "held")
    assert found["128x4000", "extra memory at 2 N / at N, class ids"] == (2, "held")
    assert not any(shape == "128x128" for shape, _ in found)
    quadratic = bars.check({}, memory_rows(8 << 20, 32 << 20, 128 << 20))
    assert [bar.verdict for bar in quadratic] == ["held", "MISSED"]
    assert "MISSED" in quadratic[1].sentence()
    noise = bars.check({}, memory_rows(1 << 10, 1 << 20, 3 << 20))
    assert all(bar.held for bar in noise)


def test_only_the_whole_measurement_writes_the_committed_results() -> None:
    assert script.parse([]).shapes == list(peers.SHAPES)
    assert script.parse(["--shapes", "128x128"]).shapes == ["128x128"]
    with pytest.raises(SystemExit):
        script.parse(["--rounds", "1"])


def test_peak_growth_counts_what_was_touched() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no /proc here")
    for step in (lambda: torch.ones(24 << 20), lambda: torch.ones(24 << 20).sum()):  # kept, and given back before
        assert 90 << 20 < run.peak_growth(step) < 130 << 20
    assert run.peak_growth(lambda: None) < 8 << 20


def test_peaks(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    with pytest.raises(peaks.Unavailable, match="this is scalar"):
        peaks.Peaks("scalar")
    for level in [level for level in rdh_ext.build_info()["cpu_levels"] if level != "scalar"]:
        cpu = peaks.Peaks(level, tmp_path)
        assert 1e9 < cpu.fma(seconds=1e-3) < 1e12
        assert 1e9 < cpu.fma(threads=2, seconds=1e-3) < 2e12
        per_pair = cpu.elementwise(seconds=1e-3)
        assert per_pair is not None
        assert 1e-11 < per_pair < 1e-7
        assert len(list(tmp_path.glob("*.so"))) == 1  # compiled once for all levels


def test_peaks_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(peaks.Unavailable, match="no-such-compiler"):
        peaks.Peaks("avx2", tmp_path)


def test_the_readme_shows_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.pairwise() == ""
    facts = {"device": "a CPU", "threads": "1", "level": "avx2", "torch": "2", "rdh_ext": "0"}
    for one in RUNS:
        one["errors"]["rdh_ext"] |= {"likelihood": 1e-8, "quantization": 2e-8}
    rows = [{**row, **facts} for shape in peers.SHAPES.values() for row in bars.rows_of(shape, RUNS)]
    write_rows(tmp_path / "pairwise_loss_cpu.csv", rows)
    write_rows(tmp_path / "pairwise_loss_cpu_memory.csv", memory_rows(8 << 20, 15 << 20, 30 << 20))
    text = report.pairwise()
    assert "| **rdh_ext** | 2,000,000 us |" in text
    assert "| eager, closed form | 3.00 x |" in text
    assert "a mask `[B, N, K]` | 700 x |" in text
    assert "without AVX-512" not in text  # nobody measured it
    assert "gradient 2.0e-07 to 2.0e-07" in text
    assert "of 4,000: 30 MiB" in text
