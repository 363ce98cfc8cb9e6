"""Writes the measured tables of README.md and docs/ from the committed results, between the markers that name them.

python benchmarks/report.py            # rewrites them
python benchmarks/report.py --check    # exits 1 if they do not show the committed results
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import _bench_tables as bench
import _reproduced as reproduced
import _training_tables as training
from _markdown import head
from _rows import COLUMNS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
LARGE_GALLERIES = ROOT / "docs" / "large-galleries.md"
WHAT_CHANGES = ROOT / "docs" / "what-rdh-changes.md"
TRAINING = ROOT / "docs" / "training.md"
SPEED = ROOT / "docs" / "speed.md"
TRAINING_SPEED = ROOT / "docs" / "training-speed.md"
SHAPES = {"4096x64": "4,096 x 64", "262144x64": "262,144 x 64", "1x1": "1 x 1"}
PROVIDERS = {
    "rdh_ext": "**rdh_ext**",
    "rdh_ext avx2": "rdh_ext without AVX-512",
    "compiled": "`torch.compile` of the same in Python",
    "eager": "`torch.tanh` + a hook that applies Eq. 3",
    "native tanh": "`torch.tanh` alone, nothing amplified",
    "five passes": "five passes over memory",
}
PAIRWISE = "pairwise_loss_cpu"
PAIRWISE_SHAPES = {
    "128x5000": "128 x 5,000",
    "1024x10500": "1,024 x 10,500",
    "128x128": "128 with itself",
    "128x10000-multi-hot": "128 x 10,000, 80 labels",
}
PAIRWISE_PROVIDERS = {  # label -> providers, of which the fastest is shown
    "**rdh_ext**": ("rdh_ext",),
    "rdh_ext without AVX-512": ("rdh_ext avx2",),
    "`torch.compile`, value and gradient by hand": ("compiled by hand", "compiled by hand class sums"),
    "`torch.compile`, autograd": ("compiled", "compiled BCE", "compiled class sums", "compiled BCE class sums"),
    "eager, closed form": ("eager", "eager BCE"),
    "eager, Eq. 4 as printed: a mask `[B, N, K]`": ("literal",),
    "two matrix products and the elementwise part": ("floor",),
}
HAMMING = "hamming_cpu"
HAMMING_SHAPES = {
    "64-bits": "64 bits",
    "64-bits-trained": "64 bits, trained",
    "24-bits": "24 bits",
    "64-bits-multi-hot": "64 bits, 80 labels",
}
HAMMING_PROVIDERS = {  # label -> providers, of which the fastest is shown
    "**rdh_ext**": ("rdh_ext",),
    "rdh_ext, gallery prepared": ("rdh_ext gallery",),
    'rdh_ext, `ties="stable"`': ("rdh_ext stable",),
    "rdh_ext without VPOPCNTDQ": ("rdh_ext avx512",),
    "rdh_ext without AVX-512": ("rdh_ext avx2",),
    "argsort in numpy, as in DeepHash-pytorch": ("numpy argsort",),
    "torchmetrics, `RetrievalMAP`": ("torchmetrics",),
    "scikit-learn, `average_precision_score`": ("scikit-learn",),
    "FAISS, search for one nearest item": ("FAISS heap k=1", "FAISS counting k=1"),
    "xor + popcount of all pairs, nothing kept": ("scan popcnt", "scan avx2", "scan avx512", "scan avx512vpopcntdq"),
}
HAMMING_TOPK = {"top-100": "k = 100", "top-1000": "k = 1,000", "top-5000": "k = 5,000"}
HAMMING_SEARCHES = {
    "**rdh_ext**": ("rdh_ext",),
    "rdh_ext, gallery prepared": ("rdh_ext gallery",),
    "rdh_ext without AVX-512": ("rdh_ext avx2",),
    "FAISS, counting": ("FAISS counting",),
    "FAISS, heap": ("FAISS heap",),
}


def read(name: str) -> list[dict[str, str]]:
    """The rows of a committed CSV."""
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def demo() -> str:
    """The demo's numbers: seed 0, whose pictures stand beside them, and the means of all seeds."""
    runs = json.loads((RESULTS / "demo" / "results.json").read_text())["runs"]
    without, with_rdh = runs["hashnet"], runs["hashnet_rdh"]
    rows = read("demo_seeds.csv")

    def mean(column: str, label: str, form: str) -> str:
        values = [float(row[column]) for row in rows if row["run"] == label]
        return f"{fmean(values):{form}} ± {stdev(values):{form}}"

    def line(name: str, *values: str) -> str:
        return f"| {name} | {' | '.join(values)} |"

    def steps(run: dict[str, object]) -> str:
        epochs = run["epochs"]
        assert isinstance(epochs, list)
        return f"{fmean(epoch['dead'] for epoch in epochs):.0f}"

    labels = (without["label"], with_rdh["label"])
    seeds = len({row["seed"] for row in rows})
    return "\n".join(
        [
            line("", *labels, *(f"{label}, {seeds} seeds" for label in labels)),
            "|---|---:|---:|---:|---:|",
            line(
                "mAP, 32 bits",
                *(f"{run['map']:.3f}" for run in (without, with_rdh)),
                *(mean("map", label, ".3f") for label in labels),
            ),
            line(
                "precision within Hamming radius 2",
                *(f"{run['precision_within_radius_2']:.3f}" for run in (without, with_rdh)),
                *(mean("precision_radius_2", label, ".3f") for label in labels),
            ),
            line(
                "dead bits per step, of 4,096",
                *(steps(run) for run in (without, with_rdh)),
                *(mean("dead_per_step", label, ".0f") for label in labels),
            ),
        ]
    )


