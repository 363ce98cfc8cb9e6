"""Builds the C++ tests of this folder, and knows why they cannot be built here."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from toolkit import ROOT, build_script

HERE = Path(__file__).resolve().parent
OUT = ROOT / "build" / "simt"
LIBRARY = OUT / "kernels" / "libsimt_kernels.so"
BUILDS = ("o2", "asan", "tsan")
TESTS = tuple(sorted(path.stem for path in HERE.glob("test_*.cpp")))


def include_candidates() -> list[Path]:
    """Folders that may hold the toolkit's headers: those where setup.py looks, and what pip has put beside torch."""
    installed = Path(sysconfig.get_path("purelib")) / "nvidia"
    return [home / "include" for home in build_script().toolkit_candidates()] + sorted(installed.glob("*/include"))


@functools.cache
def cuda_include() -> Path | None:
    """The folder with cuda_runtime.h and what it includes."""
    needed = ("cuda_runtime.h", "cuda_bf16.h", "crt/host_config.h")
    return next((path for path in include_candidates() if all((path / name).exists() for name in needed)), None)


def missing() -> str | None:
    """Why nothing can be built here, or None; an error where RDH_EXT_CUDA=1, as in CI, says that it can."""
    reason = None
    for tool in ("make", "g++"):
        if shutil.which(tool) is None:
            reason = f"no {tool}"
    if cuda_include() is None:
        reason = "no headers of the CUDA toolkit (cuda_runtime.h); set CUDA_HOME"
    if reason and os.environ.get("RDH_EXT_CUDA") == "1":
        raise RuntimeError(f"simt: {reason}; RDH_EXT_CUDA=1 wants them")
    return reason


def make(target: str) -> None:
    """Brings a target of the Makefile up to date; one process at a time."""
    OUT.mkdir(parents=True, exist_ok=True)
    jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
    command = ["make", "-C", str(HERE), f"-j{jobs}", f"OUT={OUT}", f"CUDA_INCLUDE={cuda_include()}", target]
    with (OUT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.splitlines()
        first = next((i for i, line in enumerate(lines) if "error" in line.lower()), 0)
        raise RuntimeError("\n".join([" ".join(command), *lines[first : first + 20]]))
