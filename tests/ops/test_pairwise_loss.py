"""The pairwise loss against the dense float64 oracle: every option, dtype and size, and its numerics."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from backends import require, use_backend
from hamming_cases import awkward_views, poisoned_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import pairwise_loss as oracle
from pairwise_cases import KINDS, Case, assert_equals_oracle, make_case, run

import rdh_ext
from rdh_ext.ops.pairwise_loss import PAIR_WEIGHTS, QUANTIZATIONS, REDUCTIONS
from rdh_ext.reference import pairwise_loss as reference

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LEVELS = ("scalar", "avx2", "avx512")
OPTIONS = list(itertools.product(PAIR_WEIGHTS, QUANTIZATIONS, REDUCTIONS, (True, False)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [None, 6], ids=["batch", "bank"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_the_oracle(backend: str, kind: str, columns: int | None, dtype: torch.dtype) -> None:
    """Every combination of the options."""
    for weights, quantization, reduction, diagonal in OPTIONS:
        if columns is not None and not diagonal:
            continue
        assert_equals_oracle(
            make_case(kind, columns=columns, dtype=dtype),
            backend,
            scale=0.7,
            eta=0.3,
            pair_weights=weights,
            quantization=quantization,
            reduction=reduction,
            include_diagonal=diagonal,
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 63, 65])
def test_sizes(backend: str, kind: str, rows: int) -> None:
    for columns, bits, classes in ((None, 64, 3), (None, 1, 130), (0, 7, 3), (1, 65, 65), (66, 16, 1)):
        for quantization in ("error_aware", "l2"):
            with poisoned_memory():
                assert_equals_oracle(make_case(kind, rows, columns, bits, classes), backend, quantization=quantization)


@pytest.mark.parametrize("kind", KINDS)
def test_several_tiles(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 3 to 16 rows and columns that meet the diagonal in every way, and partial ones at the ends."""
    for tile, rows in ((64, 5), (100, 16), (60, 256), (1, 1)):
        monkeypatch.setattr(reference, "TILE", tile)
        monkeypatch.setattr(reference, "ROWS", rows)
        for columns, diagonal, quantization in itertools.product((None, 23), (True, False), QUANTIZATIONS):
            if columns is None or diagonal:
                options = {"quantization": quantization, "include_diagonal": diagonal, "pair_weights": "balanced"}
                assert_equals_oracle(make_case(kind, 17, columns, 4), **options)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(KINDS),
    sizes=st.tuples(st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(0, 9), st.integers(1, 70)),
    scale=st.floats(-20, 20),
    eta=st.floats(0, 10),
    choices=st.sampled_from(OPTIONS),
)
def test_equals_the_oracle_anywhere(
    seed: int, kind: str, sizes: tuple[Any, ...], scale: float, eta: float, choices: tuple[Any, ...]
) -> None:
    torch.manual_seed(seed)
    rows, columns, bits, classes = sizes
    weights, quantization, reduction, diagonal = choices
    assert_equals_oracle(
        make_case(kind, rows, columns, bits, classes),
        scale=scale,
        eta=eta,
        pair_weights=weights,
        quantization=quantization,
        reduction=reduction,
        include_diagonal=diagonal or columns is not None,
    )


@pytest.mark.parametrize("columns", [None, 9])
def test_closed_form_equals_the_dense_mask(columns: int | None) -> None:
    """The package's own dense formula, with its [B, N, K] mask, and autograd."""
    case = make_case("multi_hot", 8, columns)
    h = case.h.detach().requires_grad_()
    loss = reference.dense(h, h if case.bank is None else case.bank, case.s, 1.0, 0.5, 0.3)
    loss.backward()
    got = run(case, eta=0.3)
    torch.testing.assert_close(got.loss, loss.detach())
    torch.testing.assert_close(got.grad, h.grad)


