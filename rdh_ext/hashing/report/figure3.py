"""The paper's Fig. 3: the gradient of the loss for one pair of one-bit codes, with and without RDH, from our ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import amplified_tanh, pairwise_loss
from .style import THIRD, WITH, WITHOUT, dress, new_figure

H_J = 0.9
TAU = 0.99


def gradient_of_pair(logits: Tensor, *, amplified: bool, quantization: str, eta: float = 1.0) -> Tensor:
    """Eq. 2: dL / d logit of a similar pair (S = 1, h_j = 0.9, one bit, theta = h_i h_j / 2) at logits ``[M]``."""
    x = logits.detach().clone().requires_grad_()
    activation: Callable[[Tensor], Tensor] = (lambda t: amplified_tanh(t, TAU)) if amplified else torch.tanh
    labels = torch.zeros(len(x), dtype=torch.int64)
    bank = torch.full((1, 1), H_J, dtype=x.dtype)
    loss = pairwise_loss(
        activation(x).unsqueeze(1),
        labels,
        bank,
        labels[:1],
        scale=0.5,
        quantization=quantization,
        eta=eta,
        reduction="sum",
    )
    loss.backward()
    assert x.grad is not None
    return x.grad


def gradient_figure() -> Any:
    """Left: the paper's axis, h_i. Right: where tanh saturates on the wrong side, over the logit, on a log axis."""
    curves = (
        ("tanh, L2 quantization", False, "l2", WITHOUT),
        ("amplified tanh, L2 quantization", True, "l2", WITH),
        ("amplified tanh, error-aware quantization", True, "error_aware", THIRD),
    )
    edge = math.atanh(TAU)
    near_zero = torch.tensor([-1e-6, 1e-6], dtype=torch.float64)
    inner = torch.cat((torch.linspace(-0.9999, 0.9999, 4000, dtype=torch.float64), near_zero)).sort().values
    outer = torch.cat((torch.linspace(-8.0, -1.5, 600, dtype=torch.float64), torch.tensor([-edge - 1e-9, 1e-9 - edge])))
    outer = outer.sort().values
    figure = new_figure(11.0, 4.7)
    left, right = figure.subplots(1, 2)
    for label, amplified, quantization, style in curves:
        gradient = gradient_of_pair(torch.atanh(inner), amplified=amplified, quantization=quantization)
        left.plot(inner.tolist(), gradient.tolist(), label=label, **style)
        gradient = gradient_of_pair(outer, amplified=amplified, quantization=quantization)
        right.plot(outer.tolist(), gradient.abs().tolist(), **style)
    dress(
        left,
        title="Similar pair, $h_j = 0.9$, $\\eta = 1$",
        xlabel="$h_i$",
        ylabel="gradient with respect to the logit",
    )
    left.axhline(0.0, color="#888888", linewidth=0.8)
    left.annotate(
        "above 0: $h_i$ is pushed down", (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=9
    )
    left.annotate(
        "below 0:\n$h_i$ is pushed up", (0.03, 0.03), xycoords="axes fraction", ha="left", va="bottom", fontsize=9
    )
    dress(
        right,
        title="The saturated wrong side",
        xlabel="logit $x_i$, with $h_i = \\tanh x_i$",
        ylabel="|gradient|, log scale",
    )
    right.set_yscale("log")
    right.axvline(-edge, color="#888888", linewidth=0.8)
    right.annotate(
        f"$|h_i| \\geq {TAU:g}$ ",
        (-edge, 0.02),
        xycoords=("data", "axes fraction"),
        ha="right",
        va="bottom",
        fontsize=9,
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
