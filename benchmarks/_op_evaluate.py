"""Evaluation of a whole gallery: hamming_histogram, and mAP by evaluate, against the public ways of doing it.

``numpy argsort`` is the evaluation of DeepHash-pytorch, which most papers use: query by query a product of labels, a
product of codes, argsort, precision at the relevant ranks. ``eager`` is the same in torch for a block of queries,
``eager, best form`` counts items by distance in one bincount and takes the expectation over ties from there, as rdh_ext
does, or selects the k nearest where mAP is @k; ``torch.compile`` is that, compiled. ``FAISS, then AP in numpy`` ranks
items by IndexBinaryFlat. torchmetrics is RetrievalMAP, scikit-learn average_precision_score. Slow ways get every n-th
query, and their time counts n-fold.

mAP of the peers has to lie between the bounds over all orders of tied items, which is all that they promise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from _ceilings import scanning
from _codes import Codes
from _hamming_peers import argsort_map, expected_precision, faiss_searches, histogram_of, other_maps, stable_precision
from _measure import at_level
from _op_codes import equals, only_on_cpu
from _paper import EVALUATION
from _problem import OURS, Case, NotHere, Op, Problem, Provider, Wrong, not_installed
from costs import hamming_histogram
from torch import Tensor

import rdh_ext
from rdh_ext import _native

CHECKED = 3  # queries that are compared with numpy
BLOCK_BYTES = 1 << 30  # of a float32 matrix of distances of a block of queries
PAIRS = {  # beyond which a peer takes a part of the queries: about a second
    "numpy argsort": 60_000_000,
    "eager": 12_000_000,
    "FAISS, then AP in numpy": 6_000_000,
    "torchmetrics": 6_000_000,
    "scikit-learn": 6_000_000,
    "eager, best form": 120_000_000,
}


PUBLIC = "numpy argsort"  # at the paper's sizes it takes all queries, whatever that takes


def part_of(name: str, x: Codes, case: Case) -> int:
    """Every how many-th query somebody takes, at least three of them."""
    if case.sweep == "paper" and name == PUBLIC:
        return 1
    pairs = PAIRS[name] // (12 if case.quick else 1)
    return max(1, min(x.pairs // pairs, x.queries // 3))


def relevance(q_hot: Tensor, g_hot: Tensor) -> Tensor:
    return q_hot @ g_hot.T > 0


class Blocks:
    """+-1 codes and one-hot labels in torch, a block of queries at a time."""

    def __init__(self, x: Codes, part: int, device: str) -> None:
        sides = (x.q_signs[::part], x.q_hot[::part], x.g_signs, x.g_hot)
        self.q, self.q_hot, self.g, self.g_hot = (torch.from_numpy(side).to(device) for side in sides)
        self.size = max(1, BLOCK_BYTES // (4 * x.gallery))

    def mean(self, ap_of: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> float:
        """Of the AP of all queries."""
        pieces = zip(self.q.split(self.size), self.q_hot.split(self.size), strict=True)
        return float(torch.cat([ap_of(q, hot, self.g, self.g_hot) for q, hot in pieces]).mean())


def sorted_ap(topk: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """By sorting distances, as they are written down."""

    def ap_of(q: Tensor, hot: Tensor, g: Tensor, g_hot: Tensor) -> Tensor:
        order = (0.5 * (q.size(1) - q @ g.T)).argsort(1)[:, :topk]
        relevant = relevance(hot, g_hot).gather(1, order).float()
        ranks = torch.arange(1, relevant.size(1) + 1, device=q.device)
        precision = relevant.cumsum(1) / ranks
        return (precision * relevant).sum(1) / relevant.sum(1).clamp_min(1)

    return ap_of


def selected_ap(topk: int) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """By selecting the nearest, without sorting the others."""

    def ap_of(q: Tensor, hot: Tensor, g: Tensor, g_hot: Tensor) -> Tensor:
        order = (q @ g.T).topk(min(topk, len(g))).indices
        relevant = relevance(hot, g_hot).gather(1, order).float()
        ranks = torch.arange(1, relevant.size(1) + 1, device=q.device)
        return ((relevant.cumsum(1) / ranks) * relevant).sum(1) / relevant.sum(1).clamp_min(1)

    return ap_of


def counted_ap(gallery: int, device: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """By counting: both histograms in one bincount, and the formula of the expectation in float64."""
    numbers = torch.arange(1, gallery + 1, dtype=torch.float64, device=device)
    harmonic = torch.cat((torch.zeros(1, dtype=torch.float64, device=device), (1 / numbers).cumsum(0)))

    def ap_of(q: Tensor, hot: Tensor, g: Tensor, g_hot: Tensor) -> Tensor:
        bins = q.size(1) + 1
        distance = (0.5 * (q.size(1) - q @ g.T)).int()
        cell = 2 * distance + relevance(hot, g_hot)
        cell += (2 * bins * torch.arange(len(q), dtype=torch.int32, device=q.device))[:, None]
        counts = torch.bincount(cell.flatten(), minlength=2 * bins * len(q)).view(len(q), bins, 2)
        r, n = counts[..., 1].double(), counts.sum(2).double()
        behind, found = n.cumsum(1), r.cumsum(1)
        before, relevant = behind - n, found - r
        s0 = harmonic[behind.long()] - harmonic[before.long()]
        s1 = n - (before + 1) * s0
        share = r / n.clamp_min(1)
        terms = share * ((relevant + 1) * s0 + (r - 1) / (n - 1).clamp_min(1) * s1)
        return terms.sum(1) / found[:, -1].clamp_min(1)

    return ap_of


def by_search(x: Codes, topk: int | None, part: int) -> float:
    """FAISS ranks the whole gallery, numpy takes AP from there."""
    far = Part(x, part)
    _, order = faiss_searches(far)["FAISS counting"](topk or x.gallery)
    total = 0.0
    for hot, ids in zip(far.q_hot, order, strict=True):
        relevant = (x.g_hot @ hot > 0)[ids]
        ranks = np.flatnonzero(relevant) + 1.0
        total += float(np.mean(np.arange(1, len(ranks) + 1) / ranks)) if len(ranks) else 0.0
    return total / len(far.q)


class Part:
    """Every n-th query of some codes."""

    def __init__(self, x: Codes, part: int) -> None:
        self.q, self.q_signs, self.q_hot = x.q[::part].contiguous(), x.q_signs[::part], x.q_hot[::part]
        self.g, self.g_signs, self.g_hot = x.g, x.g_signs, x.g_hot


def build_histogram(case: Case) -> Problem:
    x = Codes(case)
    inputs = [each.to(case.device) for each in (x.q, x.g, x.q_labels, x.g_labels)]
    cost = hamming_histogram(x.queries, x.gallery, x.bits)

    def against_numpy(found: object) -> float:
        assert isinstance(found, Tensor)
        for i in range(0, x.queries, max(1, x.queries // CHECKED)):
            if not np.array_equal(found[i].cpu().numpy(), histogram_of(x, i)[: x.bits + 1]):
                raise Wrong(f"the histogram of query {i} is not that of numpy")
        return 0.0

    def ours() -> Tensor:
        return rdh_ext.hamming_histogram(*inputs, bits=x.bits)

    problem = Problem(x.title_with_labels, cost, {OURS: Provider(ours, against_numpy, "rdh_ext", kind=OURS)})
    if case.device == "cpu" and "avx2" in _native.cpu_levels()[:-1]:
        problem.add(f"{OURS} avx2", lambda: Provider(at_level("avx2", ours), against_numpy, "rdh_ext", kind=OURS))
    true = ours()

    def count(q: Tensor, hot: Tensor, g: Tensor, g_hot: Tensor) -> Tensor:
        bins = x.bits + 1
        cell = 2 * (0.5 * (x.bits - q @ g.T)).int() + relevance(hot, g_hot)
        cell += (2 * bins * torch.arange(len(q), dtype=torch.int32, device=q.device))[:, None]
        counts = torch.bincount(cell.flatten(), minlength=2 * bins * len(q)).view(len(q), bins, 2)
        return torch.stack((counts.sum(2), counts[..., 1]), 2)

    def counting(function: Callable[..., Tensor]) -> Provider:
        blocks = Blocks(x, part_of("eager, best form", x, case), case.device)

        def step() -> Tensor:
            pieces = zip(blocks.q.split(blocks.size), blocks.q_hot.split(blocks.size), strict=True)
            return torch.cat([function(q, hot, blocks.g, blocks.g_hot) for q, hot in pieces])

        every = part_of("eager, best form", x, case)
        return Provider(step, equals(true[::every], "counts"), parts=x.queries / len(blocks.q))

    def in_numpy() -> Provider:
        every = part_of("numpy argsort", x, case)
        part = Part(x, every)
        size = x.bits + 1

        def step() -> np.ndarray:
            rows = []
            for signs, hot in zip(part.q_signs, part.q_hot, strict=True):
                distance = (0.5 * (x.bits - x.g_signs @ signs)).astype(np.int64)
                near = distance[x.g_hot @ hot > 0]
                rows.append([np.bincount(each, minlength=size) for each in (distance, near)])
            return np.stack(rows).swapaxes(1, 2)

        return Provider(step, equals(true[::every], "counts"), "numpy", parts=x.queries / len(part.q))

    problem.add("eager", lambda: counting(count))
    problem.add("torch.compile", lambda: counting(torch.compile(count, dynamic=False)))
    problem.add("numpy", lambda: only_on_cpu(case, in_numpy()))
    problem.set_ceiling(lambda: scanning(case, x.q, x.g, cost))
    return problem


def build(case: Case) -> Problem:
    x = Codes(case)
    topk = int(case.sizes["topk"]) or None
    inputs = [each.to(case.device) for each in (x.q, x.g, x.q_labels, x.g_labels)]
    cost = hamming_histogram(x.queries, x.gallery, x.bits)

    def evaluate(ties: str = "expected", part: int = 1) -> rdh_ext.retrieval.EvaluationResult:
        q, g, q_labels, g_labels = inputs
        return rdh_ext.evaluate(q[::part].contiguous(), g, q_labels[::part], g_labels, topk, ties, bits=x.bits)

    def against_numpy(ties: str) -> Callable[[object], float]:
        true_ap = {
            "expected": lambda i: expected_precision(histogram_of(x, i), topk),
            "stable": lambda i: stable_precision(x, i, topk),
        }

        def check(found: object) -> float:
            assert isinstance(found, rdh_ext.retrieval.EvaluationResult)
            worst = 0.0
            for i in range(0, x.queries, max(1, x.queries // CHECKED)):
                true = true_ap[ties](i)
                worst = max(worst, abs(float(found.ap[i]) - true) / max(true, 1e-300))
            if not worst <= (1e-12 if topk is None else 1e-9):  # probabilities by logarithms
                raise Wrong(f"AP is off by {worst:.1e}")
            return worst

        return check

    bounds: dict[int, tuple[float, float]] = {}

    def between(part: int) -> Callable[[object], float]:
        def check(found: object) -> float:
            if part not in bounds:
                bounds[part] = (evaluate("pessimistic", part).map, evaluate("optimistic", part).map)
            low, high = bounds[part]
            assert isinstance(found, float)
            if not low - 1e-5 <= found <= high + 1e-5:
                raise Wrong(f"mAP {found:.5f} is outside of what any order of ties gives, {low:.5f} to {high:.5f}")
            return 0.0

        return check

    def near(part: int) -> Callable[[object], float]:
        expected = evaluate(part=part).map

        def check(found: object) -> float:
            assert isinstance(found, float)
            error = abs(found - expected) / max(expected, 1e-300)
            if error > 1e-9:
                raise Wrong(f"mAP {found:.8f}, and not {expected:.8f}")
            return error

        return check

    at = f", mAP@{topk:,}" if topk else ""
    ours = Provider(evaluate, against_numpy("expected"), "rdh_ext", kind=OURS)
    problem = Problem(f"{x.title_with_labels}{at}", cost, {OURS: ours})
    if case.device == "cpu" and "avx2" in _native.cpu_levels()[:-1]:
        slower = Provider(at_level("avx2", ours.step), ours.check, "rdh_ext", kind=OURS)
        problem.add(f"{OURS} avx2", lambda: slower)
    stable = Provider(lambda: evaluate("stable"), against_numpy("stable"), "rdh_ext", kind=OURS)
    problem.add(f"{OURS}, stable ties", lambda: stable)

    def part(name: str, run: Callable[[int], object], library: str) -> Provider:
        every = part_of(name, x, case)
        whole = -(-x.queries // every)
        patient = case.sweep == "paper" and name == PUBLIC
        return Provider(lambda: run(every), between(every), library, parts=x.queries / whole, patient=patient)

    def in_blocks(name: str, form: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], exact: bool) -> Provider:
        every = part_of(name, x, case)
        blocks = Blocks(x, every, case.device)
        check = near(every) if exact else between(every)
        return Provider(lambda: blocks.mean(form), check, parts=x.queries / len(blocks.q))

    def best(form: Callable[..., Tensor]) -> Provider:
        return in_blocks("eager, best form", form, exact=topk is None)

    def others(name: str) -> Provider:
        if name == "scikit-learn" and topk is not None:
            raise NotHere("average_precision_score knows no top k")
        every = part_of(name, x, case)
        found = other_maps(x, every, topk)
        if name not in found:
            raise not_installed(name)
        return part(name, lambda _: found[name](), name)

    def by_faiss() -> Provider:
        if not faiss_searches(Part(x, x.queries)):
            raise not_installed("faiss")
        return part("FAISS, then AP in numpy", lambda every: by_search(x, topk, every), "faiss")

    count = counted_ap(x.gallery, case.device) if topk is None else selected_ap(topk)
    peers: dict[str, Callable[[], Provider]] = {
        "numpy argsort": lambda: only_on_cpu(case, part(PUBLIC, lambda every: argsort_map(x, topk, every), "numpy")),
        "eager": lambda: in_blocks("eager", sorted_ap(topk), exact=False),
        "eager, best form": lambda: best(count),
        "torch.compile": lambda: best(torch.compile(count, dynamic=False)),
        "FAISS, then AP in numpy": lambda: only_on_cpu(case, by_faiss()),
        "torchmetrics": lambda: only_on_cpu(case, others("torchmetrics")),
        "scikit-learn": lambda: only_on_cpu(case, others("scikit-learn")),
    }
    for name, make in peers.items():
        problem.add(name, make)
    problem.set_ceiling(lambda: scanning(case, x.q, x.g, cost))
    return problem


SIZES = {"queries": 1000, "gallery": 59_000, "bits": 64, "classes": 10, "labels": "class ids", "codes": "random"}
OPS = (
    Op(
        "hamming_histogram",
        "items and relevant items per distance",
        "forward",
        build_histogram,
        default=SIZES,
        sweeps={"bits": (16, 32, 64, 128, 256, 512), "threads": ()},
        base={"bits": {"queries": 200}},
        device_sizes={"cuda": {"queries": 10_000, "gallery": 1_000_000}},
        tests=("tests/ops/test_hamming_histogram.py",),
    ),
    Op(
        "evaluate",
        "mean average precision",
        "forward",
        build,
        default={**SIZES, "topk": 0},
        sweeps={
            "gallery": (1000, 10_000, 100_000, 1_000_000),
            "queries": (1, 10, 100, 1000, 10_000),
            "bits": (16, 32, 64, 128, 256),
            "classes": (10, 20, 80, 320),
            "threads": (),
            "paper": tuple(EVALUATION),
        },
        named={"paper": EVALUATION},
        base={"gallery": {"queries": 100}, "classes": {"labels": "multi-hot", "queries": 100}},
        quick={"queries": 200},
        device_sizes={"cuda": {"queries": 10_000, "gallery": 1_000_000}},
        tests=(
            "tests/ops/test_average_precision.py",
            "tests/ops/test_stable_ranks.py",
            "tests/retrieval/test_evaluate.py",
        ),
    ),
)
