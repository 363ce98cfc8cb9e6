"""What tests of galleries on disk share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from code_sets import small_blocks, write_problem
from malicious import RAN
from search_command import BITS, Words, problem


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


@pytest.fixture
def words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Words:
    """``rdh search`` for a small problem in the current folder; the tests of other commands have their own."""
    write_problem(folder, problem(), BITS, shard_items=2_500)
    monkeypatch.chdir(folder)
    return ["search", "--query", "query.npz", "--gallery", "gallery"]
