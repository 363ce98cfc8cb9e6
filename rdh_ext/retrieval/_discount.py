"""Sums of the discounts ``1 / log2(1 + rank)`` of DCG to full relative precision, from 1 rank to 10^15 and beyond.

Differences of two prefix sums lose all digits when there is much before and little between; here the difference is
taken before anything is rounded. Up to rank 65,536: a table of prefix sums, each exact in two floats. Behind it, for
``f(x) = 1 / ln x`` and the whole numbers j between a and b, both half-way between two of them, the midpoint form of the
Euler-Maclaurin formula,

    sum f(j) = integral of f from a to b - 1/24 [f'(b) - f'(a)] + ...,

whose first neglected term is below 1e-17 of the sum there; and for the integral Gauss-Legendre with 12 nodes on pieces
``[a, b]`` with ``b <= 2 a``. All weights are positive, so nothing cancels; the singularities, at x = 0 and 1, are about
three half-widths from the middle of such a piece, which makes the error about ``5.8^-24 = 4e-19``.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike

from ..reference._harmonic import TABLE_END, Array

_NODES = 12


@functools.cache
def _table() -> tuple[Array, Array]:
    """``[n]``, n from 0 to 65,536: the sums over the ranks up to n, in multiples of 2^-40, and what is left of them.

    The discounts are multiples of 2^-57, and so the sums are exact.
    """
    terms = 2.0**40 / np.log2(np.arange(2, TABLE_END + 2))
    whole = np.floor(terms)
    upper, lower = (np.concatenate(([0.0], part.cumsum())) for part in (whole, terms - whole))
    return upper * 2.0**-40, lower * 2.0**-40


@functools.cache
def _gauss_legendre() -> tuple[tuple[float, float], ...]:
    """``(node, weight)`` on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return tuple(zip(((1 + nodes) / 2).tolist(), (weights / 2).tolist(), strict=True))


def _behind_table(start: Array, n: Array) -> Array:
    """The sum for ``start >= 65,536``, float64 ``[M]`` in and out."""
    begin, end = start + 1.5, start + 1.5 + n  # the sum is over whole numbers j = 1 + rank between them
    slopes = 1 / (np.stack((end, begin)) * np.log((end, begin)) ** 2)  # f' = -1 / (x ln^2 x)
    total: Array = (slopes[0] - slopes[1]) / 24
    a, left, rest = begin, n, np.arange(len(n))
    while len(rest):
        width = np.minimum(left, a)
        integral = np.zeros(len(rest))
        for node, weight in _gauss_legendre():
            integral += weight / np.log(a + width * node)
        total[rest] += width * integral
        more = left > width
        a, left, rest = (a + width)[more], (left - width)[more], rest[more]
    total *= math.log(2)
    return total


def discount_sums(start: ArrayLike, n: ArrayLike) -> Array:
    """``sum 1 / log2(1 + N + i)`` over ``i = 1 .. n``, with ``N = start``.

    int64 arrays ``[M]``, ``>= 0``; float64 result, relative error a few 1e-16.
    """
    start, n = np.asarray(start), np.asarray(n)
    low, end = np.minimum(start, TABLE_END), np.minimum(start + n, TABLE_END)
    upper, lower = (part[end] - part[low] for part in _table())
    total: Array = upper + lower
    rest = n - (end - low)
    behind = np.flatnonzero(rest)
    if len(behind):
        first = np.maximum(start[behind], TABLE_END).astype(np.float64)
        total[behind] += _behind_table(first, rest[behind].astype(np.float64))
    return total
