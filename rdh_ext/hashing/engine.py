"""Training on Lightning: one module, one Trainer set-up, for every hashing method.

Importing this file imports Lightning; the rest of the harness imports it inside functions.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from tqdm import tqdm

from .. import pack_codes
from .data.splits import Part
from .history import EpochRecord, Schedule, StepRecord, epochs_of
from .methods.base import HashingMethod, MethodLoss


@dataclass(frozen=True)
class Trained:
    """A trained model, and how the training went."""

    backbone: nn.Module
    method: HashingMethod
    steps: list[StepRecord]
    seconds: float

    @property
    def epochs(self) -> list[EpochRecord]:
        """Means per epoch."""
        return epochs_of(self.steps)


@dataclass(frozen=True)
class Codes:
    """Packed codes of a set of images."""

    packed: Tensor
    """uint8 ``[n, ceil(K / 8)]`` on the CPU, as :func:`rdh_ext.pack_codes`."""
    exact_zeros: int
    """Activations that were exactly 0, neither sign: their bit is 1 by convention."""


class HashingModule(lightning.LightningModule):
    """Backbone + method; records loss and bit counts of every step in :attr:`records`."""

    def __init__(self, backbone: nn.Module, method: HashingMethod, schedule: Schedule) -> None:
        super().__init__()
        self.backbone, self.method, self.schedule = backbone, method, schedule
        self.records: list[StepRecord] = []
        self._parts: MethodLoss | None = None

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch of images and labels."""
        images, labels = batch
        parts = self.method.loss(self.method(self.backbone(images)), labels)
        self._parts = MethodLoss(*(part.detach() for part in parts))
        return parts.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Reads the counts of the backward pass that has just run: one synchronisation per step, with the loss."""
        assert self._parts is not None
        loss, similarity, quantization = torch.stack([part.double() for part in self._parts]).tolist()
        counts = self.method.counter.read()
        self.records.append(
            StepRecord(
                epoch=self.current_epoch,
                step=len(self.records),
                loss=loss,
                similarity=similarity,
                quantization=quantization,
                dead=counts.dead,
                saturated=counts.saturated,
                bits=counts.total,
                lr=optimizer.param_groups[0]["lr"],
            )
        )

    def configure_optimizers(self) -> Any:
        """SGD, and a cosine to 0 that moves every step."""
        s = self.schedule
        optimizer = torch.optim.SGD(self.parameters(), lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


class _Progress(lightning.Callback):
    """One bar for the whole training on standard error; nothing where that is not a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: tqdm[object] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        total = int(trainer.estimated_stepping_batches)
        # tqdm asks for the size itself, but shows nothing where a terminal reports 0 x 0, as some containers do
        size = {"ncols": min(shutil.get_terminal_size().columns, 110), "nrows": 24}
        form = "{desc:<13} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} to go{postfix}"
        self._bar = tqdm(total=total, desc=self._label, file=sys.stderr, disable=None, bar_format=form, **size)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object) -> None:
        assert self._bar is not None
        assert isinstance(pl_module, HashingModule)
        last = pl_module.records[-1]
        self._bar.set_postfix_str(f"loss {last.loss:.2f}, {last.dead} of {last.bits} bits dead", refresh=False)
        self._bar.update()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silences Lightning's notices (devices found, loader workers, tips); warnings of others still show."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _loader(part: Part, batch_size: int, seed: int) -> DataLoader[tuple[Tensor, ...]]:
    """Shuffled whole batches, cut out of memory by index; the order depends on ``seed`` alone."""
    generator = torch.Generator().manual_seed(seed)
    dataset = TensorDataset(part.images, part.labels)
    batches = BatchSampler(RandomSampler(dataset, generator=generator), min(batch_size, len(part)), drop_last=True)
    return DataLoader(dataset, sampler=batches, batch_size=None)


def train(
    make_backbone: Callable[[], nn.Module],
    method: HashingMethod,
    data: Part,
    schedule: Schedule,
    *,
    seed: int,
    device: torch.device,
    progress: bool = True,
) -> Trained:
    """Trains a fresh backbone with ``method``.

    Two methods given the same seed start from the same weights and see the same batches.

    Args:
        make_backbone: builds the network; called with the global random state seeded, so that initialisation follows
            ``seed``.
        method: activation and loss; its counter is read after every backward pass.
        data: training images.
        schedule: epochs, batch size (the last, smaller batch of an epoch is dropped), optimiser.
        seed: of initialisation and batch order. The caller's random state is put back.
        device: CPU or one CUDA device.
        progress: show a bar.

    Deterministic on the CPU for a seed, a number of threads and a version of PyTorch.
    """
    where = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=where), _quiet_lightning():
        torch.manual_seed(seed)
        module = HashingModule(make_backbone(), method, schedule)
        trainer = lightning.Trainer(
            max_epochs=schedule.epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment()],
            callbacks=[_Progress(method.label)] if progress else [],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        start = time.perf_counter()
        _fit(trainer, module, _loader(data, schedule.batch_size, seed))
        seconds = time.perf_counter() - start
    return Trained(module.backbone, method, module.records, seconds)


def _fit(trainer: lightning.Trainer, module: HashingModule, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    """``trainer.fit`` that lets an interrupt through: Lightning turns it into ``exit(1)`` and leaves SIGINT ignored."""
    on_main_thread = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, loader)
    except SystemExit as error:
        if on_main_thread is not None:
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                signal.signal(signal.SIGINT, on_main_thread)
        raise KeyboardInterrupt from error


@torch.no_grad()
def encode(backbone: nn.Module, method: HashingMethod, images: Tensor, *, batch_size: int = 1024) -> Codes:
    """Packed codes of ``images`` ``[n, ...]``, in evaluation mode, in batches on the device of the model."""
    device = next(backbone.parameters()).device
    backbone.eval()
    packed, zeros = [], 0
    for start in range(0, max(len(images), 1), batch_size):
        chunk = images[start : start + batch_size]
        h = method(backbone(chunk.to(device)))
        packed.append(pack_codes(h).cpu())
        zeros += int((h == 0).sum())
    return Codes(torch.cat(packed), zeros)
