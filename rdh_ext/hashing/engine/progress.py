"""One bar for a whole training."""

from __future__ import annotations

import shutil
import sys

import lightning.pytorch as lightning
from tqdm import tqdm

from ..history import StepRecord


class Progress(lightning.Callback):
    """Steps, loss and dead bits on standard error; nothing where that is not a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: tqdm[object] | None = None

    def show(self, records: list[StepRecord]) -> None:
        """The last of some records, beside the bar."""
        if self._bar is not None:
            last = records[-1]
            self._bar.set_postfix_str(f"loss {last.loss:.2f}, {last.dead} of {last.bits} bits dead", refresh=False)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Opens it."""
        if not trainer.is_global_zero:
            return
        total = int(trainer.estimated_stepping_batches)
        # tqdm asks for the size itself, but shows nothing where a terminal reports 0 x 0, as some containers do
        size = {"ncols": min(shutil.get_terminal_size().columns, 110), "nrows": 24}
        form = "{desc:<13} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} to go{postfix}"
        options = {"file": sys.stderr, "disable": None, "bar_format": form, "initial": trainer.global_step}
        self._bar = tqdm(total=total, desc=self._label, **options, **size)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object) -> None:
        """Moves it."""
        if self._bar is not None:
            self._bar.update()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Closes it."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Closes it."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
