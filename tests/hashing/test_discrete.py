"""Ridge regression and coordinate descent against brute force; no step ever increases the objective."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdh_ext.hashing.methods import discrete
from rdh_ext.hashing.methods.discrete import compact_labels, coordinate_descent, objective, ridge_weights

SHAPES = [(3, 4), (4, 3), (1, 12), (6, 2), (12, 1), (2, 6)]
"""N K is 12: all 4096 codes can be tried."""


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).double() if labels.dim() == 1 else labels.double()


def dense(codes: Tensor, w: Tensor, y: Tensor, q: Tensor, ridge: float) -> Tensor:
    """J by the book, for codes ``[..., N, K]``."""
    b = codes.double()
    fit = (y - b @ w).square().sum((-1, -2))
    return fit + ridge * w.square().sum() - 2 * (b * q).sum((-1, -2))


def all_codes(items: int, bits: int) -> Tensor:
    every = torch.tensor(list(itertools.product((-1, 1), repeat=items * bits)))
    return every.view(-1, items, bits)


def problem(
    items: int, bits: int, classes: int, seed: int, *, multi_hot: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, W, labels and Q."""
    g = torch.Generator().manual_seed(seed)
    labels = (
        torch.rand(items, classes, generator=g) < 0.4 if multi_hot else torch.randint(classes, (items,), generator=g)
    )
    codes = 2 * torch.randint(2, (items, bits), generator=g, dtype=torch.int8) - 1
    w = torch.randn(bits, classes, generator=g, dtype=torch.float64)
    q = 0.5 * torch.randn(items, bits, generator=g, dtype=torch.float64)
    return codes, w, labels, q


def flipped(codes: Tensor, k: int) -> Tensor:
    other = codes.clone()
    other[:, k] *= -1
    return other


def one_sweep(codes: Tensor, w: Tensor, y: Tensor, q: Tensor) -> Tensor:
    """Bit after bit, the better of its two values, item by item; the old one where they are equally good."""
    codes = codes.clone()
    for i in range(codes.size(0)):
        for k in range(codes.size(1)):
            row = slice(i, i + 1)
            here, there = codes[row], flipped(codes[row], k)
            if dense(there, w, y[row], q[row], 0.0) < dense(here, w, y[row], q[row], 0.0) - 1e-9:
                codes[row] = there
    return codes


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize(("items", "bits"), SHAPES)
def test_descent_against_all_codes(items: int, bits: int, multi_hot: bool) -> None:
    codes, w, labels, q = problem(items, bits, 3, seed=items, multi_hot=multi_hot)
    y = one_hot(labels, 3)
    every = all_codes(items, bits)
    values = dense(every, w, y, q, 0.5)
    best = every[values.argmin()]
    assert torch.equal(coordinate_descent(best, w, labels, q), best)  # it stays at the global optimum
    assert torch.equal(coordinate_descent(codes, w, labels, q, sweeps=1), one_sweep(codes, w, y, q))
    before = codes.clone()
    found = coordinate_descent(codes, w, labels, q, sweeps=100)
    assert torch.equal(codes, before)
    assert found.dtype == codes.dtype
    value = dense(found, w, y, q, 0.5)
    assert values.min() - 1e-9 <= value <= dense(codes, w, y, q, 0.5) + 1e-9
    for k in range(bits):  # no single bit of any item could be better
        rows = dense(flipped(found, k)[:, None], w, y[:, None], q[:, None], 0.0)
        assert (rows >= dense(found[:, None], w, y[:, None], q[:, None], 0.0) - 1e-9).all()
    torch.testing.assert_close(objective(found, w, labels, q, ridge=0.5), value, rtol=1e-12, atol=1e-12)


def test_first_sweep_goes_from_bit_to_bit() -> None:
    """Two equal columns of W: whichever bit comes first takes the label, and the second then has nothing to add."""
    w = torch.tensor([[1.0], [1.0]])
    start = torch.tensor([[-1, -1]])
    assert coordinate_descent(start, w, torch.tensor([0]), sweeps=1).tolist() == [[1, -1]]


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize(("items", "bits", "classes"), [(40, 6, 3), (5, 9, 4), (1, 1, 1), (30, 16, 50)])
def test_ridge_is_least_squares(items: int, bits: int, classes: int, multi_hot: bool) -> None:
    codes, _, labels, _ = problem(items, bits, classes, seed=1, multi_hot=multi_hot)
    ridge = 0.7
    stacked = torch.cat([codes.double(), ridge**0.5 * torch.eye(bits, dtype=torch.float64)])
    target = torch.cat([one_hot(labels, classes), torch.zeros(bits, classes, dtype=torch.float64)])
    expected = torch.linalg.lstsq(stacked, target, driver="gelsd").solution
    found = ridge_weights(codes, labels, classes, ridge)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    # items without a code count nowhere
    wide = torch.cat([codes, torch.zeros(3, bits, dtype=codes.dtype)])
    more = torch.cat([labels, labels[:1].expand(3, *labels.shape[1:])])
    torch.testing.assert_close(ridge_weights(wide, more, classes, ridge), found, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        objective(wide, found, more, ridge=ridge), objective(codes, found, labels, ridge=ridge), rtol=1e-12, atol=0
    )


