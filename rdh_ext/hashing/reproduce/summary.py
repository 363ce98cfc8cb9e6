"""Means, standard deviations and confidence intervals over seeds. No torch in here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from .grid import Cell, Grid

Measure = Callable[[Mapping[str, Any]], float]
"""A number of one training, from its results."""

# quantiles 0.975 of Student's t for 1, 2, ... degrees of freedom
_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)
_Z = 1.959964


def t_quantile(freedom: int) -> float:
    """The 0.975 quantile of Student's t, to four decimals.

    Example:
        >>> from rdh_ext.hashing.reproduce.summary import t_quantile
        >>> t_quantile(4), round(t_quantile(60), 3)
        (2.7764, 2.0)
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    # Fisher's expansion; its error is below 1e-4 from 31 degrees on
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of n - 1) of some values."""

    n: int
    mean: float | None
    """None without a value."""
    std: float | None
    """None with fewer than two."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of these values."""
        every = list(values)
        return cls(len(every), fmean(every) if every else None, stdev(every) if len(every) > 1 else None)

    @property
    def half(self) -> float | None:
        """Half the width of the 95 % confidence interval of the mean; None with fewer than two values."""
        return None if self.std is None else t_quantile(self.n - 1) * self.std / math.sqrt(self.n)


def paired(values: Mapping[int, float], others: Mapping[int, float]) -> dict[int, float]:
    """Differences ``values - others`` of the seeds that both have."""
    return {seed: values[seed] - others[seed] for seed in sorted(values) if seed in others}


def mean_of(columns: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean of several cells, seed by seed; seeds that one of them does not have are left out."""
    if not columns:
        return {}
    return {seed: fmean(column[seed] for column in columns) for seed in columns[0] if all(seed in c for c in columns)}


def mean_ap(results: Mapping[str, Any]) -> float:
    """mAP of the data set's depth."""
    return float(results["map"])


def dead(results: Mapping[str, Any]) -> float:
    """Dead bits per step, mean of the last tenth of the epochs (of the last one, if there are fewer than ten)."""
    return late(results, "dead")


def late(results: Mapping[str, Any], column: str) -> float:
    """A column of the epochs, mean of the last tenth of them."""
    epochs = results["epochs"]
    return fmean(epoch[column] for epoch in epochs[-max(1, len(epochs) // 10) :])


class Results:
    """What the trainings of a grid have given, those that are done.

    Args:
        grid: which there are.
        by_key: content of ``results.json`` by key.
    """

    def __init__(self, grid: Grid, by_key: Mapping[str, Mapping[str, Any]]) -> None:
        self.grid, self.by_key = grid, by_key

    def of(self, cell: Cell) -> dict[int, Mapping[str, Any]]:
        """By seed."""
        keys = {seed: self.grid.key(cell, seed) for seed in range(self.grid.options.seeds)}
        return {seed: self.by_key[key] for seed, key in keys.items() if key in self.by_key}

    def values(self, cell: Cell, measure: Measure) -> dict[int, float]:
        """A measure of every seed."""
        return {seed: measure(results) for seed, results in self.of(cell).items()}

    def label(self, cell: Cell) -> str:
        """``HashNet + RDH``."""
        return self.grid.method(cell).label
