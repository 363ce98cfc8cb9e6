"""A training that takes no time: what ``rdh_ext.hashing.run`` is to the pool, with numbers that follow from the recipe.

``REPRODUCE_FAULTS`` in the environment says what goes wrong: ``fail:<part of a key>``, ``die:``, ``hang:``, with commas
between them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from rdh_ext.hashing.recipe import Recipe, to_yaml
from rdh_ext.hashing.run import RunOptions

__all__ = ["RECIPE", "RunOptions", "content", "prepare", "put", "run"]
RECIPE = str(Path(__file__).parent / "reproduce_recipes" / "digits.yaml")


def content(recipe: Recipe, value: float, dead: float, *, topk: int | None = None, epochs: int = 20) -> dict[str, Any]:
    """As in results.json; dead bits fall from three times the value to it in the last tenth."""
    late = epochs - max(1, epochs // 10)
    columns = {"loss": 0.7, "similarity": 0.6, "quantization": 0.1, "saturated": 2 * dead, "bits": 128.0 * recipe.bits}
    levels = [level / 100 for level in range(101)]
    return {
        "kind": "rdh train",
        "rdh_ext": "0",
        "recipe": recipe.to_dict(),
        "label": "not looked at",
        "map": value,
        "topk": topk,
        "ap": [value],
        "map_at_100": value,
        "precision_radius_2": value / 2,
        "curves": [
            {"by": "radius", "at": [0], "precision": [1.0], "recall": [0.1], "queries": [3]},
            {"by": "recall", "recall": levels, "precision": [1 - (1 - value) * level for level in levels]},
        ],
        "epochs": [{"epoch": e, "dead": dead * (1 if e >= late else 3), **columns} for e in range(epochs)],
        "validation": [],
        "epoch": epochs - 1,
        "seconds": 2.0,
        "exact_zeros": 0,
        "items": {"query": 300, "train": 500, "gallery": 1497},
        "data": {"name": "digits", "description": "handwritten digits", "fingerprint": f"split {recipe.seed}"},
        "versions": {"torch": "2.11", "Python": "3.11"},
    }


def put(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    """A finished training."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    (folder / "last.ckpt").write_bytes(b"large")
    (folder / "results.json").write_text(json.dumps(results))


def prepare(recipe: Recipe) -> Any:
    """Says where there are no data."""
    if recipe.data.get("root") == "nowhere":
        raise OSError("digits: not in nowhere; put them there")
    if recipe.backbone.get("width") == -1:
        raise ValueError("backbone small_cnn: width must be positive")
    return SimpleNamespace(make_backbone=lambda: None)


def run(recipe: Recipe, options: RunOptions) -> dict[str, Any]:
    """Writes what a training writes, and a line into ``trained.txt`` of the grid: who has trained what."""
    key = options.out.name
    print(f"training {key}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "recipe.yaml").write_text(to_yaml(recipe))
    with open(options.out.parents[1] / "trained.txt", "a") as file:
        file.write(f"{key} {os.getpid()} {torch.get_num_threads()} {options.device} {options.resume} {options.force}\n")
    for fault in filter(None, os.environ.get("REPRODUCE_FAULTS", "").split(",")):
        kind, part = fault.split(":")
        if part in key:
            if kind == "fail":
                raise ValueError(f"no data\nfor {key}")
            if kind == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
            if kind == "wait":  # as Lightning does, which makes of SIGTERM what rdh_ext makes a KeyboardInterrupt of
                signal.signal(signal.SIGTERM, signal.default_int_handler)
                time.sleep(600)
    value = float(torch.rand((), generator=torch.Generator().manual_seed(recipe.seed)))
    results = content(recipe, 0.5 + 0.4 * value + 0.01 * bool(recipe.method["rdh"]), 100.0 / (1 + recipe.seed))
    put(options.out, recipe, results)
    return results
