"""Pairwise loss, forward + backward, float32, K = 64: time, error and memory, against what people would use otherwise.

    python benchmarks/pairwise_loss.py                       # everything, about ten minutes; writes results/
    python benchmarks/pairwise_loss.py --quick               # four minutes, coarse, into build/
    python benchmarks/pairwise_loss.py --shapes 128x5000     # one shape, into build/
    python benchmarks/pairwise_loss.py --device cuda         # 59,000 x 59,000 on a GPU

Three files: OUT.csv has one row per shape and provider, OUT_memory.csv the peak extra memory, OUT_bars.csv what has to
hold. Each bar is printed with its figure and "held" or "MISSED".

Providers. "eager" is Eq. 1 by softplus and Eq. 4 in closed form, "BCE" Eq. 1 by binary_cross_entropy_with_logits,
"compiled" torch.compile of these; "class sums" takes sum_j (2 S - 1) sign v_j from sums per class instead of a product
(class ids only), "by hand" computes value and gradient in one compiled function. All of them get S, 2 S - 1 and one-
hot labels for nothing; rdh_ext gets labels. The bars are about eager, BCE and compiled, the forms people have.
"literal" is Eq. 4 as printed, cases and all, with a mask [B, N, K]; "literal product" multiplies with the mask
instead, which eager torch does faster. "rdh_ext avx2" is this package on a CPU without AVX-512. "floor" is two matrix
products (theta and P V) at the rate of fused multiply-adds that the same CPU reached in the same round, plus the
elementwise part measured alone: no packing, no labels, no calls.

How it is measured. One thread. torch.log1p on CPU, and with it softplus and BCE, is fast in some processes and 20 times
slower in others: so the comparison of a shape is made in several fresh processes, within each of which all providers
take turns, round by round. A ratio is the median over the rounds of one process of (peer's time / rdh_ext's time), both
from the same round, and so at the same clock. Of a peer counts its best process, the one in which it was fastest, and
the ratio that it had there; the table shows the lowest and highest ratio of any process beside it. Ratios to the floor,
between numbers of threads and between kinds of labels are the median over the processes, as is the time of rdh_ext.
malloc keeps memory mapped for both sides (benchmarks/_measure.py).

Errors are relative, against the closed form in float64 on the same input: |g - g64| / |g64| for the gradient, and for
the loss and its two parts. "trained" is the same on saturated activations near a code of their class. They are means
over the processes, each of which has a seed of its own.

Memory: growth of the peak resident set of a fresh process over one forward and backward, inputs not counted, result
counted; with every large block returned when it is freed, and without huge pages.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import _pairwise_bars as bars
from _measure import MALLOC, RESULTS, fresh_process, write_csv
from _pairwise_peers import SHAPES

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
PROGRAM = "_pairwise_run.py"
RETURNING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16), "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0"}
MEMORY_ROWS, MEMORY_BITS = 128, 64
MEMORY_COLUMNS = (100_000, 200_000, 400_000)


def measure_times(shapes: list[str], processes: int, rounds: int, seconds: float) -> dict[str, list[bars.Run]]:
    """Shape -> what each of its processes measured. One shape comes after the other, then all again: a machine that is
    busy for some minutes spoils a process of each and not one shape."""
    runs: dict[str, list[bars.Run]] = {shape: [] for shape in shapes}
    start = time.monotonic()
    for number in range(processes):
        for shape in shapes:
            print(f"  {time.monotonic() - start:5.0f} s  process {number + 1} of {processes}: {shape}", flush=True)
            run = fresh_process(PROGRAM, "time", MALLOC, shape=shape, rounds=rounds, seconds=seconds, seed=number)
            runs[shape].append(bars.with_floor(SHAPES[shape], run))
    return runs


def measure_memory(lengths: tuple[int, ...]) -> list[dict[str, str]]:
    """Rows of peak extra memory, by kind of labels and length of the bank; eager beside rdh_ext."""
    rows = []
    for provider in ("rdh_ext", "eager"):
        for multi_hot in (False, True):
            kind = "multi-hot" if multi_hot else "class ids"
            for columns in lengths:
                problem = {"rows": MEMORY_ROWS, "columns": columns, "bits": MEMORY_BITS, "multi_hot": multi_hot}
                run = fresh_process(PROGRAM, "memory", RETURNING, provider=provider, **problem)
                floats = run["bytes"] / 4 / ((MEMORY_ROWS + columns) * MEMORY_BITS)
                print(f"  {provider:8s} {kind:10s} N = {columns:7,}  {run['bytes'] / 2**20:8.1f} MiB", end="")
                print(f"  {floats:6.3f} (B + N) K floats", flush=True)
                rows.append(
                    {
                        "provider": provider,
                        "labels": kind,
                        "rows": str(MEMORY_ROWS),
                        "columns": str(columns),
                        "bits": str(MEMORY_BITS),
                        "extra_bytes": str(run["bytes"]),
                        "floats_per_code_element": f"{floats:.4f}",
                        **run["machine"],
                    }
                )
    return rows


def print_shape(name: str, runs: list[bars.Run]) -> None:
    """The table of one shape."""
    shape = SHAPES[name]
    print(f"\n{shape.title}; {100 * bars.mean(run['similar'] for run in runs):.0f} % of the pairs are similar")
    print(f"  {'':28s} {'ms':>10s} {'x rdh_ext':>10s} {'lowest..highest':>16s}   {'gradient':>9s} {'loss':>9s}")
    for row in bars.rows_of(shape, runs):
        spread = f"{row['times_rdh_ext_lowest']} .. {row['times_rdh_ext_highest']}"
        errors = f"{row['gradient_error']:>9s} {row['loss_error']:>9s}"
        time_ms = float(row["p50_us"]) / 1e3
        print(f"  {row['provider']:28s} {time_ms:10.3f} {row['times_rdh_ext']:>10s} {spread:>16s}   {errors}")
    for row in bars.rows_of(shape, runs):
        if row["likelihood_error"]:
            parts = f"likelihood {row['likelihood_error']}, quantization {row['quantization_error']}"
            print(f"  {row['provider']}: error of {parts}; gradient, trained {row['gradient_error_trained']}")
    for line in bars.remarks(runs):
        print(f"  {line}")


def exceptions(provider: str) -> dict[str, str]:
    """What is not as the machine's facts say, for one provider."""
    return {"rdh_ext 2 threads": {"threads": "2"}, "rdh_ext avx2": {"level": "avx2"}}.get(provider, {})


