"""Sums of ``1 / (N + i)`` and ``(i - 1) / (N + i)`` to full relative precision, from 1 item to 10^15 and beyond.

Differences of harmonic numbers lose all digits when N is large and n small; here the difference is taken before
anything is rounded: a table of exact sums up to N = 32, and behind it the midpoint expansion of the digamma function,
``H_n = gamma + log x + 1/24 x^-2 - 7/960 x^-4 + 31/8064 x^-6 - 127/30720 x^-8``, ``x = n + 1/2``, whose first
neglected term is below 1e-17 there.
"""

from __future__ import annotations

import functools
from fractions import Fraction

import torch
from torch import Tensor

_TABLE_END = 32
_SERIES = (1 / 24, -7 / 960, 31 / 8064, -127 / 30720)


@functools.cache
def _tables() -> tuple[Tensor, Tensor]:
    """``[a, b]``: the sums of ``1 / i`` and of ``(i - a - 1) / i`` over ``a < i <= b``, correctly rounded."""
    size = _TABLE_END + 1
    zeroth, first = torch.zeros((2, size, size), dtype=torch.float64, device="cpu")
    for a in range(size):
        reciprocal, ratio = Fraction(0), Fraction(0)
        for b in range(a + 1, size):
            reciprocal, ratio = reciprocal + Fraction(1, b), ratio + Fraction(b - a - 1, b)
            zeroth[a, b], first[a, b] = float(reciprocal), float(ratio)
    return zeroth, first


def _excess_of_log1p(u: Tensor) -> Tensor:
    """``u - log1p(u)`` for ``u >= 0`` without cancellation: with ``s = u / (2 + u)``, ``log1p(u) = 2 atanh(s)``."""
    s = u.clamp(max=1) / (2 + u.clamp(max=1))
    square = s * s
    tail = torch.zeros_like(u)
    for k in range(17, 0, -1):  # s <= 1/3: the next term is below 1e-18
        tail = (tail + 1 / (2 * k + 1)) * square
    return torch.where(u <= 1, u.clamp(max=1) * s - 2 * s * tail, u - torch.log1p(u))


def _behind_table(start: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """Both sums for ``start >= 32``, float64 in and out."""
    b = start + 0.5
    a = b + n
    x, y = 1 / b.square(), 1 / a.square()
    # x^k - y^k = (x - y) (x^(k-1) + ... + y^(k-1)), and x - y = n (a + b) / (a b)^2 without a subtraction
    difference = n * (a + b) * x * y
    correction = torch.zeros_like(b)
    powers, x_power = torch.ones_like(b), torch.ones_like(b)
    for coefficient in _SERIES:
        correction = correction + coefficient * difference * powers
        x_power = x_power * x
        powers = powers * y + x_power
    u = n / b
    log = torch.log1p(u)
    zeroth = log - correction
    # n - (N + 1) S0, with N + 1 = b + 1/2 and n = b u
    first = b * _excess_of_log1p(u) - 0.5 * log + (b + 0.5) * correction
    return zeroth, first


def harmonic_sums(start: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """``S0 = sum 1 / (N + i)`` and ``S1 = sum (i - 1) / (N + i)`` over ``i = 1 .. n``, with ``N = start``.

    ``S0 = H_{N+n} - H_N`` and ``S1 = n - (N + 1) S0``. int64 tensors of one shape, ``>= 0``; float64 results, relative
    error a few 1e-16.
    """
    zeroth_table, first_table = _tables()
    low = start.clamp(max=_TABLE_END)
    high = (start + n).clamp(max=_TABLE_END)
    inside = high - low  # terms that the table holds
    rest = (n - inside).to(torch.float64)
    zeroth, first = _behind_table(start.clamp(min=_TABLE_END).to(torch.float64), rest)
    first = first.clamp(min=0)  # one item: 0, up to rounding
    return zeroth_table[low, high] + zeroth, first_table[low, high] + (inside * zeroth + first)


def precision_sum(before: Tensor, relevant_before: Tensor, n: Tensor) -> Tensor:
    """``sum (P + i) / (N + i)`` over ``i = 1 .. n``: the precisions at ``n`` relevant items in a row, float64."""
    zeroth, first = harmonic_sums(before, n)
    return (relevant_before + 1) * zeroth + first
