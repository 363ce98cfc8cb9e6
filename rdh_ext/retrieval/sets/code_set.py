"""A code set on disk: opened, looked through, and read block by block."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import CodeSetError, DamagedShard
from .manifest import NAME, File, LabelFormat, Manifest, parse_manifest
from .npy import read_header

Bytes = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with (items done, items in all)."""
_MOST_MANIFEST = 1 << 30
_LOCAL_HEADER = 30
"""Bytes of a member's own header in a zip file before its name."""


@dataclass(frozen=True)
class Block:
    """Some items one behind the other: the unit that is read and checked as a whole.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/gallery"
        >>> gallery = rdh_ext.retrieval.write_code_set(path, torch.zeros(5, 2, dtype=torch.uint8))
        >>> [block.items for block in gallery.blocks()]
        [5]
    """

    index: int
    """Among the blocks of the set."""
    first: int
    """Its first item, counted from the beginning of the set."""
    items: int
    shard: int
    first_in_shard: int
    block_in_shard: int


@dataclass(frozen=True)
class _Rows:
    """Where the rows of an array lie."""

    path: Path
    name: str
    """For errors: the file, and the member of it where it is an archive."""
    offset: int
    width: int

    def read(self, first: int, out: Bytes) -> None:
        """Reads ``len(out)`` rows from row ``first`` on."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset + first * self.width)
                _fill(file, out.reshape(-1), self.name)
        except FileNotFoundError:
            raise DamagedShard(f"{self.name}: the file is gone; bring it back or write the set again") from None


def _fill(file: io.FileIO, out: Bytes, name: str) -> None:
    view, done = out.data, 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise DamagedShard(f"{name}: shorter than the manifest says; bring back the whole file")
        done += count


class CodeSet:
    r"""Packed codes and labels on disk, in a form that other programs read, too. Opening it reads the manifest alone.

    A code set is a folder::

        gallery/
          manifest.json     bits, items, labels, checksums, how it was made
          codes-00000.npy   uint8 [items, ceil(K / 8)], bit k in byte k // 8 at place k % 8
          labels-00000.npy  class ids [items], or multi-hot rows packed like codes [items, ceil(C / 8)]

    with as many pairs of files (shards) as one likes, or a single file ``gallery.npz`` with ``codes.npy``,
    ``labels.npy`` and ``manifest.json`` in it. ``numpy.load`` reads both. Nothing in them is ever unpickled, and no
    file outside of the folder is looked at.

    The manifest has a SHA-256 for every block of about 32 MiB: nothing is used before it has been checked.

    Args:
        path: the folder, or the ``.npz`` file.

    Raises:
        CodeSetError: there is none; or it was not written to its end; or files are missing, of another size, dtype or
            shape than the manifest says.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/gallery"
        >>> codes = torch.tensor([[0b11], [0b00], [0b01]], dtype=torch.uint8)
        >>> rdh_ext.retrieval.write_code_set(path, codes, torch.tensor([7, 3, 7]), bits=2)
        CodeSet(3 codes of 2 bits, class ids)
        >>> gallery = rdh_ext.retrieval.CodeSet(path)
        >>> gallery.load()
        (tensor([[3],
                [0],
                [1]], dtype=torch.uint8), tensor([7, 3, 7], dtype=torch.uint8))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        if self._path.is_dir():
            self._manifest, self._files = _open_folder(self._path)
        elif self._path.is_file():
            self._manifest, self._files = _open_archive(self._path)
        else:
            raise CodeSetError(f"{self._path}: no such code set; name a folder or an .npz file that 'rdh encode' wrote")

    @property
    def path(self) -> Path:
        """As it was given."""
        return self._path

    @property
    def manifest(self) -> Manifest:
        """What the set says of itself."""
        return self._manifest

    @property
    def bits(self) -> int:
        """K."""
        return self._manifest.bits

    @property
    def labels(self) -> LabelFormat | None:
        """The kind of labels, or None."""
        return self._manifest.labels

    @property
    def nbytes(self) -> int:
        """Bytes of codes and labels."""
        return len(self) * self._manifest.item_bytes

    def __len__(self) -> int:
        return self._manifest.items

    def __repr__(self) -> str:
        return f"CodeSet({self._manifest})"

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order of the items."""
        index = first = 0
        size = self._manifest.block_items
        for number, shard in enumerate(self._manifest.shards):
            for start in range(0, shard.items, size):
                items = min(size, shard.items - start)
                yield Block(index, first, items, number, start, start // size)
                index, first = index + 1, first + items

    def read_into(self, block: Block, codes: Bytes | None, labels: Bytes | None) -> None:
        """Reads and checks a block: ``codes`` ``[items, bytes]`` and, where the set has them, ``labels`` ``[items,
        bytes]``, which are overwritten. Of what is None nothing is read.

        Raises:
            DamagedShard: a file is missing or too short, or its bytes are not those that were written.
            OSError: it cannot be read.
        """
        shard = self._manifest.shards[block.shard]
        for file, out in ((shard.codes, codes), (shard.labels, labels)):
            if file is None or out is None:
                continue
            rows = self._files[file.name]
            rows.read(block.first_in_shard, out[: block.items])
            _check(rows.name, file, block, out[: block.items])

    def read(self, block: Block) -> tuple[Tensor, Tensor | None]:
        """Codes uint8 ``[items, ceil(K / 8)]`` and labels of a block: class ids, or multi-hot rows packed like codes.

        Raises:
            DamagedShard, OSError: as :meth:`read_into`.
        """
        codes = np.empty((block.items, self._manifest.code_bytes), dtype=np.uint8)
        self.read_into(block, codes, None)
        return torch.from_numpy(codes), self.read_labels(block)

    def read_labels(self, block: Block) -> Tensor | None:
        """Labels of a block alone, as :meth:`read` has them; None where the set has none. Its codes are not looked at.

        Raises:
            DamagedShard, OSError: as :meth:`read_into`.
        """
        if self.labels is None:
            return None
        labels = np.empty((block.items, self.labels.width), dtype=np.uint8)
        self.read_into(block, None, labels)
        return self.labels_of(torch.from_numpy(labels))

    def labels_of(self, rows: Tensor) -> Tensor:
        """Labels from their bytes ``[items, bytes]``."""
        assert self.labels is not None
        if self.labels.classes is not None:
            return rows
        ids: Tensor = rows.reshape(-1).view(getattr(torch, self.labels.dtype))
        return ids

    def load(self, progress: Progress | None = None) -> tuple[Tensor, Tensor | None]:
        """All codes and labels, as :meth:`read` has them; checked.

        Raises:
            DamagedShard, OSError: as :meth:`read_into`.
        """
        codes = np.empty((len(self), self._manifest.code_bytes), dtype=np.uint8)
        labels = None if self.labels is None else np.empty((len(self), self.labels.width), dtype=np.uint8)
        for block in self.blocks():
            rows = slice(block.first, block.first + block.items)
            self.read_into(block, codes[rows], None if labels is None else labels[rows])
            if progress is not None:
                progress(rows.stop, len(self))
        return torch.from_numpy(codes), None if labels is None else self.labels_of(torch.from_numpy(labels))

    def verify(self, progress: Progress | None = None) -> None:
        """Reads everything once and compares it with the checksums.

        Raises:
            DamagedShard, OSError: as :meth:`read_into`.
        """
        for block in self.blocks():
            self.read(block)
            if progress is not None:
                progress(block.first + block.items, len(self))


def unpack_labels(rows: Bytes, classes: int) -> Bytes:
    """Multi-hot rows ``[items, classes]`` of 0 and 1 from rows that are packed like codes."""
    return np.unpackbits(rows, axis=1, count=classes, bitorder="little")


def _check(name: str, file: File, block: Block, rows: Bytes) -> None:
    if hashlib.sha256(rows.data).hexdigest() != file.sha256[block.block_in_shard]:
        last = block.first_in_shard + block.items
        raise DamagedShard(
            f"{name}: rows {block.first_in_shard:,} to {last:,} are not those that were written (SHA-256 differs); "
            "bring back the file or write the set again"
        )


class _Expected(NamedTuple):
    """A file, and the array that it must hold."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    width: int
    """Bytes per row."""


