"""Pure torch: pairwise likelihood (Eq. 1) plus quantization (Eq. 4), value and dL/dh in one pass over row tiles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._labels import similarity_tile

TILE_ELEMENTS = 1 << 22
"""Elements of the largest temporary: a tile of rows against all columns."""


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _tile(
    rows: slice, labels: Tensor | None, bank_labels: Tensor | None, similarity: Tensor | None, skip_diagonal: bool
) -> tuple[Tensor, Tensor | None]:
    """S as bool ``[rows, N]`` and, where the diagonal is left out, which pairs count."""
    if similarity is not None:
        s = similarity[rows] != 0
    else:
        assert labels is not None
        assert bank_labels is not None
        s = similarity_tile(labels[rows], bank_labels)
    if not skip_diagonal:
        return s, None
    used = torch.ones_like(s)
    index = torch.arange(s.size(0), device=s.device)
    used[index, index + rows.start] = False
    return s & used, used


def _rows(count: int, columns: int) -> list[slice]:
    step = max(1, TILE_ELEMENTS // max(1, columns))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _pair_weights(similar: int, pairs: int, mode: str) -> tuple[float, float]:
    """Weights of similar and dissimilar pairs; HashNet's |S| / |S1| and |S| / |S0| when balanced."""
    if mode == "none":
        return 1.0, 1.0
    dissimilar = pairs - similar
    return pairs / similar if similar else 0.0, pairs / dissimilar if dissimilar else 0.0


def _softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) without overflow; torch's own cuts to x above 20, which float64 would see."""
    return x.clamp_min(0) + torch.log1p(torch.exp(-x.abs()))


def _simple_quantization(h: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Per element value and derivative of the l2 and log-cosh terms; the sign is a constant."""
    sign = torch.sign(h)
    if mode == "l2":
        return (h - sign).square(), 2 * (h - sign)
    distance = h.abs() - 1
    value = distance.abs() + _softplus(-2 * distance.abs()) - math.log(2.0)  # log cosh without overflow
    return value, torch.tanh(distance) * sign


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
    need_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss ``[]``, its parts ``[2]`` (quantization before eta) and dL/dh ``[B, K]`` (empty unless wanted)."""
    dtype = _compute_dtype(h.dtype)
    x = h.detach().to(dtype)
    v = x if bank is None else bank.detach().to(dtype)
    bank_labels = labels if bank is None else bank_labels
    rows_count, bits = x.shape
    columns = v.size(0)
    skip_diagonal = bank is None and not include_diagonal
    pairs = rows_count * columns - (rows_count if skip_diagonal else 0)
    tiles = _rows(rows_count, columns)
    similar = 0
    if pair_weights == "balanced":
        similar = sum(int(_tile(r, labels, bank_labels, similarity, skip_diagonal)[0].sum()) for r in tiles)
    weight_similar, weight_dissimilar = _pair_weights(similar, pairs, pair_weights)
    pair_factor = 1.0 / pairs if reduction == "mean" and pairs else 1.0
    bit_factor = pair_factor / bits if reduction == "mean" and bits else pair_factor
    sums = torch.zeros(2, dtype=torch.float64, device=h.device)
    grad = torch.zeros_like(x) if need_grad else x.new_empty(0)
    signs = torch.sign(v)
    for rows in tiles:
        s, used = _tile(rows, labels, bank_labels, similarity, skip_diagonal)
        target = s.to(dtype)
        theta = scale * (x[rows] @ v.T)
        weight = target * (weight_similar - weight_dissimilar) + weight_dissimilar
        if used is not None:
            weight = weight * used
        sums[0] += (weight * (_softplus(theta) - target * theta)).sum(dtype=torch.float64)
        if need_grad:
            dtheta = weight * (torch.sigmoid(theta) - target) * (scale * pair_factor)
            grad[rows] += dtheta @ v
            if bank is None:
                grad += dtheta.T @ x[rows]
        if quantization == "error_aware":
            b = torch.sign(x[rows])
            mask = torch.ones_like(target) if used is None else used.to(dtype)
            # c_ik: how many pairs select bit k of item i, from sums over the other items instead of a [B, N, K] mask
            agreement = (2 * target - 1) * mask @ signs
            selected = 0.5 * (b.abs() * (mask @ signs.abs()) + b * agreement)
            distance = x[rows] - b
            sums[1] += (selected * distance.square()).sum(dtype=torch.float64)
            if need_grad:
                grad[rows] += (2 * eta * bit_factor) * selected * distance
    parts = sums * torch.tensor([pair_factor, bit_factor], dtype=torch.float64, device=h.device)
    if quantization in ("l2", "log_cosh"):
        value, derivative = _simple_quantization(x, quantization)
        factor = 1.0 / max(1, x.numel()) if reduction == "mean" else 1.0
        parts[1] = value.sum(dtype=torch.float64) * factor
        if need_grad:
            grad += (eta * factor) * derivative
    loss = parts[0] + eta * parts[1]
    return loss.to(dtype), parts.to(dtype), grad.to(h.dtype)


def pairwise_loss_backward(grad_out: Tensor, grad: Tensor) -> Tensor:
    """dL/dh scaled with what arrives from above."""
    return grad * grad_out.to(grad.dtype)
