"""One process of a data-parallel training, started by torchrun; what it gets is for ``test_ranks_training``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_runs import forgetful, recipe_of

from rdh_ext.cli.process_group import process_group
from rdh_ext.hashing import run as run_module
from rdh_ext.hashing.backbones import BACKBONES
from rdh_ext.hashing.engine import HashingModule, checkpoints
from rdh_ext.hashing.recipe import Recipe
from rdh_ext.hashing.run import RunError, RunOptions, run

INTERRUPTED = 5
"""A step in the third epoch."""


def recipes() -> dict[str, Recipe]:
    """What is trained by one process and by two: without dropout, which ranks draw for themselves."""
    common: dict[str, Any] = {"precision": "64", "training__epochs": 3, "training__lr": 0.3, "data__input_scale": 4.0}
    common |= {"backbone": {"name": "mlp", "hidden": [16]}, "training__batch_size": 31}
    methods: dict[str, dict[str, Any]] = {name: {"tau": 0.2} for name in ("hashnet", "dpsh", "dsdh", "dagh")}
    return {
        name: recipe_of(method={"name": name, "rdh": True, **options}, **common) for name, options in methods.items()
    }


def refused(recipe: Recipe, options: RunOptions) -> str:
    try:
        run(recipe, options)
    except (RunError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main(folder: Path) -> dict[str, Any]:
    """All jobs, one after the other."""
    rank, written, write = dist.get_rank(), [], run_module.write_json
    run_module.write_json = lambda path, value: (written.append(str(path)), write(path, value))
    out: dict[str, Any] = {}
    for name, recipe in recipes().items():
        out[name] = run(recipe, RunOptions(folder / name, progress=False, tensorboard=rank == 0 and name == "dpsh"))
    out["written"] = list(written)

    # what is said where the folder cannot be used is the same on both, whoever is first
    hashnet = recipes()["hashnet"]
    options = RunOptions(folder / "hashnet", progress=False)
    out["again"] = refused(hashnet, options)
    out["finished"] = run(hashnet, RunOptions(folder / "hashnet", progress=False, resume=True))
    out["small"] = refused(hashnet.override({"training.batch_size": 2, "method.tau": 2.0}), options)

    # interrupted, on both, and taken up again, with dropout and augmentation
    BACKBONES["forgetful"] = forgetful
    checkpoints.SAVE_SECONDS = 0.0
    recipe = recipe_of(training__epochs=3)
    run(recipe, RunOptions(folder / "whole", progress=False))
    begin = HashingModule.on_train_batch_start

    def interrupt(self: HashingModule, batch: Any, batch_idx: int) -> None:
        if self.global_step == INTERRUPTED:
            raise ArithmeticError
        begin(self, batch, batch_idx)

    HashingModule.on_train_batch_start = interrupt  # type: ignore[method-assign]
    try:
        run(recipe, RunOptions(folder / "pieces", progress=False))
    except ArithmeticError:
        out["interrupted"] = True
    HashingModule.on_train_batch_start = begin  # type: ignore[method-assign]
    run(recipe, RunOptions(folder / "pieces", progress=False, resume=True))
    return out


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group("cpu", 120, gradients=True) as (rank, _):
        results = main(Path(sys.argv[1]))
        torch.save(results, Path(sys.argv[1]) / f"{rank}.pt")
