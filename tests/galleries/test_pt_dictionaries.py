"""Dictionaries of torch.save read as codes and labels, and what is none."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import error_of
from foreign_files import bits_of, npy_bytes, random_bits, save_pt
from malicious import Evil

import rdh_ext
from rdh_ext.retrieval import CodeSetError, open_pt


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
    contents = [b"", b"x", b"hello world" * 30, whole[:-30], whole[: len(whole) // 2], whole[:4], npy_bytes(np.eye(8))]
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
