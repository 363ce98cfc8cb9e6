"""One step of training with rdh_ext, against the same network with eager PyTorch, with torch.compile, and counted bits.

    python benchmarks/training_step.py                        # everything, half an hour; writes results/
    python benchmarks/training_step.py --quick                # features alone, coarse, into build/
    python benchmarks/training_step.py --methods DPSH --backbones mlp
    python benchmarks/training_step.py --device cuda          # writes training_step_cuda.csv

A step is forward, loss, backward and SGD with momentum, batch 128, 64 bits, of DPSH (a bank of 5,000), HashNet and DHN,
with and without RDH. Networks: "mlp", 512 features -> 512 -> 64, for those who hash their own embeddings; "alexnet",
torchvision's at 224 x 224 with random weights. The "loss" part is activation, update of the bank, loss, and backward
to the logits. Data is there already: nothing is loaded.

Providers. "rdh_ext" is the method of rdh_ext.hashing with its fused ops. "obvious" is line by line as in the papers and
in public code: one-hot labels multiplied for S, softplus, the amplifier an autograd.Function, Eq. 4 by a mask
[B, N, K]. "eager" has matrices [B, N] at most: S by comparison, binary_cross_entropy_with_logits, Eq. 4 in closed form;
"eager class sums" has no S either (class ids and a bank). "compiled" is torch.compile of these two: activation, bank
and loss as one graph. All have the same network and optimiser, of PyTorch as it is.
"counting" is rdh_ext with its BitCounter, "counting by a hook" the same counts in plain torch, and "records" all that
the engine does in a step of `rdh train`, without Lightning: counted bits, loss and its terms kept, and fetched every 50
steps.

Before anything is timed loss and gradients (of logits and of all parameters) of all providers are compared.

How it is measured. One thread, unless --threads says more. In fresh processes, within each of which all providers take
turns, in an order drawn anew for each round, each for a block of steps with one wait for the device at its end.
_training_rows.py says how ratios are taken, and which rows are by the processor's time instead of the clock. "adds" is
time minus that of rdh_ext in the same round. "loss_share" is the loss part's part of a step. Memory: growth of the peak
resident set (on CUDA: of allocated memory) over one loss part in a fresh process; the bank does not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _bars import Run
from _measure import MALLOC, RESULTS, fresh_process, write_csv
from _training_peers import CASES, TITLES, Case, forms
from _training_rows import COUNTS, OURS, rows_of
from _training_run import SHAPES
from pairwise_loss import BUILD, RETURNING

PROGRAM = "_training_run.py"
ROWS, BITS, ITEMS = 128, 64, 5_000
PLAN = {  # processes per method, rounds in each, seconds of a block, which is one step at least
    "mlp": (5, 11, 0.15),
    "alexnet": (1, 3, 0.05),
}
QUICK = {"mlp": (1, 5, 0.03), "alexnet": (1, 2, 0.03)}
LEFT_OUT = {  # where they cannot be told from one another
    "mlp": [],
    "alexnet": ["counting", "counting by a hook", "eager class sums", "compiled class sums"],
}
ENVIRONMENT = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no pool of compilers beside what is timed


def measure_times(options: argparse.Namespace, backbone: str, cases: list[Case]) -> dict[Case, list[Run]]:
    """Method -> what each of its processes measured. One method comes after the other, then all again."""
    processes, rounds, seconds = (QUICK if options.quick else PLAN)[backbone]
    runs: dict[Case, list[Run]] = {case: [] for case in cases}
    start = time.monotonic()
    for number in range(options.processes or processes):
        for case in cases:
            print(f"  {time.monotonic() - start:5.0f} s  {backbone}, process {number + 1}: {case.label}", flush=True)
            arguments: dict[str, Any] = {
                "backbone": backbone,
                "title": case.title,
                "rdh": case.rdh,
                "rows": ROWS,
                "bits": BITS,
                "items": ITEMS,
                "shape": SHAPES[backbone],
                "leave_out": LEFT_OUT[backbone],
                "rounds": options.rounds or rounds,
                "seconds": seconds,
                "seed": number,
                "threads": options.threads,
                "device": options.device,
            }
            runs[case].append(fresh_process(PROGRAM, "time", {**MALLOC, **ENVIRONMENT}, **arguments))
    return runs


def measure_memory(options: argparse.Namespace, case: Case) -> dict[str, int]:
    """Provider -> peak extra memory of the loss part."""
    problem = {"title": case.title, "rdh": case.rdh, "rows": ROWS, "bits": BITS, "items": ITEMS}
    found = {}
    for provider in (OURS, *forms(case.title == "DPSH")):
        environment = {**RETURNING, **ENVIRONMENT}
        run = fresh_process(PROGRAM, "memory", environment, **problem, provider=provider, device=options.device)
        found[provider] = int(run["bytes"])
    return found


def print_rows(rows: list[dict[str, str]]) -> None:
    """The table of one network and method."""
    for mode in ("step", "loss"):
        of_mode = [row for row in rows if row["mode"] == mode]
        print(f"\n{of_mode[0]['method']}, {of_mode[0]['backbone']}: {'whole step' if mode == 'step' else 'loss part'}")
        for row in of_mode:
            spread = f"{float(row['times_p20']):.3f} .. {float(row['times_p80']):.3f}"
            share = f"  loss part {100 * float(row['loss_share']):.3g} %" if row["loss_share"] else ""
            memory = f"  {int(row['extra_bytes']) / 2**20:.1f} MiB" if row["extra_bytes"] else ""
            adds = f"  adds {float(row['adds_us']):.1f} us" if row["provider"] in COUNTS else ""
            time_ms, ratio = float(row["p50_us"]) / 1e3, float(row["times_rdh_ext"])
            print(f"  {row['provider']:20s} {time_ms:10.3f} ms {ratio:8.3f} x  ({spread}){share}{memory}{adds}")


def shape_of(backbone: str) -> str:
    """Inputs and outputs of the network."""
    return "x".join(map(str, (ROWS, *SHAPES[backbone]))) + f"->{BITS}"


def run(options: argparse.Namespace, out: Path) -> None:
    """Measures, prints, writes."""
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"others are using this machine (load {load:.1f}): ratios bear it, small differences do not")
    cases = [case for case in CASES if case.title in options.methods]
    memory = {case: {} if options.quick else measure_memory(options, case) for case in cases}
    rows = []
    for backbone in options.backbones:
        for case, runs in measure_times(options, backbone, cases).items():
            facts = {"bits": str(BITS), "bank": str(ITEMS) if case.title == "DPSH" else "", **runs[0]["machine"]}
            new = rows_of(backbone, shape_of(backbone), case, runs, memory[case])
            print_rows(new)
            rows += [{**row, **facts, "command": options.command} for row in new]
        write_csv(out, rows)
    print(f"written: {out}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="default: results/, or build/ where it is not the whole measurement")
    parser.add_argument("--backbones", nargs="+", choices=list(SHAPES), metavar="NAME", help="mlp and alexnet")
    parser.add_argument("--methods", nargs="+", choices=list(TITLES), default=list(TITLES), metavar="NAME")
    parser.add_argument("--processes", type=int, help="fresh ones per method (default: 5, 1 for alexnet)")
    parser.add_argument("--rounds", type=int, help="in each of them (default: 11, 3 for alexnet)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="mlp alone, 1 process, 5 rounds, no memory")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    least = ((options.rounds, 2), (options.processes, 1), (options.threads, 1))
    if any(value is not None and value < limit for value, limit in least):
        parser.error("at least 2 rounds, 1 process, 1 thread")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is available to PyTorch")
    options.backbones = options.backbones or (["mlp"] if options.quick else list(SHAPES))
    options.command = " ".join(["python benchmarks/training_step.py", *given])
    return options


def is_whole(options: argparse.Namespace) -> bool:
    """Whether it may be a result of record."""
    cut = options.quick or options.processes or options.rounds or options.threads != 1
    return not cut and options.backbones == list(SHAPES) and options.methods == list(TITLES)


def main() -> None:
    options = parse()
    out = options.out or (RESULTS if is_whole(options) else BUILD) / f"training_step_{options.device}.csv"
    run(options, out)


if __name__ == "__main__":
    main()
