"""A short test of an installed rdh_ext that needs nothing but torch and numpy: the last line says what ran.

    python tests/build/smoke.py             # all of it
    python tests/build/smoke.py --quick     # without compile, export and opcheck

Run by ``abi.py`` and ``install.py`` in environments that have no pytest. A failed check is a traceback and
exit status 1.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

import rdh_ext
from rdh_ext import _native
from rdh_ext.ops import _library

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
PACKAGE = Path(rdh_ext.__file__).parent
INFO = rdh_ext.build_info()
ARGUMENTS = (0.9, 3.0, 1.3)  # tau, alpha, beta


def check_loaded() -> None:
    """The installed package runs: the CPU library always, the CUDA library where it was built and torch has CUDA."""
    assert PACKAGE.is_relative_to(sys.prefix), f"{PACKAGE} is not the installed package"
    assert INFO["cpu_native"], INFO["cpu_reason"]
    assert INFO["introspection"], INFO["introspection_reason"]
    built = (PACKAGE / "_ops_cuda.so").exists()
    assert INFO["cuda_native"] == (built and bool(torch.version.cuda)), INFO["cuda_reason"]
    assert bool(INFO["cuda_reason"]) != INFO["cuda_native"]
    assert bool(INFO["cuda_release"]) == built
    assert "no CUDA" not in INFO["cuda_reason"] or not torch.version.cuda or not built


def inputs(dtype: torch.dtype, device: str) -> list[tuple[Tensor, Tensor]]:
    """Logits and gradients: all sizes around a vector's, special values, a transposed view."""
    torch.manual_seed(0)
    sizes = [(0,), (1,), (63,), (65,), (1000,), (7, 9)]
    logits = [(torch.randn(size) * 6).to(dtype) for size in sizes]
    logits.append(torch.tensor([0.0, -0.0, 4.0, 12.0, -12.0, torch.inf, -torch.inf, torch.nan]).to(dtype))
    logits.append(logits[5].t())
    return [(x.to(device), torch.randn(x.shape).to(dtype).to(device)) for x in logits]


def check_values(dtype: torch.dtype, device: str) -> None:
    """Forward, backward and counts are the reference's, which is computed in float64 (and loses a few digits there)."""
    relative = (200 if dtype == torch.float64 else 5) * torch.finfo(dtype).eps
    for name in ("amplified_tanh", "amplified_sigmoid"):
        for x, g in inputs(dtype, device):
            counter = rdh_ext.nn.BitCounter(device)
            leaf = x.clone().requires_grad_()
            h = getattr(rdh_ext, name)(leaf, *ARGUMENTS, counter=counter)
            h.backward(g)
            true = _library.REFERENCES[name](x, *ARGUMENTS)
            dx, counts = _library.REFERENCES[f"{name}_backward"](g, x, *ARGUMENTS, True)
            limits = {"rtol": relative, "atol": torch.finfo(dtype).smallest_normal, "equal_nan": True}
            assert_close(h.detach(), true, **limits)
            assert_close(leaf.grad, dx, **limits)
            assert list(counter.read()) == [int(count) for count in counts]


def check_counter_and_errors() -> None:
    """The counts of a case that can be done by hand; wrong input and a double backward end in words."""
    counter = rdh_ext.nn.BitCounter("cpu")
    x = torch.tensor([8.0, -8.0, 0.1], requires_grad=True)
    rdh_ext.amplified_tanh(x, counter=counter).sum().backward()
    assert counter.read() == (1, 2, 3)
    for bad, error in (
        (lambda: rdh_ext.amplified_tanh(torch.arange(3)), TypeError),
        (lambda: rdh_ext.amplified_tanh(x, tau=1.0), ValueError),
        (lambda: double_backward(rdh_ext.amplified_tanh), RuntimeError),
        (lambda: double_backward(torch.ops.rdh_ext.amplified_tanh.default, *ARGUMENTS), RuntimeError),
    ):
        words = complaint_of(bad, error)
        assert words.startswith("amplified_tanh: "), words


