"""Everything here needs the built C++ tests: with the headers of the CUDA toolkit they are built once, else skipped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import building


@pytest.fixture(scope="session")
def binaries() -> None:
    """The C++ tests, up to date in all builds."""
    reason = building.missing()
    if reason:
        pytest.skip(f"simt: {reason}")
    building.make("all")
