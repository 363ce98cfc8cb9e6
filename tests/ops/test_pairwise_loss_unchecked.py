"""The short way of a pairwise loss of the usual kind: it skips the checks in Python, because the op makes its own."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from backends import require, use_backend
from pairwise_cases import Case, make_case
from torch import Tensor

import rdh_ext
from rdh_ext.ops import _library

op_module = importlib.import_module("rdh_ext.ops.pairwise_loss")  # the package's name is the function
DEFAULTS: dict[str, Any] = {
    "similarity": None,
    "scale": 0.5,
    "pair_weights": "none",
    "quantization": "error_aware",
    "eta": 0.1,
    "include_diagonal": True,
    "reduction": "mean",
    "precision": "highest",
    "need_grad": True,
}


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def compiled(request: pytest.FixtureRequest) -> Any:
    require(request.param)
    if not _library.SHORTCUT:
        pytest.skip("this torch has no shortcut")
    with use_backend(request.param):
        yield request.param


def loss_and_gradient(case: Case, **options: Any) -> tuple[Tensor, Tensor]:
    h = case.h.clone().requires_grad_()
    loss = rdh_ext.pairwise_loss(h, case.labels, case.bank, case.bank_labels, **options)
    return loss.detach(), torch.autograd.grad(loss, h)[0]


@pytest.mark.parametrize("kind", ["ids", "multi_hot"])
@pytest.mark.parametrize("columns", [None, 70])
def test_usual_calls_skip_the_checks(
    compiled: str, kind: str, columns: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(kind, 9, columns, dtype=torch.float32)
    expected = loss_and_gradient(case, scale=np.float64(0.5), eta=1)  # unusual types of usual numbers
    quiet = rdh_ext.pairwise_loss(case.h, case.labels, case.bank, case.bank_labels, eta=1.0)
    monkeypatch.setattr(op_module, "_check_tensors", None)  # whoever calls it fails
    for got, wanted in zip(loss_and_gradient(case, eta=1.0), expected, strict=True):
        assert torch.equal(got, wanted)
    assert torch.equal(quiet, expected[0])
    with pytest.raises(TypeError, match="not callable"):
        loss_and_gradient(case, eta=1)


def test_what_is_unusual_is_looked_at(compiled: str) -> None:
    """What the op might take for something else, or the dispatcher take elsewhere."""
    h, ids = torch.randn(4, 8), torch.tensor([0, 1, 0, 2])
    rows, usual = torch.eye(4, dtype=torch.int64), dict(DEFAULTS)
    for name in ("similarity", "precision", "need_grad"):
        del usual[name]

    def unchecked(h: Any, labels: Any, bank: Any = None, bank_labels: Any = None, **options: Any) -> Any:
        return op_module._run_unchecked(h, labels, bank, bank_labels, **{**usual, **options})

    assert unchecked(h, ids) is not None
    assert unchecked(h, rows.bool(), h, rows.bool()) is not None
    for labels in (ids.int(), rows, rows.float(), ids.to("meta"), ids.to_sparse(), ids.tolist(), None):
        assert unchecked(h, labels) is None
        assert unchecked(h, ids, h, labels) is None
    for other in (h.to("meta"), h.to_sparse(), h.long(), h[0], h.tolist(), None):
        assert unchecked(other, ids) is None
        if other is not None:
            assert unchecked(h, ids, other, ids) is None
    for option in ({"scale": 1}, {"eta": True}, {"include_diagonal": 1}, {"reduction": None}, {"pair_weights": "some"}):
        assert unchecked(h, ids, **option) is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"eta": -0.1}, "eta at least 0"),
        ({"eta": float("nan")}, "finite"),
        ({"scale": float("inf")}, "finite"),
        ({"labels": torch.tensor([0, -1, 0])}, "at least 0"),
        ({"bank": torch.randn(3, 2), "bank_labels": torch.tensor([0, 0, -5])}, "at least 0"),
        ({"bank": torch.randn(3, 2), "bank_labels": torch.ones(3, 2, dtype=torch.bool)}, "int64 ids"),
        ({"bank": torch.randn(3, 2)}, "bank_labels"),
        ({"bank_labels": torch.tensor([0, 1, 0])}, "come with a bank"),
        ({"bank": torch.randn(3, 3), "bank_labels": torch.tensor([0, 1, 0])}, "bits"),
        (
            {"bank": torch.randn(3, 2), "bank_labels": torch.tensor([0, 1, 0]), "include_diagonal": False},
            "include_diagonal",
        ),
        ({"similarity": torch.ones(3, 3)}, "without labels"),
        ({"labels": torch.tensor([0, 1])}, "one per item"),
        ({"labels": torch.ones(3, 0, dtype=torch.bool)}, "at least one"),
        ({"labels": None}, "must be given"),
        ({"quantization": "L2"}, "quantization"),
        ({"reduction": "max"}, "reduction"),
        ({"pair_weights": "some"}, "pair_weights"),
    ],
)
def test_the_op_refuses_by_itself(compiled: str, change: dict[str, Any], match: str) -> None:
    arguments = {"h": torch.randn(3, 2), "labels": torch.tensor([0, 1, 0]), "bank": None, "bank_labels": None}
    arguments |= DEFAULTS
    torch.ops.rdh_ext.pairwise_loss(**arguments)
    with pytest.raises(RuntimeError, match=match):
        torch.ops.rdh_ext.pairwise_loss(**{**arguments, **change})


def test_gradients_that_need_no_factor_are_nobody_elses(compiled: str) -> None:
    """loss.backward() hands over the gradient that was saved; a second time it is there, or an error, never wrong."""
    h = torch.randn(6, 8, requires_grad=True)
    loss = rdh_ext.pairwise_loss(h, torch.tensor([0, 1, 0, 2, 1, 1]), eta=1.0)
    (expected,) = torch.autograd.grad(loss, h, torch.tensor(2.0), retain_graph=True)
    loss.backward(retain_graph=True)
    assert torch.equal(2 * h.grad, expected)
    h.grad.zero_()
    (again,) = torch.autograd.grad(loss, h, retain_graph=True)
    assert torch.equal(2 * again, expected)
    both = (
        torch.autograd.grad(loss + loss.detach(), h, retain_graph=True)[0]
        + torch.autograd.grad(2 * loss, h, retain_graph=True)[0]
    )
    assert torch.equal(both, again + expected)
    again.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, h)
