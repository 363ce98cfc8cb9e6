"""Writing a code set: into a hidden folder beside its place, which takes its place when everything is on the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import _checks as checks
from ..._files import sync_folder, temporary_beside, write_json
from ..._labels import check_labels
from .code_set import CodeSet
from .errors import CodeSetError
from .manifest import ID_TYPES, MAX_CLASSES, NAME, File, LabelFormat, Manifest, Shard, block_items_for
from .npy import header_of

SHARD_BYTES = 1 << 30
"""About so large are the files of codes, unless told otherwise."""
_OP = "CodeSetWriter"
_ARCHIVE = ".npz"


class _Column:
    """One file of a shard while it is written: rows go to the disk and into the checksum of their block."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype[Any], tail: tuple[int, ...], block_items: int) -> None:
        self.name, self._dtype, self._tail, self._block_items = name, dtype, tail, block_items
        self._rows, self._digest = 0, hashlib.sha256()
        self._digests: list[str] = []
        self._path = folder / name
        self._file: BinaryIO = open(self._path, "wb")  # noqa: SIM115  # open until the shard is whole
        self._file.write(header_of(dtype, (0, *tail)))

    def write(self, rows: NDArray[Any]) -> None:
        while rows.shape[0]:
            room = self._block_items - self._rows % self._block_items
            part, rows = rows[:room], rows[room:]
            content = np.ascontiguousarray(part).view(np.uint8).data
            self._file.write(content)
            self._digest.update(content)
            self._rows += part.shape[0]
            if self._rows % self._block_items == 0:
                self._end_block()

    def _end_block(self) -> None:
        self._digests.append(self._digest.hexdigest())
        self._digest = hashlib.sha256()

    def close(self) -> File:
        """The number of rows goes into the header, which has room for any."""
        if self._rows % self._block_items:
            self._end_block()
        with self._file as file:
            file.seek(0)
            file.write(header_of(self._dtype, (self._rows, *self._tail)))
            file.flush()
            os.fsync(file.fileno())
        return File(self.name, tuple(self._digests))

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class CodeSetWriter:
    """Writes a :class:`CodeSet`, some items at a time; it is there when all of it is on the disk, or not at all.

    Everything goes into a hidden folder beside ``path`` that is renamed at the end. Of two processes that write the
    same set one wins, and the other says so. An exception in the ``with`` block, a full disk among them, removes what
    was written; a killed process leaves the hidden folder ``.<name>.<process>.tmp``, which may be removed.

    Args:
        path: the folder to be made, or a single file if the name ends in ``.npz``.
        bits: K.
        classes: C of multi-hot labels; None for class ids, or no labels at all.
        label_dtype: how class ids are kept: "uint8", "int16", "int32" or "int64". They must fit.
        shard_items: items per shard; None means about a GiB of codes. A single file has one shard.
        overwrite: take the place of an earlier code set (and of nothing else).
        made: how the set was made, for people: JSON that is kept in the manifest.

    Raises:
        CodeSetError: something is at ``path`` already.
        TypeError, ValueError: ``bits``, ``classes``, ``label_dtype`` or ``shard_items`` cannot be.
        OSError: it cannot be written.

    Cost: every byte is written once (twice for a single file) and hashed. Memory: that of the arrays given.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/gallery.npz"
        >>> with rdh_ext.retrieval.CodeSetWriter(path, bits=16) as writer:
        ...     for h in torch.randn(3, 100, 16):  # batches of a model's outputs
        ...         writer.add(rdh_ext.pack_codes(h))
        >>> rdh_ext.retrieval.CodeSet(path)
        CodeSet(300 codes of 16 bits, no labels)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bits: int,
        classes: int | None = None,
        label_dtype: str = "int64",
        shard_items: int | None = None,
        overwrite: bool = False,
        made: dict[str, Any] | None = None,
    ) -> None:
        most = checks.MAX_BITS
        self._bits = checks.check_integer(_OP, "bits", bits, low=1, high=most, expected=f"an integer from 1 to {most}")
        if classes is not None:
            expected = f"an integer from 1 to {MAX_CLASSES}, or None"
            classes = checks.check_integer(_OP, "classes", classes, low=1, high=MAX_CLASSES, expected=expected)
        checks.check_choice(_OP, "label_dtype", label_dtype, tuple(ID_TYPES))
        self._format = (
            LabelFormat("class_ids", label_dtype) if classes is None else LabelFormat("multi_hot", classes=classes)
        )
        self._overwrite, self._made = checks.check_bool(_OP, "overwrite", overwrite), dict(made or {})
        self._path = Path(os.path.abspath(path))
        self._is_archive = self._path.suffix == _ARCHIVE
        self._has_labels: bool | None = None
        self._block_items = block_items_for(self._bits, self._format.width)
        if shard_items is None:
            shard_items = max(1, SHARD_BYTES // ((self._bits + 7) // 8) // self._block_items) * self._block_items
        self._shard_items = checks.check_integer(_OP, "shard_items", shard_items, low=1, expected="an integer >= 1")
        if self._is_archive:
            self._shard_items = 1 << 50
        self._check_free()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = temporary_beside(self._path)
        self._folder.mkdir()
        self._shards: list[Shard] = []
        self._columns: list[_Column] = []
        self._in_shard = 0
        self._is_done = False

    @property
    def made(self) -> dict[str, Any]:
        """What the manifest will say of how the set was made; it may be added to until the end."""
        return self._made

    def _check_free(self) -> None:
        if not self._path.exists() and not self._path.is_symlink():
            return
        if not self._overwrite:
            raise CodeSetError(
                f"{self._path}: exists already; choose another name, or overwrite it on purpose (--force)"
            )
        try:
            CodeSet(self._path)
        except CodeSetError:
            is_set = (self._path / NAME).is_file()  # a damaged one is one, too
            if not is_set:
                raise CodeSetError(f"{self._path}: exists and is no code set; it is not overwritten") from None

    def add(self, codes: Tensor | NDArray[np.uint8], labels: Tensor | NDArray[Any] | None = None) -> None:
        """Adds items.

        Args:
            codes: packed codes uint8 ``[n, ceil(K / 8)]`` as from :func:`rdh_ext.pack_codes`, zeros behind bit K.
            labels: class ids ``[n]`` or multi-hot ``[n, C]`` (bool or 0-1), as many as codes; None for none. All calls
                have labels, or none has.

        Raises:
            TypeError, ValueError: they are not these.
            OSError: they cannot be written, for instance because the disk is full.
        """
        codes = torch.from_numpy(codes) if isinstance(codes, np.ndarray) else codes
        checks.check_codes(_OP, "codes", codes)
        codes = codes.detach().cpu()
        checks.check_bits(_OP, self._bits, codes=codes)
        if self._has_labels is None:
            self._has_labels = labels is not None
        if self._has_labels != (labels is not None):
            raise ValueError(f"{_OP}: labels must come with all codes or with none, got both")
        rows = [codes.numpy()]
        if labels is not None:
            rows.append(self._label_rows(labels, codes.shape[0]))
        start = 0
        while start < codes.shape[0]:
            if not self._columns:
                self._open_shard()
            stop = min(codes.shape[0], start + self._shard_items - self._in_shard)
            for column, values in zip(self._columns, rows, strict=True):
                column.write(values[start:stop])
            self._in_shard += stop - start
            start = stop
            if self._in_shard == self._shard_items:
                self._close_shard()

    def _label_rows(self, labels: Tensor | NDArray[Any], items: int) -> NDArray[Any]:
        labels = torch.from_numpy(labels) if isinstance(labels, np.ndarray) else labels
        if isinstance(labels, Tensor):
            labels = labels.detach().cpu()
        check_labels(_OP, "labels", labels, items, torch.device("cpu"), check_values=True)
        if self._format.classes is not None:
            if labels.dim() != 2 or labels.shape[1] != self._format.classes:
                checks.fail_value(_OP, "labels", f"multi-hot rows [{items}, {self._format.classes}]", labels)
            return np.packbits(labels.numpy() != 0, axis=1, bitorder="little")
        if labels.dim() != 1:
            checks.fail_value(_OP, "labels", f"class ids [{items}], or classes= given for multi-hot rows", labels)
        most = np.iinfo(self._format.dtype).max
        if items and int(labels.max()) > most:
            checks.fail_value(
                _OP, "labels", f"class ids up to {most} (label_dtype={self._format.dtype!r})", int(labels.max())
            )
        return labels.numpy().astype(np.dtype(self._format.dtype).newbyteorder("<"))

    def _open_shard(self) -> None:
        number = f"-{len(self._shards):05d}" if not self._is_archive else ""
        width = (self._bits + 7) // 8
        bytes_ = np.dtype(np.uint8)
        self._columns = [_Column(self._folder, f"codes{number}.npy", bytes_, (width,), self._block_items)]
        if self._has_labels:
            ids = self._format.classes is None
            dtype = np.dtype(self._format.dtype).newbyteorder("<") if ids else bytes_
            tail = () if ids else (self._format.width,)
            self._columns.append(_Column(self._folder, f"labels{number}.npy", dtype, tail, self._block_items))

    def _close_shard(self) -> None:
        files = [column.close() for column in self._columns]
        self._shards.append(Shard(self._in_shard, files[0], files[1] if len(files) == 2 else None))
        self._columns, self._in_shard = [], 0

    def close(self) -> None:
        """Ends the set and puts it in its place.

        Raises:
            CodeSetError: another process was faster.
            OSError: it cannot be written.
        """
        if self._is_done:
            return
        if self._columns or (self._is_archive and not self._shards):
            if not self._columns:
                self._open_shard()
            self._close_shard()
        labels = self._format if self._has_labels else None
        manifest = Manifest(self._bits, labels, self._block_items, tuple(self._shards), self._made)
        write_json(self._folder / NAME, manifest.to_dict())
        self._is_done = True
        try:
            self._put_in_place()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _put_in_place(self) -> None:
        new = self._as_archive() if self._is_archive else self._folder
        try:
            if self._overwrite and self._path.exists():
                old = temporary_beside(self._path)
                os.rename(self._path, old)
                try:
                    os.rename(new, self._path)
                except OSError:
                    os.rename(old, self._path)
                    raise
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
            elif self._is_archive:
                _rename_if_free(new, self._path)
            else:
                os.rename(new, self._path)  # fails where there is something
        except OSError:
            if self._path.exists() and not self._overwrite:
                raise CodeSetError(
                    f"{self._path}: another process has written it meanwhile; nothing was changed"
                ) from None
            raise
        finally:
            if self._is_archive:
                new.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def _as_archive(self) -> Path:
        path = temporary_beside(self._path)
        with open(path, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name in [*(column for shard in self._shards for column in _names(shard)), NAME]:
                    member = zipfile.ZipInfo(name)  # without a date: the same items are the same bytes
                    with archive.open(member, "w", force_zip64=True) as to, open(self._folder / name, "rb") as source:
                        shutil.copyfileobj(source, to, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        return path

    def abandon(self) -> None:
        """Removes what was written."""
        self._is_done = True
        for column in self._columns:
            column.abandon()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> CodeSetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
            return
        try:
            self.close()
        except BaseException:
            self.abandon()
            raise


def _rename_if_free(old: Path, new: Path) -> None:
    """A rename of files takes the place of what is there; a link does not, where the file system has links."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if new.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
        os.rename(old, new)


