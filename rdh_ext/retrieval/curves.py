"""Precision-recall curves, averaged over queries, from a histogram and a ranking."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from ._ranking import Ranking
from .average_precision import divide_or_zero

CURVES = ("radius", "rank", "recall")
_ALL_RANKS = 256
_RANK_POINTS = 200
_RECALL_LEVELS = 101


@dataclass(frozen=True, eq=False)
class PRCurve:
    """Points of a precision-recall curve, in the order of ``at``.

    Attributes:
        by: what the points stand for: "radius", "rank" or "recall".
        at: int64 ``[M]`` radii or ranks, or float64 ``[M]`` recall levels.
        precision: float64 ``[M]``, mean over queries.
        recall: float64 ``[M]``, mean over queries; the levels themselves with "recall".
        queries: int64 ``[M]``, over how many queries the precision is a mean.

    Example:
        >>> histogram = torch.tensor([[[1, 1], [2, 1], [0, 0]]])  # all and relevant items at distance 0, 1 and 2
        >>> curve = rdh_ext.retrieval.evaluate_histogram(histogram).pr_curve("radius")
        >>> [round(value, 2) for value in curve.precision.tolist()], curve.recall.tolist()
        ([1.0, 0.67, 0.67], [0.5, 1.0, 1.0])
    """

    by: str
    at: Tensor
    precision: Tensor
    recall: Tensor
    queries: Tensor

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        columns = {name: getattr(self, name).tolist() for name in ("at", "precision", "recall", "queries")}
        return {"by": self.by, **columns}


def mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """The mean over the rows in ``counted`` (bool ``[Q]`` or ``[Q, M]``) of ``values`` ``[Q, M]``; 0 without any."""
    counted = (counted if counted.dim() == 2 else counted.unsqueeze(1)).expand_as(values)
    return divide_or_zero(torch.where(counted, values, 0.0).sum(0), counted.sum(0))


def within_radius(histogram: Tensor) -> tuple[Tensor, Tensor]:
    """Items and relevant items at distance ``<= r``, int64 ``[Q, K + 1]`` each."""
    items, relevant = histogram.cumsum(1).unbind(-1)
    return items, relevant


def default_ranks(gallery: int) -> Tensor:
    """All ranks of a small gallery, else about 200 of them, evenly spaced in their logarithm, with both ends."""
    if gallery <= _ALL_RANKS:
        return torch.arange(1, gallery + 1, device="cpu")
    exponents = torch.linspace(0, 1, _RANK_POINTS, dtype=torch.float64, device="cpu")
    ranks = torch.round(float(gallery) ** exponents).clamp(1, gallery).to(torch.int64)
    return torch.tensor(sorted(set(ranks.tolist())), dtype=torch.int64, device="cpu")


def _points(op: str, by: str, at: Sequence[float] | None, bits: int, gallery: int) -> Tensor:
    """The points to look at, checked and ascending. Tensors and arrays are sequences too."""
    if at is None:
        if by == "radius":
            return torch.arange(bits + 1, device="cpu")
        if by == "rank":
            return default_ranks(gallery)
        return torch.arange(_RECALL_LEVELS, dtype=torch.float64, device="cpu") / (_RECALL_LEVELS - 1)
    if hasattr(at, "tolist"):
        at = at.tolist()
    if isinstance(at, str) or not isinstance(at, Iterable):
        checks.fail_type(op, "at", f"a sequence of {by} values, or None", at)
    if by == "recall":
        expected, above = "recall levels in [0, 1]", math.nextafter(1.0, 2.0)
        levels = {checks.check_real(op, "at", value, low=0.0, high=above, expected=expected) for value in at}
        return torch.tensor(sorted(levels), dtype=torch.float64, device="cpu")
    low, high, expected = (0, bits, f"radii in [0, {bits}]")
    if by == "rank":
        low, high, expected = (1, sys.maxsize, "ranks in [1, 2^63)")
    points = {checks.check_integer(op, "at", v, low=low, high=high, expected=expected) for v in at}
    return torch.tensor(sorted(points), dtype=torch.int64, device="cpu")


def pr_curve(
    histogram: Tensor, ranking: Ranking, counted: Tensor, gallery: int, *, by: str, at: Sequence[float] | None = None
) -> PRCurve:
    """The curve over the queries in ``counted`` (bool ``[Q]``): what ``EvaluationResult.pr_curve`` returns."""
    op = "pr_curve"
    checks.check_choice(op, "by", by, CURVES)
    points = _points(op, by, at, histogram.shape[1] - 1, gallery)
    relevant_items = histogram[..., 1].sum(1, keepdim=True)
    queries = counted.sum().expand(points.shape[0]).clone()
    if by == "radius":
        items, relevant = (part[:, points] for part in within_radius(histogram))
        not_empty = counted.unsqueeze(1) & (items > 0)
        precision = mean_over(divide_or_zero(relevant, items), not_empty)
        recall = mean_over(divide_or_zero(relevant, relevant_items), counted)
        return PRCurve(by, points, precision, recall, not_empty.sum(0))
    if by == "rank":
        ranks = points.clamp(max=gallery)
        found = ranking.relevant_within(ranks)
        precision = mean_over(divide_or_zero(found, ranks.expand_as(found)), counted)
        return PRCurve(by, points, precision, mean_over(divide_or_zero(found, relevant_items), counted), queries)
    precision = mean_over(ranking.precision_at_recall(points), counted)
    return PRCurve(by, points, precision, points.clone(), queries)
