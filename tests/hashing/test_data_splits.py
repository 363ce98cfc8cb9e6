"""Splits: of several labels, at random, saved, checked; the fingerprint of what was cut out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from data_layouts import ROLES, error_of, warnings_of
from torch import Tensor

from rdh_ext.hashing.data import (
    DATASETS,
    ImageFiles,
    Part,
    RetrievalData,
    Split,
    TensorSource,
    check_split,
    digest_of,
    hold_out,
    load_digits,
    open_data,
    split_per_class,
    split_random,
)
from rdh_ext.hashing.data.labels import number_of_classes, one_hot_as_ids, say_without_label
from rdh_ext.hashing.data.splits import cut


def hot(items: int = 400, classes: int = 6, seed: int = 0) -> Tensor:
    """Several labels, of which the first class has few images, and some images none."""
    chances = torch.linspace(0.1, 0.5, classes)
    return torch.rand(items, classes, generator=torch.Generator().manual_seed(seed)) < chances


def data_of(labels: Tensor, items: Tensor | None = None, seed: int = 0, **changes: Any) -> RetrievalData:
    split = split_per_class(labels, 2, 3, seed)
    source = TensorSource(torch.arange(len(labels) * 2.0).reshape(-1, 2) if items is None else items)
    query, train, gallery = cut(source, labels, split)
    data = RetrievalData("some", "some data", 4, query, train, gallery, made_by=split)
    return replace(data, **changes)


class TestSeveralLabels:
    """``split_per_class`` of multi-hot labels, as in NUS-WIDE."""

    def test_each_class_gets_its_number_and_no_image_is_drawn_twice(self) -> None:
        labels = hot()
        split = split_per_class(labels, 4, 7, seed=1)
        query, train, gallery = (set(getattr(split, role).tolist()) for role in ROLES)
        assert [len(split.query), len(split.train), len(split.gallery)] == [24, 42, 376]
        assert (len(query), len(train)) == (24, 42)
        assert query | gallery == set(range(400))
        assert not query & gallery
        assert train < gallery
        assert (labels[split.query].sum(dim=0) >= 4).all()
        assert (labels[split.train].sum(dim=0) >= 7).all()
        check_split(split, 400)

    def test_rare_classes_are_served_first(self) -> None:
        # every image of class 1 is one of class 0, too: were class 0 first, it would take some of them
        labels = torch.zeros(100, 2, dtype=torch.bool)
        labels[:, 0] = True
        labels[:10, 1] = True
        for seed in range(10):
            split = split_per_class(labels, 5, 5, seed)
            assert labels[torch.cat([split.query, split.train]), 1].sum() == 10

    def test_lists_are_shuffled(self) -> None:
        split = split_per_class(hot(), 4, 7, seed=1)
        assert not torch.equal(split.gallery, split.gallery.sort().values)

    def test_class_without_images_is_left_out_and_images_without_label_are_gallery(self) -> None:
        labels = hot()
        labels[:, 3] = False
        alone = ~labels.any(dim=1)
        split = split_per_class(labels, 4, 7, seed=1)
        assert len(split.query) == 20
        assert not alone[split.query].any()
        assert not alone[split.train].any()
        assert alone[split.gallery].sum() == alone.sum() > 0

    def test_too_few(self) -> None:
        labels = hot()
        got = int(labels[:, 0].sum())
        message = error_of(split_per_class, labels, 4, got, seed=0)
        assert f"class 0 must have at least {got + 4} images (4 query + {got} train), got {got}, " in message
        assert "of them not drawn" in message
        assert "must have a class" in error_of(split_per_class, labels & False, 1, 1, seed=0)


@pytest.mark.parametrize("labels", [torch.arange(4).repeat(30), hot(), torch.zeros(120, 3, dtype=torch.bool)])
@pytest.mark.parametrize("train", [20, None])
def test_random_split(labels: Tensor, train: int | None) -> None:
    split = split_random(labels, 15, train, seed=3)
    n = len(labels)
    assert sorted(torch.cat([split.query, split.gallery]).tolist()) == list(range(n))
    assert len(split.query) == 15
    assert len(split.train) == (train or n - 15)
    assert torch.isin(split.train, split.gallery).all()
    assert len(split.train.unique()) == len(split.train)
    # training images are not the first ones of the gallery
    assert train is None or not torch.isin(split.gallery[:train], split.train).all()
    assert split.protocol == f"at random: 15 query, {train or 'all'} train"
    assert (split.seed, split.items, split.data) == (3, n, digest_of(labels))
    assert not torch.equal(split.query, split_random(labels, 15, train, seed=4).query)


@pytest.mark.parametrize("draw", [split_per_class, split_random])
@pytest.mark.parametrize("labels", [torch.arange(4).repeat(30), hot()])
def test_draws_depend_on_the_seed_alone(draw: Any, labels: Tensor) -> None:
    first = draw(labels, 3, 4, seed=7)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again, other = draw(labels, 3, 4, seed=7), draw(labels, 3, 4, seed=8)
    assert torch.equal(torch.get_rng_state(), before)
    for role in ROLES:
        assert torch.equal(getattr(first, role), getattr(again, role))
        assert not torch.equal(getattr(first, role), getattr(other, role))


def test_training_on_the_whole_gallery() -> None:
    for labels in (torch.arange(4).repeat(5), hot()):
        split = split_per_class(labels, 3, None, seed=0)
        assert torch.equal(split.train, split.gallery)
        assert len(split.gallery) == len(labels) - len(split.query)
        assert split.protocol == "per class: 3 query, all train"
    message = error_of(split_per_class, torch.arange(4).repeat(5), 5, None, seed=0)
    assert message == "split_per_class: class 0 must have at least 6 images (5 query + 1 train), got 5"


@pytest.mark.parametrize("wrong", [0, -1, 1.0, "3", True])
def test_numbers_must_be_numbers(wrong: Any) -> None:
    labels = torch.arange(4).repeat(5)
    for draw, words in (
        (split_per_class, ("query_per_class", "train_per_class")),
        (split_random, ("query_items", "tr")),
    ):
        for arguments, word in (((wrong, 1), words[0]), ((1, wrong), words[1])):
            message = error_of(draw, labels, *arguments, 0)
            assert f"{draw.__name__}: {word}" in message
            assert f"a whole number, at least 1, got {wrong!r}" in message


def test_random_split_of_too_few() -> None:
    message = error_of(split_random, torch.arange(4), 3, 2, 0)
    assert message == "split_random: 5 items are needed (3 query + 2 train), got 4"
    assert len(split_random(torch.arange(4), 2, 2, 0).train) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query": torch.tensor([3, 9, 11])}, "query and train must have no item in common, got 1: 3"),
        (
            {"query": torch.tensor([9, 7, 5, 1, 0, 2])},
            "query and gallery must have no item in common, got 4: 5, 1, 0, ...",
        ),
        ({"train": torch.tensor([3, 3])}, "train must have every item once, got 3 more often"),
        ({"gallery": torch.tensor([0, 12])}, "gallery must have positions from 0 to 11, got 12"),
        ({"query": torch.tensor([-1])}, "query must have positions from 0 to 11, got -1"),
        ({"query": torch.tensor([], dtype=torch.int64)}, "query must be positions, int64 [n], n > 0"),
        (
            {"train": torch.tensor([3], dtype=torch.int32)},
            "train must be positions, int64 [n], n > 0, got torch.int32 [1]",
        ),
        ({"train": torch.tensor([[3]])}, "train must be positions, int64 [n], n > 0, got torch.int64 [1, 1]"),
    ],
)
def test_split_that_cannot_be_meant(changes: dict[str, Tensor], words: str) -> None:
    good = Split(query=torch.tensor([9, 11]), train=torch.tensor([3, 4]), gallery=torch.tensor([0, 1, 2, 5]))
    check_split(good, 12)
    message = error_of(check_split, replace(good, **changes), 12)
    assert message.startswith("split: ")
    assert words in message
    with pytest.raises(ValueError, match="split: "):
        cut(TensorSource(torch.zeros(12)), torch.zeros(12), replace(good, **changes))


def test_split_of_unknown_size() -> None:
    check_split(Split(torch.tensor([10**12]), torch.tensor([3]), torch.tensor([3])))
    message = error_of(check_split, Split(torch.tensor([-3]), torch.tensor([3]), torch.tensor([3])))
    assert "query must have positions from 0 on, got -3" in message


class TestFingerprint:
    """``RetrievalData.fingerprint`` and ``RetrievalData.split``."""

    LABELS = torch.arange(4).repeat(20)

    def test_is_the_same_for_the_same_data(self) -> None:
        first = data_of(self.LABELS).fingerprint()
        assert first == data_of(self.LABELS.clone()).fingerprint()
        assert len(first) == 64

    def test_is_another_for_other_data(self) -> None:
        data = data_of(self.LABELS)
        other_label = data.query.labels.clone()
        other_label[3] ^= 1
        others = [
            data_of(self.LABELS, seed=1),
            data_of(self.LABELS, torch.arange(160.0).reshape(80, 2) + 1),
            data_of(self.LABELS, torch.arange(160.0).reshape(80, 2).half()),
            replace(data, query=replace(data.query, labels=other_label)),
            replace(data, query=replace(data.query, indices=data.query.indices.flip(0))),
            replace(data, train=data.train.at(torch.arange(11))),
            replace(data, query=data.train, train=data.query),
            replace(data, name="other"),
            replace(data, classes=5),
        ]
        seen = {each.fingerprint() for each in [data, *others]}
        assert len(seen) == len(others) + 1

    def test_of_several_labels(self) -> None:
        labels = hot(80, 4)
        seen = {data_of(labels).fingerprint(), data_of(hot(80, 4, seed=1)).fingerprint()}
        ids = Part(TensorSource(torch.zeros(4, 1)), torch.tensor([0]), torch.tensor([1]))
        many = Part(TensorSource(torch.zeros(4, 1)), torch.tensor([0]), torch.tensor([[True]]))
        seen |= {RetrievalData("x", "", 1, each, each, each).fingerprint() for each in (ids, many)}
        assert len(seen) == 4

    def test_of_files_knows_names_and_not_the_root(self) -> None:
        def print_of(names: list[str], root: str) -> str:
            part = Part(ImageFiles(names, root), torch.tensor([0, 1]), torch.tensor([0, 1]))
            return RetrievalData("files", "", 2, part, part, part).fingerprint()

        first = print_of(["a.jpg", "b.jpg"], "/here")
        assert first == print_of(["a.jpg", "b.jpg"], "/there")
        assert len({first, print_of(["a.jpg", "c.jpg"], ""), print_of(["a.jpgb", ".jpg"], "")}) == 3

    def test_split_is_that_of_the_parts_as_they_are(self, tmp_path: Path) -> None:
        data = data_of(self.LABELS)
        split = data.split()
        assert split.protocol == "per class: 2 query, 3 train"
        assert (split.seed, split.items) == (0, 80)
        for role in ROLES:
            assert torch.equal(getattr(split, role), getattr(data, role).indices)
        with pytest.warns(UserWarning, match="1 of 12 training items are held out"):
            fewer, _ = hold_out(replace(data, gallery=data.train), 4, seed=0)
        assert len(fewer.split().train) == 11
        data.split().save(tmp_path / "split.npz")
        Split.load(tmp_path / "split.npz", self.LABELS)
        bare = replace(data, made_by=None).split()
        assert (bare.protocol, bare.seed, bare.items) == ("", None, 80)

    def test_split_of_several_files(self) -> None:
        def part(items: int) -> Part:
            return Part(TensorSource(torch.zeros(items, 1)), torch.arange(items), torch.zeros(items, dtype=torch.int64))

        gallery = part(10)
        train = gallery.at(torch.tensor([4, 2]))
        split = RetrievalData("x", "", 1, query=part(3), train=train, gallery=gallery).split()
        assert split.query.tolist() == [10, 11, 12]
        assert split.train.tolist() == [4, 2]
        check_split(split, split.items)


class TestHoldOut:
    """Which items choose the epoch."""

    @staticmethod
    def data(train: int, spare: int) -> RetrievalData:
        source, labels = TensorSource(torch.zeros(train + spare + 5, 1)), torch.zeros(train + spare + 5).long()
        places = torch.arange(train + spare + 5)
        parts = (Part(source, each, labels[each]) for each in (places[-5:], places[:train], places[:-5]))
        query, trained, gallery = parts
        return RetrievalData("some", "", 1, query, trained, gallery)

    @pytest.mark.parametrize(
        ("items", "spare", "held"), [(300, 300, 300), (300, 299, 299), (300, 100, 100), (100, 100, 100), (7, 7, 7)]
    )
    def test_items_of_the_gallery(self, items: int, spare: int, held: int) -> None:
        data = self.data(60, spare)
        assert warnings_of(hold_out, data, items, 0) == []
        same, validation = hold_out(data, items, seed=0)
        assert same is data
        assert validation is not None
        assert len(validation.indices.unique()) == held
        assert not torch.isin(validation.indices, torch.cat([data.train.indices, data.query.indices])).any()

    @pytest.mark.parametrize(
        ("items", "train", "spare", "held"),
        [(300, 60, 99, 6), (300, 60, 0, 6), (4, 60, 3, 4), (5, 9, 0, 1), (5, 2, 0, 1), (1000, 20_000, 0, 1000)],
    )
    def test_a_tenth_of_the_training_items_at_most(self, items: int, train: int, spare: int, held: int) -> None:
        data = self.data(train, spare)
        assert warnings_of(hold_out, data, items, 0) == [
            f"some: {held:,} of {train:,} training items are held out to choose the epoch, and not trained on: "
            f"validation.items={items}, and {spare} items of the gallery are not trained on; validation.items=0 keeps "
            "all and takes the last epoch"
        ]
        with pytest.warns(UserWarning, match="held out"):
            fewer, validation = hold_out(data, items, seed=0)
        assert validation is not None
        assert (len(validation), len(fewer.train)) == (held, train - held)
        assert torch.equal(torch.cat([fewer.train.indices, validation.indices]).sort().values, data.train.indices)
        assert fewer.gallery is data.gallery

    def test_none(self) -> None:
        for items, train in ((0, 60), (5, 1)):
            data = self.data(train, 0)
            assert warnings_of(hold_out, data, items, 0) == []
            assert hold_out(data, items, seed=0) == (data, None)


class TestLabels:
    """What is said of labels whatever file they come from."""

    def test_one_hot_becomes_ids_where_all_are(self) -> None:
        eye, two = torch.eye(3).bool(), torch.tensor([[True, True, False]])
        assert [each.tolist() for each in one_hot_as_ids([eye, eye.flip(0)])] == [[0, 1, 2], [2, 1, 0]]
        assert one_hot_as_ids([eye])[0].dtype == torch.int64
        for other in (two, two & False):
            assert [each.dim() for each in one_hot_as_ids([eye, other])] == [2, 2]
        ids = torch.tensor([5])
        assert one_hot_as_ids([ids])[0] is ids

    def test_number_of_classes(self) -> None:
        assert number_of_classes([torch.zeros(2, 7).bool()], "x") == 7
        assert number_of_classes([torch.tensor([0, 4]), torch.tensor([6])], "x") == 7
        assert number_of_classes([torch.tensor([0, 4])], "x", at_least=10) == 10
        message = error_of(number_of_classes, [torch.tensor([1 << 20])], "files")
        assert message.startswith("files: class id 1048576 is not below 1,048,576; number the classes from 0 on")
        assert number_of_classes([torch.tensor([(1 << 20) - 1])], "files") == 1 << 20

    def test_digest_knows_where_labels_end_and_names_begin(self) -> None:
        many = torch.tensor([1, int.from_bytes(b"AAAAAAAA", "little")])
        assert digest_of(many[:1], ["A" * 8]) != digest_of(many)

    def test_missing_labels_are_said_once(self) -> None:
        some = torch.tensor([[True, False], [False, False]])
        labels = {"query": some, "train": some[:1], "gallery": some[[0, 1, 1]]}
        (message,) = warnings_of(say_without_label, "x", labels)
        assert message.startswith(
            "x: without any label: 1 of 2 query items, 0 of 1 train items, 2 of 3 gallery items; "
        )
        assert warnings_of(say_without_label, "x", {"query": some[:1], "train": torch.tensor([0])}) == []


def test_data_by_name() -> None:
    assert list(DATASETS) == ["digits", "cifar10", "coco", "nuswide21", "imagenet100", "lists", "folders", "features"]
    data = open_data("digits", 4, {"query_per_class": 10})
    assert torch.equal(data.query.indices, load_digits(4, query_per_class=10).query.indices)
    assert data.split().seed == 4
    assert data.class_names == tuple("0123456789")
    assert "data must be digits, " in error_of(open_data, "digit", 0, {})
    message = error_of(open_data, "digits", 0, {"query": 3})
    assert message == (
        "data digits has no option 'query'; its options are query_per_class, train_per_class, input_scale"
    )
    message = error_of(open_data, "features", 0, {"features": "x.npy"})
    assert message == "data features needs the option 'labels', which was not given"
