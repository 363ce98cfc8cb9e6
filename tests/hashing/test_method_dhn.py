"""DHN against its formula over all pairs of the batch, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rdh_ext.hashing.methods import DHN

TAU, BATCH, BITS = 0.99, 17, 12


def dense_dhn(h: Tensor, labels: Tensor, *, scale: float, eta: float, error_aware: bool) -> Tensor:
    """Mean over (i, j) of the likelihood; plus the mean over (i, k) of log cosh(|h| - 1), or Eq. 4 over (i, j, k)."""
    if labels.dim() == 1:
        s = (labels[:, None] == labels[None, :]).double()
    else:
        s = (labels[:, None, :] & labels[None, :, :]).any(2).double()
    theta = scale * (h[:, None, :] * h[None, :, :]).sum(2)
    loss = (torch.log1p(torch.exp(theta)) - s * theta).mean()
    if error_aware:
        sign = torch.sign(h.detach())
        agree = sign[:, None, :] * sign[None, :, :] * (2 * s - 1)[:, :, None] == 1
        return loss + eta * (agree * ((h - sign) ** 2)[:, None, :]).mean()
    return loss + eta * torch.log(torch.cosh(h.abs() - 1)).mean()


@pytest.mark.parametrize("options", [{}, {"scale": 1.0, "eta": 1.0}], ids=["Eq. 1 of RDH", "its own paper"])
@pytest.mark.parametrize("labels_kind", ["class ids", "multi-hot"])
@pytest.mark.parametrize("rdh", [False, True])
def test_is_its_formula(rdh: bool, labels_kind: str, options: dict[str, float]) -> None:
    labels = torch.arange(BATCH) % 4 if labels_kind == "class ids" else torch.rand(BATCH, 5) < 0.35
    logits = torch.randn(BATCH, BITS, dtype=torch.float64).clamp_(-2.6, 2.6).requires_grad_()
    method = DHN(BITS, rdh=rdh, tau=TAU, **options)
    parts = method.loss(method(logits), labels)
    scale, eta = options.get("scale", 0.5), options.get("eta", 0.1)
    expected = dense_dhn(torch.tanh(logits), labels, scale=scale, eta=eta, error_aware=rdh)
    torch.testing.assert_close(parts.total, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(parts.similarity + eta * parts.quantization, expected, rtol=1e-12, atol=0)
    assert parts.quantization > 0
    # no bit is saturated here, so the amplifier is silent and both gradients are the plain ones
    (gradient,) = torch.autograd.grad(parts.total, logits)
    (plain,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, plain, rtol=1e-9, atol=1e-13)


def test_keeps_nothing_of_items() -> None:
    method = DHN(BITS)
    method.begin(torch.arange(100), 10)
    h, labels = torch.tanh(torch.randn(4, BITS)), torch.arange(4)
    assert method.loss(h, labels).total == method.loss(h, labels, torch.tensor([9, 3, 4, 1])).total
    assert not method.state_dict()
