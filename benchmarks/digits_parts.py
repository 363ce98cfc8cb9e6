"""What each part of RDH does to DPSH, DHN and DSDH on the digits, and what its weight does: a table and a CSV.

    python benchmarks/digits_parts.py          # 5 seeds; results/digits_parts.csv, a quarter of an hour on two cores

Beside the variants of the paper's Table 2, which is HashNet's, there is a control: the method's own quantization term,
which knows no pairs, with the weight 1 that the error-aware term has in these recipes (DPSH and DHN have 0.1).
Needs the extras: pip install "rdh_ext[train]".
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import fmean, stdev

from _measure import RESULTS, machine, write_csv
from _trainings import results_of

from rdh_ext.hashing.recipe import read

REGIMES = {"digits": 64, "digits-raw": 64, "digits-few": 24}
"""Bits. With few labels there is a difference with short codes only."""
SEEDS = 5
LAST = 10
"""Dead bits are those of the last tenth of the epochs, as in `rdh reproduce`."""
VARIANTS = {
    "plain": {"method.rdh": False},
    "own term, weight 1": {"method.rdh": False, "method.eta": 1.0},
    "amplifier alone": {"method.rdh": True, "method.error_aware": False},
    "error-aware term alone": {"method.rdh": True, "method.amplifier": False},
    "RDH": {"method.rdh": True},
}
METHODS = {
    "dpsh": tuple(VARIANTS),
    "dhn": tuple(VARIANTS),
    "dsdh": tuple(v for v in VARIANTS if v != "own term, weight 1"),
}


def cells(seeds: int) -> list[tuple[str, str, str, int]]:
    """Regime, method, variant, seed of every training."""
    return [
        (regime, method, variant, seed)
        for regime in REGIMES
        for method, variants in METHODS.items()
        for variant in variants
        for seed in range(seeds)
    ]


def measure(folder: Path, seeds: int, epochs: int | None) -> list[dict[str, str]]:
    """All trainings, as rows."""
    recipes = []
    for regime, method, variant, seed in cells(seeds):
        values = {
            **VARIANTS[variant],
            "bits": REGIMES[regime],
            "seed": seed,
            **({} if epochs is None else {"training.epochs": epochs}),
        }
        recipes.append(read(regime, method).override(values))
    return [row(cell, found) for cell, found in zip(cells(seeds), results_of(recipes, folder), strict=True)]


def row(cell: tuple[str, str, str, int], found: dict) -> dict[str, str]:
    """One training."""
    regime, method, variant, seed = cell
    late = found["epochs"][-max(1, len(found["epochs"]) // LAST) :]
    return {
        "regime": regime,
        "bits": str(REGIMES[regime]),
        "method": method,
        "variant": variant,
        "seed": str(seed),
        "map": f"{found['map']:.6f}",
        "dead_per_step": f"{fmean(epoch['dead'] for epoch in late):.1f}",
        "saturated_per_step": f"{fmean(epoch['saturated'] for epoch in late):.1f}",
        "bits_per_step": f"{late[-1]['bits']:.0f}",
    }


def summary(rows: list[dict[str, str]]) -> str:
    """Mean and spread of each variant, for the terminal."""
    lines = []
    for key in dict.fromkeys((each["regime"], each["method"], each["variant"]) for each in rows):
        mine = [each for each in rows if (each["regime"], each["method"], each["variant"]) == key]
        maps = [float(each["map"]) for each in mine]
        spread = f" ± {stdev(maps):.4f}" if len(maps) > 1 else ""
        dead = fmean(float(each["dead_per_step"]) for each in mine)
        lines.append(
            f"{key[0]:11s} {key[1]:5s} {key[2]:23s} mAP {fmean(maps):.4f}{spread}  dead bits per step {dead:.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"0 to N - 1 ({SEEDS})")
    parser.add_argument("--epochs", type=int, help="fewer than the recipes have, to try it")
    parser.add_argument("--out", type=Path, default=RESULTS / "digits_parts.csv")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.seeds, arguments.epochs)
    print(summary(rows))
    facts = machine()
    write_csv(arguments.out, [{**each, "device": facts["device"], "torch": facts["torch"]} for each in rows])
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
