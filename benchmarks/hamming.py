"""Hamming evaluation and search, 1,000 queries x 59,000 codes: times against what people would use otherwise.

    python benchmarks/hamming.py                          # everything, ten to twenty minutes; writes results/
    python benchmarks/hamming.py --quick                  # a minute: 100 x 5,900, into build/
    python benchmarks/hamming.py --shapes 24-bits         # one shape, into build/
    python benchmarks/hamming.py --device cuda            # 10,000 x 100,000,000 on a GPU

Two files: OUT.csv has one row per shape, task and provider, OUT_bars.csv what has to hold. Each bar is printed with its
figure and "held" or "MISSED".

Results come first. Before anything is timed, every process compares its results, and ends with an error where one is
wrong: histograms, AP (expected and stable, to 1e-12), distances and top-k of some queries with brute force in numpy;
all results of all levels, of two threads and of the prepared gallery with each other, bit for bit; the argsort peer's
mAP with the bounds over all orders of ties; the sums of the plain scans with the histograms. Top-k is compared with
FAISS for all queries: distances are equal, and so are the items nearer than the last distance of a query; of those at
the last distance FAISS takes any, rdh_ext the first.

Tasks and providers. "mAP" is both histograms, AP with the exact expectation over ties and its mean: a call of
rdh_ext.evaluate with packed codes and labels. "rdh_ext gallery" has the gallery prepared before (rdh_ext.retrieval.
Gallery), "stable" breaks ties by gallery order, "histogram" is the op alone; "scalar", "avx2", ... are CPUs without
more. "numpy argsort" is the evaluation of DeepHash-pytorch, query by query: a product of labels, a product of +-1
codes, argsort, precision at the relevant ranks. "FAISS ... k=1" is only a search: IndexBinaryFlat for the nearest item.
torchmetrics (RetrievalMAP) and scikit-learn (average_precision_score) get every 20th query, times 20. "scan" is a plain
xor + popcount of all pairs in C++, distances added and forgotten (peaks_scan.h): the fastest of the levels that the CPU
has counts; "popcnt" is one word at a time, "avx2" and "avx512" look up nibbles, "avx512vpopcntdq" counts in vectors.
"top-K" is rdh_ext.hamming_topk against the two modes of the same FAISS index, which is built before. "distance" is
beside a copy of 2 bytes per pair, "pack" beside one read of the activations, "unpack" beside filling its result.

Bars. mAP 100 times as fast as numpy argsort, 2.5 times as FAISS k=1, and with AVX-512 at 0.3 of the pairs per second of
the scan; stable ties in 4 times the time, with every tenth item relevant; top-100, 1,000 and 5,000 6, 5 and 12 times as
fast as the faster mode of FAISS; two threads 1.8 times as fast as one. On a GPU 1e12 pairs per second with relevance,
and 10,000 x 100,000,000 in 1.5 s.

Shapes. Random codes of 64 and of 24 bits with 10 class ids. "trained" codes are those of their class, a tenth of them
those of another, with 1 % of the bits flipped: many repeat. "multi-hot" has 80 classes like those of MS-COCO, 2.9
labels per item.

How it is measured. One thread, where nothing else is said. In each of several fresh processes per shape all providers
take turns, round by round. A ratio is the median over the rounds of one process of (peer's time / rdh_ext's time), both
from the same round, and so at the same clock; what is shown, and what the bars are about, is the median over the
processes. What takes half a second or more takes part in 5 rounds only. Of the two modes of FAISS the faster counts.
malloc keeps memory mapped for both sides (benchmarks/_measure.py).
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import _hamming_bars as bars
from _hamming_peers import ITEMS, QUERIES, SHAPES, Shape
from _measure import MALLOC, RESULTS, fresh_process, write_csv

from rdh_ext import _native

BUILD = Path(__file__).resolve().parent.parent / "build"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # for products
SIZES = {"cpu": (QUERIES, ITEMS), "cuda": (10_000, 100_000_000)}
QUICK = {"cpu": (100, 5900), "cuda": (1000, 1_000_000)}


def measure(shapes: dict[str, Shape], processes: int, rounds: int, seconds: float) -> dict[str, list[bars.Run]]:
    """Shape -> what each of its processes measured. One shape comes after the other, then all again: a machine that is
    busy for some minutes spoils a process of each and not one shape."""
    runs: dict[str, list[bars.Run]] = {name: [] for name in shapes}
    start = time.monotonic()
    for number in range(processes):
        for name, shape in shapes.items():
            print(f"  {time.monotonic() - start:5.0f} s  process {number + 1} of {processes}: {name}", flush=True)
            problem = {"shape": name, "queries": shape.queries, "items": shape.items}
            how = {"rounds": rounds, "seconds": seconds, "seed": number}
            runs[name].append(fresh_process("_hamming_run.py", "time", MALLOC | ONE_THREAD, **problem, **how))
    return runs


def print_shape(shape: Shape, runs: list[bars.Run]) -> None:
    """The table of one shape."""
    facts = f"mAP {bars.mean(run['map'] for run in runs):.4f}"
    facts += f", {100 * bars.mean(run['relevant'] for run in runs):.0f} % relevant"
    facts += f", {bars.mean(run['different_codes'] for run in runs):,.0f} different codes"
    print(f"\n{shape.title}: {facts}")
    print(f"  {'':10s} {'':26s} {'ms':>10s} {'Gpair/s':>9s} {'x rdh_ext':>10s} {'lowest..highest':>19s}")
    for row in bars.rows_of(shape, runs):
        spread = f"{row['times_rdh_ext_lowest']} .. {row['times_rdh_ext_highest']}"
        numbers = f"{float(row['p50_us']) / 1e3:10.3f} {row['gpairs_per_second']:>9s} {row['times_rdh_ext']:>10s}"
        print(f"  {row['task']:10s} {row['provider']:26s} {numbers} {spread:>19s}")
    for line in bars.remarks(runs):
        print(f"  {line}")


def exceptions(provider: str) -> dict[str, str]:
    """What is not as the machine's facts say, for one provider."""
    if provider.endswith(" 2 threads"):
        return {"threads": "2"}
    level = provider.removeprefix("rdh_ext ")
    return {"level": level} if level in _native.cpu_levels() else {}


