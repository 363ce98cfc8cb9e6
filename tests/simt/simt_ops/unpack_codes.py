"""Unpacking on the simulator: what csrc/bindings/cuda/unpack_codes_op.cpp does on a device."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from . import call


def _unpack_codes(codes: Tensor, bits: int) -> Tensor:
    codes = codes.contiguous()
    signs = torch.empty((codes.size(0), bits), dtype=torch.float32)
    call("simt_unpack_codes", codes, c_int64(codes.size(0)), c_int64(bits), signs)
    return signs


OPS: dict[str, Callable[..., Any]] = {"unpack_codes": _unpack_codes}
