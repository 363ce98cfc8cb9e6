"""The pairwise loss on the simulator: what csrc/bindings/pairwise_loss.h and its CUDA backend do on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_double, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from . import ELEMENTS, call, workspace_of

QUANTIZATIONS = {"none": 0, "error_aware": 1, "l2": 2, "log_cosh": 3}
PRODUCTS = {"highest": 0, "high": 1, "medium": 2}


class Params(ctypes.Structure):
    """PairwiseParams of kernels/pairwise_loss.h."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "columns", "bits")),
        *((name, c_double) for name in ("scale", "eta")),
        ("quantization", c_int),
        *((name, c_bool) for name in ("balanced", "mean", "with_itself", "with_diagonal", "need_grad")),
    )


class Inputs(ctypes.Structure):
    """PairwiseInputs."""

    _fields_ = (
        *((name, c_void_p) for name in ("h", "v")),
        *((name, c_int) for name in ("h_element", "v_element", "similarity")),
        *((name, c_void_p) for name in ("row_ids", "column_ids", "row_labels", "column_labels")),
        ("classes", c_int64),
        ("matrix", c_void_p),
        *((name, c_int64) for name in ("matrix_row", "matrix_column")),
        ("matrix_bytes", c_int),
        ("matrix_floating", c_bool),
    )


class Outputs(ctypes.Structure):
    """PairwiseOutputs."""

    _fields_ = tuple((name, c_void_p) for name in ("loss", "parts", "grad"))


def _inputs(
    h: Tensor, v: Tensor, labels: Tensor | None, column_labels: Tensor | None, similarity: Tensor | None
) -> Inputs:
    inputs = Inputs(h=h.data_ptr(), v=v.data_ptr(), h_element=ELEMENTS[h.dtype], v_element=ELEMENTS[v.dtype])
    if similarity is not None:
        inputs.similarity, inputs.matrix = 2, similarity.data_ptr()
        inputs.matrix_row, inputs.matrix_column = similarity.stride()
        inputs.matrix_bytes, inputs.matrix_floating = similarity.element_size(), similarity.is_floating_point()
        return inputs
    assert labels is not None
    assert column_labels is not None
    if labels.dim() == 1:
        assert labels.dtype == column_labels.dtype == torch.int64
        inputs.similarity, inputs.row_ids, inputs.column_ids = 0, labels.data_ptr(), column_labels.data_ptr()
    else:
        assert labels.dtype == column_labels.dtype == torch.bool
        inputs.similarity, inputs.classes = 1, labels.size(1)
        inputs.row_labels, inputs.column_labels = labels.data_ptr(), column_labels.data_ptr()
    return inputs


def _pairwise_loss(
    h: Tensor,
    labels: Tensor | None,
    bank: Tensor | None,
    bank_labels: Tensor | None,
    similarity: Tensor | None,
    scale: float,
    pair_weights: str,
    quantization: str,
    eta: float,
    include_diagonal: bool,
    reduction: str,
    precision: str,
    need_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    h = h.contiguous()
    v = h if bank is None else bank.contiguous()
    labels = None if labels is None else labels.contiguous()
    column_labels = labels if bank_labels is None else bank_labels.contiguous()
    inputs = _inputs(h, v, labels, column_labels, similarity)
    params = Params(
        *(h.size(0), v.size(0), h.size(1), scale, eta, QUANTIZATIONS[quantization], pair_weights == "balanced"),
        *(reduction == "mean", bank is None, bank is not None or include_diagonal, need_grad),
    )
    dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
    loss, parts = torch.empty((), dtype=dtype), torch.empty(2, dtype=dtype)
    grad = torch.empty(h.shape if need_grad else (0,), dtype=dtype)
    outputs = Outputs(loss.data_ptr(), parts.data_ptr(), grad.data_ptr() if need_grad else None)
    common = (ctypes.byref(params), ctypes.byref(inputs))
    workspace = workspace_of("simt_pairwise_loss_workspace", *common, PRODUCTS[precision])
    call("simt_pairwise_loss", *common, ctypes.byref(outputs), PRODUCTS[precision], workspace)
    return loss, parts, grad


def _pairwise_loss_backward(grad_out: Tensor, grad: Tensor, h: Tensor) -> Tensor:
    dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
    if grad.shape != h.shape or grad_out.dim() != 0 or not grad.dtype == grad_out.dtype == dtype:
        raise RuntimeError("pairwise_loss_backward: expected a gradient of the shape of h and a scalar")
    grad, out = grad.contiguous(), torch.empty(h.shape, dtype=h.dtype)
    call("simt_pairwise_loss_backward", ELEMENTS[h.dtype], grad, grad_out, out, c_int64(out.numel()))
    return out


OPS: dict[str, Callable[..., Any]] = {
    "pairwise_loss": _pairwise_loss,
    "pairwise_loss_backward": _pairwise_loss_backward,
}
