"""Modules of benchmarks/, for the tests of the benchmarks, which are skipped where that folder is not."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[1] / "benchmarks"


def load(*names: str) -> list[ModuleType]:
    """They find one another, and nobody finds them afterwards."""
    if not HERE.is_dir():
        pytest.skip("the benchmarks are not here", allow_module_level=True)
    sys.path.insert(0, str(HERE))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(HERE))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A file of results."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
