"""What a ranking answers beyond its histogram: relevant items among the first n, and interpolated precision.

``HistogramRanking`` answers from the counts alone (mean or bounds over the orders of tied items); ``StableRanking``
goes through the codes again, because gallery order is not in the counts. Both answer on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..ops.hamming_histogram import hamming_histogram_op
from ..ops.stable_ranks import exact_sums, stable_precision_sum, stable_ranks
from ._discount import discount_sums
from .average_precision import average_precision_of, divide_or_zero

_RANKS = 1 << 22
"""Ranks of relevant items that exist at a time (32 MiB)."""


class Ranking(Protocol):
    """The gallery in the order of distance, for every query."""

    def average_precision(self, topk: int | None, denominator: str) -> Tensor:
        """AP ``[Q]``, float64."""

    def relevant_within(self, ranks: Tensor) -> Tensor:
        """Relevant items among the first ``ranks`` ``[M]`` (ascending, in [0, G]) items, float64 ``[Q, M]``."""

    def precision_at_recall(self, levels: Tensor) -> Tensor:
        """Interpolated precision at recall ``levels`` ``[M]`` (ascending, in [0, 1]), float64 ``[Q, M]``."""

    def discounted_gain(self, n: int) -> Tensor:
        """DCG@n of relevant items, ``sum 1 / log2(1 + rank)`` over their ranks <= n, float64 ``[Q]``."""


@dataclass(frozen=True, eq=False)
class LabelledCodes:
    """Queries and a gallery as the ops take them: labels in any form they know, planes of the gallery where there are.

    Nobody writes to them while they are used.
    """

    q: Tensor
    g: Tensor
    q_labels: Tensor
    g_labels: Tensor
    bits: int
    planes: Tensor | None = None

    def histogram(self) -> Tensor:
        """Items and relevant items per distance, on the device of the codes."""
        out: Tensor = hamming_histogram_op(self.q, self.g, self.q_labels, self.g_labels, self.bits, self.planes)
        return out

    def stable_ranks(self, histogram: Tensor, rows: slice) -> Tensor:
        """Ranks in gallery order of the relevant items of the queries in ``rows``."""
        counts = histogram[rows].to(self.q.device)
        return stable_ranks(self.q[rows], self.g, self.q_labels[rows], self.g_labels, counts, self.planes)

    def stable_precision_sum(self, histogram: Tensor, limit: int, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exact sums of precisions at the relevant items up to rank ``limit``, and the number of these items."""
        counts = histogram.to(self.q.device)
        return stable_precision_sum(self.q, self.g, self.q_labels, self.g_labels, counts, limit, self.planes, shift)


def items_needed(levels: Tensor, relevant: Tensor) -> Tensor:
    """The number of relevant items that reach a recall level, int64 ``[Q, M]``, at least 1.

    ``0.7 * 10`` is a little more than 7 in floating point: a few units in the last place are forgiven.
    """
    reached = levels * relevant.unsqueeze(1) * (1 - 4 * torch.finfo(torch.float64).eps)
    return torch.ceil(reached).to(torch.int64).clamp(min=1)


def _largest_from_here(values: Tensor) -> Tensor:
    """The running maximum from the right."""
    return values.flip(1).cummax(1).values.flip(1) if values.shape[1] else values


