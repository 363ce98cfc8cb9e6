"""What other seeds of ``rdh demo`` give, and each half of RDH by itself: a table and a CSV.

    python benchmarks/demo_seeds.py          # five seeds, four variants, about five minutes; results/demo_seeds.csv

The table in the demo's report (rdh_ext/hashing/report/regime.py) comes from this file's result; a test compares them.
Needs the extras: pip install "rdh_ext[demo]".
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean, stdev

import torch
from _measure import RESULTS, machine, write_csv
from tqdm import tqdm

from rdh_ext.hashing import demo
from rdh_ext.hashing.data import load_digits
from rdh_ext.hashing.history import Schedule
from rdh_ext.hashing.methods import HashNet

VARIANTS = {  # label -> with RDH, eta
    "HashNet": (False, 0.0),
    "HashNet + RDH": (True, demo.ETA),
    "amplifier alone": (True, 0.0),
    "HashNet + RDH, eta 0.1": (True, 0.1),
}


def measure(seed: int, label: str) -> dict[str, str]:
    """One training of the demo, as a row."""
    rdh, eta = VARIANTS[label]
    options = demo.DemoOptions(seed=seed)
    data = load_digits(seed, input_scale=demo.INPUT_SCALE)
    schedule = Schedule(epochs=options.epochs, lr=demo.LEARNING_RATE)
    method = HashNet(options.bits, rdh=rdh, tau=demo.TAU, eta=eta)
    run = demo.train_and_evaluate(method, "run", data, schedule, options)
    return {
        "seed": str(seed),
        "run": label,
        "map": f"{run.evaluation.map:.4f}",
        "map_at_100": f"{run.evaluation.map_at_100:.4f}",
        "precision_radius_2": f"{run.evaluation.precision_radius_2:.4f}",
        "dead_per_step": f"{fmean(step.dead for step in run.steps):.1f}",
        "saturated_per_step": f"{fmean(step.saturated for step in run.steps):.1f}",
        "seconds": f"{run.seconds:.1f}",
    }


def summary(rows: list[dict[str, str]], label: str) -> str:
    """Mean and spread of one variant, for the terminal."""
    maps = [float(row["map"]) for row in rows if row["run"] == label]
    spread = f" ± {stdev(maps):.4f}" if len(maps) > 1 else ""
    dead = fmean(float(row["dead_per_step"]) for row in rows if row["run"] == label)
    each = ", ".join(f"{value:.3f}" for value in maps)
    return f"{label:24s} mAP {fmean(maps):.4f}{spread}  ({each})   dead bits per step {dead:.0f}"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this one, exclusive (5)")
    parser.add_argument("--out", type=Path, default=RESULTS / "demo_seeds.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as the demo does
    jobs = [(seed, label) for seed in range(arguments.seeds) for label in VARIANTS]
    rows = [measure(seed, label) for seed, label in tqdm(jobs, desc="trainings", disable=None)]
    for label in VARIANTS:
        print(summary(rows, label))
    facts = machine()
    write_csv(arguments.out, [{**row, "device": facts["device"], "torch": facts["torch"]} for row in rows])
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
