"""What tests of galleries on disk share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from code_sets import small_blocks
from foreign_files import RAN


@pytest.fixture(autouse=True)
def _nothing_runs() -> Iterator[None]:
    """Whatever is in a file, reading it runs no code."""
    RAN.clear()
    yield
    assert RAN == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new one; sets written from here on have small blocks."""
    small_blocks(monkeypatch)
    return tmp_path
