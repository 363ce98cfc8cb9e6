"""The pairwise loss as a citizen of PyTorch: opcheck, autocast, compile, memory; and its module."""

from __future__ import annotations

import copy

import pytest
import torch
from hamming_cases import LargestTensor, poisoned_memory
from pairwise_cases import KINDS, Case, make_case, run
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import rdh_ext
from rdh_ext.nn import LossParts, PairwiseLoss
from rdh_ext.ops.pairwise_loss import PAIR_WEIGHTS, QUANTIZATIONS, pairwise_loss_with_parts
from rdh_ext.reference import pairwise_loss as reference

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

STEM = "pairwise_loss"


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def op_arguments(case: Case, device: str, quantization: str = "error_aware", need_grad: bool = True) -> tuple:
    tensors = tuple(None if t is None else t.to(device) for t in case[:5])
    return (*tensors, 0.5, "balanced", quantization, 0.1, True, "mean", "highest", need_grad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [None, 0, 6])
def test_opcheck(backend: str, kind: str, columns: int | None) -> None:
    forward = torch.ops.rdh_ext.pairwise_loss.default
    for dtype in (torch.float32, torch.float16):
        h, *rest = op_arguments(make_case(kind, 5, columns, 3, dtype=dtype), backend)
        torch.library.opcheck(forward, (h.requires_grad_(), *rest))
        torch.library.opcheck(forward, (h.detach().t().contiguous().t(), *rest[:-1], False))


def test_opcheck_backward(backend: str) -> None:
    backward = torch.ops.rdh_ext.pairwise_loss_backward.default
    for dtype, narrow in ((torch.float32, torch.bfloat16), (torch.float32, torch.float16), (torch.float64, None)):
        for rows in (0, 5):
            grad = torch.randn(rows, 3, dtype=dtype, device=backend)
            for h in (grad.clone(), grad.to(narrow or dtype), grad.t().contiguous().t()):
                torch.library.opcheck(backward, (torch.rand((), dtype=dtype, device=backend), grad, h))


def test_the_backward_op_refuses_what_does_not_belong_together(backend: str) -> None:
    """A float64 gradient of a float32 h would be read as what it is not."""
    backward = torch.ops.rdh_ext.pairwise_loss_backward.default
    grad, factor = torch.randn(2, 3, device=backend), torch.ones((), device=backend)
    for wrong in ((factor, grad.double(), grad), (factor.double(), grad, grad), (factor, grad[:1], grad)):
        with pytest.raises(RuntimeError, match="pairwise_loss_backward: expected a gradient of the shape of h"):
            backward(*wrong)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_and_devices_of_the_result(backend: str, dtype: torch.dtype) -> None:
    """The fake, which a compiler believes, and the kernel agree on everything but the values."""
    for need_grad in (True, False):
        arguments = op_arguments(make_case("ids", 5, 6, 3, dtype=dtype), backend, need_grad=need_grad)
        real = torch.ops.rdh_ext.pairwise_loss(*arguments)
        meta = torch.ops.rdh_ext.pairwise_loss(*(t.to("meta") if isinstance(t, Tensor) else t for t in arguments))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        assert [t.shape for t in real] == [(), (2,), (5, 3) if need_grad else (0,)]
        assert all(a.dtype == b.dtype == wide and a.shape == b.shape for a, b in zip(real, meta, strict=True))
        assert all(a.device.type == backend and a.is_contiguous() for a in real)


def test_the_gradient_is_computed_only_where_it_is_wanted(backend: str) -> None:
    case = make_case("ids", 4)
    h, labels = case.h.to(backend).requires_grad_(), case.labels.to(backend)
    with torch.no_grad():
        assert not rdh_ext.pairwise_loss(h, labels).requires_grad
    assert not rdh_ext.pairwise_loss(h.detach(), labels).requires_grad
    constant = rdh_ext.pairwise_loss(h.detach(), labels, h, labels)
    assert not constant.requires_grad
    given = torch.ones(4, 4, dtype=torch.float64, device=backend, requires_grad=True)
    assert not rdh_ext.pairwise_loss(h.detach(), similarity=given).requires_grad


def test_gradients_accumulate_and_scale(backend: str) -> None:
    case = make_case("multi_hot", 6)
    h, labels = case.h.to(backend).requires_grad_(), case.labels.to(backend)
    loss = rdh_ext.pairwise_loss(h, labels)
    loss.backward(retain_graph=True)
    once = h.grad.clone()
    (loss * -3).backward()
    torch.testing.assert_close(h.grad, -2 * once)


