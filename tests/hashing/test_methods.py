"""What holds for every method over pairs: RDH swaps in two things and nothing else; learning, sizes, types, options.

The formulas themselves are in ``test_method_*.py``. DPSH gets a bank of exactly the batch here.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import pytest
import torch
from oracles import pairwise_loss as oracle
from torch import Tensor, nn

import rdh_ext
from rdh_ext.hashing.methods import DHN, DPSH, METHODS, HashingMethod, HashNet, MethodLoss

TAU, ETA = 0.99, 0.3
KINDS = (DPSH, DHN, HashNet)
OWN_TERM = {DPSH: "l2", DHN: "log_cosh", HashNet: "none"}
each_kind = pytest.mark.parametrize("kind", KINDS)
with_and_without = pytest.mark.parametrize("rdh", [False, True])


def ready(kind: type[HashingMethod], bits: int, labels: Tensor, **options: object) -> HashingMethod:
    """A method that has begun, for items with these labels."""
    method = kind(bits, **options)
    method.begin(labels, 1)
    return method


def expected(kind: type[HashingMethod], h: Tensor, labels: Tensor, *, error_aware: bool, eta: float) -> oracle.Result:
    """Loss, parts and dL/dh in float64, everything dense."""
    return oracle.pairwise_loss(
        h,
        h if kind is DPSH else None,
        oracle.similarity(labels, labels),
        scale=10 / h.size(1) if kind is HashNet else 0.5,
        pair_weights="balanced" if kind is HashNet else "none",
        quantization="error_aware" if error_aware else OWN_TERM[kind],
        eta=eta,
    )


class Run(NamedTuple):
    """One step of a method, from logits and back."""

    h: Tensor
    parts: MethodLoss
    grad_of_h: Tensor
    grad_of_logits: Tensor
    counts: rdh_ext.nn.BitCounts


def step(method: HashingMethod, logits: Tensor, labels: Tensor) -> Run:
    logits = logits.clone().requires_grad_()
    h = method(logits)
    h.retain_grad()
    parts = method.loss(h, labels, torch.arange(len(labels)))
    parts.total.backward()
    assert h.grad is not None
    assert logits.grad is not None
    return Run(h.detach(), parts, h.grad, logits.grad, method.counter.read())


@each_kind
def test_each_part_of_rdh_changes_its_own_thing_alone(kind: type[HashingMethod]) -> None:
    logits, labels = 3 * torch.randn(32, 16, dtype=torch.float64), torch.arange(32) % 3
    for amplifier, error_aware in product([False, True], repeat=2):
        method = ready(kind, 16, labels, tau=TAU, eta=ETA, amplifier=amplifier, error_aware=error_aware).double()
        run = step(method, logits, labels)
        # the forward pass, the term, and the gradient that reaches h do not know of the amplifier
        torch.testing.assert_close(run.h, torch.tanh(logits), rtol=1e-15, atol=0)
        dense = expected(kind, torch.tanh(logits), labels, error_aware=error_aware, eta=ETA)
        torch.testing.assert_close(run.parts.total, dense.loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(run.parts.similarity, dense.similarity, rtol=1e-12, atol=0)
        torch.testing.assert_close(run.parts.quantization, dense.quantization, rtol=1e-12, atol=0)
        torch.testing.assert_close(run.grad_of_h, dense.grad, rtol=1e-9, atol=1e-15)
        # the gradient behind it does, and of nothing else
        saturated = run.h.abs() >= TAU
        dead = saturated & (run.h.sign() == dense.grad.sign())
        assert 0 < dead.sum() < saturated.sum()
        plain = dense.grad * (1 - run.h**2)
        amplified = torch.where(dead, plain / (1 - TAU**2), plain)
        torch.testing.assert_close(run.grad_of_logits, amplified if amplifier else plain, rtol=1e-8, atol=1e-15)
        assert run.counts == (int(dead.sum()), int(saturated.sum()), run.h.numel())


@each_kind
def test_with_and_without_rdh_start_equal(kind: type[HashingMethod]) -> None:
    logits, labels = torch.randn(24, 16), torch.arange(24) % 4
    without, with_rdh = ready(kind, 16, labels), ready(kind, 16, labels, rdh=True)
    first, second = step(without, logits, labels), step(with_rdh, logits, labels)
    torch.testing.assert_close(first.h, second.h, rtol=3e-7, atol=0)
    torch.testing.assert_close(first.parts.similarity, second.parts.similarity, rtol=1e-6, atol=0)
    terms = float(first.parts.quantization), float(second.parts.quantization)
    assert terms[0] != terms[1] > 0
    assert (terms[0] > 0) is (kind is not HashNet)
    assert not list(with_rdh.parameters())
    state, other = without.state_dict(), with_rdh.state_dict()
    assert list(state) == list(other)
    for key, value in state.items():
        torch.testing.assert_close(value, other[key], rtol=3e-7, atol=0)


def test_parts_are_detached_and_the_total_is_not() -> None:
    labels = torch.arange(6) % 2
    for kind in KINDS:
        parts = ready(kind, 8, labels).loss(torch.randn(6, 8, requires_grad=True), labels, torch.arange(6))
        assert [part.requires_grad for part in parts] == [True, False, False]
        assert all(part.shape == () for part in parts)


@each_kind
@with_and_without
def test_overfits_one_small_batch(kind: type[HashingMethod], rdh: bool) -> None:
    labels = torch.arange(12) % 3
    x = torch.randn(3, 8)[labels] + 0.05 * torch.randn(12, 8)
    network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
    method = ready(kind, 16, labels, rdh=rdh)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        parts = method.loss(method(network(x)), labels, torch.arange(12))
        parts.total.backward()
        optimizer.step()
        losses.append(parts.total.item())
    assert losses[-1] < 0.15 * losses[0]
    codes = torch.sign(method(network(x)))
    distance = (codes[:, None, :] != codes[None, :, :]).sum(2)
    same = labels[:, None] == labels[None, :]
    assert distance[same].max() == 0  # codes of a class are equal
    assert distance[~same].min() >= 6


@each_kind
@with_and_without
def test_no_pair_is_too_wrong_to_have_a_gradient(kind: type[HashingMethod], rdh: bool) -> None:
    """theta of +-8e8 and more: nothing overflows, nothing is clamped, log cosh is |h| - 1 - log 2."""
    pattern = torch.tensor([[1.0, -1.0] * 8])
    h = (1e4 * torch.cat((pattern, -pattern, pattern))).requires_grad_()
    labels = torch.tensor([0, 0, 1])  # 0 and 1 are similar and opposite, 0 and 2 dissimilar and equal
    method = ready(kind, 16, labels, rdh=rdh, eta=ETA)
    parts = method.loss(h, labels, torch.arange(3))
    parts.total.backward()
    assert h.grad is not None
    dense = expected(kind, h, labels, error_aware=rdh, eta=ETA)
    torch.testing.assert_close(parts.total.double(), dense.loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(h.grad.double(), dense.grad, rtol=1e-5, atol=0)
    likelihood = expected(kind, h, labels, error_aware=rdh, eta=0.0)
    method.pairwise.options["eta"] = 0.0
    (gradient,) = torch.autograd.grad(method.loss(h, labels, torch.arange(3)).total, h)
    torch.testing.assert_close(gradient.double(), likelihood.grad, rtol=1e-5, atol=0)
    assert (gradient.abs() > 100).all()


@each_kind
@with_and_without
def test_no_logit_is_too_large(kind: type[HashingMethod], rdh: bool) -> None:
    labels = torch.tensor([0, 0, 1])
    pattern = torch.tensor([[1.0, -1.0]])
    run = step(ready(kind, 2, labels, rdh=rdh), 1e4 * torch.cat((pattern, -pattern, pattern)), labels)
    assert run.parts.total.isfinite()
    assert run.grad_of_logits.isfinite().all()
    assert (run.grad_of_h != 0).all()


@each_kind
def test_only_the_amplifier_brings_rounded_bits_back(kind: type[HashingMethod]) -> None:
    """tanh(12) is 1 in float32: 1 - h^2 is 0, and sech^2 of the logit is not."""
    labels = torch.tensor([0, 0])
    logits = torch.tensor([[12.0, -12.0], [-12.0, 12.0]])
    method, amplified = ready(kind, 2, labels), ready(kind, 2, labels, amplifier=True)
    assert torch.equal(method(logits), torch.tanh(logits))
    assert (step(method, logits, labels).grad_of_logits == 0).all()
    rescued = step(amplified, logits, labels)
    assert (rescued.grad_of_logits.sign() == logits.sign()).all()  # inward, where similar codes are opposite
    assert rescued.counts == (4, 4, 4)


@each_kind
@with_and_without
def test_autocast_in_bfloat16(kind: type[HashingMethod], rdh: bool) -> None:
    labels, x, network = torch.arange(24) % 4, torch.randn(24, 32), nn.Linear(32, 16)
    full = ready(kind, 16, labels, rdh=rdh)
    exact = full.loss(full(network(x)), labels, torch.arange(24)).total
    method = ready(kind, 16, labels, rdh=rdh)
    with torch.autocast("cpu", torch.bfloat16):
        h = method(network(x))
        loss = method.loss(h, labels, torch.arange(24)).total
    assert h.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    (gradient,) = torch.autograd.grad(exact, network.weight)
    assert network.weight.grad is not None
    assert (network.weight.grad - gradient).norm() < 0.05 * gradient.norm()


WRONG = [
    ({"bits": 0}, ValueError),
    ({"bits": 4097}, ValueError),
    ({"bits": 8.0}, TypeError),
    ({"rdh": 1}, TypeError),
    ({"amplifier": "yes"}, TypeError),
    ({"error_aware": 0}, TypeError),
    ({"tau": 1.0}, ValueError),
    ({"tau": -0.1}, ValueError),
    ({"eta": -1.0}, ValueError),
    ({"eta": float("inf")}, ValueError),
    ({"eta": "0.1"}, TypeError),
]
OWN_WRONG = [
    (DHN, {"scale": 0.0}, ValueError),
    (DHN, {"scale": float("nan")}, ValueError),
    (DHN, {"scale": None}, TypeError),
    (HashNet, {"alpha": -1}, ValueError),
    (HashNet, {"alpha": float("inf")}, ValueError),
    (HashNet, {"continuation": "sqrt"}, ValueError),
    (HashNet, {"continuation": None}, ValueError),
]


@pytest.mark.parametrize(
    ("kind", "wrong", "error"),
    [*((kind, *case) for kind, case in product(KINDS, WRONG)), *OWN_WRONG],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_wrong_options(kind: type[HashingMethod], wrong: dict[str, object], error: type[Exception]) -> None:
    ((option, value),) = wrong.items()
    with pytest.raises(error) as caught:
        kind(**{"bits": 16, **wrong})
    message = str(caught.value)
    assert message.startswith(f"{kind.__name__}: {option} must be ")
    assert repr(value) in message.partition(", got ")[2]
    assert "\n" not in message


def test_logits_of_other_bits() -> None:
    with pytest.raises(ValueError, match=r"^HashNet: logits must be of 16 bits \[B, 16\], got float32 \[4, 12\] on"):
        HashNet(16)(torch.randn(4, 12))


def test_registry_and_labels() -> None:
    assert {"dpsh": DPSH, "dhn": DHN, "hashnet": HashNet}.items() <= METHODS.items()
    for name, kind in METHODS.items():
        assert kind.title.lower() == name
        labels = [kind(8).label, kind(8, rdh=True).label]
        assert labels == [kind.title, f"{kind.title} + RDH"]
    assert DPSH(8, rdh=True, amplifier=False).label == "DPSH + RDH w.o. GA"
    assert DHN(8, amplifier=True).label == "DHN + RDH w.o. EAQL"


def test_defaults() -> None:
    for kind, scale in ((DPSH, 0.5), (DHN, 0.5), (HashNet, 0.3125)):
        method = kind(32)
        assert (method.scale, method.eta, method.tau) == (scale, 0.1, 0.99)
        assert (method.rdh, method.amplifier, method.error_aware) == (False, False, False)
        assert not isinstance(method.activation, rdh_ext.nn.AmplifiedTanh)
        assert isinstance(kind(32, rdh=True).activation, rdh_ext.nn.AmplifiedTanh)
        assert kind(32, rdh=True).error_aware
