"""The LightningModule: a backbone and a method, and a record of every step that nothing waits for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...distributed import gather_batch
from ..batches import Batch
from ..history import Schedule, StepRecord
from ..methods.base import HashingMethod, MethodLoss

FLUSH_STEPS = 50
"""Records that are fetched from the device together."""


ADVICE = "a smaller learning rate helps, or a larger precision"


class Diverged(ValueError):
    """The loss or the weights are no numbers any more; the message says since when, and what helps."""


class _Waiting(NamedTuple):
    """A step whose numbers have not been fetched yet."""

    epoch: int
    step: int
    lr: float
    parts: MethodLoss
    counts: Tensor
    """Of this rank."""


class HashingModule(lightning.LightningModule):
    """Backbone + method.

    What a step has measured stays on the device, as it is, until it is fetched with that of other steps: a record costs
    a step no synchronisation, next to no arithmetic, and on several ranks no message.

    Args:
        backbone: inputs -> logits.
        method: activation and loss.
        schedule: of the optimiser.
        on_records: called with new records, in their order.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: HashingMethod,
        schedule: Schedule,
        on_records: Callable[[list[StepRecord]], None] = lambda records: None,
    ) -> None:
        super().__init__()
        self.backbone, self.method, self.schedule = backbone, method, schedule
        self._on_records = on_records
        self._parts: MethodLoss | None = None
        self._waiting: list[_Waiting] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Relaxed codes of inputs."""
        h: Tensor = self.method(self.backbone(inputs))
        return h

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Tells the method, of an epoch, too: Lightning leaves out the hook of the epoch that a training resumes at."""
        if batch_idx == 0:
            self.method.begin_epoch(self.current_epoch)
        self.method.begin_step(self.global_step)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch, which is that of all ranks together."""
        inputs, labels, index = batch
        h, labels, index = gather_batch(self(inputs), labels, index)
        parts = self.method.loss(h, labels, index)
        self._parts = MethodLoss(*(part.detach() for part in parts))
        return parts.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes the counts of the backward pass that has just run."""
        assert self._parts is not None
        counts = self.method.counter.take(self._parts.total.device)
        lr = optimizer.param_groups[0]["lr"]
        self._waiting.append(_Waiting(self.current_epoch, self.global_step, lr, self._parts, counts))
        if len(self._waiting) >= FLUSH_STEPS:
            self.flush()

    def on_train_epoch_end(self) -> None:
        """Gives out what is left."""
        self.flush()

    def flush(self) -> None:
        """Gives out the records that are waiting: one copy from the device. Every rank calls this after the same steps.

        Raises:
            Diverged: none of them has a loss that is a number.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        counts = torch.stack([each.counts for each in waiting])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(counts)
        parts = [torch.stack(values).double() for values in zip(*(each.parts for each in waiting), strict=True)]
        measured = torch.cat((torch.stack(parts, dim=1), counts), dim=1).tolist()
        records = []
        for each, (loss, similarity, quantization, *of_bits) in zip(waiting, measured, strict=True):
            dead, saturated, bits = map(int, of_bits)
            values = (loss, similarity, quantization, dead, saturated, bits)
            records.append(StepRecord(each.epoch, each.step, *values, each.lr))
        self._on_records(records)
        if all(math.isnan(record.loss) for record in records):  # with float16 one may be, and its step is left out
            raise Diverged(
                f"the loss is not a number since step {records[0].step} in epoch {records[0].epoch + 1}; {ADVICE}"
            )

    def configure_optimizers(self) -> Any:
        """SGD, and a cosine to 0 that moves every step."""
        s = self.schedule
        trained = [each for each in self.parameters() if each.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
