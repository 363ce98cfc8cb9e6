"""Whose network is kept: that of the epoch with the highest mAP of items that are held out, and never of queries."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import model_of, options_of, recipe_of, state_of, with_forgetful
from torch import Tensor

import rdh_ext
from rdh_ext.hashing import run as run_module
from rdh_ext.hashing.data import DATASETS, Part, Preprocessing, RetrievalData, load_digits
from rdh_ext.hashing.methods import HashNet
from rdh_ext.hashing.run import prepare, run

pytest.importorskip("lightning")

from rdh_ext.hashing.engine import Chosen, HashingModule, Selection, Settings, train

__all__ = ["with_forgetful"]


def kept_of(maps: Sequence[float], epochs: int, **options: Any) -> tuple[Selection, list[int]]:
    """Epochs whose network is kept where these are the mAPs of held out items."""
    part = load_digits(train_per_class=3).train
    kept: list[int] = []
    selection = Selection(part, part, Preprocessing(), lambda _, chosen: kept.append(chosen.epoch), **options)
    values = iter(maps)
    selection._map = lambda *_: next(values)  # type: ignore[method-assign]
    module = HashingModule(torch.nn.Identity(), HashNet(4), recipe_of().training)
    for epoch in range(epochs):
        trainer = SimpleNamespace(current_epoch=epoch, max_epochs=epochs, global_step=0)
        selection.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert list(values) == []
    return selection, kept


@pytest.mark.parametrize(
    ("maps", "kept"),
    [
        ([0.1, 0.2, 0.3], [0, 1, 2]),
        ([0.3, 0.2, 0.1], [0]),
        ([0.2, 0.3, 0.2, 0.3, 0.1], [0, 1, 3]),  # of equals the later one
        ([0.0, 0.0], [0, 1]),
    ],
)
def test_the_best_is_kept_and_of_equals_the_later_one(maps: list[float], kept: list[int]) -> None:
    selection, seen = kept_of(maps, len(maps), every=1)
    assert seen == kept
    assert selection.chosen == Chosen(kept[-1], maps[kept[-1]])
    assert selection.history == [Chosen(epoch, value) for epoch, value in enumerate(maps)]


def test_the_last_is_kept_where_that_is_wanted() -> None:
    selection, seen = kept_of([0.3, 0.1, 0.2], 3, every=1, best=False)
    assert seen == [0, 1, 2]
    assert selection.chosen == Chosen(2, 0.2)


def test_some_epochs_are_evaluated_and_always_the_last_one() -> None:
    assert kept_of([0.1, 0.2, 0.3], 12, every=4)[1] == [3, 7, 11]
    assert kept_of([0.1, 0.2], 6, every=4)[1] == [3, 5]
    assert kept_of([0.1], 6, every=100)[1] == [5]


def test_a_run_keeps_the_epoch_of_the_highest_map(tmp_path: Path) -> None:
    """Evaluated once more from the networks of all epochs; the kept one does not have to be the last."""
    recipe = recipe_of(training__epochs=6, training__lr=0.6, training__momentum=0.0)
    setting = prepare(recipe)
    assert setting.validation is not None
    networks: list[dict[str, Tensor]] = []
    maps = []
    selection = Selection(setting.validation, setting.data.train, setting.preprocessing, lambda *_: None, every=1)
    selection.on_value = lambda *_: maps.append(selection.history[-1].map)

    def note(module: HashingModule, query: Part) -> float:
        networks.append({name: value.clone() for name, value in module.backbone.state_dict().items()})
        return evaluate(module, query)

    evaluate = selection._map
    selection._map = note  # type: ignore[method-assign]
    train(
        setting.make_backbone,
        setting.method,
        setting.data.train,
        recipe.training,
        seed=recipe.seed,
        settings=Settings(progress=False),
        preprocessing=setting.preprocessing,
        selection=selection,
    )
    again = []
    for weights in networks:
        network = setting.make_backbone()
        network.load_state_dict(weights)
        network.eval()
        with torch.no_grad():
            codes = [
                rdh_ext.pack_codes(torch.tanh(network(part.images)))
                for part in (setting.validation, setting.data.train)
            ]
        result = rdh_ext.evaluate(*codes, setting.validation.labels, setting.data.train.labels, bits=recipe.bits)
        again.append(result.map)
    assert maps == again
    best = max(range(6), key=lambda epoch: (maps[epoch], epoch))
    assert best != 5, "the test needs a training whose last epoch is not its best"

    results = run(recipe, options_of(tmp_path / "run"))
    assert [each["map"] for each in results["validation"]] == maps
    assert results["epoch"] == best
    model = model_of(tmp_path / "run")
    assert model["chosen"] == {"epoch": best, "validation_map": maps[best]}
    for name, value in model["backbone"].items():
        assert torch.equal(value, networks[best][name])

    last = run(replace(recipe, validation=replace(recipe.validation, select="last")), options_of(tmp_path / "last"))
    assert last["epoch"] == 5
    assert last["validation"] == results["validation"]
    for name, value in model_of(tmp_path / "last")["backbone"].items():
        assert torch.equal(value, networks[5][name])


def test_without_held_out_items_the_last_epoch_is_kept(tmp_path: Path) -> None:
    results = run(recipe_of(validation__items=0), options_of(tmp_path / "run"))
    assert (results["epoch"], results["validation"]) == (3, [])
    assert model_of(tmp_path / "run")["chosen"] == {"epoch": 3, "validation_map": None}
    state = state_of(tmp_path / "run")
    for name, value in model_of(tmp_path / "run")["backbone"].items():
        assert torch.equal(value, state[f"backbone.{name}"])


class Untouchable:
    """A source that nobody may read."""

    shape = (1, 8, 8)

    def __init__(self, items: int) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items

    def read(self, index: Tensor) -> Tensor:
        raise AssertionError("a query was looked at")

    def name(self, index: int) -> str:
        return str(index)


def test_queries_are_not_looked_at_before_the_epoch_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With queries that cannot be read, and labels that are none, everything is done but the codes of queries."""
    load = DATASETS["digits"]
    run(recipe_of(), options_of(tmp_path / "whole"))

    def poisoned(seed: int = 0, *, query_per_class: int = 5, train_per_class: int = 8) -> RetrievalData:
        data = load(seed, query_per_class=query_per_class, train_per_class=train_per_class)
        query = data.query
        labels = torch.full_like(query.labels, -(2**60))
        return replace(data, query=Part(Untouchable(len(query.source)), query.indices, labels))

    monkeypatch.setitem(DATASETS, "digits", poisoned)
    with pytest.raises(AssertionError, match="a query was looked at"):
        run(recipe_of(), options_of(tmp_path / "run"))
    first, second = (model_of(tmp_path / name) for name in ("whole", "run"))
    assert first["chosen"] == second["chosen"]
    for name, value in first["backbone"].items():
        assert torch.equal(value, second["backbone"][name])
    assert state_of(tmp_path / "run")["steps"] == state_of(tmp_path / "whole")["steps"]
    assert not (tmp_path / "run" / "codes").exists()