def test_both_roles_select_the_same_sum() -> None:
    """Eq. 4 writes h_{i/j}: with v = h and a symmetric S the squares of role j sum up to those of role i."""
    case = make_case("multi_hot", 9)
    selected = oracle.selection(case.s, case.h, case.h)
    squares = (case.h - case.h.sign()).square()
    assert selected.any()
    torch.testing.assert_close((selected * squares[:, None, :]).sum(), (selected * squares[None, :, :]).sum())


@pytest.mark.parametrize("columns", [None, 4])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_gradcheck(columns: int | None, quantization: str) -> None:
    """Numerically, away from 0, where signs and selection are locally constant."""
    case = make_case("ids", 6, columns)
    h = (case.h.sign() + (case.h == 0)) * (0.1 + torch.rand_like(case.h))
    arguments = (case.labels, case.bank, case.bank_labels)
    for weights, reduction in itertools.product(PAIR_WEIGHTS, REDUCTIONS):
        options = {"quantization": quantization, "pair_weights": weights, "reduction": reduction, "eta": 0.7}
        assert torch.autograd.gradcheck(
            lambda t, o=options: rdh_ext.pairwise_loss(t, *arguments, **o), (h.requires_grad_(),)
        )


def test_both_roles_carry_gradient_without_a_bank_and_one_with(backend: str) -> None:
    h = torch.randn(5, 3, dtype=torch.float64, device=backend, requires_grad=True)
    bank = h.detach().clone().requires_grad_()
    labels = torch.tensor([0, 1, 0, 1, 2], device=backend)
    (both,) = torch.autograd.grad(rdh_ext.pairwise_loss(h, labels, eta=0.0), h)
    loss = rdh_ext.pairwise_loss(h, labels, bank, labels, eta=0.0)
    one, none = torch.autograd.grad(loss, (h, bank), allow_unused=True)
    assert none is None
    torch.testing.assert_close(both, 2 * one)  # theta is symmetric here
    (same,) = torch.autograd.grad(rdh_ext.pairwise_loss(h, labels, h, labels, eta=0.0), h)
    torch.testing.assert_close(same, one)  # rows of a bank are constants even where they are those of h
    arguments = (h.detach(), labels, h.detach(), labels, None, 0.5, "none", "none", 0.0, True, "mean", "highest", True)
    torch.testing.assert_close(torch.ops.rdh_ext.pairwise_loss(*arguments)[2], one)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("kind", KINDS)
def test_lower_precision_is_allowed_to_be_lower(backend: str, kind: str, precision: str) -> None:
    """Near the truth for float32 on every backend, and without any effect on float64."""
    for columns, bits, dtype in ((None, 64, torch.float32), (40, 100, torch.float32), (40, 64, torch.float64)):
        case = make_case(kind, 33, columns, bits, dtype=dtype)
        tensors = (None if t is None else t.to(backend) for t in case[:5])
        options = (0.1, "balanced", "error_aware", 0.1, True, "mean", precision, True)
        loss, _, grad = torch.ops.rdh_ext.pairwise_loss(*tensors, *options)
        true = oracle.pairwise_loss(case.h, case.bank, case.s, scale=0.1, pair_weights="balanced")
        tolerance = 1e-12 if dtype == torch.float64 else {"high": 1e-3, "medium": 1e-2}[precision]
        torch.testing.assert_close(loss.cpu().double(), true.loss, rtol=tolerance, atol=0)
        assert float((grad.cpu().double() - true.grad).norm() / true.grad.norm()) < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_large_theta(backend: str, dtype: torch.dtype) -> None:
    """|theta| up to 1e4, either way: no overflow, no clamp, and the wrong pairs keep their gradient."""
    h = torch.cat((torch.ones(3, 4), -torch.ones(3, 4))).to(dtype) * 50 + torch.rand(6, 4).to(dtype)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    case = Case(h, labels, None, None, None, oracle.similarity(labels, labels))
    assert float((h @ h.T).abs().max()) > 1e4
    for scale in (1.0, -1.0, 0.01):
        assert_equals_oracle(case, backend, scale=scale, quantization="log_cosh")
        result = run(case, backend, scale=scale, quantization="none", eta=0.0)
        assert all(bool(t.isfinite().all()) for t in result)
    assert bool((run(case, backend, scale=1.0, quantization="none").grad.abs() > 1).all())


