"""Data sets by list files: what comes out of the layouts that go round, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from data_layouts import ROLES, error_of, grey, make_images, sizes, warnings_of, write_list
from listed_images import IDS, LISTS, NAMES, check, many_hot, one_hot, write_lists

from rdh_ext.hashing import MissingExtra
from rdh_ext.hashing.data import Split, hold_out, load_lists
from rdh_ext.hashing.data.image_files import PHOTOS

pytest.importorskip("PIL")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_images(tmp_path, NAMES)
    return tmp_path


class TestThreeLists:
    """Roles are given."""

    def test_multi_hot(self, root: Path) -> None:
        write_lists(root)
        data = load_lists(root=str(root), topk=7)
        check(data, root)
        assert (data.classes, data.is_multilabel, data.topk, data.name) == (4, True, 7, "lists")
        for role in ROLES:
            labels = getattr(data, role).labels
            assert labels.dtype == torch.bool
            assert [" ".join(map(str, row)) for row in labels.int().tolist()] == [many_hot(x) for x in LISTS[role]]
        assert data.preprocessing == PHOTOS
        assert (
            data.description == "images in lists: 10 images, 4 classes, split as query.txt, train.txt, gallery.txt say"
        )

    @pytest.mark.parametrize("labels", [one_hot, lambda place: str(IDS[place])])
    def test_one_label_each(self, root: Path, labels: Any) -> None:
        write_lists(root, labels=labels)
        data = load_lists(root=str(root))
        check(data, root)
        assert (data.classes, data.is_multilabel, data.topk) == (3, False, None)
        for role in ROLES:
            assert getattr(data, role).labels.dtype == torch.int64
            assert getattr(data, role).labels.tolist() == [IDS[place] for place in LISTS[role]]

    def test_one_list_with_several_labels_makes_all_multi_hot(self, root: Path) -> None:
        write_lists(root, labels=one_hot)
        write_list(root / "query.txt", [f"{NAMES[0]} 1 1 0"])
        data = load_lists(root=str(root))
        assert [getattr(data, role).labels.dim() for role in ROLES] == [2, 2, 2]

    def test_pairs(self, root: Path) -> None:
        for role, name in (("query", "test"), ("train", "train"), ("gallery", "database")):
            write_list(root / "lists" / f"{name}_img.txt", [NAMES[place] for place in LISTS[role]])
            write_list(root / "lists" / f"{name}_label_onehot.txt", [many_hot(place) for place in LISTS[role]])
        data = load_lists(root=str(root), lists=str(root / "lists"))
        check(data, root)
        assert data.query.labels.int().tolist() == [[1, 0, 0, 0], [1, 0, 0, 1]]

    @pytest.mark.parametrize(
        ("prefix", "strip"),
        [
            ("/home/somebody/nus/", "/home/somebody/nus"),
            ("/home/somebody/nus/", "/home/somebody/nus/"),
            ("D:\\nus\\", "D:\\nus"),
            ("./nus//", "./nus"),
            ("", ""),
        ],
    )
    def test_prefix_is_stripped(self, root: Path, prefix: str, strip: str) -> None:
        write_lists(root, prefix)
        check(load_lists(root=str(root), strip=strip), root)

    def test_absolute_paths_and_a_root_elsewhere(self, root: Path) -> None:
        write_lists(root / "lists", f"{root}/")
        check(load_lists(root="/", lists=str(root / "lists")), root)
        write_lists(root / "lists")
        check(load_lists(root=str(root), lists=str(root / "lists")), root)

    def test_relative_root_and_home(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_lists(root)
        monkeypatch.chdir(root.parent)
        assert sizes(load_lists(root=root.name)) == (2, 3, 8)
        monkeypatch.setenv("HOME", str(root.parent))
        check(load_lists(root=f"~/{root.name}"), root)

    def test_training_images_in_the_gallery_are_the_same_items(self, root: Path) -> None:
        write_lists(root)
        write_list(root / "train.txt", [f"./img//../{NAMES[place]} {many_hot(place)}" for place in LISTS["train"]])
        data = load_lists(root=str(root))
        assert data.train.source is data.gallery.source is data.query.source
        assert torch.isin(data.train.indices, data.gallery.indices).all()
        assert len(data.train.source) == 10
        _, validation = hold_out(data, 5, seed=0)
        assert validation is not None
        assert sorted(grey(validation, place) for place in range(5)) == [4, 5, 6, 7, 8]

    def test_gallery_may_be_the_training_set(self, root: Path) -> None:
        write_lists(root)
        (root / "gallery.txt").unlink()
        data = load_lists(root=str(root), gallery="train.txt")
        assert torch.equal(data.gallery.indices, data.train.indices)

    def test_training_set_apart_from_the_gallery(self, root: Path) -> None:
        write_lists(root, gallery=[4, 5])
        assert sizes(load_lists(root=str(root))) == (2, 3, 2)

    def test_fingerprint_is_that_of_the_lists_wherever_they_are(self, root: Path, tmp_path_factory: Any) -> None:
        write_lists(root)
        first = load_lists(root=str(root)).fingerprint()
        other = tmp_path_factory.mktemp("other")
        os.symlink(root / "img", other / "img")
        write_lists(root / "far", "/far/away/")
        assert load_lists(3, root=str(other), lists=str(root / "far"), strip="/far/away").fingerprint() == first
        write_lists(root, query=[0, 9])
        assert load_lists(root=str(root)).fingerprint() != first

    def test_split_is_saved(self, root: Path) -> None:
        write_lists(root)
        split = load_lists(root=str(root)).split()
        split.save(root / "split.npz")
        again = Split.load(root / "split.npz")
        assert (again.protocol, again.seed, again.items) == ("as query.txt, train.txt, gallery.txt say", None, 10)
        message = error_of(load_lists, root=str(root), split=str(root / "split.npz"))
        assert message.startswith(f"{root}: the lists say which images are queries; leave out split=")


class TestTwoLists:
    """Queries and gallery; what is trained on is drawn."""

    @pytest.fixture
    def two(self, root: Path) -> dict[str, Any]:
        write_lists(root, labels=lambda place: str(IDS[place]))
        (root / "train.txt").unlink()
        return {"root": str(root), "train_items": 2}

    def test_drawn_by_seed(self, root: Path, two: dict[str, Any]) -> None:
        data = load_lists(3, **two)
        assert sizes(data) == (2, 6, 8)
        assert torch.bincount(data.train.labels).tolist() == [2, 2, 2]
        assert torch.isin(data.train.indices, data.gallery.indices).all()
        for place, index in enumerate(data.train.indices.tolist()):
            assert IDS[NAMES.index(data.train.source.name(index).removeprefix(f"{root}/"))] == data.train.labels[place]
        assert [grey(data.gallery, place) for place in range(8)] == LISTS["gallery"]
        assert torch.equal(data.train.indices, load_lists(3, **two).train.indices)
        assert not torch.equal(data.train.indices, load_lists(4, **two).train.indices)
        split, other = data.split(), load_lists(4, **two).split()
        assert (split.seed, split.items, split.data) == (3, 10, other.data)
        assert split.protocol == "as query.txt, gallery.txt say, 6 training items of the gallery"

    @pytest.mark.parametrize(("options", "items"), [({"per_class": False}, 2), ({"train_items": None}, 8)])
    def test_other_choices(self, two: dict[str, Any], options: dict[str, Any], items: int) -> None:
        assert sizes(load_lists(**{**two, **options})) == (2, items, 8)

    def test_number_must_be_given(self, root: Path, two: dict[str, Any]) -> None:
        assert error_of(load_lists, root=str(root)) == (
            f"{root}: no list for train; name it: train=..., or say how many images of each class to draw from the "
            "gallery: train_items=..."
        )
        assert " how many images to draw " in error_of(load_lists, root=str(root), per_class=False)
        assert error_of(load_lists, root=str(root), train_items=500, per_class=False) == (
            f"{root}: no list for train, and train_items: at most the 8 items of the gallery, got 500; train_items=... "
            "says how many of the gallery are drawn"
        )

    def test_queries_in_the_gallery(self, root: Path, two: dict[str, Any]) -> None:
        write_list(root / "query.txt", [f"{NAMES[8]} {IDS[8]}"])
        assert "1 images are both in" in error_of(load_lists, **two)


class TestRefused:
    """What would make numbers worthless, before any work."""

    @pytest.mark.parametrize("role", ["train", "gallery"])
    def test_queries_that_are_searched_or_trained_on(self, root: Path, role: str) -> None:
        places = {"query": [9, 0, 4, 5, 6, 7], "train": [3], "gallery": [3], role: [4, 5, 6, 7, 3]}
        write_lists(root, **places)
        write_list(root / "query.txt", [f"./img//../{NAMES[place]} {many_hot(place)}" for place in places["query"]])
        message = error_of(load_lists, root=str(root))
        first = ", ".join(NAMES[place] for place in (4, 5, 6))
        if role == "gallery":  # named as in the list that is read first
            first = ", ".join(f"./img//../{NAMES[place]}" for place in (4, 5, 6))
        assert message == (
            f"lists: 4 images are both in {root}/query.txt and in {root}/{role}.txt: {first}, ...; a query must be "
            "neither searched nor trained on: take them out of one"
        )

    def test_queries_that_are_links_to_the_gallery(self, root: Path) -> None:
        os.symlink("a 1.png", root / "img/linked.png")
        os.symlink("img", root / "again")
        write_lists(root)
        for name in ("img/linked.png", "again/a 1.png"):
            write_list(root / "query.txt", [f"{name} {many_hot(1)}"])
            assert "1 images are both in" in error_of(load_lists, root=str(root))

    def test_files_of_one_number_are_two_where_their_places_differ(self, root: Path) -> None:
        """Some file systems give two files one number; a second name without a link looks the same."""
        os.link(root / NAMES[1], root / "img/hard.png")
        write_lists(root)
        write_list(root / "query.txt", [f"img/hard.png {many_hot(1)}"])
        assert sizes(load_lists(root=str(root))) == (1, 3, 8)

    def test_repetitions_count_once_and_are_said(self, root: Path) -> None:
        write_lists(root, gallery=[8, 1, 1, 2, 3, 1])
        os.symlink("a 2.png", root / "img/linked.png")
        with open(root / "gallery.txt", "a") as file:
            file.write(f"img/linked.png {many_hot(2)}\n")
        options = {"root": str(root)}
        (message,) = warnings_of(load_lists, **options)
        assert message == (
            f"{root}/gallery.txt: 3 images are there again, and count once: {NAMES[1]}, {NAMES[1]}, img/linked.png"
        )
        with pytest.warns(UserWarning, match="count once"):
            data = load_lists(**options)
        assert [grey(data.gallery, place) for place in range(len(data.gallery))] == [8, 1, 2, 3]
        assert data.gallery.labels.int().tolist() == [[int(x) for x in many_hot(p).split()] for p in (8, 1, 2, 3)]

    def test_missing_images_are_counted_and_named(self, root: Path) -> None:
        write_lists(root, "/data/nus/")
        message = error_of(load_lists, root=str(root), kind=FileNotFoundError)
        first = ", ".join(f"/data/nus/{NAMES[place]}" for place in LISTS["train"])
        assert message == (
            f"lists: 10 of 10 images cannot be found: {first}, ...; the first is found with strip='/data/nus'"
        )

    def test_some_missing_images(self, root: Path) -> None:
        write_lists(root)
        (root / NAMES[6]).unlink()
        message = error_of(load_lists, root=str(root), kind=FileNotFoundError)
        assert message == (
            f"lists: 1 of 10 images cannot be found: {root}/{NAMES[6]}; set root (now {str(root)!r}) to the folder the "
            "paths begin in, and strip to what must be taken off them"
        )

    def test_strip_that_finds_images_goes_on_from_the_one_given(self, root: Path) -> None:
        write_lists(root, "/data/nus/")
        message = error_of(load_lists, root=str(root), strip="/data/", kind=FileNotFoundError)
        assert message.endswith("the first is found with strip='/data/nus'")
        assert load_lists(root=str(root), strip="/data/nus")

    def test_strip_that_nothing_begins_with(self, root: Path) -> None:
        write_lists(root, "/data/nus/")
        for strip in ("/data/coco", "/data/nu"):
            message = error_of(load_lists, root=str(root), strip=strip)
            assert f".txt: no path begins with strip='{strip}'; the first is /data/nus/img/" in message

    def test_images_that_are_none(self, root: Path) -> None:
        write_lists(root)
        (root / NAMES[6]).write_bytes(b"")
        message = error_of(load_lists, root=str(root), kind=OSError)
        assert message.startswith(f"lists: 1 of 10 images cannot be used (empty): {root}/{NAMES[6]}; bring them back")
        (root / NAMES[6]).unlink()
        (root / NAMES[6]).mkdir()
        assert "1 of 10 images cannot be used (not a file)" in error_of(load_lists, root=str(root), kind=OSError)

    def test_image_with_other_labels_elsewhere(self, root: Path) -> None:
        write_lists(root)
        write_list(root / "gallery.txt", [f"./{NAMES[place]} 0 0 0 1" for place in (8, 1, 3)])
        message = error_of(load_lists, root=str(root))
        assert message == (
            f"{root}/gallery.txt, line 2: {NAMES[1]} has other labels than in {root}/train.txt, line 2, and so have 1 "
            "more; bring back the lists that belong together"
        )

    def test_lists_of_different_kinds(self, root: Path) -> None:
        write_lists(root)
        write_list(root / "train.txt", [f"{NAMES[3]} 1"])
        message = error_of(load_lists, root=str(root))
        assert message == (
            f"{root}/query.txt: 4 labels in each line, and a class id in {root}/train.txt; bring back the right one"
        )
        write_list(root / "train.txt", [f"{NAMES[3]} 1 0"])
        assert f"4 labels in each line, and 2 labels in {root}/train.txt" in error_of(load_lists, root=str(root))

    def test_pillow_that_is_missing(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_lists(root)
        monkeypatch.setitem(__import__("sys").modules, "PIL", None)
        assert "pip install 'rdh_ext[train]'" in error_of(load_lists, root=str(root), kind=MissingExtra)

    def test_image_that_cannot_be_read_is_named(self, root: Path) -> None:
        write_lists(root)
        (root / NAMES[9]).write_bytes(b"no image")
        data = load_lists(root=str(root))
        message = error_of(grey, data.query, 0, kind=OSError)
        assert message.startswith(f"{root}/{NAMES[9]}: not an image that can be read (")
        content = (root / NAMES[0]).read_bytes()
        (root / NAMES[0]).write_bytes(content[: len(content) // 2])
        assert f"{root}/{NAMES[0]}: not an image" in error_of(grey, data.query, 1, kind=OSError)
        (root / NAMES[0]).unlink()
        assert str(root / NAMES[0]) in error_of(grey, data.query, 1, kind=FileNotFoundError)


class TestPool:
    """One list, split by seed."""

    def test_as_nus_wide_is_given(self, root: Path) -> None:
        write_list(root / "img_tc10.txt", NAMES)
        write_list(root / "targets_onehot_tc10.txt", map(many_hot, range(10)))
        options: dict[str, Any] = {"root": str(root), "query_items": 1, "train_items": 1}
        data = load_lists(3, **options)
        assert sizes(data) == (4, 4, 6)
        assert data.split().protocol == "per class: 1 query, 1 train"
        assert data.split().seed == 3
        found = [grey(part, place) for part in (data.query, data.gallery) for place in range(len(part))]
        assert sorted(found) == list(range(10))
        assert data.query.labels.int().tolist() == [[int(x) for x in many_hot(p).split()] for p in found[:4]]
        assert torch.equal(data.query.indices, load_lists(3, **options).query.indices)
        assert not torch.equal(data.gallery.indices, load_lists(4, **options).gallery.indices)

    def test_at_random(self, root: Path) -> None:
        write_list(root / "all.txt", [f"{NAMES[place]} {IDS[place]}" for place in range(10)])
        data = load_lists(root=str(root), pool="all.txt", query_items=2, train_items=3, per_class=False)
        assert sizes(data) == (2, 3, 8)
        data = load_lists(root=str(root), pool="all.txt", query_items=2, train_items=None, per_class=False)
        assert sizes(data) == (2, 8, 8)

    def test_saved_split(self, root: Path) -> None:
        rows = [f"{NAMES[place]} {IDS[place]}" for place in range(10)]
        write_list(root / "all.txt", rows)
        options: dict[str, Any] = {"root": str(root), "pool": "all.txt", "query_items": 1, "train_items": 1}
        data = load_lists(3, **options)
        path = root / "split.npz"
        data.split().save(path)
        again = load_lists(4, **options, split=str(path))
        assert again.fingerprint() == data.fingerprint()
        assert again.split().seed == 3
        swapped = rows[:]  # two images of one class
        swapped[0], swapped[3] = swapped[3], swapped[0]
        for other in (rows[::-1], rows[:-1], swapped):
            write_list(root / "all.txt", other)
            assert str(path) in error_of(load_lists, 4, **options, split=str(path))

    def test_repetitions_count_once(self, root: Path) -> None:
        os.symlink("a 1.png", root / "img/linked.png")
        rows = [f"{NAMES[place]} {IDS[place]}" for place in range(10)]
        write_list(root / "all.txt", [rows[0], *rows, f"img/linked.png {IDS[1]}"])
        with pytest.warns(UserWarning, match="all.txt: 2 images are there again"):
            data = load_lists(root=str(root), pool="all.txt", query_items=2, train_items=3, per_class=False)
        assert sizes(data) == (2, 3, 8)
        assert data.split().items == 10

    def test_classes(self, root: Path) -> None:
        write_list(root / "all.txt", [f"{NAMES[place]} {IDS[place]}" for place in range(10)])
        options: dict[str, Any] = {"root": str(root), "pool": "all.txt", "query_items": 1, "train_items": 1}
        assert load_lists(**options, classes=5).classes == 5
        assert warnings_of(load_lists, **options, classes=5) == []
        assert warnings_of(load_lists, **options, classes=2) == ["lists: not as usual: 3 classes instead of 2"]

    def test_images_without_label_are_said(self, root: Path) -> None:
        write_lists(root, labels=lambda place: "0 0 0" if place in (0, 4) else one_hot(place))
        (message,) = warnings_of(load_lists, root=str(root))
        assert message == (
            "lists: without any label: 1 of 2 query items, 0 of 3 train items, 1 of 8 gallery items; they are kept, "
            "and nothing is relevant to them"
        )
        with pytest.warns(UserWarning, match="without any label"):
            assert sizes(load_lists(root=str(root))) == (2, 3, 8)


def test_many_images_are_looked_for_in_pieces(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rdh_ext.hashing.data import image_files

    monkeypatch.setattr(image_files, "_AT_A_TIME", 3)
    write_lists(root)
    check(load_lists(root=str(root)), root)
    (root / NAMES[4]).unlink()
    assert f"1 of 10 images cannot be found: {root}/{NAMES[4]};" in error_of(load_lists, root=str(root), kind=OSError)
