"""Loads what was compiled, and knows why anything is missing. Nothing else in the package asks whether it is native.

``RDH_EXT_DISABLE_NATIVE=1`` runs everything on the pure-torch references; ``RDH_EXT_CPU_LEVEL=scalar|avx2|avx512``
lowers the instruction set of the CPU kernels. A library that is there and cannot be used is one warning and one
sentence in ``build_info()``, never an error: the references then do the work.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import struct
import warnings
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import torch

_HERE = Path(__file__).resolve().parent
_NOT_BUILT = "not built; install with `pip install .` (a C++ compiler is needed)"
_OFF = "switched off by RDH_EXT_DISABLE_NATIVE"
_LEVELS = ("scalar", "avx2", "avx512", "avx512vpopcntdq")


def _warn(message: str) -> None:
    warnings.warn(f"rdh_ext: {message}", stacklevel=2)


def _unusable(path: Path, why: object) -> str:
    """The sentence about a file that is there and cannot be used, which is also said aloud."""
    reason = f"{path.name} does not load: {' '.join(str(why).split())}"
    _warn(f"{reason}; reinstall rdh_ext")
    return reason


def _is_cut_short(path: Path) -> bool:
    """An ELF file that ends before its own section table: to map it would end the process with SIGBUS."""
    with path.open("rb") as file:
        header = file.read(64)
    if len(header) < 64 or header[:5] != b"\x7fELF\x02":
        return False  # the dynamic loader has words for that
    (table,) = struct.unpack_from("=Q", header, 0x28)
    entry_size, entries = struct.unpack_from("=HH", header, 0x3A)
    return bool(path.stat().st_size < table + entry_size * entries)


def _import_introspection() -> tuple[ModuleType | None, str]:
    """The module ``_C``, or the reason why it is not there."""
    ours = [path for suffix in EXTENSION_SUFFIXES if (path := _HERE / f"_C{suffix}").exists()]
    if not ours:
        others = sorted(_HERE.glob("_C.*so"))
        return None, _unusable(others[0], "it was built for another version of Python") if others else _NOT_BUILT
    if _is_cut_short(ours[0]):
        return None, _unusable(ours[0], "the file is cut short")
    try:
        return importlib.import_module("rdh_ext._C"), ""
    except ImportError as error:
        return None, _unusable(ours[0], error)


def _load(name: str) -> str:
    """Loads one op library; returns "" or the reason why it is not there."""
    path = _HERE / f"{name}.so"
    if not path.exists():
        return _NOT_BUILT
    if _is_cut_short(path):
        return _unusable(path, "the file is cut short")
    try:
        torch.ops.load_library(str(path))
    except OSError as error:  # PyTorch wraps the loader's own words, which are the ones that help
        return _unusable(path, error.__cause__ or error)
    return ""


def _cuda_reason() -> str:
    """Loads the CUDA library where torch has CUDA; returns "" or every reason why it is not there."""
    reasons = []
    if not (_HERE / "_ops_cuda.so").exists():
        reasons.append(FACTS.get("cuda_missing") or _NOT_BUILT)
    if not torch.version.cuda:
        reasons.append(f"torch {torch.__version__} has no CUDA")
    return "; ".join(reasons) or _load("_ops_cuda")


def _attach(introspection: ModuleType) -> str:
    """Points the introspection module at the op library; returns "" or why the two do not fit."""
    try:
        introspection.attach(str(_HERE / "_ops_cpu.so"))
    except RuntimeError as error:
        return _unusable(Path(str(introspection.__file__)), error)
    return ""


DISABLED = os.environ.get("RDH_EXT_DISABLE_NATIVE", "0") not in ("", "0")
_C, INTROSPECTION_MISSING = (None, _OFF) if DISABLED else _import_introspection()
FACTS: dict[str, str] = json.loads(_C.build_facts()) if _C is not None else {}
CPU_MISSING = _OFF if DISABLED else _load("_ops_cpu")
CPU_LOADED = not CPU_MISSING
CUDA_MISSING = _OFF if DISABLED else _cuda_reason() if CPU_LOADED else CPU_MISSING
CUDA_LOADED = not CUDA_MISSING
if CPU_LOADED and _C is not None:
    INTROSPECTION_MISSING = _attach(_C)
_forced = ""


def cpu_levels() -> tuple[str, ...]:
    """The instruction set levels this CPU and this build can run, lowest first."""
    return tuple(_C.supported_cpu_levels()) if _C is not None and CPU_LOADED and not INTROSPECTION_MISSING else ()


def active_cpu_level() -> str:
    """The level in use: "scalar", "avx2", "avx512" or "avx512vpopcntdq"; "reference" where no native library is
    loaded, "unknown" where one is but the module that could tell is not.
    """
    if not CPU_LOADED:
        return "reference"
    return str(_C.active_cpu_level()) if _C is not None and not INTROSPECTION_MISSING else "unknown"


@contextlib.contextmanager
def forced_cpu_level(level: str) -> Iterator[None]:
    """Runs the CPU kernels at ``level`` inside the block, in all threads (tests and benchmarks); blocks may nest."""
    global _forced
    levels = cpu_levels()
    if level not in levels:
        expected = f"one of {', '.join(levels)}" if levels else f"left alone ({CPU_MISSING or INTROSPECTION_MISSING})"
        raise ValueError(f"forced_cpu_level: level must be {expected}, got {level!r}")
    assert _C is not None
    before = _forced
    _C.force_cpu_level(level)
    _forced = level
    try:
        yield
    finally:
        _C.force_cpu_level(before)
        _forced = before


def _check_wished_level() -> None:
    """The library itself ignores a level that it does not know or that this CPU cannot run; here that is said."""
    wish = os.environ.get("RDH_EXT_CPU_LEVEL", "")
    if wish and wish not in _LEVELS:
        _warn(f"RDH_EXT_CPU_LEVEL must be one of {', '.join(_LEVELS)}, got {wish!r}; it is ignored")
    elif wish and cpu_levels() and wish not in cpu_levels():
        _warn(f"RDH_EXT_CPU_LEVEL={wish}: this CPU runs no more than {cpu_levels()[-1]}, which is used")


_check_wished_level()
