"""The nearest codes of every query: the whole contract of the op. Autograd and autocast: none."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from .. import _checks as checks
from ..reference import hamming_topk as reference
from ._library import define


def _fake(q: Tensor, g: Tensor, k: int, planes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    shape = (q.shape[0], min(k, g.shape[0]))
    return q.new_empty(shape, dtype=torch.int16), q.new_empty(shape, dtype=torch.int64)


hamming_topk_op = define(
    "hamming_topk(Tensor q, Tensor g, int k, Tensor? planes=None) -> (Tensor, Tensor)",
    reference=reference.hamming_topk,
    fake=_fake,
)


def hamming_topk(q: Tensor, g: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` gallery codes nearest to every query, in the order of (distance, gallery index).

    Items at the same distance come in gallery order, at the cut as well: the result depends on the codes alone, not on
    device, thread count or block size. It can be merged over pieces of a gallery by the same order.

    Args:
        q: packed query codes, uint8 ``[Q, ceil(K / 8)]``, K up to 4096, any strides, CPU or CUDA.
        g: packed gallery codes, uint8 ``[G, ceil(K / 8)]``, on the device of ``q``.
        k: number of neighbours, at least 1; above G it means all of them.

    Returns:
        ``(distances, indices)``, int16 and int64, both ``[Q, min(k, G)]`` and contiguous.

    Raises:
        TypeError: ``q`` or ``g`` is not a uint8 tensor, ``k`` not an integer.
        ValueError: ``k`` below 1; codes as for :func:`hamming_distance`.

    Cost: O(QGK) time for the distances, and O(Qk) for the sorting, which is by counting. No Q x G temporary: the result
    is 10 Q k bytes; beside it a CPU needs at most 64 MiB, a few MiB per thread and, for up to 1,024 queries, up to 16
    lists of k for each; CUDA at most 768 MiB for counts; the reference a block of the result in 64-bit keys.
    Deterministic.

    Example:
        >>> g = torch.tensor([[0b11], [0b00], [0b01], [0b10]], dtype=torch.uint8)
        >>> rdh_ext.hamming_topk(torch.tensor([[0b01]], dtype=torch.uint8), g, k=3)
        (tensor([[0, 1, 1]], dtype=torch.int16), tensor([[2, 0, 1]]))
    """
    checks.check_code_pair("hamming_topk", q, g)
    k = checks.check_integer("hamming_topk", "k", k, low=1, expected="an integer >= 1")
    distances, indices = hamming_topk_op(q, g, min(k, sys.maxsize))
    return distances, indices
