"""Headers of ``.npy`` arrays: read without running anything that is in them, and written with room for more rows.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from .errors import CodeSetError

HEADER = 128
"""Bytes of the headers written here: enough for any number of rows."""


@dataclass(frozen=True)
class NpyHeader:
    """What a ``.npy`` file says of its array."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int
    """Bytes from the beginning to the first row."""
    fortran: bool = False
    """Columns lie one behind the other, not rows."""


def read_header(file: BinaryIO, name: str, *, any_order: bool = False) -> NpyHeader:
    """The header that begins where ``file`` stands, of an array whose dtype is no object, in C order unless
    ``any_order``.

    Raises:
        CodeSetError: it is none.
    """
    start = file.tell()
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = npy_format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version} of the format")
    except OSError:
        raise
    except Exception as error:  # NumPy's parser has many for what is no header
        what = " ".join(str(error).split())[:120]
        raise CodeSetError(f"{name}: not a .npy array ({what}); write it with numpy.save") from None
    if dtype.hasobject:
        raise CodeSetError(f"{name}: an array of Python objects, which would have to be unpickled; save it as numbers")
    fortran = fortran and len(shape) > 1
    if fortran and not any_order:
        raise CodeSetError(f"{name}: an array in Fortran order; save numpy.ascontiguousarray of it")
    return NpyHeader(dtype, tuple(int(size) for size in shape), file.tell() - start, fortran)


def header_of(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """The header of such an array, ``HEADER`` bytes whatever the number of rows."""
    words = f"{{'descr': {npy_format.dtype_to_descr(dtype)!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    start = npy_format.magic(1, 0) + (HEADER - 10).to_bytes(2, "little")
    return start + (words.ljust(HEADER - 11) + "\n").encode("latin1")
