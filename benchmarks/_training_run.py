"""What one fresh process of the benchmark of a training step does: ``_training_run.py time|memory '{"title": ...}'``.

Prints one line of JSON. training_step.py starts it.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from _measure import machine
from _pairwise_run import peak_growth
from _training_peers import CLASSES, Bank, Case, Items, Loss, forms, hot_rows
from torch import Tensor, nn

from rdh_ext.hashing.backbones import make_backbone
from rdh_ext.hashing.engine.module import FLUSH_STEPS, HashingModule
from rdh_ext.hashing.history import Schedule, StepRecord
from rdh_ext.hashing.methods import HashingMethod
from rdh_ext.nn import AmplifiedTanh

SHAPES: dict[str, tuple[int, ...]] = {"mlp": (512,), "alexnet": (3, 224, 224)}
OPTIONS = {"alexnet": {"weights": "none"}}
SCHEDULE = Schedule(epochs=1, lr=0.01)  # the paper's rate
BATCHES = {"mlp": 8, "alexnet": 2}  # different ones, taken in turn
LOGITS = 2.0  # their deviation, of a network in the middle of its training: a bit in five or six is saturated
DIFFERENCE = {"loss": 1e-5, "logits": 1e-4, "parameters": 1e-4}  # relative, of float32 from float32
TAU = 0.99  # of all methods

Batches = Iterator[tuple[Tensor, Items]]
ValueOf = Callable[[Tensor, Items], Tensor]  # inputs of a network, or logits -> loss
Step = Callable[[], Tensor]  # returns the loss
Samples = dict[str, list[float]]  # of a provider, round by round


@dataclass(frozen=True)
class Problem:
    """Network, batches and bank that all providers have in common."""

    backbone: nn.Module
    optimizer: torch.optim.Optimizer
    batches: list[tuple[Tensor, Items]]
    outputs: Tensor  # of all training items [N, K]
    labels: Tensor  # [N]

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def method(self, case: Case) -> HashingMethod:
        """A method of its own, with all items in its bank where it has one."""
        method = case.method(self.outputs.size(1)).to(self.device)
        method.begin(self.labels, len(self.batches))
        bank = getattr(method, "bank", None)
        if bank is not None:
            bank.update(torch.arange(len(self.labels), device=self.device), self.outputs)
        return method

    def bank(self, method: HashingMethod) -> Bank | None:
        """What a peer keeps in its place."""
        return None if getattr(method, "bank", None) is None else Bank.of(self.outputs.clone(), self.labels)


def make_problem(
    backbone: str,
    rows: int,
    bits: int,
    items: int,
    shape: tuple[int, ...],
    device: torch.device,
    labels: Tensor | None = None,
) -> Problem:
    """Random inputs, and labels (class ids where none are given); the last layer scaled so that logits deviate by
    ``LOGITS``."""
    network = make_backbone(backbone, bits, shape, OPTIONS.get(backbone)).to(device)
    labels = torch.randint(0, CLASSES, (items,), device=device) if labels is None else labels.to(device)
    order = torch.randperm(items, device=device)
    batches = []
    for index in itertools.islice(order.split(rows), BATCHES[backbone]):
        ids = labels[index]
        batches.append((torch.randn(rows, *shape, device=device), Items(ids, hot_rows(ids), index)))
    head = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        scale = LOGITS / network(batches[0][0]).std()
        head.weight.mul_(scale)
        head.bias.mul_(scale)
    outputs = torch.tanh(LOGITS * torch.randn(items, bits, device=device))
    rates = {"lr": SCHEDULE.lr, "momentum": SCHEDULE.momentum, "weight_decay": SCHEDULE.weight_decay}
    return Problem(network, torch.optim.SGD(network.parameters(), **rates), batches, outputs, labels)


def uncounted(method: HashingMethod) -> HashingMethod:
    """With the activation that somebody has who counts nothing."""
    method.activation = AmplifiedTanh(method.tau) if method.amplifier else nn.Tanh()
    return method


def loss_of(method: HashingMethod) -> Loss:
    return lambda logits, items: method.loss(method(logits), items.labels, items.index).total


class CountedByHook:
    """The counts of a step in plain torch, from h and its gradient; kept as tensors, nobody waits for them."""

    def __init__(self, method: HashingMethod) -> None:
        self.method, self.counts = method, []

    def __call__(self, logits: Tensor, items: Items) -> Tensor:
        h = self.method(logits)
        kept = h.detach()

        def count(grad: Tensor) -> None:
            saturated = kept.abs() >= self.method.tau
            dead = saturated & (torch.sign(kept) == torch.sign(grad))
            self.counts = [dead.sum(), saturated.sum()]

        h.register_hook(count)
        return self.method.loss(h, items.labels, items.index).total


def loss_step(value_of: ValueOf, batches: Batches, record: Callable[[], None]) -> Step:
    """Forward, and backward to the inputs, which are logits."""

    def run() -> Tensor:
        inputs, items = next(batches)
        inputs.grad = None
        value = value_of(inputs, items)
        value.backward()
        record()
        return value

    return run


def whole_step(value_of: ValueOf, batches: Batches, record: Callable[[], None], problem: Problem) -> Step:
    """Forward, backward and step of the optimiser, in the order that the engine has them in."""

    def run() -> Tensor:
        inputs, items = next(batches)
        value = value_of(inputs, items)
        problem.optimizer.zero_grad()
        value.backward()
        record()
        problem.optimizer.step()
        return value

    return run


def losses_of(case: Case, problem: Problem) -> dict[str, Loss]:
    """Name -> activation and loss, each with a bank of its own."""
    found = {
        "rdh_ext": loss_of(uncounted(problem.method(case))),
        "counting": loss_of(problem.method(case)),
        "counting by a hook": CountedByHook(uncounted(problem.method(case))),
    }
    settings = problem.method(case)
    with_bank = problem.bank(settings) is not None
    return found | {name: form(settings, problem.bank(settings)) for name, form in forms(with_bank).items()}


def recorded(
    case: Case, problem: Problem, backbone: nn.Module, on_records: Callable[[list[StepRecord]], None] = lambda _: None
) -> tuple[ValueOf, Callable[[], None]]:
    """The engine's forward pass, and what it does with a step before the optimiser: all but Lightning."""
    module = HashingModule(backbone, problem.method(case), SCHEDULE, on_records)

    def value_of(inputs: Tensor, items: Items) -> Tensor:
        return module.training_step((inputs, items.labels, items.index), 0)

    return value_of, lambda: module.on_before_optimizer_step(problem.optimizer)


