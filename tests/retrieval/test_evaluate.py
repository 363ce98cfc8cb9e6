"""The evaluation as a whole: against brute force, sklearn and torchmetrics; ties, choices, empty and bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hamming_cases import LargestTensor, poisoned_memory, random_codes, random_ids, random_multi_hot
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import average_precision as oracle
from oracles import hamming
from torch import Tensor

from rdh_ext.ops.hamming_histogram import hamming_histogram
from rdh_ext.reference import _tiles
from rdh_ext.retrieval import evaluate, evaluate_histogram

DENOMINATORS = ("found", "relevant", "min")
TIES = ("expected", "stable", "optimistic", "pessimistic")
Case = tuple[Tensor, Tensor, Tensor, Tensor]

STEM = "hamming_histogram"


def make_case(queries: int, gallery: int, bits: int, classes: int | None = None, seed: int = 0) -> Case:
    """Codes that repeat, so that there are many ties, and labels: 4 class ids, or multi-hot."""
    q = random_codes(queries, bits, seed, distinct=max(1, queries // 2))
    g = random_codes(gallery, bits, seed + 1, distinct=max(1, gallery // 3))
    if classes is None:
        return q, g, random_ids(queries, 4, seed + 2), random_ids(gallery, 4, seed + 3)
    return q, g, random_multi_hot(queries, classes, seed + 2), random_multi_hot(gallery, classes, seed + 3)


def brute_force(case: Case, k: int, denominator: str) -> list[float]:
    """Stable AP of every query."""
    q, g, q_labels, g_labels = (part.numpy() for part in case)
    rows = zip(hamming.distances(q, g), hamming.relevance(q_labels, g_labels), strict=True)
    return [oracle.stable_average_precision(d, relevant, k, denominator) for d, relevant in rows]


@pytest.mark.parametrize("classes", [None, 6])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("topk", [None, 1, 17, 100, 1000])
def test_stable_equals_a_stable_argsort(backend: str, topk: int | None, denominator: str, classes: int | None) -> None:
    case = make_case(30, 200, 12, classes)
    with poisoned_memory():
        result = evaluate(*(part.to(backend) for part in case), topk, "stable", denominator, bits=12)
    expected = brute_force(case, topk or 200, denominator)
    np.testing.assert_allclose(result.ap, expected, rtol=1e-14, atol=0)
    assert result.map == pytest.approx(np.mean(expected), rel=1e-14)


def test_stable_has_no_temporary_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 1 << 13)
    monkeypatch.setattr(_tiles, "SIGNS", 1 << 13)
    case = make_case(300, 2000, 16)
    with LargestTensor() as largest:
        evaluate(*case, ties="stable")
    assert 0 < largest.numel <= 1 << 14


def test_stable_over_several_tiles(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 4096)
    case = make_case(300, 150, 10)
    result = evaluate(*(part.to(backend) for part in case), 60, "stable")
    np.testing.assert_allclose(result.ap, brute_force(case, 60, "found"), rtol=1e-14, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    topk=st.one_of(st.none(), st.integers(1, 70)),
    denominator=st.sampled_from(DENOMINATORS),
    classes=st.sampled_from([None, 5]),
)
def test_stable_lies_between_the_bounds(seed: int, topk: int | None, denominator: str, classes: int | None) -> None:
    case = make_case(6, 60, 9, classes, seed)
    expected, stable, high, low = (evaluate(*case, topk, ties, denominator).ap for ties in TIES)
    for value in (expected, stable):
        assert bool((low <= value + 1e-14).all())
        assert bool((value <= high + 1e-14).all())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31), topk=st.one_of(st.none(), st.integers(1, 70)), denominator=st.sampled_from(DENOMINATORS)
)
def test_gallery_order_changes_nothing_but_stable(seed: int, topk: int | None, denominator: str) -> None:
    q, g, q_labels, g_labels = make_case(6, 60, 9, seed=seed)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    for ties in ("expected", "optimistic", "pessimistic"):
        result = evaluate(q, g, q_labels, g_labels, topk, ties, denominator)
        shuffled = evaluate(q, g[order], q_labels, g_labels[order], topk, ties, denominator)
        assert torch.equal(result.ap, shuffled.ap)
        assert result.map == shuffled.map


def test_class_sorted_galleries_inflate_stable_only() -> None:
    """Every item of the query's class comes first in the gallery: gallery order then is the best order of the ties."""
    q, g = torch.zeros(1, 1, dtype=torch.uint8), torch.zeros(20, 1, dtype=torch.uint8)
    labels = torch.zeros(1, dtype=torch.int64), torch.arange(20) // 10
    assert evaluate(q, g, *labels, ties="stable").map == evaluate(q, g, *labels, ties="optimistic").map == 1.0
    assert evaluate(q, g, *labels).map == pytest.approx(0.5, abs=0.1)


