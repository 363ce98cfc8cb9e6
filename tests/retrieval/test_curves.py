"""Precision and recall by radius, rank and recall level: against brute force, sklearn, and each other."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
import torch
from hamming_cases import random_codes, random_ids
from oracles import hamming

from rdh_ext.reference import _tiles
from rdh_ext.retrieval import EvaluationResult, _ranking, evaluate
from rdh_ext.retrieval._ranking import items_needed

TIES = ("expected", "stable", "optimistic", "pessimistic")
BITS, QUERIES, GALLERY = 10, 12, 90


def make(ties: str = "expected", empty: str = "zero") -> tuple[EvaluationResult, np.ndarray, np.ndarray]:
    """A result, and the distances and relevance that belong to it; query 0 has nothing relevant."""
    q, g = random_codes(QUERIES, BITS, 1), random_codes(GALLERY, BITS, 2, distinct=25)
    q_labels, g_labels = random_ids(QUERIES, 3, 3), random_ids(GALLERY, 3, 4)
    q_labels[0] = 7
    result = evaluate(q, g, q_labels, g_labels, ties=ties, empty=empty, bits=BITS)
    parts = [part.numpy() for part in (q, g, q_labels, g_labels)]
    return result, hamming.distances(*parts[:2]), hamming.relevance(*parts[2:])


def sequences(ties: str, distances: np.ndarray, relevant: np.ndarray) -> list[np.ndarray]:
    """The relevance of every gallery in the order that ``ties`` means."""
    first = {"stable": 0, "optimistic": ~relevant, "pessimistic": relevant}[ties]
    return [row[order] for row, order in zip(relevant, np.lexsort((first + 0 * relevant, distances)), strict=True)]


@pytest.mark.parametrize("empty", ["zero", "skip"])
def test_by_radius(empty: str) -> None:
    result, distances, relevant = make(empty=empty)
    curve = result.pr_curve("radius")
    rows = range(1 if empty == "skip" else 0, QUERIES)
    assert curve.at.tolist() == list(range(BITS + 1))
    for radius in range(BITS + 1):
        balls = [relevant[i][distances[i] <= radius] for i in rows]
        precisions = [ball.mean() for ball in balls if ball.size]
        recalls = [ball.sum() / max(relevant[i].sum(), 1) for i, ball in zip(rows, balls, strict=True)]
        assert curve.queries[radius] == len(precisions)
        assert curve.precision[radius] == pytest.approx(np.mean(precisions) if precisions else 0.0)
        assert curve.recall[radius] == pytest.approx(np.mean(recalls))
        inside = np.mean([ball.mean() if ball.size else 0.0 for ball in balls])
        assert result.precision_within_radius(radius) == pytest.approx(inside)
    assert curve.queries[0] < len(rows)  # the case has an empty ball
    assert result.precision_within_radius(10**6) == pytest.approx(relevant[list(rows)].mean())


@pytest.mark.parametrize("ties", ["stable", "optimistic", "pessimistic"])
@pytest.mark.parametrize("empty", ["zero", "skip"])
def test_by_rank(ties: str, empty: str) -> None:
    result, distances, relevant = make(ties, empty)
    ordered = np.stack(sequences(ties, distances, relevant))[1 if empty == "skip" else 0 :]
    found = ordered.cumsum(1)
    curve = result.pr_curve("rank")
    assert curve.at.tolist() == list(range(1, GALLERY + 1))
    np.testing.assert_allclose(curve.precision, (found / np.arange(1, GALLERY + 1)).mean(0), rtol=1e-14)
    np.testing.assert_allclose(curve.recall, (found / np.maximum(found[:, -1:], 1)).mean(0), rtol=1e-14)
    assert curve.queries.tolist() == [len(ordered)] * GALLERY
    for n in (1, 17, GALLERY, GALLERY + 5):
        assert result.precision_at(n) == pytest.approx(curve.precision[min(n, GALLERY) - 1].item(), rel=1e-14)
        assert result.recall_at(n) == pytest.approx(curve.recall[min(n, GALLERY) - 1].item(), rel=1e-14)


@pytest.mark.parametrize("ranks", [1, 60])
def test_stable_by_blocks_of_queries(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks of one query at a time, or of two or three."""
    expected = [make("stable")[0].pr_curve(by) for by in ("rank", "recall")]
    monkeypatch.setattr(_ranking, "_RANKS", ranks)
    for curve in expected:
        assert torch.equal(make("stable")[0].pr_curve(curve.by).precision, curve.precision)
        assert torch.equal(make("stable")[0].pr_curve(curve.by).recall, curve.recall)


def test_by_rank_expected_is_the_mean_of_all_orders() -> None:
    result, distances, relevant = make()
    for n in (1, 5, 33, 90):
        mean = []
        for i in range(QUERIES):
            cut = np.sort(distances[i])[n - 1]
            before, tied = distances[i] < cut, distances[i] == cut
            mean.append((relevant[i][before].sum() + (n - before.sum()) * relevant[i][tied].mean()) / n)
        assert result.precision_at(n) == pytest.approx(np.mean(mean), rel=1e-14)
        assert result.pr_curve("rank", at=[n]).precision.item() == pytest.approx(np.mean(mean), rel=1e-14)


@pytest.mark.parametrize("ties", ["stable", "optimistic", "pessimistic"])
def test_by_recall_is_the_best_precision_from_there_on(ties: str) -> None:
    result, distances, relevant = make(ties)
    curve = result.pr_curve("recall")
    assert curve.at.tolist() == [i / 100 for i in range(101)]
    assert torch.equal(curve.at, curve.recall)
    values = np.zeros((QUERIES, 101))
    for i, sequence in enumerate(sequences(ties, distances, relevant)):
        found, total = sequence.cumsum(), sequence.sum()
        precision = found / np.arange(1, GALLERY + 1)
        for level in range(101 if total else 0):
            values[i, level] = precision[(100 * found >= level * total) & (found > 0)].max()
    np.testing.assert_allclose(curve.precision, values.mean(0), rtol=1e-14)


