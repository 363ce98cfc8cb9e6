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

    def differentiate(ctx: Any, grad: Tensor) -> _Grads:
        (x,) = ctx.saved_tensors
        dx, counts = backward(grad, x, ctx.tau, ctx.alpha, ctx.beta, ctx.count)
        return dx, None, None, None, counts if ctx.count else None

    set_autograd(forward, differentiate, setup_context=setup)
    forbid_double_backward(backward, name)
    return forward


_amplified_tanh = _define_activation("amplified_tanh")
_amplified_sigmoid = _define_activation("amplified_sigmoid")
_gradient_amplifier_backward = define(
    "gradient_amplifier_backward(Tensor grad, Tensor h, float tau, float alpha, bool count) -> (Tensor, Tensor)",
    reference=reference.gradient_amplifier_backward,
    fake=_fake_backward,
)
forbid_double_backward(_gradient_amplifier_backward, "gradient_amplifier")
