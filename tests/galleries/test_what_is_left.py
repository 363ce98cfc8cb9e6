"""Files after an error, and where they may be: what was not finished leaves nothing, and nothing else is touched."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import error_of, problem_set
from foreign_files import random_bytes, save, save_pt

from rdh_ext.retrieval import (
    CodeSet,
    CodeSetWriter,
    export_faiss,
    export_npy,
    open_faiss,
    open_npy,
    open_pt,
    write_code_set,
)
from rdh_ext.retrieval.sets import dumps


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
    made = write_code_set(tmp_path / "set", random_bytes(5), np.arange(5))
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
    made = write_code_set(tmp_path / "set", random_bytes(5), np.arange(5))
    assert "a folder; name a file" in error_of(export_faiss, made, tmp_path / "set", overwrite=True)
    assert "must end in .npy" in error_of(export_npy, made, tmp_path / "codes")
    (tmp_path / "file").write_text("years of work")
    for call in (export_faiss, export_npy):
        with pytest.raises(NotADirectoryError):
            call(made, tmp_path / "file" / "codes.npy")
        with pytest.raises(OSError, match="too long"):
            call(made, tmp_path / f"{'x' * 300}.npy")
        with pytest.raises(TypeError, match="overwrite"):
            call(made, tmp_path / "codes.npy", overwrite=1)
    assert (tmp_path / "file").read_text() == "years of work"
    assert names(tmp_path) == ["file", "set", "set/codes-00000.npy", "set/labels-00000.npy", "set/manifest.json"]


def test_names_of_all_kinds(tmp_path: Path) -> None:
    """Spaces, other scripts, bytes that are no text, and names as long as names may be."""
    codes, ids = random_bytes(20), np.arange(20)
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


def test_a_set_behind_a_link_is_left_alone(tmp_path: Path) -> None:
    """Overwriting takes the place of the link, and nothing else."""
    codes = random_bytes(5)
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
