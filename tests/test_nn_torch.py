"""What PyTorch does to models, done to ours: compile, export, autocast, checkpoints, transforms."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import rdh_ext
from rdh_ext.nn import AmplifiedSigmoid, AmplifiedTanh, BitCounter, BitCounts, GradientAmplifier, PairwiseLoss

FUNCTIONS = (rdh_ext.amplified_tanh, rdh_ext.amplified_sigmoid, rdh_ext.gradient_amplifier)
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def make_model(counter: BitCounter | None = None) -> nn.Sequential:
    """All three modules, with logits so large that many bits are saturated, and some of them dead."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 9),
        AmplifiedTanh(0.9, counter=counter),
        nn.Linear(9, 7),
        AmplifiedSigmoid(0.9, 20.0, counter=counter),
        nn.Linear(7, 5),
        nn.Softsign(),
        GradientAmplifier(0.6, 3.0, counter=counter),
    )
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.weight.mul_(12)
    return model


def step(model: nn.Module, call: Callable[[Tensor], Tensor] | None = None, rows: int = 8) -> list[Tensor]:
    """Output, gradient of the input and of every weight, of one backward pass."""
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows)).requires_grad_()
    model.zero_grad()
    out = (call or model)(x)
    out.float().square().sum().backward()
    grads = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None for grad in grads)
    return [out.detach(), x.grad, *(grad.clone() for grad in grads)]