@pytest.mark.parametrize("similar", [True, False])
def test_easy_pairs_keep_their_relative_accuracy(backend: str, similar: bool) -> None:
    """e^-30 and its derivative, in float32, where softplus(theta) - theta would be 0."""
    h, bank = torch.tensor([[30.0]]), torch.tensor([[1.0 if similar else -1.0]])
    s = torch.tensor([[similar]])
    got = run(Case(h, None, bank, None, s, s.double()), backend, scale=1.0, quantization="none")
    true = torch.tensor(-30.0, dtype=torch.float64).exp()
    torch.testing.assert_close(got.loss.double(), true, rtol=1e-6, atol=0)
    torch.testing.assert_close(got.grad.double().squeeze(), -true, rtol=1e-6, atol=0)


def test_log_cosh_near_its_minimum_and_far_away(backend: str) -> None:
    """x^2 / 2 near |h| = 1, where a trained bit is; |x| - log 2 at 1e4, where cosh overflows."""
    for x in (2.0**-12, 0.3, 0.999, 1.001, 5.0, 1e4):
        case = make_case("ids", 1, bits=1, dtype=torch.float32)._replace(h=torch.tensor([[1 + x]]))
        got = run(case, backend, quantization="log_cosh", eta=1.0, scale=0.0)
        x = float(case.h) - 1
        true = x**2 / 2 if x < 1e-3 else float(oracle.log_cosh(torch.tensor(x, dtype=torch.float64)))
        assert float(got.quantization) == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_not_finite_values_propagate(backend: str, value: float, quantization: str) -> None:
    for in_bank in (None, False, True):
        case = make_case("ids", 4, None if in_bank is None else 5, bits=1, classes=1)
        case = case._replace(h=case.h.abs(), bank=None if case.bank is None else case.bank.abs())
        (case.bank if in_bank else case.h)[2, 0] = value
        got = run(case, backend, quantization=quantization)
        assert not got.loss.isfinite()
        assert not got.grad.isfinite().all()


def test_balanced_weights_of_one_kind_of_pairs(backend: str) -> None:
    """Only similar pairs weigh |S| / |S1| = 1; the absent kind must not divide by 0."""
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        case = make_case("ids", 4)._replace(labels=labels, s=oracle.similarity(labels, labels))
        options = {"include_diagonal": False, "quantization": "none"}
        balanced, plain = run(case, backend, pair_weights="balanced", **options), run(case, backend, **options)
        torch.testing.assert_close(balanced.loss, plain.loss)
        torch.testing.assert_close(balanced.grad, plain.grad)


def test_any_strides(backend: str) -> None:
    case = make_case("multi_hot", 9, 11, bits=6, classes=70, dtype=torch.float32)
    dense = run(case, backend)
    views = zip(*(awkward_views(t.to(backend)) for t in case[:4] if t is not None), strict=True)
    for h, labels, bank, bank_labels in views:
        got = run(Case(h, labels, bank, bank_labels, None, case.s), backend)
        torch.testing.assert_close(got.loss, dense.loss)
        torch.testing.assert_close(got.grad, dense.grad)
    got = run(make_case("similarity", 9)._replace(h=case.h[:, :1].expand(9, 6)), backend)
    assert got.grad.shape == (9, 6)


def test_dtypes_of_labels_and_similarity_do_not_matter(backend: str) -> None:
    ids, rows, given = (make_case(kind, 8, 9) for kind in KINDS)
    expected = [run(case, backend) for case in (ids, rows, given)]
    for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8):
        assert torch.equal(
            run(ids._replace(labels=ids.labels.to(dtype), bank_labels=ids.bank_labels.to(dtype)), backend).grad,
            expected[0].grad,
        )
    for dtype in (torch.float32, torch.float16, torch.uint8, torch.int64):
        assert torch.equal(
            run(rows._replace(labels=rows.labels.to(dtype), bank_labels=rows.bank_labels.to(dtype)), backend).grad,
            expected[1].grad,
        )
        assert torch.equal(run(given._replace(similarity=given.similarity.to(dtype)), backend).grad, expected[2].grad)


