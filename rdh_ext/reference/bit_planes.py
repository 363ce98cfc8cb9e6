"""Pure torch: bit planes of packed codes."""

from __future__ import annotations

import torch
from torch import Tensor

from ._tiles import CHUNK, SIGNS


def bit_planes(codes: Tensor, bits: int) -> Tensor:
    """Bit k of item ``4096 c + 512 w + 64 b + p`` is bit p of ``planes[8 c + b, k, w]``; behind the last item are 0."""
    items = codes.shape[0]
    chunks = (items + CHUNK - 1) // CHUNK
    planes = torch.zeros((8 * chunks, bits, 8), dtype=torch.int64, device=codes.device)
    step = max(1, SIGNS // (CHUNK * bits))  # chunks at a time
    for first in range(0, chunks, step):
        block = codes[first * CHUNK : min((first + step) * CHUNK, items)]
        count = min(step, chunks - first)
        rows = torch.zeros((count * CHUNK, bits), dtype=torch.uint8, device=codes.device)
        for place in range(min(8, bits)):
            columns = rows[: block.shape[0], place::8]
            columns.copy_((block[:, : columns.shape[1]] >> place) & 1)
        words = planes[8 * first : 8 * (first + count)].view(count, 8, bits, 8)
        for p, bit in enumerate(rows.view(count, 8, 8, 64, bits).permute(3, 0, 2, 4, 1)):
            words |= bit.to(torch.int64) << p
    return planes
