"""What a long evaluation has counted so far, in a folder: written atomically, found again after any kill."""

from __future__ import annotations

import io
import json
import shutil
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._files import write_bytes, write_json
from ..sets.code_set import Block, CodeSet
from ..sets.errors import CodeSetError

SEGMENTS = 64
"""Parts of a gallery that are counted, saved and given to ranks as a whole."""
SAVE_SECONDS = 10.0
_JOB = "job.json"


@dataclass(frozen=True)
class Segment:
    """Some blocks of a gallery, one behind the other."""

    index: int
    blocks: tuple[Block, ...]

    @property
    def items(self) -> int:
        """Their items."""
        return sum(block.items for block in self.blocks)


def segments_of(gallery: CodeSet) -> list[Segment]:
    """The same for any number of ranks, so that any number of them can go on."""
    blocks = list(gallery.blocks())
    count = min(len(blocks), SEGMENTS)
    cuts = [len(blocks) * i // count for i in range(count + 1)] if count else [0]
    return [Segment(i, tuple(blocks[cuts[i] : cuts[i + 1]])) for i in range(count)]


@dataclass(frozen=True)
class Counted:
    """Sums over the first blocks of a segment."""

    blocks: int
    sums: dict[str, Tensor]


class State:
    """The folder, or nothing at all where none is wanted.

    Args:
        folder: None means that nothing is saved.
        job: what the sums belong to; sums of another job are an error.
        resume: go on where the folder ends; else it must not be there.

    Raises:
        CodeSetError: there is a folder and ``resume`` is False; or it belongs to another job.
    """

    def __init__(self, folder: Path | None, job: dict[str, Any], *, resume: bool) -> None:
        self._folder = folder
        if folder is None:
            return
        where = folder / _JOB
        if where.is_file():
            try:
                found = json.loads(where.read_bytes())
            except ValueError:
                found = None
            if not resume:
                raise CodeSetError(f"{folder}: left by an interrupted run; add --resume to go on with it, or remove it")
            if found != job:
                other = [name for name in job if not isinstance(found, dict) or found.get(name) != job[name]]
                raise CodeSetError(
                    f"{folder}: left by a run with another {' and '.join(other)}; remove it, or name another --out"
                )
        write_json(where, job)

    def load(self, stage: str, segment: Segment, shapes: dict[str, tuple[int, ...]]) -> Counted:
        """What was saved of a segment; nothing, where nothing was, or where the file is damaged."""
        zeros = {name: torch.zeros(shape, dtype=torch.int64, device="cpu") for name, shape in shapes.items()}
        if self._folder is None:
            return Counted(0, zeros)
        try:
            with np.load(self._file(stage, segment), allow_pickle=False) as saved:
                blocks = int(saved["blocks"])
                sums = {name: torch.from_numpy(saved[name]) for name in shapes}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return Counted(0, zeros)
        fits = all(sums[name].shape == shape and sums[name].dtype == torch.int64 for name, shape in shapes.items())
        return Counted(blocks, sums) if fits and 0 <= blocks <= len(segment.blocks) else Counted(0, zeros)

    def save(self, stage: str, segment: Segment, counted: Counted) -> None:
        """Forces them to the disk."""
        if self._folder is None:
            return
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in counted.sums.items()}
        np.savez(buffer, blocks=np.int64(counted.blocks), **arrays)
        write_bytes(self._file(stage, segment), buffer.getbuffer())

    def _file(self, stage: str, segment: Segment) -> Path:
        assert self._folder is not None
        return self._folder / f"{stage}-{segment.index:02d}.npz"

    def remove(self) -> None:
        """The work is done."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class Saver:
    """Saves a segment now and then."""

    def __init__(self, state: State) -> None:
        self._state, self._last = state, time.monotonic()

    def is_due(self) -> bool:
        """Whether the last time is long ago."""
        return time.monotonic() - self._last >= SAVE_SECONDS

    def save(self, stage: str, segment: Segment, counted: Counted) -> None:
        """Saves it."""
        self._state.save(stage, segment, counted)
        self._last = time.monotonic()


def own_segments(segments: Sequence[Segment], rank: int, ranks: int) -> list[Segment]:
    """Those of a rank, one behind the other."""
    return list(segments[len(segments) * rank // ranks : len(segments) * (rank + 1) // ranks])
