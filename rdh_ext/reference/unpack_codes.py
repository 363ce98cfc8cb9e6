"""Pure torch: packed codes back to signs."""

from __future__ import annotations

from torch import Tensor

from ._tiles import signs


def unpack_codes(codes: Tensor, bits: int) -> Tensor:
    """+1 where bit ``k % 8`` of byte ``k // 8`` is set, -1 elsewhere."""
    return signs(codes, bits)
