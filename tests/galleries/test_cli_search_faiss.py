"""``rdh search`` beside an index of FAISS: how much of the exact answer that finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import failure, output
from search_command import BITS, ITEMS, Words, problem, rows_of_table
from torch import Tensor

from rdh_ext.cli import search_faiss
from rdh_ext.retrieval import write_code_set


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
