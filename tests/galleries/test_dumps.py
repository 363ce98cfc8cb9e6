"""Files of other programs, made here, read as codes and labels; and code sets written for other programs."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import make_problem, small_blocks
from numpy.typing import NDArray

import rdh_ext
from rdh_ext.hashing import MissingExtra
from rdh_ext.retrieval import (
    CodeSet,
    CodeSetError,
    CodeSetWriter,
    export_faiss,
    export_npy,
    open_faiss,
    open_npy,
    open_pt,
    write_code_set,
)
from rdh_ext.retrieval.sets import arrays, dumps, meaning

RAN: list[str] = []


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return RAN.append, ("code",)


@pytest.fixture(autouse=True)
def _nothing_runs() -> Any:
    RAN.clear()
    yield
    assert RAN == []


def save(path: Path, array: Any) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def bits_of(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Packed by arithmetic: bit k has the value 2^(k % 8) in byte k // 8."""
    codes = np.zeros((len(bits), (bits.shape[1] + 7) // 8), np.uint8)
    for k in range(bits.shape[1]):
        codes[:, k // 8] += bits[:, k].astype(np.uint8) * np.uint8(2 ** (k % 8))
    return codes


def random_bits(rows: int, bits: int, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((rows, bits)) < 0.5


def error_of(function: Any, *arguments: Any, **options: Any) -> str:
    """The one line of a CodeSetError."""
    with pytest.raises(CodeSetError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def load_error(path: Path, *arguments: Any, **options: Any) -> str:
    """The one line of what goes wrong when a .npy file is opened or read; it names the file."""
    message = error_of(lambda: open_npy(path, *arguments, **options).load())
    assert path.name in message
    return message


FLOATS = ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8", np.longdouble]
INTEGERS = ["|i1", "<i2", "<i4", "<i8", ">i2", ">i4", ">i8"]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("order", ["C", "F"])
def test_signs(tmp_path: Path, dtype: Any, order: Any) -> None:
    bits = random_bits(65, 13)
    array = np.asarray(np.where(bits, 1, -1).astype(dtype), order=order)
    dump = open_npy(save(tmp_path / "a.npy", array))
    codes, labels = dump.load()
    assert (dump.bits, len(dump), dump.values, dump.labels, labels) == (13, 65, "signs", None, None)
    assert dump.exact_zeros == 0
    assert np.array_equal(codes.numpy(), bits_of(bits))
    assert codes.dtype == torch.uint8


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_zeros_become_ones_and_are_counted(tmp_path: Path, dtype: Any) -> None:
    values = np.random.default_rng(0).integers(-1, 2, (50, 24))
    dump = open_npy(save(tmp_path / "a.npy", values.astype(dtype)))
    codes, _ = dump.load()
    assert np.array_equal(codes.numpy(), bits_of(values >= 0))
    assert torch.equal(codes, rdh_ext.pack_codes(torch.from_numpy(values).float()))
    assert dump.exact_zeros == int((values == 0).sum()) > 0
    assert dump.made["exact_zeros"] == dump.exact_zeros
    dump.load()
    assert dump.exact_zeros == int((values == 0).sum())  # of the last reading, not of both


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "|b1", "<u2", ">u4", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zeros_and_ones(tmp_path: Path, dtype: Any, order: Any) -> None:
    bits = random_bits(63, 17)
    dump = open_npy(save(tmp_path / "a.npy", np.asarray(bits.astype(dtype), order=order)))
    assert dump.values == "01"
    assert np.array_equal(dump.load()[0].numpy(), bits_of(bits))
    assert "exact_zeros" not in dump.made


def test_outputs_are_packed_as_the_op_does(tmp_path: Path) -> None:
    h = torch.randn(300, 70)
    h[3, 5], h[4, 6], h[5, 7], h[6, 8] = 0.0, -0.0, torch.inf, -torch.inf
    dump = open_npy(save(tmp_path / "h.npy", h.numpy()))
    assert torch.equal(dump.load()[0], rdh_ext.pack_codes(h))
    assert dump.exact_zeros == 2
    wide = save(tmp_path / "wide.npy", (h * 100).to(torch.int16).numpy())
    assert torch.equal(open_npy(wide).load()[0], rdh_ext.pack_codes((h * 100).to(torch.int16).float()))


@pytest.mark.parametrize("bits", [1, 7, 8, 12, 64, 65, 4096])
@pytest.mark.parametrize("order", ["C", "F"])
def test_packed_bytes_in_both_bit_orders(tmp_path: Path, bits: int, order: Any) -> None:
    values = random_bits(30, bits)
    for bit_order in ("little", "big"):
        packed = np.packbits(values, axis=1, bitorder=bit_order)  # type: ignore[arg-type]
        path = save(tmp_path / f"{bit_order}.npy", np.asarray(packed, order=order))
        dump = open_npy(path, bits=bits, bit_order=bit_order)
        assert (dump.values, dump.bits) == ("packed", bits)
        assert np.array_equal(dump.load()[0].numpy(), bits_of(values))
        assert dump.made["bit_order"] == bit_order


def test_packed_bytes_have_eight_bits_unless_told(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (20, 6), dtype=np.uint8)
    path = save(tmp_path / "a.npy", codes)
    assert open_npy(path).bits == 48
    assert np.array_equal(open_npy(path).load()[0].numpy(), codes)
    for bits in (40, 49, 7):
        assert f"{bits} bits" in load_error(path, bits=bits)
    assert "if these are bytes: --values packed" in load_error(path, bits=6)


def test_ones_behind_the_bits(tmp_path: Path) -> None:
    packed = np.packbits(np.ones((5, 12), np.bool_), axis=1)
    path = save(tmp_path / "a.npy", packed)
    assert "row 0 has ones behind its 12 bits; look whether --bits 12 and --bit-order little" in load_error(
        path, bits=12
    )
    packed = np.zeros((5, 2), np.uint8)
    packed[3, 1] = 16
    assert "row 3 has ones" in load_error(save(tmp_path / "b.npy", packed), bits=12)


def test_bytes_that_could_be_two_things(tmp_path: Path) -> None:
    bits = random_bits(30, 16)
    path = save(tmp_path / "a.npy", bits.astype(np.uint8))
    message = load_error(path)
    assert "16 bits (--values 01)" in message
    assert "128 bits (--values packed)" in message
    for options in ({"values": "01"}, {"bits": 16}):
        assert np.array_equal(open_npy(path, **options).load()[0].numpy(), bits_of(bits))  # type: ignore[arg-type]
    for options in ({"values": "packed"}, {"bits": 128}):
        dump = open_npy(path, **options)  # type: ignore[arg-type]
        assert (dump.bits, dump.values) == (128, "packed")
        assert np.array_equal(dump.load()[0].numpy(), bits)
    bad = save(tmp_path / "bad.npy", np.array([[0, 1], [7, 0]], np.uint8))
    assert "row 1 holds 7 where 0 or 1" in load_error(bad, bits=2)


def test_int8_that_could_be_two_things(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-128, 128, (30, 16), dtype=np.int8)
    path = save(tmp_path / "a.npy", values)
    assert "--values signs" in load_error(path)
    assert np.array_equal(open_npy(path, values="signs").load()[0].numpy(), bits_of(values >= 0))
    assert "save .view(numpy.uint8)" in load_error(path, values="packed")


@pytest.mark.parametrize("dtype", ["<f4", "<i4"])
def test_nothing_below_zero(tmp_path: Path, dtype: str) -> None:
    path = save(tmp_path / "sigmoid.npy", np.array([[0, 2.5], [1, 0.9]]).astype(dtype) + np.array(1, dtype))
    message = load_error(path)
    assert "no value is below 0" in message
    assert "outputs > threshold" in message
    assert open_npy(path, values="signs").load()[0].tolist() == [[3], [3]]


def test_words_that_are_not_bytes(tmp_path: Path) -> None:
    words = np.random.default_rng(0).integers(0, 2**63, (30, 2), dtype=np.uint64)
    path = save(tmp_path / "a.npy", words)
    assert "save .view(numpy.uint8)" in load_error(path)
    assert "has no signs" in load_error(path, values="signs")
    again = save(tmp_path / "b.npy", words.view(np.uint8))
    assert open_npy(again).bits == 128


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_is_named_with_its_row(tmp_path: Path, dtype: Any) -> None:
    h = np.random.default_rng(0).standard_normal((4000, 8)).astype(dtype)
    h[3217, 5] = np.nan
    path = save(tmp_path / "a.npy", h)
    dump = open_npy(path)
    for rows in (None, 1, 1000):
        with pytest.raises(CodeSetError, match=r"a\.npy: row 3,217 holds NaN"):
            list(dump.pieces(rows))
    assert "row 0 holds NaN" in load_error(save(tmp_path / "b.npy", np.array([[np.nan, 1.0]])))
    assert "row 1 holds nan where 0 or 1" in load_error(
        save(tmp_path / "c.npy", np.array([[0.0], [np.nan]])), values="01"
    )


def test_rows_later_than_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first rows look like holds for all: others are an error, not other bits."""
    monkeypatch.setattr(meaning, "PIECE_BYTES", 1000)
    values = random_bits(4000, 8).astype(np.int64)
    values[3000, 2] = -1
    path = save(tmp_path / "a.npy", values)
    assert open_npy(path).values == "01"
    for rows in (None, 700):
        message = error_of(lambda rows=rows: list(open_npy(path).pieces(rows)))
        assert "row 3,000 holds -1 where 0 or 1 must be; if signs make the bits: --values signs" in message
    assert np.array_equal(open_npy(path, values="signs").load()[0].numpy(), bits_of(values >= 0))


@pytest.mark.parametrize("rows", [1, 7, 64, 1000, 5000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pieces_are_the_whole(tmp_path: Path, rows: int, order: Any) -> None:
    h = np.asarray(np.random.default_rng(0).integers(-1, 2, (1000, 19)).astype("<f4"), order=order)
    hot = np.asarray(random_bits(1000, 11, seed=1).astype(">f8"), order=order)
    dump = open_npy(save(tmp_path / "h.npy", h), save(tmp_path / "l.npy", hot))
    codes, labels = zip(*dump.pieces(rows), strict=True)
    assert [len(piece) for piece in codes][:-1] == [rows] * (len(codes) - 1)
    assert dump.exact_zeros == int((h == 0).sum())
    assert np.array_equal(torch.cat(codes).numpy(), bits_of(h >= 0))
    assert np.array_equal(torch.cat(labels).numpy(), hot == 1)
    assert [torch.equal(a, b) for a, b in zip(dump.load(), (torch.cat(codes), torch.cat(labels)), strict=True)]  # type: ignore[arg-type]


def test_written_in_pieces_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h, ids = np.random.default_rng(0).standard_normal((10_000, 20)), np.arange(10_000) % 700
    small_blocks(monkeypatch)
    dump = open_npy(save(tmp_path / "h.npy", h), save(tmp_path / "l.npy", ids))
    seen: list[tuple[int, int]] = []
    once = dump.write(tmp_path / "once", shard_items=3000, progress=lambda *now: seen.append(now))
    assert seen == [(10_000, 10_000)]
    monkeypatch.setattr(dumps, "PIECE_BYTES", 64_000)
    pieces = dump.write(tmp_path / "pieces", shard_items=3000, progress=lambda *now: seen.append(now))
    assert len(seen) > 20
    assert seen[-1] == (10_000, 10_000)
    assert once.manifest == pieces.manifest
    assert len(once.manifest.shards) == 4
    codes, labels = CodeSet(tmp_path / "pieces").load()
    assert torch.equal(codes, rdh_ext.pack_codes(torch.from_numpy(h)))
    assert labels is not None
    assert labels.dtype == torch.int16
    assert labels.tolist() == ids.tolist()
    assert once.manifest.made == {
        "from": "npy",
        "file": "h.npy",
        "labels_file": "l.npy",
        "values": "signs",
        "exact_zeros": 0,
    }


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "|u1", ">u2", "<u4", ">u8"])
@pytest.mark.parametrize("shape", [(100,), (100, 1)])
def test_class_ids(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    ids = np.arange(100) % 90
    codes = save(tmp_path / "c.npy", random_bits(100, 8))
    dump = open_npy(codes, save(tmp_path / "l.npy", ids.reshape(shape).astype(dtype)))
    assert str(dump.labels) == "class ids"
    _, labels = dump.load()
    assert labels is not None
    assert labels.dtype == torch.uint8
    assert labels.tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("largest", "dtype", "kept"),
    [
        (255, "<i8", "uint8"),
        (256, "<f8", "int16"),
        (32768, ">u2", "int32"),
        (2**31, "<i8", "int64"),
        (2**63 - 1, "<u8", "int64"),
        (2**53, "<f8", "int64"),
    ],
)
def test_ids_are_kept_in_the_smallest_type(tmp_path: Path, largest: int, dtype: str, kept: str) -> None:
    codes = save(tmp_path / "c.npy", random_bits(3, 8))
    dump = open_npy(codes, save(tmp_path / "l.npy", np.array([0, largest, 5], dtype)))
    assert dump.labels is not None
    assert dump.labels.dtype == kept
    labels = dump.write(tmp_path / "set").load()[1]
    assert labels is not None
    assert labels.tolist() == [0, largest, 5]


def test_ids_of_many_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest id may come early; a wrong one late. A header of one dimension may say any order."""
    monkeypatch.setattr(meaning, "_IDS_AT_A_TIME", 10)
    ids = np.arange(95)
    ids[3] = 70_000
    codes, path = save(tmp_path / "c.npy", random_bits(95, 8)), tmp_path / "l.npy"
    content = npy_bytes(ids)
    path.write_bytes(content.replace(b"False", b"True "))
    labels = open_npy(codes, path).load()[1]
    assert labels is not None
    assert labels.dtype == torch.int32
    assert labels.tolist() == ids.tolist()
    ids[93] = -5
    assert "row 93 is -5" in error_of(open_npy, codes, save(path, ids))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([0, -1, 2]), "row 1 is -1; class ids"),
        (np.array([0, 1, 2**63], "<u8"), "row 2 is 9223372036854775808"),
        (np.array([0, 1.5, 2]), "row 1 is 1.5"),
        (np.array([0, 1, np.nan]), "row 2 is nan"),
        (np.array([np.inf, 1, 2]), "row 0 is inf"),
        (np.array([0, 1, 2.0**63]), "row 2 is 9.2"),
        (np.array([0, 1]), "labels int64 [2] for 3 codes"),
        (np.zeros((2, 3)), "transpose them"),
        (np.zeros((4, 5)), "the labels that belong to the codes"),
        (np.array([[0, 1], [1, 2], [0, 0]]), "row 1 holds 2 where 0 or 1"),
        (np.array([[0, 1], [1, 1], [0.5, 0]]), "row 2 holds 0.5 where 0 or 1"),
        (np.zeros((3, 0)), "1 to 1,048,576 classes"),
        (np.zeros((3, (1 << 20) + 1), np.bool_), "1 to 1,048,576 classes"),
        (np.zeros((3, 2, 2)), "one row per item"),
        (np.array(["cat", "dog", "cat"]), "numpy.unique"),
        (np.zeros(3, "c8"), "class ids [items] or multi-hot"),
        (np.zeros(3, "M8[s]"), "class ids [items] or multi-hot"),
        (np.zeros(3, [("a", "f4")]), "class ids [items] or multi-hot"),
        (np.array([Evil(), 1, 2], dtype=object), "Python objects"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels: Any, expected: str) -> None:
    codes, path = save(tmp_path / "c.npy", random_bits(3, 8)), save(tmp_path / "labels.npy", labels)
    message = error_of(lambda: open_npy(codes, path).load())
    assert str(path) in message
    assert expected in message


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "|b1", "|u1", ">u8"])
def test_multi_hot_stays_multi_hot(tmp_path: Path, dtype: Any) -> None:
    hot = np.eye(9)[np.arange(40) % 9].astype(dtype)  # one-hot rows, too
    dump = open_npy(save(tmp_path / "c.npy", random_bits(40, 8)), save(tmp_path / "l.npy", hot))
    assert str(dump.labels) == "9 labels, multi-hot"
    labels = dump.load()[1]
    assert labels is not None
    assert labels.dtype == torch.bool
    assert np.array_equal(labels.numpy(), hot == 1)
    kept = dump.write(tmp_path / "set").load()[1]
    assert kept is not None
    assert np.array_equal(kept.numpy(), bits_of(hot == 1))


def test_many_classes(tmp_path: Path) -> None:
    hot = np.zeros((2, 1 << 20), np.bool_)
    hot[1, -1] = True
    dump = open_npy(save(tmp_path / "c.npy", random_bits(2, 8)), save(tmp_path / "l.npy", hot))
    kept = dump.write(tmp_path / "set").load()[1]
    assert kept is not None
    assert np.array_equal(kept.numpy(), bits_of(hot))


@pytest.mark.parametrize("dtype", ["<f4", "|i1", "|b1", "|u1", "<u8"])
@pytest.mark.parametrize("labels", [None, np.zeros(0, "i8"), np.zeros((0, 1)), np.zeros((0, 5), np.bool_)])
@pytest.mark.parametrize("name", ["set", "set.npz"])
def test_no_items_at_all(tmp_path: Path, dtype: str, labels: Any, name: str) -> None:
    codes = save(tmp_path / "c.npy", np.zeros((0, 16), dtype))
    path = None if labels is None else save(tmp_path / "l.npy", labels)
    dump = open_npy(codes, path)
    assert len(dump) == 0
    made = dump.write(tmp_path / name)
    assert len(made) == 0
    assert made.labels == dump.labels
    assert made.load()[0].shape == (0, (dump.bits + 7) // 8)
    export_faiss(made, tmp_path / "e.faiss")
    assert len(open_faiss(tmp_path / "e.faiss")) == 0
    files = export_npy(made, tmp_path / "e.npy")
    assert len(open_npy(*files)) == 0


# files that are broken


def npy_bytes(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


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


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bits": 0}, ValueError),
        ({"bits": 4097}, ValueError),
        ({"bits": "8"}, TypeError),
        ({"bits": True}, TypeError),
        ({"bit_order": "middle"}, ValueError),
        ({"values": "bits"}, ValueError),
    ],
)
def test_wrong_options(tmp_path: Path, options: Any, error: type[Exception]) -> None:
    path = save(tmp_path / "a.npy", random_bits(3, 8))
    with pytest.raises(error, match="open_npy: "):
        open_npy(path, **options)
    with pytest.raises(ValueError, match="pieces: rows"):
        next(open_npy(path).pieces(0))


def test_wrong_number_of_bits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", random_bits(3, 8))
    assert "does not hold codes of 9 bits" in load_error(path, bits=9)
    assert open_npy(path, bits=8).bits == 8


# dictionaries


def save_pt(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def dictionary(rows: int = 50) -> dict[str, torch.Tensor]:
    return {
        "qB": torch.randn(rows, 12).sign(),
        "rB": torch.randn(2 * rows, 12).sign(),
        "qL": torch.arange(rows) % 7,
        "rL": torch.eye(7)[torch.arange(2 * rows) % 7],
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("names", ["qB rB qL rL", "qb rb ql rl", "QB RB QL RL", "q_B r_B q_L r_L"])
def test_dictionary(tmp_path: Path, names: str, zipped: bool) -> None:
    values = dictionary()
    named = dict(zip(names.split(), values.values(), strict=True)) | {"map": 0.7, 3: "x", "qBx": None}
    path = save_pt(tmp_path / "codes.pt", named, _use_new_zipfile_serialization=zipped)
    query, gallery = open_pt(path, "query"), open_pt(path, "gallery")
    assert repr(query) == "Dump(50 codes of 12 bits from signs, class ids)"
    assert repr(gallery) == "Dump(100 codes of 12 bits from signs, 7 labels, multi-hot)"
    for dump, letter in ((query, "q"), (gallery, "r")):
        codes, labels = dump.load()
        assert labels is not None
        assert torch.equal(codes, rdh_ext.pack_codes(values[f"{letter}B"]))
        assert torch.equal(labels.float(), values[f"{letter}L"].float())
    assert query.made == {"from": "pt", "file": "codes.pt", "part": "query", "values": "signs", "exact_zeros": 0}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.int64, torch.bool])
def test_dictionary_of_any_type(tmp_path: Path, dtype: torch.dtype) -> None:
    bits = torch.from_numpy(random_bits(40, 10))
    values = bits if dtype == torch.bool else (2 * bits.int() - 1).to(dtype)
    path = save_pt(tmp_path / "codes.pt", {"rB": values.t().contiguous().t().requires_grad_(dtype.is_floating_point)})
    codes, labels = open_pt(path, "gallery").load()
    assert labels is None
    assert np.array_equal(codes.numpy(), bits_of(bits.numpy()))


def test_dictionary_of_packed_bytes(tmp_path: Path) -> None:
    bits = random_bits(30, 12)
    path = save_pt(tmp_path / "codes.pt", {"qB": torch.from_numpy(np.packbits(bits, axis=1))})
    dump = open_pt(path, "query", bits=12, bit_order="big")
    assert np.array_equal(dump.load()[0].numpy(), bits_of(bits))
    assert np.array_equal(dump.write(tmp_path / "set").load()[0].numpy(), bits_of(bits))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"qB": np.ones((3, 4))}, "NumPy arrays or other Python objects"),
        ({"qB": Evil()}, "could run code"),
        ({"qB": torch.ones(3, 4), "extra": Evil()}, "could run code"),
        (Evil(), "could run code"),
        ([torch.ones(3, 4)], "a list; save a dictionary with qB, rB, qL and rL"),
        (torch.ones(3, 4), "a Tensor; save a dictionary"),
        ({}, "no qB in it"),
        ({"rB": torch.ones(3, 4)}, "no qB in it"),
        ({"qB": torch.ones(3, 4), "QB": torch.ones(3, 4)}, "two names of one thing"),
        ({"qB": [1, 2]}, "'qB': a list; save a tensor"),
        ({"qB": None}, "'qB': a NoneType"),
        ({"qB": torch.ones(3, 4).to_sparse()}, "save a dense one"),
        ({"qB": torch.ones(3, 4, device="meta")}, "without values"),
        ({"qB": torch.ones(3, 4, dtype=torch.complex64)}, "codes must be numbers"),
        ({"qB": torch.ones(4)}, "codes must be numbers [items, K]"),
        ({"qB": torch.tensor(1.0)}, "codes must be numbers [items, K]"),
        ({"qB": torch.tensor([[-1.0], [torch.nan]])}, "'qB': row 1 holds NaN"),
        ({"qB": torch.ones(3, 4), "qL": torch.arange(4)}, "'qL': labels int64 [4] for 3 codes of"),
        ({"qB": torch.ones(3, 4), "qL": torch.arange(3) - 1}, "'qL': row 0 is -1"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_dictionaries_that_are_none(tmp_path: Path, value: Any, expected: str, zipped: bool) -> None:
    path = save_pt(tmp_path / "codes.pt", value, _use_new_zipfile_serialization=zipped)
    message = error_of(lambda: open_pt(path, "query").load())
    assert str(path) in message
    assert expected in message


def test_broken_dictionaries(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    whole = save_pt(tmp_path / "codes.pt", dictionary()).read_bytes()
    path = tmp_path / "broken.pt"
    contents = [b"", b"x", b"hello world" * 30, whole[:-30], whole[: len(whole) // 2], whole[:4], WHOLE]
    for content in [*contents, pickle.dumps({"qB": [1]}), pickle.dumps(7, protocol=2)]:
        path.write_bytes(content)
        assert f"{path}: not a file of torch.save, or a damaged one" in error_of(open_pt, path, "query")
    path.write_bytes(pickle.dumps({"qB": Evil()}, protocol=2))
    assert "could run code" in error_of(open_pt, path, "query")
    random = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), 8):
            content[place] = random.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(CodeSetError):
            open_pt(path, "query").load()
    assert [str(warning.message) for warning in recwarn] == []
    with pytest.raises(ValueError, match="open_pt: part"):
        open_pt(path, "test")


# FAISS


def random_codes(rows: int, width: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, width), dtype=np.uint8)


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


@pytest.mark.parametrize("kind", ["Flat", "IVF", "IDMap", "IDMap2"])
def test_index_in_the_order_of_its_ids(tmp_path: Path, kind: str) -> None:
    codes = random_codes(500)
    order = np.random.default_rng(1).permutation(500).astype(np.int64)
    labels = save(tmp_path / "l.npy", np.arange(500))
    if kind == "Flat":
        path = faiss_file(tmp_path / "index", kind, codes)
    else:
        path = faiss_file(tmp_path / "index", kind, codes[order], order)
    dump = open_faiss(path, labels)
    assert repr(dump) == "Dump(500 codes of 48 bits from packed bytes, class ids)"
    assert dump.made["index"] == f"IndexBinary{kind}"
    made = dump.write(tmp_path / "set")
    got, ids = made.load()
    assert np.array_equal(got.numpy(), codes)
    assert ids is not None
    assert ids.tolist() == list(range(500))


@pytest.mark.parametrize("kind", ["IVF", "IDMap"])
@pytest.mark.parametrize(
    "change",
    [lambda ids: ids + 1, lambda ids: ids - 1, lambda ids: ids // 2, lambda ids: ids + 2**62],
    ids=["from 1", "from -1", "twice", "huge"],
)
def test_index_with_other_ids(tmp_path: Path, kind: str, change: Any) -> None:
    path = faiss_file(tmp_path / "index", kind, random_codes(50), change(np.arange(50)))
    assert "the ids are not 0 to 49" in error_of(open_faiss, path)


def test_index_of_a_multiple_of_eight(tmp_path: Path) -> None:
    bits = random_bits(40, 12)
    path = faiss_file(tmp_path / "index", "Flat", bits_of(bits))
    assert open_faiss(path).bits == 16
    dump = open_faiss(path, bits=12)
    assert np.array_equal(dump.load()[0].numpy(), bits_of(bits))
    full = faiss_file(tmp_path / "full", "Flat", random_codes(40, 2))
    assert "has ones behind its 12 bits" in error_of(lambda: open_faiss(full, bits=12).load())


def test_what_is_no_index(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    real = faiss.IndexFlatL2(8)
    faiss.write_index(real, str(tmp_path / "real"))
    hnsw = faiss_file(tmp_path / "hnsw", "HNSW", random_codes(20))
    (tmp_path / "empty").write_bytes(b"")
    save(tmp_path / "a.npy", random_codes(3))
    for path in (tmp_path / "real", hnsw, tmp_path / "empty", tmp_path / "a.npy"):
        assert "not an IndexBinaryFlat" in error_of(open_faiss, path)
    inner = faiss.IndexBinaryHNSW(48)
    mapped = faiss.IndexBinaryIDMap(inner)
    mapped.add_with_ids(random_codes(20), np.arange(20))
    faiss.write_index_binary(mapped, str(tmp_path / "mapped"))
    assert "holds a IndexBinaryHNSW" in error_of(open_faiss, tmp_path / "mapped")
    assert "a folder or a device" in error_of(open_faiss, tmp_path)


@pytest.mark.parametrize("kind", ["Flat", "IVF", "IDMap"])
def test_index_that_is_cut_short(tmp_path: Path, kind: str) -> None:
    ids = None if kind == "Flat" else np.arange(200)
    whole = faiss_file(tmp_path / "whole", kind, random_codes(200), ids).read_bytes()
    path = tmp_path / "cut"
    for size in (4, 20, 33, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        message = error_of(open_faiss, path)
        assert message.startswith(f"{path}: ")
        assert "damaged" in message
    if kind == "Flat":
        path.write_bytes(whole + b"x")
        assert "damaged" in error_of(open_faiss, path)


def test_flat_needs_no_faiss_and_others_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = random_codes(100)
    ivf = faiss_file(tmp_path / "ivf", "IVF", codes)
    monkeypatch.setitem(sys.modules, "faiss", None)
    made = write_code_set(tmp_path / "set", codes)
    path = export_faiss(made, tmp_path / "flat")
    assert np.array_equal(open_faiss(path).load()[0].numpy(), codes)
    for call in (lambda: open_faiss(ivf), lambda: export_faiss(made, tmp_path / "out", nlist=3)):
        with pytest.raises(MissingExtra, match=r"faiss-cpu is not installed.*rdh_ext\[search\]"):
            call()
    assert not (tmp_path / "out").exists()


def problem_set(folder: Path, monkeypatch: pytest.MonkeyPatch, bits: int, classes: int | None = None) -> CodeSet:
    """A set of several shards and blocks."""
    small_blocks(monkeypatch)
    _, g, _, labels = make_problem(gallery=12_000, bits=bits, classes=classes)
    return write_code_set(folder / "set", g, labels, bits=bits, shard_items=5_000)


@pytest.mark.parametrize("bits", [1, 12, 24, 65])
def test_exported_index_is_the_one_that_faiss_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    faiss = pytest.importorskip("faiss")
    made = problem_set(tmp_path, monkeypatch, bits)
    codes = made.load()[0].numpy()
    seen: list[tuple[int, int]] = []
    path = export_faiss(made, tmp_path / "out", progress=lambda *now: seen.append(now))
    assert path.read_bytes() == faiss_file(tmp_path / "theirs", "Flat", codes).read_bytes()
    assert seen[-1] == (12_000, 12_000)
    assert len(seen) == 5
    index = faiss.read_index_binary(str(path))
    queries = random_codes(9, codes.shape[1], seed=3)
    queries[:, -1] &= 255 >> (-bits % 8)
    distances, ids = index.search(queries, 50)
    ours = rdh_ext.hamming_distance(torch.from_numpy(queries), torch.from_numpy(codes)).numpy()
    assert np.array_equal(distances, np.sort(ours, axis=1)[:, :50])
    assert np.array_equal(distances, np.take_along_axis(ours, ids, axis=1))
    assert np.array_equal(open_faiss(path, bits=bits).load()[0].numpy(), codes)


def test_exported_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    faiss = pytest.importorskip("faiss")
    made = problem_set(tmp_path, monkeypatch, 24)
    codes = made.load()[0].numpy()
    seen: list[tuple[int, int]] = []
    first = export_faiss(made, tmp_path / "first", nlist=16, progress=lambda *now: seen.append(now))
    assert seen[-1] == (24_000, 24_000)
    assert [now for now, _ in seen] == sorted({now for now, _ in seen})
    assert first.read_bytes() == export_faiss(made, tmp_path / "second", nlist=16).read_bytes()
    del seen[:]
    assert "exists already" in error_of(export_faiss, made, first, nlist=16, progress=lambda *now: seen.append(now))
    assert seen == []  # said before the training
    index = faiss.read_index_binary(str(first))
    assert (index.nlist, index.ntotal, index.d) == (16, 12_000, 24)
    index.nprobe = 16
    distances, ids = index.search(codes[:9], 50)
    ours = rdh_ext.hamming_distance(torch.from_numpy(codes[:9]), torch.from_numpy(codes)).numpy()
    assert np.array_equal(distances, np.sort(ours, axis=1)[:, :50])
    assert np.array_equal(distances, np.take_along_axis(ours, ids, axis=1))
    assert np.array_equal(open_faiss(first).load()[0].numpy(), codes)
    few = write_code_set(tmp_path / "few", codes[:20])
    export_faiss(few, tmp_path / "all", nlist=20)
    assert "20 items for 21 lists" in error_of(export_faiss, few, tmp_path / "none", nlist=21)
    for nlist in (0, 2**24 + 1):
        with pytest.raises(ValueError, match="export_faiss: nlist"):
            export_faiss(few, tmp_path / "none", nlist=nlist)
    assert not (tmp_path / "none").exists()
    assert "".join(capfd.readouterr()) == ""  # FAISS warns of few items


@pytest.mark.parametrize("classes", [None, 2, 21])
@pytest.mark.parametrize("bits", [7, 24])
def test_exported_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, classes: int | None) -> None:
    made = problem_set(tmp_path, monkeypatch, bits, classes)
    _, _, _, labels = make_problem(gallery=12_000, bits=bits, classes=classes)
    path, labels_path = export_npy(made, tmp_path / "out" / "codes.npy")
    assert labels_path == tmp_path / "out" / "codes_labels.npy"
    assert np.array_equal(np.load(path, allow_pickle=False), made.load()[0].numpy())
    theirs = np.load(labels_path, allow_pickle=False)
    assert theirs.dtype == (np.uint8 if classes is None else np.bool_)
    assert np.array_equal(theirs, labels.numpy())
    assert open_npy(path, labels_path, bits=bits, values="packed").write(tmp_path / "again").manifest.digest() == (
        write_code_set(tmp_path / "once", made.load()[0], labels, bits=bits).manifest.digest()
    )
    alone = write_code_set(tmp_path / "alone", made.load()[0], bits=bits)
    assert export_npy(alone, tmp_path / "alone.npy") == (tmp_path / "alone.npy", None)


# what is left after an error


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_nothing_is_left_of_a_set_that_was_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "PIECE_BYTES", 4096)
    h = np.random.default_rng(0).standard_normal((2000, 16))
    whole = open_npy(save(tmp_path / "whole.npy", h))
    h[-1, -1] = np.nan
    broken = open_npy(save(tmp_path / "broken.npy", h))
    before = names(tmp_path)
    for name in ("set", "set.npz"):
        assert "row 1,999 holds NaN" in error_of(broken.write, tmp_path / name)
        assert names(tmp_path) == before
    whole.write(tmp_path / "set")
    before = names(tmp_path)
    assert "exists already" in error_of(whole.write, tmp_path / "set")
    assert "NaN" in error_of(broken.write, tmp_path / "set", overwrite=True)
    assert names(tmp_path) == before
    CodeSet(tmp_path / "set").verify()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    with pytest.raises(OSError, match="No space"):
        whole.write(tmp_path / "other", progress=full)
    assert names(tmp_path) == before


@pytest.mark.parametrize("call", ["npy", "flat", "ivf"])
def test_nothing_is_left_of_files_that_were_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    pytest.importorskip("faiss")
    made = problem_set(tmp_path, monkeypatch, 24)
    export = {
        "npy": lambda **o: export_npy(made, tmp_path / "out.npy", **o),
        "flat": lambda **o: export_faiss(made, tmp_path / "out.npy", **o),
        "ivf": lambda **o: export_faiss(made, tmp_path / "out.npy", nlist=5, **o),
    }[call]
    shard = tmp_path / "set" / "codes-00002.npy"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = names(tmp_path)
    assert "codes-00002.npy" in error_of(export)
    assert names(tmp_path) == before
    shard.write_bytes(content)
    export()
    files = {path: path.read_bytes() for path in tmp_path.glob("out*")}
    assert "exists already; choose another name" in error_of(export)
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "codes-00002.npy" in error_of(export, overwrite=True)
    shard.write_bytes(content)
    assert {path: path.read_bytes() for path in tmp_path.glob("out*")} == files

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            export(overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*out*")} == files
    export(overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*out*")} == files


def test_labels_do_not_stay_without_their_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_code_set(tmp_path / "set", random_codes(5), np.arange(5))
    before, replace = names(tmp_path), os.replace

    def fails_at_codes(source: Any, target: Any) -> None:
        if Path(target).name == "out.npy":
            raise OSError(5, "Input/output error", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_at_codes)
    with pytest.raises(OSError, match="Input/output"):
        export_npy(made, tmp_path / "out.npy")
    assert names(tmp_path) == before


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    made = write_code_set(tmp_path / "set", random_codes(5), np.arange(5))
    assert "a folder; name a file" in error_of(export_faiss, made, tmp_path / "set", overwrite=True)
    assert "must end in .npy" in error_of(export_npy, made, tmp_path / "codes")
    (tmp_path / "file").write_text("years of work")
    for call in (export_faiss, export_npy):
        with pytest.raises(NotADirectoryError):
            call(made, tmp_path / "file" / "codes.npy")
        with pytest.raises(OSError, match="too long"):
            call(made, tmp_path / f"{'x' * 300}.npy")
        with pytest.raises(TypeError, match="overwrite"):
            call(made, tmp_path / "codes.npy", overwrite=1)  # type: ignore[arg-type]
    assert (tmp_path / "file").read_text() == "years of work"
    assert names(tmp_path) == ["file", "set", "set/codes-00000.npy", "set/labels-00000.npy", "set/manifest.json"]


def test_names_of_all_kinds(tmp_path: Path) -> None:
    """Spaces, other scripts, bytes that are no text, and names as long as names may be."""
    codes, ids = random_codes(20), np.arange(20)
    folder = tmp_path / "пробел 漢字 🐈" / os.fsdecode(b"\xff\xfe")
    folder.mkdir(parents=True)
    for stem in ("a b", "ключ", "y" * 240, os.fsdecode(b"x\xffx")):
        source = save(folder / f"{stem}.npy", codes)
        labels = save(folder / f"{stem}_l.npy", ids)
        made = open_npy(source, labels).write(folder / f"{stem} set")
        assert made.manifest.made["file"] == source.name
        flat = open_faiss(export_faiss(made, folder / f"{stem}.faiss"))
        files = export_npy(made, folder / f"{stem} 2.npy")
        again = open_npy(*files)
        if "faiss" in sys.modules:
            assert len(open_faiss(export_faiss(made, folder / f"{stem}.ivf", nlist=2))) == 20
        for dump in (flat, again):
            assert np.array_equal(dump.load()[0].numpy(), codes)
    path = save_pt(tmp_path / f"{'ж' * 120}.pt", {"qB": torch.from_numpy(codes)})
    assert np.array_equal(open_pt(path, "query").load()[0].numpy(), codes)


def test_repr_says_what_it_is(tmp_path: Path) -> None:
    one = open_npy(save(tmp_path / "a.npy", np.array([[True]])), save(tmp_path / "l.npy", np.array([3])))
    assert repr(one) == "Dump(1 code of 1 bit from 0-1 values, class ids)"
    assert arrays.PIECE_BYTES == dumps.PIECE_BYTES == meaning.PIECE_BYTES


def test_a_set_behind_a_link_is_left_alone(tmp_path: Path) -> None:
    """Overwriting takes the place of the link, and nothing else."""
    codes = random_codes(5)
    write_code_set(tmp_path / "real", codes)
    for link, target in (("link", "real"), ("link.npy", "real.npy")):
        (tmp_path / link).symlink_to(tmp_path / target)
    export_npy(tmp_path / "real", tmp_path / "real.npy")
    content = (tmp_path / "real.npy").read_bytes()
    dump = open_npy(save(tmp_path / "other.npy", codes[:3]))
    assert len(dump.write(tmp_path / "link", overwrite=True)) == 3
    export_npy(tmp_path / "link", tmp_path / "link.npy", overwrite=True)
    assert len(CodeSet(tmp_path / "real")) == 5
    assert (tmp_path / "real.npy").read_bytes() == content
    top = sorted(path.name for path in tmp_path.iterdir())
    assert top == ["link", "link.npy", "other.npy", "real", "real.npy"]
    assert not any(path.is_symlink() for path in tmp_path.iterdir())


def test_no_set_is_written_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CodeSetWriter: classes must be an integer from 1 to 1048576"):
        CodeSetWriter(tmp_path / "set", bits=8, classes=(1 << 20) + 1)
    assert names(tmp_path) == []
