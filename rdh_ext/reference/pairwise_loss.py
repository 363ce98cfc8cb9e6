"""Pure torch: pairwise likelihood (Eq. 1) plus error-aware quantization (Eq. 4).

First the formula as the paper writes it, dense and differentiable, to read and to compare with. Then the same value,
together with dL/dh, in one pass over tiles of pairs, for batches and banks of any length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .._labels import similarity_tile
from ._tiles import label_columns, row_blocks

TILE = 1 << 18
"""Elements of the largest temporary, whatever B and N (1 MiB of float32: a tile stays in the cache); one row's labels
may be more."""
ROWS = 256
"""Rows of a tile where the batch has as many; the columns follow from ``TILE``."""


def dense(h: Tensor, v: Tensor, s: Tensor, weight: Tensor | float, scale: float, eta: float) -> Tensor:
    """Eq. 5 by the book, for S and w ``[B, N]``: a ``[B, N, K]`` mask; autograd sees mask and signs as constants."""
    theta = scale * (h @ v.T)
    likelihood = weight * (softplus(theta, threshold=50) - s * theta)
    bit = torch.sign(h.detach())
    delta = bit[:, None, :] * torch.sign(v.detach())[None, :, :]
    selected = (2 * s - 1)[:, :, None] * delta == 1
    quantization = selected * (h - bit).square()[:, None, :]
    return likelihood.mean() + eta * quantization.mean()


class _Pairs(NamedTuple):
    """Which rows are paired with which columns, and where their similarity comes from."""

    h: Tensor
    v: Tensor
    labels: Tensor | None
    column_labels: Tensor | None
    similarity: Tensor | None
    with_bank: bool
    with_diagonal: bool
    dtype: torch.dtype

    @property
    def number(self) -> int:
        rows = self.h.size(0)
        return rows * self.v.size(0) - (0 if self.with_diagonal else rows)

    def row_blocks(self) -> Iterator[slice]:
        return row_blocks(self.h.size(0), min(ROWS, self._limit()))

    def column_blocks(self, rows: slice) -> Iterator[slice]:
        tile_columns = TILE // (rows.stop - rows.start)
        return row_blocks(self.v.size(0), min(tile_columns, self._limit()))

    def _limit(self) -> int:
        """Items whose codes, and labels, fill a temporary."""
        width = 1 if self.labels is None else label_columns(self.labels)
        return max(1, TILE // max(width, self.h.size(1)))

    def rows(self, rows: slice) -> Tensor:
        return self.h[rows].to(self.dtype)

    def columns(self, columns: slice) -> Tensor:
        return self.v[columns].to(self.dtype)

    def similar(self, rows: slice, columns: slice) -> Tensor:
        """S of a tile, bool."""
        if self.similarity is not None:
            return self.similarity[rows, columns] != 0
        assert self.labels is not None
        assert self.column_labels is not None
        return similarity_tile(self.labels[rows], self.column_labels[columns])

    def drop_diagonal(self, tile: Tensor, rows: slice, columns: slice) -> Tensor:
        """Writes 0 over the pairs (i, i) of a tile, in place, where they are left out."""
        offset = rows.start - columns.start
        if not self.with_diagonal and -tile.size(0) < offset < tile.size(1):
            tile.diagonal(offset).zero_()
        return tile


class _Factors(NamedTuple):
    """What the sums over pairs and over bits are multiplied with."""

    pair: float
    bit: float

    @classmethod
    def of(cls, pairs: _Pairs, quantization: str, reduction: str) -> _Factors:
        if reduction == "sum":
            return cls(1.0, 1.0)
        bits = (pairs.number if quantization == "error_aware" else pairs.h.size(0)) * pairs.h.size(1)
        return cls(1.0 / max(1, pairs.number), 1.0 / max(1, bits))


def _pair_weights(pairs: _Pairs, mode: str) -> tuple[Tensor, Tensor] | None:
    """Weights of similar and dissimilar pairs: HashNet's |S| / |S1| and |S| / |S0|; None where all weigh 1."""
    if mode == "none":
        return None
    similar = torch.zeros((), dtype=torch.int64, device=pairs.h.device)
    for rows in pairs.row_blocks():
        for columns in pairs.column_blocks(rows):
            similar += pairs.drop_diagonal(pairs.similar(rows, columns), rows, columns).sum()
    counts = torch.stack((similar, pairs.number - similar))
    weights = (pairs.number / counts.clamp_min(1).double()).to(pairs.dtype)  # of a kind without pairs: never used
    return weights[0], weights[1]


