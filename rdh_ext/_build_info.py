"""What is compiled in, what runs, and why anything is missing."""

from __future__ import annotations

import platform
from typing import Any

import torch

from . import _native


def build_info() -> dict[str, Any]:
    """What this installation can do, as a dictionary of plain values (``rdh info`` prints it).

    Keys: ``version``, ``torch``, ``python``, ``cpu_native`` (bool), ``cpu_reason`` (why not, else ""), ``cpu_level``
    (what runs: "scalar", "avx2", "avx512", "avx512vpopcntdq", "reference" without native code, "unknown" without
    introspection), ``cpu_levels`` (what could), ``cuda_native`` (the CUDA library is loaded), ``cuda_reason``,
    ``cuda_release`` and ``cuda_archs`` (what it was compiled with and for), ``cuda_device`` (name of the current device
    or ""),
    ``introspection`` (the module that knows the build and the CPU level is loaded), ``introspection_reason``,
    ``torch_built_with`` and ``torch_target`` (headers at build time, oldest torch that can load the build).

    Example:
        >>> rdh_ext.build_info()["cpu_level"] in ("reference", "scalar", "avx2", "avx512", "avx512vpopcntdq")
        True
    """
    from . import __version__

    facts = _native.FACTS
    return {
        "version": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cpu_native": _native.CPU_LOADED,
        "cpu_reason": _native.CPU_MISSING,
        "cpu_level": _native.active_cpu_level(),
        "cpu_levels": list(_native.cpu_levels()),
        "cuda_native": _native.CUDA_LOADED,
        "cuda_reason": _native.CUDA_MISSING,
        "cuda_release": facts.get("cuda_release", ""),
        "cuda_archs": facts.get("cuda_archs", ""),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "introspection": not _native.INTROSPECTION_MISSING,
        "introspection_reason": _native.INTROSPECTION_MISSING,
        "torch_built_with": facts.get("torch_built_with", ""),
        "torch_target": facts.get("torch_target", ""),
    }