def steps_of(mode: str, case: Case, problem: Problem, losses: dict[str, Loss]) -> dict[str, Step]:
    """``<mode>/<name>`` -> one step, of every loss and of the engine with its records."""
    backbone, batches = problem.backbone, problem.batches
    if mode == "loss":
        backbone = nn.Identity()
        size = (batches[0][1].labels.numel(), problem.outputs.size(1))
        batches = [((LOGITS * torch.randn(size, device=problem.device)).requires_grad_(), each) for _, each in batches]

    def step(value_of: ValueOf, record: Callable[[], None] = lambda: None) -> Step:
        turns = itertools.cycle(batches)
        return loss_step(value_of, turns, record) if mode == "loss" else whole_step(value_of, turns, record, problem)

    def through_network(loss: Loss) -> ValueOf:
        return lambda inputs, items: loss(backbone(inputs), items)

    found = {name: step(through_network(loss)) for name, loss in losses.items()}
    found = {"rdh_ext": found.pop("rdh_ext"), "records": step(*recorded(case, problem, backbone)), **found}
    return {f"{mode}/{name}": each for name, each in found.items()}


def logits_of(problem: Problem, inputs: Tensor) -> Tensor:
    """With the same dropout every time."""
    with torch.random.fork_rng():
        return problem.backbone(inputs)


def clear_batch(problem: Problem) -> tuple[Tensor, Items]:
    """The first without a bit so near to tau that rounding decides whether it is saturated."""
    for batch in problem.batches:
        h = torch.tanh(logits_of(problem, batch[0]).detach())
        if not bool(((h.abs() - TAU).abs() < 1e-6).any()):
            return batch
    return problem.batches[0]


def _relative(value: Tensor, true: Tensor) -> float:
    return float((value - true).norm() / true.norm())


