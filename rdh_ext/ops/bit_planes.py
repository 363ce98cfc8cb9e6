"""Bit planes of packed codes, what a prepared gallery keeps: the whole contract of the op. Autograd and autocast: none.

No part of the public interface: :class:`rdh_ext.retrieval.Gallery` makes them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference import bit_planes as reference
from ..reference._tiles import CHUNK
from ._library import define

CHUNK_ITEMS = CHUNK
"""Items that have planes of their own: planes of a gallery are those of its chunks, one behind the other."""


def planes_shape(items: int, bits: int) -> tuple[int, int, int]:
    """The shape of the planes of so many items."""
    return 8 * ((items + CHUNK_ITEMS - 1) // CHUNK_ITEMS), bits, 8


def _fake(codes: Tensor, bits: int) -> Tensor:
    return codes.new_empty(planes_shape(codes.shape[0], bits), dtype=torch.int64)


_bit_planes = define("bit_planes(Tensor codes, int bits) -> Tensor", reference=reference.bit_planes, fake=_fake)


def bit_planes(codes: Tensor, bits: int) -> Tensor:
    """The bits of packed rows the other way round: bit ``k`` of 64 items is a word.

    Bit ``k`` of item ``4096 c + 512 w + 64 b + p`` is bit ``p`` of ``planes[8 c + b, k, w]``, with ``w`` and ``b`` in
    [0, 8) and ``p`` in [0, 64): the eight words in a row belong to eight runs of 512 items each, so that a count over
    registers is, lane by lane, a count along the gallery. Bits behind the last item are 0.

    The ops on codes take the planes of the gallery's codes beside the codes, which saves the CPU to make them; the
    results are the same without. The ops on labels take the planes of packed multi-hot rows (C in the place of K) in
    the place of the rows.

    Args:
        codes: packed rows, uint8 ``[N, ceil(bits / 8)]``, any strides; places behind ``bits`` are not looked at.
        bits: K or C, at least 1, any number.

    Returns:
        int64 ``[8 ceil(N / 4096), bits, 8]``, contiguous, on the device of ``codes``; bit 63 is the sign.

    Cost: O(N bits) time; the result is as large as the codes, rounded up to 4,096 items. Deterministic.
    """
    out: Tensor = _bit_planes(codes, bits)
    return out
