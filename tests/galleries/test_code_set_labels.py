"""Labels of a code set without its codes: the same as with them, checked, and nothing else is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from code_sets import make_problem, small_blocks, write_problem

from rdh_ext.cli.search_answer import read_labels
from rdh_ext.retrieval import CodeSet, DamagedShard, write_code_set
from rdh_ext.retrieval.sets.code_set import unpack_labels

BITS, ITEMS = 24, 10_000


@pytest.fixture(params=[None, 11], ids=["ids", "multi-hot"])
def classes(request: pytest.FixtureRequest) -> int | None:
    found: int | None = request.param
    return found


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int | None) -> CodeSet:
    """Three shards, of two blocks and one."""
    small_blocks(monkeypatch)
    return write_problem(tmp_path, make_problem(20, ITEMS, BITS, classes), BITS, shard_items=4_500)[1]


def without_codes(gallery: CodeSet) -> CodeSet:
    """The set, opened before its codes went away."""
    for path in gallery.path.glob("codes-*.npy"):
        path.unlink()
    return gallery


def test_are_those_of_the_whole_block(gallery: CodeSet, classes: int | None) -> None:
    blocks = list(gallery.blocks())
    assert len(blocks) > len(gallery.manifest.shards) == 3
    expected = [gallery.read(block)[1] for block in blocks]
    assert torch.equal(torch.cat(expected), gallery.load()[1])
    without_codes(gallery)
    for block, labels in zip(blocks, expected, strict=True):
        found = gallery.read_labels(block)
        assert found.dtype == torch.uint8
        assert found.shape == ((block.items,) if classes is None else (block.items, 2))
        assert torch.equal(found, labels)


def test_of_one_file(tmp_path: Path, classes: int | None) -> None:
    query, _ = write_problem(tmp_path, make_problem(20, 30, BITS, classes), BITS)
    [block] = query.blocks()
    assert torch.equal(query.read_labels(block), query.read(block)[1])


def test_of_a_set_that_has_none(tmp_path: Path) -> None:
    found = write_code_set(tmp_path / "set", torch.zeros(3, 2, dtype=torch.uint8))
    [block] = found.blocks()
    assert found.read_labels(block) is None
    assert read_labels(found, torch.tensor([[0, 2]]), lambda *_: None) is None


def test_of_what_is_none_nothing_is_read(gallery: CodeSet) -> None:
    assert gallery.labels is not None
    block = next(iter(gallery.blocks()))
    codes, labels = gallery.read(block)
    into = np.zeros((block.items, gallery.manifest.code_bytes), dtype=np.uint8)
    gallery.read_into(block, into, None)
    assert np.array_equal(into, codes.numpy())
    gallery.read_into(block, None, None)
    without_codes(gallery)
    into = np.zeros((block.items, gallery.labels.width), dtype=np.uint8)
    gallery.read_into(block, None, into)
    assert torch.equal(gallery.labels_of(torch.from_numpy(into)), labels)


def test_are_checked(gallery: CodeSet) -> None:
    path = gallery.path / "labels-00001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    *_, whole, last = (block for block in gallery.blocks() if block.shard < 2)
    gallery.read_labels(whole)
    with pytest.raises(DamagedShard, match=rf"{path}: rows [\d,]+ to 4,500 are not those that were written"):
        gallery.read_labels(last)


def test_search_reads_no_codes_for_them(gallery: CodeSet, classes: int | None) -> None:
    _, expected = gallery.load()
    indices = torch.tensor([[ITEMS - 1, 0, 4_499], [4_500, 17, 0]])
    told: list[tuple[int, int]] = []
    found = read_labels(without_codes(gallery), indices, lambda *done: told.append(done))
    assert found is not None
    assert found.classes == classes
    assert torch.equal(found.of(indices), expected[indices])
    assert told[-1] == (ITEMS, ITEMS)


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 80])
def test_unpacked(columns: int) -> None:
    hot = np.random.default_rng(0).integers(0, 2, (30, columns), dtype=np.uint8)
    assert np.array_equal(unpack_labels(np.packbits(hot, axis=1, bitorder="little"), columns), hot)
