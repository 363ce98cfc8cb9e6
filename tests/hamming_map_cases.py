"""Outputs and labels for the tests of ``HammingMAP``, and how results are compared.

Without torchmetrics the tests that import this are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hamming_cases import random_ids, random_multi_hot
from torch import Tensor

import rdh_ext
from rdh_ext.retrieval import EvaluationResult, evaluate

torchmetrics = pytest.importorskip("torchmetrics")
HammingMAP = rdh_ext.retrieval.HammingMAP
TIES = ("expected", "stable", "optimistic", "pessimistic")
QUERIES, GALLERY, BITS = 23, 150, 12
Case = tuple[Tensor, Tensor, Tensor, Tensor]


def make_case(classes: int | None = None, bits: int = BITS) -> Case:
    """Outputs of few signs, so that there are many ties, and their labels: 4 class ids, or multi-hot."""
    generator = torch.Generator().manual_seed(0)
    hq, hg = torch.randn(QUERIES, bits, generator=generator), torch.randn(GALLERY, bits, generator=generator)
    hq[:, 5:], hg[:, 5:] = -1, -1
    if classes is None:
        return hq, hg, random_ids(QUERIES, 4, 1), random_ids(GALLERY, 4, 2)
    return hq, hg, random_multi_hot(QUERIES, classes, 1), random_multi_hot(GALLERY, classes, 2)


def evaluated(case: Case, **options: Any) -> EvaluationResult:
    hq, hg, q_labels, g_labels = case
    q, g = rdh_ext.pack_codes(hq), rdh_ext.pack_codes(hg)
    return evaluate(q, g, q_labels, g_labels, bits=hq.shape[1], **options)


def batches(case: Case, size: int = 8) -> Iterator[tuple[Tensor, Tensor, str]]:
    hq, hg, q_labels, g_labels = case
    for role, h, labels in (("query", hq, q_labels), ("gallery", hg, g_labels)):
        for h_batch, labels_batch in zip(h.split(size), labels.split(size), strict=True):
            yield h_batch, labels_batch, role


def filled(case: Case, **options: Any) -> Any:
    metric = HammingMAP(**options)
    for h, labels, role in batches(case):
        metric.update(h, labels, role=role)
    return metric


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def same(a: EvaluationResult, b: EvaluationResult) -> bool:
    return a.to_dict() == b.to_dict() and same_bits(a.ap, b.ap) and torch.equal(a.histogram, b.histogram)
