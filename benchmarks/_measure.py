"""Timing for all benchmarks: providers take turns in one process, so that their ratios survive a shared machine."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

import rdh_ext
from rdh_ext import _native

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
# Fresh large blocks cost a page fault per 4 KB; keeping freed memory mapped takes that out of both sides.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


def keep_memory_mapped() -> None:
    """Starts this program again with malloc told to keep what it has; does nothing the second time."""
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ.update(MALLOC)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def fresh_process(program: str, what: str, environment: Mapping[str, str], **arguments: Any) -> dict[str, Any]:
    """What ``program`` of this folder measured in a process of its own, from its last line, JSON; ends this process
    with its words where it fails."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]  # this tree's package, as the tests of this tree use
    everything = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(HERE / program), what, json.dumps(arguments)]
    done = subprocess.run(command, env=everything, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def die_with_parent() -> None:
    """This process is told to end when the one that has started it is gone, whatever has ended that; Linux alone."""
    pr_set_pdeathsig = 1
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)


def host_threads(threads: int, device: str) -> int:
    """Of the CPU: where a GPU is measured, all that there are make its inputs and check its results."""
    return threads if device == "cpu" else cores()


def cores() -> int:
    """What this process may run on."""
    return len(os.sched_getaffinity(0))


@contextmanager
def threads_of_torch(threads: int) -> Iterator[None]:
    """So many inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_threads(threads: int, step: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with threads_of_torch(threads):
            return step()

    return run


def at_level(level: str, step: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with _native.forced_cpu_level(level):
            return step()

    return run


@dataclass(frozen=True)
class Timing:
    """Seconds per call over the rounds of one provider."""

    p20: float
    p50: float
    p80: float


def mean_seconds(function: Callable[[], object], calls: int, settle: Callable[[], None] = lambda: None) -> float:
    """Of so many calls, with one wait at their end for what a device has still to do."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    settle()
    return (time.perf_counter() - start) / calls


def _warm_up(function: Callable[[], object], seconds: float) -> int:
    """Compiles what compiles itself, fills caches, and says how many calls take about ``seconds``."""
    function()
    if mean_seconds(function, 1) > seconds:
        return 1
    function()
    return max(1, int(seconds / max(mean_seconds(function, 2), 1e-7)))


def take_rounds(
    providers: dict[str, Callable[[], object]],
    calls: Mapping[str, int],
    rounds: int,
    *,
    probes: dict[str, Callable[[], float]] | None = None,
    fewer: Mapping[str, int] | None = None,
    settle: Callable[[], None] = lambda: None,
    order: Random | None = None,
) -> dict[str, list[float]]:
    """Seconds per call of every provider, one entry per round: in a round one comes after the other, for its number of
    ``calls``; in an order that is drawn anew for each round, where ``order`` is given, so that nobody always comes
    behind the one who leaves the caches full of something else.

    ``probes`` are asked in turn with the providers, and what they return is kept; ``fewer`` has the providers that take
    part in the first rounds only, and in how many.
    """
    samples: dict[str, list[float]] = {name: [] for name in (*providers, *(probes or {}))}
    for turn in range(rounds):
        turns = list(samples)
        if order is not None:
            order.shuffle(turns)
        for name in turns:
            if name not in providers:
                samples[name].append((probes or {})[name]())
            elif turn < (fewer or {}).get(name, rounds):
                samples[name].append(mean_seconds(providers[name], calls[name], settle))
    return samples


def sample(
    providers: dict[str, Callable[[], object]],
    *,
    rounds: int = 31,
    seconds: float = 0.02,
    probes: dict[str, Callable[[], float]] | None = None,
    fewer: dict[str, int] | None = None,
) -> dict[str, list[float]]:
    """:func:`take_rounds` after a warm-up, each provider for about ``seconds`` in a round."""
    calls = {name: _warm_up(function, seconds) for name, function in providers.items()}
    return take_rounds(providers, calls, rounds, probes=probes, fewer=fewer)


def timing(values: list[float]) -> Timing:
    """Of at least two samples."""
    cuts = statistics.quantiles(values, n=5)
    return Timing(cuts[0], statistics.median(values), cuts[3])


def take_turns(
    providers: dict[str, Callable[[], object]], *, rounds: int = 31, seconds: float = 0.02
) -> dict[str, Timing]:
    """Times every provider ``rounds`` times, one after the other within a round, each for about ``seconds``."""
    return {name: timing(values) for name, values in sample(providers, rounds=rounds, seconds=seconds).items()}


def machine() -> dict[str, str]:
    """What every row of a result carries."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "device": model,
        "threads": str(torch.get_num_threads()),
        "level": str(rdh_ext.build_info()["cpu_level"]),
        "torch": torch.__version__,
        "rdh_ext": rdh_ext.__version__,
    }


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    """Rows with equal keys, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
