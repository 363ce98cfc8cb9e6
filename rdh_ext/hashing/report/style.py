"""The look of all figures: colours of Okabe and Ito, told apart with any colour vision, each with its line style."""

from __future__ import annotations

from typing import Any

from ..._extras import require

WITHOUT = {"color": "#D55E00", "linestyle": "-", "linewidth": 1.8}
WITH = {"color": "#0072B2", "linestyle": "--", "linewidth": 1.8}
THIRD = {"color": "#009E73", "linestyle": ":", "linewidth": 2.4}


def line_of(rdh: bool) -> dict[str, Any]:
    """Line style of a run."""
    return WITH if rdh else WITHOUT


def new_figure(width: float, height: float) -> Any:
    """A figure of ``width`` x ``height`` inches, drawn without a display and without matplotlib's global state."""
    figure = require("matplotlib.figure").Figure(figsize=(width, height), dpi=130, layout="constrained")
    require("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def dress(axes: Any, *, title: str, xlabel: str, ylabel: str) -> None:
    """Title, labels, a light grid, no box."""
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(xlabel, fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
