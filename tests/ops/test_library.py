"""The way ops enter autograd, where PyTorch's private names are there and where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import BaseTorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from rdh_ext.ops import _library


@pytest.fixture(scope="module", params=[True, False], ids=["shortcut", "public"])
def cube(request: pytest.FixtureRequest) -> Iterator[Any]:
    """``scale x^3`` with a gradient whose own gradient is forbidden: what ``set_autograd`` returns, and the op."""
    if request.param and not _library.SHORTCUT:
        pytest.skip("this torch has no shortcut")
    names = [f"{kind}_{request.param}".lower() for kind in ("cube", "cube_backward")]
    slope = _library.define(
        f"{names[1]}(Tensor grad, Tensor x, float scale) -> Tensor",
        reference=lambda grad, x, scale: grad * 3 * scale * x * x,
        fake=lambda grad, x, scale: torch.empty_like(x),
    )
    op = _library.define(
        f"{names[0]}(Tensor x, float scale=2.0) -> Tensor",
        reference=lambda x, scale=2.0: scale * x**3,
        fake=lambda x, scale=2.0: torch.empty_like(x),
    )

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.scale = inputs
        ctx.save_for_backward(x)

    def backward(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, None]:
        return slope(grad, saved[0], ctx.scale), None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_library, "SHORTCUT", request.param)
        _library.forbid_double_backward(slope, "cube")
        function = _library.set_autograd(op, backward, setup_context=setup)
    assert (function is op) == (not request.param)
    yield function, op
    for name in names:
        del _library.REFERENCES[name]


def test_gradient_of_the_op_and_of_its_caller(cube: Any) -> None:
    for function in cube:
        x = torch.tensor([1.0, -2.0], requires_grad=True)
        function(x, 0.5).sum().backward()
        torch.testing.assert_close(x.grad, torch.tensor([1.5, 6.0]))
        assert not function(x.detach(), 0.5).requires_grad
        with torch.no_grad():
            assert not function(x, 0.5).requires_grad
    x = torch.tensor([1.0], requires_grad=True)
    cube[1](x).sum().backward()  # the schema's default
    assert x.grad.item() == 6.0


def test_double_backward_is_an_error(cube: Any) -> None:
    x = torch.tensor([1.0], requires_grad=True)
    (slope,) = torch.autograd.grad(cube[0](x, 1.0).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cube: double backward"):
        slope.sum().backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint_that_ends_in_the_op(cube: Any, reentrant: bool) -> None:
    """What was saved is asked for once, and where the forward pass that is run again then builds a graph."""
    for function in cube:
        x = torch.tensor([1.0, -2.0], requires_grad=True)
        out = checkpoint(lambda t, f=function: f(t.square(), 1.0), x, use_reentrant=reentrant)
        out.sum().backward()
        torch.testing.assert_close(x.grad, 6 * x.detach() ** 5)


def test_forward_mode_is_an_error(cube: Any) -> None:
    function, op = cube
    if function is op:
        pytest.skip("torch.library.register_autograd takes no forward mode: PyTorch itself answers, with zeros")
    x = torch.tensor([1.0, -2.0])
    for call in cube:
        for leaf in (x, x.clone().requires_grad_()):
            with forward_ad.dual_level():
                assert torch.equal(call(leaf, 1.0), x**3)
                with pytest.raises(RuntimeError, match="cube_true: forward-mode derivatives are not supported"):
                    call(forward_ad.make_dual(leaf, torch.ones(2)), 1.0)
        for transform in (
            torch.func.grad(lambda t, f=call: f(t, 1.0).sum()),
            torch.func.jacfwd(lambda t, f=call: f(t, 1.0)),
        ):
            with pytest.raises(RuntimeError):
                transform(x)


def test_compiles(cube: Any) -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    torch.compile(lambda t: cube[0](t, 1.0) + 1, fullgraph=True, backend="aot_eager")(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([3.0, 12.0]))


def seen_while(listener: str, x: Tensor) -> list[bool]:
    """What ``is_plain_call`` says of ``x`` where something of the name ``listener`` is active."""
    seen: list[bool] = []

    def look(t: Tensor) -> Tensor:
        seen.append(_library.is_plain_call(t))
        return t * 2

    if listener == "dispatch mode":

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                return function(*args, **(kwargs or {}))

        with Mode():
            look(x)
    elif listener == "function mode":
        with BaseTorchFunctionMode():
            look(x)
    elif listener == "vmap":
        torch.vmap(look)(x)
    elif listener == "grad":
        torch.func.grad(lambda t: look(t).sum())(x)
    elif listener == "functionalize":
        torch.func.functionalize(look)(x)
    elif listener == "forward mode":
        with forward_ad.dual_level():
            look(x)
    elif listener == "jit trace":
        torch.jit.trace(look, x, check_trace=False)
    elif listener == "make_fx":
        make_fx(look)(x)
    elif listener == "autocast":
        with torch.autocast("cpu"):
            look(x)
    elif listener == "compile":
        torch.compile(look, backend="eager", fullgraph=True)(x)
    elif listener == "export":
        torch.export.export(Look(look), (x,), strict=False)
    return seen


class Look(torch.nn.Module):
    def __init__(self, look: Any) -> None:
        super().__init__()
        self.look = look

    def forward(self, x: Tensor) -> Tensor:
        return self.look(x)


@pytest.mark.filterwarnings("ignore")  # tracers warn of the list, and some of themselves
@pytest.mark.parametrize(
    "listener",
    [
        "dispatch mode",
        "function mode",
        "vmap",
        "grad",
        "functionalize",
        "forward mode",
        "jit trace",
        "make_fx",
        "autocast",
        "compile",
        "export",
    ],
)
def test_a_call_is_not_plain_while_something_listens(listener: str) -> None:
    x = torch.ones(3)
    seen = seen_while(listener, x)
    assert seen
    assert not any(seen)
    assert _library.is_plain_call(x) == _library.SHORTCUT  # and nothing is left behind


def test_a_call_with_a_plain_tensor_is_plain() -> None:
    class Subclass(Tensor):
        pass

    x = torch.ones(3)
    for plain in (x, x.clone().requires_grad_(), torch.nn.Parameter(x)):
        assert _library.is_plain_call(plain) == _library.SHORTCUT
    with torch.no_grad():
        assert _library.is_plain_call(x) == _library.SHORTCUT
    with torch.inference_mode():
        assert _library.is_plain_call(x) == _library.SHORTCUT
    for other in (x.as_subclass(Subclass), x.to("meta"), None, 1.0, [x]):
        assert not _library.is_plain_call(other)
