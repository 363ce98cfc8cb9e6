"""amplified_tanh, amplified_sigmoid and gradient_amplifier: forward and backward, against plain torch.

``eager`` is the activation and a hook that applies Eq. 3, ``eager, best form`` an autograd.Function that does the same
from the saved h, ``torch.compile`` the compiled function. All of them amplify what h says; ``torch.tanh alone`` does
not amplify, and is no rival: it says what the activation costs anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from _ceilings import copying
from _measure import at_level
from _problem import OURS, Case, Op, Problem, Provider, Wrong
from costs import amplified, gradient_amplifier
from torch import Tensor

import rdh_ext
from rdh_ext import _native

TAU = 0.99
ALPHA = 1 / (1 - TAU * TAU)
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float64")}
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-13}  # of gradients, relative, in norm
FROM_H = {"float32": 1e-2, "bfloat16": 0.5, "float64": 1e-9}  # the same of those who have h alone, which is rounded

Function = Callable[[Tensor], Tensor]
PLAIN: dict[str, Function] = {
    "amplified_tanh": torch.tanh,
    "amplified_sigmoid": torch.sigmoid,
    "gradient_amplifier": lambda h: h,
}
OURS_OF: dict[str, Function] = {
    "amplified_tanh": rdh_ext.amplified_tanh,
    "amplified_sigmoid": rdh_ext.amplified_sigmoid,
    "gradient_amplifier": rdh_ext.gradient_amplifier,
}


def bit_of(op: str, h: Tensor) -> Tensor:
    """What Eq. 3 compares with tau: of the sigmoid 2 h - 1."""
    return 2 * h - 1 if op == "amplified_sigmoid" else h


def amplify(op: str, h: Tensor, grad: Tensor) -> Tensor:
    bit = bit_of(op, h)
    return torch.where((bit.abs() >= TAU) & (torch.sign(bit) == torch.sign(grad)), ALPHA * grad, grad)


def derivative(op: str, h: Tensor, grad: Tensor) -> Tensor:
    """dL/dx from the amplified gradient."""
    return {
        "amplified_tanh": lambda: grad * (1 - h * h),
        "amplified_sigmoid": lambda: grad * h * (1 - h),
        "gradient_amplifier": lambda: grad,
    }[op]()


def hooked(op: str) -> Function:
    """The activation, and a hook."""

    def run(x: Tensor) -> Tensor:
        h = PLAIN[op](x)
        if op == "gradient_amplifier":
            h = h.view_as(h)
        saved = h.detach()
        h.register_hook(lambda grad: amplify(op, saved, grad))
        return h

    return run


def by_function(op: str) -> Function:
    """An autograd.Function."""

    class Amplified(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            h = PLAIN[op](x)
            h = h.view_as(h) if op == "gradient_amplifier" else h
            ctx.save_for_backward(h)
            return h

        @staticmethod
        def backward(ctx, grad):
            (h,) = ctx.saved_tensors
            return derivative(op, h, amplify(op, h, grad))

    return lambda x: Amplified.apply(x)


def true_gradient(op: str, x: Tensor, grad: Tensor) -> Tensor:
    """Eq. 3 in float64, from the logit."""
    wide, g = x.detach().double(), grad.double()
    if op == "gradient_amplifier":
        return amplify(op, wide, g)
    half = wide if op == "amplified_tanh" else wide / 2
    slope = (1.0 if op == "amplified_tanh" else 0.25) / torch.cosh(half).square()
    threshold = torch.atanh(torch.tensor(TAU, dtype=torch.float64))
    dead = (half.abs() >= threshold) & (torch.sign(half) == torch.sign(g))
    return torch.where(dead, ALPHA * g, g) * slope  # two numbers would be rounded to float32


def build(case: Case) -> Problem:
    rows, bits, dtype = int(case.sizes["rows"]), int(case.sizes["bits"]), str(case.sizes["dtype"])
    x = (2 * torch.randn(rows, bits)).to(case.device, DTYPES[dtype])
    if case.op == "gradient_amplifier":
        x = torch.tanh(x)
    x.requires_grad_()
    grad = torch.randn(rows, bits).to(case.device, DTYPES[dtype])
    true = true_gradient(case.op, x, grad)

    def training_step(function: Function, *, tolerance: float = TOLERANCE[dtype]) -> Provider:
        def check(result: object) -> float:
            assert isinstance(result, tuple)
            (found,) = result
            error = float((found.double() - true).norm() / true.norm().clamp_min(1e-300))
            if not error <= tolerance:
                raise Wrong(f"its gradient is off by {error:.1e}")
            return error

        return Provider(lambda: torch.autograd.grad(function(x), x, grad), check)

    ours = training_step(OURS_OF[case.op])
    element = x.element_size()
    cost = (gradient_amplifier if case.op == "gradient_amplifier" else amplified)(rows, bits, element)
    problem = Problem(
        f"{rows:,} x {bits}, {dtype}", cost, {OURS: Provider(ours.step, ours.check, "rdh_ext", kind=OURS)}
    )
    if case.device == "cpu" and "avx2" in _native.cpu_levels()[:-1]:
        slower = Provider(at_level("avx2", ours.step), ours.check, "rdh_ext", kind=OURS)
        problem.add(f"{OURS} avx2", lambda: slower)
    loose = FROM_H[dtype]
    best = by_function(case.op)
    compiled = torch.compile(lambda t: best(t), fullgraph=True, dynamic=False)
    problem.add("eager", lambda: training_step(hooked(case.op), tolerance=loose))
    problem.add("eager, best form", lambda: training_step(best, tolerance=loose))
    problem.add("torch.compile", lambda: training_step(compiled, tolerance=loose))
    if case.op != "gradient_amplifier":
        name = f"torch.{PLAIN[case.op].__name__} alone"
        problem.add(name, lambda: Provider(lambda: torch.autograd.grad(PLAIN[case.op](x), x, grad)))
    problem.set_ceiling(lambda: copying(case, cost))
    return problem


def _op(name: str, title: str, sweeps: dict[str, tuple[int | str, ...]]) -> Op:
    return Op(
        name,
        title,
        "forward+backward",
        build,
        default={"rows": 4096, "bits": 64, "dtype": "float32"},
        sweeps=sweeps,
        base={"threads": {"rows": 262_144}},
        quick={} if name == "amplified_tanh" else None,
        device_sizes={"cuda": {"rows": 1_048_576}},
        tests=("tests/ops/test_gradient_amplifier.py",),
    )


ROWS = (1, 16, 128, 1024, 4096, 32_768, 262_144)
OPS = (
    _op("amplified_tanh", "tanh with the gradient amplifier", {"rows": ROWS, "dtype": tuple(DTYPES), "threads": ()}),
    _op("amplified_sigmoid", "sigmoid with the gradient amplifier", {}),
    _op("gradient_amplifier", "the gradient amplifier alone", {}),
)
