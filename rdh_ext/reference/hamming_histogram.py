"""Pure torch: per query and distance, the number of gallery items and of relevant ones."""

from __future__ import annotations

import torch
from torch import Tensor

from .._labels import similarity_tile
from ._tiles import distance_tiles, label_columns, label_rows, row_blocks


def hamming_histogram(
    q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, bits: int, planes: Tensor | None = None
) -> Tensor:
    """Counts ``(query, distance, relevant)`` keys of every tile; the column of all items is the sum at the end."""
    bins = bits + 1
    histogram = torch.zeros((q.shape[0], bins, 2), dtype=torch.int64, device=q.device)
    for rows in row_blocks(q.shape[0]):
        block = histogram[rows]
        first_key = torch.arange(0, block.numel(), 2 * bins, device=q.device).unsqueeze(1)
        for columns, distance in distance_tiles(q[rows], g, bits, label_columns(g_labels)):
            relevant = similarity_tile(q_labels[rows], label_rows(g_labels, columns))
            key = distance.mul_(2).to(torch.int64).add_(relevant).add_(first_key)
            block += torch.bincount(key.view(-1), minlength=block.numel()).view_as(block)
    histogram[..., 0] += histogram[..., 1]
    return histogram
