"""AP from histograms: against every order of tied items in rationals, and against 50 digits where buckets are huge."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import average_precision as oracle
from torch import Tensor

from rdh_ext.reference._harmonic import harmonic_sums, precision_sum
from rdh_ext.retrieval import average_precision

DENOMINATORS = ("found", "relevant", "min")
TIES = ("expected", "pessimistic", "optimistic")


def small_histograms(total: int, buckets: int) -> list[tuple[tuple[int, int], ...]]:
    """All histograms of ``total`` items in so many buckets, empty ones included."""
    out = []
    for sizes in itertools.product(range(total + 1), repeat=buckets):
        if sum(sizes) == total:
            counts = [range(size + 1) for size in sizes]
            out += [tuple(zip(sizes, relevant, strict=True)) for relevant in itertools.product(*counts)]
    return out


@pytest.mark.parametrize(("total", "buckets"), [(1, 2), (2, 2), (3, 3), (4, 3), (5, 3), (6, 2), (8, 2)])
def test_every_order_of_ties(total: int, buckets: int) -> None:
    cases = small_histograms(total, buckets)
    histogram = torch.tensor(cases)
    for k, denominator in itertools.product(range(1, total + 2), DENOMINATORS):
        exact = [list(map(float, oracle.mean_and_bounds(case, k, denominator))) for case in cases]
        for ties, values in zip(TIES, zip(*exact, strict=True), strict=True):
            ours = average_precision(histogram, topk=k, ties=ties, denominator=denominator)
            np.testing.assert_allclose(ours, values, rtol=2e-15, atol=0, err_msg=f"k={k} {denominator} {ties}")


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_a_late_cut_through_a_large_bucket(denominator: str) -> None:
    buckets = ((2, 1), (12, 5), (3, 3))
    for k in (3, 8, 13, 14, 15):
        mean, low, high = map(float, oracle.mean_and_bounds(buckets, k, denominator))
        for ties, value in zip(TIES, (mean, low, high), strict=True):
            ours = average_precision(torch.tensor([buckets]), topk=k, ties=ties, denominator=denominator).item()
            assert ours == pytest.approx(value, rel=2e-15)


@pytest.mark.parametrize(
    ("relevant_before", "before", "items", "relevant", "places"),
    [
        (0, 0, 100_000_000, 30_000_000, 40_000_000),
        (123_456, 1_000_000, 100_000_000, 30_000_000, 999),
        (0, 5_000_000, 100_000_000, 200, 50_000_000),
        (7, 10, 100_000_000, 99_999_000, 60_000_000),
        (0, 0, 100_000_000, 1, 50),
        (3, 100, 100_000_000, 100_000_000, 12_345),
        (10, 1000, 59_000, 5_900, 5_000),
        (0, 0, 20_000_000_000, 10_000_000_000, 1_000),
    ],
)
def test_expectation_in_huge_buckets(relevant_before: int, before: int, items: int, relevant: int, places: int) -> None:
    histogram = torch.tensor([[[before, relevant_before], [items, relevant]]])
    whole = torch.tensor([[[before, relevant_before], [0, 0]]])
    total = average_precision(whole, denominator="relevant").item() * relevant_before
    ours = average_precision(histogram, topk=before + places).item()
    exact = float(oracle.expected_cut(total, relevant_before, before, items, relevant, places))
    assert ours == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("items", [10**8, 10**9, 2**31, 2**32 + 1, 10**12])
def test_whole_rankings_of_huge_buckets(items: int) -> None:
    """Galleries beyond what 32 bits count, relevant items everywhere, or nearly nowhere."""
    cases = (
        ((items, items // 10), (items // 3, 5), (7, 7), (0, 0), (2 * items, items)),
        ((3, 0), (items, 1), (items, 0), (items, 1)),
        ((items, 0), (items, items), (1, 0), (1, 1)),
        ((1, 1), (65_534, 3), (2, 2), (items, 2)),
    )
    for buckets in cases:
        for ties, exact in zip(TIES, oracle.whole_ranking(buckets), strict=True):
            ours = average_precision(torch.tensor([buckets]), ties=ties).item()
            assert ours == pytest.approx(float(exact), rel=1e-14), (buckets, ties)


def test_the_end_of_the_table_of_harmonic_numbers() -> None:
    """Buckets that end before it, on it, behind it, and far behind it."""
    for before, items in itertools.product((0, 1, 65_000, 65_535, 65_536, 65_537), (1, 2, 500, 535, 536, 537, 10**6)):
        buckets = ((before, before // 2), (items, (items + 1) // 2), (3, 1))
        for ties, exact in zip(TIES, oracle.whole_ranking(buckets), strict=True):
            ours = average_precision(torch.tensor([buckets]), ties=ties).item()
            assert ours == pytest.approx(float(exact), rel=3e-15), (buckets, ties)


@pytest.mark.parametrize("start", [0, 1, 5, 31, 32, 33, 1000, 65535, 65536, 65537, 10**6 + 3, 10**9, 10**14])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 31, 32, 40, 1000, 65534, 65536, 70000, 10**8, 10**13])
def test_harmonic_sums_to_the_last_digits(start: int, n: int) -> None:
    zeroth, first = (part.item() for part in harmonic_sums(torch.tensor([start]), torch.tensor([n])))
    with mpmath.workdps(60):
        exact = mpmath.harmonic(start + n) - mpmath.harmonic(start)
        assert zeroth == pytest.approx(float(exact), rel=1e-15)
        assert first == pytest.approx(float(n - (start + 1) * exact), rel=5e-15, abs=1e-15)
        row = precision_sum(torch.tensor([start]), torch.tensor([start // 3]), torch.tensor([n])).item()
        assert row == pytest.approx(float(n - (start - start // 3) * exact), rel=5e-15)


@st.composite
def histograms(draw: st.DrawFn) -> Tensor:
    """One query, up to 12 buckets, up to millions of items in each."""
    sizes = draw(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 10**7)), min_size=2, max_size=12))
    return torch.tensor([[[size, draw(st.integers(0, size))] for size in sizes]])


@settings(max_examples=150, deadline=None)
@given(histogram=histograms(), data=st.data(), denominator=st.sampled_from(DENOMINATORS))
def test_bounds_hold(histogram: Tensor, data: st.DataObject, denominator: str) -> None:
    total = int(histogram[..., 0].sum())
    k = data.draw(st.one_of(st.none(), st.integers(1, total + 2)))
    mean, low, high = (average_precision(histogram, topk=k, ties=ties, denominator=denominator).item() for ties in TIES)
    assert 0 <= low <= high * (1 + 1e-14)
    assert high <= 1 + 1e-14
    assert low * (1 - 1e-12) <= mean <= high * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(histogram=histograms(), denominator=st.sampled_from(DENOMINATORS), ties=st.sampled_from(TIES))
def test_a_cut_at_the_end_is_no_cut(histogram: Tensor, denominator: str, ties: str) -> None:
    total = int(histogram[..., 0].sum())
    whole = average_precision(histogram, ties=ties, denominator=denominator)
    assert torch.equal(whole, average_precision(histogram, topk=total + 1, ties=ties, denominator=denominator))
    assert torch.equal(whole, average_precision(histogram, ties=ties, denominator="relevant"))


def test_a_query_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    items = rng.multinomial(100_000, np.full(33, 1 / 33), size=50)
    items[:, ::5] = 0
    items[:, 16] += 100_000 - items.sum(1)
    histogram = torch.from_numpy(np.stack((items, rng.integers(0, items + 1)), axis=-1))
    for ties, denominator in itertools.product(TIES, DENOMINATORS):
        together = average_precision(histogram, topk=30_000, ties=ties, denominator=denominator)
        alone = [average_precision(row[None], topk=30_000, ties=ties, denominator=denominator) for row in histogram]
        assert torch.equal(together, torch.cat(alone))


def test_users_notice_that_more_found_can_score_less() -> None:
    """At k = 3, [+ - +] scores less than [+ - -] when the denominator is what was found."""
    better = torch.tensor([[[1, 1], [1, 0], [1, 0], [1, 1]]])
    worse = torch.tensor([[[1, 1], [1, 0], [1, 1], [1, 0]]])
    assert average_precision(better, topk=3).item() == 1.0
    assert average_precision(worse, topk=3).item() == pytest.approx(5 / 6, rel=1e-15)
    assert average_precision(better, topk=3, denominator="relevant").item() == 0.5


def test_nothing_to_find() -> None:
    assert average_precision(torch.zeros(0, 9, 2, dtype=torch.int64)).shape == (0,)
    assert average_precision(torch.zeros(3, 9, 2, dtype=torch.int64), topk=5).tolist() == [0.0, 0.0, 0.0]
    histogram = torch.tensor([[[5, 0], [3, 0]]])
    for ties, denominator, k in itertools.product(TIES, DENOMINATORS, (None, 1, 6)):
        assert average_precision(histogram, topk=k, ties=ties, denominator=denominator).item() == 0.0


@pytest.mark.parametrize(
    ("histogram", "options", "error", "message"),
    [
        (torch.zeros(2, 9, 2), {}, TypeError, r"average_precision: histogram must be a tensor of dtype int64"),
        (torch.zeros(2, 9, dtype=torch.int64), {}, ValueError, r"histogram must be a tensor of 3 dimensions"),
        (torch.zeros(2, 9, 3, dtype=torch.int64), {}, ValueError, r"histogram must be \[Q, K \+ 1, 2\]"),
        (torch.tensor([[[1, 2], [3, 0]]]), {}, ValueError, r"histogram must hold 0 <= relevant items <= all items"),
        (torch.tensor([[[1, -1], [3, 0]]]), {}, ValueError, r"histogram must hold 0 <= relevant items <= all items"),
        (
            torch.tensor([[[1, 0], [3, 0]], [[1, 0], [2, 0]]]),
            {},
            ValueError,
            r"one gallery in every row, got from 3 to 4",
        ),
        (torch.tensor([[[1, 0], [3, 0]]]), {"topk": 0}, ValueError, r"topk must be an integer >= 1, or None .*, got 0"),
        (torch.tensor([[[1, 0], [3, 0]]]), {"ties": "stable"}, ValueError, r"ties must be 'expected'.* got 'stable'"),
        (torch.tensor([[[1, 0], [3, 0]]]), {"ties": "random"}, ValueError, r"ties must be one of 'expected'"),
        (torch.tensor([[[1, 0], [3, 0]]]), {"denominator": "k"}, ValueError, r"denominator must be one of 'found'"),
    ],
)
def test_bad_input(histogram: Tensor, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        average_precision(histogram, **options)
