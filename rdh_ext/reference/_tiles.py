"""Signs and distances of packed codes, tile by tile: what the Hamming references share.

Distances come from a float32 matrix product of signs, ``d = (K - q . g) / 2``: exact for every K the package takes, and
several times faster in plain PyTorch than looking bytes up in a popcount table. A tile stays within a core's cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TILE = 1 << 19
"""Pairs in a tile."""
QUERY_ROWS = 256
SIGNS = 1 << 22
"""Signs of gallery codes, or labels beside them, that are unpacked at a time (16 MiB)."""
CHUNK = 4096
"""Items of a chunk of bit planes: 8 words of a register, 8 registers, 64 bits of a word."""


def signs(codes: Tensor, bits: int) -> Tensor:
    """Bits as +-1, float32 ``[N, bits]``; places behind ``bits`` are not looked at."""
    out = torch.empty((codes.shape[0], bits), dtype=torch.float32, device=codes.device)
    for place in range(min(8, bits)):
        columns = out[:, place::8]
        columns.copy_((codes[:, : columns.shape[1]] >> place) & 1)
    return out.mul_(2).sub_(1)


def plane_rows(planes: Tensor, items: slice) -> Tensor:
    """The bits of ``items``, bool ``[len(items), bits]``."""
    item = torch.arange(items.start, items.stop, device=planes.device)
    words = planes[8 * (item // CHUNK) + item // 64 % 8, :, item // 512 % 8]
    return (words >> (item % 64).unsqueeze(1)) & 1 != 0


def label_columns(labels: Tensor) -> int:
    """Columns of labels: C of multi-hot rows or their planes, 1 of class ids."""
    return labels.shape[1] if labels.dim() > 1 else 1


def label_rows(labels: Tensor, items: slice) -> Tensor:
    """The labels of ``items`` as ids or bool rows, from any form that the ops take."""
    return plane_rows(labels, items) if labels.dim() == 3 else labels[items]


def row_blocks(queries: int, rows: int = QUERY_ROWS) -> Iterator[slice]:
    """Slices that cover ``queries`` rows."""
    for start in range(0, queries, rows):
        yield slice(start, min(start + rows, queries))


def distance_tiles(q: Tensor, g: Tensor, bits: int, classes: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """For the few queries in ``q``, over the gallery in order: ``(columns, distances float32 [Q, tile])``.

    ``classes``: columns of the multi-hot labels that the caller unpacks for the same gallery items.
    """
    negative_halves = signs(q, bits).mul_(-0.5)
    half = torch.full((1,), bits / 2, dtype=torch.float32, device=q.device)
    step = max(1, min(TILE // max(1, q.shape[0]), SIGNS // max(bits, classes)))
    for start in range(0, g.shape[0], step):
        columns = slice(start, min(start + step, g.shape[0]))
        tile = torch.empty((q.shape[0], columns.stop - start), dtype=torch.float32, device=q.device)
        # out= also keeps autocast away: in float16 or bfloat16 the distance would be rounded
        torch.addmm(half, negative_halves, signs(g[columns], bits).T, out=tile)
        yield columns, tile
