"""Signs of activations packed to bits: the whole contract of the op.

Autograd: none, bits have no gradient. Autocast: none, the sign is read in the dtype of the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from ..reference import pack_codes as reference
from ._library import define


def _fake(h: Tensor) -> Tensor:
    return h.new_empty((h.shape[0], (h.shape[1] + 7) // 8), dtype=torch.uint8)


_pack_codes = define("pack_codes(Tensor h) -> Tensor", reference=reference.pack_codes, fake=_fake)
# the kernel meets every element anyway: an op that answers with an error saves a read of h, and a result to look at
_pack_codes_checked = define(
    "pack_codes_checked(Tensor h) -> Tensor", reference=reference.pack_codes_checked, fake=_fake
)


def check_activations(op: str, h: Any) -> None:
    """``h`` is ``[N, K]``, 1 <= K <= 4096."""
    checks.check_tensor(op, "h", h, ndim=2)
    if not 1 <= h.shape[1] <= checks.MAX_BITS:
        checks.fail_value(op, "h", f"[N, K] with K from 1 to {checks.MAX_BITS}", h)


def _nan_error(op: str, h: Tensor) -> ValueError:
    return ValueError(f"{op}: h must be free of NaN, got {int(h.isnan().sum())} NaN in {checks.describe(h)}")


def pack_checked(op: str, h: Any) -> Tensor:
    """:func:`pack_codes` for a function of the name ``op``, which is in the errors."""
    check_activations(op, h)
    out: Tensor
    if not checks.may_read_values(h):
        out = _pack_codes(h)
        return out
    try:
        out = _pack_codes_checked(h)
    except RuntimeError as error:
        if reference.NAN_FOUND not in str(error):
            raise
        raise _nan_error(op, h) from None
    return out


def pack_codes(h: Tensor) -> Tensor:
    """Packs the signs of ``h`` into bytes: bit ``k`` of a row is ``h[:, k] >= 0``.

    Bit ``k`` lies in byte ``k // 8`` at place ``k % 8``, least significant first. That is the order of FAISS's binary
    indexes; ``numpy.packbits`` needs ``bitorder="little"`` for it. The places behind bit ``K - 1`` are 0.

    An exact zero becomes a 1 bit. Other projects keep ``sign(0) = 0``, draw at random, or write a 0 bit, so codes of a
    model that outputs zeros differ between projects: :func:`rdh_ext.retrieval.count_zeros` counts them.

    Args:
        h: activations or +-1 codes, ``[N, K]`` with K from 1 to 4096, any strides; float32, float64, bfloat16 or
            float16; CPU or CUDA.

    Returns:
        uint8 ``[N, ceil(K / 8)]``, contiguous, on the device of ``h``.

    Raises:
        TypeError: ``h`` is not a floating tensor.
        ValueError: ``h`` is not ``[N, K]``, K is out of range, or (looked at on CPU tensors only, outside of
            ``torch.compile``) ``h`` holds NaN. Where it is not looked at, NaN becomes a 0 bit.

    Cost: O(NK) time, one read of ``h``, which finds NaN, too; extra memory of the size of the result. Deterministic.

    Example:
        >>> rdh_ext.pack_codes(torch.tensor([[0.3, -0.2, 0.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0]]))
        tensor([[21,  1]], dtype=torch.uint8)
    """
    return pack_checked("pack_codes", h)


def count_zeros(h: Tensor) -> int:
    """The number of exact zeros (of either sign) in ``h``: the bits on whose code two projects may disagree.

    Args:
        h: activations ``[N, K]``, as for :func:`pack_codes`.

    Returns:
        The count as an int; waits for the device.

    Raises:
        TypeError, ValueError: as :func:`pack_codes`.

    Cost: two reads of ``h`` (on CUDA one), one byte per element of extra memory. Deterministic.

    Example:
        >>> rdh_ext.retrieval.count_zeros(torch.tensor([[0.0, -0.0, 1e-30]]))
        2
    """
    check_activations("count_zeros", h)
    # a sum that is a number has no NaN in it, and is the quicker question
    if checks.may_read_values(h) and bool(h.sum().isnan()) and bool(h.isnan().any()):
        raise _nan_error("count_zeros", h)
    checks.check_has_values("count_zeros", "h", h)
    return h.numel() - int(torch.count_nonzero(h))
