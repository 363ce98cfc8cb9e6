"""What the numbers of other programs mean: bits and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._checks import MAX_BITS
from .arrays import PIECE_BYTES, Array
from .errors import CodeSetError
from .manifest import ID_TYPES, MAX_CLASSES, LabelFormat

VALUES = ("auto", "packed", "signs", "01")
BIT_ORDERS = ("little", "big")
_IDS_AT_A_TIME = 1 << 20
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1), axis=1, bitorder="little")[:, 0]
"""Every byte with its bits the other way round."""


def _first(wrong: NDArray[np.bool_]) -> int:
    """The first row in which there is something wrong."""
    return int(wrong.reshape(len(wrong), -1).any(axis=1).argmax())


def _not_01(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Neither 0 nor 1; NaN is neither."""
    return np.asarray(~((rows == 0) | (rows == 1)))


def _check_01(rows: NDArray[Any], first: int, name: str, advice: str) -> NDArray[np.bool_]:
    """Rows of 0 and 1 as bools."""
    if rows.dtype.kind != "b" and (wrong := _not_01(rows)).any():
        row = _first(wrong)
        value = rows[row][wrong[row]][0]
        raise CodeSetError(f"{name}: row {first + row:,} holds {value} where 0 or 1 must be; {advice}")
    return np.asarray(rows != 0)


@dataclass(frozen=True)
class CodeRows:
    """Rows of an array that become packed codes."""

    array: Array
    bits: int
    values: str
    bit_order: str

    def read(self, first: int, stop: int) -> tuple[NDArray[np.uint8], int]:
        """Packed codes, and the number of exact zeros among the signs."""
        rows = self.array.rows(first, stop)
        if self.values == "packed":
            return self._packed(rows, first), 0
        if self.values == "01":
            is_signed = rows.dtype.kind in "if"
            advice = "if signs make the bits: --values signs" if is_signed else "if these are bytes: --values packed"
            return np.packbits(_check_01(rows, first, self.array.name, advice), axis=1, bitorder="little"), 0
        if rows.dtype.kind == "f" and (wrong := np.isnan(rows)).any():
            raise CodeSetError(
                f"{self.array.name}: row {first + _first(wrong):,} holds NaN, which has no sign; make the outputs again"
            )
        zeros = rows.size - int(np.count_nonzero(rows))
        return np.packbits(rows >= 0, axis=1, bitorder="little"), zeros

    def _packed(self, rows: NDArray[Any], first: int) -> NDArray[np.uint8]:
        codes = np.array(rows, dtype=np.uint8, order="C") if self.bit_order == "little" else _REVERSED[rows]
        if self.bits % 8 and (wrong := codes[:, -1] >> (self.bits % 8) != 0).any():
            raise CodeSetError(
                f"{self.array.name}: row {first + _first(wrong):,} has ones behind its {self.bits} bits; "
                f"look whether --bits {self.bits} and --bit-order {self.bit_order} are right"
            )
        return np.ascontiguousarray(codes)


def codes_of(array: Array, bits: int | None, values: str, bit_order: str) -> CodeRows:
    """Finds out what the values of an array mean."""
    if len(array.shape) != 2 or array.dtype.kind not in "buif":
        raise CodeSetError(f"{array.name}: codes must be numbers [items, K] or packed bytes, got {array}")
    width = array.shape[1]
    if values == "auto":
        values = _meaning(array, bits)
    if values == "packed":
        if array.dtype != np.uint8:
            raise CodeSetError(f"{array.name}: packed codes must be uint8, got {array}; save .view(numpy.uint8)")
        low, high = 8 * width - 7, 8 * width
        if not 1 <= width <= MAX_BITS // 8 or not low <= (bits or high) <= high:
            raise CodeSetError(_wrong_width(array, bits))
        return CodeRows(array, bits or high, values, bit_order)
    if values == "signs" and array.dtype.kind not in "if":
        raise CodeSetError(f"{array.name}: {array} has no signs; with one number 0 or 1 for each bit: --values 01")
    if not 1 <= width <= MAX_BITS or width != (bits or width):
        raise CodeSetError(_wrong_width(array, bits))
    return CodeRows(array, width, values, bit_order)


def _wrong_width(array: Array, bits: int | None) -> str:
    """The error of an array that cannot have so many bits."""
    if bits is None:
        return f"{array.name}: {array}, and codes have 1 to {MAX_BITS} bits; save them with one row per item"
    return f"{array.name}: {array} does not hold codes of {bits} bits; leave --bits out or correct it"


