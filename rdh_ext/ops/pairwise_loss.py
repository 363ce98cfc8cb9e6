"""Pairwise likelihood (Eq. 1) with error-aware quantization (Eq. 4): the whole contract of the op."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from .._labels import check_label_pair, normalize_labels
from ..reference import pairwise_loss as reference
from ._library import define, forbid_double_backward, set_autocast, set_autograd

PAIR_WEIGHTS = ("none", "balanced")
QUANTIZATIONS = ("error_aware", "l2", "log_cosh", "none")
REDUCTIONS = ("mean", "sum")


def _fake(h: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
    grad = h.new_empty(h.shape if arguments[-1] else (0,))
    return h.new_empty((), dtype=dtype), h.new_empty(2, dtype=dtype), grad


_pairwise_loss = define(
    "pairwise_loss(Tensor h, Tensor? labels, Tensor? bank, Tensor? bank_labels, Tensor? similarity, float scale, "
    "str pair_weights, str quantization, float eta, bool include_diagonal, str reduction, bool need_grad) "
    "-> (Tensor, Tensor, Tensor)",
    reference=reference.pairwise_loss,
    fake=_fake,
)
_pairwise_loss_backward = define(
    "pairwise_loss_backward(Tensor grad_out, Tensor grad) -> Tensor",
    reference=reference.pairwise_loss_backward,
    fake=lambda grad_out, grad: torch.empty_like(grad),
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, parts, grad = output
    ctx.mark_non_differentiable(parts, grad)
    ctx.save_for_backward(grad)
    ctx.need_grad = inputs[-1]


def _backward(ctx: Any, grad_out: Tensor, *ignored: Any) -> tuple[Any, ...]:
    (grad,) = ctx.saved_tensors
    if not ctx.need_grad:
        raise RuntimeError("pairwise_loss: called with need_grad=False, there is no gradient to return")
    return _pairwise_loss_backward(grad_out, grad), *([None] * 11)


set_autograd(_pairwise_loss, _backward, setup_context=_setup)
forbid_double_backward(_pairwise_loss_backward, "pairwise_loss")
set_autocast(_pairwise_loss, torch.float32)


def _check_similarity(similarity: Any, rows: int, columns: int, h: Tensor, check_values: bool) -> None:
    op = "pairwise_loss"
    expected = f"a bool or 0/1 matrix [{rows}, {columns}]"
    if not isinstance(similarity, Tensor):
        checks.fail_type(op, "similarity", expected, similarity)
    if similarity.shape != (rows, columns):
        checks.fail_value(op, "similarity", expected, similarity)
    checks.check_same_device(op, "h", h, "similarity", similarity)
    if check_values and similarity.dtype != torch.bool:
        wrong = ~((similarity == 0) | (similarity == 1))
        if bool(wrong.any()):
            checks.fail_value(op, "similarity", expected, similarity[wrong][0].item())


def _check_tensors(
    h: Any, labels: Any, bank: Any, bank_labels: Any, similarity: Any
) -> tuple[Tensor | None, Tensor | None]:
    """Checks shapes, kinds and devices; returns both label tensors normalised."""
    op = "pairwise_loss"
    checks.check_tensor(op, "h", h, ndim=2)
    columns = h.size(0)
    if bank is not None:
        checks.check_tensor(op, "bank", bank, ndim=2)
        checks.check_same_device(op, "h", h, "bank", bank)
        if bank.size(1) != h.size(1):
            checks.fail_value(op, "bank", f"of {h.size(1)} bits [N, {h.size(1)}] like h", bank)
        columns = bank.size(0)
    check_values = h.device.type == "cpu" and not torch.compiler.is_compiling()
    if similarity is not None:
        _check_similarity(similarity, h.size(0), columns, h, check_values)
        return None, None
    if labels is None:
        raise ValueError("pairwise_loss: labels must be given where there is no similarity, got None")
    labels = normalize_labels(op, "labels", labels, h.size(0), h.device, check_values=check_values)
    if bank is None:
        if bank_labels is not None:
            raise ValueError("pairwise_loss: bank_labels must come with a bank, got bank=None")
        return labels, None
    if bank_labels is None:
        raise ValueError("pairwise_loss: bank_labels must be given with a bank, got None")
    bank_labels = normalize_labels(op, "bank_labels", bank_labels, columns, h.device, check_values=check_values)
    check_label_pair(op, "labels", labels, "bank_labels", bank_labels)
    return labels, bank_labels


def pairwise_loss_with_parts(
    h: Tensor,
    labels: Tensor | None,
    bank: Tensor | None = None,
    bank_labels: Tensor | None = None,
    *,
    similarity: Tensor | None = None,
    scale: float = 0.5,
    pair_weights: str = "none",
    quantization: str = "error_aware",
    eta: float = 0.1,
    include_diagonal: bool = True,
    reduction: str = "mean",
) -> tuple[Tensor, Tensor]:
    """:func:`pairwise_loss` and its detached parts ``[2]``: similarity, and quantization before ``eta``."""
    op = "pairwise_loss"
    labels, bank_labels = _check_tensors(h, labels, bank, bank_labels, similarity)
    scale = checks.check_real(op, "scale", scale, low=-math.inf, high=math.inf, expected="finite")
    if math.isinf(scale):
        checks.fail_value(op, "scale", "finite", scale)
    eta = checks.check_real(op, "eta", eta, low=0.0, high=math.inf, expected="finite and >= 0")
    checks.check_choice(op, "pair_weights", pair_weights, PAIR_WEIGHTS)
    checks.check_choice(op, "quantization", quantization, QUANTIZATIONS)
    checks.check_choice(op, "reduction", reduction, REDUCTIONS)
    if bank is not None and not include_diagonal:
        raise ValueError(
            "pairwise_loss: include_diagonal must be True with a bank, whose rows are not those of h, got False"
        )
    need_grad = torch.is_grad_enabled() and h.requires_grad
    loss, parts, _ = _pairwise_loss(
        h,
        labels,
        None if bank is None else bank.detach(),
        bank_labels,
        similarity,
        scale,
        pair_weights,
        quantization,
        eta,
        bool(include_diagonal),
        reduction,
        need_grad,
    )
    return loss, parts.detach()


def pairwise_loss(
    h: Tensor,
    labels: Tensor | None,
    bank: Tensor | None = None,
    bank_labels: Tensor | None = None,
    *,
    similarity: Tensor | None = None,
    scale: float = 0.5,
    pair_weights: str = "none",
    quantization: str = "error_aware",
    eta: float = 0.1,
    include_diagonal: bool = True,
    reduction: str = "mean",
) -> Tensor:
    r"""Pairwise likelihood plus quantization, ``L = L_sim + eta L_quant``, without a ``B x N x K`` tensor.

    .. math:: L_{sim} = \mathrm{mean}_{ij}\; w_{ij} (\log(1 + e^{\theta_{ij}}) - S_{ij} \theta_{ij}), \qquad
              \theta_{ij} = \mathrm{scale} \cdot \langle h_i, v_j \rangle

    in the stable form, never clamped. Without a bank ``v = h`` and both roles carry gradient; the rows of a bank are
    constants. ``S_ij = 1`` where two items share a label. The error-aware term is the mean over ``(i, j, k)`` of
    ``(h_ik - sign h_ik)^2`` on the bits with ``(2 S_ij - 1) sign(h_ik) sign(v_jk) = 1``; mask and sign are constants
    for autograd, and ``sign(0) = 0`` selects nothing.

    Args:
        h: activations ``[B, K]``, float32, float64, bfloat16 or float16 (computed in float32; float64 in float64).
        labels: class ids ``[B]`` or multi-hot rows ``[B, C]``; None where ``similarity`` is given.
        bank: ``[N, K]`` outputs to pair with, DPSH style. bank_labels: their labels, of the kind of ``labels``.
        similarity: explicit S, bool or 0/1 ``[B, N]``, instead of labels.
        scale: factor of the inner product; 0.5 in the paper, 10 / K or 1 for HashNet.
        pair_weights: "none", or "balanced": HashNet's ``|S| / |S1|`` and ``|S| / |S0|`` over the pairs used.
        quantization: "error_aware" (Eq. 4), "l2" (``mean (h - sign h)^2``), "log_cosh" (``mean log cosh(|h| - 1)``),
            "none".
        eta: weight of the quantization term, finite and >= 0.
        include_diagonal: False leaves the pairs ``(i, i)`` out of both terms and of the counts; without a bank only.
        reduction: "mean", or "sum" over pairs (and bits).

    Returns:
        The loss, a scalar in float32 (float64 for float64). 0 where there are no pairs.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
        RuntimeError: in a double backward, which is not supported.

    Cost: O(B N K) time; memory O((B + N) K) plus a tile of at most ``max(N, 2^22)`` pairs. The gradient is computed
    with the value and scaled in backward. Deterministic on CPU for a given number of threads. Autocast: float32.

    Source: "Rescuing Deep Hashing from Dead Bits Problem" (IJCAI 2021), Eq. 1, 4 and 5.

    Example:
        >>> h = torch.tanh(torch.randn(4, 16)).requires_grad_()
        >>> loss = rdh_ext.pairwise_loss(h, torch.tensor([0, 0, 1, 1]))
        >>> loss.backward()
        >>> h.grad.shape
        torch.Size([4, 16])
    """
    return pairwise_loss_with_parts(
        h,
        labels,
        bank,
        bank_labels,
        similarity=similarity,
        scale=scale,
        pair_weights=pair_weights,
        quantization=quantization,
        eta=eta,
        include_diagonal=include_diagonal,
        reduction=reduction,
    )[0]
