"""Pure torch: nearest codes, merged over tiles of the gallery."""

from __future__ import annotations

import torch
from torch import Tensor

from ._tiles import QUERY_ROWS, TILE, distance_tiles, row_blocks


def hamming_topk(q: Tensor, g: Tensor, k: int, planes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ``min(k, G)`` smallest keys ``distance * G + index``; no two are equal, so nothing is left to chance."""
    gallery = g.shape[0]
    k = min(k, gallery)
    distances = torch.empty((q.shape[0], k), dtype=torch.int16, device=q.device)
    indices = torch.empty((q.shape[0], k), dtype=torch.int64, device=q.device)
    for rows in row_blocks(q.shape[0], max(1, min(QUERY_ROWS, TILE // max(1, k)))):
        best = torch.empty((rows.stop - rows.start, 0), dtype=torch.int64, device=q.device)
        for columns, distance in distance_tiles(q[rows], g, 8 * q.shape[1]):
            index = torch.arange(columns.start, columns.stop, device=q.device)
            best = torch.cat((best, distance.to(torch.int64).mul_(gallery).add_(index)), dim=1)
            if best.shape[1] > k:
                best = torch.topk(best, k, dim=1, largest=False, sorted=False).values
        best = best.sort(dim=1).values
        distances[rows] = (best // max(1, gallery)).to(torch.int16)
        indices[rows] = best % max(1, gallery)
    return distances, indices
