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
