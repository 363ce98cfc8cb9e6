"""Average precision by definition: rationals over every order of tied items, a stable sort in numpy, and mpmath."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import mpmath
import numpy as np
from numpy.typing import NDArray

Bucket = tuple[int, int]
"""Items and relevant items at one distance."""


def orders(buckets: Sequence[Bucket]) -> Iterator[tuple[int, ...]]:
    """Every distinct sequence of relevant (1) and other (0) items; each stands for the same number of orders."""
    per_bucket = []
    for items, relevant in buckets:
        places = itertools.combinations(range(items), relevant)
        per_bucket.append([tuple(int(i in chosen) for i in range(items)) for chosen in map(set, places)])
    for parts in itertools.product(*per_bucket):
        yield tuple(itertools.chain.from_iterable(parts))


def average_precision(sequence: Sequence[int], k: int, denominator: str) -> Fraction:
    """AP@k of one order, from the definition."""
    found, total = 0, Fraction(0)
    for rank, relevant in enumerate(sequence[:k], start=1):
        if relevant:
            found += 1
            total += Fraction(found, rank)
    by = {"found": found, "relevant": sum(sequence), "min": min(sum(sequence), k)}[denominator]
    return total / by if by else Fraction(0)


def mean_and_bounds(buckets: Sequence[Bucket], k: int, denominator: str) -> tuple[Fraction, Fraction, Fraction]:
    """Mean, smallest and largest AP@k over all orders of tied items."""
    values = [average_precision(sequence, k, denominator) for sequence in orders(buckets)]
    return sum(values, Fraction(0)) / len(values), min(values), max(values)


def stable_sequence(distances: NDArray, relevant: NDArray) -> NDArray:
    """The relevance of one query's gallery in the order of a stable sort of the distances."""
    return relevant[np.argsort(distances, kind="stable")]


def stable_average_precision(distances: NDArray, relevant: NDArray, k: int, denominator: str) -> float:
    """AP@k of one query with ties in gallery order."""
    sequence = stable_sequence(distances, relevant)
    head = sequence[:k].astype(np.float64)
    precision = head.cumsum() / np.arange(1, len(head) + 1)
    total = math.fsum(precision[head > 0])
    by = {"found": head.sum(), "relevant": sequence.sum(), "min": min(sequence.sum(), k)}[denominator]
    return total / by if by else 0.0


def expected_cut(total: float, relevant_before: int, before: int, items: int, relevant: int, places: int) -> mpmath.mpf:
    """Mean of AP@k ("found") in a cut bucket, with 50 digits, over every x down to 1e-35 of the largest probability."""
    with mpmath.workdps(50):
        zeroth = mpmath.harmonic(before + places) - mpmath.harmonic(before)
        first = places - (before + 1) * zeroth

        def value(x: int) -> mpmath.mpf:
            if relevant_before + x == 0:
                return mpmath.mpf(0)
            pairs = mpmath.mpf(x - 1) / (places - 1) if places > 1 else 0
            inside = mpmath.mpf(x) / places * ((relevant_before + 1) * zeroth + pairs * first)
            return (total + inside) / (relevant_before + x)

        low, high = max(0, places - items + relevant), min(relevant, places)
        mode = (relevant + 1) * (places + 1) // (items + 2)
        weights, mean = mpmath.mpf(0), mpmath.mpf(0)
        for step in (1, -1):
            x, weight = mode, mpmath.mpf(1)
            while low <= x <= high and weight > mpmath.mpf(10) ** -35:
                if step == 1 or x != mode:
                    weights, mean = weights + weight, mean + weight * value(x)
                if step == 1:
                    weight *= mpmath.mpf((relevant - x) * (places - x)) / (
                        (x + 1) * (items - relevant - places + x + 1)
                    )
                else:
                    weight *= mpmath.mpf(x * (items - relevant - places + x)) / ((relevant - x + 1) * (places - x + 1))
                x += step
        return mean / weights


def whole_ranking(buckets: Sequence[Bucket]) -> tuple[mpmath.mpf, mpmath.mpf, mpmath.mpf]:
    """Mean, smallest and largest AP over all orders of tied items, from harmonic numbers with 50 digits."""

    def row(before: int, relevant_before: int, n: int) -> mpmath.mpf:
        """The precisions at n relevant items that follow each other."""
        zeroth = mpmath.harmonic(before + n) - mpmath.harmonic(before)
        return n - (before - relevant_before) * zeroth

    with mpmath.workdps(50):
        totals = [mpmath.mpf(0)] * 3
        before = relevant_before = 0
        for items, relevant in buckets:
            if relevant:
                zeroth = mpmath.harmonic(before + items) - mpmath.harmonic(before)
                pairs = mpmath.mpf(relevant - 1) / (items - 1) if items > 1 else 0
                inside = (relevant_before + 1) * zeroth + pairs * (items - (before + 1) * zeroth)
                totals[0] += inside * relevant / items
                totals[1] += row(before + items - relevant, relevant_before, relevant)
                totals[2] += row(before, relevant_before, relevant)
            before, relevant_before = before + items, relevant_before + relevant
        return totals[0] / relevant_before, totals[1] / relevant_before, totals[2] / relevant_before
