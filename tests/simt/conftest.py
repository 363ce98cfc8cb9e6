"""Everything here needs the built C++ tests: with the headers of the CUDA toolkit they are built once, else skipped."""

from __future__ import annotations

import building
import pytest


@pytest.fixture(scope="session")
def binaries() -> None:
    """The C++ tests, up to date in all builds."""
    reason = building.missing()
    if reason:
        pytest.skip(f"simt: {reason}")
    building.make("all")
