"""Dead and saturated bits over training (the paper's Fig. 5), and precision-recall curves: of runs (its Fig. 4), and of
one evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...retrieval import EvaluationResult
from ..results import RunResult
from .style import WITH, WITHOUT, dress, line_of, new_figure


def dead_bits_figure(runs: Sequence[RunResult], tau: float) -> Any:
    """Dead bits (left) and saturated bits (right) per training step, mean of each epoch."""
    figure = new_figure(10.0, 3.9)
    left, right = figure.subplots(1, 2)
    bits = round(runs[0].epochs[0].bits)
    for run in runs:
        # a lone epoch is a point, which a line does not show
        style = {**line_of(run.rdh), "marker": "o" if len(run.epochs) == 1 else None, "label": run.label}
        epochs = [record.epoch + 1 for record in run.epochs]
        left.plot(epochs, [record.dead for record in run.epochs], **style)
        right.plot(epochs, [record.saturated for record in run.epochs], **style)
    ylabel = f"bits per step, of {bits:,}"
    dress(left, title="Dead bits: saturated on the wrong side", xlabel="epoch", ylabel=ylabel)
    dress(right, title=f"Saturated bits: |h| ≥ {tau:g}", xlabel="epoch", ylabel=ylabel)
    for axes in (left, right):
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=9)
    return figure


def pr_figure(runs: Sequence[RunResult], bits: int) -> Any:
    """Precision against recall, one point per Hamming radius from 0 to K."""
    figure = new_figure(5.6, 4.4)
    axes = figure.subplots()
    for run in runs:
        e = run.evaluation
        # a radius within which no query finds anything has no precision
        points = [(r, p) for r, p, n in zip(e.recall, e.precision, e.queries, strict=True) if n]
        axes.plot(*zip(*points, strict=True), label=f"{run.label} (mAP {e.map:.3f})", marker=".", **line_of(run.rdh))
    dress(axes, title=f"Precision and recall, {bits} bits", xlabel="recall", ylabel="precision")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def evaluation_figure(result: EvaluationResult) -> Any:
    """Precision against recall within radius 0 to K, and, where the order of tied items is known, interpolated."""
    figure = new_figure(5.6, 4.4)
    axes = figure.subplots()
    curve = result.pr_curve(by="radius")
    points = [(r, p) for r, p, n in zip(*map(list, (curve.recall, curve.precision, curve.queries)), strict=True) if n]
    if points:
        axes.plot(*zip(*points, strict=True), label="within radius 0 to K", marker=".", **WITH)
    if result.ties != "stable" and result.gallery:
        levels = result.pr_curve(by="recall")
        axes.plot(levels.recall, levels.precision, label="interpolated", **WITHOUT)
    depth = "" if result.topk is None else f"@{result.topk:,}"
    title = f"{result.gallery:,} codes of {result.bits} bits: mAP{depth} {result.map:.4f}"
    dress(axes, title=title, xlabel="recall", ylabel="precision")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure
