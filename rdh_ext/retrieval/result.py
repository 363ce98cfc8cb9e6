"""What an evaluation returns: numbers that are there, and curves that are computed when asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from ._discount import discount_sums
from ._ranking import Ranking
from .average_precision import divide_or_zero
from .curves import PRCurve, mean_over, pr_curve, within_radius

EMPTY = ("zero", "skip", "error")


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Retrieval metrics of one set of queries. Immutable; all tensors are on the CPU.

    Every mean is over the same queries: all of them, or with ``empty="skip"`` those with a relevant item. A mean over
    no query is 0. ``topk`` limits :attr:`map` and :attr:`ap` only. Where the order of tied items matters, ``ties``
    decides: the mean over their orders, the largest or smallest value for the metric asked for, or gallery order.
    With ``ties="stable"`` the result keeps the codes and labels, and methods that need the order go through the
    gallery again, with the ranks of 4 million relevant items at a time, or of one query: some 200 MiB.

    Attributes:
        ap: float64 ``[Q]``, average precision of every query; NaN for one that ``empty="skip"`` leaves out.
        map: the mean of :attr:`ap`, its sum correctly rounded.
        queries_without_relevant: queries for which the gallery holds no relevant item.
        histogram: int64 ``[Q, K + 1, 2]``, items and relevant items per distance.
        queries, gallery, bits: Q, G and K.
        topk, ties, denominator, empty: as asked for.

    Example:
        >>> histogram = torch.tensor([[[1, 1], [2, 1], [0, 0]]])  # all and relevant items at distance 0, 1 and 2
        >>> result = rdh_ext.retrieval.evaluate_histogram(histogram)
        >>> print(result)
        mAP      0.9167  ties expected, denominator found
        P@H<=2   0.6667  empty balls score 0
        queries       1  0 find nothing relevant: they score 0
        gallery       3  codes of 2 bits
        >>> result.precision_at(1), result.recall_at(1), round(result.ndcg(), 4)
        (1.0, 0.5, 0.9599)
    """

    ap: Tensor
    map: float
    queries_without_relevant: int
    histogram: Tensor = field(repr=False)
    queries: int
    gallery: int
    bits: int
    topk: int | None
    ties: str
    denominator: str
    empty: str
    _ranking: Ranking = field(repr=False)

    @property
    def _counted(self) -> Tensor:
        """The queries that means are taken over, bool ``[Q]``."""
        return (self.histogram[..., 1].sum(1) > 0) | (self.empty != "skip")

    def _found(self, op: str, n: int) -> tuple[int, Tensor]:
        """The rank ``min(n, G)``, and the relevant items up to it, ``[Q, 1]``."""
        n = min(checks.check_integer(op, "n", n, low=1, expected="an integer >= 1"), self.gallery)
        return n, self._ranking.relevant_within(torch.tensor([n], device="cpu"))

    def precision_at(self, n: int) -> float:
        """P@n: the share of relevant items among the first ``min(n, G)``, averaged over queries.

        Raises:
            TypeError, ValueError: ``n`` is not an integer, or below 1.
        """
        n, found = self._found("precision_at", n)
        return float(mean_over(found / max(n, 1), self._counted))

    def recall_at(self, n: int) -> float:
        """R@n: the share of all relevant items that is among the first ``min(n, G)``, averaged over queries; 0 for a
        query without relevant items.

        Raises:
            TypeError, ValueError: ``n`` is not an integer, or below 1.
        """
        _, found = self._found("recall_at", n)
        relevant = self.histogram[..., 1].sum(1, keepdim=True)
        return float(mean_over(divide_or_zero(found, relevant), self._counted))

    def precision_within_radius(self, r: int) -> float:
        """P@H<=r: the share of relevant items at distance ``<= r``, averaged over queries; 0 for an empty ball.

        ``r > K`` means all. Ties have no influence.

        Raises:
            TypeError, ValueError: ``r`` is not an integer, or negative.
        """
        r = checks.check_integer("precision_within_radius", "r", r, low=0, expected="an integer >= 0")
        items, relevant = (part[:, min(r, self.bits)].unsqueeze(1) for part in within_radius(self.histogram))
        return float(mean_over(divide_or_zero(relevant, items), self._counted))

    def ndcg_per_query(self, n: int | None = None) -> Tensor:
        """NDCG@n of every query, see :meth:`ndcg`: float64 ``[Q]``, NaN for one that ``empty="skip"`` leaves out.

        Raises:
            TypeError, ValueError: as :meth:`ndcg`.
        """
        return self._ndcg("ndcg_per_query", n)

    def ndcg(self, n: int | None = None) -> float:
        """NDCG@n with binary gains, averaged over queries; 0 for a query without relevant items.

        DCG is the sum of ``1 / log2(1 + rank)`` over the relevant items among the first ``min(n, G)``, None means all;
        NDCG divides it by the largest value that so many relevant items can reach. With expected ties it is the mean
        over all orders of tied items (McSherry and Najork, ECIR 2008), which scikit-learn's ``ndcg_score`` computes
        too; with "optimistic" and "pessimistic" the largest and the smallest value. Sums of discounts are exact to a
        relative error of 1e-14, whatever the number of items at a distance.

        Raises:
            TypeError, ValueError: ``n`` is not an integer or None, or below 1.
        """
        values = self._ndcg("ndcg", n)
        return float(mean_over(values.unsqueeze(1), self._counted))

    def _ndcg(self, op: str, n: int | None) -> Tensor:
        expected = "an integer >= 1, or None for the whole gallery"
        n = self.gallery if n is None else checks.check_integer(op, "n", n, low=1, expected=expected)
        n = min(n, self.gallery)
        relevant = self.histogram[..., 1].sum(1)
        ideal = torch.from_numpy(discount_sums(torch.zeros_like(relevant), relevant.clamp(max=n)))
        values = torch.where(relevant > 0, self._ranking.discounted_gain(n) / ideal, 0.0)
        return torch.where(self._counted, values, math.nan)

    def pr_curve(self, by: str = "radius", at: Sequence[float] | None = None) -> PRCurve:
        """A precision-recall curve over the whole gallery, averaged over queries.

        - ``by="radius"``: what lies within distance r. The precision is a mean over the queries with a non-empty ball
          (their number is in ``queries``), the recall a mean over all. Ties have no influence.
        - ``by="rank"``: the first n items.
        - ``by="recall"``: interpolated precision, the largest at this recall or a higher one, at fixed levels. With
          expected (and pessimistic) ties it is taken at the ends of distances, where the order of ties has no
          influence.

        Args:
            by: "radius", "rank" or "recall".
            at: the radii, ranks or recall levels; None means all radii; all ranks up to G = 256 and else about 200
                from 1 to G, evenly spaced in their logarithm; 101 levels from 0 to 1.

        Raises:
            TypeError, ValueError: an unknown ``by``, points out of range.
        """
        return pr_curve(self.histogram, self._ranking, self._counted, self.gallery, by=by, at=at)

    def to_dict(self, per_query: bool = False) -> dict[str, Any]:
        """The settings and numbers that are there without another pass, for JSON; with ``per_query`` the AP of every
        query too (None where left out)."""
        numbers: dict[str, Any] = {
            "map": self.map,
            "precision_within_radius_2": self.precision_within_radius(2),
            "queries": self.queries,
            "queries_without_relevant": self.queries_without_relevant,
            "gallery": self.gallery,
            "bits": self.bits,
            "topk": self.topk,
            "ties": self.ties,
            "denominator": self.denominator,
            "empty": self.empty,
        }
        if per_query:
            numbers["ap"] = [None if math.isnan(value) else value for value in self.ap.tolist()]
        return numbers

    def __str__(self) -> str:
        depth = "" if self.topk is None else f"@{self.topk}"
        empty = {"zero": "they score 0", "skip": "left out", "error": "an error"}[self.empty]
        rows = (
            (f"mAP{depth}", f"{self.map:.4f}", f"ties {self.ties}, denominator {self.denominator}"),
            ("P@H<=2", f"{self.precision_within_radius(2):.4f}", "empty balls score 0"),
            ("queries", f"{self.queries:,}", f"{self.queries_without_relevant:,} find nothing relevant: {empty}"),
            ("gallery", f"{self.gallery:,}", f"codes of {self.bits} bits"),
        )
        name, value = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{row[0]:<{name}}  {row[1]:>{value}}  {row[2]}" for row in rows)


