"""From the samples of the benchmark of a training step to its rows.

A ratio is the median over rounds of (provider's time / rdh_ext's time), both from the same round. Of a peer counts the
process in which it was fastest, since torch.log1p is slow in some; of what is rdh_ext itself (counting, records) count
the rounds of all processes. Quintiles are of the same rounds.

Counting and records differ from rdh_ext by a percent: their rows, column "clock", are by the processor's time, which
the work of others on the machine disturbs less. With several threads or a GPU that would be something else, and they
are by the clock like all others.
"""

from __future__ import annotations

from statistics import median

from _bars import Run
from _measure import timing
from _pairwise_bars import best_process
from _training_peers import Case

OURS = "rdh_ext"
COUNTS = ("counting", "counting by a hook", "records")


def clock_of(run: Run, provider: str) -> str:
    """By which its rows are: "wall" or "cpu"."""
    alone = run["machine"]["threads"] == "1" and run["machine"]["level"] != "cuda"
    return "cpu" if provider in COUNTS and alone else "wall"


def rounds_of(runs: list[Run], mode: str, provider: str) -> tuple[list[float], list[float], list[float]]:
    """Seconds of a provider, of rdh_ext and of the provider's loss part, in the rounds that count."""
    name = f"{mode}/{provider}"
    counted = runs if provider in (OURS, *COUNTS) else [runs[best_process(runs, name)]]
    samples = [run["cpu" if clock_of(run, provider) == "cpu" else "samples"] for run in counted]
    theirs, ours, parts = (
        [s for one in samples for s in one[key]] for key in (name, f"{mode}/{OURS}", f"loss/{provider}")
    )
    return theirs, ours, parts


def rows_of(backbone: str, shape: str, case: Case, runs: list[Run], memory: dict[str, int]) -> list[dict[str, str]]:
    """One row per mode and provider."""
    rows = []
    for key in runs[0]["samples"]:
        mode, provider = key.split("/")
        theirs, ours, parts = rounds_of(runs, mode, provider)
        time = timing(theirs)
        ratio = timing([a / b for a, b in zip(theirs, ours, strict=True)])
        adds = timing([a - b for a, b in zip(theirs, ours, strict=True)])
        share = median(a / b for a, b in zip(parts, theirs, strict=True))
        different = [run["differences"][provider] for run in runs if provider in run["differences"]]
        rows.append(
            {
                "op": "training_step",
                "mode": mode,
                "backbone": backbone,
                "method": case.label,
                "shape": shape,
                "dtype": "float32",
                "provider": provider,
                "clock": clock_of(runs[0], provider),
                "p20_us": f"{time.p20 * 1e6:.2f}",
                "p50_us": f"{time.p50 * 1e6:.2f}",
                "p80_us": f"{time.p80 * 1e6:.2f}",
                "times_rdh_ext": f"{ratio.p50:.4f}",
                "times_p20": f"{ratio.p20:.4f}",
                "times_p80": f"{ratio.p80:.4f}",
                "adds_us": f"{adds.p50 * 1e6:.2f}",
                "adds_p20_us": f"{adds.p20 * 1e6:.2f}",
                "adds_p80_us": f"{adds.p80 * 1e6:.2f}",
                "loss_share": f"{share:.6f}" if mode == "step" else "",
                "loss_difference": f"{max(one['loss'] for one in different):.1e}" if different else "",
                "gradient_difference": f"{max(one['parameters'] for one in different):.1e}" if different else "",
                "extra_bytes": str(memory[provider]) if mode == "loss" and provider in memory else "",
                "processes": str(len(runs)),
                "rounds": str(len(theirs)),
            }
        )
    return rows
