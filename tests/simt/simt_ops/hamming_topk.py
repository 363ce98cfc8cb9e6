"""Nearest codes on the simulator: what csrc/bindings/hamming_topk.h and its CUDA backend do on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from . import call, workspace_of
from ._hamming import inputs_of


def _hamming_topk(q: Tensor, g: Tensor, k: int, planes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    q, g, k = q.contiguous(), g.contiguous(), min(k, g.size(0))
    shape = (q.size(0), k)
    distances, indices = torch.empty(shape, dtype=torch.int16), torch.empty(shape, dtype=torch.int64)
    if distances.numel() != 0:
        inputs = ctypes.byref(inputs_of(q, g))
        workspace = workspace_of("simt_hamming_topk_workspace", inputs, c_int64(k))
        call("simt_hamming_topk", inputs, c_int64(k), distances, indices, workspace)
    return distances, indices


OPS: dict[str, Callable[..., Any]] = {"hamming_topk": _hamming_topk}
