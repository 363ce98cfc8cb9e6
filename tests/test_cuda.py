"""What only a CUDA device can show: capture in a CUDA graph. The ops' own tests run there through ``backend``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import rdh_ext
from rdh_ext.nn import BitCounter

pytestmark = [pytest.mark.cuda, pytest.mark.parametrize("backend", ["cuda"], indirect=True)]

FUNCTIONS = (rdh_ext.amplified_tanh, rdh_ext.amplified_sigmoid, rdh_ext.gradient_amplifier)


def step(function: Any, x: Tensor, grad: Tensor, counter: BitCounter) -> Tensor:
    h = function(x, tau=0.5, counter=counter)
    h.backward(grad)
    return h


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_captured_step_replays_and_keeps_counting(backend: str, function: Any) -> None:
    grad = torch.randn(1000, device="cuda")
    x = torch.zeros(1000, device="cuda", requires_grad=True)
    counter = BitCounter("cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # the warm-up also gives the counts the memory that the graph adds to
        for _ in range(3):
            step(function, x, grad, counter)
    torch.cuda.current_stream().wait_stream(side)
    x.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        h = step(function, x, grad, counter)

    fresh = torch.randn(1000, device="cuda")
    with torch.no_grad():
        x.copy_(fresh)
    counter.reset()
    for _ in range(2):
        graph.replay()

    eager, eager_counter = fresh.clone().requires_grad_(), BitCounter("cuda")
    assert torch.equal(h, step(function, eager, grad, eager_counter))
    assert torch.equal(x.grad, eager.grad)
    once = eager_counter.read()
    assert once.dead > 0
    assert tuple(counter.read()) == tuple(2 * count for count in once)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("multi_hot", [False, True])
def test_a_captured_loss_replays(backend: str, precision: str, multi_hot: bool) -> None:
    """Weights are counted, ids numbered and sums made without a word to the host, for whatever memory holds then."""

    def labels_of(n: int) -> Tensor:
        return torch.rand(n, 80, device="cuda") < 0.05 if multi_hot else torch.randint(0, 10, (n,), device="cuda")

    def loss_of(h: Tensor) -> Tensor:
        return rdh_ext.pairwise_loss(h, labels, bank, bank_labels, pair_weights="balanced")

    h = torch.randn(130, 64, device="cuda", requires_grad=True)
    bank, labels, bank_labels = torch.randn(3000, 64, device="cuda"), labels_of(130), labels_of(3000)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                loss_of(h).backward()
        torch.cuda.current_stream().wait_stream(side)
        h.grad = None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = loss_of(h)
            captured.backward()
        with torch.no_grad():
            for tensor in (h, bank):
                tensor.copy_(torch.randn_like(tensor))
            labels.copy_(labels_of(130))
            bank_labels.copy_(labels_of(3000))
        graph.replay()
        fresh = h.detach().clone().requires_grad_()
        expected = loss_of(fresh)
        expected.backward()
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(captured, expected)
    assert torch.equal(h.grad, fresh.grad)
