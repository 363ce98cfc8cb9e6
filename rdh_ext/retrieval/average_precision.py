"""Average precision from histograms, in float64: the exact expectation over the orders of tied items, or its bounds.

Per bucket (one distance) holding ``n`` items, ``r`` of them relevant, with ``N`` items and ``P`` relevant ones before
it. ``m`` of its ``n`` places are among the first ``topk``: all, none, or, in one bucket at most, some (the *cut*).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks as checks
from ._harmonic import harmonic_sums, precision_sum

TIES = ("expected", "stable", "optimistic", "pessimistic")
DENOMINATORS = ("found", "relevant", "min")
_BLOCK = 1 << 18
"""Elements that are worked on at a time."""


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
    error below 1e-13. Deterministic.

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
    out = torch.empty(histogram.shape[0], dtype=torch.float64, device=histogram.device)
    rows = max(1, _BLOCK // histogram.shape[1])
    for start in range(0, histogram.shape[0], rows):
        out[start : start + rows] = _average_precision(histogram[start : start + rows], limit, ties, denominator)
    return out


def divide_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient by a count, in float64 (torch divides integers in float32); 0 where the count is 0."""
    return torch.where(denominator > 0, numerator.to(torch.float64) / denominator.clamp(min=1), 0.0)


def _average_precision(histogram: Tensor, limit: int | None, ties: str, denominator: str) -> Tensor:
    n, r = histogram.unbind(-1)
    before, relevant_before = n.cumsum(1) - n, r.cumsum(1) - r
    total, relevant = int(n[0].sum()), r.sum(1)
    limit = total if limit is None else min(limit, total)
    m = (limit - before).clamp(min=0).minimum(n)
    if denominator != "found":
        terms = _bucket_sum(before, relevant_before, n, r, m, ties)
        return divide_or_zero(terms.sum(1), relevant.clamp(max=limit) if denominator == "min" else relevant)
    whole = torch.where(m == n, n, 0)
    numerator = _bucket_sum(before, relevant_before, n, r, whole, ties).sum(1)
    found = torch.where(m == n, r, 0).sum(1)
    out = divide_or_zero(numerator, found)
    query, bucket = torch.nonzero((m > 0) & (m < n), as_tuple=True)
    if query.numel():
        cut = [part[query, bucket] for part in (relevant_before, before, n, r, m)]
        quotient = {"expected": _expected_cut, "optimistic": _largest_cut, "pessimistic": _smallest_cut}[ties]
        out[query] = quotient(numerator[query], *cut)
    return out


def _bucket_sum(before: Tensor, relevant_before: Tensor, n: Tensor, r: Tensor, m: Tensor, ties: str) -> Tensor:
    """The sum of precisions at the relevant items in the first ``m`` places of a bucket: mean, largest or smallest."""
    if ties == "optimistic":
        return precision_sum(before, relevant_before, r.minimum(m))
    if ties == "pessimistic":
        irrelevant = n - r
        return precision_sum(before + irrelevant, relevant_before, (m - irrelevant).clamp(min=0))
    zeroth, first = harmonic_sums(before, m)
    pairs = divide_or_zero((r - 1).clamp(min=0), n - 1)
    return divide_or_zero(r, n) * ((relevant_before + 1) * zeroth + pairs * first)


