"""The amplified activations on every backend against the float64 oracle, and as citizens of PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import require, use_backend
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import gradient_amplifier as oracle

import rdh_ext
from rdh_ext.nn import BitCounter

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SIZES = (0, 1, 63, 65, 1000)
KINDS = ("tanh", "sigmoid")
TABLES = Path(__file__).parents[2] / "csrc" / "kernels" / "cpu" / "gradient_amplifier_tables.py"


def _activation(kind: str):
    return {"tanh": rdh_ext.amplified_tanh, "sigmoid": rdh_ext.amplified_sigmoid}[kind]


def _ulp(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Spacing of ``dtype`` at ``value`` (float64), subnormals included."""
    info = torch.finfo(dtype)
    exponent = torch.floor(torch.log2(value.abs().clamp_min(info.smallest_normal)))
    return torch.exp2(exponent) * info.eps


def _ulp_error(got: torch.Tensor, true: torch.Tensor) -> float:
    if got.numel() == 0:
        return 0.0
    return float(((got.double().cpu() - true).abs() / _ulp(true, got.dtype)).max())


def _run(kind: str, x: torch.Tensor, g: torch.Tensor, **arguments) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = x.detach().requires_grad_()
    h = _activation(kind)(leaf, **arguments)
    h.backward(g)
    return h.detach(), leaf.grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_oracle(
    backend: str, kind: str, dtype: torch.dtype, size: int, request: pytest.FixtureRequest
) -> None:
    is_reference = "reference" in request.node.callspec.params.values()
    x = (torch.randn(size) * 6).to(dtype).to(backend)
    g = torch.randn(size).to(dtype).to(backend)
    counter = BitCounter(backend)
    h, dx = _run(kind, x, g, tau=0.9, beta=1.3, counter=counter)
    xs, gs = x.double().cpu().numpy(), g.double().cpu().numpy()
    true_dx, dead, saturated = oracle.backward(kind, gs, xs, 0.9, 1 / (1 - 0.81), 1.3)
    # the reference rounds rate * |x| once, which for float64, where there is nothing wider, costs up to that many ulp
    rounded_product = float(np.abs(xs).max(initial=0)) * 2.6 if dtype == torch.float64 and is_reference else 0
    assert _ulp_error(h, torch.from_numpy(oracle.activation(kind, xs, 1.3)).reshape(size)) <= 2 + rounded_product
    assert _ulp_error(dx, torch.from_numpy(true_dx).reshape(size)) <= 4 + rounded_product
    assert counter.read() == (dead, saturated, size)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_identity_equals_the_oracle(backend: str, dtype: torch.dtype, size: int) -> None:
    h = torch.tanh(torch.randn(size) * 4).to(dtype).to(backend).requires_grad_()
    g = torch.randn(size).to(dtype).to(backend)
    counter = BitCounter(backend)
    out = rdh_ext.gradient_amplifier(h, tau=0.95, counter=counter)
    out.backward(g)
    true, dead, saturated = oracle.backward(
        "identity", g.double().cpu().numpy(), h.detach().double().cpu().numpy(), 0.95, 1 / (1 - 0.95**2), 1.0
    )
    assert out.data_ptr() == h.data_ptr()
    assert torch.equal(out, h)
    assert _ulp_error(h.grad, torch.from_numpy(true).reshape(size)) <= 1.5  # alpha and the product, each rounded
    assert counter.read() == (dead, saturated, size)


@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_over_the_range(backend: str, kind: str) -> None:
    """Forward within 2 ulp and gradient within 4 ulp of float64, from subnormal to far saturation."""
    exponents = torch.linspace(-149, 6.7, 200_001, dtype=torch.float64)
    x = torch.exp2(exponents).to(torch.float32)
    x = torch.cat([x, -x, torch.linspace(-12, 12, 200_001)])
    g = torch.randn(x.numel())
    h, dx = _run(kind, x.to(backend), g.to(backend))
    wide = x.double()
    z = wide if kind == "tanh" else wide / 2
    alpha = 1 / (1 - 0.99**2)
    dead = (torch.tanh(z).abs() >= 0.99) & (torch.sign(x) == torch.sign(g))
    sech2 = 1 / torch.cosh(z).square() * (1.0 if kind == "tanh" else 0.25)
    true_h = torch.tanh(wide) if kind == "tanh" else torch.sigmoid(wide)
    assert _ulp_error(h, true_h) <= 2
    assert _ulp_error(dx, torch.where(dead, alpha, 1.0) * g.double() * sech2) <= 4


