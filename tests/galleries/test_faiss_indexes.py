"""Binary indexes of FAISS read as codes, and what is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from code_sets import error_of
from foreign_files import bits_of, faiss_file, random_bits, random_bytes, save

from rdh_ext.hashing import MissingExtra
from rdh_ext.retrieval import export_faiss, open_faiss, write_code_set


@pytest.mark.parametrize("kind", ["Flat", "IVF", "IDMap", "IDMap2"])
def test_index_in_the_order_of_its_ids(tmp_path: Path, kind: str) -> None:
    codes = random_bytes(500)
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
    path = faiss_file(tmp_path / "index", kind, random_bytes(50), change(np.arange(50)))
    assert "the ids are not 0 to 49" in error_of(open_faiss, path)


def test_index_of_a_multiple_of_eight(tmp_path: Path) -> None:
    bits = random_bits(40, 12)
    path = faiss_file(tmp_path / "index", "Flat", bits_of(bits))
    assert open_faiss(path).bits == 16
    dump = open_faiss(path, bits=12)
    assert np.array_equal(dump.load()[0].numpy(), bits_of(bits))
    full = faiss_file(tmp_path / "full", "Flat", random_bytes(40, 2))
    assert "has ones behind its 12 bits" in error_of(lambda: open_faiss(full, bits=12).load())


def test_what_is_no_index(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    real = faiss.IndexFlatL2(8)
    faiss.write_index(real, str(tmp_path / "real"))
    hnsw = faiss_file(tmp_path / "hnsw", "HNSW", random_bytes(20))
    (tmp_path / "empty").write_bytes(b"")
    save(tmp_path / "a.npy", random_bytes(3))
    for path in (tmp_path / "real", hnsw, tmp_path / "empty", tmp_path / "a.npy"):
        assert "not an IndexBinaryFlat" in error_of(open_faiss, path)
    inner = faiss.IndexBinaryHNSW(48)
    mapped = faiss.IndexBinaryIDMap(inner)
    mapped.add_with_ids(random_bytes(20), np.arange(20))
    faiss.write_index_binary(mapped, str(tmp_path / "mapped"))
    assert "holds an IndexBinaryHNSW" in error_of(open_faiss, tmp_path / "mapped")
    assert "a folder or a device" in error_of(open_faiss, tmp_path)


@pytest.mark.parametrize("kind", ["Flat", "IVF", "IDMap"])
def test_index_that_is_cut_short(tmp_path: Path, kind: str) -> None:
    ids = None if kind == "Flat" else np.arange(200)
    whole = faiss_file(tmp_path / "whole", kind, random_bytes(200), ids).read_bytes()
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
    codes = random_bytes(100)
    ivf = faiss_file(tmp_path / "ivf", "IVF", codes)
    monkeypatch.setitem(sys.modules, "faiss", None)
    made = write_code_set(tmp_path / "set", codes)
    path = export_faiss(made, tmp_path / "flat")
    assert np.array_equal(open_faiss(path).load()[0].numpy(), codes)
    for call in (lambda: open_faiss(ivf), lambda: export_faiss(made, tmp_path / "out", nlist=3)):
        with pytest.raises(MissingExtra, match=r"faiss-cpu is not installed.*rdh_ext\[search\]"):
            call()
    assert not (tmp_path / "out").exists()