def assert_same(got: list[Tensor], expected: list[Tensor], rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(got, expected, rtol=rtol, atol=atol)


def counted(run: Callable[[BitCounter], Any]) -> BitCounts:
    counter = BitCounter("cpu")
    run(counter)
    return counter.read()


EXPECTED = counted(lambda counter: step(make_model(counter)))


def test_the_model_has_dead_bits() -> None:
    """So that the tests below see the amplification, and the counts."""
    assert 0 < EXPECTED.dead < EXPECTED.saturated < EXPECTED.total == 8 * (9 + 7 + 5)
    plain = make_model()
    for index in (1, 3, 6):
        plain[index].alpha = 1.0
    assert not torch.allclose(step(plain)[2], step(make_model())[2])


def test_compiles_to_one_graph_and_counts() -> None:
    counter = BitCounter("cpu")
    model = make_model(counter)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        assert_same(step(model, compiled), step(make_model()))
        assert counter.read() == EXPECTED


def test_compiles_with_inductor() -> None:
    counter = BitCounter("cpu")
    model = nn.Sequential(nn.Linear(6, 9), AmplifiedTanh(0.3, counter=counter))
    expected, counts = step(model), counter.read()
    assert_same(step(model, torch.compile(model, fullgraph=True)), expected, rtol=1e-5, atol=1e-5)
    assert counter.read() == counts
    assert counts.dead > 0


@every_function
def test_functions_compile_to_one_graph(function: Any) -> None:
    for options in ({}, {"tau": 0.5, "alpha": 4.0}):
        compiled = torch.compile(lambda x, o=options: function(x, **o), fullgraph=True, backend="aot_eager")
        x = (3 * torch.randn(33)).requires_grad_()
        out = compiled(x)
        (grad,) = torch.autograd.grad(out.sum(), x)
        eager = function(x, **options)
        (expected,) = torch.autograd.grad(eager.sum(), x)
        assert torch.equal(out, eager)
        assert torch.equal(grad, expected)


def test_another_batch_size_does_not_compile_again() -> None:
    backend = CompileCounter()
    compiled = torch.compile(make_model(), fullgraph=True, dynamic=True, backend=backend)
    for rows in (8, 12, 31):
        compiled(torch.randn(rows, 6))
    assert backend.frame_count == 1


@pytest.mark.parametrize("strict", [True, False])
def test_exports(strict: bool) -> None:
    """For any batch size, with the ops as single nodes."""
    model = make_model().eval()
    shapes = ({0: torch.export.Dim("rows", min=2, max=64)},)
    program = torch.export.export(model, (torch.randn(8, 6),), dynamic_shapes=shapes, strict=strict)
    targets = [str(node.target) for node in program.graph.nodes]
    assert {"rdh_ext.amplified_tanh.default", "rdh_ext.amplified_sigmoid.default"} <= set(targets)
    for rows in (2, 33):
        x = torch.randn(rows, 6)
        assert torch.equal(program.module()(x), model(x))


def test_traces_with_fx() -> None:
    model = make_model()
    traced = torch.fx.symbolic_trace(model)
    assert_same(step(model, traced), step(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_leaves_the_dtype_of_the_logits(dtype: torch.dtype) -> None:
    """Like torch.tanh: what a layer gives in half precision stays so, and float32 is not made smaller."""
    model = make_model()
    with torch.autocast("cpu", dtype=dtype):
        linear = model[0](torch.randn(3, 6))
        assert model[1](linear).dtype == linear.dtype == dtype
        assert torch.equal(model[1](linear), rdh_ext.amplified_tanh(linear, 0.9))
        assert all(function(torch.randn(3)).dtype == torch.float32 for function in FUNCTIONS)
        results = step(model)
    assert results[0].dtype == dtype
    assert all(grad.dtype == torch.float32 and bool(grad.isfinite().all()) for grad in results[1:])
    assert any(bool(grad.any()) for grad in results[1:])


def test_a_saturated_bit_in_half_precision_is_rescued_under_autocast() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 5.0)  # tanh(5) is 1 in bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        AmplifiedTanh()(layer(torch.ones(1, 1))).sum().backward()
    assert layer.weight.grad.item() > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_counts_once(reentrant: bool) -> None:
    """The forward pass runs twice, the backward pass, which counts, once."""
    counter = BitCounter("cpu")
    model = make_model(counter)
    got = step(model, lambda x: checkpoint(model, x, use_reentrant=reentrant))
    assert counter.read() == EXPECTED
    assert_same(got, step(model))


@every_function
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_that_ends_in_the_op(function: Any, reentrant: bool) -> None:
    """Then it is the op's own backward that makes the forward pass run again."""
    counter = BitCounter("cpu")
    layer = nn.Linear(6, 5)
    call = lambda x: function(layer(x), 0.1, counter=counter)  # noqa: E731
    expected = step(layer, call)
    counts = counter.read()
    assert counts.dead > 0
    assert_same(step(layer, lambda x: checkpoint(call, x, use_reentrant=reentrant)), expected)
    assert counter.read() == counts


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_loss(reentrant: bool) -> None:
    labels = torch.arange(8) % 3
    model, criterion = make_model(), PairwiseLoss()
    whole = step(model, lambda x: criterion(model(x), labels))
    parts = criterion.last
    again = step(model, lambda x: checkpoint(lambda y: criterion(model(y), labels), x, use_reentrant=reentrant))
    assert_same(again, whole)
    assert criterion.last == parts


@every_function
def test_transforms_are_errors_and_not_silent(function: Any) -> None:
    x = torch.randn(3, 2)
    with pytest.raises(RuntimeError):
        torch.func.grad(lambda v: function(v).sum())(x)
    with pytest.raises(RuntimeError):
        torch.func.jvp(function, (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(RuntimeError):
        function(forward_ad.make_dual(x, x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("module", [AmplifiedTanh(), AmplifiedSigmoid()], ids=lambda module: type(module).__name__)
def test_a_trace_holds_the_op_and_can_be_saved(module: torch.nn.Module) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), module)
    x = torch.randn(2, 3)
    traced = torch.jit.trace(model, x)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    assert torch.equal(torch.jit.load(file)(x + 1), model(x + 1))


def test_double_backward_of_modules_is_a_clear_error() -> None:
    for module in (AmplifiedTanh(), AmplifiedSigmoid(), GradientAmplifier()):
        x = torch.randn(3, requires_grad=True)
        (grad,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match=r"double backward \(create_graph=True\) is not supported"):
            grad.sum().backward()


def test_hooks_and_frozen_layers() -> None:
    """Gradient hooks see the amplified gradient; a frozen layer below changes nothing above."""
    seen: list[Tensor] = []
    model = make_model()
    model[1].register_full_backward_hook(lambda module, grad_in, grad_out: seen.append(grad_in[0]))
    expected = step(model)
    model[0].requires_grad_(False)
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(8))
    model.zero_grad()
    model(x).square().sum().backward()
    assert torch.equal(model[2].weight.grad, expected[4])
    assert len(seen) == 1
    assert torch.allclose(seen[0].T @ x, expected[2], rtol=1e-4, atol=1e-4)
