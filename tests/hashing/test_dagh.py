"""DAGH against the dense anchor graph, loss and W- and B-steps written from its docstring; nothing of it on our ops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from discrete_cases import C, K, Loop, N, labels_of, literal_descent, literal_ridge, logits_of, one_hot, similarity
from discrete_cases import error_aware as eq_4
from torch import Tensor

import rdh_ext
from rdh_ext.hashing.methods import DAGH, dagh

TAU, ETA, LAM, MU = 0.99, 0.3, 2.0, 0.7
OPTIONS: dict[str, Any] = {"tau": TAU, "eta": ETA, "lam": LAM, "mu": MU}


def graph(labels: Tensor) -> Tensor:
    """A ``[N, N]``, a row for each item as an anchor; rows of items that are like none are 0."""
    s = similarity(labels, labels)
    return s / s.sum(1, keepdim=True).clamp(min=1)


def dense_loss(
    h: Tensor, index: Tensor, labels: Tensor, codes: Tensor, anchors: list[int], *, error_aware: bool
) -> Tensor:
    rows = [position for position, i in enumerate(index.tolist()) if i in anchors]
    if not rows:
        return 0 * h.sum()
    h, index, b = h[rows], index[rows], codes.double()
    squares = (h[:, None, :] - b[None, :, :]).square()
    loss = (graph(labels)[index][:, :, None] * squares).sum(1).mean()
    if not error_aware:
        return loss + ETA * (h - b[index]).square().mean()
    return loss + ETA * eq_4(h, b, similarity(labels[index], labels))


def pull_of(outputs: Tensor, labels: Tensor, anchors: list[int], eta: float) -> Tensor:
    q = graph(labels)[anchors].T @ outputs[anchors]
    q[anchors] += eta * outputs[anchors]
    return len(outputs) / len(anchors) * q


def literal_update(codes: Tensor, q: Tensor, labels: Tensor, sweeps: int) -> tuple[Tensor, Tensor]:
    b, y = codes.double(), one_hot(labels)
    w = literal_ridge(b, y, MU / LAM)
    return literal_descent(b, w, y @ w.T + q / LAM, sweeps), w


def objective(codes: Tensor, w: Tensor, outputs: Tensor, labels: Tensor, anchors: list[int], eta: float) -> float:
    b, total = codes.double(), torch.zeros((), dtype=torch.float64)
    for i in anchors:
        if outputs[i].any():
            total += (graph(labels)[i][:, None] * (outputs[i] - b).square()).sum()
            total += eta * (outputs[i] - b[i]).square().sum()
    fit = LAM * (one_hot(labels) - b @ w).square().sum() + MU * w.square().sum()
    return float(len(outputs) / len(anchors) * total + fit)


@pytest.mark.parametrize("count", [None, 11])
@pytest.mark.parametrize("kind", ["ids", "rows"])
@pytest.mark.parametrize(("amplifier", "error_aware"), [(False, False), (True, False), (False, True), (True, True)])
def test_dagh_is_its_formula(count: int | None, kind: str, amplifier: bool, error_aware: bool) -> None:
    labels = labels_of(kind)
    switches: dict[str, Any] = {"rdh": amplifier and error_aware, "amplifier": amplifier, "error_aware": error_aware}
    method = DAGH(K, anchors=count, sweeps=2, **switches, **OPTIONS)
    method.begin(labels, steps=4)
    own = 0.0 if error_aware else ETA
    bank, codes, weights = torch.zeros(N, K, dtype=torch.float64), method.codes.double(), method.weights
    step = 0
    for epoch in range(3):
        anchors = method.anchors.tolist()
        method.begin_epoch(epoch)
        if epoch:
            codes, weights = literal_update(codes, pull_of(bank, labels, anchors, own), labels, sweeps=2)
        assert torch.equal(method.codes.double(), codes)
        torch.testing.assert_close(method.weights, weights, rtol=1e-9, atol=1e-12)
        anchors = method.anchors.tolist()
        assert anchors == sorted(set(anchors))
        assert len(anchors) == (count or N)
        for index in torch.arange(N - 4).roll(epoch).split(13):  # the last four are never seen
            logits = logits_of(len(index), seed=step).requires_grad_()
            parts = method.loss(method(logits), labels[index], index)
            h = torch.tanh(logits)
            bank[index] = h.detach().float().double()
            expected = dense_loss(h, index, labels, codes, anchors, error_aware=error_aware)
            torch.testing.assert_close(parts.total, expected, rtol=1e-12, atol=1e-12)
            rest = parts.similarity + ETA * parts.quantization
            torch.testing.assert_close(rest, expected.detach(), rtol=1e-12, atol=1e-12)
            assert not rest.requires_grad
            # no bit is saturated here, so the amplifier is silent
            torch.testing.assert_close(
                torch.autograd.grad(parts.total, logits), torch.autograd.grad(expected, logits), rtol=1e-9, atol=1e-12
            )
            torch.testing.assert_close(
                float(method.discrete_objective()),
                objective(codes, weights, bank, labels, anchors, own),
                rtol=1e-9,
                atol=1e-9,
            )
            step += 1


@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_the_objective_never_gets_worse(kind: str) -> None:
    labels = labels_of(kind)
    method = DAGH(K, **OPTIONS)
    method.begin(labels, steps=1)
    changed = 0
    for seed in range(6):
        method.loss(torch.tanh(logits_of(N, seed)), labels, torch.arange(N))
        for _ in range(3):
            before, old = method.discrete_objective(), method.codes.clone()
            method.begin_epoch(1)
            assert method.discrete_objective() <= before + 1e-9
            changed += int((old != method.codes).sum())
    assert changed


def test_error_aware_term_is_that_of_the_op() -> None:
    """Over batch and codes, :func:`rdh_ext.pairwise_loss` says the same, at the price of all pairs."""
    labels, index = labels_of("rows"), torch.arange(0, N, 2)
    method = DAGH(K, rdh=True)
    method.begin(labels, steps=1)
    h = torch.tanh(logits_of(len(index), 0))
    h[0, 0] = 0.0
    parts = method.loss(h, labels[index], index)
    criterion = rdh_ext.nn.PairwiseLoss()
    criterion(h, labels[index], method.codes.double(), labels)
    torch.testing.assert_close(parts.quantization, criterion.last.quantization, rtol=1e-12, atol=0)


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, index = labels_of("rows"), torch.arange(N)
    totals = []
    for size in (1 << 20, 20):
        monkeypatch.setattr(dagh, "BLOCK", size)
        method = DAGH(K, **OPTIONS)
        method.begin(labels, steps=1)
        method.loss(torch.tanh(logits_of(N, 0)), labels, index)
        method.begin_epoch(1)
        totals.append(method.loss(torch.tanh(logits_of(N, 1)), labels, index).total)
    torch.testing.assert_close(totals[0], totals[1], rtol=1e-12, atol=0)


def test_amplifier_rescues_what_is_on_the_wrong_side() -> None:
    gradients = {}
    for amplifier in (False, True):
        method = DAGH(2, amplifier=amplifier, error_aware=False, **OPTIONS)
        method.begin(torch.tensor([0, 1]), steps=1)
        logits = 4.0 * torch.ones(1, 2, dtype=torch.float64)
        logits[0, 0] *= -method.codes[0, 0]
        logits[0, 1] *= method.codes[0, 1]
        logits.requires_grad_()
        method.loss(method(logits), torch.tensor([0]), torch.tensor([0])).total.backward()
        assert logits.grad is not None
        gradients[amplifier] = logits.grad[0]
        assert method.counter.read()[:2] == (1, 2)
    torch.testing.assert_close(gradients[True][0], gradients[False][0] / (1 - TAU**2), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients[True][1], gradients[False][1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [8, 32])
def test_first_codes_tell_classes_apart(bits: int) -> None:
    labels = torch.arange(400) % 10
    first = DAGH(bits, seed=3)
    first.begin(labels, steps=1)
    assert first.codes.abs().eq(1).all()
    means = torch.stack([first.codes[labels == c].double().mean(0) for c in range(10)])
    assert means.abs().mean() > 0.95  # items of a class agree,
    distance = (bits - torch.sign(means) @ torch.sign(means).T) / 2 + bits * torch.eye(10)
    assert distance.min() >= bits // 8  # classes do not
    again, other = DAGH(bits, seed=3), DAGH(bits, seed=4)
    again.begin(labels, steps=1)
    other.begin(labels, steps=1)
    assert torch.equal(again.codes, first.codes)
    assert not torch.equal(other.codes, first.codes)


def test_first_codes_of_few_bits_are_not_the_same() -> None:
    for seed in range(30):
        method = DAGH(3, seed=seed)
        method.begin(torch.arange(4), steps=1)
        assert len(method.codes.unique(dim=0)) == 4
        assert not method.codes.sum(0).any()


def test_first_codes_of_several_classes() -> None:
    """What most of an item's classes have; where they are even, or there are none, the same for equal labels."""
    rows = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]])
    method = DAGH(64, **OPTIONS)
    method.begin(rows, steps=1)
    b = method.codes.double()
    assert torch.equal(b[5], torch.sign(b[:3].sum(0)))
    assert torch.equal(b[3], b[4])
    assert torch.equal(b[6], b[7])
    even = b[0] != b[1]
    assert torch.equal(b[3][~even], b[0][~even])
    assert 0 < (b[3] == b[0])[even].sum() < even.sum()
    torch.testing.assert_close(method.weights, literal_ridge(b, rows.double(), MU / LAM), rtol=1e-9, atol=1e-12)


