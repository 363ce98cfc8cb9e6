"""The one place where ops enter PyTorch's dispatcher.

Schemas, references and fakes are registered here in Python, so that every op exists, runs and compiles with nothing
built; the native libraries only add their CPU and CUDA keys on top (see ``rdh_ext/_native.py``).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NoReturn, cast

import torch
from torch.autograd import forward_ad

NAMESPACE = "rdh_ext"
_LIBRARY = torch.library.Library(NAMESPACE, "DEF")
_PLAIN = (torch.Tensor, torch.nn.Parameter)
REFERENCES: dict[str, Callable[..., Any]] = {}
"""Op name -> its pure-torch reference: what runs where no native kernel is registered, and what tests compare with."""


def define(schema: str, *, reference: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Defines ``rdh_ext::<schema>``, with ``reference`` for every backend and ``fake`` for tracing; returns the
    overload.

    ``schema`` is a functional PyTorch schema (no aliasing, no mutation), e.g. ``"double(Tensor x) -> Tensor"``.
    """
    name = schema.split("(", 1)[0].strip()
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    REFERENCES[name] = reference
    return getattr(torch.ops.rdh_ext, name).default


def _shortcut_exists() -> bool:
    """This torch has every private name that ``set_autograd`` uses beyond the public interface."""
    names = (
        "_C._AutoDispatchBelowAutograd",
        "_C._after_autograd_keyset",
        "_C._any_requires_grad",
        "_C._dispatch_has_kernel_for_dispatch_key",
        "_C._dispatch_tls_local_include_set",
        "_C._len_torch_function_stack",
        "_C.DispatchKeySet.raw_repr",
        "_ops.OpOverload.redispatch",
        "autograd.forward_ad._current_level",
    )
    try:
        attrgetter(*names)(torch)
    except AttributeError:
        return False
    return "with_keyset" in inspect.signature(torch.library.Library.impl).parameters


SHORTCUT = _shortcut_exists()
"""Whether gradients take the short way (torch 2.11 to 2.15 all have it) or ``torch.library.register_autograd``."""


def _included_keys() -> int:
    """The dispatch keys that this thread adds to those of every call, as bits."""
    return int(torch._C._dispatch_tls_local_include_set().raw_repr())


def _quiet_keys() -> tuple[int, ...]:
    """Those bits where no mode, transform or tracer is active: ordinarily, and in inference mode."""
    if not SHORTCUT:
        return ()
    with torch.inference_mode(False):
        ordinary = _included_keys()
    with torch.inference_mode():
        return ordinary, _included_keys()


_QUIET_KEYS = _quiet_keys()


def is_plain_call(tensor: torch.Tensor) -> bool:
    """A call with ``tensor`` may go below autograd by itself: a plain tensor of a device that has kernels, no autocast,
    and nothing that listens: no tracer, transform or mode that would want to see it pass through the dispatcher.

    Every question here is one more piece of code out of a cold cache; the included keys answer several at once.
    """
    return (
        SHORTCUT
        and not torch.compiler.is_dynamo_compiling()
        and type(tensor) in _PLAIN
        and not torch._C._len_torch_function_stack()
        and forward_ad._current_level < 0
        and torch._C._dispatch_tls_local_include_set().raw_repr() in _QUIET_KEYS
        and (tensor.is_cpu or tensor.is_cuda)
        and not torch.is_autocast_enabled("cpu" if tensor.is_cpu else "cuda")
    )


@functools.cache
def is_compiled(op: str, device: str) -> bool:
    """A native kernel of ``op`` runs on "cpu" or "cuda", and not its reference."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::{op}", device.upper()))


def below_autograd() -> contextlib.AbstractContextManager[None]:
    """Ops inside see no autograd; only where ``is_plain_call``."""
    return torch._C._AutoDispatchBelowAutograd()


def set_autograd(op: Any, backward: Callable[..., Any], *, setup_context: Callable[..., None]) -> Callable[..., Any]:
    """Gives ``op`` its gradient formula, ``backward(ctx, saved, *grads)`` with ``saved`` what ``setup_context`` saved.

    Written here because a call of a small op is nothing but overhead, and this takes more than half of it off: no
    bookkeeping for keyword-only or list arguments, which no op here has, and a backward that runs below autograd unless
    its own gradient is wanted (``create_graph=True``). It needs private names of PyTorch; where one is missing, the
    public function, ``torch.library.register_autograd``, does it. Forward-mode derivatives are an error, not zero.

    Returns ``op`` for callers in Python: plain tensors, with nothing listening, skip the dispatcher's way from C++ back
    to the Python of this function. It takes all arguments, positionally, the first one a tensor; under autocast, which
    some ops follow, the dispatcher's way is taken.
    """
    name = op._name.split("::")[1].split(".")[0]
    if not SHORTCUT:

        def of_context(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, ctx.saved_tensors, *grads)

        torch.library.register_autograd(f"{NAMESPACE}::{name}", of_context, setup_context=setup_context, lib=_LIBRARY)
        return cast("Callable[..., Any]", op)
    defaults = tuple(argument.default_value for argument in op._schema.arguments)
    below_autograd = torch._C._AutoDispatchBelowAutograd

    def forward(ctx: Any, keyset: Any, *inputs: Any) -> Any:
        with below_autograd():
            output = op(*inputs) if keyset is None else op.redispatch(keyset, *inputs)
            setup_context(ctx, inputs, output)
        return output

    def differentiate(ctx: Any, *grads: Any) -> Any:
        saved = ctx.saved_tensors  # above autograd: a checkpoint runs its part of the model again when asked for them
        if torch.is_grad_enabled():
            return (None, *backward(ctx, saved, *grads))
        with below_autograd():
            return (None, *backward(ctx, saved, *grads))

    def forward_mode(ctx: Any, *tangents: Any) -> NoReturn:
        raise RuntimeError(f"{name}: forward-mode derivatives are not supported")

    members = {
        "forward": staticmethod(forward),
        "backward": staticmethod(differentiate),
        "jvp": staticmethod(forward_mode),
    }
    function: Any = type(f"{name}_autograd", (torch.autograd.Function,), members)

    def from_dispatcher(keyset: Any, *inputs: Any) -> Any:
        inputs += defaults[len(inputs) :]  # the dispatcher has dropped what equals a default
        keyset = keyset & torch._C._after_autograd_keyset
        wanted = torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs)
        if wanted or forward_ad._current_level >= 0:
            return function.apply(keyset, *inputs)
        with below_autograd():
            return op.redispatch(keyset, *inputs)

    def call(*inputs: Any) -> Any:
        if not is_plain_call(inputs[0]):
            return op(*inputs)
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs):
            return function.apply(None, *inputs)
        with below_autograd():
            return op(*inputs)

    _LIBRARY.impl(name, from_dispatcher, "Autograd", with_keyset=True)
    return call


def set_autocast(op: Any, dtype: torch.dtype) -> None:
    """Makes autocast run ``op`` in ``dtype`` on CPU and CUDA. Ops without it run in the dtype of their inputs."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(op._name.split(".")[0], device, dtype, lib=_LIBRARY)


def forbid_double_backward(op: Any, function: str) -> None:
    """A second derivative through ``op`` (a backward op) is an error instead of a silent zero."""

    def raise_error(ctx: Any, *saved_and_grads: Any) -> NoReturn:
        raise RuntimeError(f"{function}: double backward (create_graph=True) is not supported")

    set_autograd(op, raise_error, setup_context=lambda ctx, inputs, output: None)
