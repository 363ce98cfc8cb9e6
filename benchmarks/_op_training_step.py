"""A whole step of training: forward, loss with RDH, backward, SGD with momentum; 64 bits, batch 128.

Networks: "mlp", 512 features -> 512 -> bits, for those who hash embeddings, and "alexnet", torchvision's at 224 x 224
with random weights, which is what the paper trains. Peers have the same network and optimiser, and their own activation
and loss (_training_peers.py): ``eager`` line by line as in public code, S from one-hot rows, Eq. 4 by a mask
[B, N, K]; ``eager, best form`` with matrices [B, N] at most; ``torch.compile`` that, compiled.

The ceiling is what products alone take: of the network's layers (mlp), and of the loss. training_step.py has more:
methods without RDH, the loss part alone, counted bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from _ceilings import multiplying
from _codes import nuswide_like_labels
from _pairwise_peers import coco_like_labels
from _paper import TRAINING
from _problem import OURS, Case, Cost, NotHere, Op, Problem, Provider, Wrong, not_installed
from costs import pairwise_loss
from torch import Tensor, nn

FORMS = {
    "eager": "obvious",
    "eager, best form": "eager",
    "eager, sums per class": "eager class sums",
    "torch.compile": "compiled",
    "torch.compile, sums per class": "compiled class sums",
}


def labels_of(case: Case) -> Tensor | None:
    """None means class ids."""
    items, classes = int(case.sizes["bank"]), int(case.sizes["classes"])
    if case.sizes["labels"] == "class ids":
        return None
    return (coco_like_labels if case.sizes["labels"] == "multi-hot" else nuswide_like_labels)(items, classes)


def products_of(network: nn.Module, rows: int) -> int:
    """Operations of the linear layers: forward, gradients of weights, and of inputs but for the first layer."""
    layers = [layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Linear)]
    return 2 * rows * (3 * sum(layers) - layers[0])


def build(case: Case) -> Problem:
    try:  # Lightning and torchvision, which are extras
        from _training_peers import Case as Method
        from _training_run import SHAPES, differences, losses_of, make_problem, steps_of
    except ImportError as error:
        raise not_installed(error) from error

    sizes = case.sizes
    rows, bits, bank, backbone = int(sizes["batch"]), int(sizes["bits"]), int(sizes["bank"]), str(sizes["backbone"])
    method, device = Method(str(sizes["method"]), True), torch.device(case.device)
    world = make_problem(backbone, rows, bits, bank, SHAPES[backbone], device, labels_of(case))
    losses = losses_of(method, world)
    class_sums = [name for name in losses if "class sums" in name]
    for name in ("counting", "counting by a hook", *(class_sums if labels_of(case) is not None else [])):
        del losses[name]
    broken: dict[str, NotHere] = {}
    try:
        try:
            errors = differences(world, losses)
        except Exception as error:  # torch.compile finds no compiler, for instance: the others go on without it
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            broken = {name: NotHere(reason, "failed") for name in losses if name.startswith("compiled")}
            losses = {name: loss for name, loss in losses.items() if name not in broken}
            errors = differences(world, losses)
    except SystemExit as error:
        raise Wrong(str(error)) from error
    steps = steps_of("step", method, world, losses)

    def error_of(name: str) -> Callable[[object], float]:
        def check(loss: object) -> float:
            """What was compared above; of the step itself, that its loss is a number."""
            assert isinstance(loss, Tensor)
            if not loss.isfinite():
                raise Wrong(f"its loss is {loss.item()}")
            return max(errors[name].values())

        return check

    against = f"a bank of {bank:,}" if method.title == "DPSH" else "itself"
    shape = " x ".join(map(str, SHAPES[backbone]))
    title = f"{method.label}, {backbone} ({shape} -> {bits}), batch {rows} against {against}"
    columns = bank if method.title == "DPSH" else rows
    loss = pairwise_loss(rows, columns, bits, 4)
    cost = Cost(loss.bytes, loss.flops + products_of(world.backbone, rows), loss.pairs)
    patient = backbone != "mlp"
    ours = Provider(steps["step/rdh_ext"], error_of("rdh_ext"), "rdh_ext", kind=OURS, patient=patient)
    problem = Problem(title, cost, {OURS: ours})

    def form(name: str) -> Provider:
        if name in broken:
            raise broken[name]
        if name not in losses:
            raise NotHere("it is for class ids and a bank", "left out")
        return Provider(steps[f"step/{name}"], error_of(name), patient=patient)

    for title, name in FORMS.items():
        problem.add(title, lambda name=name: form(name))
    if backbone == "mlp":
        problem.set_ceiling(lambda: multiplying(case, cost))
    return problem


OPS = (
    Op(
        "training_step",
        "one step of training with RDH",
        "forward+backward+SGD",
        build,
        default={
            "batch": 128, "bits": 64, "bank": 5000, "classes": 10, "labels": "class ids", "backbone": "mlp",
            "method": "DPSH",
        },
        sweeps={
            "batch": (32, 64, 128, 256, 512),
            "method": ("DPSH", "HashNet", "DHN"),
            "features": tuple(TRAINING),
            "paper": tuple(TRAINING),
            "threads": (),
        },
        base={"paper": {"backbone": "alexnet"}},
        named={"features": TRAINING, "paper": TRAINING},
        tests=("tests/ops/test_pairwise_loss.py", "tests/ops/test_gradient_amplifier.py"),
    ),
)  # fmt: skip
