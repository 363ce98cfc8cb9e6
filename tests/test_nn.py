"""The modules as citizens of a model: rescue_, printing, saving, copying, counting."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import rdh_ext
from rdh_ext.nn import AmplifiedSigmoid, AmplifiedTanh, BitCounter, BitCounts, GradientAmplifier, rescue_

MODULES = (AmplifiedTanh, AmplifiedSigmoid, GradientAmplifier)
FUNCTIONS = {
    AmplifiedTanh: rdh_ext.amplified_tanh,
    AmplifiedSigmoid: rdh_ext.amplified_sigmoid,
    GradientAmplifier: rdh_ext.gradient_amplifier,
}


def gradient(function: Any, x: torch.Tensor) -> torch.Tensor:
    leaf = x.detach().clone().requires_grad_()
    function(leaf).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("kind", MODULES)
def test_module_is_its_function(kind: Any) -> None:
    x = torch.randn(5, 7) * 4
    module, function = kind(0.9, 3.0), FUNCTIONS[kind]
    assert torch.equal(module(x), function(x, 0.9, 3.0))
    assert torch.equal(gradient(module, x), gradient(lambda v: function(v, 0.9, 3.0), x))
    assert not torch.equal(gradient(module, x), gradient(kind(0.9, 2.0), x))


def test_beta_may_change_between_steps() -> None:
    x, module = torch.randn(9), AmplifiedTanh()
    for beta in (1.0, 2.5, 10.0):
        module.beta = beta
        assert torch.equal(module(x), rdh_ext.amplified_tanh(x, beta=beta))
    module.beta = -1.0
    with pytest.raises(ValueError, match="beta must be finite and > 0"):
        module(x)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (AmplifiedTanh(), "AmplifiedTanh(tau=0.99)"),
        (AmplifiedTanh(0.5, 3, beta=2.0), "AmplifiedTanh(tau=0.5, alpha=3, beta=2)"),
        (AmplifiedSigmoid(alpha=1.5), "AmplifiedSigmoid(tau=0.99, alpha=1.5)"),
        (GradientAmplifier(0.0), "GradientAmplifier(tau=0)"),
    ],
)
def test_repr(module: nn.Module, text: str) -> None:
    assert repr(module) == text


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tau": 1.0}, ValueError, r"tau must be in \[0, 1\), got 1.0"),
        ({"tau": -0.1}, ValueError, "tau must be"),
        ({"tau": math.nan}, ValueError, "tau must be"),
        ({"tau": "0.9"}, TypeError, "tau must be a real number"),
        ({"alpha": 0.0}, ValueError, "alpha must be finite and > 0, got 0.0"),
        ({"alpha": math.inf}, ValueError, "alpha must be"),
    ],
)
def test_wrong_parameters_fail_when_made(kind: Any, arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{kind.__name__}: {message}"):
        kind(**arguments)


def test_nothing_to_save() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Sigmoid())
    keys = list(model.state_dict())
    assert rescue_(model, counter=BitCounter("cpu")) == 2
    assert list(model.state_dict()) == keys
    assert model.load_state_dict(nn.Sequential(nn.Linear(4, 3), nn.Tanh()).state_dict()).missing_keys == []
    assert list(model.buffers()) == []


def save_and_load(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), save_and_load])
def test_copies(copied: Any) -> None:
    """A copy computes the same, and its modules count together into a counter of their own."""
    counter = BitCounter("cpu")
    model = nn.Sequential(
        nn.Linear(6, 4), AmplifiedTanh(0.9, 3.0, 2.0, counter=counter), GradientAmplifier(counter=counter)
    )
    twin = copied(model)
    x = torch.randn(3, 6)
    assert repr(twin) == repr(model)
    assert torch.equal(twin(x), model(x))
    assert twin[1].counter is twin[2].counter
    twin(x).sum().backward()
    assert counter.read().total == 0
    assert twin[1].counter.read().total == 2 * 3 * 4
    model(x).sum().backward()
    assert counter.read().total == 2 * 3 * 4
    assert torch.equal(twin[0].weight.grad, model[0].weight.grad)


# ---- rescue_


class Gate(nn.Sigmoid):
    """A subclass, whose forward may be anything."""


class Block(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"act": activation, "gate": Gate()})
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Sigmoid()])
        self.nothing: nn.Module | None = None
        self.register_module("empty", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[1](self.layers[0](self.inner["gate"](self.inner["act"](x))))


def test_rescue_reaches_everywhere_and_keeps_sharing() -> None:
    shared = nn.Tanh()
    model = nn.Sequential(Block(shared), nn.Sequential(shared, nn.Linear(4, 4)), Block(nn.Tanh()), shared)
    x = torch.randn(2, 4)
    before = model(x)
    assert rescue_(model, 0.8, 2.0) == 4  # the shared tanh once, one tanh, two sigmoids
    twin = model[3]
    assert type(twin) is AmplifiedTanh
    assert model[0].inner["act"] is twin
    assert model[1][0] is twin
    assert model[2].inner["act"] is not twin
    for block in (model[0], model[2]):
        assert type(block.layers[1]) is AmplifiedSigmoid
        assert type(block.inner["gate"]) is Gate
        assert (block.layers[1].tau, block.layers[1].alpha, block.layers[1].beta) == (0.8, 2.0, 1.0)
    assert torch.allclose(model(x), before, rtol=1e-5, atol=1e-6)
    assert rescue_(model) == 0


def test_rescue_amplifies() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh())
    nn.init.constant_(model[0].weight, 12.0)
    gradients = []
    for rescued in (False, True):
        if rescued:
            assert rescue_(model) == 1
        model.zero_grad()
        model(torch.ones(1, 1)).sum().backward()
        gradients.append(float(model[0].weight.grad))
    truth = 4 * math.exp(-24.0) / (1 + math.exp(-24.0)) ** 2 / (1 - 0.99**2)
    assert gradients[0] == 0.0
    assert gradients[1] == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_rescue_keeps_mode_hooks_and_attributes(training: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).train(training)
    calls: list[str] = []
    model[1].register_forward_pre_hook(lambda module, inputs: calls.append("pre"))
    handle = model[1].register_forward_hook(lambda module, inputs, output: calls.append(type(module).__name__))
    model[1].register_full_backward_hook(lambda module, grad_in, grad_out: calls.append("back"))
    model[1].name = "bits"
    assert rescue_(model) == 1
    assert model[1].training is training
    assert model[1].name == "bits"
    model(torch.randn(2, 3)).sum().backward()
    assert calls == ["pre", "AmplifiedTanh", "back"]
    handle.remove()
    model(torch.randn(2, 3))
    assert calls[3:] == ["pre"]


def test_rescue_leaves_an_instance_with_a_forward_of_its_own() -> None:
    model = nn.Sequential(nn.Tanh(), nn.Tanh())
    model[0].forward = torch.relu
    assert rescue_(model) == 1
    assert type(model[0]) is nn.Tanh
    assert type(model[1]) is AmplifiedTanh


def test_rescue_shares_the_counter() -> None:
    counter = BitCounter("cpu")
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Sigmoid())
    assert rescue_(model, counter=counter) == 2
    model(torch.randn(6, 5)).sum().backward()
    assert counter.read().total == 6 * (4 + 3)


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (nn.Tanh(), {}, ValueError, "got a bare Tanh; use rdh_ext.nn.AmplifiedTanh"),
        (nn.Sigmoid(), {}, ValueError, "got a bare Sigmoid; use rdh_ext.nn.AmplifiedSigmoid"),
        (torch.tanh, {}, TypeError, "model must be a torch.nn.Module, got builtin_function_or_method"),
        (nn.Sequential(nn.Tanh()), {"tau": 1.0}, ValueError, r"tau must be in \[0, 1\)"),
        (nn.Sequential(), {"alpha": -1.0}, ValueError, "alpha must be finite and > 0"),
    ],
)
def test_rescue_refuses(model: Any, arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=f"^rescue_: .*{message}"):
        rescue_(model, **arguments)


def test_rescue_that_fails_changes_nothing() -> None:
    model = nn.Sequential(nn.Tanh())
    with pytest.raises(ValueError, match="tau"):
        rescue_(model, 1.0)
    assert type(model[0]) is nn.Tanh


# ---- BitCounter


def test_counter_over_several_modules_and_steps() -> None:
    """Against counts made by hand from the definition."""
    counter = BitCounter("cpu")
    tanh, sigmoid = AmplifiedTanh(0.9, counter=counter), AmplifiedSigmoid(0.9, counter=counter)
    x, g = torch.randn(40, 8, dtype=torch.float64) * 4, torch.randn(40, 8, dtype=torch.float64)
    expected = [0, 0, 0]
    for _ in range(3):
        for module, bit in ((tanh, torch.tanh(x)), (sigmoid, 2 * torch.sigmoid(x) - 1)):
            module(x.requires_grad_()).backward(g)
            saturated = bit.abs() >= 0.9
            expected[0] += int((saturated & (bit.sign() == g.sign())).sum())
            expected[1] += int(saturated.sum())
            expected[2] += bit.numel()
    counts = counter.read(reset=False)
    assert counts == tuple(expected)
    assert counts.dead_fraction == expected[0] / expected[2]
    assert counts.saturated_fraction == expected[1] / expected[2]
    assert counter.read() == counts
    assert counter.read() == (0, 0, 0)


def test_empty_counts_divide_by_nothing() -> None:
    assert (BitCounts(0, 0, 0).dead_fraction, BitCounts(0, 0, 0).saturated_fraction) == (0.0, 0.0)


def test_counter_without_gradients_counts_nothing() -> None:
    counter = BitCounter("cpu")
    module = AmplifiedTanh(counter=counter)
    with torch.no_grad():
        module(torch.ones(3))
    assert counter.read().total == 0


def test_counting_does_not_change_gradients() -> None:
    x = torch.randn(6, 5) * 5
    for kind in MODULES:
        assert torch.equal(gradient(kind(counter=BitCounter("cpu")), x), gradient(kind(), x))


def test_counter_for_another_device() -> None:
    with pytest.raises(ValueError, match=r"^BitCounter: made for cpu, got a tensor on meta; use BitCounter\(device="):
        AmplifiedTanh(counter=BitCounter("cpu"))(torch.empty(3, device="meta"))


@pytest.mark.parametrize("make", [*MODULES, lambda counter: rescue_(nn.Sequential(nn.Tanh()), counter=counter)])
def test_counter_of_the_wrong_type_fails_when_made(make: Any) -> None:
    name = make.__name__ if make in MODULES else "rescue_"
    with pytest.raises(TypeError, match=rf"^{name}: counter must be an rdh_ext.nn.BitCounter or None, got list"):
        make(counter=[0, 0, 0])


def test_every_backward_pass_counts_until_the_reset() -> None:
    counter = BitCounter("cpu")
    x = torch.tensor([9.0, -9.0, 0.0], requires_grad=True)
    loss = AmplifiedTanh(counter=counter)(x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert counter.read(reset=False) == (2, 4, 6)
    x.grad = None  # what an optimizer's zero_grad does: the counts are nobody's parameter
    assert counter.read(reset=False) == (2, 4, 6)
    counter.reset()
    assert counter.read() == (0, 0, 0)
    loss = AmplifiedTanh(counter=counter)(x).sum()
    loss.backward()
    assert counter.read() == (1, 2, 3)


def test_reset_keeps_the_memory() -> None:
    """A captured CUDA graph goes on adding to the address that it has seen."""
    counter = BitCounter("cpu")
    counter.reset()  # before anything was counted
    gradient(AmplifiedTanh(counter=counter), torch.ones(3))
    address = counter.counts_on(torch.device("cpu")).grad.data_ptr()
    assert counter.read().total == 3
    gradient(AmplifiedTanh(counter=counter), torch.ones(3))
    assert counter.counts_on(torch.device("cpu")).grad.data_ptr() == address


def test_counter_names_its_devices() -> None:
    assert repr(BitCounter("cpu")) == "BitCounter(device=cpu)"
    assert repr(BitCounter()).startswith("BitCounter(device=cpu")
    assert BitCounter(torch.device("meta")).counts_on(torch.device("meta")).is_meta


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("gpu0", ValueError, "device must be a device that is here, got 'gpu0'"),
        ("cuda:99", ValueError, "device must be a device that is here, got 'cuda:99'"),
        (-1, ValueError, "device must be a device that is here, got -1"),
        (1.5, TypeError, "device must be a torch.device, its name or its index, got float 1.5"),
        (["cpu"], TypeError, "device must be a torch.device, its name or its index, got list"),
    ],
)
def test_counter_for_a_device_that_is_not_here(device: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^BitCounter: {message}"):
        BitCounter(device)
