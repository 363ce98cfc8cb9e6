"""Stable ranks on the simulator: what csrc/bindings/stable_ranks.h and its CUDA backend do on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from . import call, workspace_of
from ._hamming import inputs_of, labels_of


def _contiguous(*parts: Tensor) -> tuple[Tensor, ...]:
    return tuple(part.contiguous() for part in parts)


def _stable_ranks(
    q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, histogram: Tensor, planes: Tensor | None = None
) -> Tensor:
    q, g, q_labels, g_labels, histogram = _contiguous(q, g, q_labels, g_labels, histogram)
    offsets = torch.empty(q.size(0) + 1, dtype=torch.int64)
    call("simt_relevant_items", histogram, c_int64(q.size(0)), c_int64(histogram.size(1) - 1), offsets)
    ranks = torch.empty(int(offsets[-1]), dtype=torch.int64)
    inputs, labels = inputs_of(q, g, histogram.size(1) - 1), labels_of(q_labels, g_labels)
    arguments = ctypes.byref(inputs), ctypes.byref(labels)
    if ranks.numel() != 0:
        workspace = workspace_of("simt_stable_ranks_workspace", *arguments)
        call("simt_stable_ranks", *arguments, histogram, ranks, workspace)
    return ranks


def _stable_precision_sum(
    q: Tensor,
    g: Tensor,
    q_labels: Tensor,
    g_labels: Tensor,
    histogram: Tensor,
    limit: int,
    shift: Tensor | None = None,
    planes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    q, g, q_labels, g_labels, histogram = _contiguous(q, g, q_labels, g_labels, histogram)
    shift = None if shift is None else shift.contiguous()
    sums, found = torch.empty((q.size(0), 3), dtype=torch.int64), torch.empty(q.size(0), dtype=torch.int64)
    inputs, labels = inputs_of(q, g, histogram.size(1) - 1), labels_of(q_labels, g_labels)
    arguments = ctypes.byref(inputs), ctypes.byref(labels)
    workspace = workspace_of("simt_stable_ranks_workspace", *arguments)
    call("simt_stable_precision_sum", *arguments, histogram, shift, c_int64(limit), sums, found, workspace)
    return sums, found


OPS: dict[str, Callable[..., Any]] = {
    "stable_ranks": _stable_ranks,
    "stable_precision_sum": _stable_precision_sum,
}