def _names(shard: Shard) -> list[str]:
    return [file.name for file in (shard.codes, shard.labels) if file is not None]


def write_code_set(
    path: str | os.PathLike[str],
    codes: Tensor | NDArray[np.uint8],
    labels: Tensor | NDArray[Any] | None = None,
    *,
    bits: int | None = None,
    shard_items: int | None = None,
    overwrite: bool = False,
    made: dict[str, Any] | None = None,
) -> CodeSet:
    """Writes codes and labels that are in memory as a :class:`CodeSet`, class ids in the smallest type that holds them.

    Args:
        path, shard_items, overwrite, made: as for :class:`CodeSetWriter`.
        codes: packed codes uint8 ``[G, ceil(K / 8)]``.
        labels: class ids ``[G]``, multi-hot ``[G, C]``, or None.
        bits: K; None means every place of the bytes.

    Returns:
        The set, opened.

    Raises:
        TypeError, ValueError, CodeSetError, OSError: as :class:`CodeSetWriter`.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/queries"
        >>> codes = rdh_ext.pack_codes(torch.randn(100, 48))
        >>> rdh_ext.retrieval.write_code_set(path, codes, torch.randint(0, 2, (100, 21)))
        CodeSet(100 codes of 48 bits, 21 labels, multi-hot)
    """
    codes = torch.from_numpy(codes) if isinstance(codes, np.ndarray) else codes
    labels = torch.from_numpy(labels) if isinstance(labels, np.ndarray) else labels
    checks.check_codes("write_code_set", "codes", codes)
    classes, dtype = None, "int64"
    if isinstance(labels, Tensor) and labels.dim() == 2:
        classes = max(1, labels.shape[1])
    elif isinstance(labels, Tensor) and labels.numel() and labels.dtype in checks.INTEGER:
        largest = int(labels.max())
        dtype = next(name for name in ID_TYPES if largest <= torch.iinfo(getattr(torch, name)).max)
    bits = 8 * codes.shape[1] if bits is None else bits
    writer = CodeSetWriter(
        path, bits=bits, classes=classes, label_dtype=dtype, shard_items=shard_items, overwrite=overwrite, made=made
    )
    with writer:
        writer.add(codes, labels)
    return CodeSet(path)
