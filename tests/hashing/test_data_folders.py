"""Images in folders of classes, with roles and without."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from data_layouts import ROLES, error_of, files_of, grey, make_image, make_images, sizes, warnings_of

from rdh_ext._image_names import SUFFIXES
from rdh_ext.hashing.data import hold_out, load_folders
from rdh_ext.hashing.data.image_files import PHOTOS

pytest.importorskip("PIL")

FILES = ["dog/2.png", "dog/10.png", "cat/b.png", "cat/a.png", "ant/0.png", "ant/deep/er/1.png"]
IN_ORDER = ["ant/0.png", "ant/deep/er/1.png", "cat/a.png", "cat/b.png", "dog/10.png", "dog/2.png"]
LABELS = [0, 0, 1, 1, 2, 2]


def make_roles(root: Path, names: tuple[str, str, str] = ("query", "train", "gallery")) -> None:
    """Queries of one class, training images of two, gallery of all."""
    make_images(root / names[0], ["dog/1.png", "dog/0.png"])
    make_images(root / names[1], ["cat/3.png", "dog/4.png"])
    make_images(root / names[2], FILES)


class TestRoles:
    """Three folders."""

    @pytest.mark.parametrize(
        "names",
        [
            ("query", "train", "gallery"),
            ("test", "train", "database"),
            ("Test", "Train", "DB"),
            ("query", "train", "database"),
        ],
    )
    def test_parts(self, tmp_path: Path, names: tuple[str, str, str]) -> None:
        make_roles(tmp_path, names)
        (tmp_path / "other").mkdir()
        data = load_folders(root=str(tmp_path), topk=9)
        assert files_of(data.query, tmp_path / names[0]) == ["dog/0.png", "dog/1.png"]
        assert files_of(data.train, tmp_path / names[1]) == ["cat/3.png", "dog/4.png"]
        assert files_of(data.gallery, tmp_path / names[2]) == IN_ORDER
        assert [grey(data.gallery, place) for place in range(6)] == [4, 5, 3, 2, 1, 0]
        # classes have one number, also where a folder does not have them all
        assert data.class_names == ("ant", "cat", "dog")
        assert [getattr(data, role).labels.tolist() for role in ROLES] == [[2, 2], [1, 2], LABELS]
        assert (data.classes, data.topk, data.preprocessing, data.name) == (3, 9, PHOTOS, "folders")
        split = data.split()
        assert (split.protocol, split.seed) == (f"as {', '.join(names)} say", None)

    def test_named_folders(self, tmp_path: Path) -> None:
        make_roles(tmp_path, ("val", "learn", "all"))
        data = load_folders(root=str(tmp_path), query="val", train="learn", gallery="all")
        assert sizes(data) == (2, 2, 6)
        make_roles(tmp_path)
        assert files_of(load_folders(root=str(tmp_path), query="val").query, tmp_path / "val")
        message = error_of(load_folders, root=str(tmp_path), query="no", kind=FileNotFoundError)
        assert message == f"{tmp_path}/no: no such folder; query=... must be one of all, gallery, learn, ..."

    def test_gallery_may_be_the_training_set(self, tmp_path: Path) -> None:
        make_images(tmp_path / "train", FILES)
        make_images(tmp_path / "test", ["dog/1.png"])
        message = error_of(load_folders, root=str(tmp_path))
        assert message == (
            f"{tmp_path}: no folder for gallery (gallery or database or db), it has test, train; name it: gallery=..., "
            "or gallery='train' where the training images are what is searched"
        )
        data = load_folders(root=str(tmp_path), gallery="train")
        assert sizes(data) == (1, 6, 6)
        assert torch.equal(data.train.indices, data.gallery.indices)

    def test_what_could_be_meant_twice_is_asked(self, tmp_path: Path) -> None:
        make_roles(tmp_path)
        make_images(tmp_path / "database", FILES)
        message = error_of(load_folders, root=str(tmp_path))
        assert (
            message == f"{tmp_path}: database, gallery could be the folder for gallery; say which: gallery='database'"
        )
        assert sizes(load_folders(root=str(tmp_path), gallery="database")) == (2, 2, 6)

    def test_missing_role(self, tmp_path: Path) -> None:
        make_roles(tmp_path)
        (tmp_path / "query").rename(tmp_path / "ask")
        message = error_of(load_folders, root=str(tmp_path))
        assert message.startswith(
            f"{tmp_path}: no folder for query (query or test), it has ask, gallery, train; name it:"
        )

    @pytest.mark.parametrize("other", ["val", "Valid", "validation", "dev", "eval"])
    def test_train_and_another_role_are_no_classes(self, tmp_path: Path, other: str) -> None:
        make_images(tmp_path / other, ["dog/1.png", "cat/0.png"])
        make_images(tmp_path / "Train", FILES)
        assert error_of(load_folders, root=str(tmp_path)) == (
            f"{tmp_path}: {other} and Train are roles, and no classes; to search training images: query={other} and "
            "gallery=Train"
        )
        assert sizes(load_folders(root=str(tmp_path), query=other, gallery="Train")) == (2, 6, 6)
        make_images(tmp_path / "plane", ["1.png", "2.png"])  # one of several: a class that is called so
        make_images(tmp_path / other, ["1.png", "2.png"])
        data = load_folders(root=str(tmp_path), query_items=1, train_items=1)
        assert data.classes == 3

    @pytest.mark.parametrize("link", [True, False])
    def test_training_images_that_are_in_the_gallery_are_the_same_items(self, tmp_path: Path, link: bool) -> None:
        make_roles(tmp_path)
        for name in ("cat/a.png", "ant/deep/er/1.png"):
            (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
            if link:
                os.symlink(tmp_path / "gallery" / name, tmp_path / "train" / name)
            else:
                shutil.copyfile(tmp_path / "gallery" / name, tmp_path / "train" / name)
        data = load_folders(root=str(tmp_path))
        assert sizes(data) == (2, 4, 6)
        assert torch.isin(data.train.indices, data.gallery.indices).tolist() == [True, False, True, False]
        assert [grey(data.train, place) for place in range(4)] == [5, 0, 3, 1]
        _, validation = hold_out(data, 4, seed=0)
        assert validation is not None
        assert sorted(grey(validation, place) for place in range(4)) == [0, 1, 2, 4]

    @pytest.mark.parametrize("role", ["train", "gallery"])
    @pytest.mark.parametrize("how", [os.symlink, shutil.copyfile])
    def test_queries_that_are_searched_or_trained_on(self, tmp_path: Path, role: str, how: Any) -> None:
        make_roles(tmp_path)
        how(tmp_path / "query/dog/1.png", tmp_path / role / "dog/1.png")
        message = error_of(load_folders, root=str(tmp_path))
        assert message.startswith(f"folders: 1 images are both in query and in {role}: ")
        assert message.split(": ")[2].split(";")[0] in ("query/dog/1.png", f"{role}/dog/1.png")

    def test_other_image_of_the_same_name_is_another_item(self, tmp_path: Path) -> None:
        make_roles(tmp_path)
        make_image(tmp_path / "gallery/dog/1.png", 77)  # as many bytes as the query has, and other ones
        make_image(tmp_path / "query/dog/1.png", 78)
        for role in ("gallery", "query"):
            os.utime(tmp_path / role / "dog/1.png", (1, 1))
        assert os.path.getsize(tmp_path / "gallery/dog/1.png") == os.path.getsize(tmp_path / "query/dog/1.png")
        data = load_folders(root=str(tmp_path))
        assert sizes(data) == (2, 2, 7)
        assert grey(data.query, 1) == 78

    def test_links_to_an_image_that_is_there_already_are_said(self, tmp_path: Path) -> None:
        make_roles(tmp_path)
        os.symlink("a.png", tmp_path / "gallery/cat/c.png")
        (message,) = warnings_of(load_folders, root=str(tmp_path))
        assert message == f"{tmp_path}/gallery: 1 images are there again, and count once: gallery/cat/c.png"

    def test_split_does_not_go_with_roles(self, tmp_path: Path) -> None:
        make_roles(tmp_path)
        message = error_of(load_folders, root=str(tmp_path), split="split.npz")
        assert message == f"{tmp_path}: its folders say which images are queries; leave out split='split.npz'"


class TestClasses:
    """Folders without roles, split by seed."""

    OPTIONS: dict[str, Any] = {"query_items": 1, "train_items": 1}  # noqa: RUF012

    def test_split(self, tmp_path: Path) -> None:
        make_images(tmp_path, FILES)
        data = load_folders(3, root=str(tmp_path), **self.OPTIONS)
        assert sizes(data) == (3, 3, 3)
        assert data.query.labels.sort().values.tolist() == [0, 1, 2]
        assert [data.query.source.name(index) for index in range(6)] == [str(tmp_path / name) for name in IN_ORDER]
        assert (data.split().seed, data.split().protocol) == (3, "per class: 1 query, 1 train")
        for role in ROLES:
            part = getattr(data, role)
            for place, name in enumerate(files_of(part, tmp_path)):
                assert grey(part, place) == FILES.index(name)
                assert part.labels[place] == LABELS[IN_ORDER.index(name)]
        data = load_folders(root=str(tmp_path), query_items=2, train_items=None, per_class=False)
        assert sizes(data) == (2, 4, 4)

    def test_order_of_the_file_system_does_not_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_images(tmp_path, FILES)
        first = load_folders(root=str(tmp_path), **self.OPTIONS).fingerprint()
        scan = os.scandir

        @contextlib.contextmanager
        def backwards(folder: Any) -> Iterator[Iterator[os.DirEntry[str]]]:
            with scan(folder) as entries:
                yield iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def walk_backwards(folder: str, **_: Any) -> Iterator[tuple[str, list[str], list[str]]]:
            with backwards(folder) as entries:
                found = list(entries)
            inside = [entry.name for entry in found if entry.is_dir()]
            yield folder, inside, [entry.name for entry in found if entry.is_file()]
            for name in inside:
                yield from walk_backwards(os.path.join(folder, name))

        monkeypatch.setattr("os.scandir", backwards)
        monkeypatch.setattr("os.walk", walk_backwards)
        assert load_folders(root=str(tmp_path), **self.OPTIONS).fingerprint() == first

    def test_what_is_no_image_is_left_out(self, tmp_path: Path) -> None:
        make_images(tmp_path, FILES)
        for name in (
            ".hidden.png",
            "cat/.hidden.png",
            "cat/.deep/x.png",
            ".git/x.png",
            "cat/png",
            "cat/Thumbs.db",
            "x.png",
        ):
            make = tmp_path / name
            make.parent.mkdir(exist_ok=True)
            make.write_bytes(b"x")
        data = load_folders(root=str(tmp_path), **self.OPTIONS)
        assert data.class_names == ("ant", "cat", "dog")
        assert len(data.query.source) == 6

    def test_suffixes_in_any_letters(self, tmp_path: Path) -> None:
        for suffix in SUFFIXES:
            for name in (f"a/1{suffix}", f"a/2{suffix.upper()}"):
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_bytes(b"x")
        assert len(load_folders(root=str(tmp_path), **self.OPTIONS).gallery) == 2 * len(SUFFIXES) - 1
        assert {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"} <= SUFFIXES

    def test_class_that_is_called_like_a_role(self, tmp_path: Path) -> None:
        make_images(tmp_path, [*FILES, "train/1.png", "train/2.png"])
        data = load_folders(root=str(tmp_path), **self.OPTIONS)
        assert data.class_names == ("ant", "cat", "dog", "train")

    def test_folder_of_a_class_may_be_a_link(self, tmp_path: Path) -> None:
        make_images(tmp_path / "here", FILES)
        make_images(tmp_path / "there", ["cow/1.png", "cow/2.png"])
        os.symlink(tmp_path / "there/cow", tmp_path / "here/cow")
        data = load_folders(root=str(tmp_path / "here"), **self.OPTIONS)
        assert data.class_names == ("ant", "cat", "cow", "dog")

    def test_saved_split(self, tmp_path: Path) -> None:
        make_images(tmp_path, FILES)
        data = load_folders(3, root=str(tmp_path), **self.OPTIONS)
        data.split().save(tmp_path / "split.npz")
        again = load_folders(4, root=str(tmp_path), split=str(tmp_path / "split.npz"))
        assert again.fingerprint() == data.fingerprint()
        (tmp_path / "cat/a.png").rename(tmp_path / "cat/c.png")
        message = error_of(load_folders, root=str(tmp_path), split=str(tmp_path / "split.npz"))
        assert "a split of items with other labels, names or order" in message

    def test_too_few_images(self, tmp_path: Path) -> None:
        make_images(tmp_path, FILES)
        assert error_of(load_folders, root=str(tmp_path)) == (
            "split_per_class: class 0 (ant) must have at least 600 images (100 query + 500 train), got 2; query_items "
            "and train_items say how many"
        )

    def test_nothing_there(self, tmp_path: Path) -> None:
        message = error_of(load_folders, root=str(tmp_path))
        assert (
            message == f"{tmp_path}: no images; put them into one folder for each class: {tmp_path}/<class>/<image>.jpg"
        )
        make_images(tmp_path, ["1.png", "2.png"])
        assert "no images" in error_of(load_folders, root=str(tmp_path))
        message = error_of(load_folders, root=str(tmp_path / "no"), kind=FileNotFoundError)
        assert message == f"{tmp_path}/no: no such folder; name the one with the folders of classes: root=..."

    def test_broken_link_and_empty_file(self, tmp_path: Path) -> None:
        make_images(tmp_path, FILES)
        os.symlink("nowhere.png", tmp_path / "cat/z.png")
        message = error_of(load_folders, root=str(tmp_path), kind=OSError)
        assert message == (
            f"folders: 1 of 7 images cannot be found: {tmp_path}/cat/z.png; bring them back, or delete the links to "
            "them"
        )
        (tmp_path / "cat/z.png").unlink()
        (tmp_path / "cat/z.png").touch()
        assert "1 of 7 images cannot be used (empty)" in error_of(load_folders, root=str(tmp_path), kind=OSError)

    def test_folder_that_cannot_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_images(tmp_path, FILES)
        scan = os.scandir

        def refuse(folder: Any) -> Any:
            if str(folder).endswith("cat"):
                raise PermissionError(13, "Permission denied", str(folder))
            return scan(folder)

        monkeypatch.setattr("os.scandir", refuse)
        assert "cat" in error_of(load_folders, root=str(tmp_path), kind=PermissionError)
