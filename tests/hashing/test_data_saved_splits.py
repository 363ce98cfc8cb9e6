"""Splits on the disk: they come back whole, damage is found, other data are refused, nothing is unpickled."""

from __future__ import annotations

import contextlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_layouts import ROLES, error_of
from malicious import RAN, Evil

from rdh_ext.hashing.data import Split, digest_of, split_per_class


def made(**changes: Any) -> Split:
    return replace(split_per_class(torch.arange(4).repeat(20), 2, 3, seed=5), **changes)


def test_comes_back_whole(tmp_path: Path) -> None:
    split = made()
    split.save(tmp_path / "new" / "split.npz")
    again = Split.load(str(tmp_path / "new" / "split.npz"), torch.arange(4).repeat(20))
    for role in ROLES:
        assert torch.equal(getattr(again, role), getattr(split, role))
        assert getattr(again, role).dtype == torch.int64
    assert again.protocol == "per class: 2 query, 3 train"
    assert (again.seed, again.items, again.data) == (5, 80, split.data)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["split.npz"]
    with np.load(tmp_path / "new" / "split.npz", allow_pickle=False) as archive:
        assert archive["query"].tolist() == split.query.tolist()


def test_bare_one_comes_back(tmp_path: Path) -> None:
    Split(torch.tensor([3]), torch.tensor([1]), torch.tensor([1])).save(tmp_path / "split.npz")
    again = Split.load(tmp_path / "split.npz", torch.arange(4))
    assert (again.protocol, again.seed, again.items, again.data) == ("", None, None, "")


def test_is_refused_for_other_data(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    labels = torch.arange(4).repeat(20)
    made().save(path)
    message = error_of(Split.load, path, labels[:-1])
    assert message.startswith(f"{path}: a split of 80 items, and these are 79; ")
    for other in (labels.flip(0), torch.nn.functional.one_hot(labels).bool()):
        assert error_of(Split.load, path, other).startswith(f"{path}: a split of items with other labels, ")
    assert "other labels, names" in error_of(Split.load, path, labels, ["a"] * 80)
    names = [f"{place}.jpg" for place in range(80)]
    made(data=digest_of(labels, names)).save(path)
    Split.load(path, labels, names)
    assert "other labels, names" in error_of(Split.load, path, labels, names[::-1])


def test_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    made(query=torch.tensor([80])).save(path)
    assert error_of(Split.load, path) == f"{path}: split: query must have positions from 0 to 79, got 80"
    made(items=None, query=torch.tensor([80])).save(path)
    Split.load(path)
    assert "from 0 to 79, got 80" in error_of(Split.load, path, torch.arange(4).repeat(20))


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    small = Split(torch.tensor([3]), torch.tensor([1]), torch.tensor([1, 2]), "x", 0, 4, "y")
    small.save(path)
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with contextlib.suppress(ValueError):  # or it is a byte of the archive that means nothing, as a date
            again = Split.load(path)
            assert all(torch.equal(getattr(again, role), getattr(small, role)) for role in ROLES)
            assert (again.protocol, again.seed, again.items, again.data) == ("x", 0, 4, "y")
    for length in range(0, len(content), 17):
        path.write_bytes(content[:length])
        assert f"{path}: not a split, or damaged" in error_of(Split.load, path)


def test_forged_number_is_found(tmp_path: Path) -> None:
    """A change that the archive itself agrees with."""
    path = tmp_path / "split.npz"
    made().save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    for name, change in (
        ("query", arrays["query"] + 1),
        ("query", arrays["query"].astype(np.int32)),
        ("train", arrays["train"][:-1]),
        ("note", np.frombuffer(arrays["note"].tobytes().replace(b'"seed": 5', b'"seed": 6'), np.uint8)),
        ("note", np.frombuffer(arrays["note"].tobytes().replace(b'"seed": 5', b'"seed": "5"'), np.uint8)),
    ):
        np.savez(path, **{**arrays, name: change})
        assert f"{path}: damaged, its checksum is another one" in error_of(Split.load, path)
    np.savez(path, **{**arrays, "note": np.frombuffer(arrays["note"].tobytes().replace(b'n": 1', b'n": 2'), np.uint8)})
    assert "format 2, and this program reads 1; update it" in error_of(Split.load, path)
    moved = {"query": arrays["query"][:-1], "train": np.append(arrays["query"][-1:], arrays["train"])}
    np.savez(path, **{**arrays, **moved})  # the same numbers one behind the other
    assert f"{path}: damaged" in error_of(Split.load, path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    RAN.clear()
    np.savez(path, query=np.array([Evil()]), train=np.zeros(1), gallery=np.zeros(1), note=np.zeros(1))
    assert "not a split" in error_of(Split.load, path)
    assert RAN == []
    with np.load(path, allow_pickle=True) as archive:  # it would have run
        assert len(archive["query"]) == len(RAN) == 1
    path.write_bytes(pickle.dumps({"query": 1}))
    assert "not a split" in error_of(Split.load, path)
    np.save(tmp_path / "split.npy", np.zeros(3))
    assert "not a split" in error_of(Split.load, tmp_path / "split.npy")
    assert str(tmp_path / "none.npz") in error_of(Split.load, tmp_path / "none.npz", kind=OSError)
