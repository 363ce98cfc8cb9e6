"""DSDH against a dense float64 loss and literal W- and B-steps written from its formulas; nothing of it on our ops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from discrete_cases import C, K, Loop, N, labels_of, literal_descent, literal_ridge, logits_of, one_hot, similarity
from discrete_cases import error_aware as eq_4
from torch import Tensor

import rdh_ext
from rdh_ext.hashing.methods import DSDH

TAU, ETA, COUPLING, MU, NU = 0.99, 0.3, 0.7, 4.0, 1.5
OPTIONS: dict[str, Any] = {"tau": TAU, "eta": ETA, "coupling": COUPLING, "mu": MU, "nu": NU}


def dense_loss(
    h: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, codes: Tensor, *, error_aware: bool
) -> Tensor:
    """The formula of the docstring, over explicit B x N and B x N x K; codes of 0 have no part in the coupling."""
    s = similarity(labels, bank_labels)
    theta = h @ bank.T / 2
    loss = (torch.logaddexp(theta, torch.zeros(())) - s * theta).mean()
    coded = (codes != 0).all(1)
    if coded.any():
        loss = loss + COUPLING * (codes[coded] - h[coded]).square().mean()
    return loss + ETA * eq_4(h, bank, s) if error_aware else loss


def literal_update(
    codes: Tensor, outputs: Tensor, labels: Tensor, rows: list[int], sweeps: int
) -> tuple[Tensor, Tensor]:
    """First codes, the W-step over all that have one, and the B-step over ``rows``, bit by bit, as the paper has it."""
    b, u, y = codes.double(), outputs.double(), one_hot(labels)
    for i in rows:
        if b[i, 0] == 0:
            b[i] = torch.where(u[i] >= 0, 1.0, -1.0).double()
    w = literal_ridge(b, y, NU / MU)
    b[rows] = literal_descent(b, w, y @ w.T + COUPLING / MU * u, sweeps)[rows]
    return b, w


def objective(codes: Tensor, w: Tensor, outputs: Tensor, labels: Tensor) -> float:
    """Over the items that have a code."""
    has = codes[:, 0] != 0
    b, u, y = codes[has].double(), outputs[has].double(), one_hot(labels)[has]
    return float(MU * (y - b @ w).square().sum() + NU * w.square().sum() + COUPLING * (b - u).square().sum())


@pytest.mark.parametrize("update", ["epoch", "batch"])
@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize(("amplifier", "error_aware"), [(False, False), (True, False), (False, True), (True, True)])
def test_dsdh_is_its_formula(update: str, kind: str, amplifier: bool, error_aware: bool) -> None:
    labels = labels_of(kind)
    switches: dict[str, Any] = {"rdh": amplifier and error_aware, "amplifier": amplifier, "error_aware": error_aware}
    method = DSDH(K, update=update, sweeps=2, **switches, **OPTIONS)
    method.begin(labels, steps=4)
    bank, codes = torch.zeros(N, K, dtype=torch.float64), torch.zeros(N, K, dtype=torch.float64)
    weights = torch.zeros(K, C, dtype=torch.float64)
    step, seen = 0, 0
    for epoch, items in enumerate((N - 6, N - 2, N - 2)):  # four come later, two never
        method.begin_epoch(epoch)
        if update == "epoch" and epoch:
            codes, weights = literal_update(codes, bank, labels, list(range(seen)), sweeps=2)
        seen = items
        for index in torch.arange(items).roll(epoch).split(13):
            logits = logits_of(len(index), seed=step).requires_grad_()
            parts = method.loss(method(logits), labels[index], index)
            h = torch.tanh(logits)
            bank[index] = h.detach().float().double()
            if update == "batch":
                codes, weights = literal_update(codes, bank, labels, index.tolist(), sweeps=2)
            expected = dense_loss(h, labels[index], bank, labels, codes[index], error_aware=error_aware)
            torch.testing.assert_close(parts.total, expected, rtol=1e-12, atol=1e-12)
            rest = parts.similarity + ETA * parts.quantization + COUPLING * method.coupling_error
            torch.testing.assert_close(rest, expected.detach(), rtol=1e-12, atol=1e-12)
            assert not rest.requires_grad
            assert (float(parts.quantization) > 0) is error_aware
            # no bit is saturated here, so the amplifier is silent
            torch.testing.assert_close(
                torch.autograd.grad(parts.total, logits), torch.autograd.grad(expected, logits), rtol=1e-9, atol=1e-12
            )
            assert torch.equal(method.codes.double(), codes)
            torch.testing.assert_close(method.weights, weights, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(
                float(method.discrete_objective()), objective(codes, weights, bank, labels), rtol=1e-9, atol=1e-9
            )
            step += 1
    assert not method.codes[-2:].any()
    assert method.codes[:-2].abs().eq(1).all()


@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_the_discrete_part_never_gets_worse(kind: str) -> None:
    labels = labels_of(kind)
    method = DSDH(K, **OPTIONS)
    method.begin(labels, steps=1)
    method.loss(torch.tanh(logits_of(N, 0)), labels, torch.arange(N))
    method.begin_epoch(1)
    changed = 0
    for seed in range(1, 6):
        method.loss(torch.tanh(logits_of(N, seed)), labels, torch.arange(N))
        for _ in range(3):
            before, old = method.discrete_objective(), method.codes.clone()
            method.begin_epoch(2)
            assert method.discrete_objective() <= before + 1e-9
            changed += int((old != method.codes).sum())
    assert changed


def test_amplifier_rescues_what_the_coupling_finds_dead() -> None:
    """The code of an item is on the other side of a saturated output: its gradient comes back amplified."""
    gradients = {}
    for amplifier in (False, True):
        method = DSDH(2, amplifier=amplifier, error_aware=False, **OPTIONS)
        method.begin(torch.tensor([0, 1]), steps=1)
        method.codes.copy_(torch.tensor([[-1, 1], [1, -1]]))
        logits = torch.tensor([[4.0, 0.5]], dtype=torch.float64, requires_grad=True)
        method.loss(method(logits), torch.tensor([0]), torch.tensor([0])).total.backward()
        assert logits.grad is not None
        gradients[amplifier] = logits.grad[0]
        assert method.counter.read()[:2] == (1, 1)
    torch.testing.assert_close(gradients[True][0], gradients[False][0] / (1 - TAU**2), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients[True][1], gradients[False][1], rtol=1e-6, atol=0)


def test_the_coupling_is_what_codes_do_and_eta_only_eq_4() -> None:
    labels, index = labels_of("ids"), torch.arange(N)
    h = torch.tanh(logits_of(N, 0))

    def total(codes: int, **options: Any) -> float:
        method = DSDH(K, **{**OPTIONS, **options})
        method.begin(labels, steps=1)
        method.codes.fill_(codes)
        return float(method.loss(h, labels, index).total)

    assert total(1) != total(-1)
    assert total(1, coupling=0.0) == total(-1, coupling=0.0)
    assert total(1, eta=5.0) == total(1)
    assert total(1, eta=5.0, error_aware=True) != total(1, error_aware=True)
    assert total(1, rdh=True) != total(-1, rdh=True)  # RDH keeps the coupling


def loop_of(labels: Tensor, batch: int, **options: Any) -> Loop:
    return Loop(DSDH(8, **options), labels, batch, lr=0.3)


@pytest.mark.parametrize("update", ["epoch", "batch"])
@pytest.mark.parametrize("rdh", [False, True])
def test_overfits_a_small_set(rdh: bool, update: str) -> None:
    loop = loop_of(torch.arange(12) % 3, batch=6, rdh=rdh, update=update)
    losses = [loop.epoch(number) for number in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    codes = loop.codes()
    distance = (8 - codes @ codes.T) / 2
    same = loop.labels[:, None] == loop.labels
    # one bit in which an item differs from its class is more than likelihood and codes can tell from none
    assert distance[same].max() <= 1
    assert distance[~same].min() >= 4
    assert torch.equal(loop.method.codes.float(), codes)


@pytest.mark.parametrize("update", ["epoch", "batch"])
@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_goes_on_from_a_state_bit_for_bit(kind: str, update: str) -> None:
    labels = labels_of(kind)
    whole = loop_of(labels, batch=10, rdh=True, update=update)
    for number in range(3):
        whole.epoch(number)
    resumed = loop_of(labels, batch=10, rdh=True, update=update)
    whole.copy_state_to(resumed)
    assert [whole.epoch(number) for number in (3, 4)] == [resumed.epoch(number) for number in (3, 4)]
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name
    assert {"codes", "weights", "bank.outputs"} <= set(whole.method.state_dict())


@pytest.mark.parametrize("update", ["epoch", "batch"])
def test_small_and_odd_sets(update: str) -> None:
    # one bit, one item, one class
    method = DSDH(1, update=update)
    method.begin(torch.tensor([10**12]), steps=1)
    for epoch in range(2):
        method.begin_epoch(epoch)
        method.loss(torch.tensor([[-0.5]]), torch.tensor([10**12]), torch.tensor([0]))
    assert method.codes.tolist() == [[-1]]
    # a batch longer than the set: its items come twice
    method = DSDH(K, update=update)
    method.begin(torch.tensor([0, 1, 1]), steps=1)
    index = torch.tensor([0, 1, 2, 0, 1], dtype=torch.uint8)
    for epoch in range(2):
        method.begin_epoch(epoch)
        h = torch.tanh(logits_of(3, 0))[index.long()].float()
        assert method.loss(h, torch.tensor([0, 1, 1, 0, 1]), index).total.isfinite()
    # no item has a label
    method = DSDH(K, update=update, rdh=True)
    method.begin(torch.zeros(4, C), steps=1)
    for epoch in range(2):
        method.begin_epoch(epoch)
        assert method.loss(torch.tanh(logits_of(4, 0)), torch.zeros(4, C), torch.arange(4)).total.isfinite()
    assert not method.weights.any()
    assert torch.equal(method.codes.double(), torch.sign(logits_of(4, 0)))  # the outputs alone say
    # an output of 0 has the code of the packed bit, which is 1
    method = DSDH(2, update=update)
    method.begin(torch.zeros(1, C), steps=1)
    for epoch in range(2):
        method.begin_epoch(epoch)
        method.loss(torch.tensor([[0.0, -0.1]]), torch.zeros(1, C), torch.tensor([0]))
    assert method.codes.tolist() == [[1, -1]]


def test_outputs_that_are_not_finite_leave_codes_as_they_are() -> None:
    method = DSDH(K, **OPTIONS)
    labels = labels_of("ids")
    method.begin(labels, steps=1)
    method.loss(torch.tanh(logits_of(N, 0)), labels, torch.arange(N))
    method.begin_epoch(1)
    codes = method.codes.clone()
    method.loss(torch.full((N, K), float("nan")), labels, torch.arange(N))
    method.begin_epoch(2)
    assert torch.equal(method.codes, codes)


@pytest.mark.parametrize("converted", [False, True])
def test_half_precision_outputs(converted: bool) -> None:
    method = DSDH(K, rdh=True, update="batch")
    labels = labels_of("ids")
    method.begin(labels, steps=1)
    if converted:
        method.bfloat16()
    logits = logits_of(N, 0).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for epoch in range(2):
            method.begin_epoch(epoch)
            parts = method.loss(method(logits), labels, torch.arange(N))
    parts.total.backward()
    assert parts.total.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("option", "bad", "words"),
    [
        ("coupling", -0.1, "DSDH: coupling must be finite and >= 0, got -0.1"),
        ("coupling", float("nan"), "DSDH: coupling must be finite and >= 0, got nan"),
        ("mu", 0.0, "DSDH: mu must be finite and > 0, got 0.0"),
        ("nu", float("inf"), "DSDH: nu must be finite and > 0, got inf"),
        ("sweeps", 0, "DSDH: sweeps must be a number of sweeps >= 1, got 0"),
        ("update", "step", "DSDH: update must be one of 'epoch', 'batch', got 'step'"),
    ],
)
def test_options_are_checked(option: str, bad: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        DSDH(K, **{option: bad})
    assert str(caught.value) == words


def test_loss_needs_begin_and_index() -> None:
    method, h, labels = DSDH(K), torch.zeros(2, K), torch.tensor([0, 1])
    method.begin_epoch(0)
    with pytest.raises(ValueError, match=r"^DSDH: begin must be called [^\n]*$"):
        method.loss(h, labels, torch.arange(2))
    with pytest.raises(ValueError, match=r"^DSDH: begin must be called [^\n]*$"):
        method.discrete_objective()
    method.begin(labels, steps=1)
    with pytest.raises(ValueError, match=r"^DSDH: index must be [^\n]*, got None$"):
        method.loss(h, labels)


def test_names() -> None:
    assert DSDH(K).label == "DSDH"
    assert DSDH(K, rdh=True).label == "DSDH + RDH"
    assert isinstance(DSDH(K, rdh=True).activation, rdh_ext.nn.AmplifiedTanh)
    assert not list(DSDH(K, rdh=True).parameters())
