"""One process of the data-parallel tests: runs every job on its share of the batch and writes down what came of it.

What trains is here for both: the processes call it with their share of the batch and ``gather_batch``, the test, which
is one process, with all of the batch and nothing to gather.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from rank_main import in_turn, main
from torch import Tensor, nn

import rdh_ext
from rdh_ext.distributed import gather_batch
from rdh_ext.nn import AmplifiedTanh, BitCounter, CodeBank, PairwiseLoss, rescue_

ROWS, LOGITS, BITS, CLASSES, ITEMS = 12, 6, 8, 4, 20
SPLITS = {"equal": (6, 6), "unequal": (7, 5), "one empty": (0, 12)}
KINDS = ("ids", "multi_hot", "similarity")
Share = Callable[[Tensor], Tensor]
Gather = Callable[..., tuple[Any, ...]]


def whole(tensor: Tensor) -> Tensor:
    """The share of the only process."""
    return tensor


def share_of(rank: int, split: str = "unequal") -> Share:
    return lambda tensor: tensor.split(SPLITS[split])[rank]


def alone(*tensors: Any) -> tuple[Any, ...]:
    """``gather_batch`` of the only process."""
    return tensors


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


# ---- DDP alone, each rank with the loss of its own half


def make_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 20 * torch.randn(ROWS, LOGITS, generator=generator), torch.arange(ROWS) % 3


def make_model(counter: BitCounter) -> nn.Sequential:
    """The same weights in every process."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(LOGITS, 5), nn.Sigmoid(), nn.Linear(5, BITS), nn.Tanh())
    assert rescue_(model, 0.5, counter=counter) == 2
    return model


def loss_of(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    loss: Tensor = PairwiseLoss()(model(x), labels) + rdh_ext.gradient_amplifier(model(x), 0.5).square().mean()
    return loss


def count_bits(rank: int, device: str) -> dict[str, Any]:
    counter = BitCounter(device)
    model = nn.parallel.DistributedDataParallel(make_model(counter).to(device))
    x, labels = (part.chunk(2)[rank].to(device) for part in make_batch())
    loss_of(model, x, labels).backward()
    counts = torch.tensor(counter.read(reset=False), device=device)
    everyone = counts.clone()
    dist.all_reduce(everyone)
    return {"grads": gradients(model), "counts": counts, "everyone": everyone}


# ---- one loss of the joint batch


def make_net(device: str = "cpu") -> nn.Sequential:
    """The same weights in every process; float64, so that only mistakes differ."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(LOGITS, 7), nn.ReLU(), nn.Linear(7, BITS), AmplifiedTanh(0.5)).double().to(device)


def make_items(kind: str, items: int, device: str = "cpu") -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``x``, labels and S."""
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.randn(items, LOGITS, dtype=torch.float64, generator=generator).to(device)
    if kind == "ids":
        return x, torch.randint(0, CLASSES, (items,), generator=generator).to(device), None
    if kind == "multi_hot":
        return x, (torch.rand(items, CLASSES, generator=generator) < 0.3).to(device), None
    return x, None, (torch.rand(items, items, generator=generator) < 0.4).to(device)


def one_step(model: nn.Module, share: Share, gather: Gather, kind: str, device: str = "cpu") -> dict[str, Any]:
    x, labels, similarity = make_items(kind, ROWS, device)
    h, labels = gather(model(share(x)), None if labels is None else share(labels))
    criterion = PairwiseLoss(eta=0.3, include_diagonal=False, pair_weights="balanced")
    loss = criterion(h, labels, similarity=similarity)
    loss.backward()
    return {"loss": loss.detach(), "grads": gradients(model)}


def train_jointly(rank: int, device: str) -> dict[str, Any]:
    return {
        f"{kind}, {split}": one_step(
            nn.parallel.DistributedDataParallel(make_net(device)), share_of(rank, split), gather_batch, kind, device
        )
        for kind in KINDS
        for split in SPLITS
    }


def part_of_the_loss(rank: int, h: Tensor, labels: Tensor) -> Tensor:
    """Another one on every rank; that of rank 1 does not know the rows of rank 0."""
    loss: Tensor = PairwiseLoss()(h, labels) if rank == 0 else 3 * h[8:].square().sum()
    return loss


def train_in_parts(rank: int, device: str) -> dict[str, Any]:
    model, share = nn.parallel.DistributedDataParallel(make_net(device)), share_of(rank)
    x, labels, _ = make_items("ids", ROWS, device)
    assert labels is not None
    h, joint_labels = gather_batch(model(share(x)), share(labels))
    part_of_the_loss(rank, h, joint_labels).backward()
    return {"grads": gradients(model)}


def train_with_bank(model: nn.Module, share: Share, gather: Gather, kind: str, device: str = "cpu") -> dict[str, Any]:
    """Three steps, the second with items that a rank has twice, and items that both have."""
    x, labels, _ = make_items(kind, ITEMS, device)
    assert labels is not None
    bank = CodeBank(ITEMS, BITS, classes=CLASSES if kind == "multi_hot" else None, dtype=torch.float64).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    criterion = PairwiseLoss(eta=0.3)
    twice = torch.tensor([19, 3, 14, 3, 7, 0, 8, 3, 19, 12, 7, 1])
    losses = []
    for batch in (torch.arange(ROWS), twice, torch.arange(ROWS) + ITEMS - ROWS):
        index = share(batch.to(device))
        augmented = x[index] + share(0.1 * torch.arange(ROWS, device=device)[:, None])
        h, joint_labels, joint_index = gather(model(augmented), labels[index], index)
        bank.update(joint_index, h, joint_labels)
        loss = criterion(h, joint_labels, bank.outputs, bank.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {"losses": losses, "weights": [p.detach() for p in model.parameters()], "bank": bank.state_dict()}


def train_with_banks(rank: int, device: str) -> dict[str, Any]:
    return {
        kind: train_with_bank(
            nn.parallel.DistributedDataParallel(make_net(device)), share_of(rank), gather_batch, kind, device
        )
        for kind in ("ids", "multi_hot")
    }


# ---- what gather_batch does to tensors

DTYPES = (
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.float8_e4m3fn),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16),
)


