"""``HammingMAP`` in the loops of Lightning, which resets it itself."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hamming_map_cases import BITS, HammingMAP, evaluated, make_case, same
from torch import Tensor


@pytest.mark.parametrize("how", ["metric", "value"])
def test_in_a_lightning_trainer(how: str) -> None:
    """With two loaders, queries and gallery, and batches that are not full; the trainer resets the metric itself."""
    lightning = pytest.importorskip("lightning.pytorch")
    data = torch.utils.data

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.map = torch.nn.Linear(BITS, 10), HammingMAP(topk=50)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            x, labels = batch
            self.map.update(self.net(x), labels, role=("query", "gallery")[dataloader_idx])

        def on_validation_epoch_end(self) -> None:
            if how == "metric":
                self.log("map", self.map)
            else:
                self.log("map", self.map.compute())
                self.map.reset()

    x, y, x_labels, y_labels = make_case()
    sets = [data.TensorDataset(x, x_labels), data.TensorDataset(y, y_labels)]
    loaders = [data.DataLoader(part, batch_size=16) for part in sets]
    module = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loaders[1], loaders)  # after two batches of each as a sanity check
        with torch.no_grad():
            expected = evaluated((module.net(x), module.net(y), x_labels, y_labels), topk=50)
        assert same(module.map.result, expected)
        for _ in range(2):
            module.map.result = None
            (logged, _) = trainer.validate(module, loaders, verbose=False)
            assert logged == {"map": float(torch.tensor(expected.map))}
            assert same(module.map.result, expected)
            assert module.map.update_count == 0