def differences(problem: Problem, losses: dict[str, Loss]) -> dict[str, dict[str, float]]:
    """Loss, gradient of the logits and gradient of all parameters, relative to those of rdh_ext, on one batch.

    Raises:
        SystemExit: they are not the same.
    """
    inputs, items = clear_batch(problem)
    found: dict[str, dict[str, Tensor]] = {}
    for name, loss in losses.items():
        logits = logits_of(problem, inputs)
        logits.retain_grad()
        value = loss(logits, items)
        problem.optimizer.zero_grad()
        value.backward()
        parameters = torch.cat([each.grad.flatten() for each in problem.backbone.parameters()])
        found[name] = {"loss": value.detach(), "logits": logits.grad, "parameters": parameters}
    problem.optimizer.zero_grad()
    result = {}
    for name, values in found.items():
        result[name] = {kind: _relative(value, found["rdh_ext"][kind]) for kind, value in values.items()}
        if not all(result[name][kind] < limit for kind, limit in DIFFERENCE.items()):
            sys.exit(f"{name} does not compute what rdh_ext computes: {result[name]}")
    return result


def synchronize(device: torch.device) -> None:
    """Waits for what has been queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Block:
    """Steps as they are queued in a training, with one wait for the device at their end: ``number`` of them, as many as
    take about ``seconds``; where that is many, a multiple of those after which the engine fetches its records."""

    def __init__(self, step: Step, device: torch.device, seconds: float) -> None:
        self._step, self._device, self.number = step, device, 1
        took, _ = self.seconds()
        if took < 10 * seconds:
            self.number = 3
            took, _ = self.seconds()
        number = max(1, min(4 * FLUSH_STEPS, round(seconds / took)))
        whole = round(number / FLUSH_STEPS) * FLUSH_STEPS
        self.number = whole or number

    def seconds(self) -> tuple[float, float]:
        """Of one step, by the clock and of the processor."""
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(self.number):
            self._step()
        synchronize(self._device)
        return (time.perf_counter() - start) / self.number, (time.process_time() - start_cpu) / self.number


def take_rounds(blocks: dict[str, Block], rounds: int, seed: int) -> tuple[Samples, Samples]:
    """Seconds of every block by the clock and of the processor, round by round. What comes first in a round finds other
    things in the caches than what comes second, by a percent or two: the order is drawn anew for each."""
    order, random = list(blocks), Random(seed)
    wall: Samples = {name: [] for name in blocks}
    cpu: Samples = {name: [] for name in blocks}
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            of_wall, of_cpu = blocks[name].seconds()
            wall[name].append(of_wall)
            cpu[name].append(of_cpu)
    return wall, cpu


def measure_time(
    backbone: str,
    title: str,
    rdh: bool,
    rows: int,
    bits: int,
    items: int,
    shape: list[int],
    leave_out: list[str],
    rounds: int,
    seconds: float,
    seed: int,
    threads: int,
    device: str,
) -> dict[str, Any]:
    """Seconds per step of all providers, by the clock and of the processor, round by round, after their results were
    compared."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    case = Case(title, rdh)
    problem = make_problem(backbone, rows, bits, items, tuple(shape), torch.device(device))
    losses = {name: loss for name, loss in losses_of(case, problem).items() if name not in leave_out}
    equal = differences(problem, losses)
    steps = {**steps_of("step", case, problem, losses), **steps_of("loss", case, problem, losses)}
    blocks = {name: Block(step, problem.device, seconds) for name, step in steps.items()}
    wall, cpu = take_rounds(blocks, rounds, seed)
    last = losses["rdh_ext"](problem.backbone(problem.batches[0][0]), problem.batches[0][1])
    if not bool(last.isfinite()):
        sys.exit("the training has diverged")
    return {
        "samples": wall,
        "cpu": cpu,
        "differences": equal,
        "machine": facts(problem.device),
    }


def facts(device: torch.device) -> dict[str, str]:
    if device.type == "cuda":
        return {**machine(), "device": torch.cuda.get_device_name(device), "level": "cuda"}
    return machine()


def extra_bytes(step: Step, device: torch.device) -> int:
    """By which memory grows at most while a step runs, its gradient included."""
    if device.type != "cuda":
        return peak_growth(step)
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def measure_memory(
    title: str, rdh: bool, rows: int, bits: int, items: int, provider: str, device: str
) -> dict[str, Any]:
    """Peak extra memory of the loss part; its bank does not count, which everybody has."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = Case(title, rdh)
    problem = make_problem("mlp", rows, bits, items, (8,), torch.device(device))
    losses = losses_of(case, problem)
    step = steps_of("loss", case, problem, {name: losses[name] for name in ("rdh_ext", provider)})[f"loss/{provider}"]
    step()
    step()
    return {"bytes": min(extra_bytes(step, problem.device) for _ in range(3))}


def main() -> None:
    what, arguments = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps({"time": measure_time, "memory": measure_memory}[what](**arguments)))


if __name__ == "__main__":
    main()