def make_tensors() -> list[Tensor]:
    """A joint batch of everything: all dtypes, no columns, many dimensions, strides that are no rows in memory."""
    generator = torch.Generator().manual_seed(3)
    values = 100 * torch.rand(ROWS, 3, generator=generator)
    tensors = [values.to(dtype) for dtype in DTYPES]
    more = [
        values[:, :0],
        values[:, 0],
        values[:, :, None, None].expand(-1, -1, 2, 1),
        values.to(torch.complex64).conj(),
    ]
    return [values, values > 50, *tensors, *more, values.t().contiguous().t()]


def gather_tensors(rank: int, device: str) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for split in SPLITS:
        gathered = gather_batch(*(share_of(rank, split)(tensor.to(device)) for tensor in make_tensors()))
        results[split] = [tensor.resolve_conj() for tensor in gathered]
    nothing = torch.empty(0, BITS, device=device, requires_grad=True)
    h, labels = gather_batch(nothing, nothing.bool())
    h.sum().backward()
    results["nothing"] = [h.detach(), labels, nothing.grad]
    row = torch.full((1 - rank, 1), True, device=device)  # one row in all, so that no stride can be trusted
    results["one row"] = gather_batch(row.half(), row, row.double())
    return results


def gather_gradients(rank: int, device: str) -> dict[str, Any]:
    """Also of a tensor that is not ``h``, of one that this rank does not use, and in half precision."""
    results: dict[str, Any] = {}
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        x = torch.linspace(-1, 1, ROWS * BITS, dtype=torch.float64, device=device).reshape(ROWS, BITS).to(dtype)
        leaves = [share_of(rank)(x).detach().requires_grad_() for _ in range(3)]
        h, _, a, b = gather_batch(leaves[0], None, leaves[1], leaves[2][:, 0])
        used = h.pow(2).sum() + (a * (rank + 1)).sum() + (0 if rank == 0 else b.sum())
        used.backward()
        results[str(dtype)] = [leaf.grad for leaf in leaves]
    return results


