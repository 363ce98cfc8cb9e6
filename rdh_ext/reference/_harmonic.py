"""Sums of ``1 / (N + i)`` and ``(i - 1) / (N + i)`` to full relative precision, from 1 item to 10^15 and beyond.

Differences of harmonic numbers lose all digits when N is large and n small; here the difference is taken before
anything is rounded. Up to 65,536: a table of harmonic numbers in two parts, of which the upper is a multiple of 2^-30,
so that differences of upper parts, and their products with N + 1, are exact. Behind it the midpoint expansion of the
digamma function, ``H_n = gamma + log x + 1/24 x^-2 - ...``, ``x = n + 1/2``, whose first neglected term is below 1e-21
there.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
TABLE_END = 1 << 16


@functools.cache
def _table() -> Array:
    """``[n]``, n from 0 to 65,536: harmonic numbers, right to 2^-83: the sum of an upper part, which is the real one
    here, and a lower one, which is the imaginary part: they are looked up together.

    ``1 / i = a / 2^58 + b / 2^103`` and less than 2^-103, in integers a and b.
    """
    i = np.arange(1, TABLE_END + 1, dtype=np.int64)
    a = 2**58 // i
    b = ((2**58 - a * i) << 45) // i
    a, b = (np.concatenate(([0], part.cumsum())) for part in (a, b))  # below 2^62
    table = np.empty(TABLE_END + 1, dtype=np.complex128)
    table.real = (a >> 28) * 2.0**-30
    table.imag = (a & (2**28 - 1)) * 2.0**-58 + b * 2.0**-103
    return table


def _excess_of_log1p(u: Array) -> Array:
    """``u - log1p(u)`` for ``u >= 0`` without cancellation: with ``s = u / (2 + u)``, ``log1p(u) = 2 atanh(s)``."""
    small = np.minimum(u, 1.0)
    s = small / (2 + small)
    square = s * s
    tail = np.zeros_like(u)
    for k in range(17, 0, -1):  # s <= 1/3: the next term is below 1e-18
        tail += 1 / (2 * k + 1)
        tail *= square
    return np.where(u <= 1, small * s - 2 * s * tail, u - np.log1p(u))


def _behind_table(start: Array, n: Array) -> tuple[Array, Array]:
    """Both sums for ``start >= 65,536``, float64 in and out."""
    b = start + 0.5
    a = b + n
    correction = n * (a + b) / (a * a) / (b * b) / 24  # 1/24 (b^-2 - a^-2) without a subtraction
    u = n / b
    log = np.log1p(u)
    zeroth = log - correction
    # n - (N + 1) S0, with N + 1 = b + 1/2 and n = b u
    first = b * _excess_of_log1p(u) - 0.5 * log + (b + 0.5) * correction
    return zeroth, np.maximum(first, 0.0)  # one item: 0, up to rounding


def harmonic_sums(start: ArrayLike, n: ArrayLike) -> tuple[Array, Array]:
    """``S0 = sum 1 / (N + i)`` and ``S1 = sum (i - 1) / (N + i)`` over ``i = 1 .. n``, with ``N = start``.

    ``S0 = H_{N+n} - H_N`` and ``S1 = n - (N + 1) S0``. int64 arrays of one shape, ``>= 0``; float64 results, relative
    error a few 1e-16.
    """
    start, n = np.ascontiguousarray(start), np.asarray(n)
    low, end, inside = start, start + n, n
    behind = end > TABLE_END if np.maximum.reduce(end, axis=None, initial=0) > TABLE_END else None
    if behind is not None:
        low, end = np.minimum(low, TABLE_END), np.minimum(end, TABLE_END)
        inside = end - low
    parts = _table().take(end, mode="clip")
    parts -= _table().take(low, mode="clip")
    upper, lower = parts.real, parts.imag
    following = low + 1.0
    first = following * upper
    np.subtract(inside, first, out=first)
    following *= lower
    first -= following
    zeroth = upper + lower
    if behind is not None:
        inside = inside[behind]
        rest = (n[behind] - inside).astype(np.float64)
        beyond = _behind_table(np.maximum(start[behind], TABLE_END).astype(np.float64), rest)
        zeroth[behind] += beyond[0]
        first[behind] += inside * beyond[0] + beyond[1]
    return zeroth, first


def precision_sum(before: ArrayLike, relevant_before: ArrayLike, n: ArrayLike) -> Array:
    """``sum (P + i) / (N + i)`` over ``i = 1 .. n``: the precisions at ``n`` relevant items in a row, float64."""
    zeroth, first = harmonic_sums(before, n)
    zeroth *= np.asarray(relevant_before) + 1.0
    zeroth += first
    return zeroth
