"""Which epoch's network is kept: that of the highest mAP of items held out of training, or the last one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import lightning.pytorch as lightning

from ... import evaluate
from ..codes import part_codes
from ..data.preprocessing import Preprocessing
from ..data.splits import Part
from .module import ADVICE, Diverged, HashingModule


class Chosen(NamedTuple):
    """An epoch, counted from 0, and the mAP of the held out items after it; NaN where none are held out."""

    epoch: int
    map: float


class Selection(lightning.Callback):
    """Evaluates the held out items now and then, and says when a network is to be kept.

    Args:
        query: the held out items; None keeps the last epoch.
        gallery: what they are compared with: the training items.
        preprocessing: of both.
        keep: called on every rank with the module and the epoch, the last time with the one that is chosen.
        every: epochs from one evaluation to the next.
        topk: depth of mAP.
        best: keep the best, or the last.
        workers: processes that read the items.

    Attributes:
        on_value: called with the epoch, the steps until then, and the mAP.
    """

    def __init__(
        self,
        query: Part | None,
        gallery: Part,
        preprocessing: Preprocessing,
        keep: Callable[[HashingModule, Chosen], None],
        *,
        every: int = 10,
        topk: int | None = None,
        best: bool = True,
        workers: int = 0,
    ) -> None:
        self._query, self._gallery, self._preprocessing, self._keep = query, gallery, preprocessing, keep
        self._every, self._topk, self._best, self._workers = every, topk, best, workers
        self.history: list[Chosen] = []
        self.on_value: Callable[[int, int, float], None] = lambda epoch, step, value: None

    @property
    def chosen(self) -> Chosen | None:
        """Whose network is kept, as far as is known; of equals the later one."""
        if not self.history:
            return None
        return max(self.history, key=lambda each: (each.map, each.epoch)) if self._best else self.history[-1]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Evaluates, where it is time."""
        assert isinstance(pl_module, HashingModule)
        epoch = trainer.current_epoch
        is_last = epoch + 1 == trainer.max_epochs
        if not is_last and (self._query is None or (epoch + 1) % self._every):
            return
        pl_module.flush()  # which says so where the loss is not a number
        if not all(bool(each.isfinite().all()) for each in pl_module.parameters()):
            raise Diverged(f"the weights are not finite after epoch {epoch + 1}; {ADVICE}")
        value = float("nan") if self._query is None else self._map(pl_module, self._query)
        self.history.append(Chosen(epoch, value))
        if self._query is not None:
            self.on_value(epoch, trainer.global_step, value)
        if self._query is None or self.chosen == self.history[-1]:
            self._keep(pl_module, self.history[-1])

    def _map(self, module: HashingModule, query: Part) -> float:
        q, g = (
            part_codes(module, part, self._preprocessing, module.method.bits, workers=self._workers).packed
            for part in (query, self._gallery)
        )
        depth = None if self._topk is None else min(self._topk, len(self._gallery))
        return evaluate(q, g, query.labels, self._gallery.labels, topk=depth, bits=module.method.bits).map

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"epochs": [each.epoch for each in self.history], "maps": [each.map for each in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.history = [Chosen(*each) for each in zip(state_dict["epochs"], state_dict["maps"], strict=True)]
