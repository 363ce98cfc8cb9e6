"""Eq. 3 by brute force: one element at a time in 50 digits, rounded once to float64; nothing from the package."""

from __future__ import annotations

import math

import numpy as np
from mpmath import mp, mpf

mp.dps = 50


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def amplify(g: float, bit: float, saturated: bool, alpha: float) -> float:
    """Eq. 3 for one gradient; the paper's missing third case passes it through."""
    return alpha * g if saturated and _sign(bit) == _sign(g) != 0 else g


def activation(kind: str, x: np.ndarray, beta: float) -> np.ndarray:
    """tanh or sigmoid of beta x."""
    function = mp.tanh if kind == "tanh" else lambda z: 1 / (1 + mp.exp(-z))
    return np.array([float(function(mpf(beta) * mpf(v))) for v in x.ravel().tolist()]).reshape(x.shape)


def _derivative(kind: str, x: float, beta: float) -> mpf:
    """From the hyperbolic secant, not from the exponential form that the kernels use."""
    if kind == "tanh":
        return mpf(beta) * mp.sech(mpf(beta) * mpf(x)) ** 2
    return mpf(beta) * mp.sech(mpf(beta) * mpf(x) / 2) ** 2 / 4


def backward(
    kind: str, g: np.ndarray, x: np.ndarray, tau: float, alpha: float, beta: float
) -> tuple[np.ndarray, int, int]:
    """``(dx, dead, saturated)``; for kind "identity" x is h and there is no derivative."""
    out, dead, saturated = [], 0, 0
    for gi, xi in zip(g.ravel().tolist(), x.ravel().tolist(), strict=True):
        reach = {"identity": abs(xi), "tanh": beta * abs(xi), "sigmoid": beta * abs(xi) / 2}[kind]
        is_saturated = reach >= (tau if kind == "identity" else math.atanh(tau))
        amplified = amplify(gi, xi, is_saturated, alpha)
        saturated += is_saturated
        dead += is_saturated and _sign(gi) == _sign(xi) != 0
        out.append(amplified if kind == "identity" else float(mpf(amplified) * _derivative(kind, xi, beta)))
    return np.array(out).reshape(g.shape), dead, saturated
