"""NDCG by definition: over every order of tied items, and sums of discounts with 50 digits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mpmath
from numpy.typing import NDArray

from .average_precision import Bucket, orders


def ndcg(sequence: Sequence[int] | NDArray, n: int) -> float:
    """NDCG@n of one order with gains of 0 and 1."""
    gain = math.fsum(1 / math.log2(1 + rank) for rank, relevant in enumerate(sequence[:n], start=1) if relevant)
    ideal = math.fsum(1 / math.log2(1 + rank) for rank in range(1, min(int(sum(sequence)), n) + 1))
    return gain / ideal if ideal else 0.0


def mean_and_bounds(buckets: Sequence[Bucket], n: int) -> tuple[float, float, float]:
    """Mean, smallest and largest NDCG@n over all orders of tied items."""
    values = [ndcg(sequence, n) for sequence in orders(buckets)]
    return math.fsum(values) / len(values), min(values), max(values)


def discount_sum(start: int, n: int) -> mpmath.mpf:
    """The sum of ``1 / log2(1 + rank)`` over the ranks ``start < rank <= start + n``: term by term as far as possible,
    then the logarithmic integral with the corrections of Euler and Maclaurin at whole numbers."""
    with mpmath.workdps(50):
        first, last = mpmath.mpf(start + 2), mpmath.mpf(start + n + 1)
        total = mpmath.mpf(0)
        while first <= last and (first < 1000 or last - first < 300):
            total += 1 / mpmath.log(first, 2)
            first += 1
        if first > last:
            return total

        def f(x: mpmath.mpf) -> mpmath.mpf:
            return 1 / mpmath.log(x, 2)

        total += (mpmath.li(last) - mpmath.li(first)) * mpmath.log(2) + (f(first) + f(last)) / 2
        for order, factor in ((1, mpmath.mpf(1) / 12), (3, -mpmath.mpf(1) / 720), (5, mpmath.mpf(1) / 30240)):
            total += factor * (mpmath.diff(f, last, order) - mpmath.diff(f, first, order))
        return total
