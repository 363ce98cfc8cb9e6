"""tanh, sigmoid, or any activation, with the gradient amplifier of RDH (Eq. 3): the whole contract of the op.

Schemas, fakes, autograd and the public functions; the formula is in ``rdh_ext/reference/gradient_amplifier.py``, the
kernels in ``csrc/kernels/{cpu,cuda}``. Autocast: none, like ``torch.tanh``: the op runs in the dtype of its input, and
computes in float32 inside whatever that is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from .._bit_counter import BitCounter
from ..reference import gradient_amplifier as reference
from ._library import define, forbid_double_backward, set_autograd

_Grads = tuple[Tensor | None, ...]


def _fake_forward(x: Tensor, tau: float, alpha: float, beta: float, counter: Tensor | None = None) -> Tensor:
    return x.new_empty(x.shape)


def _fake_backward(grad: Tensor, x: Tensor, *scalars: Any) -> tuple[Tensor, Tensor]:
    count = bool(scalars[-1])
    return x.new_empty(x.shape), x.new_empty(3 if count else 0, dtype=torch.float64)


def _define_activation(name: str) -> Any:
    """Defines ``rdh_ext::<name>`` and ``rdh_ext::<name>_backward`` and ties them together."""
    forward = define(
        f"{name}(Tensor x, float tau, float alpha, float beta, Tensor? counter=None) -> Tensor",
        reference=getattr(reference, name),
        fake=_fake_forward,
    )
    backward = define(
        f"{name}_backward(Tensor grad, Tensor x, float tau, float alpha, float beta, bool count) -> (Tensor, Tensor)",
        reference=getattr(reference, f"{name}_backward"),
        fake=_fake_backward,
    )

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.tau, ctx.alpha, ctx.beta, counter = inputs
        ctx.save_for_backward(x)
        ctx.count = counter is not None and counter.requires_grad

    def differentiate(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> _Grads:
        (x,) = saved
        dx, counts = backward(grad, x, ctx.tau, ctx.alpha, ctx.beta, ctx.count)
        return dx, None, None, None, counts if ctx.count else None

    forbid_double_backward(backward, name)
    return set_autograd(forward, differentiate, setup_context=setup)


_amplified_tanh = _define_activation("amplified_tanh")
_amplified_sigmoid = _define_activation("amplified_sigmoid")
_gradient_amplifier_backward = define(
    "gradient_amplifier_backward(Tensor grad, Tensor h, float tau, float alpha, bool count) -> (Tensor, Tensor)",
    reference=reference.gradient_amplifier_backward,
    fake=_fake_backward,
)
forbid_double_backward(_gradient_amplifier_backward, "gradient_amplifier")


class _GradientAmplifier(torch.autograd.Function):
    """Identity whose backward is Eq. 3. No op: an op may not return its input, and a copy would cost a pass."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, tau: float, alpha: float, counter: Tensor | None) -> Tensor:
        ctx.save_for_backward(h)
        ctx.tau, ctx.alpha = tau, alpha
        ctx.count = counter is not None and counter.requires_grad
        return h.view_as(h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (h,) = ctx.saved_tensors
        dh, counts = _gradient_amplifier_backward(grads[0], h, ctx.tau, ctx.alpha, ctx.count)
        return dh, None, None, counts if ctx.count else None


def check_amplifier_arguments(op: str, tau: Any, alpha: Any, beta: Any) -> tuple[float, float, float]:
    """``(tau, alpha, beta)`` as floats, ``alpha`` filled in."""
    tau = checks.check_real(op, "tau", tau, low=0.0, high=1.0, expected="in [0, 1)")
    if alpha is None:
        alpha = 1.0 / (1.0 - tau * tau)
    else:
        alpha = checks.check_positive(op, "alpha", alpha)
    return tau, alpha, checks.check_positive(op, "beta", beta)


def check_counter(op: str, counter: Any) -> None:
    """``counter`` is a BitCounter or None."""
    if counter is not None and not isinstance(counter, BitCounter):
        checks.fail_type(op, "counter", "an rdh_ext.nn.BitCounter or None", counter)


def _counts_of(op: str, x: Tensor, counter: BitCounter | None) -> Tensor | None:
    if counter is None:
        return None
    check_counter(op, counter)
    counts = counter.counts_on(x.device)
    return counts if x.requires_grad else None  # the counts' own gradient must not make h require one


def amplified_tanh(
    x: Tensor,
    tau: float = 0.99,
    alpha: float | None = None,
    beta: float = 1.0,
    *,
    counter: BitCounter | None = None,
) -> Tensor:
    r"""``h = tanh(beta x)`` whose backward amplifies the gradient of dead bits.

    With ``g = dL/dh``, the gradient that reaches ``x`` is

    .. math:: \frac{dL}{dx} = a \, g \, \beta \, \mathrm{sech}^2(\beta x), \qquad
              a = \alpha \text{ if } |h| \ge \tau, \ \mathrm{sign}(h) = \mathrm{sign}(g) \ne 0; \ a = 1 \text{ else.}

    A bit of the first kind is *dead*: it lies in the flat end of tanh while the loss wants it on the other side.
    Numerics: ``sech^2`` and ``|h| >= tau`` are computed from ``x`` in float32 (float64 for double) whatever the dtype
    of ``x``, so a bit whose ``h`` has rounded to +-1 (``|x|`` above 9.01 in float32, 4.5 in float16, 3.5 in bfloat16)
    still gets the gradient it should have; a port that uses ``1 - h^2`` multiplies by 0 there. Compiled kernels:
    forward within 2 ulp, gradient within 4 ulp of float64; those for CUDA and for AVX2 agree to the last bit. NaN in
    ``x`` or in the gradient propagates.

    Args:
        x: logits, any shape (usually ``[B, K]``) and strides; float32, float64, bfloat16 or float16; CPU or CUDA.
        tau: saturation threshold, in [0, 1). 0 with the default alpha is plain tanh.
        alpha: amplification factor, finite and > 0; None means ``1 / (1 - tau^2)``, 50.25 at the default tau.
        beta: steepness (HashNet's continuation), finite and > 0.
        counter: counts dead and saturated bits during backward, in the same pass; see :class:`rdh_ext.nn.BitCounter`.

    Returns:
        ``tanh(beta x)``, contiguous, shape, dtype and device of ``x``.

    Raises:
        TypeError: ``x`` is not a floating tensor, ``counter`` not a BitCounter.
        ValueError: ``tau``, ``alpha`` or ``beta`` out of range; ``counter`` on another device.
        RuntimeError: in a double backward (``create_graph=True``), which is not supported.

    Cost: one read and one write of ``x`` forward, two reads and one write backward; ``x`` is kept for backward, ``h``
    is not. Deterministic: the same bits for any number of threads.

    Source: "Rescuing Deep Hashing from Dead Bits Problem" (IJCAI 2021), Eq. 3; the paper's missing third case passes
    ``g``.

    Example:
        >>> x = torch.tensor([12.0, 0.5, -12.0], requires_grad=True)
        >>> rdh_ext.amplified_tanh(x).sum().backward()  # the loss wants every h smaller: bit 0 is dead
        >>> bool(x.grad[0] / x.grad[2] > 50)
        True
    """
    checks.check_tensor("amplified_tanh", "x", x)
    tau, alpha, beta = check_amplifier_arguments("amplified_tanh", tau, alpha, beta)
    out: Tensor = _amplified_tanh(x, tau, alpha, beta, _counts_of("amplified_tanh", x, counter))
    return out


def amplified_sigmoid(
    x: Tensor,
    tau: float = 0.99,
    alpha: float | None = None,
    beta: float = 1.0,
    *,
    counter: BitCounter | None = None,
) -> Tensor:
    r"""``h = 1 / (1 + exp(-beta x))`` whose backward amplifies the gradient of dead bits; the bit is ``b = 2 h - 1``.

    The gradient is ``a g beta h (1 - h)`` with ``a = alpha`` where ``|b| >= tau`` and ``sign(b) = sign(g)``, else 1.
    Arguments, numerics, errors, cost and source as in :func:`amplified_tanh`.

    Returns:
        ``sigmoid(beta x)``, contiguous, shape, dtype and device of ``x``.

    Example:
        >>> x = torch.tensor([30.0], requires_grad=True)
        >>> rdh_ext.amplified_sigmoid(x).sum().backward()
        >>> bool(x.grad > 0)  # torch.sigmoid gives exactly 0 here
        True
    """
    checks.check_tensor("amplified_sigmoid", "x", x)
    tau, alpha, beta = check_amplifier_arguments("amplified_sigmoid", tau, alpha, beta)
    out: Tensor = _amplified_sigmoid(x, tau, alpha, beta, _counts_of("amplified_sigmoid", x, counter))
    return out


def gradient_amplifier(
    h: Tensor, tau: float = 0.99, alpha: float | None = None, *, counter: BitCounter | None = None
) -> Tensor:
    """Identity whose backward is Eq. 3: put it after any activation with outputs in [-1, 1].

    The gradient ``g`` becomes ``alpha g`` where ``|h| >= tau``, ``sign(h) = sign(g)`` and ``g != 0``, and stays ``g``
    elsewhere. The activation before it still multiplies by its own derivative, which is exactly 0 once ``h`` has
    rounded to +-1: for tanh and sigmoid, :func:`amplified_tanh` and :func:`amplified_sigmoid` rescue those bits too.
    With ``alpha=1.0`` and a counter it changes nothing and counts the dead bits of an unmodified model.

    Args:
        h: activations, any shape and strides; float32, float64, bfloat16 or float16. ``|h| >= tau`` is decided exactly.
        tau: saturation threshold, in [0, 1).
        alpha: amplification factor, finite and > 0; None means ``1 / (1 - tau^2)``.
        counter: see :class:`rdh_ext.nn.BitCounter`.

    Returns:
        ``h`` itself as a view: no copy.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`amplified_tanh`.

    Cost: nothing forward; two reads and one write backward. Deterministic. Source: the paper's Eq. 3.

    Example:
        >>> h = torch.tensor([1.0, 0.5, -1.0], requires_grad=True)
        >>> rdh_ext.gradient_amplifier(h, alpha=10.0).sum().backward()
        >>> h.grad
        tensor([10.,  1.,  1.])
    """
    checks.check_tensor("gradient_amplifier", "h", h)
    tau, alpha, _ = check_amplifier_arguments("gradient_amplifier", tau, alpha, 1.0)
    counts = _counts_of("gradient_amplifier", h, counter)
    out: Tensor = _GradientAmplifier.apply(h, tau, alpha, counts)
    return out
