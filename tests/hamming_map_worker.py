"""One process of the tests of ``HammingMAP``: collects its share of the items, and writes down what was computed.

Shares are slices, so that a test can put the items together as the metric does: one rank behind the other.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from rank_main import in_turn, main
from torch import Tensor
from torchmetrics import MetricCollection

from rdh_ext.retrieval import HammingMAP

QUERIES, GALLERY, BITS, CLASSES = 11, 60, 12, 70
TIES = ("expected", "stable", "optimistic", "pessimistic")
KINDS = ("ids", "multi_hot")
Items = tuple[Tensor, Tensor]

# the queries of rank 0 and those of rank 1, and the same of the gallery
SPLITS: dict[str, tuple[tuple[slice, slice], tuple[slice, slice]]] = {
    "equal": ((slice(0, 5), slice(5, 10)), (slice(0, 30), slice(30, 60))),
    "unequal": ((slice(0, 7), slice(7, 11)), (slice(0, 13), slice(13, 60))),
    "rank 0 has no queries": ((slice(0, 0), slice(0, 11)), (slice(0, 40), slice(40, 60))),
    "one has the queries, one the gallery": ((slice(0, 11), slice(0, 0)), (slice(0, 0), slice(0, 60))),
    "rank 0 has nothing": ((slice(0, 0), slice(0, 11)), (slice(0, 0), slice(0, 60))),
    "rank 1 has nothing": ((slice(0, 11), slice(0, 0)), (slice(0, 60), slice(0, 0))),
    "no queries at all": ((slice(0, 0), slice(0, 0)), (slice(0, 20), slice(20, 60))),
    "no gallery at all": ((slice(0, 4), slice(4, 11)), (slice(0, 0), slice(0, 0))),
}


def make_items(kind: str) -> tuple[Items, Items]:
    """Outputs and labels of queries and gallery, with many ties."""
    generator = torch.Generator().manual_seed(5)
    parts = []
    for rows in (QUERIES, GALLERY):
        h = torch.randn(rows, BITS, generator=generator)
        h[:, 4:] = 1
        ids = torch.randint(0, 4, (rows,), generator=generator)
        rows_of_labels = torch.rand(rows, CLASSES, generator=generator) < 0.02
        parts.append((h, ids if kind == "ids" else rows_of_labels))
    return parts[0], parts[1]


def collect(metric: Any, items: tuple[Items, Items], share: tuple[slice, slice], *, empty_batches: bool) -> None:
    """Batches of 8; a rank without items has no update, or one without rows."""
    for role, (h, labels), rows in zip(("query", "gallery"), items, share, strict=True):
        h, labels = h[rows], labels[rows]
        if len(h) or empty_batches:
            for h_batch, labels_batch in zip(h.split(8), labels.split(8), strict=True):
                metric.update(h_batch, labels_batch, role=role)


def numbers(metric: HammingMAP) -> dict[str, Any]:
    value, result = metric.compute(), metric.result
    return {"value": value, "ap": result.ap, "histogram": result.histogram, "queries": result.queries}


def compute_jointly(rank: int, device: str) -> dict[str, Any]:
    results = {}
    for kind in KINDS:
        items = tuple((h.to(device), labels.to(device)) for h, labels in make_items(kind))
        for split, shares in SPLITS.items():
            for empty_batches in (False, True):
                for ties in TIES if not empty_batches else TIES[:1]:
                    metric = HammingMAP(ties=ties).to(device)
                    collect(metric, items, tuple(part[rank] for part in shares), empty_batches=empty_batches)
                    results[f"{kind}, {split}, {ties}, {empty_batches}"] = numbers(metric)
    return results


def go_on_after_computing(rank: int, device: str) -> dict[str, Any]:
    """What was gathered is not collected again, and every rank goes on with its own."""
    (hq, q_labels), (hg, g_labels) = ((h.to(device), labels.to(device)) for h, labels in make_items("ids"))
    metric = HammingMAP(topk=20).to(device)
    results = {}
    metric.update(hq[rank::2], q_labels[rank::2], role="query")
    for step, rows in enumerate((slice(0, 20), slice(20, 45), slice(45, 60))):
        metric.update(hg[rows][rank::2], g_labels[rows][rank::2], role="gallery")
        results[f"step {step}"] = numbers(metric)
    results["mine"] = sum(len(part) for part in metric.g_codes)
    metric.reset()
    metric.update(hg[rank::2], g_labels[rank::2])
    results["both"] = numbers(metric)
    return results


def compute_collections(rank: int, device: str) -> dict[str, Any]:
    """A collection has its metrics share what they collect after the first update, which a rank may never see."""
    items = tuple((h.to(device), labels.to(device)) for h, labels in make_items("multi_hot"))
    results = {}
    reused = make_collection().to(device)
    for split in ("rank 0 has nothing", "unequal", "rank 1 has nothing"):
        for name, metrics in (("fresh", make_collection().to(device)), ("reused", reused)):
            metrics.reset()
            collect(metrics, items, tuple(part[rank] for part in SPLITS[split]), empty_batches=False)
            results[f"{split}, {name}"] = metrics.compute()
    return results


def make_collection() -> MetricCollection:
    return MetricCollection({"all": HammingMAP(), "first": HammingMAP(topk=5, denominator="min")})


def compute_nothing(rank: int, device: str) -> dict[str, Any]:
    return numbers(HammingMAP(BITS).to(device))


def compute_what_does_not_fit(rank: int, device: str) -> dict[str, Any]:
    """Every one of them on every rank, each with one metric that goes on afterwards."""
    results: dict[str, Any] = {}
    ids, rows = torch.tensor([0, 1], device=device), torch.eye(2, device=device)
    other = {
        "bits": (torch.ones(2, 9, device=device), ids),
        "kind of labels": (torch.ones(2, 10, device=device), rows),
    }
    for name, (h, labels) in other.items():
        metric = HammingMAP().to(device)
        metric.update(*((torch.ones(2, 10, device=device), ids) if rank == 0 else (h, labels)))
        results[name] = said_by(metric)
    metric = HammingMAP(empty="error").to(device)
    metric.update(torch.ones(1, 10, device=device), ids[rank : rank + 1], role="query")
    metric.update(torch.ones(2, 10, device=device), ids[:1].repeat(2), role="gallery")
    results["a query without relevant items"] = said_by(metric)
    results["mine"] = sum(len(part) for part in metric.g_codes)
    metric.update(torch.ones(1, 10, device=device), ids[1:], role="gallery")
    results["after"] = numbers(metric)
    return results


def said_by(metric: HammingMAP) -> str:
    try:
        metric.compute()
    except ValueError as error:
        return str(error)
    return "nothing"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="torchmetrics")
    main(
        in_turn(
            compute_jointly,
            go_on_after_computing,
            compute_collections,
            compute_nothing,
            compute_what_does_not_fit,
        )
    )