def test_anchors_are_balanced_and_change_with_the_epoch() -> None:
    labels = torch.tensor([5] * 40 + [2] * 3 + [9] * 17)  # of three classes, one has three items only
    method = DAGH(K, anchors=13)
    method.begin(labels, steps=1)
    drawn = []
    for epoch in range(4):
        method.begin_epoch(epoch)
        assert sorted(labels[method.anchors].tolist()) == [2] * 3 + [5] * 5 + [9] * 5
        drawn.append(tuple(method.anchors.tolist()))
    assert len(set(drawn)) == 4
    method.begin_epoch(1)
    assert tuple(method.anchors.tolist()) == drawn[1]
    # an item of several classes counts for the rarest of them, one without any comes last
    rows = torch.zeros(12, 3, dtype=torch.bool)
    rows[:8, 0] = True
    rows[:2, 1] = True
    method = DAGH(K, anchors=4)
    method.begin(rows, steps=1)
    assert method.anchors[:2].tolist() == [0, 1]
    assert method.anchors[-1] < 8
    every = DAGH(K, anchors=12)
    every.begin(rows, steps=1)
    assert every.anchors.tolist() == list(range(12))


def test_batch_without_anchors_has_no_loss_and_no_gradient() -> None:
    labels = labels_of("ids")
    for rdh in (False, True):
        method = DAGH(K, rdh=rdh, anchors=2)
        method.begin(labels, steps=1)
        index = torch.tensor([i for i in range(N) if i not in method.anchors.tolist()])
        logits = logits_of(len(index), 0).requires_grad_()
        parts = method.loss(method(logits), labels[index], index)
        parts.total.backward()
        assert [float(part.detach()) for part in parts] == [0.0, 0.0, 0.0]
        assert logits.grad is not None
        assert not logits.grad.any()


