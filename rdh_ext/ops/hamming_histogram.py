"""Items and relevant items per Hamming distance: the whole contract of the op. Autograd and autocast: none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from .._labels import check_label_pair, normalize_labels
from ..reference import hamming_histogram as reference
from ._library import define


def _fake(q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, bits: int, planes: Tensor | None = None) -> Tensor:
    return q.new_empty((q.shape[0], bits + 1, 2), dtype=torch.int64)


hamming_histogram_op = define(
    "hamming_histogram(Tensor q, Tensor g, Tensor q_labels, Tensor g_labels, int bits, Tensor? planes=None) -> Tensor",
    reference=reference.hamming_histogram,
    fake=_fake,
)


def check_labelled_codes(
    op: str, q: Any, g: Any, q_labels: Any, g_labels: Any, bits: Any
) -> tuple[Tensor, Tensor, int]:
    """``(q_labels, g_labels, bits)`` in the form the op takes: int64 ``[rows]`` or bool ``[rows, C]``, and an int."""
    checks.check_code_pair(op, q, g)
    bits = checks.check_bits(op, bits, q=q, g=g)
    labels = {}
    for argument, value, codes in (("q_labels", q_labels, q), ("g_labels", g_labels, g)):
        check = checks.may_read_values(codes)
        labels[argument] = normalize_labels(op, argument, value, codes.shape[0], q.device, check_values=check)
    check_label_pair(op, "q_labels", labels["q_labels"], "g_labels", labels["g_labels"])
    return labels["q_labels"], labels["g_labels"], bits


def hamming_histogram(q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, *, bits: int | None = None) -> Tensor:
    r"""For every query and every distance, how many gallery items there are and how many of them are relevant.

    .. math:: out_{i,d,0} = |\{j : d(q_i, g_j) = d\}|, \qquad
              out_{i,d,1} = |\{j : d(q_i, g_j) = d, \ q_i \text{ and } g_j \text{ share a label}\}|

    Average precision, precision-recall curves and precision within a radius follow from it (:func:`evaluate`). It adds
    up: the histogram of a gallery is the sum of the histograms of its pieces, in any order.

    Args:
        q: packed query codes, uint8 ``[Q, ceil(K / 8)]``, K up to 4096, any strides, CPU or CUDA.
        g: packed gallery codes, uint8 ``[G, ceil(K / 8)]``, on the device of ``q``.
        q_labels: class ids ``[Q]`` (integers) or multi-hot ``[Q, C]`` (bool or 0-1). A row without labels is similar
            to nothing.
        g_labels: the same kind for the gallery, ``[G]`` or ``[G, C]``.
        bits: K; None means every place of the bytes.

    Returns:
        int64 ``[Q, K + 1, 2]``, contiguous: all items, relevant items. Q or G may be 0.

    Raises:
        TypeError: codes not uint8, labels of a wrong dtype, ``bits`` not an integer.
        ValueError: codes as for :func:`hamming_distance`; ``bits`` that do not fit the width, or bits set behind them;
            labels of another length, device, kind or number of classes. Values are looked at on CPU tensors only.

    Cost: O(QG(K + C)) time. Memory beside the result, which is 16 Q (K + 1) bytes: on a CPU at most 64 MiB and about a
    MiB per thread, and with multi-hot labels their bit planes, C / 8 bytes per gallery item, which a
    :class:`rdh_ext.retrieval.Gallery` makes once and keeps. In the reference some tens of MiB, whatever Q and G are.
    Counts are exact in int64; deterministic.

    Example:
        >>> g = torch.tensor([[0b11], [0b00], [0b01]], dtype=torch.uint8)
        >>> q = torch.tensor([[0b01]], dtype=torch.uint8)
        >>> rdh_ext.hamming_histogram(q, g, torch.tensor([7]), torch.tensor([7, 3, 7]), bits=2)
        tensor([[[1, 1],
                 [2, 1],
                 [0, 0]]])
    """
    q_labels, g_labels, bits = check_labelled_codes("hamming_histogram", q, g, q_labels, g_labels, bits)
    out: Tensor = hamming_histogram_op(q, g, q_labels, g_labels, bits)
    return out