@pytest.mark.parametrize("spare", [True, False])
def test_held_out_items_are_not_trained_on(spare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are enough others in the gallery, or a tenth of the training items has to do."""
    seen: set[int] = set()
    recipe = recipe_of(validation__items=60, preprocessing={}, training__batch_size=10)
    if not spare:
        data = DATASETS["digits"](**{name: value for name, value in recipe.data.items() if name != "name"})
        monkeypatch.setattr(run_module, "open_data", lambda *_: replace(data, gallery=data.train))
    with contextlib.nullcontext() if spare else pytest.warns(UserWarning, match="8 of 80 training items are held out"):
        setting = prepare(recipe)
    assert setting.validation is not None
    assert len(setting.data.train) == (80 if spare else 72)
    source: Any = setting.data.train.source
    read = type(source).read

    def note(self: Any, index: Tensor) -> Tensor:
        seen.update(index.tolist())
        items: Tensor = read(self, index)
        return items

    monkeypatch.setattr(type(source), "read", note)
    train(
        setting.make_backbone,
        setting.method,
        setting.data.train,
        recipe.training,
        seed=0,
        settings=Settings(progress=False),
        preprocessing=setting.preprocessing,
    )
    assert seen == set(setting.data.train.indices.tolist())
    held_out = set(setting.validation.indices.tolist())
    assert len(held_out) == (60 if spare else 8)
    assert not held_out & seen
    assert not held_out & set(setting.data.query.indices.tolist())


def test_selection_reads_items_in_workers_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rdh_ext.hashing.engine import selection

    asked, encode = [], selection.part_codes

    def note(*arguments: Any, workers: int = 0, **options: Any) -> Any:
        asked.append(workers)
        return encode(*arguments, **options)

    monkeypatch.setattr(selection, "part_codes", note)
    monkeypatch.setattr(run_module, "_workers", lambda *_: 0)
    run(recipe_of(training__epochs=1), options_of(tmp_path / "none"))
    monkeypatch.setattr(run_module, "_workers", lambda *_: 3)
    monkeypatch.setattr(run_module, "part_codes", lambda *arguments, workers: encode(*arguments))
    monkeypatch.setattr("rdh_ext.hashing.engine.fit.training_loader", _without_workers)
    run(recipe_of(training__epochs=1), options_of(tmp_path / "some"))
    assert asked == [0, 0, 3, 3]


def _without_workers(*arguments: Any, **options: Any) -> Any:
    from rdh_ext.hashing.batches import training_loader

    return training_loader(*arguments, **{**options, "workers": 0})


def test_depth_of_map_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rdh_ext.hashing.engine import selection

    depths, evaluate = [], selection.evaluate

    def note(*arguments: Any, topk: int | None, **options: Any) -> Any:
        depths.append(topk)
        return evaluate(*arguments, topk=topk, **options)

    monkeypatch.setattr(selection, "evaluate", note)
    for topk in (None, 20, 1000):
        results = run(recipe_of(training__epochs=1, topk=topk), options_of(tmp_path / str(topk)))
        assert results["topk"] == topk
    assert depths == [None, 20, 80]  # of 80 training items
