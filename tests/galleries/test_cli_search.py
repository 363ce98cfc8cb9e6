"""``rdh search``: the neighbours of the functions as table, JSON and CSV; errors of one line."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from code_sets import write_problem
from command_line import Terminal, failure, help_of, output, usage_error
from process_group import torchrun
from search_command import BITS, ITEMS, QUERIES, Words, problem, rows_of_table
from torch import Tensor

import rdh_ext
from rdh_ext import cli
from rdh_ext.cli import search, search_answer
from rdh_ext.retrieval import CodeSet, write_code_set


@pytest.fixture
def hot(words: Words) -> Words:
    """The same with multi-hot labels."""
    write_problem(Path("hot"), problem(classes=11), BITS)
    return ["search", "--query", "hot/query.npz", "--gallery", "hot/gallery"]


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
    message = usage_error(capsys, ["search", "--query", "q", "--gallery", "g", *more])
    for part in expected:
        assert part in message


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
    text = help_of(capsys, ["search"])
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
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main([*words, "--json", "answer.json"]) == 0
    for stage in ("queries", "search", "labels", "write"):
        assert stage in terminal.getvalue()
