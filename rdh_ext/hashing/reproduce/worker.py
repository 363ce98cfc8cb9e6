"""What a process of the pool does: one training after the other, as the pipe brings them."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from ..recipe import Recipe


@dataclass(frozen=True)
class Job:
    """One training."""

    key: str
    recipe: Recipe
    folder: Path
    log: Path
    """Takes what the training writes to the terminal; removed when it succeeds."""
    workers: int | None = None
    """Processes that read images."""
    force: bool = False
    """Begin anew in a folder that was made by another recipe."""


def serve(pipe: Any, training: str, device: str) -> None:
    """Trains until the pipe brings None or closes; answers each job with None, or with its error on one line.

    Args:
        pipe: a connection.
        training: module with ``run(recipe, options)`` and ``RunOptions``.
        device: of all trainings.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)  # processes are what runs in parallel; and the numbers are those of any number of cores
    with contextlib.suppress(KeyboardInterrupt):  # what Lightning makes of the SIGTERM that ends this process
        while (job := _next(pipe)) is not None:
            error = _train(job, training, device)
            with contextlib.suppress(OSError):  # nobody waits for it any more
                pipe.send(error)


def _next(pipe: Any) -> Job | None:
    try:
        job: Job | None = pipe.recv()
    except (EOFError, OSError):
        return None
    return job


def _train(job: Job, training: str, device: str) -> str | None:
    try:
        with _into(job.log):
            module = importlib.import_module(training)
            options = module.RunOptions(
                out=job.folder,
                device=device,
                resume=not job.force,
                force=job.force,
                progress=False,
                workers=job.workers,
            )
            module.run(job.recipe, options)
        (job.folder / "last.ckpt").unlink(missing_ok=True)  # twice the size of the model, and no use any more
        job.log.unlink(missing_ok=True)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    return None


@contextlib.contextmanager
def _into(log: Path) -> Iterator[None]:
    """What is written to the terminal goes into a file, that of libraries in C included, and the traceback."""
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = [(number, os.dup(number)) for number in (1, 2)]
    try:
        with open(log, "wb") as file:
            for number, _ in saved:
                os.dup2(file.fileno(), number)
        yield
    except Exception:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)


def _end_with_parent() -> None:
    """A pool that is killed leaves no process behind that goes on writing into a folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
