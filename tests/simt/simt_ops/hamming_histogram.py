"""Histograms on the simulator: what csrc/bindings/hamming_histogram.h and its CUDA backend do on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import call, workspace_of
from ._hamming import inputs_of, labels_of


def _hamming_histogram(
    q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, bits: int, planes: Tensor | None = None
) -> Tensor:
    q, g, q_labels, g_labels = (part.contiguous() for part in (q, g, q_labels, g_labels))
    out = torch.empty((q.size(0), bits + 1, 2), dtype=torch.int64)
    arguments = ctypes.byref(inputs_of(q, g, bits)), ctypes.byref(labels_of(q_labels, g_labels))
    call("simt_hamming_histogram", *arguments, out, workspace_of("simt_hamming_histogram_workspace", *arguments))
    return out


OPS: dict[str, Callable[..., Any]] = {"hamming_histogram": _hamming_histogram}
