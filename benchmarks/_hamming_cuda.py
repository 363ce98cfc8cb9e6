"""Histograms with relevance and full mAP on a GPU: 10,000 queries of 64 bits against up to 100,000,000 random codes.

Nobody else does this on a GPU without a matrix of pairs, so there are no peers: the bars are absolute. Before anything
is timed the histograms and AP of some queries are compared with a table of byte popcounts in PyTorch and with numpy.
Times are between CUDA events around a call; the one of the evaluation ends when its result is on the CPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _bars import Bar
from _hamming_peers import expected_precision
from _measure import machine, write_csv
from torch import Tensor

import rdh_ext

BITS, CLASSES, QUERIES = 64, 10, 10_000
GALLERIES = (1_000_000, 10_000_000, 100_000_000)
CHECKED = 3
PAIRS_PER_SECOND = 1e12
SECONDS = 1.5


def histogram_by_table(q: Tensor, g: Tensor, relevant: Tensor, piece: int = 1 << 22) -> Tensor:
    """Items and relevant items per distance of one query, ``[BITS + 1, 2]``: popcounts of bytes looked up."""
    table = torch.tensor([byte.bit_count() for byte in range(256)], dtype=torch.uint8, device=g.device)
    counts = torch.zeros(BITS + 1, 2, dtype=torch.int64, device=g.device)
    for codes, mask in zip(g.split(piece), relevant.split(piece), strict=True):
        distance = table[(codes ^ q).int()].sum(1)
        counts[:, 0] += torch.bincount(distance, minlength=BITS + 1)
        counts[:, 1] += torch.bincount(distance[mask], minlength=BITS + 1)
    return counts


def check(q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor) -> None:
    """The histograms and the AP of some queries, and what all histograms add up to."""
    counts = rdh_ext.hamming_histogram(q, g, q_labels, g_labels)
    result = rdh_ext.evaluate(q, g, q_labels, g_labels)
    if not torch.equal(result.histogram, counts.cpu()):
        raise SystemExit("wrong: evaluate and hamming_histogram do not agree")
    if not bool((counts[..., 0].sum(1) == len(g)).all()):
        raise SystemExit("wrong: a histogram does not hold every item")
    for i in range(0, len(q), max(1, len(q) // CHECKED)):
        true = histogram_by_table(q[i], g, g_labels == q_labels[i])
        if not torch.equal(true, counts[i]):
            raise SystemExit(f"wrong: the histogram of query {i}")
        right = expected_precision(true.cpu().numpy())
        if abs(result.ap[i].item() - right) > 1e-11 * right:
            raise SystemExit(f"wrong: AP of query {i} is {result.ap[i].item()}, and not {right}")


def seconds_of(step: Callable[[], object], device: str) -> float:
    """Of one call, the work that it leaves on the device included."""
    if device == "cpu":
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def measure(device: str, queries: int, galleries: tuple[int, ...], rounds: int) -> list[dict[str, str]]:
    """Rows: the op and the whole evaluation, by size of the gallery."""
    rows = []
    for items in galleries:
        torch.manual_seed(0)
        q, g = (torch.randint(256, (n, BITS // 8), dtype=torch.uint8, device=device) for n in (queries, items))
        labels = [torch.randint(CLASSES, (n,), device=device) for n in (queries, items)]
        check(q, g, *labels)
        steps: dict[str, Callable[[], object]] = {
            "hamming_histogram": lambda q=q, g=g, labels=labels: rdh_ext.hamming_histogram(q, g, *labels),
            "evaluate": lambda q=q, g=g, labels=labels: rdh_ext.evaluate(q, g, *labels),
        }
        for name, step in steps.items():
            samples = [seconds_of(step, device) for _ in range(rounds)]
            cuts, p50 = statistics.quantiles(samples, n=5), statistics.median(samples)
            rate = queries * items / p50
            print(f"  {queries:,} x {items:,}  {name:18s} {p50 * 1e3:10.2f} ms  {rate:.3g} pairs/s", flush=True)
            rows.append(
                {
                    "op": name,
                    "queries": str(queries),
                    "items": str(items),
                    "bits": str(BITS),
                    "labels": f"{CLASSES} class ids",
                    "p20_ms": f"{cuts[0] * 1e3:.3f}",
                    "p50_ms": f"{p50 * 1e3:.3f}",
                    "p80_ms": f"{cuts[3] * 1e3:.3f}",
                    "pairs_per_second": f"{rate:.4g}",
                }
            )
    return rows


def bars_of(rows: list[dict[str, str]]) -> list[Bar]:
    """About the largest gallery."""
    largest = {row["op"]: row for row in rows}  # the last of each
    row = largest["hamming_histogram"]
    name = f"{row['queries']}x{row['items']}"
    rate, seconds = float(row["pairs_per_second"]), float(largest["evaluate"]["p50_ms"]) / 1e3
    return [
        Bar(name, "pairs per second with relevance", ">=", PAIRS_PER_SECOND, rate),
        Bar(name, "seconds of the full mAP", "<=", SECONDS, seconds),
    ]


def run_cuda(out: Path, *, queries: int, items: int, rounds: int) -> None:
    """Measures, prints, writes."""
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device is available to PyTorch")
    facts = {**machine(), "device": torch.cuda.get_device_name(), "level": "cuda"}
    print(f"{BITS} bits, {CLASSES} classes, on {facts['device']}")
    galleries = tuple(size for size in GALLERIES if size < items)
    rows = measure("cuda", queries, (*galleries, items), rounds)
    results = bars_of(rows)
    for bar in results:
        print(f"  {bar.sentence()}")
    write_csv(out, [{**row, **facts} for row in rows])
    write_csv(out.with_name(f"{out.stem}_bars.csv"), [{**bar.row(), **facts} for bar in results])
    print(f"written: {out}, {out.stem}_bars.csv")
