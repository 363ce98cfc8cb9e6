"""What one fresh process of the pairwise benchmark does: ``python _pairwise_run.py time|memory '{"shape": ...}'``.

Prints one line of JSON. pairwise_loss.py starts it; it is a program of its own because torch.log1p is fast in some
processes and 20 times slower in others, and because peak memory is one per process.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _measure import at_level, cores, machine, sample, with_threads
from _pairwise_peers import (
    ETA,
    SCALE,
    SHAPES,
    Inputs,
    Loss,
    Shape,
    Truth,
    by_bce,
    by_matrix,
    closed_form,
    gradient_error,
    make_inputs,
    peers,
    relative,
    truth,
)
from peaks import Peaks, Unavailable
from torch import Tensor

import rdh_ext
from rdh_ext import _native

Step = Callable[[], object]


def ours(x: Inputs) -> Tensor:
    return rdh_ext.pairwise_loss(x.h, x.labels, x.bank, x.bank_labels, scale=SCALE, eta=ETA)


def training_step(loss: Loss, x: Inputs) -> Step:
    """Forward and backward."""
    return lambda: torch.autograd.grad(loss(x), x.h)


def lower_levels() -> list[str]:
    """What the CPU kernels are also measured at."""
    return [level for level in _native.cpu_levels()[:-1] if level == "avx2"]


def providers_of(shape: Shape, x: Inputs, losses: dict[str, Loss]) -> dict[str, Step]:
    """Name -> one forward and backward: rdh_ext in all its forms, and the peers' ``losses``."""
    step = training_step(ours, x)
    providers = {"rdh_ext": step} | {f"rdh_ext {level}": at_level(level, step) for level in lower_levels()}
    if shape.two_threads and cores() > 1:
        providers["rdh_ext 2 threads"] = with_threads(2, step)
    if shape.multi_hot:
        ids = make_inputs(Shape("ids", shape.rows, shape.columns, shape.bits))
        providers["rdh_ext class ids"] = training_step(ours, ids)
    return providers | {name: training_step(loss, x) for name, loss in losses.items()}


def probes_of(shape: Shape) -> tuple[dict[str, Callable[[], float]], str]:
    """What the floor is made of, and why anything of it is missing."""
    level = _native.active_cpu_level()
    try:
        peaks = Peaks(level if _native.cpu_levels() else "avx2")
    except Unavailable as reason:
        return {}, str(reason)
    probes: dict[str, Callable[[], float]] = {"fma": peaks.fma}
    if shape.two_threads and cores() > 1:
        probes["fma 2 threads"] = lambda: peaks.fma(threads=2)
    if peaks.elementwise(seconds=1e-4) is None:
        return probes, "the elementwise part alone is not available"
    return probes | {"elementwise": lambda: peaks.elementwise() or float("nan")}, ""


def errors_of(loss: Loss, x: Inputs, true: Truth) -> dict[str, float]:
    """Relative errors of loss and gradient."""
    value = loss(x)
    (grad,) = torch.autograd.grad(value, x.h)
    return {"loss": relative(value.item(), true.loss), "gradient": gradient_error(grad, true.grad)}


def part_errors(x: Inputs, true: Truth) -> dict[str, float]:
    """Relative errors of the two parts that the module keeps."""
    criterion = rdh_ext.nn.PairwiseLoss(scale=SCALE, eta=ETA)
    criterion(x.h, x.labels, x.bank, x.bank_labels)
    return {
        "likelihood": relative(float(criterion.last.similarity), true.likelihood),
        "quantization": relative(float(criterion.last.quantization), true.quantization),
    }


def accuracy(shape: Shape, x: Inputs, losses: dict[str, Loss]) -> dict[str, dict[str, float]]:
    """Errors against float64 per provider; of rdh_ext and eager on saturated activations too."""
    true, trained = truth(x), make_inputs(shape, trained=True)
    true_trained = truth(trained)
    errors = {name: errors_of(loss, x, true) for name, loss in losses.items()}
    errors["eager"]["gradient_trained"] = errors_of(losses["eager"], trained, true_trained)["gradient"]

    def of_ours() -> dict[str, float]:
        on_trained = {"gradient_trained": errors_of(ours, trained, true_trained)["gradient"]}
        return errors_of(ours, x, true) | part_errors(x, true) | on_trained

    errors["rdh_ext"] = of_ours()
    for level in lower_levels():
        with _native.forced_cpu_level(level):
            errors[f"rdh_ext {level}"] = of_ours()
    return errors


def measure_time(shape: str, rounds: int, seconds: float, seed: int) -> dict[str, Any]:
    """Samples of all providers and probes, errors, and the share of similar pairs."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    problem = SHAPES[shape]
    x = make_inputs(problem)
    losses = peers(problem)
    probes, missing = probes_of(problem)
    fewer = {name: min(3, rounds) for name in losses if "literal" in name}
    providers = providers_of(problem, x, losses)
    samples = sample(providers, rounds=rounds, seconds=seconds, probes=probes, fewer=fewer)
    return {
        "samples": samples,
        "errors": accuracy(problem, x, losses),
        "similar": float(x.s.mean()),
        "floor_missing": missing,
        "machine": machine(),
    }


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


def peak_growth(step: Step) -> int:
    """Bytes by which the resident set grows at most while ``step`` runs; what it returns counts."""
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)  # nothing freed is left for it to use
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = status("VmRSS")
    kept = step()
    grown = status("VmHWM") - before
    del kept
    return max(grown, 0)


def measure_memory(provider: str, rows: int, columns: int, bits: int, multi_hot: bool) -> dict[str, Any]:
    """Peak extra memory of one forward and backward, after a warm-up on a short bank; inputs do not count."""
    pr_set_thp_disable = 41
    ctypes.CDLL(None).prctl(pr_set_thp_disable, 1, 0, 0, 0)  # a page counts when it is touched, and not its 2 MB
    torch.set_num_threads(1)
    torch.manual_seed(0)
    classes = 80 if multi_hot else 10

    def problem(columns: int) -> Inputs:
        x = make_inputs(Shape("memory", rows, columns, bits, classes, multi_hot))
        return x if provider == "eager" else x._replace(s=x.h, toward=x.h, row_classes=None, column_classes=None)

    loss = closed_form(by_bce, by_matrix) if provider == "eager" else ours
    training_step(loss, problem(256))()
    return {"bytes": peak_growth(training_step(loss, problem(columns))), "machine": machine()}


def main() -> None:
    what, arguments = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps({"time": measure_time, "memory": measure_memory}[what](**arguments)))


if __name__ == "__main__":
    main()
