"""NDCG over tied items: against every order, scikit-learn, a stable argsort, and 50 digits where buckets are huge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hamming_cases import random_codes, random_ids, random_multi_hot
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import average_precision, hamming
from oracles import ndcg as oracle

from rdh_ext.retrieval import _ranking, evaluate, evaluate_histogram
from rdh_ext.retrieval._discount import discount_sums

TIES = ("expected", "pessimistic", "optimistic")


@pytest.mark.parametrize("start", [0, 1, 2, 100, 65535, 65536, 65537, 10**6 + 3, 10**9, 10**12, 10**15])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 5000, 65535, 65536, 65537, 131073, 10**6, 10**8, 10**12, 10**15])
def test_sums_of_discounts_to_the_last_digits(start: int, n: int) -> None:
    ours = discount_sums([start], [n]).item()
    assert ours == pytest.approx(float(oracle.discount_sum(start, n)), rel=1e-15, abs=0)


def test_sums_of_discounts_do_not_depend_on_their_neighbours() -> None:
    rng = np.random.default_rng(0)
    start = np.concatenate([rng.integers(0, 10**k, 9) for k in range(1, 16)])
    n = rng.permutation(np.concatenate([rng.integers(0, 10**k, 9) for k in range(1, 16)]))
    together = discount_sums(start, n)
    alone = [discount_sums(start[i : i + 1], n[i : i + 1]) for i in range(135)]
    assert np.array_equal(together, np.concatenate(alone))
    halves = discount_sums(start, n // 2) + discount_sums(start + n // 2, n - n // 2)
    np.testing.assert_allclose(together, halves, rtol=2e-15, atol=0)


@pytest.mark.parametrize(
    "buckets", [((1, 0), (3, 1), (2, 2)), ((5, 2), (0, 0)), ((0, 0), (4, 4), (3, 0)), ((3, 0), (6, 3))]
)
def test_every_order_of_ties(buckets: tuple[tuple[int, int], ...]) -> None:
    histogram = torch.tensor([buckets])
    total = sum(items for items, _ in buckets)
    for n in (*range(1, total + 2), None):
        exact = oracle.mean_and_bounds(buckets, n or total)
        for ties, value in zip(TIES, exact, strict=True):
            assert evaluate_histogram(histogram, ties=ties).ndcg(n) == pytest.approx(value, rel=2e-15, abs=1e-15)


@pytest.mark.parametrize("classes", [None, 6])
def test_sklearn_agrees(classes: int | None) -> None:
    """It takes the mean over ties, too."""
    metrics = pytest.importorskip("sklearn.metrics")
    q, g = random_codes(20, 12, 1), random_codes(300, 12, 2, distinct=80)
    if classes is None:
        labels = random_ids(20, 4, 3), random_ids(300, 4, 4)
    else:
        labels = random_multi_hot(20, classes, 3), random_multi_hot(300, classes, 4)
    distances = hamming.distances(q.numpy(), g.numpy())
    relevant = hamming.relevance(*(part.numpy() for part in labels))
    result = evaluate(q, g, *labels)
    for n in (1, 10, 100, 299, 300, None):
        theirs = [metrics.ndcg_score(relevant[i : i + 1], -distances[i : i + 1], k=n) for i in range(20)]
        np.testing.assert_allclose(result.ndcg_per_query(n), theirs, rtol=1e-13)
        assert result.ndcg(n) == pytest.approx(np.mean(theirs), rel=1e-13)


@pytest.mark.parametrize("ranks", [1, 100, 10**6])
def test_stable_equals_a_stable_argsort(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ranking, "_RANKS", ranks)  # blocks of one query, of some, of all
    case = random_codes(15, 10, 1), random_codes(200, 10, 2, distinct=30), random_ids(15, 4, 3), random_ids(200, 4, 4)
    case[2][3] = 9
    result = evaluate(*case, ties="stable")
    q, g, q_labels, g_labels = (part.numpy() for part in case)
    rows = list(zip(hamming.distances(q, g), hamming.relevance(q_labels, g_labels), strict=True))
    for n in (1, 17, 199, 200, 1000, None):
        expected = [oracle.ndcg(average_precision.stable_sequence(*row), n or 200) for row in rows]
        np.testing.assert_allclose(result.ndcg_per_query(n), expected, rtol=1e-14, atol=0)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_bounds_hold(data: st.DataObject, seed: int) -> None:
    case = random_codes(4, 8, seed), random_codes(60, 8, seed + 1), random_ids(4, 3, seed), random_ids(60, 3, seed + 1)
    n = data.draw(st.one_of(st.none(), st.integers(1, 70)))
    expected, stable, high, low = (
        evaluate(*case, ties=ties).ndcg_per_query(n) for ties in ("expected", "stable", "optimistic", "pessimistic")
    )
    for value in (expected, stable):
        assert bool((low <= value * (1 + 1e-14)).all())
        assert bool((value <= high * (1 + 1e-14)).all())
    assert 0 <= float(low.min()) <= float(high.max()) <= 1 + 1e-14


@pytest.mark.parametrize("scale", [10**8, 10**12])
def test_huge_buckets(scale: int) -> None:
    """Millions of items at every distance: against the definition with 50 digits."""
    buckets = ((3 * scale + 1, scale // 7), (5, 5), (scale, 1), (9 * scale, 8 * scale))
    relevant = sum(r for _, r in buckets)
    for n in (10, scale, 3 * scale + 3, 4 * scale + 100, 13 * scale + 6):
        gains = dict.fromkeys(TIES, 0.0)
        before = 0
        for items, r in buckets:
            places = max(0, min(items, n - before))
            first, last = min(r, places), max(0, places - (items - r))
            gains["expected"] += oracle.discount_sum(before, places) * r / items
            gains["optimistic"] += oracle.discount_sum(before, first)
            gains["pessimistic"] += oracle.discount_sum(before + items - r, last)
            before += items
        ideal = oracle.discount_sum(0, min(n, relevant))
        for ties, gain in gains.items():
            ours = evaluate_histogram(torch.tensor([buckets]), ties=ties).ndcg(n)
            assert ours == pytest.approx(float(gain / ideal), rel=2e-15)


def test_queries_without_relevant_items() -> None:
    case = random_codes(4, 8, 1), random_codes(30, 8, 2), torch.tensor([0, 7, 1, 7]), random_ids(30, 2, 4)
    for ties in ("expected", "stable", "optimistic", "pessimistic"):
        zero, skip = (evaluate(*case, ties=ties, empty=empty) for empty in ("zero", "skip"))
        assert zero.ndcg_per_query(5)[[1, 3]].tolist() == [0.0, 0.0]
        assert skip.ndcg_per_query(5).isnan().tolist() == [False, True, False, True]
        assert zero.ndcg(5) == pytest.approx(skip.ndcg(5) / 2, rel=1e-15)


@pytest.mark.parametrize(("queries", "gallery"), [(0, 20), (3, 0), (0, 0)])
def test_no_queries_or_no_gallery(queries: int, gallery: int) -> None:
    case = random_codes(queries, 8), random_codes(gallery, 8), random_ids(queries, 3), random_ids(gallery, 3)
    for ties, n in itertools.product(("expected", "stable", "optimistic", "pessimistic"), (None, 3)):
        result = evaluate(*case, ties=ties)
        assert result.ndcg(n) == 0.0
        assert result.ndcg_per_query(n).tolist() == [0.0] * queries