def test_expected_is_the_mean_over_shuffled_galleries() -> None:
    q, g, q_labels, g_labels = make_case(20, 80, 8, seed=3)
    values = []
    for seed in range(200):
        order = torch.randperm(80, generator=torch.Generator().manual_seed(seed))
        values.append(evaluate(q, g[order], q_labels, g_labels[order], 30, "stable").map)
    spread = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - evaluate(q, g, q_labels, g_labels, 30).map) < 5 * spread


def tie_free_case() -> tuple[Case, np.ndarray]:
    """One query of zeros; item j has its first p(j) bits set, p a permutation: every distance is different."""
    rng = np.random.default_rng(0)
    distances = rng.permutation(64)
    g = np.packbits(np.arange(64) < distances[:, None], axis=1, bitorder="little")
    labels = torch.zeros(1, dtype=torch.int64), torch.from_numpy(rng.integers(0, 3, 64))
    return (torch.zeros(1, 8, dtype=torch.uint8), torch.from_numpy(g), *labels), distances


@pytest.mark.parametrize("ties", TIES)
def test_sklearn_and_torchmetrics_agree_without_ties(ties: str) -> None:
    metrics, retrieval = (
        pytest.importorskip("sklearn.metrics"),
        pytest.importorskip("torchmetrics.functional.retrieval"),
    )
    case, distances = tie_free_case()
    relevant = case[3].numpy() == 0
    assert evaluate(*case, ties=ties).map == pytest.approx(
        metrics.average_precision_score(relevant, -distances), rel=1e-14
    )
    scores = torch.from_numpy(65.0 - distances)  # torchmetrics takes scores <= 0 for irrelevant
    for k in (None, 1, 10, 64):
        theirs = retrieval.retrieval_average_precision(scores, torch.from_numpy(relevant), top_k=k)
        assert evaluate(*case, topk=k, ties=ties).map == pytest.approx(theirs.item(), rel=1e-6)
        precision = retrieval.retrieval_precision(scores, torch.from_numpy(relevant), top_k=k)
        recall = retrieval.retrieval_recall(scores, torch.from_numpy(relevant), top_k=k)
        assert evaluate(*case, ties=ties).precision_at(k or 64) == pytest.approx(precision.item(), rel=1e-6)
        assert evaluate(*case, ties=ties).recall_at(k or 64) == pytest.approx(recall.item(), rel=1e-6)


def test_topk_none_and_beyond_the_gallery() -> None:
    case = make_case(5, 30, 9)
    for ties, denominator in itertools.product(TIES, DENOMINATORS):
        whole = evaluate(*case, ties=ties, denominator=denominator)
        for topk in (30, 31, 10**12):
            assert torch.equal(evaluate(*case, topk, ties, denominator).ap, whole.ap)


@pytest.mark.parametrize("ties", TIES)
def test_queries_without_relevant_items(ties: str) -> None:
    q, g, q_labels, g_labels = make_case(10, 40, 9)
    q_labels[[1, 4]] = 99
    zero = evaluate(q, g, q_labels, g_labels, 20, ties)
    skip = evaluate(q, g, q_labels, g_labels, 20, ties, empty="skip")
    rest = torch.tensor([i for i in range(10) if i not in (1, 4)])
    alone = evaluate(q[rest], g, q_labels[rest], g_labels, 20, ties, empty="error")
    assert zero.queries_without_relevant == skip.queries_without_relevant == 2
    assert alone.queries_without_relevant == 0
    assert zero.ap[[1, 4]].tolist() == [0.0, 0.0]
    assert bool(skip.ap[[1, 4]].isnan().all())
    assert torch.equal(skip.ap[rest], alone.ap)
    assert skip.map == alone.map
    assert zero.map == pytest.approx(0.8 * alone.map, rel=1e-15)
    assert skip.precision_at(7) == pytest.approx(alone.precision_at(7), rel=1e-15)
    assert zero.recall_at(7) == pytest.approx(0.8 * alone.recall_at(7), rel=1e-15)
    assert skip.precision_within_radius(3) == pytest.approx(alone.precision_within_radius(3), rel=1e-15)
    with pytest.raises(ValueError, match=r"evaluate: .* empty='error', got 2 of 10 queries without one"):
        evaluate(q, g, q_labels, g_labels, 20, ties, empty="error")


@pytest.mark.parametrize("ties", TIES)
def test_unlabelled_queries_of_multi_hot_labels_find_nothing(ties: str) -> None:
    q, g, q_labels, g_labels = make_case(6, 40, 9, classes=5)
    q_labels[2] = False
    result = evaluate(q, g, q_labels, g_labels, ties=ties)
    assert result.ap[2] == 0.0
    assert result.queries_without_relevant >= 1