def _cut_range(n: Tensor, r: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest number of relevant items in ``m`` of ``n`` places."""
    return (m - n + r).clamp(min=0), r.minimum(m)


def _largest_cut(numerator: Tensor, relevant_before: Tensor, before: Tensor, n: Tensor, r: Tensor, m: Tensor) -> Tensor:
    """The largest ``(A + sum) / (P + x)``.

    With the ``x`` relevant items in front, the x-th adds ``(P + x) / (N + x)`` to the sum, which grows with x; so the
    quotient falls, then rises, and the largest is at one of the ends.
    """
    ends = [
        divide_or_zero(numerator + precision_sum(before, relevant_before, x), relevant_before + x)
        for x in _cut_range(n, r, m)
    ]
    return torch.maximum(*ends)


def _smallest_cut(
    numerator: Tensor, relevant_before: Tensor, before: Tensor, n: Tensor, r: Tensor, m: Tensor
) -> Tensor:
    """The smallest ``(A + sum) / (P + x)``.

    With the ``x`` relevant items at the end of the ``m`` places, one more of them, put in front of those, adds
    ``(P + 1) / (N + m - x) + S0(N + m - x, x)``, which grows with x: the quotient falls, then rises, and turns at the
    smallest x whose next step does not lower it (bisection).
    """

    def quotient(x: Tensor) -> Tensor:
        return divide_or_zero(numerator + precision_sum(before + m - x, relevant_before, x), relevant_before + x)

    low, high = _cut_range(n, r, m)
    while bool((low < high).any()):
        x = (low + high) // 2
        start = before + m - x
        step = divide_or_zero(relevant_before + 1, start) + harmonic_sums(start, x)[0]
        turned = step >= quotient(x)
        low, high = torch.where(turned | (low == high), low, x + 1), torch.where(turned, x, high)
    return quotient(low)


def _expected_cut(
    numerator: Tensor, relevant_before: Tensor, before: Tensor, n: Tensor, r: Tensor, m: Tensor
) -> Tensor:
    """The mean of ``(A + sum) / (P + x)``, ``x`` the hypergeometric number of relevant items in ``m`` of ``n`` places.

    Only x within reach of the mean are summed: the hypergeometric distribution is a sum of independent Bernoulli
    variables, so by Bernstein's inequality at most 2e-18 of it lies farther than ``14 + sqrt(196 + 83 variance)`` away.
    """
    share = divide_or_zero(r, n)
    variance = m * share * (1 - share) * divide_or_zero(n - m, n - 1)
    reach = 16 + torch.sqrt(196 + 83 * variance)
    # few widths, so that a query's value does not depend on the queries beside it
    width = torch.exp2(torch.ceil(torch.log2(reach))).to(torch.int64)
    out = torch.empty_like(numerator)
    for half in sorted(set(width.tolist())):
        members, rows = torch.nonzero(width == half).squeeze(1), max(1, _BLOCK // half)
        for start in range(0, members.shape[0], rows):
            chunk = members[start : start + rows]
            parts = [part[chunk].unsqueeze(1) for part in (numerator, relevant_before, before, n, r, m)]
            out[chunk] = _expected_cut_window(half, *parts)
    return out


def _expected_cut_window(
    half: int, numerator: Tensor, relevant_before: Tensor, before: Tensor, n: Tensor, r: Tensor, m: Tensor
) -> Tensor:
    """The mean over the ``half`` values of x on either side of the mode; all arguments ``[B, 1]``."""
    mode, weight = _hypergeometric_window(half, n, r, m)
    x = mode + torch.arange(-half, half + 1, device=m.device)
    zeroth, first = harmonic_sums(before, m)
    pairs = divide_or_zero((x - 1).clamp(min=0), m - 1)
    inside = divide_or_zero(x, m) * ((relevant_before + 1) * zeroth + pairs * first)
    value = divide_or_zero(numerator + inside, (relevant_before + x).clamp(min=0))
    return (weight * value).sum(1) / weight.sum(1)


def _hypergeometric_window(half: int, n: Tensor, r: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """The mode ``[B, 1]`` and the unnormalised probabilities ``[B, 2 half + 1]`` around it (1 at the mode).

    ``p(x + 1) / p(x) = (r - x)(m - x) / ((x + 1)(n - r - m + x + 1))``. Its distance from 1 has the numerator
    ``(r + 1)(m + 1) - (x + 1)(n + 2)``, which is ``rem - (j + 1)(n + 2)`` at ``x = mode + j``: logarithms of ratios
    lose no digit, where differences of lgamma lose most of them. Sums go outward from the mode, so what matters is
    rounded least.
    """
    products = [(a + 1) * (b + 1) for a, b in zip(r.flatten().tolist(), m.flatten().tolist(), strict=True)]
    splits = [divmod(product, size + 2) for product, size in zip(products, n.flatten().tolist(), strict=True)]
    mode = torch.tensor([[quotient] for quotient, _ in splits], device=n.device)
    rem = torch.tensor([[float(remainder)] for _, remainder in splits], dtype=torch.float64, device=n.device)
    low, high = _cut_range(n, r, m)
    j = torch.arange(half, device=n.device)
    others, size = (n - r - m).to(torch.float64), (n + 2).to(torch.float64)
    x = mode + j
    ratio = (rem - (j + 1) * size) / ((x + 1) * (others + x + 1))
    up = torch.where(x < high, torch.log1p(ratio.clamp(min=-1)), -math.inf)
    x = mode - j
    ratio = (rem + j * size) / (x * (others + x))
    down = torch.where(x > low, -torch.log1p(ratio), -math.inf)
    logs = (down.cumsum(1).flip(1), torch.zeros_like(rem), up.cumsum(1))
    return mode, torch.cat(logs, dim=1).exp()