def _expected(manifest: Manifest) -> Iterator[_Expected]:
    """Every file of the set."""
    for shard in manifest.shards:
        yield _Expected(shard.codes.name, "uint8", (shard.items, manifest.code_bytes), manifest.code_bytes)
        if shard.labels is None or manifest.labels is None:
            continue
        labels = manifest.labels
        shape = (shard.items,) if labels.classes is None else (shard.items, labels.width)
        yield _Expected(shard.labels.name, labels.dtype, shape, labels.width)


def _rows_of(file: BinaryIO, start: int, size: int, path: Path, name: str, expected: _Expected) -> _Rows:
    """The rows of the array that begins at ``start`` and has ``size`` bytes with its header."""
    _, dtype, shape, width = expected
    file.seek(start)
    header = read_header(file, name)
    if header.dtype != np.dtype(dtype).newbyteorder("<") or header.shape != shape:
        raise CodeSetError(
            f"{name}: an array of {header.dtype} {list(header.shape)}, the manifest says {dtype} {list(shape)}; "
            "the files are not of one set"
        )
    whole = header.offset + shape[0] * width
    if size != whole:
        raise DamagedShard(f"{name}: {size:,} bytes, and it should be {whole:,}; bring back the whole file")
    return _Rows(path, name, start + header.offset, width)


