"""Loads what was compiled, and knows why anything is missing. Nothing else in the package asks whether it is native.

``RDH_EXT_DISABLE_NATIVE=1`` runs everything on the pure-torch references; ``RDH_EXT_CPU_LEVEL=scalar|avx2`` lowers the
instruction set of the CPU kernels.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

_HERE = Path(__file__).resolve().parent
_NOT_BUILT = "not built; install with `pip install .` (a C++ compiler is needed)"


def _import_introspection() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("rdh_ext._C"), ""
    except ImportError as error:
        built = any(_HERE.glob("_C.*"))
        return None, f"_C does not import: {error}" if built else _NOT_BUILT


def _load(name: str) -> str:
    """Loads one op library; returns "" or the reason why it is not there."""
    path = _HERE / f"{name}.so"
    if not path.exists():
        return _NOT_BUILT
    try:
        torch.ops.load_library(str(path))
    except OSError as error:  # PyTorch wraps the loader's own words, which are the ones that help
        return f"{path.name} does not load: {error.__cause__ or error}"
    return ""


def _cuda_reason() -> str:
    if not torch.version.cuda:
        return f"torch {torch.__version__} has no CUDA"
    if not (_HERE / "_ops_cuda.so").exists() and FACTS.get("cuda_missing"):
        return FACTS["cuda_missing"]
    return _load("_ops_cuda")


DISABLED = os.environ.get("RDH_EXT_DISABLE_NATIVE", "0") not in ("", "0")
_C, _C_REASON = (None, "") if DISABLED else _import_introspection()
FACTS: dict[str, str] = json.loads(_C.build_facts()) if _C is not None else {}
CPU_MISSING = "switched off by RDH_EXT_DISABLE_NATIVE" if DISABLED else _load("_ops_cpu")
CPU_LOADED = not CPU_MISSING
CUDA_MISSING = "switched off by RDH_EXT_DISABLE_NATIVE" if DISABLED else _cuda_reason() if CPU_LOADED else CPU_MISSING
CUDA_LOADED = not CUDA_MISSING
if CPU_LOADED and _C is not None:
    _C.attach(str(_HERE / "_ops_cpu.so"))


def cpu_levels() -> tuple[str, ...]:
    """The instruction set levels this CPU and this build can run, lowest first."""
    return tuple(_C.supported_cpu_levels()) if _C is not None and CPU_LOADED else ()


def active_cpu_level() -> str:
    """The level in use: "scalar", "avx2", "avx512", or "reference" where no native library is loaded."""
    return str(_C.active_cpu_level()) if _C is not None and CPU_LOADED else "reference"


@contextlib.contextmanager
def forced_cpu_level(level: str) -> Iterator[None]:
    """Runs the CPU kernels at ``level`` inside the block, in all threads (tests and benchmarks)."""
    if level not in cpu_levels():
        raise ValueError(f"forced_cpu_level: level must be one of {', '.join(cpu_levels()) or 'none'}, got {level!r}")
    assert _C is not None
    _C.force_cpu_level(level)
    try:
        yield
    finally:
        _C.force_cpu_level("")
