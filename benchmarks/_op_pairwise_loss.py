"""pairwise_loss with error-aware quantization: forward and backward, a batch against a bank.

rdh_ext gets labels; the peers of _pairwise_peers.py get the matrix S, and one-hot labels where those help, for nothing.
``eager`` writes Eq. 4 as it is printed, with a mask [B, N, K]; ``eager, best form`` is the closed form with
binary_cross_entropy_with_logits, and sums per class where labels are class ids; ``torch.compile`` is that, compiled,
and ``torch.compile, by hand`` has value and gradient written by hand in one compiled function. ``KeOps, likelihood
alone`` is Eq. 1 without quantization by symbolic tensors, from class ids: no B x N in memory there, either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from _ceilings import multiplying
from _measure import at_level
from _pairwise_peers import (
    ETA,
    SCALE,
    Inputs,
    Loss,
    Shape,
    Truth,
    by_bce,
    by_class_sums,
    by_hand,
    by_matrix,
    closed_form,
    gradient_error,
    literal,
    make_inputs,
    relative,
    truth,
)
from _problem import OURS, Case, NotHere, Op, Problem, Provider, Value, Wrong
from costs import pairwise_loss
from torch import Tensor

import rdh_ext
from rdh_ext import _native

TOLERANCE = 1e-4  # relative, of the gradient in norm and of the loss; float32 has 1e-7
MASK_BYTES = 1 << 29  # what Eq. 4 as printed may take for one of its tensors [B, N, K]


def ours(x: Inputs) -> Tensor:
    return rdh_ext.pairwise_loss(x.h, x.labels, x.bank, x.bank_labels, scale=SCALE, eta=ETA)


def checked(found: object, true: Truth) -> float:
    """The larger of the relative errors of loss and gradient."""
    assert isinstance(found, tuple)
    value, grad = found
    error = max(relative(float(value), true.loss), gradient_error(grad, true.grad.to(grad.device)))
    if not error <= TOLERANCE:
        raise Wrong(f"loss or gradient is off by {error:.1e}")
    return error


def training_step(loss: Loss, x: Inputs, true: Truth, **how: Any) -> Provider:
    """Loss and gradient."""

    def step() -> tuple[Tensor, Tensor]:
        value = loss(x)
        return value.detach(), torch.autograd.grad(value, x.h)[0]

    return Provider(step, lambda found: checked(found, true), **how)


@contextmanager
def quiet() -> Iterator[None]:
    """KeOps says on standard output what it compiles; a result may be there."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def keops(shape: Shape, x: Inputs) -> Provider:
    """Eq. 1 by symbolic tensors."""
    if shape.multi_hot:
        raise NotHere("KeOps has no product of boolean rows; it takes part with class ids")
    with quiet():
        from pykeops.torch import LazyTensor
    assert x.bank is not None
    assert x.bank_labels is not None
    rows, columns = x.labels[:, None, None].float(), x.bank_labels[None, :, None].float()
    bank = x.bank

    def step() -> tuple[Tensor, Tensor]:
        theta = SCALE * (LazyTensor(x.h[:, None, :]) * LazyTensor(bank[None, :, :])).sum(-1)
        similar = (0.5 - (LazyTensor(rows) - LazyTensor(columns)).abs()).step()
        pairs = theta.relu() + (1 + (-theta.abs()).exp()).log() - similar * theta
        with quiet():
            value = pairs.sum(1).sum() / shape.pairs
            return value.detach(), torch.autograd.grad(value, x.h)[0]

    theta = SCALE * x.h @ x.bank.T
    likelihood = by_bce(theta, x)
    (grad,) = torch.autograd.grad(likelihood, x.h)
    true = Truth(likelihood.item(), likelihood.item(), 0.0, grad.double())
    return Provider(step, lambda found: checked(found, true), "KeOps")


def to_device(x: Inputs, device: str) -> Inputs:
    if device == "cpu":
        return x
    moved = [None if part is None else part.detach().to(device) for part in x]
    return Inputs(*moved)._replace(h=moved[0].requires_grad_())


def build(case: Case) -> Problem:
    sizes: dict[str, Value] = dict(case.sizes)
    multi_hot = sizes["labels"] == "multi-hot"
    rows, columns, bits, classes = (int(sizes[name]) for name in ("batch", "bank", "bits", "classes"))
    shape = Shape("bench", rows, columns, bits, classes, multi_hot)
    on_cpu = make_inputs(shape)
    true = truth(on_cpu)
    x = to_device(on_cpu, case.device)
    step = training_step(ours, x, true, library="rdh_ext", kind=OURS)
    cost = pairwise_loss(rows, columns, bits, 4)
    problem = Problem(f"{shape.title}, float32", cost, {OURS: step})
    if case.device == "cpu" and "avx2" in _native.cpu_levels()[:-1]:
        slower = Provider(at_level("avx2", step.step), step.check, "rdh_ext", kind=OURS)
        problem.add(f"{OURS} avx2", lambda: slower)

    def as_printed() -> Provider:
        if (mask := 4 * shape.pairs * bits) > MASK_BYTES:
            raise NotHere(f"its mask [B, N, K] is {mask / 2**30:.0f} GiB, and it has several of that size", "left out")
        return training_step(literal, x, true)

    agreement = by_matrix if multi_hot else by_class_sums
    best = closed_form(by_bce, agreement)

    def compiled() -> Provider:
        return training_step(torch.compile(best, fullgraph=True, dynamic=False), x, true)

    peers: dict[str, Callable[[], Provider]] = {
        "eager": as_printed,
        "eager, best form": lambda: training_step(best, x, true),
        "torch.compile": compiled,
        "torch.compile, by hand": lambda: training_step(by_hand(agreement), x, true),
        "KeOps, likelihood alone": lambda: keops(shape, x),
    }
    slow = ("KeOps, likelihood alone", "torch.compile, by hand")
    for name, make in peers.items():
        problem.add(name, make, unless=case.quick and name in slow)
    problem.set_ceiling(lambda: multiplying(case, cost))
    return problem


OPS = (
    Op(
        "pairwise_loss",
        "pairwise likelihood and error-aware quantization",
        "forward+backward",
        build,
        default={"batch": 128, "bank": 5000, "bits": 64, "classes": 10, "labels": "class ids"},
        sweeps={
            "bank": (128, 512, 2048, 8192, 32_768, 131_072),
            "batch": (8, 32, 128, 512, 2048),
            "bits": (16, 32, 64, 128, 256, 512),
            "classes": (10, 20, 80, 320, 1280),
            "threads": (),
        },
        base={
            "batch": {"bank": 5000},
            "classes": {"labels": "multi-hot"},
            "threads": {"batch": 1024, "bank": 10_500},
        },
        quick={},
        device_sizes={"cuda": {"batch": 1024, "bank": 59_000}},
        tests=("tests/ops/test_pairwise_loss.py",),
    ),
)
