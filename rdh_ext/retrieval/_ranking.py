"""What a ranking answers beyond its histogram: relevant items among the first n, and interpolated precision.

``HistogramRanking`` answers from the counts alone (mean or bounds over the orders of tied items); ``StableRanking``
goes through the codes again, because gallery order is not in the counts. Both answer on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .._labels import similarity_tile
from ..reference._tiles import distance_tiles, label_columns, row_blocks
from .average_precision import average_precision, divide_or_zero


class Ranking(Protocol):
    """The gallery in the order of distance, for every query."""

    def average_precision(self, topk: int | None, denominator: str) -> Tensor:
        """AP ``[Q]``, float64."""

    def relevant_within(self, ranks: Tensor) -> Tensor:
        """Relevant items among the first ``ranks`` ``[M]`` (ascending, in [0, G]) items, float64 ``[Q, M]``."""

    def precision_at_recall(self, levels: Tensor) -> Tensor:
        """Interpolated precision at recall ``levels`` ``[M]`` (ascending, in [0, 1]), float64 ``[Q, M]``."""


def items_needed(levels: Tensor, relevant: Tensor) -> Tensor:
    """The number of relevant items that reach a recall level, int64 ``[Q, M]``, at least 1.

    ``0.7 * 10`` is a little more than 7 in floating point: a few units in the last place are forgiven.
    """
    reached = levels * relevant.unsqueeze(1) * (1 - 4 * torch.finfo(torch.float64).eps)
    return torch.ceil(reached).to(torch.int64).clamp(min=1)


def _largest_from_here(values: Tensor) -> Tensor:
    """The running maximum from the right."""
    return values.flip(1).cummax(1).values.flip(1) if values.shape[1] else values


@dataclass(frozen=True, eq=False)
class HistogramRanking:
    """Ties by ``ties``: "expected", "optimistic" or "pessimistic"."""

    histogram: Tensor
    ties: str

    def average_precision(self, topk: int | None, denominator: str) -> Tensor:
        """AP of every query."""
        return average_precision(self.histogram, topk=topk, ties=self.ties, denominator=denominator)

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


@dataclass(frozen=True, eq=False)
class StableRanking:
    """Ties in gallery order, by counting: one stable sort per tile, never of a gallery. Keeps the codes and labels."""

    histogram: Tensor
    q: Tensor
    g: Tensor
    q_labels: Tensor
    g_labels: Tensor
    bits: int

    def _tiles(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """``(queries, relevant, rank, rank among the relevant)`` over all pairs, ranks from 1, int64 ``[B, tile]``.

        The rank is the number of items at a smaller distance, plus those of the same distance in the tiles before, plus
        the place within the own tile.
        """
        for rows in row_blocks(self.q.shape[0]):
            counts = self.histogram[rows].to(self.q.device)
            seen = counts.cumsum(1) - counts  # [B, K + 1, 2]: what comes before the next item at a distance
            for columns, distances in distance_tiles(self.q[rows], self.g, self.bits, label_columns(self.g_labels)):
                distance, order = distances.to(torch.int16).sort(dim=1, stable=True)
                distance = distance.to(torch.int64)
                relevant = similarity_tile(self.q_labels[rows], self.g_labels[columns]).gather(1, order)
                here = torch.ones_like(relevant, dtype=torch.int64), relevant.to(torch.int64)
                ranks = []
                for kind, counted in enumerate(here):
                    tile = torch.zeros_like(seen[..., kind]).scatter_add_(1, distance, counted)
                    offset = seen[..., kind] - (tile.cumsum(1) - tile)
                    ranks.append(offset.gather(1, distance) + counted.cumsum(1))
                    seen[..., kind] += tile
                yield rows, relevant, ranks[0], ranks[1]

    def average_precision(self, topk: int | None, denominator: str) -> Tensor:
        """AP of every query."""
        relevant_items = self.histogram[..., 1].sum(1)
        limit = self.g.shape[0] if topk is None else min(topk, self.g.shape[0])
        total = torch.zeros_like(relevant_items, dtype=torch.float64)
        found = torch.zeros_like(relevant_items)
        for rows, relevant, rank, relevant_rank in self._tiles():
            counted = relevant & (rank <= limit)
            total[rows] += torch.where(counted, relevant_rank.to(torch.float64).div_(rank), 0.0).sum(1).cpu()
            found[rows] += counted.sum(1).cpu()
        if denominator == "found":
            return divide_or_zero(total, found)
        return divide_or_zero(total, relevant_items if denominator == "relevant" else relevant_items.clamp(max=limit))

    def relevant_within(self, ranks: Tensor) -> Tensor:
        """Counts the relevant items between every two of ``ranks``, then sums them up."""
        out = torch.zeros((self.q.shape[0], ranks.shape[0] + 1), dtype=torch.int64, device="cpu")
        ends = ranks.to(self.q.device)
        for rows, relevant, rank, _ in self._tiles():
            block = torch.zeros((rank.shape[0], out.shape[1]), dtype=torch.int64, device=rank.device)
            out[rows] += block.scatter_add_(1, torch.searchsorted(ends, rank), relevant.to(torch.int64)).cpu()
        return out[:, :-1].cumsum(1).to(torch.float64)

    def precision_at_recall(self, levels: Tensor) -> Tensor:
        """The largest precision at a relevant item that reaches the level."""
        needed = items_needed(levels, self.histogram[..., 1].sum(1))
        out = torch.zeros((self.q.shape[0], levels.shape[0] + 1), dtype=torch.float64, device="cpu")
        for rows, relevant, rank, relevant_rank in self._tiles():
            reached = torch.searchsorted(needed[rows].to(rank.device), relevant_rank, right=True)
            precision = torch.where(relevant, relevant_rank.to(torch.float64).div_(rank), 0.0)
            block = torch.zeros((rank.shape[0], out.shape[1]), dtype=torch.float64, device=rank.device)
            block.scatter_reduce_(1, reached, precision, "amax")
            out[rows] = torch.maximum(out[rows], block.cpu())
        return _largest_from_here(out[:, 1:])
