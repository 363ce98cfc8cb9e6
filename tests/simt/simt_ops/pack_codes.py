"""Packing on the simulator: what csrc/bindings/cuda/pack_codes_op.cpp does on a device."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from rdh_ext.reference.pack_codes import NAN_FOUND

from . import ELEMENTS, call


def _pack_codes(h: Tensor) -> Tensor:
    h = h.contiguous()
    codes = torch.empty((h.size(0), (h.size(1) + 7) // 8), dtype=torch.uint8)
    call("simt_pack_codes", ELEMENTS[h.dtype], h, c_int64(h.size(0)), c_int64(h.size(1)), codes)
    return codes


def _pack_codes_checked(h: Tensor) -> Tensor:
    """No kernel of a device looks at NaN; tests of CPU tensors want somebody to."""
    if bool(h.isnan().any()):
        raise RuntimeError(NAN_FOUND)
    return _pack_codes(h)


OPS: dict[str, Callable[..., Any]] = {"pack_codes": _pack_codes, "pack_codes_checked": _pack_codes_checked}
