"""DPSH against its formula over the explicit B x N x K cube; the bank between steps and in checkpoints."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import Tensor, nn

from rdh_ext.hashing.methods import DPSH

TAU, ETA, ITEMS, BITS = 0.99, 0.3, 23, 12


def labels_of(kind: str) -> Tensor:
    """Class ids, or rows of which some share labels and one has none."""
    if kind == "class ids":
        return torch.arange(ITEMS) % 4
    rows = torch.rand(ITEMS, 5) < 0.35
    rows[3] = False
    return rows


def dense_dpsh(h: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, *, error_aware: bool) -> Tensor:
    """Mean over (i, j) of the likelihood; plus the mean over (i, k) of (h - sign h)^2, or Eq. 4 over (i, j, k)."""
    if labels.dim() == 1:
        s = (labels[:, None] == bank_labels[None, :]).double()
    else:
        s = (labels[:, None, :] & bank_labels[None, :, :]).any(2).double()
    theta = (h[:, None, :] * bank[None, :, :]).sum(2) / 2
    loss = (torch.logaddexp(theta, torch.zeros(())) - s * theta).mean()
    sign = torch.sign(h.detach())
    square = (h - sign) ** 2
    if error_aware:
        agree = sign[:, None, :] * torch.sign(bank)[None, :, :] * (2 * s - 1)[:, :, None] == 1
        return loss + ETA * (agree * square[:, None, :]).mean()
    return loss + ETA * square.mean()


@pytest.mark.parametrize("labels_kind", ["class ids", "multi-hot"])
@pytest.mark.parametrize("rdh", [False, True])
def test_is_its_formula(rdh: bool, labels_kind: str) -> None:
    labels = labels_of(labels_kind)
    method = DPSH(BITS, rdh=rdh, tau=TAU, eta=ETA)
    method.begin(labels, steps=4)
    method.double()  # the bank keeps float32 otherwise
    bank = torch.zeros(ITEMS, BITS, dtype=torch.float64)
    order = torch.randperm(ITEMS)
    batches = [order[:7], order[7:14], order[3:11], order[11:]]  # two of them without unseen items after them
    for index in batches:
        logits = torch.randn(len(index), BITS, dtype=torch.float64).clamp_(-2.6, 2.6).requires_grad_()
        h = torch.tanh(logits)
        bank[index] = h.detach()  # before the loss
        expected = dense_dpsh(h, labels[index], bank, labels, error_aware=rdh)
        parts = method.loss(method(logits), labels[index], index)
        torch.testing.assert_close(parts.total, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(parts.similarity + ETA * parts.quantization, expected, rtol=1e-12, atol=0)
        # no bit is saturated here, so the amplifier is silent and both gradients are the plain ones
        (gradient,) = torch.autograd.grad(parts.total, logits)
        (plain,) = torch.autograd.grad(expected, logits)
        torch.testing.assert_close(gradient, plain, rtol=1e-9, atol=1e-13)
        assert method.bank is not None
        torch.testing.assert_close(method.bank.outputs, bank, rtol=1e-15, atol=0)
    assert method.bank.filled.all()


def test_unseen_items_count_log_2_and_pull_nowhere() -> None:
    labels = torch.arange(ITEMS) % 4
    index = torch.arange(6)
    h = torch.tanh(torch.randn(6, BITS, dtype=torch.float64)).requires_grad_()

    def likelihood(items: int) -> tuple[Tensor, Tensor]:
        method = DPSH(BITS, eta=0.0)
        method.begin(labels[:items], 1)
        total = method.double().loss(h, labels[index], index).total
        return total.detach(), torch.autograd.grad(total, h)[0]

    (alone, gradient), (diluted, smaller) = likelihood(6), likelihood(ITEMS)
    torch.testing.assert_close(diluted, (6 * alone + (ITEMS - 6) * math.log(2)) / ITEMS, rtol=1e-12, atol=0)
    torch.testing.assert_close(smaller, gradient * 6 / ITEMS, rtol=1e-10, atol=1e-15)


def test_needs_begin_and_positions() -> None:
    h, labels = torch.randn(4, BITS), torch.arange(4)
    method = DPSH(BITS)
    with pytest.raises(ValueError, match=r"^DPSH: begin must be called with the labels of all items before loss$"):
        method.loss(h, labels, torch.arange(4))
    method.begin(labels, 1)
    with pytest.raises(ValueError, match=r"^DPSH: index must be the positions \[B\] in the training set, got None$"):
        method.loss(h, labels)
    with pytest.raises(ValueError, match=r"CodeBank: index must be in \[0, 4\), got 4"):
        method.loss(h, labels, torch.arange(1, 5))
    assert method.bank is not None
    assert not method.bank.filled.any()  # nothing was written by calls that failed


def test_begin_starts_anew() -> None:
    method = DPSH(BITS)
    method.begin(torch.arange(4), 1)
    method.loss(torch.randn(4, BITS), torch.arange(4), torch.arange(4))
    labels = torch.arange(9) % 3
    method.begin(labels, 1)
    assert method.bank is not None
    assert method.bank.outputs.shape == (9, BITS)
    assert not method.bank.outputs.any()
    assert torch.equal(method.bank.labels, labels)


class Training:
    """Network, method and optimizer with momentum, all from one seed; what a loop would save."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.labels = torch.randn(ITEMS, 8, generator=generator), labels_of("class ids")
        self.batches = [torch.randperm(ITEMS, generator=generator)[:6] for _ in range(8)]
        torch.manual_seed(seed)
        self.network = nn.Linear(8, BITS)
        self.method = DPSH(BITS, rdh=True)
        self.method.begin(self.labels, len(self.batches))
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.5, momentum=0.9)

    def run(self, first: int, last: int) -> list[float]:
        losses = []
        for index in self.batches[first:last]:
            total = self.method.loss(self.method(self.network(self.x[index])), self.labels[index], index).total
            self.optimizer.zero_grad()
            total.backward()
            self.optimizer.step()
            losses.append(total.item())
        return losses

    @property
    def parts(self) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
        return self.network, self.method, self.optimizer


def test_goes_on_bit_for_bit_from_a_checkpoint() -> None:
    whole = Training(0)
    assert sorted(whole.method.state_dict()) == ["bank.filled", "bank.labels", "bank.outputs"]
    assert not DPSH(BITS).state_dict()  # its size is not known before begin
    losses = whole.run(0, 8)

    first = Training(0)
    assert first.run(0, 4) == losses[:4]
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first.parts], file)
    file.seek(0)
    second = Training(1)
    second.run(2, 3)  # whatever is there is overwritten
    for part, state in zip(second.parts, torch.load(file), strict=True):
        part.load_state_dict(state)
    assert second.run(4, 8) == losses[4:]
    for key, value in whole.method.state_dict().items():
        assert torch.equal(value, second.method.state_dict()[key]), key
    # and the bank matters: without it the same weights have another loss
    forgetful = Training(0)
    forgetful.network.load_state_dict(first.network.state_dict())
    assert forgetful.run(4, 5) != losses[4:5]