def _places_within(lengths: Tensor) -> Tensor:
    """0, 1, ... within each of the parts of these ``lengths``, one behind the other."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device="cpu") - starts.repeat_interleave(lengths)


@dataclass(frozen=True, eq=False)
class HistogramRanking:
    """Ties by ``ties``: "expected", "optimistic" or "pessimistic"."""

    histogram: Tensor
    ties: str

    def average_precision(self, topk: int | None, denominator: str) -> Tensor:
        """AP of every query."""
        return average_precision_of(self.histogram, topk, self.ties, denominator)

    def relevant_within(self, ranks: Tensor) -> Tensor:
        """Whole buckets, and the mean or a bound for the places in the bucket that the rank cuts."""
        n, r = self.histogram.unbind(-1)
        up_to, relevant_up_to = n.cumsum(1), r.cumsum(1)
        bucket = torch.searchsorted(up_to, ranks.expand(n.shape[0], -1).contiguous()).clamp(max=n.shape[1] - 1)
        items, relevant = n.gather(1, bucket), r.gather(1, bucket)
        places = ranks - (up_to.gather(1, bucket) - items)
        before = relevant_up_to.gather(1, bucket) - relevant
        if self.ties == "optimistic":
            return (before + relevant.minimum(places)).to(torch.float64)
        if self.ties == "pessimistic":
            return (before + (places - items + relevant).clamp(min=0)).to(torch.float64)
        return before + places * divide_or_zero(relevant, items)

    def discounted_gain(self, n: int) -> Tensor:
        """The gain is linear: the mean over orders gives every place of a bucket its share of relevant items."""
        items, relevant = self.histogram.numpy().reshape(-1, 2).T
        before = self.histogram[..., 0].cumsum(1).numpy().reshape(-1) - items
        cells = np.flatnonzero((relevant > 0) & (before < n))
        before, items, relevant = before[cells], items[cells], relevant[cells]
        places = np.minimum(n - before, items)
        if self.ties == "optimistic":
            gain = discount_sums(before, np.minimum(relevant, places))
        elif self.ties == "pessimistic":
            others = items - relevant
            gain = discount_sums(before + others, np.maximum(places - others, 0))
        else:
            gain = relevant / items * discount_sums(before, places)
        queries, buckets, _ = self.histogram.shape
        return torch.from_numpy(np.bincount(cells // buckets, weights=gain, minlength=queries))

    def precision_at_recall(self, levels: Tensor) -> Tensor:
        """The largest precision at the end of a bucket that reaches the level.

        On the end of a bucket the order of ties has no influence. The pessimistic order reaches no larger precision;
        the optimistic one has its best right behind the relevant items.
        """
        n, r = self.histogram.unbind(-1)
        up_to, relevant_up_to = n.cumsum(1), r.cumsum(1)
        ends = up_to - (n - r) if self.ties == "optimistic" else up_to
        best = _largest_from_here(divide_or_zero(relevant_up_to, ends))
        needed = items_needed(levels, relevant_up_to[:, -1])
        bucket = torch.searchsorted(relevant_up_to, needed)
        reached = bucket < n.shape[1]  # not where there are no relevant items
        return torch.where(reached, best.gather(1, bucket.clamp(max=n.shape[1] - 1)), 0.0)


def stable_average_precision(total: Tensor, found: Tensor, histogram: Tensor, limit: int, denominator: str) -> Tensor:
    """AP ``[Q]`` from the sums of precisions at the ``found`` relevant items up to rank ``limit``."""
    if denominator == "found":
        return divide_or_zero(total, found)
    relevant_items = histogram[..., 1].sum(1)
    return divide_or_zero(total, relevant_items if denominator == "relevant" else relevant_items.clamp(max=limit))


@dataclass(frozen=True, eq=False)
class StableRanking:
    """Ties in gallery order, counted in another pass over the codes. Keeps the codes and labels."""

    histogram: Tensor
    codes: LabelledCodes

    def average_precision(self, topk: int | None, denominator: str) -> Tensor:
        """AP of every query."""
        gallery = self.codes.g.shape[0]
        limit = gallery if topk is None else min(topk, gallery)
        sums, found = (part.cpu() for part in self.codes.stable_precision_sum(self.histogram, limit))
        return stable_average_precision(exact_sums(sums), found, self.histogram, limit, denominator)

    def _blocks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """``(queries, number of relevant items [B], their ranks, one query behind the other)``, int64 on the CPU.

        Blocks of at most ``_RANKS`` ranks, or of one query.
        """
        relevant_items = self.histogram[..., 1].sum(1)
        ends, start = relevant_items.cumsum(0), 0
        while start < ends.shape[0]:
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(torch.searchsorted(ends, before + _RANKS, right=True)))
            rows, start = slice(start, stop), stop
            yield rows, relevant_items[rows], self.codes.stable_ranks(self.histogram, rows).cpu()

    def relevant_within(self, ranks: Tensor) -> Tensor:
        """How many ranks are not above each of ``ranks``, by bisection."""
        out = torch.empty((self.histogram.shape[0], ranks.shape[0]), dtype=torch.float64, device="cpu")
        above_all = self.codes.g.shape[0] + 1
        for rows, count, places in self._blocks():
            offset = above_all * torch.arange(count.shape[0], device="cpu")  # makes the ranks of all queries ascend
            ends = torch.searchsorted(places + offset.repeat_interleave(count), ranks + offset.unsqueeze(1), right=True)
            out[rows] = (ends - (count.cumsum(0) - count).unsqueeze(1)).to(torch.float64)
        return out

    def precision_at_recall(self, levels: Tensor) -> Tensor:
        """The largest precision at a relevant item that reaches the level: the largest between every two levels, then
        from the right."""
        out = torch.empty((self.histogram.shape[0], levels.shape[0]), dtype=torch.float64, device="cpu")
        for rows, count, places in self._blocks():
            precision = _places_within(count).to(torch.float64).add_(1).div_(places)
            starts = (items_needed(levels, count) - 1).minimum(count.unsqueeze(1))
            bounds = torch.cat((torch.zeros_like(count).unsqueeze(1), starts, count.unsqueeze(1)), dim=1)
            best = torch.segment_reduce(precision, "max", lengths=bounds.diff(dim=1).flatten(), initial=0.0)
            out[rows] = _largest_from_here(best.view(count.shape[0], -1)[:, 1:])
        return out

    def discounted_gain(self, n: int) -> Tensor:
        """The sum of the discounts of the relevant items, rank by rank."""
        out = torch.empty(self.histogram.shape[0], dtype=torch.float64, device="cpu")
        for rows, count, places in self._blocks():
            discounts = torch.where(places <= n, 1 / torch.log2(1 + places.to(torch.float64)), 0.0)
            out[rows] = torch.segment_reduce(discounts, "sum", lengths=count, initial=0.0)
        return out
