"""Where relevant items stand when ties are broken by gallery order: the contract of two ops. Autograd, autocast: none.

No part of the public interface: :func:`rdh_ext.evaluate` with ``ties="stable"`` and what it returns stand on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference import stable_ranks as reference
from ._library import define


def _fake_ranks(
    q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, histogram: Tensor, planes: Tensor | None = None
) -> Tensor:
    return q.new_empty((torch.library.get_ctx().new_dynamic_size(),), dtype=torch.int64)


def _fake_sum(
    q: Tensor,
    g: Tensor,
    q_labels: Tensor,
    g_labels: Tensor,
    histogram: Tensor,
    limit: int,
    planes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return q.new_empty((q.shape[0],), dtype=torch.float64), q.new_empty((q.shape[0],), dtype=torch.int64)


_LABELLED = "Tensor q, Tensor g, Tensor q_labels, Tensor g_labels, Tensor histogram"
_stable_ranks = define(
    f"stable_ranks({_LABELLED}, Tensor? planes=None) -> Tensor", reference=reference.stable_ranks, fake=_fake_ranks
)
_stable_precision_sum = define(
    f"stable_precision_sum({_LABELLED}, int limit, Tensor? planes=None) -> (Tensor, Tensor)",
    reference=reference.stable_precision_sum,
    fake=_fake_sum,
)


def stable_ranks(
    q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, histogram: Tensor, planes: Tensor | None = None
) -> Tensor:
    r"""The ranks of all relevant items of every query, counted and never sorted:

    .. math:: rank(i, j) = |\{j' : d(i, j') < d(i, j)\}| + |\{j' \le j : d(i, j') = d(i, j)\}|

    Args:
        q: packed query codes, uint8 ``[Q, ceil(K / 8)]``.
        g: packed gallery codes, uint8 ``[G, ceil(K / 8)]``.
        q_labels: int64 ids ``[Q]`` or bool ``[Q, C]``.
        g_labels: ids ``[G]`` of uint8, int16, int32 or int64, bool ``[G, C]``, or planes of the latter.
        histogram: int64 ``[Q, K + 1, 2]``, :func:`rdh_ext.hamming_histogram` of the same arguments; K is read off it.
        planes: of ``g``, as :func:`rdh_ext.ops.bit_planes.bit_planes` makes them.

    Returns:
        int64 ``[sum of relevant items]``, ranks from 1: one query behind the other, ascending within each.

    Cost: one more pass over all pairs; memory is the result, 8 bytes per relevant item. The size depends on values:
    waits for the device. Exact and deterministic.
    """
    out: Tensor = _stable_ranks(q, g, q_labels, g_labels, histogram, planes)
    return out


def stable_precision_sum(
    q: Tensor,
    g: Tensor,
    q_labels: Tensor,
    g_labels: Tensor,
    histogram: Tensor,
    limit: int,
    planes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per query, over its relevant items of rank <= ``limit``: the sum of (relevant items up to it) / rank.

    Args:
        q, g, q_labels, g_labels, histogram, planes: as for :func:`stable_ranks`.
        limit: at least 0.

    Returns:
        ``(total, found)``: float64 ``[Q]`` the sums, and int64 ``[Q]`` the number of their terms.

    Cost: one more pass over all pairs, no memory for ranks. ``found`` is exact; ``total`` has a relative error below
    1e-14, and its order of summation depends on the gallery alone: the same bits for any number of queries or threads.
    """
    total, found = _stable_precision_sum(q, g, q_labels, g_labels, histogram, limit, planes)
    return total, found
