"""Batches of a training: their order depends on seed and epoch alone, not on processes, workers or interrupts."""

from __future__ import annotations

import functools
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .data.preprocessing import Preprocessing
from .data.splits import Part

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs, labels, and positions in the training set (int64)."""


_ALL_64 = (1 << 64) - 1


class EpochBatches(Sampler[list[int]]):
    """Shuffled whole batches, of which each rank has its slice: all ranks together have the batches of one process.

    Args:
        items: N.
        batch_size: of all ranks together; the last, smaller batch of an epoch is left out, unless it is the only one.
        seed: of the order.
        rank, ranks: of this process.
    """

    def __init__(self, items: int, batch_size: int, seed: int, *, rank: int = 0, ranks: int = 1) -> None:
        self._items, self._batch = items, min(batch_size, items)
        self._rank, self._ranks = rank, ranks
        self._generator = torch.Generator().manual_seed(seed)
        self._seed, self._drawn, self.epoch = seed, 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning says so before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._items // self._batch

    def __iter__(self) -> Iterator[list[int]]:
        if self._drawn > self.epoch:
            self._generator.manual_seed(self._seed)
            self._drawn = 0
        while self._drawn <= self.epoch:  # one order after the other: those of earlier epochs lead to this one's
            order = torch.randperm(self._items, generator=self._generator)
            self._drawn += 1
        for start in range(0, len(self) * self._batch, self._batch):
            yield order[start : start + self._batch].tensor_split(self._ranks)[self._rank].tolist()


class _InWorker(Exception):
    """The traceback of an error, as text, where it came from another process."""


@dataclass(frozen=True)
class _Failure:
    """An error in the place of a batch: a loader that hands on those of its workers makes a page of text of each."""

    error: Exception
    trace: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        try:
            pickle.loads(pickle.dumps(error))  # as on its way between processes
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, traceback.format_exc())


def _guarded(read: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @functools.wraps(read)
    def guarded(self: Any, places: Any) -> Any:
        try:
            return read(self, places)
        except Exception as error:
            return _Failure.of(error)

    return guarded


class _Loader(DataLoader[Any]):
    """One whose errors are those of the data set, in whichever process they happened."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, _Failure):
                raise batch.error from _InWorker(batch.trace)
            yield batch


class _Inputs(Dataset[Batch]):
    """Whole batches by their positions; what is drawn for an item depends on seed, epoch and item alone."""

    def __init__(self, part: Part, preprocessing: Preprocessing, seed: int, sampler: EpochBatches) -> None:
        self._part, self._preprocessing, self._seed, self._sampler = part, preprocessing, seed, sampler

    def __len__(self) -> int:
        return len(self._part)

    @_guarded
    def __getitem__(self, places: list[int]) -> Batch:
        where = torch.tensor(places, dtype=torch.int64)
        raw = self._part.source.read(self._part.indices[where])
        generators = None
        if self._preprocessing.augment != "none":
            generators = [generator_for(self._seed, self._sampler.epoch, place) for place in places]
        return self._preprocessing(raw, generators=generators), self._part.labels[where], where


def generator_for(seed: int, epoch: int, item: int) -> torch.Generator:
    """Random numbers of one item in one epoch."""
    mixed = 0
    for number in (seed, epoch, item):  # the steps of SplitMix64, with a number added in each
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & _ALL_64
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _ALL_64
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _ALL_64
        mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed >> 32)  # PyTorch's generator of the CPU looks at 32 bits alone


def training_loader(
    part: Part,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> DataLoader[Batch]:
    """Batches of inputs, labels and positions."""
    sampler = EpochBatches(len(part), batch_size, seed, rank=rank, ranks=ranks)
    inputs = _Inputs(part, preprocessing, seed, sampler)
    options: dict[str, Any] = {"num_workers": workers, "pin_memory": pin, "generator": torch.Generator()}
    return _Loader(inputs, sampler=sampler, batch_size=None, **options)


class _PlainInputs(Dataset[Tensor]):
    """Inputs of whole batches by their places, without augmentation."""

    def __init__(self, part: Part, preprocessing: Preprocessing) -> None:
        self._part, self._preprocessing = part, preprocessing

    def __len__(self) -> int:
        return len(self._part)

    @_guarded
    def __getitem__(self, places: Tensor) -> Tensor:
        return self._preprocessing(self._part.source.read(self._part.indices[places]))


def input_batches(
    part: Part, preprocessing: Preprocessing, places: Tensor, batch_size: int, workers: int = 0
) -> Iterator[Tensor]:
    """Inputs of some items in their order, without augmentation; ``workers`` processes read them."""
    inputs = _PlainInputs(part, preprocessing)
    batches = [some for some in places.split(batch_size) if len(some)]
    # a loader draws seeds for its workers: not from the random state of the caller
    options: dict[str, Any] = {"num_workers": min(workers, len(batches)), "generator": torch.Generator()}
    yield from _Loader(inputs, sampler=batches, batch_size=None, **options)
