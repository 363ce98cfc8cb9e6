"""Codes and labels in the files that people have, read in pieces: ``.npy`` arrays, ``.pt`` dictionaries, binary indexes
of FAISS.

========================================================  =====================================================
what lies there                                           how it is opened
========================================================  =====================================================
``tst_binary.npy``, ``tst_label.npy`` (the queries)       ``open_npy("tst_binary.npy", "tst_label.npy")``
``trn_binary.npy``, ``trn_label.npy`` (the gallery)       ``open_npy("trn_binary.npy", "trn_label.npy")``
outputs of a model ``[G, K]``, +-1, 0-1, -1-0-1, bool     ``open_npy("outputs.npy")``
outputs of a sigmoid                                      ``numpy.save("bits.npy", outputs > 0.5)``, then as above
``numpy.packbits(bits, axis=1)``, K of them               ``open_npy("packed.npy", bits=K, bit_order="big")``
``{"qB": ..., "rB": ..., "qL": ..., "rL": ...}``          ``open_pt("codes.pt", "query")``, ``..., "gallery")``
what ``faiss.write_index_binary`` wrote                   ``open_faiss("index.faiss", "labels.npy")``
========================================================  =====================================================

Nothing is unpickled.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import _checks as checks
from .arrays import PIECE_BYTES, in_memory, npy_array, open_file
from .code_set import CodeSet, Progress
from .errors import CodeSetError
from .faiss_files import faiss_array
from .manifest import LabelFormat, codes_in_words
from .meaning import BIT_ORDERS, VALUES, CodeRows, LabelRows, codes_of, labels_of
from .writer import CodeSetWriter

PARTS = ("query", "gallery")


class Dump:
    """Codes and labels in files of other programs, to be read in pieces or to be written as a :class:`CodeSet`.

    Made by :func:`open_npy`, :func:`open_pt` and :func:`open_faiss`, which find out what the files hold. What can only
    be seen by reading all of it is said while it is read: NaN, for instance, or a 7 among zeros and ones.

    Example:
        >>> import numpy, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> numpy.save(folder + "/outputs.npy", torch.randn(100, 48).numpy())
        >>> dump = rdh_ext.retrieval.open_npy(folder + "/outputs.npy")
        >>> dump
        Dump(100 codes of 48 bits from signs, no labels)
        >>> dump.write(folder + "/gallery")
        CodeSet(100 codes of 48 bits, no labels)
        >>> dump.exact_zeros
        0
    """

    def __init__(self, codes: CodeRows, labels: LabelRows | None, made: dict[str, Any]) -> None:
        self._codes, self._labels = codes, labels
        self._zeros = 0
        self._made = made | {"values": codes.values}
        if codes.values == "packed":
            self._made |= {"bit_order": codes.bit_order}

    @property
    def bits(self) -> int:
        """K."""
        return self._codes.bits

    @property
    def values(self) -> str:
        """Where bits come from: "packed" bytes, "signs" (bit = value >= 0), or "01" (bit = value > 0)."""
        return self._codes.values

    @property
    def labels(self) -> LabelFormat | None:
        """The kind of labels, or None."""
        return None if self._labels is None else self._labels.format

    @property
    def exact_zeros(self) -> int:
        """How many values were exactly 0 where signs make the bits, each a 1 bit; of what has been read last."""
        return self._zeros

    @property
    def made(self) -> dict[str, Any]:
        """Where it comes from, for the manifest."""
        return self._made | ({"exact_zeros": self._zeros} if self.values == "signs" else {})

    def __len__(self) -> int:
        return self._codes.array.shape[0]

    def __repr__(self) -> str:
        source = {"packed": "packed bytes", "signs": "signs", "01": "0-1 values"}[self.values]
        return f"Dump({codes_in_words(len(self), self.bits)} from {source}, {self.labels or 'no labels'})"

    def pieces(self, rows: int | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Codes and labels, ``rows`` items at a time; None means about 32 MiB. At least one piece, which may be empty.

        Returns:
            Codes uint8 ``[n, ceil(K / 8)]``, packed as :func:`rdh_ext.pack_codes` does, zeros behind bit K. Labels:
            class ids ``[n]`` in the smallest of uint8, int16, int32 and int64 that holds all, multi-hot bool
            ``[n, C]``, or None.

        Raises:
            CodeSetError: a row is not what it must be.
            TypeError, ValueError: ``rows`` cannot be.
            OSError: a file cannot be read.

        Cost: every byte is read once. Memory: a few times that of a piece.
        """
        if rows is None:
            labels = 0 if self._labels is None else self._labels.array.row_bytes
            rows = max(1, PIECE_BYTES // (self._codes.array.row_bytes + labels))
        rows = checks.check_integer("pieces", "rows", rows, low=1, expected="an integer >= 1, or None")
        self._zeros = 0
        for first in range(0, max(1, len(self)), rows):
            stop = min(len(self), first + rows)
            codes, zeros = self._codes.read(first, stop)
            self._zeros += zeros
            labels_ = None if self._labels is None else torch.from_numpy(self._labels.read(first, stop))
            yield torch.from_numpy(codes), labels_

    def load(self, progress: Progress | None = None) -> tuple[Tensor, Tensor | None]:
        """All codes and labels, as :meth:`pieces` has them.

        Raises:
            CodeSetError, OSError: as :meth:`pieces`.

        Cost: every byte is read once. Memory: the result, and a piece.
        """
        codes = torch.empty((len(self), (self.bits + 7) // 8), dtype=torch.uint8)
        labels: Tensor | None = None
        done = 0
        for piece, piece_labels in self.pieces():
            stop = done + len(piece)
            codes[done:stop] = piece
            if piece_labels is not None:
                if labels is None:
                    labels = torch.empty((len(self), *piece_labels.shape[1:]), dtype=piece_labels.dtype)
                labels[done:stop] = piece_labels
            done = stop
            if progress is not None:
                progress(done, len(self))
        return codes, labels

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        shard_items: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> CodeSet:
        """Writes it as a :class:`CodeSet`, piece by piece; the manifest says where it comes from.

        Args:
            path, shard_items, overwrite: as for :class:`CodeSetWriter`.
            progress: called with (items done, items in all) after every piece.

        Returns:
            The set, opened. There is none after an error.

        Raises:
            CodeSetError: as :meth:`pieces`, or something is at ``path`` already.
            TypeError, ValueError: an argument cannot be.
            OSError: something cannot be read or written.

        Cost: as :meth:`pieces` and :class:`CodeSetWriter`: files of any size in some hundred MiB of memory.
        """
        kind = self.labels or LabelFormat("class_ids")
        writer = CodeSetWriter(
            path,
            bits=self.bits,
            classes=kind.classes,
            label_dtype=kind.dtype,
            shard_items=shard_items,
            overwrite=overwrite,
        )
        with writer:
            done = 0
            for codes, labels in self.pieces():
                writer.add(codes, labels)
                done += len(codes)
                if progress is not None:
                    progress(done, len(self))
            writer.made.update(self.made)
        return CodeSet(path)


def _check_options(op: str, bits: int | None, values: str, bit_order: str) -> int | None:
    checks.check_choice(op, "values", values, VALUES)
    checks.check_choice(op, "bit_order", bit_order, BIT_ORDERS)
    if bits is None:
        return None
    most = checks.MAX_BITS
    return checks.check_integer(op, "bits", bits, low=1, high=most, expected=f"an integer from 1 to {most}, or None")


def _dump(codes: CodeRows, labels: str | os.PathLike[str] | None, made: dict[str, Any]) -> Dump:
    """With labels from a file of their own."""
    if labels is None:
        return Dump(codes, None, made)
    path = Path(labels)
    found = labels_of(npy_array(path), codes.array.shape[0], codes.array.name)
    return Dump(codes, found, made | {"labels_file": path.name})


def open_npy(
    codes: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    *,
    bits: int | None = None,
    bit_order: str = "little",
    values: str = "auto",
) -> Dump:
    """Codes, or the outputs of a model, in a ``.npy`` file, and labels in another one.

    What the values of ``codes`` mean is seen from dtype and values:

    =============================  ============================================================================
    uint8                          packed bytes
    bool                           one bit each
    integers, all 0 or 1           bit = value > 0
    floats, all 0 or 1             bit = value > 0: codes of 0 and 1, as sign never makes them
    integers -1, 0 and 1           bit = value >= 0, as :func:`rdh_ext.pack_codes`; exact zeros are counted
    int16, int32, int64, floats    bit = value >= 0, exact zeros are counted; NaN is an error
    =============================  ============================================================================

    The first 32 MiB tell; a later row that is not so is an error. What could be two things is an error, too, until
    ``values`` says which: uint8 of nothing but 0 and 1 (packed, or one for each bit?) without ``bits``; int8 beyond -1,
    0 and 1 (outputs, or packed bytes?); numbers none of which is below 0 (outputs of a sigmoid? their signs are all +).

    Args:
        codes: ``[G, K]``, or ``[G, W]`` packed, W bytes; C or Fortran order, any byte order.
        labels: class ids ``[G]`` or ``[G, 1]`` of any integer dtype, bool, or floats that are whole numbers; or
            multi-hot ``[G, C]`` of 0 and 1 in any real dtype, which one-hot rows are, too. None for none.
        bits: K; None means all columns, or 8 W.
        bit_order: of packed bytes: "little" has bit k at place k % 8 (ours, FAISS's, ``numpy.packbits(...,
            bitorder="little")``), "big" at place 7 - k % 8 (what ``numpy.packbits`` does unless told otherwise).
        values: "auto"; or "packed", "signs" (value >= 0) or "01" (value > 0), whatever they look like.

    Returns:
        The files, opened; nearly nothing has been read.

    Raises:
        CodeSetError: a file is not whole, is no array of numbers, or does not fit the other one or the options.
        TypeError, ValueError: an option cannot be.
        OSError: a file cannot be read.

    Cost: reads the first 32 MiB of the codes, and class ids once. Memory: these 32 MiB.

    Example:
        >>> import numpy, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> numpy.save(folder + "/tst_binary.npy", numpy.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]]))
        >>> numpy.save(folder + "/tst_label.npy", numpy.array([[0.0, 1.0], [1.0, 0.0]]))
        >>> dump = rdh_ext.retrieval.open_npy(folder + "/tst_binary.npy", folder + "/tst_label.npy")
        >>> dump
        Dump(2 codes of 3 bits from signs, 2 labels, multi-hot)
        >>> dump.load()[0]
        tensor([[5],
                [4]], dtype=torch.uint8)
    """
    bits = _check_options("open_npy", bits, values, bit_order)
    path = Path(codes)
    found = codes_of(npy_array(path), bits, values, bit_order)
    return _dump(found, labels, {"from": "npy", "file": path.name})


def open_pt(
    path: str | os.PathLike[str],
    part: str,
    *,
    bits: int | None = None,
    bit_order: str = "little",
    values: str = "auto",
) -> Dump:
    """The queries (``qB``, ``qL``) or the gallery (``rB``, ``rL``) of a dictionary that ``torch.save`` wrote.

    Upper case, lower case and underscores do not matter: ``q_B`` is ``qB``. Labels may be missing. The file is loaded
    with ``weights_only=True``, whatever is in it: NumPy arrays and other Python objects are an error, because loading
    them could run code.

    Args:
        path: the file.
        part: "query" or "gallery".
        bits, bit_order, values: as for :func:`open_npy`, and so is what codes and labels may be.

    Returns:
        The tensors, mapped into memory where the file allows it.

    Raises:
        CodeSetError: PyTorch does not load it, or it is no such dictionary; and as :func:`open_npy`.
        TypeError, ValueError: an option cannot be.
        OSError: the file cannot be read.

    Cost: as :func:`open_npy`. Files of PyTorch before 1.6 are loaded into memory as a whole.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/codes.pt"
        >>> qB, rB = torch.randn(10, 32).sign(), torch.randn(1000, 32).sign()
        >>> torch.save({"qB": qB, "rB": rB, "qL": torch.arange(10), "rL": torch.arange(1000)}, path)
        >>> rdh_ext.retrieval.open_pt(path, "gallery")
        Dump(1,000 codes of 32 bits from signs, class ids)
    """
    bits = _check_options("open_pt", bits, values, bit_order)
    checks.check_choice("open_pt", "part", part, PARTS)
    path = Path(path)
    found = _entries(_load_pt(path), path)
    letter = "q" if part == "query" else "r"
    if f"{letter}b" not in found:
        raise CodeSetError(f"{path}: no {letter}B in it; save a dictionary with qB, rB, qL and rL")
    codes = codes_of(in_memory(*found[f"{letter}b"]), bits, values, bit_order)
    labels = None
    if f"{letter}l" in found:
        labels = labels_of(in_memory(*found[f"{letter}l"]), codes.array.shape[0], codes.array.name)
    return Dump(codes, labels, {"from": "pt", "file": path.name, "part": part})


def _entries(loaded: Any, path: Path) -> dict[str, tuple[str, Any]]:
    """What is there of qb, rb, ql and rl: a name for errors, and the value."""
    if not isinstance(loaded, dict):
        raise CodeSetError(f"{path}: a {type(loaded).__name__}; save a dictionary with qB, rB, qL and rL")
    found: dict[str, tuple[str, Any]] = {}
    for key, value in loaded.items():
        plain = key.lower().replace("_", "") if isinstance(key, str) else ""
        if plain not in ("qb", "rb", "ql", "rl"):
            continue
        if plain in found:
            raise CodeSetError(f"{found[plain][0]} and {key!r}: two names of one thing; save one of them")
        found[plain] = f"{path}, {key!r}", value
    return found


def _load_pt(path: Path) -> Any:
    """What ``torch.save`` wrote, without running anything that is in it."""
    with open_file(path) as file:
        is_zip = file.read(4) == b"PK\3\4"  # what PyTorch 1.6 and later write
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=is_zip)
    except MemoryError:
        raise
    except Exception as error:  # whatever a file that is none can lead to
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # seeking to before its beginning, for instance
            raise
        what = str(error)
        if "GLOBAL" in what:  # PyTorch's word for what a pickle would call
            raise CodeSetError(
                f"{path}: holds NumPy arrays or other Python objects, and loading them could run code; save tensors "
                "(torch.from_numpy), or each array with numpy.save and give it with --codes"
            ) from None
        raise CodeSetError(f"{path}: not a file of torch.save, or a damaged one; save it again") from None


def open_faiss(
    path: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None, *, bits: int | None = None
) -> Dump:
    """The codes of a binary index that FAISS wrote: IndexBinaryFlat, IndexBinaryIVF, or IndexBinaryIDMap of these.

    Items are in the order of their ids, which must be 0 to G-1, each of them once: labels go by that order.

    Args:
        path: the file.
        labels: a ``.npy`` file, as for :func:`open_npy`.
        bits: K where it is no multiple of 8; None means all bits of the index.

    Returns:
        The codes. Those of an IndexBinaryFlat remain in the file; those of the others are in memory.

    Raises:
        CodeSetError: it is no such index, or not whole, or has other ids; or the labels do not fit.
        MissingExtra: for all but IndexBinaryFlat FAISS is needed: ``pip install 'rdh_ext[search]'``.
        TypeError, ValueError: ``bits`` cannot be.
        OSError: the file cannot be read.

    Cost: nothing for IndexBinaryFlat; for the others the file is read once. Memory: twice the codes of these.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> gallery = rdh_ext.retrieval.write_code_set(folder + "/gallery", rdh_ext.pack_codes(torch.randn(100, 48)))
        >>> path = rdh_ext.retrieval.export_faiss(gallery, folder + "/gallery.faiss")
        >>> rdh_ext.retrieval.open_faiss(path)
        Dump(100 codes of 48 bits from packed bytes, no labels)
    """
    bits = _check_options("open_faiss", bits, "packed", "little")
    path = Path(path)
    array, name = faiss_array(path)
    codes = codes_of(array, bits, "packed", "little")
    return _dump(codes, labels, {"from": "faiss", "file": path.name, "index": name})
