"""Ratios of what processes have sampled, and bars that they have to hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

Run = dict[str, Any]  # what one process printed; under "samples" seconds per round of every provider


def mean(values: Iterable[float]) -> float:
    return fmean(values)


def ratios(runs: list[Run], slow: str, fast: str) -> list[float]:
    """One per process that has both: the median over rounds of slow / fast."""
    both = [run["samples"] for run in runs if slow in run["samples"] and fast in run["samples"]]
    return [median(a / b for a, b in zip(samples[slow], samples[fast], strict=False)) for samples in both]


@dataclass(frozen=True)
class Bar:
    """What has to hold, and what was found: None where it could not be measured."""

    shape: str
    what: str
    relation: str
    limit: float
    figure: float | None

    @property
    def held(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure >= self.limit if self.relation == ">=" else self.figure <= self.limit

    @property
    def verdict(self) -> str:
        return {True: "held", False: "MISSED", None: "not measured"}[self.held]

    def sentence(self) -> str:
        figure = "-" if self.figure is None else f"{self.figure:.4g}"
        return f"{self.verdict:12s} {self.shape:20s} {self.what}: {figure}, bar {self.relation} {self.limit:g}"

    def row(self) -> dict[str, str]:
        return {
            "shape": self.shape,
            "bar": self.what,
            "relation": self.relation,
            "limit": f"{self.limit:g}",
            "figure": "" if self.figure is None else f"{self.figure:.4g}",
            "verdict": self.verdict,
        }