def test_double_backward_is_a_clear_error() -> None:
    """Also of the bare loss, where what arrives from above is a constant: a zero there would be a silent wrong."""
    for function in (lambda loss: loss, torch.square):
        h = torch.randn(3, 2, requires_grad=True)
        loss = function(rdh_ext.pairwise_loss(h, torch.tensor([0, 1, 0])))
        (grad,) = torch.autograd.grad(loss, h, create_graph=True)
        with pytest.raises(RuntimeError, match=r"pairwise_loss: double backward \(create_graph=True\) is not supp"):
            grad.sum().backward()


def test_an_op_called_without_gradient_has_none() -> None:
    h, *rest = op_arguments(make_case("ids", 3, dtype=torch.float32), "cpu", need_grad=False)
    loss, parts, grad = torch.ops.rdh_ext.pairwise_loss(h.requires_grad_(), *rest)
    assert not parts.requires_grad
    assert not grad.requires_grad
    with pytest.raises(RuntimeError, match="pairwise_loss: called with need_grad=False"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_computes_in_float32(backend: str, dtype: torch.dtype) -> None:
    case = make_case("multi_hot", 9, 30, bits=40, classes=300, dtype=torch.float32)
    expected = run(case, backend)
    with torch.autocast(backend, dtype=dtype):
        got = run(case, backend)
        half = run(case._replace(h=case.h.to(dtype)), backend)
    assert torch.equal(got.loss, expected.loss)
    assert torch.equal(got.grad, expected.grad)
    assert half.loss.dtype == torch.float32
    assert half.grad.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_to_one_graph(kind: str) -> None:
    """aot_eager: everything of torch.compile but the code generator."""
    for case in (make_case(kind, 6), make_case(kind, 6, 8)):
        h, labels, bank, bank_labels, similarity = case[:5]
        compiled = torch.compile(rdh_ext.pairwise_loss, fullgraph=True, backend="aot_eager")
        for quantization in ("error_aware", "none"):
            leaf = h.detach().requires_grad_()
            loss = compiled(leaf, labels, bank, bank_labels, similarity=similarity, quantization=quantization)
            loss.backward()
            expected = run(case, quantization=quantization)
            assert torch.equal(loss.detach(), expected.loss)
            assert torch.equal(leaf.grad, expected.grad)


def test_compiles_with_inductor() -> None:
    case = make_case("ids", 6, dtype=torch.float32)
    leaf = case.h.detach().requires_grad_()
    torch.compile(rdh_ext.pairwise_loss, fullgraph=True)(leaf, case.labels).backward()
    assert torch.equal(leaf.grad, run(case).grad)


def test_another_batch_size_does_not_compile_again() -> None:
    """Sizes stay symbols: no error message that mentions one is put together before it is needed."""
    counter = CompileCounter()
    compiled = torch.compile(rdh_ext.pairwise_loss, fullgraph=True, dynamic=True, backend=counter)
    for rows, columns in ((7, 9), (8, 12), (6, 33)):  # none of them equal to the number of bits
        h, labels, bank, bank_labels = make_case("ids", rows, columns)[:4]
        compiled(h, labels, bank, bank_labels)
    assert counter.frame_count == 1


def test_exports() -> None:
    class Loss(torch.nn.Module):
        def forward(self, h: Tensor, labels: Tensor) -> Tensor:
            return rdh_ext.pairwise_loss(h, labels)

    case = make_case("multi_hot", 6)
    for strict in (True, False):
        program = torch.export.export(Loss(), (case.h, case.labels), strict=strict)
        assert torch.equal(program.module()(case.h, case.labels), run(case).loss)


@pytest.mark.parametrize("kind", ["ids", "multi_hot"])
@pytest.mark.parametrize("sizes", [(64, 200_000, 16, 7), (3, 70_000, 300, 3), (2000, None, 8, 400)], ids=str)
def test_no_temporary_grows_with_pairs(kind: str, sizes: tuple[int, int | None, int, int]) -> None:
    """Nothing of B x N, and nothing of N x K but what was passed in."""
    rows, columns, bits, classes = sizes
    h, labels, bank, bank_labels, _ = op_arguments(make_bank_case(kind, rows, columns, bits, classes), "cpu")[:5]
    with LargestTensor() as largest:
        arguments = (0.5, "balanced", "error_aware", 0.1, True, "mean", "highest", True)
        loss, _, grad = reference.pairwise_loss(h, labels, bank, bank_labels, None, *arguments)
    assert bool(loss.isfinite())
    assert bool(grad.isfinite().all())
    assert 0 < largest.numel <= max(reference.TILE, grad.numel())
    assert reference.TILE <= 1 << 22


def make_bank_case(kind: str, rows: int, columns: int | None, bits: int, classes: int) -> Case:
    """As make_case, without the oracle's matrix."""
    h = torch.randn(rows, bits, dtype=torch.bfloat16)
    bank = None if columns is None else torch.randn(columns, bits, dtype=torch.bfloat16)
    labels = [
        None if n is None else torch.randint(0, classes, (n,)) if kind == "ids" else torch.rand(n, classes) < 0.1
        for n in (rows, columns)
    ]
    return Case(h, labels[0], bank, labels[1], None, torch.empty(0))


@pytest.mark.parametrize("kind", KINDS)
def test_poisoned_buffers(backend: str, kind: str) -> None:
    """Fresh memory holds NaN here: every element is written before it is read."""
    for quantization in QUANTIZATIONS:
        for weights in PAIR_WEIGHTS:
            case = make_case(kind, 65, bits=63, dtype=torch.float32)
            options = {"quantization": quantization, "pair_weights": weights, "include_diagonal": False}
            plain = run(case, backend, **options)
            with poisoned_memory():
                poisoned = run(case, backend, **options)
            assert all(torch.equal(a, b) for a, b in zip(plain, poisoned, strict=True))


class TestModule:
    def test_equals_the_function(self) -> None:
        for case in (make_case("ids", 6), make_case("multi_hot", 6, 8), make_case("similarity", 6, 8)):
            h, labels, bank, bank_labels, similarity = case[:5]
            options = {"scale": 0.2, "pair_weights": "balanced", "quantization": "l2", "eta": 3.0, "reduction": "sum"}
            module = PairwiseLoss(**options)
            loss = module(h, labels, bank, bank_labels, similarity=similarity)
            assert torch.equal(loss, run(case, **options).loss)

    def test_last_holds_the_detached_parts(self) -> None:
        case = make_case("ids", 6)
        module = PairwiseLoss(eta=0.25)
        assert module.last == LossParts(torch.tensor(0.0), torch.tensor(0.0))
        loss = module(case.h.requires_grad_(), case.labels)
        expected = pairwise_loss_with_parts(case.h, case.labels, eta=0.25)[1]
        assert module.last._fields == ("similarity", "quantization")
        assert torch.equal(torch.stack(module.last), expected)
        assert not any(part.requires_grad for part in module.last)
        torch.testing.assert_close(loss, module.last.similarity + 0.25 * module.last.quantization)
        assert module.last.quantization > 0
        before = module.last
        module(0.1 * case.h.detach(), case.labels)
        assert module.last.similarity != before.similarity

    def test_last_is_before_eta(self) -> None:
        case = make_case("ids", 6)
        small, large = PairwiseLoss(eta=0.0), PairwiseLoss(eta=9.0)
        small(case.h, case.labels), large(case.h, case.labels)
        assert torch.equal(torch.stack(small.last), torch.stack(large.last))

    def test_options_are_checked_when_it_is_made(self) -> None:
        with pytest.raises(ValueError, match=r"pairwise_loss: quantization must be one of 'error_aware', .* got 'L2'"):
            PairwiseLoss(quantization="L2")
        with pytest.raises(ValueError, match="pairwise_loss: eta must be finite and >= 0, got -1"):
            PairwiseLoss(eta=-1)

    def test_can_be_made_on_meta_copied_and_printed(self) -> None:
        with torch.device("meta"):
            module = PairwiseLoss(scale=0.25)
        twin = copy.deepcopy(module)
        assert repr(twin).startswith("PairwiseLoss(scale=0.25, pair_weights='none', quantization='error_aware'")
        assert twin.state_dict() == {}
        assert list(twin.parameters()) == []

    def test_compiles(self) -> None:
        case = make_case("ids", 6)
        module = PairwiseLoss()
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        loss = compiled(case.h.requires_grad_(), case.labels)
        loss.backward()
        expected = run(case)
        assert torch.equal(case.h.grad, expected.grad)
        assert torch.equal(torch.stack(module.last), torch.stack((expected.similarity, expected.quantization)))