def make_result(
    op: str,
    histogram: Tensor,
    ranking: Ranking,
    *,
    gallery: int,
    topk: int | None,
    ties: str,
    denominator: str,
    empty: str,
) -> EvaluationResult:
    """The result for checked arguments: applies ``empty`` and computes the averages."""
    ap = ranking.average_precision(topk, denominator)
    without, queries = ap == 0, histogram.shape[0]
    missing = queries - int(torch.count_nonzero(ap))
    if missing:  # or they find something, but not among the first k
        without &= histogram[..., 1].sum(1) == 0
        missing = int(without.sum())
    if empty == "error" and missing:
        raise ValueError(
            f"{op}: every query must have a relevant item in the gallery with empty='error', "
            f"got {missing} of {queries} queries without one"
        )
    if empty == "skip" and missing:
        ap = torch.where(without, math.nan, ap)
    counted = queries - missing if empty == "skip" else queries
    scores = ap[~without] if empty == "skip" and missing else ap
    return EvaluationResult(
        ap=ap,
        map=math.fsum(scores.tolist()) / counted if counted else 0.0,
        queries_without_relevant=missing,
        histogram=histogram,
        queries=queries,
        gallery=gallery,
        bits=histogram.shape[1] - 1,
        topk=topk,
        ties=ties,
        denominator=denominator,
        empty=empty,
        _ranking=ranking,
    )
