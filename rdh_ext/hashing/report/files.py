"""Files that are either complete or absent: each is written beside its place and renamed into it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path`` atomically, making the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON (no NaN), readable by people."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_npy(path: Path, tensor: Tensor) -> None:
    """Writes a tensor as ``.npy`` that ``numpy.load(..., allow_pickle=False)`` reads."""
    buffer = io.BytesIO()
    np.save(buffer, tensor.cpu().numpy(), allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def write_figure(path: Path, figure: Any) -> None:
    """Writes a matplotlib figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    write_bytes(path, buffer.getvalue())