def _meaning(array: Array, bits: int | None) -> str:
    """What the values mean, from the first tens of megabytes; every row is held to it when it is read."""
    width, is_bytes = array.shape[1], array.dtype == np.uint8
    if array.dtype.kind == "b":
        return "01"
    if is_bytes and bits is not None:
        return "01" if width == bits and width != (bits + 7) // 8 else "packed"
    look = array.rows(0, min(array.shape[0], max(1, PIECE_BYTES // array.row_bytes)))
    is_01 = look.size > 0 and not _not_01(look).any()
    if is_bytes:
        if is_01:
            raise CodeSetError(
                f"{array.name}: {array} of nothing but 0 and 1: one number for each of {width} bits (--values 01), "
                f"or bytes of {8 * width} bits (--values packed); say which"
            )
        return "packed"
    if is_01:
        return "01"
    if array.dtype.kind == "u":
        if look.size == 0:
            return "01"
        raise CodeSetError(f"{array.name}: {array}; packed codes must be uint8: save .view(numpy.uint8)")
    if array.dtype == np.int8 and look.size and not -1 <= int(look.min()) <= int(look.max()) <= 1:
        raise CodeSetError(
            f"{array.name}: {array} beyond -1, 0 and 1: outputs, whose signs make the bits (--values signs), or packed "
            "bytes, which must be saved as uint8; say which"
        )
    if look.size and not (look < 0).any() and not (look.dtype.kind == "f" and np.isnan(look).any()):
        raise CodeSetError(
            f"{array.name}: no value is below 0 and not all are 0 or 1, so that signs would make all bits 1; save "
            "outputs > threshold as bool, or say --values signs"
        )
    return "signs"


@dataclass(frozen=True)
class LabelRows:
    """Rows of an array that are labels."""

    array: Array
    format: LabelFormat

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Class ids, or multi-hot rows as bools."""
        rows = self.array.rows(first, stop)
        if self.format.classes is None:
            return _ids(rows, first, self.array.name).astype(self.format.dtype)
        return _check_01(rows, first, self.array.name, "multi-hot rows have no other numbers")


def _ids(rows: NDArray[Any], first: int, name: str) -> NDArray[np.int64]:
    """Class ids; floats that are whole numbers, too."""
    rows = rows.reshape(-1)
    if rows.dtype.kind == "f":
        values = rows.astype(np.float64)
        wrong = ~((values >= 0) & (values < 2.0**63) & (values == np.floor(values)))
    elif rows.dtype.kind == "u":
        wrong = rows > np.uint64(2**63 - 1) if rows.dtype.itemsize == 8 else np.zeros(len(rows), np.bool_)
    else:
        wrong = np.zeros(len(rows), np.bool_) if rows.dtype.kind == "b" else rows < 0
    if wrong.any():
        row = _first(np.asarray(wrong))
        raise CodeSetError(
            f"{name}: row {first + row:,} is {rows[row]}; class ids must be whole numbers from 0 to 2^63-1"
        )
    return rows.astype(np.int64)


def labels_of(array: Array, items: int, codes: str) -> LabelRows:
    """Finds out what labels an array holds, and how large class ids are."""
    if array.dtype.kind in "USTO":
        raise CodeSetError(
            f"{array.name}: names, not numbers; save numpy.unique(names, return_inverse=True)[1] of all sets together"
        )
    if len(array.shape) not in (1, 2) or array.dtype.kind not in "buif":
        raise CodeSetError(f"{array.name}: labels must be class ids [items] or multi-hot [items, C], got {array}")
    if array.shape[0] != items:
        advice = "; transpose them" if array.shape[1:] == (items,) else "; give the labels that belong to the codes"
        raise CodeSetError(f"{array.name}: labels {array} for {items:,} codes of {codes}{advice}")
    columns = math.prod(array.shape[1:])
    if columns != 1:
        if not 1 <= columns <= MAX_CLASSES:
            raise CodeSetError(f"{array.name}: multi-hot labels must have 1 to {MAX_CLASSES:,} classes, got {array}")
        return LabelRows(array, LabelFormat("multi_hot", classes=columns))
    largest = 0
    for first in range(0, items, _IDS_AT_A_TIME):
        rows = array.rows(first, min(items, first + _IDS_AT_A_TIME))
        largest = max(largest, int(_ids(rows, first, array.name).max()))
    return LabelRows(array, LabelFormat("class_ids", next(t for t in ID_TYPES if largest <= np.iinfo(t).max)))
