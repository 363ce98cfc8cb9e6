"""Eq. 1 and Eq. 4 in float64 with everything dense: one entry per pair, and per pair and bit; nothing from the package.

The gradient is autograd's; signs, masks and weights are constants for it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Result(NamedTuple):
    loss: Tensor
    similarity: Tensor
    quantization: Tensor
    grad: Tensor


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """S ``[B, N]``: 1 where two items share at least one label."""
    if a.dim() == 1:
        return torch.tensor([[float(p == q) for q in b.tolist()] for p in a.tolist()]).reshape(len(a), len(b)).double()
    return (a.bool()[:, None, :] & b.bool()[None, :, :]).any(2).double()


def log_cosh(z: Tensor) -> Tensor:
    """(e^z + e^-z) / 2, in a form that does not overflow."""
    return torch.logaddexp(z, -z) - torch.log(torch.tensor(2.0, dtype=torch.float64))


def weights_of_pairs(s: Tensor, used: Tensor, mode: str) -> Tensor:
    """1, or HashNet's |S| / |S1| for similar and |S| / |S0| for dissimilar pairs, of those used."""
    if mode == "none":
        return torch.ones_like(s)
    pairs = used.sum().double()
    similar, dissimilar = ((s == 1) & used).sum(), ((s == 0) & used).sum()
    return torch.where(s == 1, pairs / similar, pairs / dissimilar)


def reduce(values: Tensor, reduction: str) -> Tensor:
    """Mean or sum; 0 where there is nothing."""
    return values.mean() if reduction == "mean" and values.numel() else values.sum()


def selection(s: Tensor, h: Tensor, v: Tensor) -> Tensor:
    """Eq. 4's condition (-1)^S delta = -1 for every (i, j, k), with delta = sign(h_ik) sign(v_jk)."""
    delta = torch.sign(h)[:, None, :] * torch.sign(v)[None, :, :]
    return torch.where(s == 1, -1.0, 1.0)[:, :, None] * delta == -1


def pairwise_loss(
    h: Tensor,
    bank: Tensor | None,
    s: Tensor,
    *,
    scale: float = 0.5,
    pair_weights: str = "none",
    quantization: str = "error_aware",
    eta: float = 0.1,
    include_diagonal: bool = True,
    reduction: str = "mean",
) -> Result:
    """Loss, its parts and dL/dh, for S given."""
    h = h.detach().double().requires_grad_()
    v = h if bank is None else bank.detach().double()
    used = torch.ones(s.shape, dtype=torch.bool)
    if not include_diagonal:
        used[torch.arange(len(h)), torch.arange(len(h))] = False
    theta = scale * torch.einsum("ik,jk->ij", h, v)
    per_pair = torch.logaddexp(torch.zeros_like(theta), theta) - s * theta
    weight = weights_of_pairs(s, used, pair_weights)
    likelihood = reduce(weight[used] * per_pair[used], reduction)
    if quantization == "error_aware":
        squares = (h - torch.sign(h).detach()).square()[:, None, :].expand(-1, len(v), -1)
        per_bit = torch.where(selection(s, h.detach(), v.detach()), squares, 0.0)[used]
    elif quantization == "l2":
        per_bit = (h - torch.sign(h).detach()).square()
    elif quantization == "log_cosh":
        per_bit = log_cosh(h.abs() - 1)
    else:
        per_bit = torch.zeros(0, dtype=torch.float64)
    quantized = reduce(per_bit, reduction)
    loss = likelihood + eta * quantized
    (grad,) = torch.autograd.grad(loss, h)
    return Result(loss.detach(), likelihood.detach(), quantized.detach(), grad)