def amplifier() -> str:
    """Time of every provider as a multiple of rdh_ext's, per shape, and where it was measured."""
    rows = read("gradient_amplifier_cpu.csv")
    ratio = {(row["provider"], row["shape"]): row for row in rows}
    lines = head("forward + backward, float32", *SHAPES.values())
    for provider, label in PROVIDERS.items():
        if (provider, "1x1") in ratio:
            cells = []
            for shape in SHAPES:
                row = ratio[provider, shape]
                time = (
                    f"{float(row['p50_us']):,.0f} us"
                    if provider == "rdh_ext"
                    else f"{float(row['times_rdh_ext']):.2f} x"
                )
                cells.append("" if provider == "five passes" and shape == "1x1" else time)
            lines.append(f"| {label} | {' | '.join(cells)} |")
    row = rows[0]
    level = row["level"]
    lines += [
        "",
        f"{row['device']}, {row['threads']} thread, {level}, torch {row['torch']}; medians, every provider in turn",
        "in one run: `python benchmarks/gradient_amplifier.py`.",
    ]
    if f"{level}_forward_ulp" in row:  # the scalar level computes in double
        lines[-1] += " Largest error against float64 over every float from"
        errors = f"forward {row[f'{level}_forward_ulp']} ulp, gradient {row[f'{level}_gradient_ulp']} ulp"
        lines.append(f"2^-20 to 44: {errors}.")
    return "\n".join(lines)


def pairwise() -> str:
    """The same for the pairwise loss, with its errors and its memory; nothing before it has been measured."""
    if not (RESULTS / f"{PAIRWISE}.csv").exists():
        return ""
    rows = read(f"{PAIRWISE}.csv")
    cell = {(row["provider"], row["shape"]): row for row in rows}
    lines = [
        "### The pairwise loss",
        "",
        "The first line is the time of rdh_ext, which gets labels; the others are multiples of it, and get the matrix",
        "of similarities for nothing.",
        "",
        *head("forward + backward, float32, 64 bits", *PAIRWISE_SHAPES.values()),
    ]
    for label, providers in PAIRWISE_PROVIDERS.items():
        cells = []
        for shape in PAIRWISE_SHAPES:
            found = [cell[name, shape] for name in providers if (name, shape) in cell]
            times = [float(row["times_rdh_ext"]) for row in found]
            if label == "**rdh_ext**":
                cells.append(f"{float(found[0]['p50_us']):,.0f} us")
            else:
                cells.append(_multiple(min(times)) if times else "")
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    ours = [cell["rdh_ext", shape] for shape in PAIRWISE_SHAPES]
    memory = [row for row in read(f"{PAIRWISE}_memory.csv") if row["provider"] == "rdh_ext"]
    longest = max(int(row["columns"]) for row in memory)
    grown = max(int(row["extra_bytes"]) for row in memory if int(row["columns"]) == longest)
    row = ours[0]
    return "\n".join(
        [
            *lines,
            "",
            f"{row['device']}, {row['threads']} thread, {row['level']}, torch {row['torch']}; every provider in turn,",
            f"of {row['processes']} processes each peer's best: `python benchmarks/pairwise_loss.py --help` says who",
            f"is who. Relative error against float64: gradient {_span(ours, 'gradient_error')}",
            f"(eager {_span(_of(rows, 'eager'), 'gradient_error')}), likelihood {_span(ours, 'likelihood_error')},",
            f"quantization {_span(ours, 'quantization_error')}. Extra memory for {memory[0]['rows']} rows and a bank",
            f"of {longest:,}: {grown / 2**20:,.0f} MiB at most.",
        ]
    )