def test_small_gradients_of_half_precision_survive_a_loss_scaler(backend: str) -> None:
    """1e-9 is 0 in float16: it is rounded behind the factor 2^16 and not before."""
    h = torch.full((2, 2), 0.5, dtype=torch.float16, device=backend, requires_grad=True)
    loss = rdh_ext.pairwise_loss(h, torch.tensor([0, 0], device=backend), scale=1e-8, quantization="none")
    (loss * 2**16).backward()
    assert bool((h.grad != 0).all())


def test_sums_over_many_tiles_are_accurate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial sums in float64: the sum over 4,096 tiles is as good as float32 can hold it."""
    monkeypatch.setattr(reference, "TILE", 64)
    case = make_case("ids", 64, 4096, bits=1, dtype=torch.float32)
    options = {"quantization": "error_aware", "eta": 1.0, "reduction": "sum"}
    got, true = run(case, **options), oracle.pairwise_loss(case.h, case.bank, case.s, **options)
    for a, b in zip(got[:3], true[:3], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-7, atol=0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(level: str, kind: str) -> None:
    """Several tiles of rows and several chunks of columns, whose sums meet."""
    require(level)
    case = make_case(kind, 300, 3000, bits=9, classes=12, dtype=torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        with use_backend(level):
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                results.append(run(case, pair_weights="balanced"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(300, 2600, 3), (257, None, 64), (70, 1201, 70), (5, 5000, 1)], ids=str)
def test_several_tasks(level: str, kind: str, sizes: tuple[int, int | None, int]) -> None:
    """More than a tile of rows, a chunk of columns, and a sum in float32."""
    require(level)
    rows, columns, bits = sizes
    case = make_case(kind, rows, columns, bits, classes=20, dtype=torch.float32)
    with use_backend(level):
        for quantization in ("error_aware", "log_cosh"):
            assert_equals_oracle(case, quantization=quantization, pair_weights="balanced", reduction="sum")


def test_ids_of_any_size(backend: str) -> None:
    """Ids that are no index: spread over all of int64, and more of them than a table should have."""
    h = torch.randn(40, 6)
    ids = torch.randint(0, 2**62, (30,))
    labels = torch.cat((ids[torch.randint(0, 30, (38,))], torch.tensor([2**63 - 1, 0])))
    bank_labels = torch.cat((ids, labels, torch.randint(0, 2**62, (50,))))
    bank = torch.randn(len(bank_labels), 6)
    case = Case(h, labels, bank, bank_labels, None, oracle.similarity(labels, bank_labels))
    assert case.s.sum() > 40
    assert_equals_oracle(case, backend, pair_weights="balanced")


def test_check_finite_names_the_row(backend: str) -> None:
    h, bank = torch.randn(5, 3, device=backend), torch.randn(9, 3, device=backend)
    labels, bank_labels = torch.zeros(5, dtype=torch.int64), torch.zeros(9, dtype=torch.int64)
    arguments = (labels.to(backend), bank, bank_labels.to(backend))
    assert bool(rdh_ext.pairwise_loss(h, *arguments, check_finite=True).isfinite())
    bank[7, 1] = torch.nan
    with pytest.raises(ValueError, match=r"^pairwise_loss: bank must be finite, got nan in row 7 of 9$"):
        rdh_ext.pairwise_loss(h, *arguments, check_finite=True)
    h[2] = -torch.inf
    with pytest.raises(ValueError, match=r"^pairwise_loss: h must be finite, got -inf in row 2 of 5$"):
        rdh_ext.pairwise_loss(h, *arguments, check_finite=True)
    assert not rdh_ext.pairwise_loss(h, *arguments).isfinite()