@pytest.mark.parametrize(("dtype", "x"), [(torch.float32, 12.0), (torch.bfloat16, 4.0), (torch.float16, 6.0)])
def test_bits_that_rounded_to_one_are_rescued(backend: str, dtype: torch.dtype, x: float) -> None:
    leaf = torch.tensor([x, -x], dtype=dtype, device=backend, requires_grad=True)
    h = rdh_ext.amplified_tanh(leaf)
    assert h.tolist() == [1.0, -1.0]  # here 1 - h^2 is exactly 0
    h.backward(torch.sign(leaf.detach()))
    true = 1 / (1 - 0.99**2) / np.cosh(x) ** 2
    assert leaf.grad.double().abs().tolist() == pytest.approx([true, true], rel=2 * torch.finfo(dtype).eps)


def test_counting_does_not_make_a_gradient_necessary(backend: str) -> None:
    counter = BitCounter(backend)
    x = torch.randn(5, device=backend)
    for function in (rdh_ext.amplified_tanh, rdh_ext.amplified_sigmoid, rdh_ext.gradient_amplifier):
        assert not function(x, counter=counter).requires_grad
        with torch.no_grad():
            assert function(x.clone().requires_grad_(), counter=counter).grad_fn is None
        with torch.inference_mode():
            function(x, counter=counter)
    assert counter.read() == (0, 0, 0)


def test_tau_zero_is_plain_tanh(backend: str) -> None:
    x, g = torch.randn(100, device=backend), torch.randn(100, device=backend)
    _, dx = _run("tanh", x, g, tau=0.0)
    _, plain = _run("tanh", x, g, alpha=1.0)
    assert torch.equal(dx, plain)


def test_threshold_is_decided_exactly(backend: str) -> None:
    tau = torch.tensor(0.99)
    h = torch.stack([tau, torch.nextafter(tau, torch.tensor(0.0))]).to(backend).requires_grad_()
    rdh_ext.gradient_amplifier(h, tau=float(tau), alpha=3.0).sum().backward()
    assert h.grad.tolist() == [3.0, 1.0]


def test_special_values(backend: str) -> None:
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([inf, -inf, nan, 0.0, -0.0, 1e30, 5.0, 5.0, 5.0], device=backend)
    g = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, nan, 0.0, inf], device=backend)
    h, dx = _run("tanh", x, g)
    assert h.nan_to_num(7.0).tolist()[:6] == [1.0, -1.0, 7.0, 0.0, 0.0, 1.0]
    assert torch.signbit(h[4])
    assert dx.isnan().tolist() == [False, False, True, False, False, False, True, False, False]
    assert dx[0] == dx[1] == dx[5] == dx[7] == 0
    assert dx[8] == inf


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strides_and_misalignment(backend: str, dtype: torch.dtype) -> None:
    base = torch.randn(4099).to(dtype).to(backend)
    views = {
        "transposed": base[:4096].view(64, 64).t(),
        "every third": base[::3],
        "misaligned": base[1:],
        "expanded": base[:65].expand(3, 65),
        "scalar": base[7],
        "nine dimensions": base[:1024].view(2, 2, 2, 2, 2, 2, 2, 2, 4).transpose(0, 8),
    }
    for name, x in views.items():
        g = torch.flip(x, (0,)) if x.dim() else x
        h, dx = _run("tanh", x, g)
        dense_h, dense_dx = _run("tanh", x.clone(memory_format=torch.contiguous_format), g.clone())
        assert torch.equal(h, dense_h), name
        assert torch.equal(dx, dense_dx), name


