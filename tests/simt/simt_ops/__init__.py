"""The backend ``simt`` of the tests: the CUDA kernels, run on the host by the simulator, as ops on CPU tensors.

A small shared library takes the raw pointers of the tensors; a module beside this file for each stem does what
csrc/bindings/cuda does for a device. The environment's SIMT_ORDER (forward, reverse, random:<seed>) orders the threads.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import building
import torch
from torch import Tensor

ELEMENTS = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
"""Element of csrc/common/element.h."""
STEMS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))


def missing() -> str | None:
    """Why the backend cannot run here, or None."""
    if os.environ.get("RDH_EXT_DISABLE_NATIVE", "0") not in ("", "0"):
        return "switched off by RDH_EXT_DISABLE_NATIVE"
    return building.missing()


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels, compiled for the host."""
    building.make("kernels")
    loaded = ctypes.CDLL(str(building.LIBRARY))
    loaded.simt_last_failure.restype = ctypes.c_char_p
    order = os.environ.get("SIMT_ORDER", "forward")
    if not loaded.simt_set_order(order.encode()):
        raise ValueError(f"SIMT_ORDER must be forward, reverse or random:<seed>, got {order!r}")
    return loaded


def _converted(value: Any) -> Any:
    """As a launcher takes it: tensors and None as pointers, float as double, int as int, ctypes' own as they are."""
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr() if isinstance(value, Tensor) else None)
    return ctypes.c_double(value) if isinstance(value, float) else value


def call(function: str, *arguments: Any) -> None:
    """Calls a launcher, and raises what it reports."""
    error = getattr(library(), function)(*map(_converted, arguments))
    if error != 0:
        raise RuntimeError(f"simt: {function}: error {error}: {library().simt_last_failure().decode()}")


def workspace_of(function: str, *arguments: Any) -> Tensor:
    """As many bytes as the function says that a launcher needs; poisoned where tests want."""
    size = getattr(library(), function)
    size.restype = ctypes.c_int64
    return torch.empty((size(*arguments) + 7) // 8, dtype=torch.float64)


def implementations() -> dict[str, Callable[..., Any]]:
    """Op name -> what runs it on the simulator."""
    modules = (importlib.import_module(f"{__name__}.{stem}") for stem in STEMS)
    return {name: function for module in modules for name, function in module.OPS.items()}
