"""Records of a training on the disk: a CSV file with a line for every step, and TensorBoard's files."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

from .._extras import MissingExtra, require
from .._files import write_text
from .history import EpochRecord, StepRecord, epochs_of, from_csv, to_csv

METRICS, TENSORBOARD = "metrics.csv", "tensorboard"


class StepLog:
    """Appends records to ``metrics.csv``; a training that is taken up again continues the file where it does itself.

    Args:
        folder: of the run.
        steps: that are already done; later ones in the file are of the interrupted run, and are done again.
        tensorboard: also write TensorBoard's files, where it is installed.

    Raises:
        ValueError: the file is of another program.
        OSError: it cannot be written.

    Warns:
        UserWarning: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, steps: int = 0, tensorboard: bool = False) -> None:
        path = folder / METRICS
        kept = [record for record in read_steps(folder) if record.step < steps] if steps else []
        write_text(path, to_csv(kept))
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115  # open while the training runs
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._board = _board(folder / TENSORBOARD, steps) if tensorboard else None

    def add(self, records: list[StepRecord]) -> None:
        """Writes them."""
        self._writer.writerows(records)
        self._file.flush()
        if self._board is not None:
            for record in records:
                for name in ("loss", "similarity", "quantization", "dead", "saturated", "lr"):
                    self._board.add_scalar(f"train/{name}", getattr(record, name), record.step)

    def add_validation(self, epoch: int, step: int, value: float) -> None:
        """mAP of the held out items, for TensorBoard."""
        if self._board is not None:
            self._board.add_scalar("validation/map", value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _board(folder: Path, steps: int) -> Any:
    try:
        require("tensorboard", extra="train")
    except MissingExtra as error:
        warnings.warn(f"{error}; the records are in {METRICS} alone", stacklevel=4)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=steps)


def read_steps(folder: Path) -> list[StepRecord]:
    """The records in a run's ``metrics.csv``, without a last line that is not whole; none where there is no file.

    Raises:
        ValueError: it is another file; the message names it.
        OSError: it cannot be read.
    """
    try:
        return from_csv((folder / METRICS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ValueError(f"{folder / METRICS}: {error}") from error


def read_epochs(folder: Path) -> list[EpochRecord]:
    """Their means per epoch."""
    return epochs_of(read_steps(folder))
