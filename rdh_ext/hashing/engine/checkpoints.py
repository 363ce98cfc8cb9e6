"""Where a training can be taken up again: written between epochs, atomically."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Checkpoint

from ..._files import sync_folder, temporary_beside
from ..torch_files import read_torch

SAVE_SECONDS = 30.0


class Checkpoints(Checkpoint):
    """Writes a checkpoint at the end of an epoch, if the last one is some time ago or it was the last epoch.

    Being a ``Checkpoint`` Lightning calls it after all other callbacks, so that it has their state.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._last = path, time.monotonic()
        self._begin, self._before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """What the training has taken so far, before interruptions and since."""
        return self._before + time.monotonic() - self._begin

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The clock starts."""
        self._begin = self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Writes, where it is time; rank 0 looks at the clock."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        due = trainer.strategy.broadcast(is_last or time.monotonic() - self._last >= SAVE_SECONDS)
        if not due:
            return
        temporary = temporary_beside(self._path)
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, self._path)
                sync_folder(self._path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        self._last = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self._before = state_dict["seconds"]


def steps_in(path: Path) -> int | None:
    """How many steps a checkpoint has behind it; None where there is none, or a damaged one.

    It is read without unpickling: a file that would run code when Lightning loads it is not one of ours.
    """
    try:
        content = read_torch(path)
    except (OSError, ValueError):
        return None
    steps = content.get("global_step") if isinstance(content, dict) else None
    return steps if isinstance(steps, int) else None