def test_classes_without_anchors_follow_their_labels() -> None:
    """Only class 0 has anchors: its items follow their outputs as well, the others nothing but W."""
    labels = torch.arange(N) % 3
    method = DAGH(K, anchors=3, lam=1e-3, mu=1e-3)
    method.begin(labels, steps=1)
    method.register_buffer("anchors", torch.tensor([0, 3, 6]))
    method.loss(torch.full((N, K), 0.9), labels, torch.arange(N))
    before = method.codes.clone()
    method.begin_epoch(1)
    assert method.codes[::3].eq(1).all()
    w = method.weights
    for i in (1, 2, 4, 5):
        for k in range(K):
            other = method.codes[i].double().clone()
            other[k] *= -1
            target = torch.nn.functional.one_hot(labels[i], 3)
            errors = [(target - b @ w).square().sum() for b in (method.codes[i].double(), other)]
            assert errors[0] <= errors[1] + 1e-9
    assert not torch.equal(before, method.codes)


def loop_of(labels: Tensor, batch: int, **options: Any) -> Loop:
    return Loop(DAGH(8, **options), labels, batch, lr=1.0)


@pytest.mark.parametrize("count", [None, 6])
@pytest.mark.parametrize("rdh", [False, True])
def test_overfits_a_small_set(rdh: bool, count: int | None) -> None:
    labels = torch.arange(12) % 3
    loop = loop_of(labels, batch=6, rdh=rdh, anchors=count)
    losses = [loop.epoch(number) for number in range(40)]
    assert losses[-1] < 0.3 * losses[0]
    codes = loop.codes()
    assert torch.equal(codes, codes[:3].repeat(4, 1))  # one code per class,
    assert len(codes.unique(dim=0)) == 3  # and each its own
    assert torch.equal(loop.method.codes.float(), codes)


@pytest.mark.parametrize("count", [None, 13])
@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_goes_on_from_a_state_bit_for_bit(kind: str, count: int | None) -> None:
    labels = labels_of(kind)
    options: dict[str, Any] = {"rdh": True, "anchors": count, "lam": 1.0, "mu": 1.0}
    whole = loop_of(labels, batch=10, **options)
    for number in range(3):
        whole.epoch(number)
    resumed = loop_of(labels, batch=10, **options)
    whole.copy_state_to(resumed)
    assert torch.equal(whole.total(torch.arange(10)), resumed.total(torch.arange(10)))  # within an epoch, too
    assert [whole.epoch(number) for number in (3, 4)] == [resumed.epoch(number) for number in (3, 4)]
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name
    assert {"codes", "weights", "bank.outputs", "anchors"} <= set(whole.method.state_dict())


