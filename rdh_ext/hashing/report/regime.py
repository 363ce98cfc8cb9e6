"""How the demo's training regime was chosen, and what it showed on five seeds: measured once, written down here.

The numbers are of one machine and one version. Another one rounds differently, training multiplies the difference,
and a seed then gives another run of the same kind; the demo's own table is always the run that it describes.
"""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any, NamedTuple

CHOSEN_FOR = {"epochs": 200, "bits": 32}
"""Settings of the command line that the regime was chosen for."""


class SeedResult(NamedTuple):
    """One training."""

    map: float
    dead: float
    """Dead bits per step of 4,096, mean over all epochs."""


STUDY: dict[str, tuple[SeedResult, ...]] = {}
"""Seeds 0 to 4 of the demo's regime, by variant; the first two are what ``rdh demo --seed <seed>`` runs."""


def paragraph(settings: dict[str, Any]) -> str:
    """The section of the report, as Markdown."""
    other = [f"{name} {settings[name]}" for name, value in CHOSEN_FOR.items() if settings[name] != value]
    note = f" (This run has {' and '.join(other)}, for which it was not chosen.)" if other else ""
    return f"""{_HOW}{note}\n\n{_table()}\n\n{_OUTCOME}"""


def _table() -> str:
    lines = ["| seeds 0 to 4 | mAP of each | mean, standard deviation | dead bits per step |", "|---|---|---:|---:|"]
    for label, seeds in STUDY.items():
        maps = [result.map for result in seeds]
        each = ", ".join(f"{value:.3f}" for value in maps)
        dead = fmean(result.dead for result in seeds)
        lines.append(f"| {label} | {each} | {fmean(maps):.3f}, {stdev(maps):.3f} | {dead:.0f} |")
    return "\n".join(lines)


_HOW = ""
_OUTCOME = ""
