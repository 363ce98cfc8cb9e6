"""Sums of the discounts ``1 / log2(1 + rank)`` of DCG to full relative precision, from 1 rank to 10^15 and beyond.

Differences of two prefix sums lose all digits when there is much before and little between; here the difference is
taken before anything is rounded. Up to rank 256: a table of prefix sums, each in two floats. Behind it, for
``f(x) = 1 / ln x`` and the whole numbers j between a and b, both half-way between two of them, the midpoint form of the
Euler-Maclaurin formula,

    sum f(j) = integral of f from a to b - 1/24 [f'(b) - f'(a)] + 7/5760 [f'''(b) - f'''(a)] - ...,

whose first neglected term is below 1e-17 of the sum there; and for the integral Gauss-Legendre with 12 nodes on pieces
``[a, b]`` with ``b <= 2 a``. All weights are positive, so nothing cancels; the singularities, at x = 0 and 1, are about
three half-widths from the middle of such a piece, which makes the error about ``5.8^-24 = 4e-19``.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

_TABLE_END = 256
_NODES = 12


@functools.cache
def _prefix_sums() -> tuple[Tensor, Tensor]:
    """The sums over the ranks up to 0, 1, ..., 256, as unevaluated sums of two floats."""
    terms = [1 / math.log2(1 + rank) for rank in range(1, _TABLE_END + 1)]
    high = [math.fsum(terms[:end]) for end in range(_TABLE_END + 1)]
    low = [math.fsum([*terms[:end], -total]) for end, total in enumerate(high)]
    both = torch.tensor([high, low], dtype=torch.float64, device="cpu")
    return both[0], both[1]


@functools.cache
def _gauss_legendre() -> tuple[tuple[float, float], ...]:
    """``(node, weight)`` on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return tuple(zip(((1 + nodes) / 2).tolist(), (weights / 2).tolist(), strict=True))


def _correction(x: Tensor) -> Tensor:
    """``-1/24 f'(x) + 7/5760 f'''(x)``; ``f' = -1 / (x l^2)``, ``f''' = -(2 l^2 + 6 l + 6) / (x^3 l^4)``, l = ln x."""
    log = torch.log(x)
    first = 1 / (x * log * log)
    third = first * (2 + 6 / log + 6 / (log * log)) / (x * x)
    return first / 24 - third * (7 / 5760)


def _behind_table(start: Tensor, n: Tensor) -> Tensor:
    """The sum for ``start >= 256``, float64 ``[M]`` in and out."""
    begin, end = start + 1.5, start + 1.5 + n  # the sum is over whole numbers j = 1 + rank between them
    total = _correction(end) - _correction(begin)
    piece, left = begin.clone(), n.clone()
    rest = torch.arange(n.shape[0], device=n.device)
    while rest.numel():
        a, width = piece[rest], left[rest]
        width = width.minimum(a)
        integral = torch.zeros_like(a)
        for node, weight in _gauss_legendre():
            integral += weight / torch.log(a + width * node)
        total[rest] += width * integral
        piece[rest], left[rest] = a + width, left[rest] - width
        rest = rest[left[rest] > 0]
    return total * math.log(2)


def discount_sums(start: Tensor, n: Tensor) -> Tensor:
    """``sum 1 / log2(1 + N + i)`` over ``i = 1 .. n``, with ``N = start``.

    int64 tensors of one shape, ``>= 0``; float64 result, relative error below 2e-15.
    """
    high, low = _prefix_sums()
    a, b = start.clamp(max=_TABLE_END), (start + n).clamp(max=_TABLE_END)
    total = (high[b] - high[a]) + (low[b] - low[a])
    rest = n - (b - a)
    behind = rest > 0
    if bool(behind.any()):
        first = start[behind].clamp(min=_TABLE_END).to(torch.float64)
        total[behind] += _behind_table(first, rest[behind].to(torch.float64))
    return total
