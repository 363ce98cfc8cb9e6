"""All Hamming distances between two sets of codes: the whole contract of the op. Autograd and autocast: none."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks as checks
from ..reference import hamming_distance as reference
from ._library import define


def _fake(q: Tensor, g: Tensor, planes: Tensor | None = None) -> Tensor:
    return q.new_empty((q.shape[0], g.shape[0]), dtype=torch.int16)


hamming_distance_op = define(
    "hamming_distance(Tensor q, Tensor g, Tensor? planes=None) -> Tensor",
    reference=reference.hamming_distance,
    fake=_fake,
)


def hamming_distance(q: Tensor, g: Tensor) -> Tensor:
    """``d[i, j]``, the number of bits in which code ``q[i]`` and code ``g[j]`` differ.

    Whole bytes are compared, so the places behind the last bit have to be equal on both sides; :func:`pack_codes`
    leaves them 0.

    Args:
        q: packed query codes, uint8 ``[Q, ceil(K / 8)]``, K up to 4096, any strides, CPU or CUDA.
        g: packed gallery codes, uint8 ``[G, ceil(K / 8)]``, on the device of ``q``.

    Returns:
        int16 ``[Q, G]`` in [0, 4096], contiguous. Q or G may be 0.

    Raises:
        TypeError: ``q`` or ``g`` is not a uint8 tensor.
        ValueError: they are not of two dimensions, of different width, wider than 512 bytes, or on different devices.

    Cost: O(QGK) time, the result is 2 Q G bytes: use :func:`hamming_topk` or :func:`hamming_histogram` where it does
    not have to exist. Beside it a CPU needs at most 64 MiB and about a MiB per thread, the reference some tens of MiB,
    whatever Q and G are. Exact and deterministic.

    Example:
        >>> g = torch.tensor([[0b0110], [0b1010]], dtype=torch.uint8)
        >>> rdh_ext.hamming_distance(torch.tensor([[0b1010]], dtype=torch.uint8), g)
        tensor([[2, 0]], dtype=torch.int16)
    """
    checks.check_code_pair("hamming_distance", q, g)
    out: Tensor = hamming_distance_op(q, g)
    return out
