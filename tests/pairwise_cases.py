"""Inputs and comparisons for the tests of the pairwise loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from oracles import pairwise_loss as oracle
from torch import Tensor

from rdh_ext.ops.pairwise_loss import pairwise_loss_with_parts

KINDS = ("ids", "multi_hot", "similarity")


class Case(NamedTuple):
    """Arguments of one call, and S for the oracle, all on the CPU."""

    h: Tensor
    labels: Tensor | None
    bank: Tensor | None
    bank_labels: Tensor | None
    similarity: Tensor | None
    s: Tensor


def make_labels(kind: str, rows: int, classes: int) -> Tensor:
    """Class ids, or multi-hot rows of which about a third have no class at all."""
    if kind == "ids":
        return torch.randint(0, classes, (rows,))
    return (torch.rand(rows, classes) < 1.5 / classes) & (torch.rand(rows, 1) < 0.7)


def make_case(
    kind: str,
    rows: int = 7,
    columns: int | None = None,
    bits: int = 5,
    classes: int = 3,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Random activations with some exact zeros, ones and values beyond one; a bank where ``columns`` is given."""

    def activations(n: int) -> Tensor:
        x = torch.randn(n, bits, dtype=torch.float64)
        return torch.where(torch.rand(n, bits) < 0.1, x.sign() * torch.randint(0, 2, (n, bits)), x).to(dtype)

    h, bank = activations(rows), None if columns is None else activations(columns)
    width = rows if columns is None else columns
    if kind == "similarity":
        s = torch.rand(rows, width) < 0.4  # not symmetric, which labels cannot be
        return Case(h, None, bank, None, s, s.double())
    labels = make_labels(kind, rows, classes)
    bank_labels = None if columns is None else make_labels(kind, columns, classes)
    return Case(
        h, labels, bank, bank_labels, None, oracle.similarity(labels, labels if bank_labels is None else bank_labels)
    )


def run(case: Case, device: str = "cpu", **options: Any) -> oracle.Result:
    """What the package makes of a case: loss, parts, gradient, on the CPU in the dtypes they came in."""
    h, labels, bank, bank_labels, similarity = (None if t is None else t.to(device) for t in case[:5])
    assert h is not None
    h = h.detach().requires_grad_()
    loss, parts = pairwise_loss_with_parts(h, labels, bank, bank_labels, similarity=similarity, **options)
    loss.backward()
    assert h.grad is not None
    assert h.grad.dtype == h.dtype
    assert not parts.requires_grad
    return oracle.Result(loss.detach().cpu(), parts[0].cpu(), parts[1].cpu(), h.grad.cpu())


def assert_equals_oracle(case: Case, device: str = "cpu", **options: Any) -> None:
    """Value within a few roundings of the dtype computed in, gradient within one more of the dtype of h."""
    got, true = run(case, device, **options), oracle.pairwise_loss(case.h, case.bank, case.s, **options)
    wide = torch.float64 if case.h.dtype == torch.float64 else torch.float32
    rtol = 1e-12 if wide == torch.float64 else 1e-5
    for name, a, b in zip(got._fields[:3], got[:3], true[:3], strict=True):
        assert a.dtype == wide
        torch.testing.assert_close(a.double(), b, rtol=rtol, atol=rtol, msg=lambda m, name=name: f"{name}: {m}")
    rounding = 0.0 if case.h.dtype == wide else torch.finfo(case.h.dtype).eps
    atol = 1e-12 + (rtol * float(true.grad.abs().max()) if true.grad.numel() else 0.0)  # sigmoid - 1 cancels there
    torch.testing.assert_close(got.grad.double(), true.grad, rtol=rtol + rounding, atol=atol)
