"""Pure torch: tanh and sigmoid with the gradient amplifier (Eq. 3), derivative taken from ``x``.

Numerics as in the native kernels: everything is computed in float32 (float64 for double) whatever the storage type, the
derivative of tanh as ``4 e / (1 + e)^2`` with ``e = exp(-2 |beta x|)``, so that it does not vanish where ``h`` has
already rounded to +-1, and ``|h| >= tau`` is decided from ``x``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def no_counts(x: Tensor) -> Tensor:
    """The empty placeholder that a backward op returns when nobody counts."""
    return x.new_empty(0, dtype=torch.float64)


def _count(dead: Tensor, saturated: Tensor) -> Tensor:
    """``[dead, saturated, total]`` as float64 (exact up to 2^53)."""
    counts = torch.stack((dead.sum(), saturated.sum(), torch.ones_like(dead, dtype=torch.int64).sum()))
    return counts.to(torch.float64)


def _amplify(grad: Tensor, sign: Tensor, saturated: Tensor, alpha: float, count: bool) -> tuple[Tensor, Tensor]:
    """Eq. 3: ``alpha * grad`` on saturated bits that the gradient wants to leave, ``grad`` elsewhere."""
    dead = saturated & (torch.sign(grad) == sign) & (grad != 0)
    amplified = torch.where(dead, alpha * grad, grad)
    return amplified, _count(dead, saturated) if count else no_counts(grad)


def _saturating_backward(
    grad: Tensor, x: Tensor, tau: float, alpha: float, rate: float, slope: float, count: bool
) -> tuple[Tensor, Tensor]:
    """``rate``: ``e = exp(-rate |x|)``; ``slope``: the derivative is ``slope e / (1 + e)^2``; both activations fit."""
    dtype = _compute_dtype(x.dtype)
    wide, g = x.to(torch.float64), grad.to(dtype)
    # exp in float64: the product rate * |x| rounded to float32 would cost up to |x| ulp of the derivative
    e = torch.exp(-rate * wide.abs())
    derivative = slope * e / (1 + e).square()
    saturated = wide.abs() >= 2 * math.atanh(tau) / rate
    amplified, counts = _amplify(g, torch.sign(wide).to(dtype), saturated, alpha, count)
    return (amplified * derivative).to(x.dtype).contiguous(), counts


def amplified_tanh(x: Tensor, tau: float, alpha: float, beta: float, counter: Tensor | None = None) -> Tensor:
    """``tanh(beta x)``."""
    return torch.tanh(beta * x.to(torch.float64)).to(x.dtype).contiguous()


def amplified_tanh_backward(
    grad: Tensor, x: Tensor, tau: float, alpha: float, beta: float, count: bool
) -> tuple[Tensor, Tensor]:
    """``GA(grad) * beta * sech^2(beta x)`` and the bit counts."""
    return _saturating_backward(grad, x, tau, alpha, 2 * beta, 4 * beta, count)


def amplified_sigmoid(x: Tensor, tau: float, alpha: float, beta: float, counter: Tensor | None = None) -> Tensor:
    """``1 / (1 + exp(-beta x))``."""
    return torch.sigmoid(beta * x.to(torch.float64)).to(x.dtype).contiguous()


def amplified_sigmoid_backward(
    grad: Tensor, x: Tensor, tau: float, alpha: float, beta: float, count: bool
) -> tuple[Tensor, Tensor]:
    """``GA(grad) * beta * sigmoid'(beta x)`` and the bit counts; the bit is ``2 h - 1``."""
    return _saturating_backward(grad, x, tau, alpha, beta, beta, count)


def gradient_amplifier_backward(
    grad: Tensor, h: Tensor, tau: float, alpha: float, count: bool
) -> tuple[Tensor, Tensor]:
    """Eq. 3 alone: ``GA(grad)`` and the bit counts; the bit is ``h``."""
    dtype = _compute_dtype(h.dtype)
    wide = h.to(torch.float64)
    saturated = wide.abs() >= tau
    amplified, counts = _amplify(grad.to(dtype), torch.sign(wide).to(dtype), saturated, alpha, count)
    return amplified.to(h.dtype).contiguous(), counts