def gather_in_groups(rank: int, device: str) -> dict[str, Any]:
    """A group of both, one of rank 0 alone, and no gradient where none is wanted."""
    both, first = dist.new_group([0, 1]), dist.new_group([0])
    h = torch.full((1, 2), float(rank), device=device, requires_grad=True)
    calls = ("all_gather_into_tensor", "all_reduce")
    with mock.patch.multiple(dist, **{name: mock.Mock(wraps=getattr(dist, name)) for name in calls}):
        joint, labels = gather_batch(h, None, group=both)
        joint.sum().backward()
        used = [call.kwargs["group"] is both for name in calls for call in getattr(dist, name).call_args_list]
    with torch.no_grad():
        plain, _ = gather_batch(h, None)
    try:
        inside = gather_batch(h, None, group=first)
        only = "the very tensor" if inside[0] is h else "another"
    except ValueError as error:
        only = str(error)
    return {
        "joint": joint.detach(),
        "labels": labels,
        "used": used,
        "only": only,
        "gradient": (joint.requires_grad, plain.requires_grad),
    }


def compile_a_step(rank: int, device: str) -> dict[str, Any]:
    """With a break in the graph."""
    torch.compiler.reset()
    compiled = torch.compile(lambda *arguments: one_step_of_any(*arguments), backend="aot_eager")
    results = {}
    for name, call in (("eager", one_step_of_any), ("compiled", compiled)):
        net = make_net(device)
        x, labels, _ = make_items("ids", ROWS, device)
        loss = call(net, share_of(rank)(x), share_of(rank)(labels))
        loss.backward()
        results[name] = {"loss": loss.detach(), "grads": gradients(net)}
    return results


def one_step_of_any(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    h, joint_labels = gather_batch(net(x), labels)
    return rdh_ext.pairwise_loss(h, joint_labels)


# ---- what it says to tensors that do not fit

GOOD = {"h": torch.zeros(3, 4), "labels": torch.zeros(3, dtype=torch.int64), "others": (torch.zeros(3, 2),)}
BAD: dict[str, dict[str, Any]] = {
    # what rank 1 has in the place of the good one
    "bits": {"h": torch.zeros(3, 5)},
    "dtype": {"h": torch.zeros(3, 4, dtype=torch.float64)},
    "dimensions": {"h": torch.zeros(3, 4, 1)},
    "gradient": {"h": torch.zeros(3, 4, requires_grad=True)},
    "no tensor": {"h": [[0.0]]},
    "meta": {"h": torch.zeros(3, 4, device="meta"), "labels": None, "others": ()},
    "kind of labels": {"labels": torch.zeros(3, 4, dtype=torch.bool)},
    "no labels": {"labels": None},
    "length of labels": {"labels": torch.zeros(2, dtype=torch.int64)},
    "dtype of labels": {"labels": torch.zeros(3)},
    "columns": {"others": (torch.zeros(3, 3),)},
    "dimensions of others": {"others": (torch.zeros(3, 2, 1),)},
    "more": {"others": (torch.zeros(3, 2), torch.zeros(3))},
    "fewer": {"others": ()},
}


def gather_what_does_not_fit(rank: int, device: str) -> dict[str, Any]:
    """Every one of them on every rank, and then one that fits."""

    def here(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) and not value.is_meta else value

    results: dict[str, Any] = {}
    for name, spoiled in BAD.items():
        arguments = {**GOOD, **(spoiled if rank == 1 else {})}
        try:
            gather_batch(here(arguments["h"]), here(arguments["labels"]), *map(here, arguments["others"]))
        except (TypeError, ValueError) as error:
            results[name] = f"{type(error).__name__}: {error}"
    try:  # then it is the first rank's problem that all hear of
        gather_batch(here(torch.zeros(1 + rank, 2, 2)), None)
    except ValueError as error:
        results["both"] = f"ValueError: {error}"
    results["after"] = gather_batch(here(GOOD["h"]) + rank, None)[0]
    return results


if __name__ == "__main__":
    main(
        in_turn(
            count_bits,
            train_jointly,
            train_in_parts,
            train_with_banks,
            gather_tensors,
            gather_gradients,
            gather_in_groups,
            compile_a_step,
            gather_what_does_not_fit,
        )
    )
