"""Trainings in processes of their own: as many at a time as there are places, each place on one device."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple

from .worker import Job, serve

TRAINING = "rdh_ext.hashing.run"
"""The module whose ``run`` trains."""
GRACE = 5.0
"""Seconds that processes have to end by themselves."""


class Ended(NamedTuple):
    """A training that is over."""

    key: str
    error: str | None
    """On one line; None if it succeeded."""
    seconds: float


def places(devices: Sequence[str], jobs: int | None) -> list[str]:
    """The device of every process.

    Args:
        devices: "cpu", or CUDA devices; "cuda" stands for all of them.
        jobs: how many processes; None is one per core on the CPU, else one per CUDA device.

    Example:
        >>> from rdh_ext.hashing.reproduce.pool import places
        >>> places(["cuda:0", "cuda:1"], 3)
        ['cuda:0', 'cuda:1', 'cuda:0']
    """
    names = list(devices)
    if names == ["cuda"]:
        import torch

        names = [f"cuda:{number}" for number in range(torch.cuda.device_count())] or names
    if jobs is None:
        jobs = cores() if names == ["cpu"] else len(names)
    return [names[number % len(names)] for number in range(jobs)]


def cores() -> int:
    """That this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def train_all(
    jobs: Sequence[Job], devices: Sequence[str], on_end: Callable[[Ended], None], training: str | None = None
) -> list[Ended]:
    """Trains all jobs, in their order; one that fails does not keep the others from running.

    The numbers do not depend on how many processes there are: each trains with one thread, from the recipe alone.
    However this ends, by Ctrl-C or by an error, no process stays; what is done stays done.

    Args:
        jobs: what to do.
        devices: of the processes, from :func:`places`.
        on_end: called after each training.
        training: module with ``run`` and ``RunOptions``; :data:`TRAINING`.

    Returns:
        How each ended, in the order of ``jobs``.
    """
    waiting, ended = deque(jobs), {}
    workers: list[_Worker] = []
    try:
        for device in devices[: len(jobs)]:
            workers.append(_Worker(training or TRAINING, device))
            workers[-1].give(waiting.popleft())
        while busy := [worker for worker in workers if worker.job is not None]:
            connection.wait([thing for worker in busy for thing in (worker.pipe, worker.process.sentinel)])
            for worker in busy:
                end = worker.look()
                if end is None:
                    continue
                ended[end.key] = end
                on_end(end)
                if waiting:
                    worker.give(waiting.popleft())
    finally:
        with _uninterrupted():
            _stop([worker for worker in workers if worker.process is not None])
    return [ended[job.key] for job in jobs]


class _Worker:
    """A process: begun with its first training, and anew after one that it did not survive."""

    def __init__(self, training: str, device: str) -> None:
        self._arguments = (training, device)
        self._since = 0.0
        self.job: Job | None = None
        self.pipe: Any = None
        self.process: Any = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        # not a daemon: those may not have processes of their own, which read images
        process = context.Process(target=serve, args=(theirs, *self._arguments), daemon=False)
        with _one_thread(), _uninterrupted():
            process.start()
            self.process = process
        theirs.close()

    def give(self, job: Job) -> None:
        """The next training."""
        if self.process is None:
            self._start()
        self.job, self._since = job, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # the process has died: look says so
            self.pipe.send(job)

    def look(self) -> Ended | None:
        """How the training ended; None if it has not yet."""
        assert self.job is not None
        error: str | None
        try:
            if not self.pipe.poll():
                if self.process.is_alive():
                    return None
                raise EOFError
            error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            error = _death(self.process.exitcode)
            self.pipe.close()
            self.process = None
        end = Ended(self.job.key, error, time.monotonic() - self._since)
        self.job = None
        return end


def _death(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        hint = "; is there enough memory? fewer --jobs need less" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with status {status}"


def _stop(workers: Sequence[_Worker]) -> None:
    """Ends them all: those with nothing to do end with their pipe, the others by SIGTERM, and all then by SIGKILL."""
    for worker in workers:
        worker.pipe.close()
        if worker.job is not None:
            worker.process.terminate()
    until = time.monotonic() + GRACE
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start meanwhile have one thread in every library."""
    saved = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if saved is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = saved


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that start meanwhile ignore Ctrl-C from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    saved = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, saved)
