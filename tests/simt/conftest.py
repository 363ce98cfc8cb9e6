"""Everything here needs the built C++ tests: with the headers of the CUDA toolkit they are built once, else skipped."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import building


@pytest.fixture(scope="session")
def binaries() -> None:
    """The C++ tests, up to date in all builds."""
    reason = building.missing()
    if reason and os.environ.get("RDH_EXT_CUDA") == "1":
        pytest.fail(f"{reason}, and RDH_EXT_CUDA=1 says that it is here")
    if reason:
        pytest.skip(reason)
    building.make("all")