def hamming() -> str:
    """The same for evaluation and search in Hamming space; nothing before it has been measured."""
    if not (RESULTS / f"{HAMMING}.csv").exists():
        return ""
    rows = read(f"{HAMMING}.csv")
    row = rows[0]
    maps = {(one["provider"], one["shape"]): one for one in rows if one["task"] == "mAP"}
    searches = {(one["provider"], one["task"]): one for one in rows if one["shape"] == "64-bits"}
    rate = float(maps["rdh_ext", "64-bits"]["gpairs_per_second"])
    size = f"{int(row['queries']):,} queries x {int(row['items']):,} codes"
    return "\n".join(
        [
            "### Evaluation and search",
            "",
            f"{size}, on one thread. The first line of a table is the time of rdh_ext, the others are multiples of it.",
            "",
            *_times("mAP over the whole gallery", HAMMING_SHAPES, HAMMING_PROVIDERS, maps),
            "",
            *_times("`hamming_topk`, 64 bits", HAMMING_TOPK, HAMMING_SEARCHES, searches),
            "",
            f"{row['device']}, {row['threads']} thread, {row['level']}, torch {row['torch']}; mAP of 64 bits at",
            f"{rate:.3g} billion pairs per second. Medians of {row['processes']} processes, every provider in turn,",
            "after results were compared: `python benchmarks/hamming.py --help` says how, and who is who.",
        ]
    )


def _times(
    title: str,
    columns: dict[str, str],
    lines: dict[str, tuple[str, ...]],
    cell: dict[tuple[str, str], dict[str, str]],
) -> list[str]:
    """A table: milliseconds in its first line, and in the others multiples of them, of the fastest of the providers."""
    table = head(title, *columns.values())
    for label, providers in lines.items():
        cells = []
        for column in columns:
            found = [cell[name, column] for name in providers if (name, column) in cell]
            if label == next(iter(lines)):
                cells.append(f"{float(found[0]['p50_us']) / 1e3:,.2f} ms" if found else "")
            else:
                cells.append(_multiple(min(float(one["times_rdh_ext"]) for one in found)) if found else "")
        if any(cells):
            table.append(f"| {label} | {' | '.join(cells)} |")
    return table


def _multiple(times: float) -> str:
    return f"{times:.2f} x" if times < 100 else f"{times:,.0f} x"


def _of(rows: list[dict[str, str]], provider: str) -> list[dict[str, str]]:
    return [row for row in rows if row["provider"] == provider]


def _span(rows: list[dict[str, str]], column: str) -> str:
    """``1.9e-07 to 2.3e-07`` over the shapes."""
    values = sorted(float(row[column]) for row in rows)
    return f"{values[0]:.1e} to {values[-1]:.1e}"


