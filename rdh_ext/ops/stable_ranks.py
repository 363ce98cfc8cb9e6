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
    shift: Tensor | None = None,
    planes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return q.new_empty((q.shape[0], 3), dtype=torch.int64), q.new_empty((q.shape[0],), dtype=torch.int64)


SUM_DIGITS = 46
"""Bits of the second and the third part of an exact sum."""
_DIGITS = (1 << SUM_DIGITS) - 1
_LABELLED = "Tensor q, Tensor g, Tensor q_labels, Tensor g_labels, Tensor histogram"
_stable_ranks = define(
    f"stable_ranks({_LABELLED}, Tensor? planes=None) -> Tensor", reference=reference.stable_ranks, fake=_fake_ranks
)
_stable_precision_sum = define(
    f"stable_precision_sum({_LABELLED}, int limit, Tensor? shift=None, Tensor? planes=None) -> (Tensor, Tensor)",
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
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per query, over its relevant items of rank <= ``limit``: the sum of (relevant items up to it) / rank.

    The gallery may be a piece of a larger one, see :func:`shift_of_piece`. Sums are exact, and add up over pieces to
    those of the whole.

    Args:
        q, g, q_labels, g_labels, histogram, planes: as for :func:`stable_ranks`.
        limit: at least 0; 2^63 - 1 says that no rank is beyond it.
        shift: int64 ``[Q, K + 1, 2]``, what other pieces add to the rank of an item at a distance, and to its rank
            among the relevant items; None adds nothing.

    Returns:
        ``(sums, found)``: int64 ``[Q, 3]``, of ones, of 2^-46 and of 2^-92 (:func:`exact_sums` makes numbers of them),
        and int64 ``[Q]``, the number of terms.

    Cost: one more pass over all pairs, no memory for ranks. Every term is rounded to double; for ranks up to 2^40 their
    sum is exact: the same bits on every backend, for any number of queries, threads or pieces.
    """
    sums, found = _stable_precision_sum(q, g, q_labels, g_labels, histogram, limit, shift, planes)
    return sums, found


def shift_of_piece(whole: Tensor, piece: Tensor, before: Tensor) -> Tensor:
    r"""What the rest of a gallery adds to ranks in a piece of it.

    .. math:: shift_d = before_d + \sum_{d' < d} (whole_{d'} - piece_{d'})

    Args:
        whole, piece: int64 ``[Q, K + 1, 2]``, histograms of the gallery and of the piece.
        before: the histogram of what stands before the piece in the order of the gallery.
    """
    rest = whole - piece
    return rest.cumsum(1).sub_(rest).add_(before)


def add_sums(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two of the exact sums of :func:`stable_precision_sum`, in the same form."""
    return normalize_sums(a + b)


def normalize_sums(sums: Tensor) -> Tensor:
    """Exact sums in the one form in which the last two of the three parts are in [0, 2^46)."""
    ones, coarse, fine = sums.unbind(1)
    coarse = coarse + (fine >> SUM_DIGITS)
    ones = ones + (coarse >> SUM_DIGITS)
    return torch.stack((ones, coarse & _DIGITS, fine & _DIGITS), dim=1)


def exact_sums(sums: Tensor) -> Tensor:
    """Exact sums as float64 ``[Q]``, within an ulp."""
    ones, coarse, fine = sums.to(torch.float64).unbind(1)
    return fine.mul_(2.0 ** (-2 * SUM_DIGITS)).add_(coarse.mul_(2.0**-SUM_DIGITS)).add_(ones)
