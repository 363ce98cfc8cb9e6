"""Average precision from histograms, in float64: the exact expectation over the orders of tied items, or its bounds.

Per bucket (one distance) holding ``n`` items, ``r`` of them relevant, with ``N`` items and ``P`` relevant ones before
it. ``m`` of its ``n`` places are among the first ``topk``: all, none, or, in one bucket at most, some (the *cut*).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import _checks as checks
from ..ops.average_precision import average_precision as expected_over_all
from ..reference._harmonic import Array, harmonic_sums, precision_sum
from ..reference.average_precision import BUCKETS, TERMS, divide, expected_precision_sum, sum_of_buckets

TIES = ("expected", "stable", "optimistic", "pessimistic")
DENOMINATORS = ("found", "relevant", "min")


def check_topk(op: str, topk: int | None) -> int | None:
    """``topk`` as an int >= 1 or None."""
    if topk is None:
        return None
    return checks.check_integer(op, "topk", topk, low=1, expected="an integer >= 1, or None for the whole gallery")


def check_histogram(op: str, histogram: Tensor) -> Tensor:
    """``histogram`` on the CPU, seen to be counts: int64 ``[Q, K + 1, 2]``, 0 <= relevant <= all, rows of one sum.

    The sum is below 2^62, so that no sum of counts overflows.
    """
    checks.check_tensor(op, "histogram", histogram, dtypes=(torch.int64,), ndim=3)
    if histogram.shape[1] < 2 or histogram.shape[2] != 2:
        checks.fail_value(op, "histogram", "[Q, K + 1, 2] with K >= 1", histogram)
    checks.check_has_values(op, "histogram", histogram)
    histogram = histogram.detach().cpu()
    items, relevant = histogram.unbind(-1)
    if bool((relevant < 0).any()) or bool((relevant > items).any()):
        raise ValueError(f"{op}: histogram must hold 0 <= relevant items <= all items, got other counts")
    if items.numel() and float(items.sum(1, dtype=torch.float64).max()) >= 2.0**62:
        raise ValueError(f"{op}: histogram must count fewer than 2^62 items, got more")
    totals = items.sum(1)
    if totals.numel() and bool((totals != totals[0]).any()):
        raise ValueError(
            f"{op}: histogram must count one gallery in every row, got from {totals.min()} to {totals.max()} items"
        )
    return histogram


def check_histogram_ties(op: str, ties: str) -> None:
    """``ties`` is a choice that a histogram can answer for."""
    checks.check_choice(op, "ties", ties, TIES)
    if ties == "stable":
        expected = "'expected', 'optimistic' or 'pessimistic' (gallery order is not in a histogram)"
        checks.fail_value(op, "ties", expected, ties)


def average_precision(
    histogram: Tensor, *, topk: int | None = None, ties: str = "expected", denominator: str = "found"
) -> Tensor:
    r"""Average precision of every query from its histogram; orders of tied items are integrated out, not drawn.

    For an order of the gallery by distance, ``AP = (1 / D) sum over relevant ranks i <= k of (relevant among the first
    i) / i``. A bucket of ``n`` items, ``r`` relevant, behind ``N`` items and ``P`` relevant ones adds, on average,

    .. math:: \frac{r}{n} \left[(P+1) S_0 + \frac{r-1}{n-1} S_1\right], \quad S_0 = H_{N+m} - H_N, \ S_1 = m - (N+1) S_0

    with ``m`` of its places among the first k. With ``denominator="found"`` the number of relevant items found is
    itself random in the bucket that k cuts, and the quotient is averaged over its hypergeometric distribution.

    Args:
        histogram: int64 ``[Q, K + 1, 2]`` as from :func:`rdh_ext.hamming_histogram`, or a sum of such.
        topk: k; None means the whole gallery, and so does k > G.
        ties: "expected" (the mean over all orders of tied items), "optimistic", "pessimistic" (the largest and the
            smallest value that any of those orders gives). "stable" needs the codes: :func:`rdh_ext.evaluate`.
        denominator: D: "found" (relevant items among the first k), "relevant" (all R), "min" (``min(R, k)``).

    Returns:
        float64 ``[Q]`` on the CPU, so the same bits whatever device counted; 0 for a query that finds nothing.

    Raises:
        TypeError, ValueError: a histogram that cannot be one, ``topk`` below 1, an unknown choice.

    Cost: O(QK) time, a few MiB; with "found" and a cut bucket of ``n`` items another O(sqrt(n)) per query. Relative
    error below 1e-13, however many items there are at a distance. Deterministic.

    Source: McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of
    tied scores" (ECIR 2008), for the expectation over a whole ranking.

    Example:
        >>> histogram = torch.tensor([[[2, 1], [0, 0]]])  # two items at distance 0, one relevant: AP is 1 or 1/2
        >>> rdh_ext.retrieval.average_precision(histogram)
        tensor([0.7500], dtype=torch.float64)
    """
    op = "average_precision"
    histogram = check_histogram(op, histogram)
    limit = check_topk(op, topk)
    check_histogram_ties(op, ties)
    checks.check_choice(op, "denominator", denominator, DENOMINATORS)
    return average_precision_of(histogram, limit, ties, denominator)


def divide_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient by a count, in float64 (torch divides integers in float32); 0 where the count is 0."""
    return torch.where(denominator > 0, numerator.to(torch.float64) / denominator.clamp(min=1), 0.0)


