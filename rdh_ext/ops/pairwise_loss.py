"""Pairwise likelihood (Eq. 1) with error-aware quantization (Eq. 4): the whole contract of the op."""

from __future__ import annotations

import math
import sys
from typing import Any, cast

import torch
from torch import Tensor

from .. import _checks as checks
from .._labels import check_label_pair, find_not_binary, normalize_labels
from ..reference import pairwise_loss as reference
from ._library import (
    below_autograd,
    define,
    forbid_double_backward,
    is_compiled,
    is_plain_call,
    set_autocast,
    set_autograd,
)

_OP = "pairwise_loss"
PAIR_WEIGHTS = ("none", "balanced")
QUANTIZATIONS = ("error_aware", "l2", "log_cosh", "none")
REDUCTIONS = ("mean", "sum")


def _fake(h: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
    grad = h.new_empty(h.shape if arguments[-1] else (0,), dtype=dtype)
    return h.new_empty((), dtype=dtype), h.new_empty(2, dtype=dtype), grad


_op = define(
    "pairwise_loss(Tensor h, Tensor? labels, Tensor? bank, Tensor? bank_labels, Tensor? similarity, float scale, "
    "str pair_weights, str quantization, float eta, bool include_diagonal, str reduction, str precision, "
    "bool need_grad) -> (Tensor, Tensor, Tensor)",
    reference=reference.pairwise_loss,
    fake=_fake,
)
_backward_op = define(
    "pairwise_loss_backward(Tensor grad_out, Tensor grad, Tensor h) -> Tensor",
    reference=reference.pairwise_loss_backward,
    fake=lambda grad_out, grad, h: h.new_empty(h.shape),
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, parts, grad = output
    ctx.set_materialize_grads(False)  # zeros for the two that have no gradient, one of them [B, K]
    ctx.mark_non_differentiable(parts, grad)
    ctx.save_for_backward(grad, inputs[0])
    ctx.need_grad = inputs[-1]


def _backward(ctx: Any, saved: tuple[Tensor, ...], grad_out: Tensor | None, *ignored: Any) -> tuple[Any, ...]:
    grad, h = saved
    if grad_out is None:
        return (None,) * 13
    if not ctx.need_grad:
        raise RuntimeError(f"{_OP}: called with need_grad=False, there is no gradient to return")
    return _backward_op(grad_out, grad, h), *([None] * 12)


set_autograd(_op, _backward, setup_context=_setup)
forbid_double_backward(_backward_op, _OP)  # which is why it takes h
set_autocast(_op, torch.float32)


class _OfPlainTensors(torch.autograd.Function):
    """The same gradient for plain tensors in Python: a small batch is all bookkeeping, and this is half of it.

    Only ``h`` and the loss are autograd's to see: the rest of the call travels in a tuple, the parts in a list.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, rest: tuple[Any, ...], parts: list[Tensor]) -> Tensor:
        with below_autograd():
            loss, both, grad = _op(h, *rest)
        parts.append(both)
        ctx.save_for_backward(grad, h)
        return cast("Tensor", loss)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad, h = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _backward_op(grads[0], grad, h), None, None
        # loss.backward() comes with 1; PyTorch itself never writes into what has another owner
        if h.is_cpu and h.dtype is grad.dtype and grads[0].item() == 1:
            return grad, None, None
        with below_autograd():
            return _backward_op(grads[0], grad, h), None, None


def _run(h: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Loss and parts, by the shortest way there is."""
    if is_plain_call(h):
        return _run_plain(h, rest)
    loss, both, _ = _op(h, *rest)
    return loss, both.detach()


def _run_plain(h: Tensor, rest: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    if rest[-1]:
        parts: list[Tensor] = []
        return _OfPlainTensors.apply(h, rest, parts), parts[0]
    with below_autograd():
        loss, both, _ = _op(h, *rest)
    return loss, both


def _is_usual(tensor: Any, device: torch.device) -> bool:
    """Goes to the kernel of ``device`` together with h: the dispatcher would take a meta or a sparse one elsewhere."""
    return type(tensor) is Tensor and tensor.device == device and tensor.layout is torch.strided


def _run_unchecked(
    h: Any,
    labels: Any,
    bank: Any,
    bank_labels: Any,
    scale: Any,
    pair_weights: Any,
    quantization: Any,
    eta: Any,
    include_diagonal: Any,
    reduction: Any,
) -> tuple[Tensor, Tensor] | None:
    """Loss and parts of a call of the usual kind, if the compiled op accepts it; None leads to the checks.

    After a kernel the interpreter is found out of the cache, and all the checks would take as long as the kernel of a
    small batch. So only what the op does not check itself is checked here; what it refuses is refused again, in better
    words.
    """
    usual = (
        type(scale) is float
        and type(eta) is float
        and type(include_diagonal) is bool
        and is_plain_call(h)
        and _is_usual(labels, h.device)
        and labels.dtype is (torch.int64 if labels.dim() == 1 else torch.bool)
        and (bank is None or (_is_usual(bank, h.device) and _is_usual(bank_labels, h.device)))
    )
    if not (usual and is_compiled(_OP, "cpu" if h.is_cpu else "cuda")):
        return None
    precision = "highest" if h.is_cpu else _matmul_precision()
    need_grad = torch.is_grad_enabled() and h.requires_grad
    options = (scale, pair_weights, quantization, eta, include_diagonal, reduction, precision, need_grad)
    try:
        return _run_plain(h, (labels, bank, bank_labels, None, *options))
    except (RuntimeError, TypeError, ValueError):
        return None


def _matmul_precision() -> str:
    """What PyTorch allows its own float32 products on CUDA: "highest", "high" (tf32) or "medium" (bfloat16)."""
    if torch.backends.cuda.matmul.fp32_precision != "tf32":
        return "highest"
    try:
        return "medium" if torch.get_float32_matmul_precision() == "medium" else "high"
    except RuntimeError:  # set by the newer names, for which the older question has no answer
        return "high"


def _check_bank(h: Tensor, bank: Any, bank_labels: Any, similarity: Any, include_diagonal: bool) -> None:
    if bank is None:
        if bank_labels is not None:
            raise ValueError(f"{_OP}: bank_labels must come with a bank, got bank=None")
        return
    checks.check_tensor(_OP, "bank", bank, ndim=2)
    checks.check_same_device(_OP, "h", h, "bank", bank)
    if bank.size(1) != h.size(1):
        checks.fail_value(_OP, "bank", f"of {h.size(1)} bits [N, {h.size(1)}] like h", bank)
    if bank_labels is None and similarity is None:
        raise ValueError(f"{_OP}: bank_labels must be given with a bank, got None")
    if not include_diagonal:
        raise ValueError(
            f"{_OP}: include_diagonal must be True with a bank, whose rows are not those of h, got include_diagonal="
            "False"
        )


def _check_similarity(similarity: Any, h: Tensor, columns: int) -> Tensor:
    def expected() -> str:
        return f"a bool or 0/1 matrix [{h.size(0)}, {columns}]"

    if not isinstance(similarity, Tensor) or similarity.is_complex():
        checks.fail_type(_OP, "similarity", expected(), similarity)
    checks.check_dense(_OP, "similarity", similarity)
    if similarity.dim() != 2 or similarity.size(0) != h.size(0) or similarity.size(1) != columns:
        checks.fail_value(_OP, "similarity", expected(), similarity)
    checks.check_same_device(_OP, "h", h, "similarity", similarity)
    if checks.may_read_values(similarity) and (wrong := find_not_binary(similarity)) is not None:
        checks.fail_value(_OP, "similarity", expected(), wrong)
    return similarity.detach()


def _check_finite(argument: str, value: Tensor) -> None:
    """Names the first row of ``value`` ``[rows, K]`` with a NaN or an infinity in it."""
    wrong = ~value.detach().isfinite().all(1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        bad = value.detach()[row]
        raise ValueError(
            f"{_OP}: {argument} must be finite, got {bad[~bad.isfinite()][0].item()} in row {row} of {value.size(0)}"
        )


def _check_tensors(
    h: Any, labels: Any, bank: Any, bank_labels: Any, similarity: Any, include_diagonal: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Checks shapes, kinds, devices and, where that is cheap, values; returns both labels normalised, and S."""
    checks.check_tensor(_OP, "h", h, ndim=2)
    _check_bank(h, bank, bank_labels, similarity, include_diagonal)
    columns = h.size(0) if bank is None else bank.size(0)
    if similarity is not None:
        for argument, value in (("labels", labels), ("bank_labels", bank_labels)):
            if value is not None:
                raise ValueError(f"{_OP}: {argument} must be None where similarity is given, got both")
        return None, None, _check_similarity(similarity, h, columns)
    if labels is None:
        raise ValueError(f"{_OP}: labels must be given where there is no similarity, got None")
    look = checks.may_read_values(h)
    labels = normalize_labels(_OP, "labels", labels, h.size(0), h.device, check_values=look)
    if bank is None:
        return labels, None, None
    bank_labels = normalize_labels(_OP, "bank_labels", bank_labels, columns, h.device, check_values=look)
    check_label_pair(_OP, "labels", labels, "bank_labels", bank_labels)
    return labels, bank_labels, None


def pairwise_loss_with_parts(
    h: Tensor,
    labels: Tensor | None = None,
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
    check_finite: bool = False,
) -> tuple[Tensor, Tensor]:
    """:func:`pairwise_loss` and its detached parts ``[2]``: similarity, and quantization before ``eta``."""
    if similarity is None and check_finite is False:
        done = _run_unchecked(
            h, labels, bank, bank_labels, scale, pair_weights, quantization, eta, include_diagonal, reduction
        )
        if done is not None:
            return done
    scale = checks.check_real(_OP, "scale", scale, low=-sys.float_info.max, high=math.inf, expected="finite")
    eta = checks.check_real(_OP, "eta", eta, low=0.0, high=math.inf, expected="finite and >= 0")
    checks.check_choice(_OP, "pair_weights", pair_weights, PAIR_WEIGHTS)
    checks.check_choice(_OP, "quantization", quantization, QUANTIZATIONS)
    checks.check_choice(_OP, "reduction", reduction, REDUCTIONS)
    checks.check_bool(_OP, "include_diagonal", include_diagonal)
    checks.check_bool(_OP, "check_finite", check_finite)
    labels, bank_labels, similarity = _check_tensors(h, labels, bank, bank_labels, similarity, include_diagonal)
    loss, parts = _run(
        h,
        labels,
        None if bank is None else bank.detach(),
        bank_labels,
        similarity,
        scale,
        pair_weights,
        quantization,
        eta,
        include_diagonal,
        reduction,
        _matmul_precision() if h.is_cuda else "highest",
        torch.is_grad_enabled() and h.requires_grad,
    )
    if check_finite and not torch.compiler.is_compiling() and not loss.is_meta and not bool(loss.isfinite()):
        for argument, value in (("h", h), ("bank", bank)):
            if value is not None:
                _check_finite(argument, value)
    return loss, parts


def pairwise_loss(
    h: Tensor,
    labels: Tensor | None = None,
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
    check_finite: bool = False,
) -> Tensor:
    r"""Pairwise likelihood plus quantization, ``L = L_sim + eta L_quant``, without a ``B x N`` matrix.

    .. math:: L_{sim} = \mathrm{mean}_{ij}\; w_{ij} (\log(1 + e^{\theta_{ij}}) - S_{ij} \theta_{ij}), \qquad
              \theta_{ij} = \mathrm{scale} \cdot \langle h_i, v_j \rangle

    in a stable form, never clamped. Without a bank ``v = h`` and both roles carry gradient; the rows of a bank are
    constants. ``S_ij = 1`` where two items share a label, else 0. The error-aware term is the mean over ``(i, j, k)``
    of ``(h_ik - sign h_ik)^2`` on the bits with ``(2 S_ij - 1) sign(h_ik) sign(v_jk) = 1``, 0 on the others; selection
    and sign are constants for autograd, and ``sign(0) = 0`` selects nothing. What it takes to be a published loss:

    ========= ================ ============== ============= ======================= ===================================
    loss      scale            pair_weights   quantization  eta                     bank
    ========= ================ ============== ============= ======================= ===================================
    DPSH      0.5              "none"         "l2"          0.1                     latest outputs, all training items
    DHN       0.5              "none"         "log_cosh"    1 or 0.1                none
    HashNet   10 / K, 0.1, 1   "balanced"     "none"        no matter               none
    any + RDH the same         the same       "error_aware" 1 (CIFAR-10), else 0.1  the same
    ========= ================ ============== ============= ======================= ===================================

    and, for RDH, :func:`amplified_tanh` in the place of tanh.

    Args:
        h: activations ``[B, K]``, float32, float64, bfloat16 or float16; any strides; CPU or CUDA.
        labels: class ids ``[B]`` (integers >= 0) or multi-hot rows ``[B, C]`` (bool or 0/1, any C; a row of zeros is
            similar to nothing, itself included). None where ``similarity`` is given.
        bank: ``[N, K]`` outputs to pair ``h`` with, of any of these dtypes; None pairs ``h`` with itself.
        bank_labels: labels of the bank, ids or rows like ``labels``.
        similarity: S itself, bool or 0/1 ``[B, N]`` (``[B, B]`` without a bank), instead of all labels.
        scale: factor of the inner product, finite. 0.5 in the paper.
        pair_weights: "none", ``w = 1``; or "balanced", HashNet's ``|S| / |S1|`` for similar and ``|S| / |S0|`` for
            dissimilar pairs, counted over the pairs of this call.
        quantization: "error_aware" (Eq. 4), "l2" (mean over ``(i, k)`` of ``(h - sign h)^2``), "log_cosh" (of
            ``log cosh(|h| - 1)``), or "none".
        eta: weight of the quantization term, finite and >= 0.
        include_diagonal: False leaves the pairs ``(i, i)`` out of the likelihood, the error-aware term and all counts
            of pairs. Only without a bank.
        reduction: "mean", or "sum" over pairs in the one term and pairs and bits (l2, log_cosh: bits) in the other.
        check_finite: True looks at the loss, which waits for a CUDA device, and where it is not finite raises an error
            that names the first such row of ``h`` or ``bank``. Not while ``torch.compile`` traces.

    Returns:
        The loss, a scalar: float64 for float64 ``h``, else float32, in which it is computed. Without pairs the
        likelihood is 0. NaN or inf in ``h`` or ``bank`` makes loss and gradient NaN or inf, never a number.

    Raises:
        TypeError: not a tensor, a dtype or layout that does not fit, an option of another type.
        ValueError: a shape, device or option that does not fit; labels and similarity both or neither given; a bank
            without labels; multi-hot rows of no class at all (C = 0); on the CPU also negative ids, and multi-hot or
            similarity values other than 0 and 1. (On CUDA, and while tracing, values are not looked at: all but 0
            counts as 1.) NaN and infinities where ``check_finite``.
        RuntimeError: in a double backward (``create_graph=True``), which is not supported.

    Cost: two products of ``B N K`` multiply-adds and an exponential per pair; class ids cost nothing to speak of,
    multi-hot labels and a matrix about a quarter more (CPU, 64 bits). The gradient is computed along with the value and
    only scaled in backward. Memory: dL/dh ``[B, K]``, the workspace, mostly a few times ``B K`` and with ``N >= B``
    below ``4 (B + N) K`` floats, and copies of what is not contiguous or not int64 or bool. Without compiled code:
    tiles of 2^18 pairs.

    Numerics: float32 (float64 for double) with sums over 48 columns, then 1,200, then in float64; the mean over 3.5e9
    pairs is right to 1e-6, the gradient to about 1e-7 in relative norm. ``|theta|`` of 1e4 loses nothing; easy pairs
    keep their relative accuracy. Products on CUDA follow ``torch.set_float32_matmul_precision``: "highest" computes
    them as they are, "high" rounds their inputs to tf32, "medium" to bfloat16.

    Deterministic: the same bits every time, and compiled for the CPU for any number of threads, too: how the work is
    cut depends on the shape alone. Autocast: float32. ``torch.compile(fullgraph=True)``, CUDA graphs: yes. Over the
    ranks of DDP: :func:`rdh_ext.distributed.gather_batch` first.

    Source: "Rescuing Deep Hashing from Dead Bits Problem" (IJCAI 2021), Eq. 1, 4 and 5, with means in the place of
    sums; pair weights from HashNet (Cao et al., ICCV 2017).

    Example:
        >>> h = torch.tensor([[0.9, -0.8], [0.7, -0.9], [-0.6, 0.9]], requires_grad=True)
        >>> loss = rdh_ext.pairwise_loss(h, torch.tensor([0, 0, 1]), eta=1.0)
        >>> loss.backward()
        >>> round(loss.item(), 4), h.grad.shape
        (0.4755, torch.Size([3, 2]))
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
        check_finite=check_finite,
    )[0]
