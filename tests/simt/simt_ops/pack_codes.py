"""Packing on the simulator: what csrc/bindings/cuda/pack_codes_op.cpp does on a device."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from . import ELEMENTS, call


def _pack_codes(h: Tensor) -> Tensor:
    h = h.contiguous()
    codes = torch.empty((h.size(0), (h.size(1) + 7) // 8), dtype=torch.uint8)
    call("simt_pack_codes", ELEMENTS[h.dtype], h, c_int64(h.size(0)), c_int64(h.size(1)), codes)
    return codes


OPS: dict[str, Callable[..., Any]] = {"pack_codes": _pack_codes}
