"""Problems of the Hamming benchmark, what people would use without rdh_ext, and the truth in numpy.

Peers get what they need in the form they need it for nothing: +-1 codes and one-hot labels in float32, an index that
holds the gallery, relevance as one flat vector. rdh_ext gets packed codes and labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from _pairwise_peers import coco_like_labels
from numpy.typing import NDArray
from torch import Tensor

QUERIES, ITEMS = 1000, 59_000
FLIPPED = 0.01  # of the bits of a trained code, against the centre of its class
MISTAKEN = 0.1  # of the trained codes, which are near the centre of any class
TOPK = (100, 1000, 5000)
PART = 20  # torchmetrics and scikit-learn get every 20th query, and their time is multiplied by 20

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Integers = NDArray[np.int64]
Step = Callable[[], object]


@dataclass(frozen=True)
class Shape:
    """One problem: queries against a gallery."""

    name: str
    bits: int
    classes: int = 10
    multi_hot: bool = False
    trained: bool = False
    queries: int = QUERIES
    items: int = ITEMS

    @property
    def pairs(self) -> int:
        return self.queries * self.items

    @property
    def title(self) -> str:
        labels = f"{self.classes} labels, multi-hot" if self.multi_hot else f"{self.classes} classes"
        codes = "codes near a centre of their class" if self.trained else "random codes"
        return f"{self.queries:,} x {self.items:,}, {self.bits} bits, {labels}, {codes}"

    @property
    def topk(self) -> tuple[int, ...]:
        """Labels play no part in it, so it is measured with one kind of them."""
        return () if self.multi_hot else tuple(k for k in TOPK if k <= self.items)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("64-bits", 64),
        Shape("64-bits-trained", 64, trained=True),
        Shape("24-bits", 24),
        Shape("64-bits-multi-hot", 64, classes=80, multi_hot=True),
    )
}


class Inputs(NamedTuple):
    """Of rdh_ext packed codes and labels; of the peers the same as they want it."""

    q: Tensor  # uint8 [Q, K / 8]
    g: Tensor
    q_labels: Tensor  # int64 [Q] or bool [Q, C]
    g_labels: Tensor
    q_signs: Floats  # [Q, K], +-1
    g_signs: Floats
    q_hot: Floats  # [Q, C], 0 or 1
    g_hot: Floats


def _side(shape: Shape, items: int, centers: Tensor) -> tuple[Tensor, Tensor, Floats, Floats]:
    """Packed codes, labels, +-1 codes and one-hot labels of so many items."""
    if shape.multi_hot:
        labels = hot = coco_like_labels(items, shape.classes)
    else:
        labels = torch.randint(0, shape.classes, (items,))
        hot = torch.nn.functional.one_hot(labels, shape.classes)
    bits = torch.rand(items, shape.bits) < (FLIPPED if shape.trained else 0.5)
    if shape.trained:
        anywhere = torch.randint(0, shape.classes, (items,))
        bits ^= centers[torch.where(torch.rand(items) < MISTAKEN, anywhere, labels)]
    codes = torch.from_numpy(np.packbits(bits.numpy(), axis=1, bitorder="little"))
    return codes, labels, (2 * bits.float() - 1).numpy(), hot.float().numpy()


def make_inputs(shape: Shape, seed: int = 0) -> Inputs:
    """Random codes; or ``trained``: a code per class with a few bits flipped, so that many repeat."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        centers = torch.rand(shape.classes, shape.bits) < 0.5
        q, q_labels, q_signs, q_hot = _side(shape, shape.queries, centers)
        g, g_labels, g_signs, g_hot = _side(shape, shape.items, centers)
    return Inputs(q, g, q_labels, g_labels, q_signs, g_signs, q_hot, g_hot)


class Sides(Protocol):
    """What peers need of :class:`Inputs`."""

    @property
    def q(self) -> Tensor: ...
    @property
    def g(self) -> Tensor: ...
    @property
    def q_signs(self) -> Floats: ...
    @property
    def g_signs(self) -> Floats: ...
    @property
    def q_hot(self) -> Floats: ...
    @property
    def g_hot(self) -> Floats: ...


def argsort_map(x: Sides, topk: int | None = None, part: int = 1) -> float:
    """mAP the way of DeepHash-pytorch: for every query a product of labels, a product of codes, an unstable argsort,
    and the precision at each relevant rank, up to ``topk``; of every ``part``-th query."""
    bits, total = x.g_signs.shape[1], 0.0
    for signs, hot in zip(x.q_signs[::part], x.q_hot[::part], strict=True):
        relevant = (np.dot(hot, x.g_hot.T) > 0).astype(np.float32)
        distance = 0.5 * (bits - np.dot(signs, x.g_signs.T))
        relevant = relevant[np.argsort(distance)][:topk]
        found = int(relevant.sum())
        if found:
            ranks = np.asarray(np.where(relevant == 1)) + 1.0
            total += float(np.mean(np.linspace(1, found, found) / ranks))
    return total / len(x.q_signs[::part])