def complaint_of(function: Callable[[], object], error: type[Exception]) -> str:
    """The text of the error that the call ends in."""
    try:
        function()
    except error as caught:
        return str(caught)
    raise AssertionError(f"no {error.__name__}")


def double_backward(function: Any, *arguments: float) -> None:
    """A gradient of a gradient."""
    x = torch.tensor([0.5], requires_grad=True)
    (slope,) = torch.autograd.grad(function(x, *arguments).sum(), x, create_graph=True)
    slope.sum().backward()


def check_op() -> None:
    """The bare op, without the public function around it, has its gradient and passes PyTorch's own test."""
    op = torch.ops.rdh_ext.amplified_tanh.default
    for dtype in DTYPES:
        x = torch.randn(5, 3).to(dtype).requires_grad_()
        torch.library.opcheck(op, (x, *ARGUMENTS))
    x = torch.randn(9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: op(t, 0.0, 1.0, 1.3), x)


def check_compile() -> None:
    """The default compiler, in one graph, with a counter; and export."""

    def loss(x: Tensor, weight: Tensor, counter: Any) -> Tensor:
        return rdh_ext.amplified_tanh(x @ weight, *ARGUMENTS, counter=counter).square().sum()

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True)):
        torch.manual_seed(0)
        x, weight = torch.randn(16, 8), (3 * torch.randn(8, 12)).requires_grad_()
        counter = rdh_ext.nn.BitCounter("cpu")
        value = function(x, weight, counter)
        value.backward()
        results.append((value.detach(), weight.grad, counter.read()))
    assert_close(results[0][:2], results[1][:2])
    assert results[0][2] == results[1][2]
    assert results[0][2].dead > 0
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Tanh())
    assert rdh_ext.nn.rescue_(model) == 1
    exported = torch.export.export(model, (x,))
    assert "amplified_tanh" in str(exported.graph)


def check_the_rest() -> None:
    """Every other public function, once."""
    h = torch.tensor([[0.9, -0.9], [0.8, -0.7], [-0.9, 0.8]], requires_grad=True)
    labels = torch.tensor([0, 0, 1])
    rdh_ext.pairwise_loss(rdh_ext.gradient_amplifier(h), labels).backward()
    assert h.grad.isfinite().all()
    codes = rdh_ext.pack_codes(h.detach())
    assert_close(rdh_ext.unpack_codes(codes, 2), h.detach().sign())
    assert rdh_ext.hamming_distance(codes, codes).tolist() == [[0, 0, 2], [0, 0, 2], [2, 2, 0]]
    assert rdh_ext.hamming_topk(codes, codes, 1)[0].tolist() == [[0], [0], [0]]
    assert rdh_ext.evaluate(codes, codes, labels, labels).map == 1.0


def digest(name: str) -> str:
    """The start of a library's SHA-256, or "-" where it is not."""
    path = PACKAGE / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.exists() else "-"


def main() -> None:
    """Runs everything, prints one JSON line."""
    torch.set_num_threads(1)
    check_loaded()
    devices = ["cpu"] + ["cuda"] * (INFO["cuda_native"] and torch.cuda.is_available())
    for level in _native.cpu_levels():
        with _native.forced_cpu_level(level):
            for dtype in DTYPES:
                check_values(dtype, "cpu")
    if "cuda" in devices:
        for dtype in DTYPES:
            check_values(dtype, "cuda")
    check_counter_and_errors()
    check_the_rest()
    if "--quick" not in sys.argv:
        check_op()
        check_compile()
    libraries = {name: digest(name) for name in ("_ops_cpu.so", "_ops_cuda.so")}
    print(json.dumps({"info": INFO, "devices": devices, "shortcut": _library.SHORTCUT, "libraries": libraries}))


main()
