"""Arrays that lie in files or in memory, of which some rows at a time are asked for.

Files are read, not mapped into memory: one that is cut short meanwhile is an error, not a crash.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import CodeSetError
from .npy import read_header

PIECE_BYTES = 32 << 20
"""So much is read at a time, about."""


@dataclass(frozen=True)
class Array:
    """An array wherever it lies, whose rows can be had."""

    name: str
    """For errors."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Callable[[int, int], NDArray[Any]]
    """From the first to before the second."""

    @property
    def row_bytes(self) -> int:
        """At least 1."""
        return max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)

    def __str__(self) -> str:
        return f"{self.dtype.newbyteorder('=')} {list(self.shape)}"


def open_file(path: Path) -> io.BufferedReader:
    """Opens a file to read it, and nothing else that a name may stand for."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
        raise CodeSetError(f"{path}: a folder or a device, not a file; name the file")
    return open(path, "rb")


def _read_into(file: io.BufferedReader, offset: int, out: NDArray[Any], name: str) -> None:
    file.seek(offset)
    content = out.reshape(-1).view(np.uint8)
    if file.readinto(content.data) != content.size:
        raise CodeSetError(f"{name}: has become shorter meanwhile; bring back the whole file")


def file_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, fortran: bool) -> Array:
    """The array of a file from ``offset`` on."""

    def rows(first: int, stop: int) -> NDArray[Any]:
        with open_file(path) as file:
            if not fortran:
                out: NDArray[Any] = np.empty((stop - first, *shape[1:]), dtype)
                _read_into(file, offset + first * math.prod(shape[1:]) * dtype.itemsize, out, str(path))
                return out
            columns: NDArray[Any] = np.empty((shape[1], stop - first), dtype)
            for number, column in enumerate(columns):
                _read_into(file, offset + (number * shape[0] + first) * dtype.itemsize, column, str(path))
            return np.transpose(columns)

    return Array(str(path), shape, dtype, rows)


def npy_array(path: Path) -> Array:
    """A ``.npy`` file, whole, of at most two dimensions."""
    with open_file(path) as file:
        if path.suffix == ".npz" or file.read(4) == b"PK\3\4":
            raise CodeSetError(f"{path}: an archive; save the array alone with numpy.save")
        file.seek(0)
        header = read_header(file, str(path), any_order=True)
        size = os.fstat(file.fileno()).st_size
    if len(header.shape) not in (1, 2) or min(header.shape) < 0:
        raise CodeSetError(f"{path}: an array {list(header.shape)}; save it with one row per item")
    whole = header.offset + math.prod(header.shape) * header.dtype.itemsize
    if size < whole:
        raise CodeSetError(f"{path}: {size:,} bytes, and it should be {whole:,}; bring back the whole file")
    if size > whole:
        raise CodeSetError(
            f"{path}: {size - whole:,} bytes behind the array, perhaps of others; save every array in a file of its own"
        )
    return file_array(path, header.shape, header.dtype, header.offset, header.fortran)


def in_memory(name: str, value: Any) -> Array:
    """A tensor or an array of a dictionary."""
    if isinstance(value, np.ndarray):
        rows: NDArray[Any] = value
        return Array(name, rows.shape, rows.dtype, lambda first, stop: rows[first:stop])
    if not isinstance(value, Tensor):
        raise CodeSetError(f"{name}: a {type(value).__name__}; save a tensor")
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        raise CodeSetError(f"{name}: a tensor that is sparse, nested, quantized or without values; save a dense one")
    tensor = value.detach()
    if tensor.dtype.is_floating_point and tensor.dtype not in (torch.float64, torch.float32, torch.float16):

        def take(part: Tensor) -> NDArray[Any]:  # bfloat16, which NumPy has not
            return part.float().numpy()

    else:

        def take(part: Tensor) -> NDArray[Any]:
            return part.resolve_neg().resolve_conj().numpy()

    try:
        dtype = take(tensor[:0] if tensor.dim() else tensor.reshape(1)).dtype
    except (TypeError, RuntimeError):
        raise CodeSetError(f"{name}: a tensor of {tensor.dtype}; save it as float32 or uint8") from None
    return Array(name, tuple(tensor.shape), dtype, lambda first, stop: take(tensor[first:stop]))
