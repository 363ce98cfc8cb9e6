"""The pictures of ``rdh search``: whose they are, and frames that tell right from wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import failure, output
from search_command import BITS, QUERIES, Words, problem

from rdh_ext.retrieval import write_code_set


def make_pictures(folder: Path, count: int, name: str = "{:05d}.png") -> list[Path]:
    """One picture for all items, but its colour."""
    image = pytest.importorskip("PIL.Image")
    paths = [folder / name.format(n) for n in range(count)]
    for n, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (30, 20 + n % 20), (0, 0, 55 + n % 200)).save(path)
    return paths


def colours(path: str) -> dict[str, int]:
    """How many pixels of a picture are those of frames."""
    pixels = np.asarray(pytest.importorskip("PIL.Image").open(path).convert("RGB")).reshape(-1, 3)
    frames = {"right": (0x00, 0x9E, 0x73), "wrong": (0xD0, 0x00, 0x00), "plain": (0x88, 0x88, 0x88)}
    return {name: int((pixels == colour).all(axis=1).sum()) for name, colour in frames.items()}


class TestPictures:
    @pytest.fixture
    def small(self, words: Words) -> Words:
        """A gallery of 60 items with pictures, listed in a file."""
        pytest.importorskip("matplotlib")
        _, g, _, labels = problem()
        write_code_set("small", g[:60], labels[:60], bits=BITS)
        paths = make_pictures(Path("pictures"), 60)
        Path("list.txt").write_text("".join(f"{path}\n" for path in paths))
        return [*words[:-1], "small", "--out", "grid.png", "--pictures"]

    def test_frames_tell_right_from_wrong(self, small: Words, capsys: pytest.CaptureFixture[str]) -> None:
        assert output(capsys, [*small, "list.txt"]).endswith("\npictures: grid.png\n")
        first = Path("grid.png").read_bytes()
        seen = colours("grid.png")
        assert min(seen["right"], seen["wrong"]) > 500
        assert seen["plain"] < 20
        output(capsys, [*small, "list.txt", "--force"])
        assert Path("grid.png").read_bytes() == first
        output(capsys, [*small, "pictures", "--force"])  # sorted by name, that is the order of the list
        assert Path("grid.png").read_bytes() == first

    def test_without_labels(self, small: Words, capsys: pytest.CaptureFixture[str]) -> None:
        write_code_set("small", problem()[1][:60], bits=BITS, overwrite=True)
        output(capsys, [*small, "list.txt", "-k", "3", "--rows", "0"])
        seen = colours("grid.png")
        assert seen["plain"] > 200
        assert max(seen["right"], seen["wrong"]) < 20

    def test_pictures_of_the_queries(self, small: Words, capsys: pytest.CaptureFixture[str]) -> None:
        make_pictures(Path("queries"), QUERIES, "{:02d}.jpg")
        output(capsys, [*small, "list.txt", "--query-pictures", "queries", "-k", "25", "--rows", "0-23"])
        with_them = Path("grid.png").read_bytes()
        output(capsys, [*small, "list.txt", "-k", "25", "--rows", "0-23", "--force"])
        assert Path("grid.png").read_bytes() != with_them

    def test_classes_in_folders(self, words: Words) -> None:
        from rdh_ext.cli.search_pictures import Pictures

        for name in ("b/1.png", "a/2.PNG", "a/10.jpg", "a/notes.txt", "c.png"):
            path = Path("classes") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        found = Pictures("--pictures", Path("classes"), 4).paths(range(4))
        names = [str(found[n].relative_to("classes")) for n in range(4)]
        assert names == ["a/10.jpg", "a/2.PNG", "b/1.png", "c.png"]

    def test_errors(self, small: Words, capsys: pytest.CaptureFixture[str]) -> None:
        Path("short.txt").write_text("a.png\nb.png")
        message = failure(capsys, [*small, "short.txt"])
        assert "--pictures short.txt: 2 lines, the set has 60 items; name one for each" in message
        assert "--pictures gallery: 0 pictures, the set has 60" in failure(capsys, [*small, "gallery"])
        assert "nowhere.txt: No such file" in failure(capsys, [*small, "nowhere.txt"])
        message = failure(capsys, [*small, "list.txt", "--query-pictures", "list.txt"])
        assert "--query-pictures list.txt: 60 lines, the set has 24 items" in message
        Path("bytes.txt").write_bytes(b"\xff\xfe\n" * 60)
        assert "bytes.txt: not a text file" in failure(capsys, [*small, "bytes.txt"])
        for path in Path("pictures").iterdir():
            path.write_bytes(path.read_bytes()[:60])
        assert "cannot be read as a picture" in failure(capsys, [*small, "list.txt"])
        Path("wrong.txt").write_text("gone.png\n" * 60)
        assert "gone.png: no such picture; correct the list" in failure(capsys, [*small, "wrong.txt"])
        Path("grid.png").write_text("years of work")
        assert "--out grid.png exists" in failure(capsys, [*small, "list.txt"])

    def test_without_matplotlib(
        self, small: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        message = failure(capsys, [*small, "list.txt"])
        assert "matplotlib is not installed; get it with: pip install 'rdh_ext[cli]'" in message
