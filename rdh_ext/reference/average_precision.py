"""NumPy: average precision of whole rankings from histograms, in float64; ties in expectation.

Per bucket (one distance) holding ``n`` items, ``r`` of them relevant, with ``N`` items and ``P`` relevant ones before
it; of its places the first ``m`` count, which are all but where a ranking is cut (``rdh_ext.retrieval``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ._harmonic import Array, harmonic_sums

BUCKETS = 1 << 17
"""Buckets whose counts are summed up at a time."""
TERMS = 1 << 14
"""Terms of a sum that are worked on at a time, in a core's cache."""


def divide(numerator: Array, denominator: Array) -> Array:
    """The quotient in float64; 0 where the denominator is not above 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator > 0)


def expected_precision_sum(before: Array, relevant_before: Array, n: Array, r: Array, m: Array) -> Array:
    """The sum of precisions at the relevant items in the first ``m`` places of a bucket, its mean over all orders."""
    zeroth, first = harmonic_sums(before, m)
    others = n - 1.0
    np.maximum(others, 1.0, out=others)  # of one item, the second part is 0
    relevant = r.astype(np.float64)
    zeroth *= relevant_before + 1.0
    zeroth *= others
    first *= relevant - 1
    zeroth += first
    zeroth *= relevant
    others *= n
    return np.divide(zeroth, others, out=zeroth)


def sum_of_buckets(cells: Array, here: Array, up_to: Array, bucket_sum: Callable[..., Array]) -> Array:
    """The sum of ``bucket_sum(N, P, n, r, n)`` over the buckets in ``cells`` (bool ``[B, K + 1]``), per query; from the
    counts ``[B, K + 1, 2]`` at distances, and up to them."""
    index = 2 * np.flatnonzero(cells)
    here, up_to = here.reshape(-1), up_to.reshape(-1)
    terms = np.empty(len(index))
    for start in range(0, len(index), TERMS):
        of_items = index[start : start + TERMS]
        of_relevant = of_items + 1
        # "clip" is the fastest mode of take, and has nothing to do
        n, r = here.take(of_items, mode="clip"), here.take(of_relevant, mode="clip")
        before, relevant_before = up_to.take(of_items, mode="clip") - n, up_to.take(of_relevant, mode="clip") - r
        terms[start : start + TERMS] = bucket_sum(before, relevant_before, n, r, n)
    out, counts = np.zeros(len(cells)), cells.sum(1)
    some = counts > 0
    if len(terms):
        out[some] = np.add.reduceat(terms, (counts.cumsum() - counts)[some])
    return out


def average_precision(histogram: Tensor) -> Tensor:
    """Some queries at a time, in NumPy, of which a call costs a tenth of one of PyTorch: what is worked on stays in a
    core's cache."""
    counts = histogram.cpu().contiguous()
    out = np.empty(counts.shape[0])
    rows = max(1, BUCKETS // max(1, counts.shape[1]))
    for start in range(0, counts.shape[0], rows):
        block = counts[start : start + rows]
        here, up_to = block.numpy(), block.cumsum(1).numpy()
        sums = sum_of_buckets(here[..., 1] > 0, here, up_to, expected_precision_sum)
        out[start : start + rows] = divide(sums, here[..., 1].sum(1))
    return torch.from_numpy(out).to(histogram.device)
