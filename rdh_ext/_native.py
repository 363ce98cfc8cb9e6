"""Loads what was compiled, and knows why anything is missing. Nothing else in the package asks whether it is native."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

CPU_LOADED = False
CUDA_LOADED = False


def cpu_levels() -> tuple[str, ...]:
    """The instruction set levels this CPU and this build can run, lowest first."""
    return ()


@contextlib.contextmanager
def forced_cpu_level(level: str) -> Iterator[None]:
    """Runs the CPU kernels at ``level`` inside the block (tests and benchmarks)."""
    yield
