"""The structures of csrc/kernels/hamming.h, made of tensors: what csrc/bindings/ does for every Hamming op."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_int64, c_void_p

import torch
from torch import Tensor


class Inputs(ctypes.Structure):
    """HammingInputs."""

    _fields_ = (
        *((name, c_void_p) for name in ("q", "g", "planes")),
        *((name, c_int64) for name in ("queries", "gallery", "bytes", "bits")),
    )


class Labels(ctypes.Structure):
    """HammingLabels."""

    _fields_ = (
        ("kind", c_int),
        *((name, c_void_p) for name in ("q_ids", "g_ids")),
        ("g_id_bytes", c_int),
        *((name, c_void_p) for name in ("q_rows", "g_rows", "g_planes")),
        ("classes", c_int64),
    )


def inputs_of(q: Tensor, g: Tensor, bits: int | None = None) -> Inputs:
    """Contiguous codes; all places of their bytes where ``bits`` is not given."""
    assert q.is_contiguous()
    assert g.is_contiguous()
    width = q.size(1)
    return Inputs(q.data_ptr(), g.data_ptr(), None, q.size(0), g.size(0), width, 8 * width if bits is None else bits)


def labels_of(q_labels: Tensor, g_labels: Tensor) -> Labels:
    """Class ids, bool rows, or label planes; contiguous."""
    assert q_labels.is_contiguous()
    assert g_labels.is_contiguous()
    if q_labels.dim() == 1:
        assert q_labels.dtype == torch.int64
        assert g_labels.dtype in (torch.uint8, torch.int16, torch.int32, torch.int64)
        return Labels(0, q_labels.data_ptr(), g_labels.data_ptr(), g_labels.element_size(), None, None, None, 0)
    assert q_labels.dtype == torch.bool
    if g_labels.dim() == 3:
        assert g_labels.dtype == torch.int64
        return Labels(2, None, None, 0, q_labels.data_ptr(), None, g_labels.data_ptr(), q_labels.size(1))
    assert g_labels.dtype == torch.bool
    return Labels(1, None, None, 0, q_labels.data_ptr(), g_labels.data_ptr(), None, q_labels.size(1))
