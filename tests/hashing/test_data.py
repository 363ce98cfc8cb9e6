"""Splits: seeded, disjoint where they must be, balanced, and independent of the global random state."""

from __future__ import annotations

import pytest
import torch

from rdh_ext import _extras
from rdh_ext.hashing.data import load_digits, split_per_class


def test_split_follows_the_papers_protocol() -> None:
    labels = torch.arange(5).repeat_interleave(torch.tensor([9, 10, 11, 12, 13]))
    split = split_per_class(labels, query_per_class=2, train_per_class=3, seed=0)
    query, train, gallery = (set(part.tolist()) for part in (split.query, split.train, split.gallery))
    assert query | gallery == set(range(55))
    assert not query & gallery
    assert train < gallery
    assert torch.bincount(labels[split.query]).tolist() == [2] * 5
    assert torch.bincount(labels[split.train]).tolist() == [3] * 5
    assert [len(part) for part in (split.query, split.train, split.gallery)] == [10, 15, 45]


def test_split_depends_on_the_seed_alone() -> None:
    labels = torch.arange(4).repeat(20)
    first = split_per_class(labels, 3, 4, seed=7)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = split_per_class(labels, 3, 4, seed=7)
    other = split_per_class(labels, 3, 4, seed=8)
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("query", "train", "gallery"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_gallery_is_not_sorted_by_class() -> None:
    labels = torch.arange(4).repeat_interleave(50)
    gallery = labels[split_per_class(labels, 5, 5, seed=0).gallery]
    assert (gallery[1:] < gallery[:-1]).any()


def test_class_that_is_too_small_is_named() -> None:
    labels = torch.tensor([0] * 10 + [3] * 4)
    with pytest.raises(ValueError, match=r"class 3 must have at least 5 images \(2 query \+ 3 train\), got 4"):
        split_per_class(labels, 2, 3, seed=0)


def test_digits() -> None:
    data = load_digits(0, input_scale=8.0)
    assert (len(data.query), len(data.train), len(data.gallery)) == (300, 500, 1497)
    assert data.query.images.shape == (300, 1, 8, 8)
    assert data.query.images.dtype == torch.float32
    assert data.query.labels.dtype == torch.int64
    assert data.gallery.images.min() == 0
    assert data.gallery.images.max() == 8
    sklearn_digits = pytest.importorskip("sklearn.datasets").load_digits()
    for part in (data.query, data.train, data.gallery):
        assert torch.equal(part.labels, torch.from_numpy(sklearn_digits.target)[part.indices])
        assert torch.equal(part.images[:, 0].double() * 2, torch.from_numpy(sklearn_digits.images)[part.indices])


def test_extra_that_is_broken_is_not_called_missing(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path)
    with open(f"{folder}/rdh_broken_extra.py", "w") as file:
        file.write("import rdh_no_such_module")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(ModuleNotFoundError, match="rdh_no_such_module") as caught:
        _extras.require("rdh_broken_extra")
    assert not isinstance(caught.value, _extras.MissingExtra)
    with pytest.raises(_extras.MissingExtra, match=r"some-package is not installed.*pip install 'rdh_ext\[demo\]'"):
        _extras.require("rdh_no_such_module.inner", package="some-package")
