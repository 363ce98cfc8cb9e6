"""What ``HammingMAP`` says to options and batches that do not fit, and where torchmetrics is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hamming_map_cases import HammingMAP

import rdh_ext
from rdh_ext.hashing import MissingExtra

H, IDS, HOT = torch.ones(3, 12), torch.tensor([0, 1, 2]), torch.eye(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bits": 0}, ValueError, r"bits must be an integer in \[1, 4096\], or None, got 0"),
        ({"bits": 4097}, ValueError, r"bits must be an integer in \[1, 4096\], or None, got 4097"),
        ({"bits": 12.0}, TypeError, r"bits must be an integer in \[1, 4096\], or None, got float 12.0"),
        ({"topk": 0}, ValueError, r"topk must be an integer >= 1, or None for the whole gallery, got 0"),
        ({"ties": "random"}, ValueError, r"ties must be one of 'expected', .*, got 'random'"),
        ({"denominator": None}, ValueError, r"denominator must be one of 'found', .*, got None"),
        ({"empty": "neg"}, ValueError, r"empty must be one of 'zero', 'skip', 'error', got 'neg'"),
    ],
)
def test_options_that_do_not_fit(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=f"^HammingMAP: {message}$"):
        HammingMAP(**arguments)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `k`"):
        HammingMAP(k=3)


@pytest.mark.parametrize(
    ("before", "h", "labels", "error", "message"),
    [
        (None, [[1.0]], IDS, TypeError, r"h must be a torch.Tensor, got list \[\[1.0\]\]"),
        (None, H.long(), IDS, TypeError, r"h must be a tensor of dtype float32, .*, uint8, got int64 \[3, 12\] on cpu"),
        (None, H[0], IDS, ValueError, r"h must be a tensor of 2 dimensions, got float32 \[12\] on cpu"),
        (None, H[:, :0], IDS, ValueError, r"h must be \[N, K\] with K from 1 to 4096, got float32 \[3, 0\] on cpu"),
        (None, H[:, :0].byte(), IDS, ValueError, r"h must be \[rows, bytes\] with 1 to 512 bytes .*"),
        (
            None,
            H.to("meta"),
            IDS,
            ValueError,
            r"h must be on the device of the metric \(cpu\), which .to\(\) moves, .*",
        ),
        (None, H.log() / 0, IDS, ValueError, r"h must be free of NaN, got 36 NaN in float32 \[3, 12\] on cpu"),
        (None, H, IDS[:2], ValueError, r"labels must be class ids \[3\] .* or multi-hot rows \[3, C\] .*"),
        (None, H, -IDS, ValueError, r"labels must be class ids \[3\] \(integers >= 0\) .*, got -2"),
        (None, H, HOT * 2, ValueError, r"labels must be class ids \[3\] .*, got 2.0"),
        (None, H, IDS.float(), TypeError, r"labels must be class ids \[3\] .*, got float32 \[3\] on cpu"),
        (None, H, IDS.tolist(), TypeError, r"labels must be class ids \[3\] .*, got list \[0, 1, 2\]"),
        (None, H, IDS.to("meta"), ValueError, r"labels must be on the device of what it labels \(cpu\), got .*"),
        (9, H, IDS, ValueError, r"h must be of 9 bits \[B, 9\], got float32 \[3, 12\] on cpu"),
        (9, H[:, :1].byte(), IDS, ValueError, r"h must be codes of 9 bits \[B, 2\], got uint8 \[3, 1\] on cpu"),
        (9, H[:, :2].byte() * 2, IDS, ValueError, r"h must have zeros behind its 9 bits, got ones in the last byte"),
        ((H, IDS), H[:, :11], IDS, ValueError, r"h must be of 12 bits \[B, 12\], got float32 \[3, 11\] on cpu"),
        ((H, IDS), H[:, :3].byte(), IDS, ValueError, r"h must be codes of 12 bits \[B, 2\], got uint8 \[3, 3\] on cpu"),
        ((H, IDS), H, HOT, ValueError, r"labels must be class ids like those before, got multi-hot rows"),
        ((H, HOT), H, IDS, ValueError, r"labels must be multi-hot rows like those before, got class ids"),
        ((H, HOT), H, HOT[:, :2], ValueError, r"labels must have the 3 classes of those before, got 2"),
    ],
)
def test_updates_that_do_not_fit(before: Any, h: Any, labels: Any, error: type, message: str) -> None:
    """They leave the metric as it was."""
    for role, first in (("query", "gallery"), ("gallery", "query"), ("both", "both")):
        metric = HammingMAP(before if isinstance(before, int) else None)
        if isinstance(before, tuple):
            metric.update(*before, role=first)
        sizes = {name: len(state) for name, state in metric.metric_state.items()}
        with pytest.raises(error, match=f"^HammingMAP: {message}$"):
            metric.update(h, labels, role=role)
        assert {name: len(state) for name, state in metric.metric_state.items()} == sizes


@pytest.mark.parametrize("role", ["queries", None, 1])
def test_unknown_roles(role: Any) -> None:
    with pytest.raises(ValueError, match=r"^HammingMAP: role must be one of 'both', 'query', 'gallery', got "):
        HammingMAP().update(H, IDS, role=role)


def test_what_only_computing_can_see() -> None:
    """torchmetrics empties a metric that is called as a function before ``update`` sees the batch."""
    metric = HammingMAP()
    metric.update(torch.ones(2, 12), torch.tensor([0, 1]))
    metric(torch.ones(2, 9), torch.tensor([0, 1]))
    message = "h and labels must be alike in all updates, got 12 bits with class ids and 9 bits with class ids"
    with pytest.raises(ValueError, match=f"^HammingMAP: {message}$"):
        metric.compute()
    metric.reset()
    metric.update(torch.ones(2, 9), torch.ones(2, 2))
    assert metric.compute() == 1


def test_without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the package is there, and who asks for the metric reads what to install."""
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    message = r"^torchmetrics is not installed; get it with: pip install 'rdh_ext\[metrics\]'$"
    with pytest.raises(MissingExtra, match=message):
        _ = rdh_ext.retrieval.HammingMAP
    with pytest.raises(MissingExtra, match=message):
        exec("from rdh_ext.retrieval import HammingMAP", {})
    names: dict[str, Any] = {}
    exec("from rdh_ext.retrieval import *", names)
    assert "evaluate" in names
    assert "HammingMAP" not in dir(rdh_ext.retrieval)
    with pytest.raises(AttributeError, match=r"^module 'rdh_ext\.retrieval' has no attribute 'HammingMap'$"):
        _ = rdh_ext.retrieval.HammingMap


def test_is_listed_where_torchmetrics_is_installed() -> None:
    assert {"HammingMAP", "evaluate"} <= set(dir(rdh_ext.retrieval))
    assert HammingMAP.__module__ == "rdh_ext.retrieval.hamming_map"
