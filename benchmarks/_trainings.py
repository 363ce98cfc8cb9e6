"""Trainings that a benchmark compares, several at a time, as `rdh reproduce` does them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rdh_ext.hashing.recipe import Recipe
from rdh_ext.hashing.reproduce.pool import places, train_all
from rdh_ext.hashing.reproduce.worker import Job


def results_of(recipes: Sequence[Recipe], folder: Path) -> list[dict[str, Any]]:
    """``results.json`` of a training by each recipe, in their order; a training that fails ends the program."""
    jobs = [
        Job(str(number), recipe, folder / str(number), folder / f"{number}.log")
        for number, recipe in enumerate(recipes)
    ]
    with tqdm(total=len(jobs), unit=" trainings", disable=None) as bar:
        ended = train_all(jobs, places(["cpu"], None), lambda end: bar.update() and None)
    failed = [end for end in ended if end.error is not None]
    if failed:
        raise SystemExit(f"{len(failed)} trainings failed, the first with {failed[0].error}")
    return [json.loads((job.folder / "results.json").read_bytes()) for job in jobs]