def run_cpu(options: argparse.Namespace, out: Path) -> None:
    """Measures, prints, writes."""
    processes, rounds = (1, 3) if options.quick else (options.processes, options.rounds)
    if (load := os.getloadavg()[0]) > 0.3:
        print(
            f"others are using this machine (load {load:.1f}): ratios bear it, two threads and small differences do not"
        )
    shapes = {name: replace(SHAPES[name], queries=options.queries, items=options.items) for name in options.shapes}
    print(f"results, then times: {processes} fresh processes per shape, {rounds} rounds in each")
    runs = measure(shapes, processes, rounds, 0.005 if options.quick else 0.02)
    for name, ones in runs.items():
        print_shape(shapes[name], ones)
    results = bars.check(shapes, runs)
    print("\nbars" if options.whole else "\nbars, which are meant for the whole measurement")
    for bar in results:
        print(f"  {bar.sentence()}")
    facts = next(iter(runs.values()))[0]["machine"]
    rows = [row for name in runs for row in bars.rows_of(shapes[name], runs[name])]
    write_csv(out, [{**row, **facts, **exceptions(row["provider"])} for row in rows])
    write_csv(out.with_name(f"{out.stem}_bars.csv"), [{**bar.row(), **facts} for bar in results])
    print(f"written: {out}, {out.stem}_bars.csv")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="default: results/, or build/ where it is not the whole measurement")
    names = ", ".join(SHAPES)
    parser.add_argument(
        "--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES), metavar="SHAPE", help=f"of {names}"
    )
    parser.add_argument("--queries", type=int, help="how many, in place of those above")
    parser.add_argument("--items", type=int, help="codes of the gallery, likewise")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes per shape (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds in each of them (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="1 process, 3 rounds, a small problem")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    if options.rounds < 2 or options.processes < 1:
        parser.error("at least 2 rounds in 1 process")
    queries, items = (QUICK if options.quick else SIZES)[options.device]
    options.queries = queries if options.queries is None else options.queries
    options.items = items if options.items is None else options.items
    whole_size = (options.queries, options.items) == SIZES[options.device]
    options.whole = not options.quick and whole_size and options.shapes == list(SHAPES)
    if min(options.queries, options.items) < 1:
        parser.error("at least 1 query and 1 item")
    return options


def main() -> None:
    options = parse()
    out = options.out or (RESULTS if options.whole else BUILD) / f"hamming_{options.device}.csv"
    if options.device == "cuda":
        from _hamming_cuda import run_cuda

        rounds = 3 if options.quick else options.rounds
        run_cuda(out, queries=options.queries, items=options.items, rounds=rounds)
    else:
        run_cpu(options, out)


if __name__ == "__main__":
    main()