def faiss_searches(x: Sides, threads: int = 1) -> dict[str, Callable[[int], tuple[Any, Any]]]:
    """Mode of IndexBinaryFlat -> search of all queries, given k; empty where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        return {}
    faiss.omp_set_num_threads(threads)
    q = x.q.numpy()

    def searching(heap: bool) -> Callable[[int], tuple[Any, Any]]:
        index = faiss.IndexBinaryFlat(8 * q.shape[1])
        index.add(x.g.numpy())
        index.use_heap = heap
        return lambda k: index.search(q, k)

    return {"FAISS heap": searching(True), "FAISS counting": searching(False)}


def other_maps(x: Sides, part: int = PART, topk: int | None = None) -> dict[str, Callable[[], float]]:
    """mAP of every 20th query by torchmetrics and by scikit-learn, each with its own treatment of ties; without those
    that are not installed. scikit-learn knows no ``topk``."""
    q_signs, g_signs = torch.from_numpy(x.q_signs[::part]), torch.from_numpy(x.g_signs)
    relevant = torch.from_numpy(x.q_hot[::part] @ x.g_hot.T > 0)
    query = torch.arange(len(q_signs)).repeat_interleave(len(g_signs))
    bits, found = g_signs.size(1), {}

    def scores() -> Tensor:
        return q_signs @ g_signs.T + (bits + 1)  # above 0: torchmetrics drops the others

    try:
        from torchmetrics.retrieval import RetrievalMAP

        def torchmetrics_map() -> float:
            return float(RetrievalMAP(top_k=topk)(scores().flatten(), relevant.flatten(), indexes=query))

        found["torchmetrics"] = torchmetrics_map
    except ImportError:
        pass
    try:
        from sklearn.metrics import average_precision_score

        def sklearn_map() -> float:
            rows = zip(relevant.numpy(), scores().numpy(), strict=True)
            return float(np.mean([average_precision_score(truth, score) for truth, score in rows]))

        found["scikit-learn"] = sklearn_map
    except ImportError:
        pass
    return found


def distances_of(x: Inputs, query: int) -> Integers:
    """From one query to the whole gallery, by counting bits that differ."""
    differ = np.unpackbits(x.q[query].numpy() ^ x.g.numpy(), axis=1)
    return differ.sum(1, dtype=np.int64)


def relevance_of(x: Inputs, query: int) -> NDArray[np.bool_]:
    """Which items of the gallery share a label with one query."""
    shared: NDArray[np.bool_] = x.g_hot @ x.q_hot[query] > 0
    return shared


def histogram_of(x: Inputs, query: int) -> Integers:
    """Items and relevant items per distance, ``[K + 1, 2]``."""
    distance, size = distances_of(x, query), x.g_signs.shape[1] + 1
    relevant = distance[relevance_of(x, query)]
    return np.stack([np.bincount(distance, minlength=size), np.bincount(relevant, minlength=size)], axis=1)


def expected_precision(histogram: Integers, topk: int | None = None) -> float:
    """The mean of AP over all orders of tied items, rank by rank: with P relevant items before a bucket of n of which r
    are relevant, its t-th item is relevant in r / n of the orders, and P + 1 + (t - 1) (r - 1) / (n - 1) are found.

    A bucket that ``topk`` cuts has x of its relevant items among its first m with a hypergeometric probability: as if
    it were one of m items and x relevant ones, for every x."""
    before = found = 0
    total = 0.0
    for items, relevant in histogram.tolist():
        places = items if topk is None else min(items, topk - before)
        if places < items:
            x, share = _cut(items, relevant, places)
            t = np.arange(places, dtype=np.float64)
            zeroth, first = math.fsum(1 / (before + 1 + t)), math.fsum(t / (before + 1 + t))
            inside = x / max(places, 1) * ((found + 1) * zeroth + (x - 1) / max(places - 1, 1) * first)
            return float((share * (total + inside) / np.maximum(found + x, 1)).sum())
        if relevant:
            t = np.arange(items, dtype=np.float64)  # t - 1
            expected = found + 1 + t * ((relevant - 1) / max(items - 1, 1))
            total += math.fsum(expected / (before + 1 + t)) * relevant / items
        before, found = before + items, found + relevant
    return total / found if found else 0.0


def _cut(items: int, relevant: int, places: int) -> tuple[Wide, Wide]:
    """How many of the relevant items of a bucket may be among its first ``places``, and how probable each number is."""
    x = np.arange(max(0, places - items + relevant), min(relevant, places) + 1, dtype=np.float64)
    above, below = (relevant - x) * (places - x), (x + 1) * (items - relevant - places + x + 1)
    logs = np.concatenate(([0.0], np.log(above[:-1] / below[:-1]).cumsum()))
    shares = np.exp(logs - logs.max())
    return x, shares / shares.sum()


def stable_precision(x: Inputs, query: int, topk: int | None = None) -> float:
    """AP with ties in the order of the gallery, by a stable sort."""
    relevant = relevance_of(x, query)[np.argsort(distances_of(x, query), kind="stable")][:topk]
    ranks = np.flatnonzero(relevant) + 1.0
    return math.fsum(np.arange(1, len(ranks) + 1) / ranks) / len(ranks) if len(ranks) else 0.0
