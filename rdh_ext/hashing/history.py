"""A training run as plain data: its schedule, one record per step, and their means per epoch. No torch in here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple


@dataclass(frozen=True)
class Schedule:
    """SGD with momentum, the learning rate falling along a cosine to 0 over all steps."""

    epochs: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 1e-5
    batch_size: int = 128


class StepRecord(NamedTuple):
    """One optimisation step."""

    epoch: int
    step: int
    loss: float
    similarity: float
    quantization: float
    dead: int
    """Bits of the batch that Eq. 3 amplifies, or would amplify: saturated, and wanted on the other side by the loss."""
    saturated: int
    """Bits of the batch with ``|h| >= tau``."""
    bits: int
    """All bits of the batch: B K."""
    lr: float


class EpochRecord(NamedTuple):
    """Means over the steps of one epoch; ``dead``, ``saturated`` and ``bits`` are per step."""

    epoch: int
    loss: float
    similarity: float
    quantization: float
    dead: float
    saturated: float
    bits: float


def epochs_of(steps: Iterable[StepRecord]) -> list[EpochRecord]:
    """Per-epoch means of consecutive step records."""
    epochs = []
    for epoch, group in groupby(steps, key=lambda record: record.epoch):
        records = list(group)
        n = len(records)
        epochs.append(
            EpochRecord(
                epoch,
                sum(r.loss for r in records) / n,
                sum(r.similarity for r in records) / n,
                sum(r.quantization for r in records) / n,
                sum(r.dead for r in records) / n,
                sum(r.saturated for r in records) / n,
                sum(r.bits for r in records) / n,
            )
        )
    return epochs


def to_csv(steps: Iterable[StepRecord]) -> str:
    """The step records as CSV text with a header; floats in full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(StepRecord._fields)
    writer.writerows(steps)
    return buffer.getvalue()


def from_csv(text: str) -> list[StepRecord]:
    """What :func:`to_csv` wrote; a last line that was cut off is left out.

    Raises:
        ValueError: another file.

    Example:
        >>> from rdh_ext.hashing.history import from_csv, to_csv
        >>> from_csv(to_csv([]))
        []
    """
    lines = text.split("\n")
    if lines[0] != ",".join(StepRecord._fields):
        raise ValueError(f"metrics: the first line must name {', '.join(StepRecord._fields)}, got {lines[0][:80]!r}")
    records = []
    for line in lines[1:-1]:  # after the last line end there is nothing, or what an interrupt left
        values = line.split(",")
        if len(values) != len(StepRecord._fields):
            raise ValueError(f"metrics: a line must have {len(StepRecord._fields)} values, got {line[:80]!r}")
        epoch, step, loss, similarity, quantization, dead, saturated, bits, lr = values
        terms = (float(loss), float(similarity), float(quantization))
        records.append(StepRecord(int(epoch), int(step), *terms, int(dead), int(saturated), int(bits), float(lr)))
    return records