def _poison(*tensors: Tensor) -> Tensor:
    """0, or NaN where a value is not finite: the loss of an easy pair with theta = inf is 0, which must not hide it."""
    poison = torch.zeros((), dtype=torch.float64, device=tensors[0].device)
    for tensor in tensors:
        for block in tensor.split(max(1, TILE // max(1, tensor.size(1)))):
            poison += (block * 0).sum()
    return poison


def _nonzero(pairs: _Pairs) -> Tensor:
    """Per bit, the columns whose sign is not 0, ``[K]``."""
    nonzero = torch.zeros(pairs.v.size(1), dtype=torch.float64, device=pairs.v.device)
    for block in pairs.v.split(max(1, TILE // max(1, pairs.v.size(1)))):
        nonzero += (block != 0).sum(0)
    return nonzero


def _likelihood(
    theta: Tensor, similar: Tensor, toward: Tensor, weights: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Per pair ``w (softplus(theta) - S theta)`` and its derivative, ``toward = 1 - 2 S`` being its direction.

    ``softplus(theta) - theta = softplus(-theta)``: in this form neither is a difference of two large numbers, and a
    pair that is nearly right keeps its relative accuracy.
    """
    z = theta * toward
    value = softplus(z, threshold=50)  # log(1 + e^z), and z itself where that is the same in float64
    derivative = torch.sigmoid(z) * toward
    if weights is not None:
        weight = torch.where(similar, *weights)
        value, derivative = value * weight, derivative * weight
    return value, derivative


def _log_cosh(x: Tensor) -> Tensor:
    """Accurate near 0, where a trained bit is, and without overflow."""
    small = torch.log1p(2 * torch.sinh(x.clamp(-1, 1) / 2).square())
    large = x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)
    return torch.where(x.abs() < 1, small, large)


def _quantization(x: Tensor, mode: str, selected: Tensor | None) -> tuple[Tensor, Tensor]:
    """Per bit the quantization term and its derivative; signs, and how often a bit is selected, are constants."""
    sign = torch.sign(x)
    if mode == "log_cosh":
        distance = x.abs() - 1
        return _log_cosh(distance), torch.tanh(distance) * sign
    distance = x - sign
    value, derivative = distance.square(), 2 * distance
    return (value, derivative) if selected is None else (selected * value, selected * derivative)


class _Terms(NamedTuple):
    """What a pass over the tiles adds up, and what with: sums and gradient, before and after the means' factors."""

    sums: Tensor
    grad: Tensor | None
    scale: float
    weights: tuple[Tensor, Tensor] | None
    eta: float
    factors: _Factors


def _add_likelihood(pairs: _Pairs, rows: slice, x: Tensor, terms: _Terms, agreement: Tensor | None) -> None:
    """Adds the likelihood of a block of rows, and to ``agreement`` ``[rows, K]`` its ``sum_j (2 S_ij - 1) sign v_jk``.

    ``agreement`` is None where nobody asks for it.
    """
    for columns in pairs.column_blocks(rows):
        v = pairs.columns(columns)
        similar = pairs.similar(rows, columns)
        toward = pairs.drop_diagonal(1 - 2 * similar.to(x.dtype), rows, columns)
        theta = pairs.drop_diagonal(terms.scale * (x @ v.T), rows, columns)
        value, derivative = _likelihood(theta, similar, toward, terms.weights)
        terms.sums[0] += pairs.drop_diagonal(value, rows, columns).sum(dtype=torch.float64)
        if terms.grad is not None:
            derivative *= terms.scale * terms.factors.pair
            terms.grad[rows] += derivative @ v
            if not pairs.with_bank:  # then both roles carry gradient
                terms.grad[columns] += derivative.T @ x
        if agreement is not None:
            agreement -= toward @ torch.sign(v)


def _selected(pairs: _Pairs, x: Tensor, nonzero: Tensor, agreement: Tensor) -> Tensor:
    """How many columns select a bit by Eq. 4, ``[rows, K]``, without a ``[B, N, K]`` mask.

    With ``b = sign(h)`` and ``c = sign(v)`` a pair selects bit k where ``(2 S_ij - 1) b_ik c_jk`` is 1, of 1, 0 and -1:
    the sum over j of ``1/2 (|b_ik c_jk| + (2 S_ij - 1) b_ik c_jk)``, of which b can be taken out.
    """
    bit = torch.sign(x)
    others = nonzero if pairs.with_diagonal else nonzero - bit.abs()
    return 0.5 * (bit.abs() * others + bit * agreement)


def pairwise_loss(
    h: Tensor,
    labels: Tensor | None,
    bank: Tensor | None,
    bank_labels: Tensor | None,
    similarity: Tensor | None,
    scale: float,
    pair_weights: str,
    quantization: str,
    eta: float,
    include_diagonal: bool,
    reduction: str,
    precision: str,
    need_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss ``[]``, its parts ``[2]`` (quantization before eta) and dL/dh ``[B, K]`` (empty unless wanted).

    ``precision`` is for kernels: the products here follow PyTorch's switches by themselves.

    All three in float32, or in float64 where h is; sums over tiles in float64.
    """
    dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
    v, column_labels = (h, labels) if bank is None else (bank, bank_labels)
    with_bank = bank is not None
    pairs = _Pairs(h, v, labels, column_labels, similarity, with_bank, with_bank or include_diagonal, dtype)
    factors = _Factors.of(pairs, quantization, reduction)
    poison = _poison(h) if bank is None else _poison(h, bank)
    sums = poison.repeat(2)
    grad = poison.to(dtype).repeat(*h.shape) if need_grad else h.new_empty(0, dtype=dtype)
    terms = _Terms(sums, grad if need_grad else None, scale, _pair_weights(pairs, pair_weights), eta, factors)
    error_aware = quantization == "error_aware"
    nonzero = _nonzero(pairs) if error_aware else None
    for rows in pairs.row_blocks():
        x = pairs.rows(rows)
        agreement = torch.zeros_like(x, dtype=torch.float64) if error_aware else None
        _add_likelihood(pairs, rows, x, terms, agreement)
        if quantization != "none":
            selected = None if agreement is None or nonzero is None else _selected(pairs, x, nonzero, agreement)
            value, derivative = _quantization(x, quantization, selected)
            sums[1] += value.sum(dtype=torch.float64)
            if need_grad:
                grad[rows] += (eta * factors.bit) * derivative
    parts = torch.stack((sums[0] * factors.pair, sums[1] * factors.bit))
    return (parts[0] + eta * parts[1]).to(dtype), parts.to(dtype), grad


def pairwise_loss_backward(grad_out: Tensor, grad: Tensor, h: Tensor) -> Tensor:
    """dL/dh scaled with what arrives from above, and only then rounded to the dtype of h: a loss scaler may come."""
    dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
    if grad.shape != h.shape or grad.dtype != dtype or grad_out.dim() != 0 or grad_out.dtype != dtype:
        raise RuntimeError(
            "pairwise_loss_backward: expected a gradient of the shape of h and a scalar, both float64 where h is, else "
            "float32"
        )
    return (grad * grad_out).to(h.dtype)