@pytest.mark.parametrize("empty", ["zero", "skip", "error"])
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize(("queries", "gallery"), [(0, 20), (3, 0), (0, 0)])
def test_no_queries_or_no_gallery(queries: int, gallery: int, ties: str, empty: str) -> None:
    case = make_case(queries, gallery, 9)
    if queries and empty == "error":
        with pytest.raises(ValueError, match="got 3 of 3 queries without one"):
            evaluate(*case, ties=ties, empty=empty)
        return
    for topk in (None, 5):
        result = evaluate(*case, topk, ties, empty=empty)
        assert result.map == 0.0
        assert result.ap.shape == (queries,)
        assert result.queries_without_relevant == queries
        assert (result.queries, result.gallery, result.bits) == (queries, gallery, 16)
        assert result.precision_at(3) == result.recall_at(3) == result.precision_within_radius(2) == 0.0
        for by in ("radius", "rank", "recall"):
            curve = result.pr_curve(by)
            assert curve.at.shape == curve.precision.shape == curve.recall.shape == curve.queries.shape
            assert not bool(curve.precision.any())
        assert str(result)


def test_from_the_sum_of_histograms() -> None:
    q, g, q_labels, g_labels = make_case(8, 90, 12)
    pieces = [hamming_histogram(q, g[a::3], q_labels, g_labels[a::3], bits=12) for a in range(3)]
    for ties in ("expected", "optimistic", "pessimistic"):
        whole = evaluate(q, g, q_labels, g_labels, 40, ties, bits=12)
        summed = evaluate_histogram(sum(pieces), 40, ties)
        assert torch.equal(summed.ap, whole.ap)
        assert summed.to_dict() == whole.to_dict()
        assert torch.equal(summed.pr_curve("rank").precision, whole.pr_curve("rank").precision)
    with pytest.raises(ValueError, match=r"evaluate_histogram: ties must be 'expected'"):
        evaluate_histogram(pieces[0], ties="stable")
    with pytest.raises(ValueError, match=r"evaluate_histogram: topk must be an integer >= 1"):
        evaluate_histogram(pieces[0], 0)


def test_does_not_depend_on_defaults() -> None:
    """A default device or dtype, gradients or autocast: none of it reaches the numbers."""
    case = make_case(8, 90, 12)
    for ties in TIES:
        expected = evaluate(*case, 40, ties)
        with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            result = evaluate(*case, 40, ties)
            curves = [result.pr_curve(by) for by in ("radius", "rank", "recall")]
            assert result.precision_at(5) == expected.precision_at(5)
        assert torch.equal(result.ap, expected.ap)
        for curve in curves:
            assert torch.equal(curve.precision, expected.pr_curve(curve.by).precision)


Q, G = random_codes(2, 8, 1), random_codes(3, 8, 2)
LABELS = torch.tensor([0, 1]), torch.tensor([0, 1, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"topk": 0}, ValueError, r"evaluate: topk must be an integer >= 1, or None for the whole gallery, got 0"),
        ({"topk": -1}, ValueError, r"evaluate: topk must be an integer >= 1, or None for the whole gallery, got -1"),
        ({"topk": 5.0}, TypeError, r"evaluate: topk must be an integer >= 1, or None .*, got float 5.0"),
        ({"ties": "unstable"}, ValueError, r"evaluate: ties must be one of 'expected', 'stable', .* got 'unstable'"),
        (
            {"denominator": "all"},
            ValueError,
            r"evaluate: denominator must be one of 'found', 'relevant', 'min', got 'all'",
        ),
        ({"empty": "drop"}, ValueError, r"evaluate: empty must be one of 'zero', 'skip', 'error', got 'drop'"),
        ({"bits": 9}, ValueError, r"evaluate: bits must be an integer in \(0, 8\]"),
        ({"bits": 3}, ValueError, r"evaluate: [qg] must have zeros behind its 3 bits"),
        ({"q": Q.float()}, TypeError, r"evaluate: q must be packed codes, a uint8 tensor as pack_codes makes it"),
        ({"g": G.repeat(1, 2)}, ValueError, r"evaluate: g must be codes as wide as q"),
        ({"g": G.to("meta")}, ValueError, r"evaluate: g must be on the device of q"),
        ({"q_labels": LABELS[1]}, ValueError, r"evaluate: q_labels must"),
        ({"g_labels": LABELS[0]}, ValueError, r"evaluate: g_labels must"),
        (
            {"g_labels": torch.eye(3)},
            ValueError,
            r"evaluate: g_labels must be class ids like q_labels, got multi-hot rows",
        ),
        ({"g_labels": -LABELS[1]}, ValueError, r"evaluate: g_labels must be class ids .* got -1"),
    ],
)
def test_bad_input(options: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"q": Q, "g": G, "q_labels": LABELS[0], "g_labels": LABELS[1]} | options
    with pytest.raises(error, match=message):
        evaluate(**arguments)
