"""CPU kernels of every level, as they are shipped, touch nothing beyond what they were given: pages watch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rdh_ext import _native

HERE = Path(__file__).resolve().parent
CASES = 80


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library for LD_PRELOAD."""
    if not _native.CPU_LOADED:
        pytest.skip("native CPU library not loaded")
    if shutil.which("g++") is None or not sys.platform.startswith("linux"):
        pytest.skip("no g++ on Linux, which this builds with; the package itself takes any compiler")
    library = tmp_path_factory.mktemp("guard") / "guard_pages.so"
    command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", HERE / "guard_pages.cpp", "-o", library, "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return library


def run(guard: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_PRELOAD": str(guard), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, HERE / "guarded_ops.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_nothing_else_is_touched(guard: Path) -> None:
    done = run(guard, str(CASES), "1")
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-3000:]}"
    assert done.stdout.startswith(f"{CASES} cases at {', '.join(_native.cpu_levels())}, ")
    assert int(done.stdout.split()[-2]) > 40 * CASES  # inputs, results, workspaces


def test_it_would_be_noticed(guard: Path) -> None:
    done = run(guard, "0", "1", "beyond")
    assert done.returncode == -11, done.stderr[-3000:]
