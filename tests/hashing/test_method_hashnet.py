"""HashNet against its formula over all pairs of the batch; its continuation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rdh_ext.hashing.methods import HashNet

TAU, ETA, BATCH, BITS = 0.99, 0.3, 17, 12


def dense_hashnet(h: Tensor, labels: Tensor, *, alpha: float, error_aware: bool) -> Tensor:
    """Mean over (i, j) of the weighted likelihood; plus Eq. 4 over the B x B x K cube."""
    if labels.dim() == 1:
        s = (labels[:, None] == labels[None, :]).double()
    else:
        s = (labels[:, None, :] & labels[None, :, :]).any(2).double()
    theta = alpha * (h[:, None, :] * h[None, :, :]).sum(2)
    pairs = float(len(h) ** 2)
    weights = torch.where(s == 1, pairs / s.sum(), pairs / (1 - s).sum())
    loss = (weights * (torch.logaddexp(theta, torch.zeros(())) - s * theta)).mean()
    if error_aware:
        sign = torch.sign(h.detach())
        agree = sign[:, None, :] * sign[None, :, :] * (2 * s - 1)[:, :, None] == 1
        loss = loss + ETA * (agree * ((h - sign) ** 2)[:, None, :]).mean()
    return loss


@pytest.mark.parametrize("alpha", [None, 0.1, 1])
@pytest.mark.parametrize("labels_kind", ["class ids", "multi-hot"])
@pytest.mark.parametrize("rdh", [False, True])
def test_is_its_formula(rdh: bool, labels_kind: str, alpha: float | None) -> None:
    labels = torch.arange(BATCH) % 4 if labels_kind == "class ids" else torch.rand(BATCH, 5) < 0.25
    logits = torch.randn(BATCH, BITS, dtype=torch.float64).clamp_(-2.6, 2.6).requires_grad_()
    method = HashNet(BITS, rdh=rdh, tau=TAU, eta=ETA, alpha=alpha)
    parts = method.loss(method(logits), labels)
    factor = 10 / BITS if alpha is None else alpha
    assert method.scale == pytest.approx(factor)
    expected = dense_hashnet(torch.tanh(logits), labels, alpha=factor, error_aware=rdh)
    torch.testing.assert_close(parts.total, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(parts.similarity + ETA * parts.quantization, expected, rtol=1e-12, atol=0)
    assert (float(parts.quantization) > 0) is rdh
    # no bit is saturated here, so the amplifier is silent and both gradients are the plain ones
    (gradient,) = torch.autograd.grad(parts.total, logits)
    (plain,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, plain, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("labels", [torch.zeros(4, dtype=torch.int64), torch.arange(4)], ids=["one class", "no two"])
def test_batch_of_one_kind_of_pairs(labels: Tensor) -> None:
    h = torch.tanh(torch.randn(4, BITS)).requires_grad_()
    total = HashNet(BITS).loss(h, labels).total
    total.backward()
    assert total.isfinite()
    assert h.grad is not None
    assert h.grad.isfinite().all()
    assert h.grad.any()


def test_continuation_follows_its_schedule() -> None:
    none, by_step, by_epoch = (HashNet(BITS, continuation=name) for name in ("none", "sqrt_step", "sqrt_epoch"))
    for step, expected in ((0, 1.0), (200, math.sqrt(2)), (600, 2.0), (10_000, math.sqrt(51))):
        for method in (none, by_step, by_epoch):
            method.begin_step(step)
        assert by_step.beta == pytest.approx(expected, rel=1e-15)
        assert none.beta == by_epoch.beta == 1.0
    by_step.begin_step(0)
    for epoch, expected in (
        (0, 1.0),
        (19, 1.0),
        (20, math.sqrt(2)),
        (39, math.sqrt(2)),
        (60, 2.0),
        (149, math.sqrt(8)),
    ):
        for method in (none, by_step, by_epoch):
            method.begin_epoch(epoch)
        assert by_epoch.beta == pytest.approx(expected, rel=1e-15)
        assert none.beta == by_step.beta == 1.0


@pytest.mark.parametrize("rdh", [False, True])
def test_both_activations_grow_steeper(rdh: bool) -> None:
    """h = tanh(beta x), dh/dx = beta (1 - h^2); saturated bits are those of the steep tanh."""
    logits = torch.randn(BATCH, BITS, dtype=torch.float64).requires_grad_()
    labels = torch.arange(BATCH) % 4
    method = HashNet(BITS, rdh=rdh, tau=TAU, eta=ETA, continuation="sqrt_step")
    method.begin_step(600)
    h = method(logits)
    torch.testing.assert_close(h, torch.tanh(2 * logits), rtol=1e-14, atol=0)
    h.retain_grad()
    method.loss(h, labels).total.backward()
    assert h.grad is not None
    saturated = h.detach().abs() >= TAU
    dead = saturated & (h.sign() == h.grad.sign())
    assert dead.any()
    assert not torch.equal(saturated, torch.tanh(logits).abs() >= TAU)
    plain = h.grad * 2 * (1 - h.detach() ** 2)
    amplified = torch.where(dead, plain / (1 - TAU**2), plain)
    torch.testing.assert_close(logits.grad, amplified if rdh else plain, rtol=1e-9, atol=1e-15)
    assert method.counter.read() == (int(dead.sum()), int(saturated.sum()), h.numel())
    assert torch.equal(torch.sign(h), torch.sign(logits))
    assert not method.state_dict()
    assert repr(method.activation).endswith("(tau=0.99, beta=2)")
