"""Modules around the gradient amplifier, and ``rescue_``, which puts them into an existing model."""

from __future__ import annotations

import torch
from torch import Tensor

from .._bit_counter import BitCounter
from ..ops.gradient_amplifier import (
    amplified_sigmoid,
    amplified_tanh,
    check_amplifier_arguments,
    check_counter,
    gradient_amplifier,
)

# to torch.fx they are leaves: a proxy has neither dtype nor shape that could be checked
torch.fx.wrap("amplified_tanh")
torch.fx.wrap("amplified_sigmoid")
torch.fx.wrap("gradient_amplifier")


class _Amplifying(torch.nn.Module):
    """What the three modules share: checked parameters that show in ``print(model)``; nothing in state_dict."""

    def __init__(self, tau: float, alpha: float | None, beta: float, counter: BitCounter | None) -> None:
        super().__init__()
        check_amplifier_arguments(type(self).__name__, tau, alpha, beta)
        check_counter(type(self).__name__, counter)
        self.tau = tau
        self.alpha = alpha
        self.beta = beta
        self.counter = counter

    def extra_repr(self) -> str:
        """Parameters for ``print(model)``."""
        alpha = "" if self.alpha is None else f", alpha={self.alpha:g}"
        beta = "" if self.beta == 1.0 else f", beta={self.beta:g}"
        return f"tau={self.tau:g}{alpha}{beta}"


class AmplifiedTanh(_Amplifying):
    """``torch.nn.Tanh`` with the gradient amplifier; see :func:`rdh_ext.amplified_tanh` for formula, shapes and costs.

    ``beta`` is a plain attribute that may be changed between steps (HashNet's continuation). Works under torch.compile,
    torch.export, ``torch.fx`` (without a counter), autocast, activation checkpointing and DDP. Gradients through
    ``torch.func`` transforms and second derivatives are errors. A deep copy counts into a counter of its own.

    Example:
        >>> head = torch.nn.Sequential(torch.nn.Linear(128, 32), rdh_ext.nn.AmplifiedTanh())
        >>> head(torch.randn(4, 128)).shape
        torch.Size([4, 32])
    """

    def __init__(
        self, tau: float = 0.99, alpha: float | None = None, beta: float = 1.0, *, counter: BitCounter | None = None
    ) -> None:
        super().__init__(tau, alpha, beta, counter)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> ``tanh(beta x)``."""
        return amplified_tanh(x, self.tau, self.alpha, self.beta, counter=self.counter)


class AmplifiedSigmoid(_Amplifying):
    """``torch.nn.Sigmoid`` with the gradient amplifier; see :func:`rdh_ext.amplified_sigmoid`.

    Example:
        >>> rdh_ext.nn.AmplifiedSigmoid()(torch.zeros(2))
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self, tau: float = 0.99, alpha: float | None = None, beta: float = 1.0, *, counter: BitCounter | None = None
    ) -> None:
        super().__init__(tau, alpha, beta, counter)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> ``sigmoid(beta x)``."""
        return amplified_sigmoid(x, self.tau, self.alpha, self.beta, counter=self.counter)


class GradientAmplifier(_Amplifying):
    """Identity with Eq. 3 as its backward, for after any activation; see :func:`rdh_ext.gradient_amplifier`.

    Example:
        >>> head = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Softsign(), rdh_ext.nn.GradientAmplifier())
        >>> head(torch.randn(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(self, tau: float = 0.99, alpha: float | None = None, *, counter: BitCounter | None = None) -> None:
        super().__init__(tau, alpha, 1.0, counter)

    def forward(self, h: Tensor) -> Tensor:
        """``h`` of any shape -> a view of it."""
        return gradient_amplifier(h, self.tau, self.alpha, counter=self.counter)


def rescue_(
    model: torch.nn.Module, tau: float = 0.99, alpha: float | None = None, *, counter: BitCounter | None = None
) -> int:
    """Replaces every ``nn.Tanh`` and ``nn.Sigmoid`` inside ``model`` by its amplified twin, in place.

    Exact types only: a subclass, or an instance with a forward of its own, stays. Training mode, hooks and attributes
    are kept, a module used in several places stays shared, weights and the keys of ``state_dict`` do not change.
    Functions (``torch.tanh`` in a forward) are not modules and stay. Sigmoids that are gates and not hash bits
    (squeeze and excitation, for one) are replaced too: where that is unwanted, call it on the hash head alone.

    Args:
        model: any module that contains the activations.
        tau, alpha, counter: as in :func:`rdh_ext.amplified_tanh`, for every replaced module.

    Returns:
        How many modules were replaced (a shared one counts once).

    Raises:
        TypeError: ``model`` is not a module, ``counter`` not a BitCounter.
        ValueError: ``model`` itself is an activation, which cannot be replaced in place; ``tau`` or ``alpha`` out of
            range.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh())
        >>> rdh_ext.nn.rescue_(model)
        1
        >>> model[1]
        AmplifiedTanh(tau=0.99)
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"rescue_: model must be a torch.nn.Module, got {type(model).__name__}")
    check_amplifier_arguments("rescue_", tau, alpha, 1.0)
    check_counter("rescue_", counter)
    twins: dict[type, type[AmplifiedTanh] | type[AmplifiedSigmoid]] = {
        torch.nn.Tanh: AmplifiedTanh,
        torch.nn.Sigmoid: AmplifiedSigmoid,
    }
    if type(model) in twins:
        twin = twins[type(model)].__name__
        raise ValueError(
            f"rescue_: model must contain the activation, got a bare {type(model).__name__}; use rdh_ext.nn.{twin}"
        )
    replaced: dict[torch.nn.Module, torch.nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is None or type(child) not in twins or "forward" in vars(child):
                continue
            if child not in replaced:
                replaced[child] = _inherit(twins[type(child)](tau, alpha, counter=counter), child)
            setattr(parent, name, replaced[child])
    return len(replaced)


def _inherit(twin: torch.nn.Module, module: torch.nn.Module) -> torch.nn.Module:
    """Gives ``twin`` all that hangs on ``module``, the very same dictionaries: handles still remove their hooks."""
    kept = {key: value for key, value in vars(module).items() if key != "_compiled_call_impl"}
    vars(twin).update(kept)
    return twin
