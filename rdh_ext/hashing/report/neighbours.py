"""A grid of queries with their ten nearest images, framed and marked: same class or another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._extras import require
from ..data.splits import RetrievalData
from ..results import RunResult
from .style import new_figure

RIGHT, WRONG = "#009E73", "#D00000"
WIDTH, HEIGHT = 0.84, 0.66
"""Of an image, in cells of the grid; the rest of the cell is gap and note."""
FIRST = 1.6
"""Where the first neighbour stands, in cells."""
HARDEST = 4


def shown_queries(runs: Sequence[RunResult], data: RetrievalData) -> tuple[list[int], list[int]]:
    """The first query of each class, chosen by position and not by result; and the hardest of the others.

    The hardest have the lowest average precision, mean of all runs, so that none of them is favoured.
    """
    labels = data.query.labels.tolist()
    first = [labels.index(c) for c in sorted(set(labels))]
    mean_ap = [sum(values) for values in zip(*(run.evaluation.ap for run in runs), strict=True)]
    others = sorted(set(range(len(labels))) - set(first), key=lambda query: (mean_ap[query], query))
    return first, others[:HARDEST]


def neighbours_figure(runs: Sequence[RunResult], data: RetrievalData) -> Any:
    """Rows are queries; left block without RDH, right block with. Under each image its Hamming distance."""
    first, hardest = shown_queries(runs, data)
    shown = runs[0].neighbours.shape[1]
    block = shown + 0.6
    width, height = 1 + len(runs) * block, len(first) + len(hardest) + 1.1
    figure = new_figure(0.6 * width + 0.2, 0.76 * height)
    axes = figure.subplots()
    for number, run in enumerate(runs):
        title = f"{run.label}: the {shown} nearest, with Hamming distance"
        axes.text(FIRST + number * block, 0.22, title, va="bottom", fontsize=10.5, weight="bold")
    top = 0.3
    for heading, queries in (("the first query of each class", first), ("the hardest of the other queries", hardest)):
        axes.text(0.0, top + 0.24, heading, va="bottom", fontsize=9.5, style="italic")
        for row, query in enumerate(queries):
            _draw_row(axes, top + 0.32 + row, runs, data, query)
        top += len(queries) + 0.42
    axes.set_xlim(-0.1, width + 0.3)
    axes.set_ylim(height, -0.05)
    axes.axis("off")
    return figure


def _draw_row(axes: Any, y: float, runs: Sequence[RunResult], data: RetrievalData, query: int) -> None:
    vmax = float(data.gallery.images.max())
    _draw(axes, 0.0, y, data.query.images[query, 0].numpy(), vmax)
    _frame(axes, 0.0, y, "#888888", 0.8)
    for number, run in enumerate(runs):
        neighbours, distances = run.neighbours[query].tolist(), run.distances[query].tolist()
        for place, (item, distance) in enumerate(zip(neighbours, distances, strict=True)):
            x = FIRST + number * (len(neighbours) + 0.6) + place
            correct = bool(data.gallery.labels[item] == data.query.labels[query])
            colour, mark = (RIGHT, "\u2713") if correct else (WRONG, "\u2717")
            _draw(axes, x, y, data.gallery.images[item, 0].numpy(), vmax)
            _frame(axes, x, y, colour, 2.0)
            note = f"{mark} {distance}"
            axes.text(x + WIDTH / 2, y + HEIGHT + 0.03, note, ha="center", va="top", fontsize=8, color=colour)


def _draw(axes: Any, x: float, y: float, image: np.ndarray[Any, Any], vmax: float) -> None:
    extent = (x, x + WIDTH, y + HEIGHT, y)
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=vmax, extent=extent, aspect="auto", interpolation="nearest")


def _frame(axes: Any, x: float, y: float, colour: str, linewidth: float) -> None:
    rectangle = require("matplotlib.patches").Rectangle
    axes.add_patch(rectangle((x, y), WIDTH, HEIGHT, fill=False, edgecolor=colour, linewidth=linewidth))
