"""The backends an op can be forced to run on."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from rdh_ext import _native
from rdh_ext.ops._library import NAMESPACE, REFERENCES

sys.path.insert(0, str(Path(__file__).parent / "simt"))

import simt_ops

LEVELS = ("scalar", "avx2", "avx512", "avx512vpopcntdq")
BACKENDS = ("reference", *LEVELS, "simt", "cuda")
KERNELS = Path(__file__).parents[1] / "csrc" / "kernels"


def backends_of(stem: str) -> tuple[str, ...]:
    """Those that have something of their own for an op: without a kernel they would run the reference once more."""
    if _native.DISABLED:  # thousands of skips say no more than one variable does
        return ("reference",)
    without = set()
    if not (KERNELS / "cpu" / f"{stem}_kernel.cpp").exists():
        without |= set(LEVELS)
    if not (KERNELS / "cuda" / f"{stem}_kernel.cu").exists():
        without |= {"simt"}
    return tuple(name for name in BACKENDS if name not in without)


def missing(backend: str) -> str | None:
    """Why ``backend`` cannot run here, or None."""
    if backend not in BACKENDS:  # or a test of a misspelt one would be skipped for ever
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "reference":
        return None
    if backend == "cuda":
        return None if torch.cuda.is_available() and _native.CUDA_LOADED else "no CUDA device, or no CUDA library"
    if backend == "simt":
        return simt_ops.missing()
    if not _native.CPU_LOADED:
        return "native CPU library not loaded"
    return None if backend in _native.cpu_levels() else f"this CPU has no {backend}"


def require(*backends: str) -> None:
    """Skips a test whose backends cannot all run here, by the name of the one that cannot and why."""
    for backend in backends:
        reason = missing(backend)
        if reason:
            pytest.skip(f"{backend}: {reason}")


@contextlib.contextmanager
def replaced(kernels: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Ops on CPU tensors run what is given for their names."""
    with torch.library._scoped_library(NAMESPACE, "IMPL") as library, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that a kernel is overridden: that is the point
        for name, kernel in kernels.items():
            library.impl(name, kernel, "CPU", allow_override=True)
        yield


@contextlib.contextmanager
def use_backend(backend: str) -> Iterator[str]:
    """Runs every op of the package on ``backend`` inside the block; yields the device that tensors should be on."""
    if backend == "cuda":
        yield "cuda"
    elif backend in ("reference", "simt"):
        with replaced(REFERENCES if backend == "reference" else simt_ops.implementations()):
            yield "cpu"
    else:
        with _native.forced_cpu_level(backend):
            yield "cpu"
