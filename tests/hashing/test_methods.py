"""Methods against dense float64 losses written from their formulas; RDH swaps in two things and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import rdh_ext
from rdh_ext.hashing.methods import METHODS, HashNet

TAU, ETA = 0.99, 0.3


def dense_hashnet(h: Tensor, labels: Tensor, *, error_aware: bool) -> Tensor:
    """HashNet's balanced likelihood, and Eq. 4 over the explicit B x B x K cube."""
    batch, bits = h.shape
    s = (labels[:, None] == labels[None, :]).double()
    theta = 10.0 / bits * (h @ h.T)
    weights = torch.where(s == 1, batch**2 / s.sum(), batch**2 / (1 - s).sum())
    loss = (weights * (torch.logaddexp(theta, torch.zeros(())) - s * theta)).mean()
    if error_aware:
        sign = torch.sign(h.detach())
        agree = sign[:, None, :] * sign[None, :, :] * (2 * s - 1)[:, :, None] == 1
        loss = loss + ETA * (agree * ((h - sign) ** 2)[:, None, :]).sum() / (batch**2 * bits)
    return loss


@pytest.mark.parametrize("rdh", [False, True])
def test_hashnet_is_its_formula(rdh: bool) -> None:
    logits = torch.randn(17, 12, dtype=torch.float64).clamp_(-2.6, 2.6).requires_grad_()
    labels = torch.arange(17) % 4
    method = HashNet(12, rdh=rdh, tau=TAU, eta=ETA)
    parts = method.loss(method(logits), labels)
    expected = dense_hashnet(torch.tanh(logits), labels, error_aware=rdh)
    torch.testing.assert_close(parts.total, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.similarity + ETA * parts.quantization, expected, rtol=1e-12, atol=1e-12)
    assert (float(parts.quantization) > 0) is rdh
    assert not parts.similarity.requires_grad
    assert not parts.quantization.requires_grad
    # no bit is saturated here, so the amplifier is silent and both gradients are the plain ones
    assert torch.tanh(logits).abs().max() < TAU
    (gradient,) = torch.autograd.grad(parts.total, logits)
    (plain,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rdh", [False, True])
def test_dead_bits_are_counted_alike_and_amplified_only_with_rdh(rdh: bool) -> None:
    logits = (3 * torch.randn(32, 16, dtype=torch.float64)).requires_grad_()
    labels = torch.arange(32) % 3
    method = HashNet(16, rdh=rdh, tau=TAU, eta=0.0)
    method.loss(method(logits), labels).total.backward()
    h = torch.tanh(logits.detach()).requires_grad_()
    dense_hashnet(h, labels, error_aware=False).backward()
    assert h.grad is not None
    saturated = h.abs() >= TAU
    dead = saturated & (h.sign() == h.grad.sign())
    assert method.counter.read() == (int(dead.sum()), int(saturated.sum()), h.numel())
    assert 0 < dead.sum() < saturated.sum()
    factor = torch.where(dead, 1 / (1 - TAU**2), 1.0) if rdh else torch.ones_like(h)
    expected = factor * h.grad * (1 - h.detach() ** 2)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-6, atol=1e-12)


def test_baseline_uses_plain_tanh() -> None:
    logits = torch.tensor([[12.0, -0.5]])
    assert torch.equal(HashNet(2)(logits), torch.tanh(logits))
    deep = logits.clone().requires_grad_()
    HashNet(2)(deep).sum().backward()
    assert deep.grad is not None
    assert deep.grad[0, 0] == 0  # tanh has rounded to 1: no amplifier outside tanh could bring this bit back
    rescued = logits.clone().requires_grad_()
    HashNet(2, rdh=True)(rescued).sum().backward()
    assert rescued.grad is not None
    assert rescued.grad[0, 0] > 0


def test_labels_scale_and_registry() -> None:
    assert METHODS["hashnet"] is HashNet
    assert HashNet(32).label == "HashNet"
    assert HashNet(32, rdh=True).label == "HashNet + RDH"
    assert HashNet(32).scale == pytest.approx(0.3125)
    assert isinstance(HashNet(8, rdh=True).activation, rdh_ext.nn.AmplifiedTanh)
    assert not list(HashNet(8, rdh=True).parameters())
