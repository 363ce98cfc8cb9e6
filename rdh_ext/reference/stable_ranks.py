"""Pure torch: where relevant items stand in gallery order, by counting: one stable sort per tile, none of a gallery."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .._labels import similarity_tile
from ._tiles import distance_tiles, label_columns, label_rows, row_blocks

_DIGITS = 46
"""Bits of the second and the third part of a sum."""
_COLUMNS = 1 << 16
"""Terms that an integer holds the sum of."""


def _ranked_tiles(
    q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, histogram: Tensor, shift: Tensor | None = None
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """``(queries, relevant, rank, rank among the relevant)`` over all pairs, ranks from 1, int64 ``[B, tile]``.

    The rank is the number of items at a smaller distance, plus those of the same distance in the tiles before, plus the
    place within the own tile; and what ``shift`` adds at the distance.
    """
    for rows in row_blocks(q.shape[0]):
        seen = histogram[rows].cumsum(1) - histogram[rows]  # [B, K + 1, 2]: what comes before the next at a distance
        if shift is not None:
            seen = seen + shift[rows]
        for columns, distances in distance_tiles(q[rows], g, histogram.shape[1] - 1, label_columns(g_labels)):
            distance, order = distances.to(torch.int16).sort(dim=1, stable=True)
            distance = distance.to(torch.int64)
            relevant = similarity_tile(q_labels[rows], label_rows(g_labels, columns)).gather(1, order)
            here = torch.ones_like(relevant, dtype=torch.int64), relevant.to(torch.int64)
            ranks = []
            for kind, counted in enumerate(here):
                tile = torch.zeros_like(seen[..., kind]).scatter_add_(1, distance, counted)
                offset = seen[..., kind] - (tile.cumsum(1) - tile)
                ranks.append(offset.gather(1, distance) + counted.cumsum(1))
                seen[..., kind] += tile
            yield rows, relevant, ranks[0], ranks[1]


def stable_ranks(
    q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, histogram: Tensor, planes: Tensor | None = None
) -> Tensor:
    """The n-th relevant item of a query goes to place n of the query's part of the result."""
    relevant_items = histogram[..., 1].sum(1)
    first = relevant_items.cumsum(0) - relevant_items
    ranks = torch.empty(int(relevant_items.sum()), dtype=torch.int64, device=q.device)
    for rows, relevant, rank, relevant_rank in _ranked_tiles(q, g, q_labels, g_labels, histogram):
        place = first[rows].unsqueeze(1) + relevant_rank - 1
        ranks[place[relevant]] = rank[relevant]
    return ranks


def stable_precision_sum(
    q: Tensor,
    g: Tensor,
    q_labels: Tensor,
    g_labels: Tensor,
    histogram: Tensor,
    limit: int,
    shift: Tensor | None = None,
    planes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums of ``(rank among the relevant) / rank``, tile by tile: of each term the multiples of 2^-46, and the rest,
    which is one of 2^-92, in integers; carried after every tile."""
    sums = torch.zeros((q.shape[0], 3), dtype=torch.int64, device=q.device)
    found = torch.zeros(q.shape[0], dtype=torch.int64, device=q.device)
    for rows, relevant, rank, relevant_rank in _ranked_tiles(q, g, q_labels, g_labels, histogram, shift):
        counted = relevant & (rank <= limit)
        terms = torch.where(counted, relevant_rank.to(torch.float64).div_(rank), 0.0).mul_(2.0**_DIGITS)
        coarse = terms.round()
        fine = terms.sub_(coarse).mul_(2.0**_DIGITS).to(torch.int64)
        for part, digits in ((1, coarse.to(torch.int64)), (2, fine)):
            for columns in digits.split(_COLUMNS, 1):
                sums[rows, part] += columns.sum(1)
                _carry(sums, rows)
        found[rows] += counted.sum(1)
    return sums, found


def _carry(sums: Tensor, rows: slice) -> None:
    """Leaves parts in [0, 2^46)."""
    for part in (2, 1):
        sums[rows, part - 1] += sums[rows, part] >> _DIGITS
        sums[rows, part] &= (1 << _DIGITS) - 1
