"""Codes of many items by a network: batches, on the device of the network, on all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import pack_codes
from .batches import input_batches
from .data.preprocessing import Preprocessing
from .data.splits import Part
from .ranks import rank_and_count

BATCH = 256
"""Items that are encoded together."""


@dataclass(frozen=True)
class Codes:
    """Packed codes of some items."""

    packed: Tensor
    """uint8 ``[n, ceil(K / 8)]`` on the CPU, as :func:`rdh_ext.pack_codes`."""
    exact_zeros: int
    """Activations that were exactly 0, neither sign: their bit is 1 by convention."""


@torch.no_grad()
def encode_batches(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[Codes]:
    """Codes of batches of inputs, one after the other, in evaluation mode (put back at the end)."""
    first = next((each for each in model.parameters() if each.is_floating_point()), torch.empty(0))
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            h = model(batch.to(first, non_blocking=True))
            yield Codes(pack_codes(h).cpu(), int((h == 0).sum()))
    finally:
        model.train(was_training)


def encode(model: nn.Module, batches: Iterable[Tensor], bits: int) -> Codes:
    """Codes of all batches together; ``bits`` is K."""
    packed, zeros = [torch.empty((0, -(-bits // 8)), dtype=torch.uint8)], 0
    for codes in encode_batches(model, batches):
        packed.append(codes.packed)
        zeros += codes.exact_zeros
    return Codes(torch.cat(packed), zeros)


def part_codes(
    model: nn.Module,
    part: Part,
    preprocessing: Preprocessing,
    bits: int,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, items: None,
) -> Codes:
    """Codes of a part on every rank, each of which encodes some of the items."""
    rank, ranks = rank_and_count()
    places = torch.arange(len(part)).tensor_split(ranks)[rank]

    def batches() -> Iterator[Tensor]:
        done = 0
        for batch in input_batches(part, preprocessing, places, BATCH, workers):
            yield batch
            done += len(batch)
            progress(done, len(places))

    own = encode(model, batches(), bits)
    if ranks == 1:
        return own
    everyone: list[Any] = [None] * ranks
    dist.all_gather_object(everyone, own)
    return Codes(torch.cat([each.packed for each in everyone]), sum(each.exact_zeros for each in everyone))