def test_equal_bits_and_hardly_a_ridge() -> None:
    codes = torch.tensor([[1, 1, 1], [-1, -1, 1], [1, 1, 1]])
    w = ridge_weights(codes, torch.tensor([0, 1, 0]), 2, 1e-300)
    torch.testing.assert_close(codes.double() @ w, one_hot(torch.tensor([0, 1, 0]), 2), rtol=1e-6, atol=1e-6)


cases = st.tuples(
    st.integers(1, 12), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6), st.booleans(), st.integers(1, 3)
)


@settings(max_examples=60, deadline=None)
@given(case=cases, ridge=st.sampled_from([1e-3, 1.0, 100.0]))
def test_no_step_increases_the_objective(case: tuple[int, int, int, int, bool, int], ridge: float) -> None:
    items, bits, classes, seed, multi_hot, sweeps = case
    codes, w, labels, q = problem(items, bits, classes, seed, multi_hot=multi_hot)
    y = one_hot(labels, classes)
    last = dense(codes, w, y, q, ridge)
    for _ in range(3):
        w = ridge_weights(codes, labels, classes, ridge)
        after_w = dense(codes, w, y, q, ridge)
        assert after_w <= last + 1e-9 * (1 + last.abs())
        codes = coordinate_descent(codes, w, labels, q, sweeps=sweeps)
        last = dense(codes, w, y, q, ridge)
        assert last <= after_w + 1e-9 * (1 + last.abs())
        assert codes.abs().eq(1).all()


@settings(max_examples=60, deadline=None)
@given(case=cases)
def test_ties_keep_their_bit(case: tuple[int, int, int, int, bool, int]) -> None:
    """Whole numbers, so that ties are many and exact: a bit changes only where that is strictly better."""
    items, bits, classes, seed, multi_hot, _ = case
    codes, w, labels, q = problem(items, bits, classes, seed, multi_hot=multi_hot)
    w, q = (0.8 * w).round(), (2 * q).round()
    swept = coordinate_descent(codes, w, labels, q, sweeps=1)
    assert torch.equal(swept, one_sweep(codes, w, one_hot(labels, classes), q))
    done = coordinate_descent(codes, w, labels, q, sweeps=1000)
    assert torch.equal(coordinate_descent(done, w, labels, q), done)


def test_rounding_decides_nothing() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point; here it is a tie."""
    w = torch.tensor([[0.1, 0.2, -0.3]], dtype=torch.float64)
    for bit in (-1, 1):
        assert coordinate_descent(torch.tensor([[bit]]), w, torch.tensor([[True, True, True]])).item() == bit
    assert coordinate_descent(torch.tensor([[1]]), w, torch.tensor([[True, True, True]]), torch.tensor([[-1e-9]])) == -1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_changes_no_bit_but_its_own_item_s(bad: float) -> None:
    codes, w, labels, q = problem(5, 6, 3, seed=0, multi_hot=False)
    expected = coordinate_descent(codes, w, labels, q)
    q[2] = bad
    found = coordinate_descent(codes, w, labels, q)
    expected[2] = codes[2]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("multi_hot", [False, True])
def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch, multi_hot: bool) -> None:
    codes, w, labels, q = problem(101, 37, 7, seed=3, multi_hot=multi_hot)
    whole = coordinate_descent(codes, w, labels, q), ridge_weights(codes, labels, 7, 1.0)
    value = objective(codes, w, labels, q, ridge=1.0, pull_weight=2.0)
    torch.testing.assert_close(value, dense(codes, w, one_hot(labels, 7), 2 * q, 1.0), rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(discrete, "BLOCK", 300)
    monkeypatch.setattr(discrete, "BITS", 5)
    assert torch.equal(coordinate_descent(codes, w, labels, q), whole[0])
    assert torch.equal(ridge_weights(codes, labels, 7, 1.0), whole[1])
    torch.testing.assert_close(objective(codes, w, labels, q, ridge=1.0, pull_weight=2.0), value, rtol=1e-12, atol=0)
    # the weight of the pull goes with the pull, whatever the dtype it is kept in
    half = (4 * q).round() / 4
    assert torch.equal(
        coordinate_descent(codes, w, labels, half.float(), pull_weight=3.0),
        coordinate_descent(codes, w, labels, 3 * half),
    )


def test_labels_are_made_compact() -> None:
    ids, classes = compact_labels(torch.tensor([2**62, 5, 5, 7], dtype=torch.int64))
    assert ids.tolist() == [2, 0, 0, 1]
    assert classes == 3
    rows, classes = compact_labels(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert rows.tolist() == [[True, False], [False, False]]
    assert classes == 2