def run_cpu(options: argparse.Namespace, out: Path) -> None:
    """Measures, prints, writes."""
    processes, rounds = (2, 5) if options.quick else (options.processes, options.rounds)
    if (load := os.getloadavg()[0]) > 0.3:
        print(
            f"others are using this machine (load {load:.1f}): ratios bear it, two threads and small differences do not"
        )
    print(f"time: {processes} fresh processes per shape, {rounds} rounds in each")
    runs = measure_times(options.shapes, processes, rounds, 0.01 if options.quick else 0.02)
    for shape, ones in runs.items():
        print_shape(shape, ones)
    print("\npeak extra memory, B = 128, K = 64")
    memory = measure_memory(tuple(n // 8 for n in MEMORY_COLUMNS) if options.quick else MEMORY_COLUMNS)
    results = bars.check(runs, memory)
    print("\nbars")
    for bar in results:
        print(f"  {bar.sentence()}")
    facts = next(iter(runs.values()))[0]["machine"]
    rows = [row for shape in runs for row in bars.rows_of(SHAPES[shape], runs[shape])]
    write_csv(out, [{**row, **facts, **exceptions(row["provider"])} for row in rows])
    write_csv(out.with_name(f"{out.stem}_memory.csv"), memory)
    write_csv(out.with_name(f"{out.stem}_bars.csv"), [{**bar.row(), **facts} for bar in results])
    print(f"written: {out}, {out.stem}_memory.csv, {out.stem}_bars.csv")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="default: results/, or build/ with --quick or --shapes")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--processes", type=int, default=5, help="fresh processes per shape (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds in each of them (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 processes, 5 rounds, short banks for the memory")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--items", type=int, default=59_000, help="--device cuda: B = N (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds < 2 or options.processes < 1:
        parser.error("at least 2 rounds in 1 process")
    return options


def main() -> None:
    options = parse()
    whole = not options.quick and options.shapes == list(SHAPES) and options.items == 59_000
    out = options.out or (RESULTS if whole else BUILD) / f"pairwise_loss_{options.device}.csv"
    if options.device == "cuda":
        from _pairwise_cuda import run_cuda

        run_cuda(out, items=options.items, rounds=5 if options.quick else options.rounds)
    else:
        run_cpu(options, out)


if __name__ == "__main__":
    main()
