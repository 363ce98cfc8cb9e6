"""One process of the data-parallel test: trains one step on its half of the batch and writes down what came of it."""

from __future__ import annotations

import datetime
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

import rdh_ext
from rdh_ext.nn import BitCounter, PairwiseLoss, rescue_

ROWS, LOGITS, BITS = 12, 6, 8


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


def main(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=120),
    )
    counter = BitCounter("cpu")
    model = nn.parallel.DistributedDataParallel(make_model(counter))
    x, labels = (part.chunk(world)[rank] for part in make_batch())
    loss_of(model, x, labels).backward()
    counts = torch.tensor(counter.read(reset=False))
    everyone = counts.clone()
    dist.all_reduce(everyone)
    grads = [parameter.grad for parameter in model.parameters()]
    torch.save({"grads": grads, "counts": counts, "everyone": everyone}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
