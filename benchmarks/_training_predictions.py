"""What the benchmark of a training step was expected to show, written before anything of it was measured.

Everything follows from three tables, in microseconds on one thread of the CPU that the other results come from.
``LOSS`` is the loss part, from benchmarks/results/{pairwise_loss,gradient_amplifier}_cpu.csv and what is not in
there: 40 for the update of the bank, 300 for S of 128 x 5,000, 60 for the weights of HashNet. ``REST`` is everything
else: mlp 80 million multiply-adds at 70 per ns, 295,000 parameters that SGD passes over four times, and 250 of calls;
AlexNet 91 billion multiply-adds forward, thrice that with its backward, at 50 per ns. ``COUNTS`` is what counting adds,
and the record of a step on top of it: a dozen small calls, of 3 each.
"""

from __future__ import annotations

PROVIDERS = ("rdh_ext", "obvious", "eager", "compiled")
LOSS = {
    "DPSH": dict(zip(PROVIDERS, (1_400.0, 7_000.0, 4_600.0, 3_200.0), strict=True)),
    "DPSH + RDH": dict(zip(PROVIDERS, (1_420.0, 280_000.0, 5_000.0, 3_300.0), strict=True)),
    "HashNet": dict(zip(PROVIDERS, (105.0, 480.0, 390.0, 240.0), strict=True)),
    "HashNet + RDH": dict(zip(PROVIDERS, (120.0, 5_800.0, 450.0, 250.0), strict=True)),
    "DHN": dict(zip(PROVIDERS, (105.0, 420.0, 370.0, 230.0), strict=True)),
    "DHN + RDH": dict(zip(PROVIDERS, (120.0, 5_700.0, 400.0, 240.0), strict=True)),
}
REST = {"mlp": 1_800.0, "alexnet": 5_500_000.0}
COUNTS = {  # of a method without RDH, with RDH
    "counting": (30.0, 8.0),
    "records": (70.0, 48.0),
}


def times(mode: str, backbone: str, label: str, provider: str) -> float:
    """A provider's time as a multiple of rdh_ext's: of the "loss" part or of a whole "step"."""
    loss = LOSS[label]
    rest = REST[backbone] if mode == "step" else 0.0
    if provider in COUNTS:
        return (rest + loss["rdh_ext"] + COUNTS[provider][label.endswith("RDH")]) / (rest + loss["rdh_ext"])
    return (rest + loss[provider]) / (rest + loss["rdh_ext"])


def share(backbone: str, label: str, provider: str) -> float:
    """Of the loss part in a step."""
    return LOSS[label][provider] / (REST[backbone] + LOSS[label][provider])
