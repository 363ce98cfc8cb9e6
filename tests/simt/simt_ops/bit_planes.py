"""Bit planes on the simulator: what csrc/bindings/cuda/bit_planes_op.cpp does on a device."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from . import call


def _bit_planes(codes: Tensor, bits: int) -> Tensor:
    codes = codes.contiguous()
    rows, width = codes.shape
    planes = torch.empty((8 * ((rows + 4095) // 4096), bits, 8), dtype=torch.int64)
    call("simt_bit_planes", codes, c_int64(rows), c_int64(width), c_int64(bits), planes)
    return planes


OPS: dict[str, Callable[..., Any]] = {"bit_planes": _bit_planes}