def test_by_recall_expected_uses_the_thresholds_of_sklearn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    result, distances, relevant = make(empty="skip")
    levels = [0.0, 0.1, 0.25, 0.5, 0.7, 1.0]
    values = []
    for i in range(1, QUERIES):
        precision, recall, _ = metrics.precision_recall_curve(relevant[i], -distances[i])
        # its last point, precision 1 at recall 0, is no point of the ranking
        values.append([precision[:-1][(recall[:-1] >= level - 1e-12) & (recall[:-1] > 0)].max() for level in levels])
    np.testing.assert_allclose(result.pr_curve("recall", at=levels).precision, np.mean(values, axis=0), rtol=1e-14)


def test_recall_levels_survive_rounding() -> None:
    """7 of 10 items reach a recall of 0.7, although 0.7 * 10 is more than 7 in floating point."""
    relevant = torch.arange(1, 2000)
    needed = items_needed(torch.arange(101, dtype=torch.float64) / 100, relevant)
    exact = -(-torch.arange(101) * relevant.unsqueeze(1) // 100)
    assert torch.equal(needed, exact.clamp(min=1))


def test_ranks_beyond_the_gallery_mean_all_of_it() -> None:
    for ties in TIES:
        result, _, relevant = make(ties)
        curve = result.pr_curve("rank", at=[GALLERY + 5, GALLERY])
        assert curve.at.tolist() == [GALLERY, GALLERY + 5]
        np.testing.assert_allclose(curve.precision, 2 * [relevant.mean()], rtol=1e-14)


def test_stable_over_several_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _, _ = make("stable")
    expected = [whole.pr_curve(by) for by in ("rank", "recall")]
    monkeypatch.setattr(_tiles, "TILE", 100)
    for curve in expected:
        np.testing.assert_allclose(make("stable")[0].pr_curve(curve.by).precision, curve.precision, rtol=1e-14)


def test_bounds_hold_on_curves() -> None:
    results = {ties: make(ties)[0] for ties in TIES}
    for by in ("rank", "recall"):
        low, high = (results[ties].pr_curve(by).precision for ties in ("pessimistic", "optimistic"))
        for ties in ("expected", "stable"):
            value = results[ties].pr_curve(by).precision
            assert bool((low <= value + 1e-14).all())
            assert bool((value <= high + 1e-14).all())


def test_ranks_of_a_large_gallery_are_spaced_in_their_logarithm() -> None:
    q, g = random_codes(2, 8, 1), random_codes(5000, 8, 2)
    curve = evaluate(q, g, random_ids(2, 2), random_ids(5000, 2)).pr_curve("rank")
    assert (curve.at[0], curve.at[-1]) == (1, 5000)
    assert 100 < len(curve.at) <= 200
    assert bool((curve.at.diff() > 0).all())


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("precision_at", (0,), ValueError, r"precision_at: n must be an integer >= 1, got 0"),
        ("recall_at", (-3,), ValueError, r"recall_at: n must be an integer >= 1, got -3"),
        ("recall_at", (1.5,), TypeError, r"recall_at: n must be an integer >= 1, got float 1.5"),
        ("precision_within_radius", (-1,), ValueError, r"precision_within_radius: r must be an integer >= 0, got -1"),
        (
            "pr_curve",
            ("distance",),
            ValueError,
            r"pr_curve: by must be one of 'radius', 'rank', 'recall', got 'distance'",
        ),
        ("pr_curve", ("radius", [0, 11]), ValueError, r"pr_curve: at must be radii in \[0, 10\], got 11"),
        ("pr_curve", ("rank", [0]), ValueError, r"pr_curve: at must be ranks in \[1, 2\^63\), got 0"),
        ("pr_curve", ("recall", [1.1]), ValueError, r"pr_curve: at must be recall levels in \[0, 1\], got 1.1"),
        ("pr_curve", ("recall", [math.nan]), ValueError, r"pr_curve: at must be recall levels in \[0, 1\], got nan"),
    ],
)
def test_bad_points(method: str, arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(make()[0], method)(*arguments)


def test_result_is_immutable_and_serialises() -> None:
    result, _, _ = make("stable", "skip")
    with pytest.raises(AttributeError):
        result.map = 1.0
    numbers = json.loads(json.dumps(result.to_dict(per_query=True), allow_nan=False))
    assert numbers["map"] == result.map
    assert (numbers["ties"], numbers["empty"], numbers["queries_without_relevant"]) == ("stable", "skip", 1)
    assert numbers["ap"][0] is None
    assert numbers["ap"][1:] == result.ap[1:].tolist()
    curve = json.loads(json.dumps(result.pr_curve().to_dict(), allow_nan=False))
    assert len(curve["precision"]) == len(curve["at"]) == BITS + 1
    assert pickle.loads(pickle.dumps(result)).precision_at(5) == result.precision_at(5)


def test_table() -> None:
    q, g = torch.zeros(2, 1, dtype=torch.uint8), torch.tensor([[0], [1], [7]], dtype=torch.uint8)
    result = evaluate(q, g, torch.tensor([0, 5]), torch.tensor([0, 0, 1]), topk=2)
    assert str(result).splitlines() == [
        "mAP@2    0.5000  ties expected, denominator found",
        "P@H<=2   0.5000  empty balls score 0",
        "queries       2  1 find nothing relevant: they score 0",
        "gallery       3  codes of 8 bits",
    ]
    assert "histogram" not in repr(result)