def test_poisoned_buffers(backend: str) -> None:
    """Every element of every fresh buffer is written: the blocks that the allocator hands out hold NaN before."""
    for size in SIZES:
        x = torch.randn(size, device=backend)
        poison = [torch.full_like(x, float("nan")) for _ in range(8)]
        del poison
        h, dx = _run("tanh", x, torch.ones_like(x), counter=BitCounter(backend))
        assert not h.isnan().any()
        assert not dx.isnan().any()


def test_same_bits_for_any_number_of_threads() -> None:
    x, g = torch.randn(300_001), torch.randn(300_001)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = _run("tanh", x, g)
        torch.set_num_threads(2)
        two = _run("tanh", x, g)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_large_tensors_that_are_streamed_past_the_cache(backend: str) -> None:
    """Larger than any last-level cache here, and with a tail: the same values as piece by piece."""
    x = (torch.randn(6_000_003) * 5).to(backend)
    h, dx = _run("tanh", x, torch.ones_like(x))
    piece_h, piece_dx = _run("tanh", x[:1003], torch.ones(1003, device=backend))
    assert torch.equal(h[:1003], piece_h)
    assert torch.equal(dx[:1003], piece_dx)
    tail_h, tail_dx = _run("tanh", x[-5:], torch.ones(5, device=backend))
    assert torch.equal(h[-5:], tail_h)
    assert torch.equal(dx[-5:], tail_dx)


@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=40),
    tau=st.floats(0, 0.999),
    alpha=st.floats(1, 100),
    beta=st.floats(0.1, 10),
)
def test_properties(x: list[float], tau: float, alpha: float, beta: float) -> None:
    """Odd forward; the gradient is linear in scale, never flips sign, and never shrinks by amplification."""
    t = torch.tensor(x)
    g = torch.linspace(-1, 1, len(x))
    h, dx = _run("tanh", t, g, tau=tau, alpha=alpha, beta=beta)
    minus_h, minus_dx = _run("tanh", -t, -g, tau=tau, alpha=alpha, beta=beta)
    _, plain = _run("tanh", t, g, alpha=1.0, beta=beta)
    _, twice = _run("tanh", t, 2 * g, tau=tau, alpha=alpha, beta=beta)
    assert torch.equal(minus_h, -h)
    assert torch.equal(minus_dx, -dx)
    assert ((dx == 0) | (torch.sign(dx) == torch.sign(g))).all()
    assert (dx.abs() >= plain.abs()).all()
    torch.testing.assert_close(twice, 2 * dx, rtol=0, atol=1e-44)


@pytest.mark.parametrize("kind", KINDS)
def test_far_and_near_elements_side_by_side(backend: str, kind: str) -> None:
    """Where exp(-rate |x|) would be subnormal kernels go another way; an element's result is the same as if alone."""
    x = torch.tensor([0.1, 43.0, 44.5, 60.0, 100.0, float("inf"), -43.6, 2.0, float("nan")] * 7, device=backend)
    for scale in (1.0, 1e30, 1e-30):
        g = torch.full_like(x, scale)
        _, together = _run(kind, x, g)
        _, same = _run(kind, x.view(7, 9).t(), g.view(7, 9).t())
        assert torch.equal(together.view(7, 9).t().nan_to_num(7.0), same.nan_to_num(7.0))
        for i in range(9):
            _, alone = _run(kind, x[i : i + 1], g[i : i + 1])
            assert torch.equal(alone.nan_to_num(7.0), together[i : i + 1].nan_to_num(7.0))


