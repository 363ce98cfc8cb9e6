"""All of ``rdh reproduce``: which trainings are missing, these in processes, and then the tables and figures."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..._extras import require
from . import documents, folders, pool
from .grid import Grid, GridError, Options, Run
from .summary import Results
from .worker import Job


@dataclass(frozen=True)
class Plan:
    """What there is to do."""

    grid: Grid
    runs: list[Run]
    done: dict[str, dict[str, Any]]
    """Results of the finished trainings, by key."""
    obstacles: dict[str, str]
    """Folders that other recipes made: key -> in what they differ."""
    devices: list[str]
    """Of each process."""

    @property
    def missing(self) -> list[Run]:
        """Trainings to do, in their order."""
        return [run for run in self.runs if run.key not in self.done]

    @property
    def seconds(self) -> float | None:
        """How long the missing ones will take, judged by those that are done; None without any."""
        if not self.done:
            return None
        each = fmean(results["seconds"] for results in self.done.values())
        return each * len(self.missing) / max(1, min(len(self.devices), len(self.missing)))


@dataclass(frozen=True)
class Outcome:
    """What was done."""

    plan: Plan
    """What there was to do."""
    failed: list[pool.Ended]
    tables: dict[str, str]
    """Target -> its tables as Markdown."""


def plan(options: Options) -> Plan:
    """Looks at the recipes and at the folder; writes nothing.

    Raises:
        RecipeError, GridError: the grid cannot be.
    """
    grid = Grid(options)
    runs = grid.runs()
    done, obstacles = {}, {}
    for run in runs:
        reason = folders.obstacle(options.out, run)
        results = folders.read_results(options.out, run.key)
        if reason is not None:
            obstacles[run.key] = reason
        elif results is not None:
            done[run.key] = results
    return Plan(grid, runs, done, obstacles, pool.places(options.devices, options.jobs))


def require_extras(options: Options) -> None:
    """Raises :class:`MissingExtra` for the first optional package that is not there, before any work is done."""
    require("matplotlib", extra="train")
    require("yaml", package="pyyaml", extra="train")
    if options.target != "fig3" and importlib.util.find_spec("lightning") is None:
        require("lightning", extra="train")  # imported by those that train alone: that takes seconds


def reproduce(
    options: Options,
    on_begin: Callable[[Plan], None] = lambda todo: None,
    on_end: Callable[[pool.Ended], None] = lambda end: None,
) -> Outcome:
    """Trains what is missing, and writes the files of every target.

    Args:
        options: what is asked for. With ``force``, trainings whose folder another recipe made are done anew in it.
        on_begin: called when it is clear what there is to do, before it is done.
        on_end: called after each training.

    Returns:
        The tables, and the trainings that failed: the others are in the tables, which say how many there are.

    Raises:
        FolderInUse: the folder holds something else, or trainings by another recipe, and ``force`` is not given.
        RecipeError, GridError, MissingExtra, OSError: the data or the network cannot be opened, for one.
    """
    require_extras(options)
    Grid(options)  # what cannot be is said before there is a folder
    folders.claim(options.out, force=options.force)
    with folders.lock(options.out):
        todo = plan(options)
        _refuse(todo)
        _try(todo)
        on_begin(todo)
        ends = pool.train_all([_job(run, todo) for run in todo.missing], todo.devices, on_end)
        found = {run.key: folders.read_results(options.out, run.key) for run in todo.runs}
        failed = [end for end in ends if end.error is not None]
        failed += [end._replace(error="it left no results") for end in ends if end.error is None and not found[end.key]]
        broken = {end.key for end in failed}
        results = Results(todo.grid, {key: value for key, value in found.items() if value and key not in broken})
        tables = {target: documents.write(options.out, target, results, failed) for target in options.targets}
    return Outcome(todo, failed, tables)


def _try(todo: Plan) -> None:
    """Data and network of one training, which are those of all: what cannot be opened is said once, before the others
    begin, and what must be downloaded is so once."""
    if not todo.missing:
        return
    try:
        importlib.import_module(pool.TRAINING).prepare(todo.missing[0].recipe).make_backbone()
    except ValueError as error:
        raise GridError(str(error)) from error


def _job(run: Run, todo: Plan) -> Job:
    options = todo.grid.options
    return Job(
        run.key,
        run.recipe,
        folders.folder_of(options.out, run.key),
        folders.log_of(options.out, run.key),
        options.workers,
        force=run.key in todo.obstacles,
    )


def _refuse(todo: Plan) -> None:
    if todo.obstacles and not todo.grid.options.force:
        key, reason = next(iter(todo.obstacles.items()))
        others = f" (and {len(todo.obstacles) - 1} more)" if len(todo.obstacles) > 1 else ""
        out: Path = todo.grid.options.out
        raise folders.FolderInUse(
            f"--out {out}: {folders.folder_of(out, key).relative_to(out)} is of another recipe, {reason}{others}; "
            "name another folder, or add --force to train those anew"
        )
