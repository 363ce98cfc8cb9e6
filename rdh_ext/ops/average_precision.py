"""Average precision of whole rankings from histograms: the whole contract of the op. Autograd and autocast: none.

No part of the public interface: :func:`rdh_ext.retrieval.average_precision` has it, with cuts and bounds beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference import average_precision as reference
from ._library import define


def _fake(histogram: Tensor) -> Tensor:
    return histogram.new_empty((histogram.shape[0],), dtype=torch.float64)


_average_precision = define(
    "average_precision(Tensor histogram) -> Tensor", reference=reference.average_precision, fake=_fake
)


def average_precision(histogram: Tensor) -> Tensor:
    r"""The mean, over all orders of items at equal distances, of the mean precision at the relevant items.

    .. math:: \frac{1}{R} \sum_d \frac{r}{n} \left[(P+1) S_0 + \frac{r-1}{n-1} S_1\right], \quad
              S_0 = H_{N+n} - H_N, \ S_1 = n - (N+1) S_0

    with ``n`` items and ``r`` relevant ones at distance d, ``N`` and ``P`` before it.

    Args:
        histogram: int64 ``[Q, K + 1, 2]``: items, relevant items; 0 <= relevant <= all, fewer than 2^62 in a row.

    Returns:
        float64 ``[Q]``, on the device of ``histogram``; 0 where there is nothing relevant. Relative error below 1e-13.

    Cost: O(QK) time, a MiB of harmonic numbers. Deterministic; a row does not depend on the others.

    Source: McSherry and Najork (ECIR 2008).
    """
    out: Tensor = _average_precision(histogram)
    return out