@pytest.mark.skipif(not TABLES.exists(), reason="needs the sources of the kernels")
def test_tables_hold_what_their_program_computes() -> None:
    assert subprocess.run([sys.executable, str(TABLES), "--check"], check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(backend: str, kind: str) -> None:
    """Without amplification (alpha 1) the backward is the derivative of the forward."""
    x = torch.randn(7, 3, dtype=torch.float64, device=backend, requires_grad=True)
    function = _activation(kind)
    assert torch.autograd.gradcheck(lambda t: function(t, alpha=1.0, beta=1.7), (x,))


@pytest.mark.parametrize("device_like", ["simt", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cuda_kernels_compute_what_avx2_computes(device_like: str, kind: str, dtype: torch.dtype) -> None:
    """Bit for bit: the same formula, and IEEE operations only."""
    require("avx2", device_like)
    x = (torch.randn(100_000) * torch.exp2(torch.linspace(-8, 5, 100_000))).to(dtype)
    g = torch.randn(100_000).to(dtype)
    with use_backend("avx2"):
        expected = _run(kind, x, g, beta=1.7)
    with use_backend(device_like) as device:
        got = _run(kind, x.to(device), g.to(device), beta=1.7)
    assert torch.equal(got[0].cpu(), expected[0])
    assert torch.equal(got[1].cpu(), expected[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_opcheck(backend: str, kind: str, dtype: torch.dtype) -> None:
    x = torch.randn(5, 3, device=backend).to(dtype).requires_grad_()
    counts = BitCounter(backend).counts_on(x.device)
    ops = torch.ops.rdh_ext
    torch.library.opcheck(getattr(ops, f"amplified_{kind}").default, (x, 0.9, 5.0, 1.5, counts))
    torch.library.opcheck(getattr(ops, f"amplified_{kind}").default, (x.detach().t(), 0.9, 5.0, 1.5))
    backward_tests = ("test_schema", "test_faketensor")
    arguments = (torch.ones_like(x), x.detach(), 0.9, 5.0)
    backward = getattr(ops, f"amplified_{kind}_backward").default
    torch.library.opcheck(backward, (*arguments, 1.5, True), test_utils=backward_tests)
    torch.library.opcheck(ops.gradient_amplifier_backward.default, (*arguments, False), test_utils=backward_tests)


def test_double_backward_is_a_clear_error() -> None:
    for function in (rdh_ext.amplified_tanh, rdh_ext.amplified_sigmoid, rdh_ext.gradient_amplifier):
        x = torch.randn(3, requires_grad=True)
        (dx,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match=r"double backward .* is not supported"):
            dx.sum().backward()


@pytest.mark.parametrize("function", [rdh_ext.amplified_tanh, rdh_ext.amplified_sigmoid, rdh_ext.gradient_amplifier])
class TestBadInput:
    def test_tau(self, function) -> None:
        for tau in (-0.1, 1.0, 1.5, float("nan")):
            with pytest.raises(ValueError, match=rf"{function.__name__}: tau must be in \[0, 1\), got"):
                function(torch.zeros(2), tau=tau)
        with pytest.raises(TypeError, match="tau must be a real number"):
            function(torch.zeros(2), tau="0.9")

    def test_alpha(self, function) -> None:
        for alpha in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ValueError, match=f"{function.__name__}: alpha must be finite and > 0, got"):
                function(torch.zeros(2), alpha=alpha)

    def test_input(self, function) -> None:
        with pytest.raises(TypeError, match=r"must be a tensor of dtype float32, .* got int64 \[2\]"):
            function(torch.zeros(2, dtype=torch.int64))
        with pytest.raises(TypeError, match=r"must be a torch\.Tensor, got list"):
            function([1.0])
        with pytest.raises(TypeError, match="must be a dense"):
            function(torch.zeros(2).to_sparse())

    def test_counter(self, function) -> None:
        with pytest.raises(TypeError, match=r"counter must be an rdh_ext\.nn\.BitCounter"):
            function(torch.zeros(2), counter=3)
        with pytest.raises(ValueError, match="BitCounter: made for cpu, got a tensor on meta"):
            function(torch.zeros(2, device="meta"), counter=BitCounter("cpu"))


def test_beta() -> None:
    for beta in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="beta must be finite and > 0"):
            rdh_ext.amplified_tanh(torch.zeros(2), beta=beta)


def test_backward_op_rejects_a_gradient_that_does_not_fit() -> None:
    with pytest.raises(RuntimeError):
        torch.ops.rdh_ext.amplified_tanh_backward(torch.zeros(3), torch.zeros(2), 0.9, 5.0, 1.0, False)
