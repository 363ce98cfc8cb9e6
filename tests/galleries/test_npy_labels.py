""".npy files read as labels: class ids and multi-hot rows, and what is neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import error_of
from foreign_files import FLOATS, INTEGERS, bits_of, npy_bytes, random_bits, save
from malicious import Evil

from rdh_ext.retrieval import export_faiss, export_npy, open_faiss, open_npy
from rdh_ext.retrieval.sets import meaning


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