def average_precision_of(histogram: Tensor, limit: int | None, ties: str, denominator: str) -> Tensor:
    """:func:`average_precision` for checked arguments, some queries at a time.

    The usual one, expected ties and nothing cut, is an op of its own; the others are NumPy.
    """
    counts = histogram.contiguous()
    if limit is not None and len(counts) and limit >= int(counts[0, :, 0].sum()):
        limit = None
    if limit is None and ties == "expected":
        return expected_over_all(counts)
    out = np.empty(counts.shape[0])
    rows = max(1, BUCKETS // counts.shape[1])
    for start in range(0, counts.shape[0], rows):
        block = counts[start : start + rows]
        values = _average_precision(block.numpy(), block.cumsum(1).numpy(), limit, ties, denominator)
        out[start : start + rows] = values
    return torch.from_numpy(out)


def _average_precision(here: Array, up_to: Array, limit: int | None, ties: str, denominator: str) -> Array:
    """For counts ``[B, K + 1, 2]`` at distances, and up to them."""
    relevant, bucket_sum = up_to[:, -1, 1], _BUCKET_SUMS[ties]
    cells = here[..., 1] > 0
    if limit is None:
        return divide(sum_of_buckets(cells, here, up_to, bucket_sum), relevant)
    whole = up_to[..., 0] <= limit
    numerator = sum_of_buckets(cells & whole, here, up_to, bucket_sum)
    cut = np.arange(len(here)), whole.sum(1)  # the first bucket that is not whole: of its places some are left, or none
    n, r = here[cut].T
    before, relevant_before = (up_to[cut] - here[cut]).T
    m = limit - before
    if denominator != "found":
        numerator += bucket_sum(before, relevant_before, n, r, m)
        return divide(numerator, np.minimum(relevant, limit) if denominator == "min" else relevant)
    out = divide(numerator, relevant_before)
    query = np.flatnonzero(m)
    if len(query):
        quotient = {"expected": _expected_cut, "optimistic": _largest_cut, "pessimistic": _smallest_cut}[ties]
        out[query] = quotient(*(part[query] for part in (numerator, relevant_before, before, n, r, m)))
    return out


def _largest_sum(before: Array, relevant_before: Array, n: Array, r: Array, m: Array) -> Array:
    """The sum of precisions at the relevant items in the first ``m`` places of a bucket, relevant items in front."""
    return precision_sum(before, relevant_before, np.minimum(r, m))


def _smallest_sum(before: Array, relevant_before: Array, n: Array, r: Array, m: Array) -> Array:
    """The same with relevant items at the end of the bucket."""
    irrelevant = n - r
    return precision_sum(before + irrelevant, relevant_before, np.maximum(m - irrelevant, 0))


_BUCKET_SUMS = {"expected": expected_precision_sum, "optimistic": _largest_sum, "pessimistic": _smallest_sum}


def _cut_range(n: Array, r: Array, m: Array) -> tuple[Array, Array]:
    """The smallest and the largest number of relevant items in ``m`` of ``n`` places."""
    return np.maximum(m - n + r, 0), np.minimum(r, m)


def _largest_cut(numerator: Array, relevant_before: Array, before: Array, n: Array, r: Array, m: Array) -> Array:
    """The largest ``(A + sum) / (P + x)``.

    With the ``x`` relevant items in front, the x-th adds ``(P + x) / (N + x)`` to the sum, which grows with x; so the
    quotient falls, then rises, and the largest is at one of the ends.
    """
    ends = [
        divide(numerator + precision_sum(before, relevant_before, x), relevant_before + x) for x in _cut_range(n, r, m)
    ]
    return np.maximum(*ends)


def _smallest_cut(numerator: Array, relevant_before: Array, before: Array, n: Array, r: Array, m: Array) -> Array:
    """The smallest ``(A + sum) / (P + x)``.

    With the ``x`` relevant items at the end of the ``m`` places, one more of them, put in front of those, adds
    ``(P + 1) / (N + m - x) + S0(N + m - x, x)``, which grows with x: the quotient falls, then rises, and turns at the
    smallest x whose next step does not lower it (bisection).
    """

    def quotient(x: Array) -> Array:
        return divide(numerator + precision_sum(before + m - x, relevant_before, x), relevant_before + x)

    low, high = _cut_range(n, r, m)
    while (low < high).any():
        x = (low + high) // 2
        start = before + m - x
        step = divide(relevant_before + 1.0, start) + harmonic_sums(start, x)[0]
        turned = step >= quotient(x)
        low, high = np.where(turned | (low == high), low, x + 1), np.where(turned, x, high)
    return quotient(low)


def _expected_cut(numerator: Array, relevant_before: Array, before: Array, n: Array, r: Array, m: Array) -> Array:
    """The mean of ``(A + sum) / (P + x)``, ``x`` the hypergeometric number of relevant items in ``m`` of ``n`` places.

    The sum is ``(x / m) [(P + 1) S0 + (x - 1) / (m - 1) S1]``, so that the means of ``1 / (P + x)``, ``x / (P + x)``
    and ``x (x - 1) / (P + x) = x - (P + 1) x / (P + x)`` say it all.

    Only x within reach of the mean are summed: the hypergeometric distribution is a sum of independent Bernoulli
    variables, so by Bernstein's inequality at most 2e-18 of it lies farther than ``14 + sqrt(196 + 83 variance)`` away.
    """
    share = r / n
    variance = m * share * (1 - share) * divide(n - m, n - 1)
    reach = 16 + np.sqrt(196 + 83 * variance)
    # few widths, so that a query's value does not depend on the queries beside it
    step = np.exp2(np.floor(np.log2(reach)) - 2)
    width = (step * np.ceil(reach / step)).astype(np.int64)
    inverse, share_found = np.empty_like(numerator), np.empty_like(numerator)
    for half in np.unique(width).tolist():
        members, rows = np.flatnonzero(width == half), max(1, TERMS // half)
        for start in range(0, len(members), rows):
            chunk = members[start : start + rows]
            inverse[chunk], share_found[chunk] = _cut_means(half, *(part[chunk] for part in (relevant_before, n, r, m)))
    zeroth, first = harmonic_sums(before, m)
    pairs = divide(share * m - (relevant_before + 1) * share_found, m - 1)
    inside: Array = (relevant_before + 1) * zeroth * share_found + first * pairs
    return numerator * inverse + inside / m


def _cut_means(half: int, relevant_before: Array, n: Array, r: Array, m: Array) -> tuple[Array, Array]:
    """The means of ``1 / (P + x)`` and of ``x / (P + x)`` (0 where P + x = 0), over ``half`` values of x on either side
    of the most probable one.

    ``p(x + 1) / p(x) = (r - x)(m - x) / ((x + 1)(n - r - m + x + 1))``: products of ratios outward from the mode lose
    no digit that matters, where differences of lgamma lose most of them. Behind the last x a factor is 0, and so is the
    product from there on.
    """
    exact = object if (r + 1.0).max() * (m + 1.0).max() >= 2.0**62 else np.int64
    mode = ((r.astype(exact) + 1) * (m.astype(exact) + 1) // (n.astype(exact) + 2)).astype(np.int64)
    others = n - r - m + mode
    up, down = (r - mode, m - mode, mode + 1, others + 1), (mode, others, r - mode + 1, m - mode + 1)
    a, b, c, d = (np.stack(pair).astype(np.float64)[..., None] for pair in zip(up, down, strict=True))  # [2, B, 1]
    j = np.arange(half, dtype=np.float64)
    weight, below = a - j, c + j
    weight *= b - j
    below *= d + j
    weight /= below
    np.multiply.accumulate(weight, axis=-1, out=weight)
    signs = np.array([1.0, -1.0])[:, None, None]
    x = mode[:, None] + signs * (j + 1)
    total = 1 + weight.sum(-1).sum(0)
    weight /= np.maximum(x + relevant_before[:, None], 1.0)
    at_mode = 1 / np.maximum(mode + relevant_before, 1)
    inverse = at_mode + weight.sum(-1).sum(0)
    weight *= x
    return inverse / total, (at_mode * mode + weight.sum(-1).sum(0)) / total
