"""One training: a fresh backbone, a method, a schedule."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from ..batches import generator_for, training_loader
from ..data.preprocessing import Preprocessing
from ..data.splits import Part
from ..history import EpochRecord, Schedule, StepRecord, epochs_of
from ..methods.base import HashingMethod
from ..ranks import rank_and_count
from .checkpoints import Checkpoints, steps_in
from .module import HashingModule
from .progress import Progress
from .quiet import interruptible, quiet_lightning
from .selection import Selection

_PRECISION: dict[str, Any] = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class Trained:
    """A trained model, and how the training went."""

    backbone: nn.Module
    method: HashingMethod
    steps: list[StepRecord]
    """Of this process: where a training was taken up again, those since then."""
    seconds: float

    @property
    def epochs(self) -> list[EpochRecord]:
        """Means per epoch."""
        return epochs_of(self.steps)


@dataclass(frozen=True)
class Settings:
    """How a training is done, which decides nothing about its result (up to rounding)."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "32"
    """"32", "64", or mixed with "bf16" or "16"."""
    workers: int = 0
    """Processes that prepare batches."""
    progress: bool = True
    checkpoint: Path | None = None
    """Written at the end of an epoch now and then."""
    resume: bool = False
    """Go on from it, where it is there."""


class _Seeds(lightning.Callback):
    """What is drawn within an epoch (dropout) depends on seed, epoch and rank alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:  # not at the start of the epoch: Lightning leaves that out where a training resumes
            torch.manual_seed(generator_for(self._seed, trainer.current_epoch, -1 - trainer.global_rank).initial_seed())


def train(
    make_backbone: Callable[[], nn.Module],
    method: HashingMethod,
    data: Part,
    schedule: Schedule,
    *,
    seed: int,
    settings: Settings,
    preprocessing: Preprocessing | None = None,
    selection: Selection | None = None,
    on_records: Callable[[list[StepRecord]], None] | None = None,
) -> Trained:
    """Trains a fresh backbone with ``method``.

    Two methods given the same seed start from the same weights and see the same batches. In a process group every rank
    calls this: a batch is divided among them, and the loss is that of the whole batch.

    Args:
        make_backbone: builds the network; called with the global random state seeded, so that initialisation follows
            ``seed``.
        method: activation and loss; its counter is read after every backward pass.
        data: training items.
        schedule: epochs, batch size (the last, smaller batch of an epoch is dropped), optimiser.
        seed: of initialisation, batch order, augmentation and dropout. The caller's random state is put back.
        settings: device, precision, checkpoint.
        preprocessing: raw items -> inputs; None takes them as they are.
        selection: evaluates epochs, and keeps the best.
        on_records: called with the records of steps; without it they are in the result.

    Deterministic on the CPU for a seed, a number of threads and a version of PyTorch, interrupted or not.
    """
    rank, ranks = rank_and_count()
    steps: list[StepRecord] = []
    cuda = settings.device.type == "cuda"
    resumed = settings.checkpoint if settings.resume and settings.checkpoint is not None else None
    if resumed is not None and steps_in(resumed) is None:
        resumed = None
    with torch.random.fork_rng(devices=[settings.device] if cuda else []), quiet_lightning():
        torch.manual_seed(seed)
        progress = Progress(method.label) if settings.progress else None

        def take(records: list[StepRecord]) -> None:
            (on_records or steps.extend)(records)
            if progress is not None:
                progress.show(records)

        module = HashingModule(make_backbone(), method, schedule, take)
        loader = training_loader(
            data,
            preprocessing or Preprocessing(),
            schedule.batch_size,
            seed,
            rank=rank,
            ranks=ranks,
            workers=settings.workers,
            pin=cuda,
        )
        method.begin(data.labels, len(loader) * schedule.epochs)
        if settings.precision == "64":
            module.double()  # Lightning does it after a checkpoint has been loaded, which would then be rounded
        checkpoints = None if settings.checkpoint is None else Checkpoints(settings.checkpoint)
        wanted: list[lightning.Callback | None] = [_Seeds(seed), progress, selection, checkpoints]
        callbacks = [each for each in wanted if each is not None]
        trainer = _trainer(schedule, settings, callbacks, ranks)
        start = time.perf_counter()
        interruptible(lambda: trainer.fit(module, loader, ckpt_path=resumed))
        seconds = time.perf_counter() - start
    return Trained(module.backbone, method, steps, seconds if checkpoints is None else checkpoints.seconds)


def _trainer(
    schedule: Schedule, settings: Settings, callbacks: list[lightning.Callback], ranks: int
) -> lightning.Trainer:
    cuda = settings.device.type == "cuda"
    options: dict[str, Any] = {"devices": [settings.device.index or 0] if cuda else 1}
    if ranks > 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
        # the state of a method is the same on every rank, as the joint batch is; nothing has to be sent
        options = {"devices": here, "num_nodes": ranks // here, "strategy": DDPStrategy(broadcast_buffers=False)}
    else:
        options["plugins"] = [LightningEnvironment()]
    return lightning.Trainer(
        max_epochs=schedule.epochs,
        accelerator="gpu" if cuda else "cpu",
        precision=_PRECISION[settings.precision],
        callbacks=callbacks,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=settings.checkpoint is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
