"""mAP of hashed embeddings by their scale, as they are and standardized: why the recipe `features` standardizes.

    python benchmarks/feature_scales.py        # 5 seeds; results/feature_scales.csv, a minute on two cores

Embeddings of scikit-learn's digits: 512 random features with a ReLU, divided by their length (as those of CLIP are), or
multiplied by another one. All else is `rdh train --features x.npy --labels y.npy`: HashNet + RDH, 64 bits, an MLP.
Needs the extras: pip install "rdh_ext[train]".
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np
from _measure import RESULTS, machine, write_csv
from _trainings import results_of
from sklearn.datasets import load_digits

from rdh_ext.hashing.recipe import read

LENGTHS = (0.1, 1.0, 10.0, 100.0)
WIDTH = 512
SEEDS = 5
ITEMS = {"data.query_items": 30, "data.train_items": 50, "validation.items": 300}


def save_embeddings(folder: Path) -> None:
    """``<length>.npy`` for each of them, and ``labels.npy``."""
    digits = load_digits()
    weights = np.random.default_rng(0).normal(size=(64, WIDTH))
    features = np.maximum((digits.data / 16 - 0.3) @ weights, 0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for length in LENGTHS:
        np.save(folder / f"{length}.npy", (length * features).astype(np.float32))
    np.save(folder / "labels.npy", digits.target)


def measure(folder: Path, seeds: int) -> list[dict[str, str]]:
    """All trainings, as rows."""
    save_embeddings(folder)
    cells = [
        (length, standardize, seed) for length in LENGTHS for standardize in (False, True) for seed in range(seeds)
    ]
    recipes = []
    for length, standardize, seed in cells:
        files = {"data.features": str(folder / f"{length}.npy"), "data.labels": str(folder / "labels.npy")}
        recipes.append(read("features").override({**files, **ITEMS, "data.standardize": standardize, "seed": seed}))
    rows = []
    for (length, standardize, seed), found in zip(cells, results_of(recipes, folder), strict=True):
        last = found["epochs"][-1]
        rows.append(
            {
                "length": f"{length:g}",
                "standardize": str(standardize).lower(),
                "seed": str(seed),
                "map": f"{found['map']:.6f}",
                "saturated": f"{last['saturated'] / last['bits']:.6f}",
                "dead": f"{last['dead'] / last['bits']:.6f}",
            }
        )
    return rows


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"0 to N - 1 ({SEEDS})")
    parser.add_argument("--out", type=Path, default=RESULTS / "feature_scales.csv")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.seeds)
    for key in dict.fromkeys((row["length"], row["standardize"]) for row in rows):
        mine = [row for row in rows if (row["length"], row["standardize"]) == key]
        mean_ap, saturated, dead = (fmean(float(row[name]) for row in mine) for name in ("map", "saturated", "dead"))
        words = f"length {key[0]:>4s}, standardize {key[1]:5s}"
        print(f"{words}  mAP {mean_ap:.4f}  saturated {saturated:.3f}  dead {dead:.3f}")
    facts = machine()
    write_csv(arguments.out, [{**row, "device": facts["device"], "torch": facts["torch"]} for row in rows])
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
