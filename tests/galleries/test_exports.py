"""Code sets written for other programs, which read what was in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from code_sets import error_of, make_problem, problem_set
from foreign_files import faiss_file, random_bytes

import rdh_ext
from rdh_ext.retrieval import export_faiss, export_npy, open_faiss, open_npy, write_code_set


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
    queries = random_bytes(9, codes.shape[1], seed=3)
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
