"""``rdh search``: the neighbours of the functions as table, JSON, CSV and pictures; FAISS; errors of one line."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import make_problem, small_blocks, write_problem
from process_group import torchrun
from torch import Tensor

import rdh_ext
from rdh_ext import cli
from rdh_ext.cli import search, search_answer, search_faiss
from rdh_ext.retrieval import CodeSet, write_code_set

BITS, QUERIES, ITEMS = 20, 24, 6_000
Words = list[str]


def problem(classes: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return make_problem(QUERIES, ITEMS, BITS, classes)


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Words:
    """The command for a small problem in the current folder."""
    small_blocks(monkeypatch)
    write_problem(tmp_path, problem(), BITS, shard_items=2_500)
    monkeypatch.chdir(tmp_path)
    return ["search", "--query", "query.npz", "--gallery", "gallery"]


@pytest.fixture
def hot(words: Words) -> Words:
    """The same with multi-hot labels."""
    write_problem(Path("hot"), problem(classes=11), BITS)
    return ["search", "--query", "hot/query.npz", "--gallery", "hot/gallery"]


def output(capsys: pytest.CaptureFixture[str], words: Words) -> str:
    """What a command that succeeds prints."""
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def rows_of_table(text: str) -> list[list[str]]:
    """Cells of the lines between the sets and what follows."""
    return [line.split() for line in text.split("\n\n")[1].splitlines()[1:] if line[0] == " "]


def failure(capsys: pytest.CaptureFixture[str], words: Words) -> str:
    """The only line of a command that fails."""
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rdh search: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def classes_of(row: Tensor) -> list[int]:
    return [int(value) for value in row.nonzero().flatten()]


class TestTable:
    def test_first_queries(self, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
        q, g, q_labels, g_labels = problem()
        distances, indices = rdh_ext.hamming_topk(q, g, 10)
        expected = [
            [query, int(q_labels[query]), rank + 1, i, int(distances[query, rank]), int(g_labels[i])]
            for query in range(5)
            for rank, i in enumerate(indices[query].tolist())
        ]
        text = output(capsys, words)
        lines = rows_of_table(text)
        assert [[int(cell) for cell in line[:-1]] for line in lines] == expected
        assert [line[-1] for line in lines] == ["yes" if line[1] == line[5] else "no" for line in expected]
        assert {line[-1] for line in lines} == {"yes", "no"}
        assert "gallery  gallery: 6,000 codes of 20 bits, class ids, 3 shards" in text
        assert output(capsys, words) == text

    def test_rows_in_their_order(self, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
        q, g, _, _ = problem()
        rows = [7, 3, 4, 5, 3]
        lines = rows_of_table(output(capsys, [*words, "--rows", "7,3-5,3", "-k", "2"]))
        assert [int(line[0]) for line in lines[::2]] == rows
        assert [int(line[3]) for line in lines] == rdh_ext.hamming_topk(q[rows], g, 2)[1].flatten().tolist()

    def test_a_few_of_many(self, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
        text = output(capsys, [*words, "-k", "1", "--rows", "0-23"])
        assert len(rows_of_table(text)) == 20
        assert "and 4 more queries: --rows chooses, --json and --csv have all" in text

    def test_multi_hot(self, hot: Words, capsys: pytest.CaptureFixture[str]) -> None:
        _, _, q_labels, g_labels = problem(classes=11)
        record = json.loads(output(capsys, [*hot, "--rows", "3", "-k", "40", "--json", "-"]))["results"][0]
        assert record["label"] == classes_of(q_labels[3])
        assert record["labels"] == [classes_of(g_labels[i]) for i in record["indices"]]
        assert record["shared"] == [bool((q_labels[3] & g_labels[i]).any()) for i in record["indices"]]
        assert len(set(record["shared"])) == 2
        text = output(capsys, [*hot, "--rows", "3", "-k", "40"])
        for labels in record["labels"]:
            assert " ".join(map(str, labels)) in text

    def test_sets_without_labels(self, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
        q, g, _, _ = problem()
        write_code_set("plain", g, bits=BITS)
        words[-1] = "plain"
        text = output(capsys, [*words, "-k", "1"])
        assert "its label" in text
        assert "shared" not in text
        write_code_set("plain query", q, bits=BITS)
        words[2] = "plain query"
        text = output(capsys, [*words, "-k", "1"])
        assert "label" not in rows_of_table(text)[0]
        assert len(rows_of_table(text)[0]) == 4
        record = json.loads(output(capsys, [*words, "--json", "-"]))["results"][0]
        assert set(record) == {"query", "indices", "distances"}

    def test_labels_of_two_kinds(self, words: Words, hot: Words, capsys: pytest.CaptureFixture[str]) -> None:
        text = output(capsys, [*words[:-1], hot[-1], "-k", "1"])
        assert "labels are not compared: the query set has class ids, the gallery 11 labels, multi-hot" in text
        assert "shared" not in text


class TestFiles:
    @pytest.mark.parametrize("at_once", [1, 1 << 18])
    def test_json_has_everything(
        self, words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at_once: int
    ) -> None:
        monkeypatch.setattr(search_answer, "_VALUES_AT_ONCE", at_once)
        q, g, q_labels, g_labels = problem()
        text = output(capsys, [*words, "-k", "300", "--json", "new/answer.json"])
        assert len(rows_of_table(text)) == 5 * 300
        assert text.endswith("\nwritten: new/answer.json\n")
        answer = json.loads(Path("new/answer.json").read_text())
        distances, indices = rdh_ext.hamming_topk(q, g, 300)
        for row, record in enumerate(answer.pop("results")):
            labels = g_labels[indices[row]]
            assert record == {
                "query": row,
                "label": int(q_labels[row]),
                "indices": indices[row].tolist(),
                "distances": distances[row].tolist(),
                "labels": labels.tolist(),
                "shared": (labels == q_labels[row]).tolist(),
            }
        assert row == QUERIES - 1
        assert answer == {
            "kind": "rdh search",
            "rdh_ext": rdh_ext.__version__,
            "query_set": "query.npz",
            "query_items": QUERIES,
            "query_labels": "class ids",
            "gallery_set": "gallery",
            "gallery_items": ITEMS,
            "gallery_labels": "class ids",
            "bits": BITS,
            "queries": QUERIES,
            "k": 300,
        }
        assert output(capsys, [*words, "-k", "300", "--json", "-"]) == Path("new/answer.json").read_text()
        assert [path.name for path in Path("new").iterdir()] == ["answer.json"]

    @pytest.mark.parametrize("classes", [None, 11])
    def test_csv(self, words: Words, hot: Words, capsys: pytest.CaptureFixture[str], classes: int | None) -> None:
        words = hot if classes else words
        _, _, q_labels, g_labels = problem(classes)
        distances, indices = rdh_ext.hamming_topk(*problem(classes)[:2], 30)
        output(capsys, [*words, "-k", "30", "--csv", "answer.csv"])
        with open("answer.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == QUERIES * 30
        for n, line in enumerate(lines):
            row, rank = divmod(n, 30)
            item = int(indices[row, rank])
            own, label = q_labels[row], g_labels[item]
            is_shared = bool((own & label).any()) if classes else bool(own == label)
            values = (row, rank + 1, item, int(distances[row, rank]), int(is_shared))
            assert tuple(int(line[name]) for name in ("query", "rank", "index", "distance", "shared")) == values
            words_of = (lambda row: " ".join(map(str, classes_of(row)))) if classes else (lambda row: str(int(row)))
            assert (line["query_label"], line["label"]) == (words_of(own), words_of(label))
        assert output(capsys, [*words, "-k", "30", "--csv", "-"]) == Path("answer.csv").read_text()

    def test_what_is_there_is_not_overwritten(self, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
        for option, name in (("--json", "a.json"), ("--csv", "a.csv")):
            Path(name).write_text("years of work")
            assert f"{option} {name} exists; name another file" in failure(capsys, [*words, option, name])
            assert Path(name).read_text() == "years of work"
            output(capsys, [*words, option, name, "--force"])
            assert Path(name).read_text() != "years of work"
        assert "--json gallery is a folder" in failure(capsys, [*words, "--json", "gallery", "--force"])
        assert "must be different files" in failure(capsys, [*words, "--json", "x", "--csv", "./x"])

    def test_full_disk_leaves_nothing(
        self, words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(answer: Any, file: Any, progress: Any) -> None:
            file.write("{")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(search_answer, "write_json", full)
        before = sorted(Path().iterdir())
        assert "answer.json: No space left on device" in failure(capsys, [*words, "--json", "answer.json"])
        assert sorted(Path().iterdir()) == before


class TestNothing:
    def test_no_queries(self, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
        write_code_set("none", problem()[0][:0], problem()[2][:0], bits=BITS)
        words[2] = "none"
        assert rows_of_table(output(capsys, words)) == []
        assert json.loads(output(capsys, [*words, "--json", "-"]))["results"] == []
        assert output(capsys, [*words, "--csv", "-"]).count("\n") == 1
        assert "--rows 0: not in none; it is empty" in failure(capsys, [*words, "--rows", "0"])

    @pytest.mark.parametrize("classes", [None, 11])
    def test_no_items(self, words: Words, hot: Words, capsys: pytest.CaptureFixture[str], classes: int | None) -> None:
        words = hot if classes else words
        _, g, _, g_labels = problem(classes)
        write_code_set("none", g[:0], g_labels[:0], bits=BITS)
        words[-1] = "none"
        assert rows_of_table(output(capsys, words)) == []
        answer = json.loads(output(capsys, [*words, "--json", "-", "--rows", "1"]))
        assert answer["k"] == 0
        assert answer["results"][0]["indices"] == answer["results"][0]["shared"] == []

    def test_more_neighbours_than_items(self, words: Words, capsys: pytest.CaptureFixture[str]) -> None:
        answer = json.loads(output(capsys, [*words, "--json", "-", "-k", "10000", "--rows", "1"]))
        assert answer["k"] == ITEMS
        assert sorted(answer["results"][0]["indices"]) == list(range(ITEMS))


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


class TestFaiss:
    @pytest.fixture
    def faiss(self) -> Any:
        return pytest.importorskip("faiss")

    def write_flat(self, faiss: Any, codes: Tensor, name: str = "flat.index") -> None:
        index = faiss.IndexBinaryFlat(8 * codes.shape[1])
        index.add(codes.numpy())
        faiss.write_index_binary(index, name)

    def write_ivf(self, faiss: Any, codes: Tensor, lists: int) -> None:
        quantizer = faiss.IndexBinaryFlat(8 * codes.shape[1])
        index = faiss.IndexBinaryIVF(quantizer, 8 * codes.shape[1], lists)
        index.cp.seed = 1
        index.train(codes.numpy())
        index.add(codes.numpy())
        faiss.write_index_binary(index, "ivf.index")

    def test_flat_finds_all(self, words: Words, capsys: pytest.CaptureFixture[str], faiss: Any) -> None:
        self.write_flat(faiss, problem()[1])
        text = output(capsys, [*words, "--faiss", "flat.index"])
        assert "FAISS    flat.index: IndexBinaryFlat\n" in text
        assert "1.0000 where another item at the same distance is as good" in text
        assert "time     exact " in text
        assert len(rows_of_table(text)) == 50

    @pytest.mark.parametrize("nprobe", [1, 3, 99])
    def test_recall(
        self,
        words: Words,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        faiss: Any,
        nprobe: int,
    ) -> None:
        """Counted again here; few lists do not have k items."""
        monkeypatch.setattr(search_faiss, "_QUERIES_AT_ONCE", 7)
        monkeypatch.setattr(search_faiss, "_ENTRIES_AT_ONCE", 2_000)
        self.write_ivf(faiss, problem()[1], 12)
        output(capsys, [*words, "-k", "900", "--faiss", "ivf.index", "--nprobe", str(nprobe), "--json", "answer.json"])
        answer = json.loads(Path("answer.json").read_text())
        by_index, by_distance = [], []
        for record in answer["results"]:
            found = [item for item in record["faiss_indices"] if item >= 0]
            assert [d < 0 for d in record["faiss_distances"]] == [i < 0 for i in record["faiss_indices"]]
            hits = set(found) & set(record["indices"])
            by_index.append(len(hits) / 900)
            distances = [d for d in record["faiss_distances"] if d >= 0]
            as_near = sum(min(distances.count(d), record["distances"].count(d)) for d in set(distances))
            by_distance.append(as_near / 900)
            assert (record["recall"], record["recall_by_distance"]) == (by_index[-1], by_distance[-1])
        told = answer["faiss"]
        assert (told["index"], told["lists"], told["nprobe"]) == ("IndexBinaryIVF", 12, min(12, nprobe))
        assert told["recall"] == pytest.approx(np.mean(by_index))
        assert told["recall_by_distance"] == pytest.approx(np.mean(by_distance))
        assert told["recall"] <= told["recall_by_distance"]
        if nprobe == 1:
            assert told["recall_by_distance"] < 0.999
        if nprobe == 99:
            assert told["recall_by_distance"] == 1
        assert set(answer["seconds"]) == {"exact", "faiss"}

    def test_numbered_by_place(self, words: Words, capsys: pytest.CaptureFixture[str], faiss: Any) -> None:
        codes = problem()[1].numpy()
        for first in (0, 1):
            index = faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(24))
            index.add_with_ids(codes[::-1].copy(), np.arange(ITEMS)[::-1] + first)
            faiss.write_index_binary(index, f"{first}.index")
        assert "1.0000 where" in output(capsys, [*words, "--faiss", "0.index", "-k", "9000"])
        message = failure(capsys, [*words, "--faiss", "1.index", "-k", "9000"])
        assert "it numbers an item 6,000, gallery has 6,000" in message

    def test_index_of_something_else(self, words: Words, capsys: pytest.CaptureFixture[str], faiss: Any) -> None:
        g = problem()[1]
        self.write_flat(faiss, g[:-1])
        message = failure(capsys, [*words, "--faiss", "flat.index"])
        assert "--faiss flat.index: 5,999 items, gallery has 6,000; name the gallery's own index" in message
        self.write_flat(faiss, g[:, :2].contiguous())
        assert "flat.index: codes of 16 bits, gallery has 20;" in failure(capsys, [*words, "--faiss", "flat.index"])
        self.write_flat(faiss, g.flip(0))
        message = failure(capsys, [*words, "-k", "6000", "--faiss", "flat.index"])
        assert "flat.index: its distances are not those of gallery" in message
        self.write_flat(faiss, g)
        message = failure(capsys, [*words, "--faiss", "flat.index", "--nprobe", "3"])
        assert "--nprobe 3: flat.index is an IndexBinaryFlat, which has no lists to search" in message
        assert "nowhere: no such file; name a FAISS" in failure(capsys, [*words, "--faiss", "nowhere"])
        Path("text").write_text("an index of words")
        message = failure(capsys, [*words, "--faiss", "text"])
        assert "text: not a FAISS binary index; write one with" in message

    def test_nothing_to_find(self, words: Words, capsys: pytest.CaptureFixture[str], faiss: Any) -> None:
        _, g, _, labels = problem()
        write_code_set("none", g[:0], labels[:0], bits=BITS)
        self.write_flat(faiss, g[:0])
        words[-1] = "none"
        assert "there is nothing to find" in output(capsys, [*words, "--faiss", "flat.index"])
        answer = json.loads(output(capsys, [*words, "--faiss", "flat.index", "--json", "-"]))
        assert answer["faiss"]["recall"] is None

    def test_without_faiss(
        self, words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "faiss", None)
        message = failure(capsys, [*words, "--faiss", "some.index"])
        assert "faiss-cpu is not installed; get it with: pip install 'rdh_ext[search]'" in message


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["-k", "0"], ["-k", "whole number from 1", "'0'"]),
        (["--rows", "5-3"], ["--rows", "rows like 0,5,10-20", "'5-3'"]),
        (["--rows", "1,,2"], ["--rows", "'1,,2'"]),
        (["--rows", ""], ["--rows", "''"]),
        (["--rows=-1"], ["--rows", "'-1'"]),
        (["--json", "-", "--csv", "-"], ["both be standard output"]),
        (["--json", ""], ["the name of a file"]),
        (["--pictures", "list.txt"], ["go together"]),
        (["--out", "grid.png"], ["go together"]),
        (["--query-pictures", "list.txt"], ["--pictures"]),
        (["--pictures", "list.txt", "--out", "grid.gif"], ["grid.gif", "ends in .png"]),
        (["--nprobe", "3"], ["--nprobe 3", "--faiss"]),
        (["--device", "gpu"], ["--device", "'gpu'"]),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], more: Words, expected: Words) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", "--query", "q", "--gallery", "g", *more])
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for part in expected:
        assert part in captured.err


def test_errors_of_sets(words: Words, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere: no such code set" in failure(capsys, [*words[:-1], "nowhere"])
    assert "--rows 24: not in query.npz; its rows are 0 to 23" in failure(capsys, [*words, "--rows", "0-24"])
    assert "--rows 999999999999" in failure(capsys, [*words, "--rows", "0-999999999999"])
    assert "is too little" in failure(capsys, [*words, "--memory", "1MiB"])
    write_code_set("other", torch.zeros(3, 2, dtype=torch.uint8))
    message = failure(capsys, [*words[:-1], "other"])
    assert "query.npz has codes of 20 bits, other of 16; name sets of one model" in message
    path = Path("gallery/codes-00001.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert f"{path}: rows" in failure(capsys, words)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.count("rdh search --gallery") >= 5
    assert max(map(len, text.splitlines())) <= 120


def test_reads_no_more_of_the_queries_than_it_needs(words: Words) -> None:
    class Counted(CodeSet):
        read_blocks = 0

        def read(self, block: Any) -> Any:
            Counted.read_blocks += 1
            return super().read(block)

    source = Counted("gallery")
    items = torch.tensor([0, 2_499, 2_500, 5_999])
    codes = torch.cat([part for _, part, _ in search_answer.read_items(source, items, lambda *_: None)])
    assert torch.equal(codes, problem()[1][items])
    assert Counted.read_blocks == 3
    assert search.row_list("3, 7-9") == [(3, 3), (7, 9)]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="a PyTorch without torch.distributed")
def test_started_by_torchrun(words: Words, capsys: pytest.CaptureFixture[str]) -> None:
    """One of the processes speaks."""
    done = torchrun(words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output(capsys, words)


def test_progress_on_a_terminal(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert cli.main([*words, "--json", "answer.json"]) == 0
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    for stage in ("queries", "search", "labels", "write"):
        assert stage in shown
