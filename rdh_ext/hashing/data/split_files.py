"""Splits on the disk: one .npz of three lists of positions and a note of what they belong to, with a checksum."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._files import write_bytes

FORMAT = "rdh_ext split"
VERSION = 1
ROLES = ("query", "train", "gallery")
NOTE: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "version": int,
    "protocol": str,
    "seed": (int, type(None)),
    "items": (int, type(None)),
    "data": str,
}


def write_split(path: Path, positions: dict[str, NDArray[np.int64]], note: dict[str, Any]) -> None:
    """Writes a split atomically; nothing in it has to be unpickled."""
    note = {"format": FORMAT, "version": VERSION, **note}
    arrays = {role: positions[role].astype("<i8") for role in ROLES}
    text = json.dumps({**note, "sha256": _checksum(note, arrays)}, sort_keys=True)
    buffer = io.BytesIO()
    members: dict[str, Any] = {"note": np.frombuffer(text.encode(), np.uint8), **arrays}
    np.savez(buffer, **members)
    write_bytes(path, buffer.getvalue())


def read_split(path: Path) -> tuple[dict[str, NDArray[np.int64]], dict[str, Any]]:
    """Positions by role, and the note.

    Raises:
        ValueError: the file is none, of another version or damaged.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {role: archive[role] for role in ROLES}
            note = json.loads(archive["note"].tobytes())
        checksum = note.pop("sha256")
        if note["format"] != FORMAT:
            raise ValueError("of another kind")
    except Exception as error:  # what zipfile, NumPy and json make of a damaged file are many kinds
        raise ValueError(f"{path}: not a split, or damaged; bring it back, or make the split again") from error
    if note["version"] != VERSION:
        raise ValueError(f"{path}: a split of format {note['version']}, and this program reads {VERSION}; update it")
    is_whole = all(array.dtype == np.dtype("<i8") and array.ndim == 1 for array in arrays.values())
    is_typed = note.keys() == NOTE.keys() and all(isinstance(note[key], NOTE[key]) for key in NOTE)
    if not is_whole or not is_typed or checksum != _checksum(note, arrays):
        raise ValueError(f"{path}: damaged, its checksum is another one; bring it back, or make the split again")
    return {role: array.astype(np.int64) for role, array in arrays.items()}, note


def _checksum(note: dict[str, Any], arrays: dict[str, NDArray[np.int64]]) -> str:
    digest = hashlib.sha256(json.dumps(note, sort_keys=True).encode())
    for role in ROLES:
        digest.update(len(arrays[role]).to_bytes(8, "little") + arrays[role].tobytes())
    return digest.hexdigest()
