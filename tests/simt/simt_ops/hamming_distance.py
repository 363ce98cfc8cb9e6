"""Distances on the simulator: what csrc/bindings/hamming_distance.h and its CUDA backend do on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import call
from ._hamming import inputs_of


def _hamming_distance(q: Tensor, g: Tensor, planes: Tensor | None = None) -> Tensor:
    q, g = q.contiguous(), g.contiguous()
    out = torch.empty((q.size(0), g.size(0)), dtype=torch.int16)
    call("simt_hamming_distance", ctypes.byref(inputs_of(q, g)), out)
    return out


OPS: dict[str, Callable[..., Any]] = {"hamming_distance": _hamming_distance}
