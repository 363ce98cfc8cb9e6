""".npy files that are none, damaged, or change meanwhile: one line that names the file."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from code_sets import error_of
from foreign_files import load_error, npy_bytes, save
from malicious import Evil

from rdh_ext.retrieval import CodeSetError, open_npy

WHOLE = npy_bytes(np.random.default_rng(0).standard_normal((30, 8)))


def npz_bytes() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, codes=np.zeros((3, 4)))
    return buffer.getvalue()


def header_bytes(words: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words.encode() + bytes(64)


BROKEN = {
    "nothing": (b"", "not a .npy array"),
    "text": (b"0 1 1 0\n" * 100, "not a .npy array"),
    "the beginning of a header": (WHOLE[:9], "not a .npy array"),
    "a part of the array": (WHOLE[:-1], "2,047 bytes, and it should be 2,048; bring back"),
    "the header alone": (WHOLE[:128], "bring back the whole file"),
    "two arrays": (WHOLE + WHOLE, "2,048 bytes behind the array, perhaps of others"),
    "an archive": (npz_bytes(), "an archive; save the array alone"),
    "a pickle": (pickle.dumps(Evil()), "not a .npy array"),
    "objects": (npy_bytes(np.array([[Evil()]], dtype=object), allow_pickle=True), "Python objects"),
    "one dimension": (npy_bytes(np.zeros(8)), "[items, K] or packed bytes, got float64 [8]"),
    "none": (npy_bytes(np.float64(3)), "one row per item"),
    "three": (npy_bytes(np.zeros((2, 3, 4))), "one row per item"),
    "no bits": (npy_bytes(np.zeros((5, 0))), "1 to 4096 bits"),
    "no bytes": (npy_bytes(np.zeros((5, 0), np.uint8)), "1 to 4096 bits"),
    "too many bits": (npy_bytes(np.ones((2, 4097), np.int8)), "1 to 4096 bits"),
    "too many bytes": (npy_bytes(np.full((2, 513), 9, np.uint8)), "1 to 4096 bits"),
    "complex numbers": (npy_bytes(np.zeros((3, 4), "c8")), "codes must be numbers"),
    "bfloat16 as NumPy has it": (npy_bytes(np.zeros((3, 4), "V2")), "codes must be numbers"),
    "words": (npy_bytes(np.array([["a"]])), "codes must be numbers"),
    "records": (npy_bytes(np.zeros((3, 4), [("a", "f4")])), "codes must be numbers"),
    "a negative size": (header_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 8)}"), "one row per item"),
    "a huge size": (header_bytes("{'descr': '<f4', 'fortran_order': True, 'shape': (1<<60, 8)}"), "not a .npy array"),
    "another huge size": (
        header_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1" + 40 * "0" + ", 8)}"),
        "bring back the whole file",
    ),
    "a header that calls": (header_bytes("__import__('os').abort()"), "not a .npy array"),
    "a header too deep": (header_bytes("(" * 5000), "not a .npy array"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_npy(tmp_path: Path, name: str) -> None:
    content, expected = BROKEN[name]
    path = tmp_path / "a file.npy"
    path.write_bytes(content)
    assert expected in load_error(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "a folder or a device" in load_error(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "a folder or a device" in load_error(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy"):
        open_npy(tmp_path / "nowhere.npy")


def test_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((1000, 8)))
    dump = open_npy(path)
    pieces = dump.pieces(100)
    next(pieces)
    os.truncate(path, 30_000)
    assert "a.npy: has become shorter meanwhile" in error_of(list, pieces)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.npy"):
        dump.load()


def test_flipped_bytes_are_errors_or_numbers(tmp_path: Path) -> None:
    """Whatever is in a header: a CodeSetError, or an array."""
    random, path = np.random.default_rng(0), tmp_path / "a.npy"
    for _ in range(500):
        content = bytearray(WHOLE)
        for place in random.integers(0, 90, random.integers(1, 4)):
            content[place] = random.choice(np.frombuffer(b"0123456789'<>|(){}:, fiubOSVTF\x00\xff", np.uint8))
        path.write_bytes(content)
        with contextlib.suppress(CodeSetError):
            open_npy(path).load()
