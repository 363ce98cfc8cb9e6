"""Text files that list images: every form of a line, and what is said of a malformed one."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_layouts import error_of, write_list

from rdh_ext.hashing.data.list_files import ListFile, ListName, find_lists, read_list

NOTHING: dict[str, str | None] = {"train": None, "query": None, "gallery": None, "pool": None}


def read(path: Path, content: str | bytes, labels: str | None = None) -> ListFile:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if labels is None:
        return read_list(ListName(path))
    beside = path.with_name("labels.txt")
    beside.write_bytes(labels.encode())
    return read_list(ListName(path, beside))


def read_error(path: Path, content: str | bytes, labels: str | None = None) -> str:
    return error_of(read, path, content, labels)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.txt"


class TestLines:
    """One file with paths and labels."""

    @pytest.mark.parametrize(
        ("content", "paths", "labels"),
        [
            ("a.jpg 3\nb/c.jpg 0\n", ["a.jpg", "b/c.jpg"], [3, 0]),
            ("a.jpg 0 1 0\nb.jpg 1 1 0", ["a.jpg", "b.jpg"], [[0, 1, 0], [1, 1, 0]]),
            ("a.jpg\t0\t1\nb.jpg \t 1  0 \t\n", ["a.jpg", "b.jpg"], [[0, 1], [1, 0]]),
            ("a.jpg 0 1\r\n\r\n  b.jpg 1 0\r\n", ["a.jpg", "b.jpg"], [[0, 1], [1, 0]]),
            ("a.jpg 0 1\rb.jpg 1 0\r", ["a.jpg", "b.jpg"], [[0, 1], [1, 0]]),
            ("\ufeffa.jpg 1\n\n\n", ["a.jpg"], [1]),
            ("my photo 1.jpg 0 1\nwith  two.jpg 1 0\n", ["my photo 1.jpg", "with  two.jpg"], [[0, 1], [1, 0]]),
            ("my\tphoto.jpg\t7\n", ["my\tphoto.jpg"], [7]),
            ("0001 0 1\n0002 1 1\n", ["0001", "0002"], [[0, 1], [1, 1]]),
            ("0001 12\n", ["0001"], [12]),
            ("C:\\data\\a.jpg 1\n", ["C:/data/a.jpg"], [1]),
            ("a.jpg 1.0 0.0 0\nb.jpg 0 1e0 1.\n", ["a.jpg", "b.jpg"], [[1, 0, 0], [0, 1, 1]]),
            ("a.jpg 3.0\nb.jpg 4e0\n", ["a.jpg", "b.jpg"], [3, 4]),
            ("a.jpg 0\nb.jpg 1\n", ["a.jpg", "b.jpg"], [0, 1]),
            ("caf\u00e9/\u5716\u00a0x.jpg 1\n", ["caf\u00e9/\u5716\u00a0x.jpg"], [1]),
            ("a\u2028b\x0c.jpg 1\n", ["a\u2028b\x0c.jpg"], [1]),
        ],
    )
    def test_forms(self, path: Path, content: str, paths: list[str], labels: list[object]) -> None:
        found = read(path, content)
        assert found.paths == paths
        assert found.labels.int().tolist() == labels
        assert str(found.labels.dtype) == ("torch.int64" if isinstance(labels[0], int) else "torch.bool")
        assert found.name == str(path)

    def test_lines_are_counted_as_editors_do(self, path: Path) -> None:
        assert read(path, "\n a.jpg 0\r\n\r\nb.jpg 1").lines == [2, 4]

    def test_names_in_any_encoding_come_out_as_they_are(self, path: Path) -> None:
        (found,) = read(path, b"caf\xe9.jpg 1\n").paths
        assert found.encode("utf-8", "surrogateescape") == b"caf\xe9.jpg"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("a.jpg\n", "line 1: no label behind the path; write '<path> 3' or '<path> 0 1 0'"),
            ("a.jpg 0 1\n\nb.jpg\n", "line 3: no label behind the path"),
            ("a.jpg 0 1\nb.jpg 1\n", "line 2: 1 labels, and line 1 has 2; all lines must have one class id, or 0 or 1"),
            ("\na.jpg 0 1\nb.jpg 1 0 1\n", "line 3: 3 labels, and line 2 has 2"),
            ("a.jpg 1\nb.jpg 1 0\n", "line 2: 2 labels, and line 1 has 1"),
            ("a.jpg 0 1\nmy b.jpg 1\n", "line 2: b.jpg where 0 or 1 must be; 2 labels a line, one a class"),
            ("a.jpg 0 1 0\nb.jpg 0 x 1\n", "line 2: x where 0 or 1 must be; 3 labels a line"),
            ("a.jpg 0 1 0\nmy b 0 1\n", "line 2: b where 0 or 1 must be"),
            ("a.jpg 0 1\nb.jpg 0 2\n", "line 2: 2 where 0 or 1 must be; 2 labels a line, one a class"),
            ("a.jpg 0 1\nb.jpg -1 1\n", "line 2: -1 where 0 or 1 must be"),
            ("a.jpg 0 1\nb.jpg 0.5 1\n", "line 2: 0.5 where 0 or 1 must be"),
            ("a.jpg 0 1\nb.jpg nan 1\n", "line 2: nan where 0 or 1 must be"),
            ("a.jpg 0 1\nb.jpg 1 \uff11\n", "line 2: \uff11 where 0 or 1 must be"),
            ("a.jpg 2\nb.jpg -1\n", "line 2: -1 where a class id must be; a whole number from 0 on"),
            ("a.jpg 2.5\n", "line 1: 2.5 where a class id must be"),
            ("a.jpg inf\n", "line 1: inf where a class id must be"),
            ("a.jpg 99999999999999999999\n", "line 1: 99999999999999999999 where a class id must be"),
            ("a.jpg nan\n", "line 1: nan where a class id must be"),
            ("", "empty; write a line for each image"),
            ("\r\n  \r\n", "empty; write a line for each image"),
            ("a.jpg 1\n".encode("utf-16"), "no text in UTF-8; save it as UTF-8"),
            ("a.jpg 1\n".encode("utf-16-be"), "no text in UTF-8; save it as UTF-8"),
            (b"a\0b.jpg 1\n", "no text in UTF-8"),
        ],
    )
    def test_malformed_line_is_named(self, path: Path, content: str | bytes, words: str) -> None:
        message = read_error(path, content)
        assert message.startswith(f"{path}, {words}" if words.startswith("line") else f"{path}: {words}")

    def test_file_that_is_none(self, tmp_path: Path) -> None:
        assert str(tmp_path) in error_of(read_list, ListName(tmp_path))
        assert "no.txt" in error_of(read_list, ListName(tmp_path / "no.txt"), kind=FileNotFoundError)


class TestPairs:
    """Paths in one file, labels in another."""

    @pytest.mark.parametrize(
        ("content", "labels", "expected"),
        [
            ("a b.jpg\nc.jpg\n", "0 1\n1 1\n", [[0, 1], [1, 1]]),
            ("\ufeffa b.jpg\r\nc.jpg", "\ufeff3\r\n12\r\n\r\n", [3, 12]),
            ("a b.jpg\nc.jpg\n\n", "1.0 0\n 0 1.0", [[1, 0], [0, 1]]),
        ],
    )
    def test_forms(self, path: Path, content: str, labels: str, expected: list[object]) -> None:
        found = read(path, content, labels)
        assert found.paths == ["a b.jpg", "c.jpg"]
        assert found.labels.int().tolist() == expected
        assert found.lines == [1, 2]

    @pytest.mark.parametrize(
        ("content", "labels", "words"),
        [
            ("a.jpg\nb.jpg\n", "1\n", "labels.txt: 1 lines of labels for 2 paths in {path}; they belong together"),
            ("a.jpg\n", "0 1\n0 1\n", "labels.txt: 2 lines of labels for 1 paths in {path}"),
            ("a.jpg\n", "", "labels.txt: 0 lines of labels for 1 paths in {path}"),
            ("a.jpg\nb.jpg\n", "0 1\n0 1 1\n", "labels.txt, line 2: 3 labels, and line 1 has 2"),
            ("a.jpg\nb.jpg\n", "0 1\n0 3\n", "labels.txt, line 2: 3 where 0 or 1 must be"),
            ("a.jpg\nb.jpg\n", "0 1\n0 x\n", "labels.txt, line 2: x where 0 or 1 must be"),
            ("a.jpg\nb.jpg\n", "0\ncat\n", "labels.txt, line 2: cat where a class id must be"),
            ("a.jpg\n\nb.jpg\n", "0\n1\n", "train.txt, line 2: empty; paths and labels go line by line"),
            ("a.jpg\nb.jpg\n", "0\n\n1\n", "labels.txt, line 2: empty; paths and labels go line by line"),
            ("", "", "train.txt: empty"),
        ],
    )
    def test_malformed_line_is_named(self, path: Path, content: str, labels: str, words: str) -> None:
        assert f"{path.parent}/{words.format(path=path)}" in read_error(path, content, labels)


class TestFound:
    """Which files of a folder are the lists."""

    @pytest.mark.parametrize(
        "names",
        [
            ("train.txt", "test.txt", "database.txt"),
            ("train.txt", "query.txt", "gallery.txt"),
            ("TRAIN.TXT", "Test.txt", "db.txt"),
            ("cifar10_Train.txt", "cifar10_Query.txt", "cifar10_DB.txt"),
            ("nus-wide-train.txt", "nus-wide-test.txt", "nus-wide-database.txt"),
        ],
    )
    def test_lists_by_role(self, tmp_path: Path, names: tuple[str, str, str]) -> None:
        for name in (*names, "readme.txt", "classes.txt", "train.jpg", "trained.txt", "latest.txt"):
            (tmp_path / name).touch()
        (tmp_path / "old_train.txt").mkdir()
        found = find_lists(tmp_path, NOTHING)
        assert [found[role] for role in ("train", "query", "gallery")] == [ListName(tmp_path / name) for name in names]

    @pytest.mark.parametrize(
        ("images", "labels"),
        [
            ("{}_img.txt", "{}_label_onehot.txt"),
            ("{}_img.txt", "{}_label.txt"),
            ("{}_img.txt", "{}_onehot.txt"),
            ("nus_{}_IMG.txt", "nus_{}_Labels.txt"),
        ],
    )
    @pytest.mark.parametrize("roles", [("train", "test", "database"), ("train", "query", "gallery")])
    def test_pairs_by_role(self, tmp_path: Path, images: str, labels: str, roles: tuple[str, ...]) -> None:
        for role in roles:
            (tmp_path / images.format(role)).touch()
            (tmp_path / labels.format(role)).touch()
        found = find_lists(tmp_path, NOTHING)
        assert [found[role] for role in ("train", "query", "gallery")] == [
            ListName(tmp_path / images.format(role), tmp_path / labels.format(role)) for role in roles
        ]

    def test_one_hot_labels_are_taken_before_ids(self, tmp_path: Path) -> None:
        for name in ("img.txt", "label.txt", "label_onehot.txt"):
            (tmp_path / name).touch()
        found = find_lists(tmp_path, NOTHING)
        assert found == {"pool": ListName(tmp_path / "img.txt", tmp_path / "label_onehot.txt")}

    @pytest.mark.parametrize(
        ("images", "labels"),
        [
            ("img_tc10.txt", "targets_onehot_tc10.txt"),
            ("img_tc21.txt", "targets_onehot_tc21.txt"),
            ("img.txt", "label.txt"),
        ],
    )
    def test_pool(self, tmp_path: Path, images: str, labels: str) -> None:
        (tmp_path / images).touch()
        (tmp_path / labels).touch()
        (tmp_path / "targets_onehot_tc81.txt").touch()
        assert find_lists(tmp_path, NOTHING) == {"pool": ListName(tmp_path / images, tmp_path / labels)}

    def test_named_lists(self, tmp_path: Path) -> None:
        for name in ("train.txt", "test.txt", "mine.txt", "deep/other_img.txt", "deep/other_label.txt"):
            write_list(tmp_path / name, [])
        found = find_lists(tmp_path, {**NOTHING, "train": "mine.txt", "gallery": "deep/other_img.txt"})
        assert found["train"] == ListName(tmp_path / "mine.txt")
        assert found["query"] == ListName(tmp_path / "test.txt")
        assert found["gallery"] == ListName(tmp_path / "deep/other_img.txt", tmp_path / "deep/other_label.txt")
        found = find_lists(tmp_path, {**NOTHING, "gallery": "train.txt"})
        assert found["gallery"] == found["train"]
        found = find_lists(tmp_path, {**NOTHING, "pool": str(tmp_path / "mine.txt")})
        assert found == {"pool": ListName(tmp_path / "mine.txt")}

    def test_what_could_be_meant_twice_is_asked(self, tmp_path: Path) -> None:
        for name in ("train.txt", "test.txt", "query.txt", "database.txt"):
            (tmp_path / name).touch()
        message = error_of(find_lists, tmp_path, NOTHING)
        assert (
            message == f"{tmp_path}: query.txt and test.txt could be the list for query; say which: query='query.txt'"
        )
        assert find_lists(tmp_path, {**NOTHING, "query": "test.txt"})["query"] == ListName(tmp_path / "test.txt")
        for name in ("a/img_tc10.txt", "a/img_tc21.txt", "b/train.txt", "b/train_img.txt"):
            write_list(tmp_path / name, [])
        assert "img_tc10.txt and img_tc21.txt could be the list for pool; say which: pool=" in error_of(
            find_lists, tmp_path / "a", NOTHING
        )
        assert "train.txt and train_img.txt could be the list for train" in error_of(
            find_lists, tmp_path / "b", NOTHING
        )

    def test_what_is_missing_is_said(self, tmp_path: Path) -> None:
        message = error_of(find_lists, tmp_path, NOTHING)
        assert message.startswith(
            f"{tmp_path}: no lists of images (it has no .txt file); put train.txt, query.txt and "
        )
        assert message.endswith("or name one to be split: pool=...")
        for name in ("train.txt", "test.txt"):
            (tmp_path / name).touch()
        message = error_of(find_lists, tmp_path, NOTHING)
        assert message.startswith(
            f"{tmp_path}: no list for gallery (gallery.txt, database.txt, db.txt, *_db.txt); it has "
        )
        assert message.endswith("it has test.txt, train.txt; name it: gallery=..., or gallery='train.txt' where the "
                                "training images are what is searched")  # fmt: skip
        (tmp_path / "test.txt").unlink()
        assert "no list for query (query.txt, test.txt, *_test.txt); it has train.txt; name it: query=..." in error_of(
            find_lists, tmp_path, NOTHING
        )
        message = error_of(find_lists, tmp_path, {**NOTHING, "query": "q.txt"}, kind=FileNotFoundError)
        assert message == f"{tmp_path}/q.txt: no such list; query=... must be one of train.txt"
        message = error_of(find_lists, tmp_path / "no", NOTHING, kind=FileNotFoundError)
        assert message == f"{tmp_path}/no: no such folder; name the one with the lists: lists=..."
        message = error_of(find_lists, tmp_path, {**NOTHING, "pool": "train.txt", "query": "train.txt"})
        assert message == "pool='train.txt' is split into all roles; leave out train, query and gallery"

    def test_labels_that_are_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "train_img.txt"
        for role in ("train", "test", "database"):
            write_list(tmp_path / f"{role}_img.txt", ["a.jpg"])
        found = find_lists(tmp_path, NOTHING)
        assert error_of(read_list, found["train"]) == (
            f"{path}, line 1: no label behind the path; write '<path> 3' or '<path> 0 1 0', or put "
            "train_label_onehot.txt beside it"
        )
