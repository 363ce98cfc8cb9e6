""".npy files read as codes: what makes the bits, in any type and order, whole and in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import error_of, small_blocks
from foreign_files import FLOATS, INTEGERS, bits_of, load_error, random_bits, save

import rdh_ext
from rdh_ext.retrieval import CodeSet, CodeSetError, open_npy
from rdh_ext.retrieval.sets import arrays, dumps, meaning


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
        packed = np.packbits(values, axis=1, bitorder=bit_order)
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
        assert np.array_equal(open_npy(path, **options).load()[0].numpy(), bits_of(bits))
    for options in ({"values": "packed"}, {"bits": 128}):
        dump = open_npy(path, **options)
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
    assert [torch.equal(a, b) for a, b in zip(dump.load(), (torch.cat(codes), torch.cat(labels)), strict=True)]


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


def test_repr_says_what_it_is(tmp_path: Path) -> None:
    one = open_npy(save(tmp_path / "a.npy", np.array([[True]])), save(tmp_path / "l.npy", np.array([3])))
    assert repr(one) == "Dump(1 code of 1 bit from 0-1 values, class ids)"
    assert arrays.PIECE_BYTES == dumps.PIECE_BYTES == meaning.PIECE_BYTES
