"""Files as other programs write them, for tests of what reads them: .npy, .pt and FAISS indexes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import error_of
from numpy.typing import NDArray

from rdh_ext.retrieval import open_npy

FLOATS = ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8", np.longdouble]
INTEGERS = ["|i1", "<i2", "<i4", "<i8", ">i2", ">i4", ">i8"]


def random_bits(rows: int, bits: int, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((rows, bits)) < 0.5


def random_bytes(rows: int, width: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, width), dtype=np.uint8)


def bits_of(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Packed by arithmetic: bit k has the value 2^(k % 8) in byte k // 8."""
    codes = np.zeros((len(bits), (bits.shape[1] + 7) // 8), np.uint8)
    for k in range(bits.shape[1]):
        codes[:, k // 8] += bits[:, k].astype(np.uint8) * np.uint8(2 ** (k % 8))
    return codes


def npy_bytes(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def save(path: Path, array: Any) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def save_pt(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def faiss_file(path: Path, kind: str, codes: NDArray[np.uint8], ids: NDArray[np.int64] | None = None) -> Path:
    """An index that FAISS wrote; ``ids`` where the kind has some."""
    faiss = pytest.importorskip("faiss")
    bits = 8 * codes.shape[1]
    index = faiss.IndexBinaryFlat(bits)
    if kind == "IVF":
        index = faiss.IndexBinaryIVF(index, bits, 7)
        index.cp.min_points_per_centroid = 1
        index.train(codes)
    if kind in ("IDMap", "IDMap2"):
        index = getattr(faiss, f"IndexBinary{kind}")(index)
    if kind == "HNSW":
        index = faiss.IndexBinaryHNSW(bits)
    if ids is None:
        index.add(codes)
    else:
        index.add_with_ids(codes, ids)
    faiss.write_index_binary(index, str(path))
    return path


def load_error(path: Path, *arguments: Any, **options: Any) -> str:
    """The one line of what goes wrong when a .npy file is opened or read; it names the file."""
    message = error_of(lambda: open_npy(path, *arguments, **options).load())
    assert path.name in message
    return message
