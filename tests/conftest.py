"""What every test shares: the backends an op can be forced to run on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import pytest
import torch

import rdh_ext
from rdh_ext import _native
from rdh_ext.ops._library import NAMESPACE, REFERENCES

BACKENDS = ("reference", "scalar", "avx2", "avx512", "cuda")


def missing(backend: str) -> str | None:
    """Why ``backend`` cannot run here, or None."""
    if backend == "reference":
        return None
    if backend == "cuda":
        return None if torch.cuda.is_available() and _native.CUDA_LOADED else "no CUDA device, or no CUDA library"
    if not _native.CPU_LOADED:
        return "native CPU library not loaded"
    return None if backend in _native.cpu_levels() else f"this CPU has no {backend}"


@contextlib.contextmanager
def use_backend(backend: str) -> Iterator[str]:
    """Runs every op of the package on ``backend`` inside the block; yields the device that tensors should be on."""
    if backend == "cuda":
        yield "cuda"
    elif backend == "reference":
        with torch.library._scoped_library(NAMESPACE, "IMPL") as library, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that a kernel is overridden: that is the point
            for name, reference in REFERENCES.items():
                library.impl(name, reference, "CPU", allow_override=True)
            yield "cpu"
    else:
        with _native.forced_cpu_level(backend):
            yield "cpu"


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.cuda if name == "cuda" else ()) for name in BACKENDS])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device string to put tensors on, once for every backend that can run here."""
    reason = missing(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with use_backend(request.param) as device:
        yield device


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


assert rdh_ext  # importing the package registers the ops
