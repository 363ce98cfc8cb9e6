"""Figs. 4, 5 and 6 of the paper from what was measured: means over the seeds, and one standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..report.figure3 import gradient_figure
from ..report.style import WITH, dress, line_of, new_figure
from .grid import ABLATED, Cell
from .summary import Results, Spread, late, mean_ap

__all__ = ["CURVES", "dead_figure", "gradient_figure", "pr_figure", "sensitivity_figure"]

Curve = dict[str, list[float]]
"""Columns ``x``, ``mean`` and ``std``."""
_GREY = "#777777"


def pr_figure(results: Results) -> Any:
    """Precision at levels of recall: a panel for each method."""
    figure, panels = _panels(results, pr_curves(results), "recall", "precision")
    low = min((min(line.get_ydata()) for axes in panels for line in axes.get_lines()), default=0.0)
    for axes in panels:
        axes.set_xlim(0, 1.0)
        axes.set_ylim(max(0.0, math.floor(20 * (low - 0.02)) / 20), 1.01)
        _legend(axes, "lower left")
    return figure


def dead_figure(results: Results) -> Any:
    """Dead bits per step over the epochs: a panel for each method."""
    bits = {round(late(each, "bits")) for each in results.by_key.values() if _length(each) == results.grid.longest}
    of_all = f", of {bits.pop():,}" if len(bits) == 1 else ""
    figure, panels = _panels(results, dead_curves(results), "epoch", f"dead bits per step{of_all}")
    for axes in panels:
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
        axes.set_xlim(left=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(axes, "best")
    return figure


def sensitivity_figure(results: Results) -> Any:
    """mAP over tau and over eta, and without RDH."""
    grid = results.grid
    figure = new_figure(10.0, 4.4)
    both = figure.subplots(1, 2, sharey=True)
    plain = Spread.of(results.values(Cell(ABLATED, "plain", grid.longest), mean_ap).values())
    for axes, name, symbol in zip(both, ("tau", "eta"), ("$\\tau$", "$\\eta$"), strict=True):
        curve, own = sensitivity_curve(results, name), grid.own(name)
        values = [value for value, _ in grid.sensitivity(name)]
        if plain.mean is not None:
            label = results.label(Cell(ABLATED, "plain", grid.longest))
            axes.axhline(plain.mean, color=_GREY, linewidth=1.5, label=label)
            if plain.std is not None:
                axes.axhspan(plain.mean - plain.std, plain.mean + plain.std, color=_GREY, alpha=0.18, linewidth=0)
        if curve["x"]:
            places = [values.index(x) for x in curve["x"]]
            label = results.label(Cell(ABLATED, "rdh", grid.longest))
            axes.errorbar(places, curve["mean"], yerr=curve["std"], marker="o", capsize=4, label=label, **WITH)
        # the values are not evenly spaced, on any scale: each has its place
        axes.set_xticks(range(len(values)), [f"{value:g}{'*' if value == own else ''}" for value in values])
        axes.set_xlim(-0.4, len(values) - 0.6)
        other = {"tau": "eta", "eta": "tau"}[name]
        title = f"{grid.longest} bits, $\\{other}$ = {grid.own(other):g}"
        dress(axes, title=title, xlabel=f"{symbol}   (* the recipe's)", ylabel="mAP" if name == "tau" else "")
    handles, labels = both[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def pr_curves(results: Results) -> dict[Cell, Curve]:
    """Precision at 101 levels of recall."""
    return _curves(results, "fig4", _precision)


def dead_curves(results: Results) -> dict[Cell, Curve]:
    """Dead bits per step, mean of each epoch."""
    return _curves(results, "fig5", _dead)


def sensitivity_curve(results: Results, name: str) -> Curve:
    """mAP over ``tau`` or ``eta``; values without a training are left out."""
    points = []
    for value, cell in results.grid.sensitivity(name):
        spread = Spread.of(results.values(cell, mean_ap).values())
        if spread.mean is not None:
            points.append((value, spread.mean, spread.std or 0.0))
    return _columns(points)


def _named(curves: Mapping[Cell, Curve], x: str) -> list[dict[str, Any]]:
    return [
        {
            "method": cell.method,
            "variant": cell.variant,
            "bits": cell.bits,
            x: c["x"],
            "mean": c["mean"],
            "std": c["std"],
        }
        for cell, c in curves.items()
    ]


CURVES: dict[str, Callable[[Results], Any]] = {
    "fig4": lambda results: _named(pr_curves(results), "recall"),
    "fig5": lambda results: _named(dead_curves(results), "epoch"),
    "fig6": lambda results: {name: sensitivity_curve(results, name) for name in ("tau", "eta")},
}
"""Target -> what its lines are, for JSON."""


def _precision(result: Mapping[str, Any]) -> list[tuple[float, float]]:
    [curve] = [each for each in result["curves"] if each["by"] == "recall"]
    return list(zip(curve["recall"], curve["precision"], strict=True))


def _dead(result: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [(epoch["epoch"] + 1, epoch["dead"]) for epoch in result["epochs"]]


def _curves(
    results: Results, target: str, points_of: Callable[[Mapping[str, Any]], list[tuple[float, float]]]
) -> dict[Cell, Curve]:
    """The mean curve of every cell that has a training, over the points that all its seeds have."""
    curves = {}
    for cell in results.grid.cells(target):
        every = [dict(points_of(result)) for result in results.of(cell).values()]
        if every:
            common = [x for x in every[0] if all(x in points for points in every)]
            spreads = [Spread.of(points[x] for points in every) for x in common]
            curves[cell] = _columns([(x, s.mean or 0.0, s.std or 0.0) for x, s in zip(common, spreads, strict=True)])
    return curves


def _columns(points: Sequence[tuple[float, float, float]]) -> Curve:
    return {name: [point[place] for point in points] for place, name in enumerate(("x", "mean", "std"))}


def _panels(results: Results, curves: Mapping[Cell, Curve], xlabel: str, ylabel: str) -> tuple[Any, list[Any]]:
    """A panel for each method, with its two lines and their bands."""
    methods = results.grid.options.methods
    columns = min(3, len(methods)) if len(methods) != 4 else 2
    rows = -(-len(methods) // columns)
    figure = new_figure(max(5.0, 3.7 * columns), 3.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes, method in zip(grid, methods, strict=False):
        for variant in ("plain", "rdh"):
            cell = Cell(method, variant, results.grid.longest)
            if cell in curves:
                _line(axes, curves[cell], results.label(cell), line_of(variant == "rdh"))
        first = results.label(Cell(method, "plain", results.grid.longest))
        dress(axes, title=f"{first}, {results.grid.longest} bits", xlabel=xlabel, ylabel=ylabel)
    for axes in grid[len(methods) :]:
        axes.axis("off")
    return figure, grid[: len(methods)]


def _line(axes: Any, curve: Curve, label: str, style: Mapping[str, Any]) -> None:
    # a lone point is one that a line does not show
    axes.plot(curve["x"], curve["mean"], label=label, marker="o" if len(curve["x"]) == 1 else None, **style)
    low = [mean - std for mean, std in zip(curve["mean"], curve["std"], strict=True)]
    high = [mean + std for mean, std in zip(curve["mean"], curve["std"], strict=True)]
    axes.fill_between(curve["x"], low, high, color=style["color"], alpha=0.18, linewidth=0)


def _legend(axes: Any, place: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, loc=place)


def _length(result: Mapping[str, Any]) -> int:
    return int(result["recipe"]["bits"])
