"""Writes the measured tables of README.md from the committed results, between the markers that name them.

python benchmarks/report.py            # rewrites README.md
python benchmarks/report.py --check    # exits 1 if README.md does not show the committed results
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from statistics import fmean, stdev

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
SHAPES = {"4096x64": "4,096 x 64", "262144x64": "262,144 x 64", "1x1": "1 x 1"}
PROVIDERS = {
    "rdh_ext": "**rdh_ext**",
    "rdh_ext avx2": "rdh_ext without AVX-512",
    "compiled": "`torch.compile` of the same in Python",
    "eager": "`torch.tanh` + a hook that applies Eq. 3",
    "native tanh": "`torch.tanh` alone, nothing amplified",
    "five passes": "five passes over memory",
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
    lines = [f"| forward + backward, float32 | {' | '.join(SHAPES.values())} |", "|---|" + "---:|" * len(SHAPES)]
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


def rendered(text: str) -> str:
    """``text`` with every marked section filled in."""
    for name, section in (("demo", demo), ("amplifier", amplifier)):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        if not after:
            sys.exit(f"README.md has no section {name}")
        text = before + begin + section() + "\n" + end + after
    return text


def main() -> None:
    """Writes or checks README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if README.md would change")
    old = README.read_text()
    new = rendered(old)
    if parser.parse_args().check:
        sys.exit(old != new)
    temporary = README.with_suffix(".tmp")
    temporary.write_text(new)
    temporary.replace(README)


if __name__ == "__main__":
    main()
