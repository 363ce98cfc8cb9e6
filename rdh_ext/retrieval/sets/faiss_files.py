"""Codes in binary indexes that FAISS wrote."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._extras import require
from .arrays import Array, file_array, in_memory, open_file
from .errors import CodeSetError

FLAT = b"IBxF"
FLAT_HEADER = struct.Struct("<4siiqBiQ")
"""Of an IndexBinaryFlat: its name, bits, bytes per code, items, whether trained, metric, bytes of all codes."""
METRIC_L2 = 1
"""What FAISS writes for binary indexes, which have no other metric."""
_KINDS = {b"IBwF": "IndexBinaryIVF", b"IBMp": "IndexBinaryIDMap", b"IBM2": "IndexBinaryIDMap2"}
_Part = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Some ids and their codes."""


def faiss_array(path: Path) -> tuple[Array, str]:
    """The codes of an index in the order of their ids, and the name of its kind."""
    with open_file(path) as file:
        kind = file.read(4)
    if kind == FLAT:
        return _flat_array(path), "IndexBinaryFlat"
    if kind in _KINDS:
        return in_memory(str(path), _index_codes(path)), _KINDS[kind]
    raise CodeSetError(
        f"{path}: not an IndexBinaryFlat, IndexBinaryIVF or IndexBinaryIDMap of FAISS; give the codes to one of them"
    )


def _flat_array(path: Path) -> Array:
    """The codes of an IndexBinaryFlat, which lie in the file one behind the other."""
    with open_file(path) as file:
        header = file.read(FLAT_HEADER.size)
        size = os.fstat(file.fileno()).st_size
    if len(header) == FLAT_HEADER.size:
        _, bits, width, items, _, _, stored = FLAT_HEADER.unpack(header)
        if bits == 8 * width and items >= 0 and stored == items * width and size == FLAT_HEADER.size + stored:
            return file_array(path, (items, width), np.dtype(np.uint8), FLAT_HEADER.size, False)
    raise CodeSetError(f"{path}: a damaged IndexBinaryFlat; bring back the whole file")


def _index_codes(path: Path) -> NDArray[np.uint8]:
    """The codes of an index that only FAISS can read, in the order of their ids."""
    faiss = require("faiss", package="faiss-cpu", extra="search")
    with open_file(path) as file:
        try:
            owner = faiss.read_index_binary(faiss.PyCallbackIOReader(file.read))
        except (RuntimeError, AssertionError, MemoryError):
            raise CodeSetError(
                f"{path}: FAISS {faiss.__version__} does not read it: damaged, of another version, or too large for "
                "memory; write it again"
            ) from None
    # what comes of downcasting owns nothing: without a name for the owner it would be freed
    return _codes_in(faiss, faiss.downcast_IndexBinary(owner), str(path))


def _codes_in(faiss: Any, index: Any, name: str) -> NDArray[np.uint8]:
    items = int(index.ntotal)
    if isinstance(index, faiss.IndexBinaryFlat):
        codes: NDArray[np.uint8] = faiss.vector_to_array(index.xb).reshape(items, index.code_size)
        return codes
    if isinstance(index, (faiss.IndexBinaryIDMap, faiss.IndexBinaryIDMap2)):
        inner = _codes_in(faiss, faiss.downcast_IndexBinary(index.index), name)
        return _by_id([(faiss.vector_to_array(index.id_map), inner)], items, inner.shape[1], name)
    if isinstance(index, faiss.IndexBinaryIVF):
        return _by_id(_lists(faiss, index), items, index.code_size, name)
    raise CodeSetError(f"{name}: holds an {type(index).__name__}; give the codes to an IndexBinaryFlat")


def _lists(faiss: Any, index: Any) -> Iterator[_Part]:
    lists, width = index.invlists, int(index.code_size)
    for number in range(index.nlist):
        if size := int(lists.list_size(number)):
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
            yield ids, faiss.rev_swig_ptr(lists.get_codes(number), size * width).reshape(size, width)


def _by_id(parts: Iterable[_Part], items: int, width: int, name: str) -> NDArray[np.uint8]:
    """Codes in the order of their ids, which must be 0 to ``items`` - 1."""
    parts = list(parts)
    if sum(len(ids) for ids, _ in parts) == items and all(len(ids) == len(codes) for ids, codes in parts):
        codes, found = np.empty((items, width), np.uint8), np.zeros(items, np.bool_)
        for ids, part in parts:
            known = (ids >= 0) & (ids < items)
            codes[ids[known]], found[ids[known]] = part[known], True
        if found.all():
            return codes
    raise CodeSetError(
        f"{name}: the ids are not 0 to {items - 1:,}, each once, and so labels cannot be matched; "
        "add the codes without ids, in the order of the labels"
    )
