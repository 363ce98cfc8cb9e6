"""Packed codes back to signs: the whole contract of the op. Autograd and autocast: none, the input is integral."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks as checks
from ..reference import unpack_codes as reference
from ._library import define


def _fake(codes: Tensor, bits: int) -> Tensor:
    return codes.new_empty((codes.shape[0], bits), dtype=torch.float32)


_unpack_codes = define("unpack_codes(Tensor codes, int bits) -> Tensor", reference=reference.unpack_codes, fake=_fake)


def unpack_codes(codes: Tensor, bits: int) -> Tensor:
    """The signs that :func:`pack_codes` packed: +1 where bit ``k % 8`` of byte ``k // 8`` is set, else -1.

    Args:
        codes: packed codes, uint8 ``[N, ceil(K / 8)]``, any strides, CPU or CUDA.
        bits: K, from 1 to 4096; the bytes do not say how many of their last places count.

    Returns:
        float32 ``[N, K]`` of +-1, contiguous, on the device of ``codes``.

    Raises:
        TypeError: ``codes`` is not a uint8 tensor, ``bits`` not an integer.
        ValueError: ``codes`` is not ``[N, ceil(bits / 8)]``, or (looked at on CPU tensors only, outside of
            ``torch.compile``) a place behind bit ``K - 1`` is set.

    Cost: O(NK) time, one write of the result; extra memory below half the size of the result. Deterministic.

    Example:
        >>> rdh_ext.unpack_codes(torch.tensor([[5]], dtype=torch.uint8), bits=4)
        tensor([[ 1., -1.,  1., -1.]])
    """
    checks.check_codes("unpack_codes", "codes", codes)
    if bits is None:
        checks.fail_type("unpack_codes", "bits", "an integer", bits)
    bits = checks.check_bits("unpack_codes", bits, codes=codes)
    out: Tensor = _unpack_codes(codes, bits)
    return out
