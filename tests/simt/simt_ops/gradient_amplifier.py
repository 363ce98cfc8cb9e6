"""The amplifier's ops on the simulator: what csrc/bindings/cuda/gradient_amplifier_op.cpp does on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import ELEMENTS, call

ACTIVATIONS = {"identity": 0, "tanh": 1, "sigmoid": 2}


def _forward(kind: str) -> Callable[..., Tensor]:
    def forward(x: Tensor, tau: float, alpha: float, beta: float, counter: Tensor | None = None) -> Tensor:
        x = x.contiguous()
        h = torch.empty_like(x)
        size = ctypes.c_int64(x.numel())
        call("simt_gradient_amplifier_forward", ACTIVATIONS[kind], ELEMENTS[x.dtype], x, h, size, tau, alpha, beta)
        return h

    return forward


def _backward(kind: str) -> Callable[..., tuple[Tensor, Tensor]]:
    def backward(grad: Tensor, x: Tensor, tau: float, alpha: float, *rest: Any) -> tuple[Tensor, Tensor]:
        beta, count = rest if len(rest) == 2 else (1.0, *rest)
        if grad.shape != x.shape or grad.dtype != x.dtype:
            raise RuntimeError(f"simt: the gradient must be like x, got {grad.dtype} {list(grad.shape)}")
        grad, x = grad.contiguous(), x.contiguous()
        dx = torch.empty_like(x)
        counts = torch.zeros(3 if count else 0, dtype=torch.float64)
        call(
            "simt_gradient_amplifier_backward",
            *(ACTIVATIONS[kind], ELEMENTS[x.dtype], grad, x, dx, ctypes.c_int64(x.numel()), tau, alpha, beta),
            counts if count else None,
        )
        return dx, counts

    return backward


OPS: dict[str, Callable[..., Any]] = {
    "amplified_tanh": _forward("tanh"),
    "amplified_tanh_backward": _backward("tanh"),
    "amplified_sigmoid": _forward("sigmoid"),
    "amplified_sigmoid_backward": _backward("sigmoid"),
    "gradient_amplifier_backward": _backward("identity"),
}