def streaming() -> str:
    """The gallery on disk against the op in memory; what comes of it for a cluster of CPUs."""
    rows = {row["provider"]: row for row in read("streaming_cpu.csv")}
    disk, cache, memory = rows["disk"], rows["cache"], rows["in memory"]
    rate = float(disk["pairs_per_second"])
    hours = 1e15 / (rate / int(disk["threads"])) / 3600
    size = f"{int(disk['queries']):,} queries x {int(disk['items']):,} codes of {disk['bits']} bits"
    lines = [
        f"| {size}, full mAP | time | pairs per second | of the op in memory | peak memory | planned |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in (("from disk, nothing cached", disk), ("files in the page cache", cache)):
        sizes = [f"{int(row[column]) >> 20:,} MiB" for column in ("peak_bytes", "planned_bytes")]
        lines.append(
            f"| {name} | {float(row['seconds']):.1f} s | {float(row['pairs_per_second']) / 1e9:.1f} billion | "
            f"{float(row['of_in_memory']):.2f} | {sizes[0]} | {sizes[1]} |"
        )
    lines += [
        "",
        f"{disk['device']}, {disk['threads']} threads, {disk['level']}, torch {disk['torch']}; medians. In memory:",
        f"`rdh_ext.hamming_histogram` on the first {int(memory['items']):,} codes, in the same rounds.",
        f"At this rate 10,000 x 1e11 are {hours:.0f} core hours, on as many machines as one likes.",
    ]
    return "\n".join(lines)


def training_step(table: Callable[[list[dict[str, str]]], str]) -> Callable[[], str]:
    """One of the tables of whole steps of training."""
    return lambda: table(read("training_step_cpu.csv"))


def bench_summary() -> str:
    """What `rdh bench` measured on a CPU: a line per op; nothing before it has been committed."""
    return _bench_tables(_bench_rows("cpu"), bench.summary_table)


def bench_paper() -> str:
    """The same at the sizes of the paper's data sets."""
    return _bench_tables(_bench_rows("cpu"), bench.paper_table)


def gpu() -> str:
    """Both tables of every committed result of `rdh bench` on a GPU."""
    files = [_bench_rows(path.stem) for path in sorted(RESULTS.glob("*.csv"))]
    on_gpus = [rows for rows in files if any(row["level"] == "cuda" for row in rows)]
    return "\n\n".join(_bench_tables(rows, bench.summary_table, bench.paper_table) for rows in on_gpus)


def _bench_rows(name: str) -> list[dict[str, str]]:
    """Of a committed CSV, none where it is not there or no result of `rdh bench`."""
    rows = read(f"{name}.csv") if (RESULTS / f"{name}.csv").exists() else []
    return rows if rows and set(rows[0]) == set(COLUMNS) else []


def _bench_tables(rows: list[dict[str, str]], *tables: Callable[[list[dict[str, str]]], str]) -> str:
    """Those that have lines, and where it was measured."""
    filled = [text for table in tables if (text := table(rows))]
    shown = [row for row in rows if row["sweep"] in ("default", "paper")] or rows
    return "\n\n".join([*filled, bench.where(shown)]) if filled else ""


def rendered(text: str, name: str, section: Callable[[], str]) -> str:
    """``text`` with the marked section filled in."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        sys.exit(f"no section {name} in its file")
    filled = section()
    return before + begin + (f"{filled}\n" if filled else "") + end + after


REPRODUCED: dict[str, Callable[[], str]] = {
    name: functools.partial(reproduced.table, name) for name in ("digits", "digits-raw")
}
SECTIONS: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"demo": demo, **REPRODUCED, "bench-summary": bench_summary, "bench-paper": bench_paper, "gpu": gpu},
    SPEED: {
        "bench-summary": bench_summary,
        "bench-paper": bench_paper,
        "gpu": gpu,
        "amplifier": amplifier,
        "pairwise": pairwise,
        "hamming": hamming,
    },
    WHAT_CHANGES: {
        **REPRODUCED,
        "digits-few": functools.partial(reproduced.table, "digits-few"),
        "parts": reproduced.parts,
    },
    LARGE_GALLERIES: {"streaming": streaming},
    TRAINING: {"feature-scales": reproduced.feature_scales},
    TRAINING_SPEED: {
        "speed": training_step(training.speed),
        "counts": training_step(training.counts),
        "predictions": training_step(training.predictions),
    },
}


def main() -> None:
    """Writes or checks the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    is_check = parser.parse_args().check
    for path, sections in SECTIONS.items():
        old = new = path.read_text()
        for name, section in sections.items():
            new = rendered(new, name, section)
        if is_check and old != new:
            sys.exit(1)
        if old != new:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(new)
            temporary.replace(path)


if __name__ == "__main__":
    main()
