"""Codes and labels in, retrieval metrics out."""

from __future__ import annotations

from torch import Tensor

from .. import _checks as checks
from ..ops.hamming_histogram import check_labelled_codes
from ._ranking import HistogramRanking, LabelledCodes, Ranking, StableRanking
from .average_precision import DENOMINATORS, TIES, check_histogram, check_histogram_ties, check_topk
from .result import EMPTY, EvaluationResult, make_result


def check_choices(op: str, ties: str, denominator: str, empty: str) -> None:
    """All three are choices that there are."""
    checks.check_choice(op, "ties", ties, TIES)
    checks.check_choice(op, "denominator", denominator, DENOMINATORS)
    checks.check_choice(op, "empty", empty, EMPTY)


def evaluate(
    q: Tensor,
    g: Tensor,
    q_labels: Tensor,
    g_labels: Tensor,
    topk: int | None = None,
    ties: str = "expected",
    denominator: str = "found",
    empty: str = "zero",
    *,
    bits: int | None = None,
) -> EvaluationResult:
    r"""Mean average precision, precision-recall curves and more, for codes ranked by Hamming distance.

    ``AP@k = (1 / D) sum over relevant ranks i <= k of (relevant among the first i) / i``. Codes of K bits put
    thousands of items at one distance, and AP depends on their order. So it is averaged over all orders, exactly and
    without drawing any (formula and source at :func:`rdh_ext.retrieval.average_precision`): the default does not
    depend on the order of the gallery, nor on a sorting algorithm, nor on the device.

    Args:
        q: packed query codes, uint8 ``[Q, ceil(K / 8)]`` as from :func:`rdh_ext.pack_codes`, K up to 4096, CPU or CUDA.
        g: packed gallery codes, uint8 ``[G, ceil(K / 8)]``, on the device of ``q``.
        q_labels: class ids ``[Q]`` or multi-hot ``[Q, C]``; two items are relevant to each other when they share a
            label.
        g_labels: the same kind for the gallery.
        topk: k of mAP@k; None means the whole gallery, and so does k > G.
        ties: "expected"; "stable" (gallery order, equal to a stable argsort of the distances); "optimistic" and
            "pessimistic" (the largest and the smallest value over all orders of tied items).
        denominator: D: "found" (relevant items among the first k, the convention of the field), "relevant" (all R
            relevant items), "min" (``min(R, k)``). Without ``topk`` they are the same.
        empty: what a query without any relevant item does: "zero" scores 0, "skip" leaves it out of all means,
            "error" raises. They are counted in ``queries_without_relevant`` in any case.
        bits: K; None means every place of the bytes. The metrics do not depend on it, radii and tables do.

    Returns:
        :class:`rdh_ext.retrieval.EvaluationResult`: ``.map``, ``.ap``, ``.pr_curve(by=...)``, ``.precision_at(n)``,
        ``.recall_at(n)``, ``.precision_within_radius(r)``, ``.ndcg(n)``, ...
        No queries: a mAP of 0 and an empty ``ap``; an empty gallery: every query is one without relevant items.

    Raises:
        TypeError, ValueError: codes and labels as for :func:`rdh_ext.hamming_histogram`; ``topk`` below 1 (-1 too);
            an unknown choice; ``empty="error"`` and a query without relevant items.

    Cost: one pass over all pairs, O(QG(K + C)), two with ``ties="stable"``; no Q x G temporary: memory is the
    histogram, 16 Q (K + 1) bytes, what :func:`rdh_ext.hamming_histogram` takes, and tens of MiB. Waits for the device.
    Deterministic; AP in float64, relative error below 1e-13. A gallery for several sets of queries:
    :class:`rdh_ext.retrieval.Gallery`.

    Example:
        >>> g = torch.tensor([[0b11], [0b00], [0b01]], dtype=torch.uint8)
        >>> q = torch.tensor([[0b01]], dtype=torch.uint8)
        >>> result = rdh_ext.evaluate(q, g, torch.tensor([7]), torch.tensor([7, 3, 7]), bits=2)
        >>> round(result.map, 4)  # one relevant item at distance 0; at distance 1 one of two, second or third
        0.9167
    """
    op = "evaluate"
    check_choices(op, ties, denominator, empty)
    topk = check_topk(op, topk)
    q_labels, g_labels, bits = check_labelled_codes(op, q, g, q_labels, g_labels, bits)
    checks.check_has_values(op, "q", q)
    codes = LabelledCodes(q, g, q_labels, g_labels, bits)
    return evaluate_codes(op, codes, topk=topk, ties=ties, denominator=denominator, empty=empty)


def evaluate_codes(
    op: str, codes: LabelledCodes, *, topk: int | None, ties: str, denominator: str, empty: str
) -> EvaluationResult:
    """:func:`evaluate` for checked arguments, of one call or of a prepared gallery."""
    histogram = codes.histogram().cpu()
    ranking: Ranking = StableRanking(histogram, codes) if ties == "stable" else HistogramRanking(histogram, ties)
    return make_result(
        op,
        histogram,
        ranking,
        gallery=codes.g.shape[0],
        topk=topk,
        ties=ties,
        denominator=denominator,
        empty=empty,
    )


def evaluate_histogram(
    histogram: Tensor,
    topk: int | None = None,
    ties: str = "expected",
    denominator: str = "found",
    empty: str = "zero",
) -> EvaluationResult:
    """:func:`evaluate` from a histogram, for instance the sum over the pieces of a gallery.

    Args:
        histogram: int64 ``[Q, K + 1, 2]`` as from :func:`rdh_ext.hamming_histogram`.
        topk, ties, denominator, empty: as for :func:`evaluate`; "stable" is not possible, the histogram knows no order.

    Returns:
        What :func:`evaluate` returns, equal bit for bit.

    Raises:
        TypeError, ValueError: a histogram that cannot be one, and as :func:`evaluate`.

    Cost: O(QK). Deterministic.

    Example:
        >>> histogram = torch.tensor([[[1, 1], [2, 1], [0, 0]]])
        >>> round(rdh_ext.retrieval.evaluate_histogram(histogram).map, 4)
        0.9167
    """
    op = "evaluate_histogram"
    check_histogram_ties(op, ties)
    check_choices(op, ties, denominator, empty)
    histogram = check_histogram(op, histogram)
    return make_result(
        op,
        histogram,
        HistogramRanking(histogram, ties),
        gallery=int(histogram[0, :, 0].sum()) if histogram.shape[0] else 0,
        topk=check_topk(op, topk),
        ties=ties,
        denominator=denominator,
        empty=empty,
    )
