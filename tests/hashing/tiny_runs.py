"""Trainings that take a moment, and what is compared of two of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rdh_ext.hashing.backbones import BACKBONES
from rdh_ext.hashing.recipe import Recipe
from rdh_ext.hashing.run import RunOptions

TINY: dict[str, Any] = {
    "bits": 12,
    "data": {"name": "digits", "query_per_class": 5, "train_per_class": 8},
    "preprocessing": {"augment": "flip"},
    "backbone": {"name": "forgetful"},
    "method": {"name": "hashnet", "rdh": True, "tau": 0.9},
    "training": {"epochs": 4, "lr": 0.1, "batch_size": 32},
    "validation": {"items": 60, "every": 1},
}
"""Two steps in each of four epochs; random numbers are drawn in dropout and augmentation."""
STEPS = 8


def forgetful(bits: int, shape: tuple[int, ...], *, hidden: int = 16) -> nn.Sequential:
    """A network with dropout."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(shape[0] * shape[1] * shape[2], hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, bits),
    )


@pytest.fixture(autouse=True)
def with_forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it a backbone by name; imported where it is wanted."""
    monkeypatch.setitem(BACKBONES, "forgetful", forgetful)


def recipe_of(**changes: Any) -> Recipe:
    """The tiny recipe; with sections in place of its own, or values by names as ``training__lr``."""
    sections = {name: value for name, value in changes.items() if "__" not in name}
    values = {name.replace("__", "."): value for name, value in changes.items() if "__" in name}
    return Recipe.from_dict({**TINY, **sections}).override(values)


def options_of(out: Path, **changes: Any) -> RunOptions:
    return RunOptions(out, progress=False, **changes)


def results_of(out: Path) -> dict[str, Any]:
    """results.json without what depends on the clock."""
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert content.pop("seconds") > 0
    return content


def state_of(out: Path) -> dict[str, Any]:
    """The last checkpoint: weights, momentum, what the method keeps."""
    content = torch.load(out / "last.ckpt", weights_only=True)
    return {"steps": content["global_step"], **content["state_dict"], **_numbered(content["optimizer_states"])}


def model_of(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(out / "model.pt", weights_only=True)
    return content


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Bit for bit."""
    assert list(first) == list(second)
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == second[name].dtype, name
            assert torch.equal(value, second[name]), name
        elif isinstance(value, dict):
            assert_same(value, second[name])
        else:
            assert value == second[name], name


def assert_same_run(first: Path, second: Path) -> None:
    """Weights, records, choice of the epoch, codes and numbers, bit for bit."""
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    assert_same(model_of(first), model_of(second))
    assert_same(state_of(first), state_of(second))
    assert results_of(first) == results_of(second)
    for role in ("query", "gallery"):
        for path in sorted((first / "codes" / role).glob("*.npy")):
            assert path.read_bytes() == (second / "codes" / role / path.name).read_bytes()
    assert [path for path in second.iterdir() if path.name.startswith(".")] == []


def _numbered(states: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        f"optimizer {number} {place}": each["momentum_buffer"]
        for number, state in enumerate(states)
        for place, each in state["state"].items()
    }