def _open_folder(folder: Path) -> tuple[Manifest, dict[str, _Rows]]:
    where = folder / NAME
    if not where.is_file():
        raise CodeSetError(f"{folder}: no {NAME} in it: not a code set, or one that was not written to its end")
    if where.stat().st_size > _MOST_MANIFEST:
        raise CodeSetError(f"{where}: too large for the manifest of a code set")
    manifest = parse_manifest(where.read_bytes(), str(where))
    files = {}
    for expected in _expected(manifest):
        path = folder / expected.name
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                files[expected.name] = _rows_of(file, 0, size, path, str(path), expected)
        except FileNotFoundError:
            raise DamagedShard(
                f"{path}: missing, the manifest names it; bring it back or write the set again"
            ) from None
    return manifest, files


def _check_stored(member: zipfile.ZipInfo, name: str) -> None:
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise CodeSetError(f"{name}: compressed or encrypted; a code set is stored as it is")


def _open_archive(path: Path) -> tuple[Manifest, dict[str, _Rows]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if NAME not in members:
                raise CodeSetError(
                    f"{path}: no {NAME} in it: not a code set; save its codes with numpy.save for 'rdh encode --codes'"
                )
            if members[NAME].file_size > _MOST_MANIFEST:
                raise CodeSetError(f"{path}: too large a manifest for a code set")
            _check_stored(members[NAME], f"{path}, {NAME}")  # decompressors and passwords have errors of their own
            manifest = parse_manifest(archive.read(NAME), f"{path}, {NAME}")
    # of zipfile's for damage UnicodeDecodeError is for names, NotImplementedError for forms that it does not know, and
    # EINVAL for places before the beginning
    except (zipfile.BadZipFile, EOFError, OSError, UnicodeDecodeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise CodeSetError(f"{path}: not a code set, or a damaged one; name a folder or an .npz file") from None
    files = {}
    with open(path, "rb") as file:
        for expected in _expected(manifest):
            name = f"{path}, {expected.name}"
            member = members.get(expected.name)
            if member is None:
                raise DamagedShard(f"{name}: missing, the manifest names it; write the set again")
            _check_stored(member, name)
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER)
            if len(header) != _LOCAL_HEADER or not header.startswith(b"PK\3\4"):
                raise DamagedShard(f"{name}: damaged; bring back the whole file")
            start = (
                member.header_offset
                + _LOCAL_HEADER
                + sum(int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
            )
            files[expected.name] = _rows_of(file, start, member.file_size, path, name, expected)
    return manifest, files


def check_alike(op: str, query: CodeSet, gallery: CodeSet) -> None:
    """Both sets have codes of one length and labels of one kind.

    Raises:
        CodeSetError: they have not.
    """
    if query.bits != gallery.bits:
        raise CodeSetError(
            f"{op}: codes of one length are needed, {query.path} has {query.bits} bits and {gallery.path} has "
            f"{gallery.bits}"
        )
    kinds = [None if part.labels is None else part.labels.classes for part in (query, gallery)]
    for part in (query, gallery):
        if part.labels is None:
            raise CodeSetError(f"{op}: labels are needed, {part.path} has none; write it again with labels")
    if kinds[0] != kinds[1]:
        raise CodeSetError(
            f"{op}: labels of one kind are needed, {query.path} has {query.labels} and {gallery.path} {gallery.labels}"
        )