@pytest.mark.parametrize("rdh", [False, True])
def test_small_and_odd_sets(rdh: bool) -> None:
    # one bit, one item, one class
    method = DAGH(1, rdh=rdh)
    method.begin(torch.tensor([10**12]), steps=1)
    for epoch in range(2):
        method.begin_epoch(epoch)
        method.loss(torch.tensor([[-0.5]]), torch.tensor([10**12]), torch.tensor([0]))
    assert method.codes.abs().tolist() == [[1]]
    # a batch longer than the set: its items come twice
    method = DAGH(K, rdh=rdh)
    method.begin(torch.tensor([0, 1, 1]), steps=1)
    index = torch.tensor([0, 1, 2, 0, 1], dtype=torch.uint8)
    for epoch in range(2):
        method.begin_epoch(epoch)
        h = torch.tanh(logits_of(3, 0))[index.long()].float()
        assert method.loss(h, torch.tensor([0, 1, 1, 0, 1]), index).total.isfinite()
    # no item has a label: there is nothing to draw h but quantization
    method = DAGH(K, rdh=rdh, anchors=2)
    method.begin(torch.zeros(4, C), steps=1)
    for epoch in range(2):
        method.begin_epoch(epoch)
        parts = method.loss(torch.tanh(logits_of(4, 0)), torch.zeros(4, C), torch.arange(4))
        assert float(parts.similarity) == 0.0
        assert float(parts.quantization) > 0.0


def test_outputs_that_are_not_finite_leave_codes_as_they_are() -> None:
    method = DAGH(K, **OPTIONS)
    labels = labels_of("ids")
    method.begin(labels, steps=1)
    codes = method.codes.clone()
    method.loss(torch.full((N, K), float("nan")), labels, torch.arange(N))
    method.begin_epoch(1)
    assert torch.equal(method.codes, codes)


@pytest.mark.parametrize("converted", [False, True])
def test_half_precision_outputs(converted: bool) -> None:
    method = DAGH(K, rdh=True)
    labels = torch.zeros(400, dtype=torch.int64)  # more items than bfloat16 can count
    method.begin(labels, steps=1)
    if converted:
        method.bfloat16()
    logits = logits_of(400, 0).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for epoch in range(2):
            method.begin_epoch(epoch)
            parts = method.loss(method(logits), labels, torch.arange(400))
    assert method._alike.item() == 400
    parts.total.backward()
    assert parts.total.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("option", "bad", "words"),
    [
        ("anchors", 0, "DAGH: anchors must be a number of items >= 1, or None for all, got 0"),
        ("lam", 0.0, "DAGH: lam must be finite and > 0, got 0.0"),
        ("mu", -1.0, "DAGH: mu must be finite and > 0, got -1.0"),
        ("sweeps", 0, "DAGH: sweeps must be a number of sweeps >= 1, got 0"),
        ("seed", -1, "DAGH: seed must be in [0, 2^31), got -1"),
    ],
)
def test_options_are_checked(option: str, bad: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        DAGH(K, **{option: bad})
    assert str(caught.value) == words


def test_loss_needs_begin_and_index() -> None:
    method, h, labels = DAGH(K), torch.zeros(2, K), torch.tensor([0, 1])
    method.begin_epoch(0)
    with pytest.raises(ValueError, match=r"^DAGH: begin must be called [^\n]*$"):
        method.loss(h, labels, torch.arange(2))
    with pytest.raises(ValueError, match=r"^DAGH: begin must be called [^\n]*$"):
        method.discrete_objective()
    method.begin(labels, steps=1)
    with pytest.raises(ValueError, match=r"^DAGH: index must be [^\n]*, got None$"):
        method.loss(h, labels)
    with pytest.raises(ValueError, match=r"^DAGH: anchors must be at most the number of items, 2, got 3$"):
        DAGH(K, anchors=3).begin(labels, steps=1)


def test_names() -> None:
    assert DAGH(K).label == "DAGH"
    assert DAGH(K, rdh=True).label == "DAGH + RDH"
    assert isinstance(DAGH(K, rdh=True).activation, rdh_ext.nn.AmplifiedTanh)
    assert not list(DAGH(K, rdh=True).parameters())
