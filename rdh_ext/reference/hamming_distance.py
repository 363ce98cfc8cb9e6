"""Pure torch: all Hamming distances between two sets of packed codes."""

from __future__ import annotations

import torch
from torch import Tensor

from ._tiles import distance_tiles, row_blocks


def hamming_distance(q: Tensor, g: Tensor, planes: Tensor | None = None) -> Tensor:
    """Number of differing bits of every pair. Pad places are equal (0) on both sides, so whole bytes are compared."""
    out = torch.empty((q.shape[0], g.shape[0]), dtype=torch.int16, device=q.device)
    for rows in row_blocks(q.shape[0]):
        for columns, distance in distance_tiles(q[rows], g, 8 * q.shape[1]):
            out[rows, columns] = distance.to(torch.int16)
    return out
