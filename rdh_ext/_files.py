"""Files that are complete or absent: each is written beside its place, forced to the disk and renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor


def temporary_beside(path: Path) -> Path:
    """A name beside ``path`` that no other process uses; hidden, and as short for long names as a name may be."""
    suffix = f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    stem = os.fsencode(path.name)[: 254 - len(suffix)].decode(errors="ignore")
    return path.with_name(f".{stem}{suffix}")


def sync_folder(folder: Path) -> None:
    """Forces the names in ``folder`` to the disk, where the system can."""
    with contextlib.suppress(OSError):  # some file systems have no such thing for folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: Path) -> str:
    """Of the content of a file, as ``sha256sum`` says it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes ``content`` to ``path`` atomically, making the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


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
