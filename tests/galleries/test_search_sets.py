"""Search over galleries on disk: the neighbours of codes in memory, bit for bit, for any cuts and ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import PEAK_MEMORY, make_problem, write_problem
from hamming_cases import random_codes
from process_group import run_ranks
from torch import Tensor

import rdh_ext
from rdh_ext.retrieval import CodeSet, CodeSetError, DamagedShard, MemoryPlan, search_sets, write_code_set
from rdh_ext.retrieval.streaming import search_sets as module
from rdh_ext.retrieval.streaming.memory import plan

WORKER = Path(__file__).parents[1] / "search_worker.py"
Found = tuple[Tensor, Tensor]


def assert_equal(got: Found, expected: Found) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours.dtype, ours.shape, ours.device) == (theirs.dtype, theirs.shape, torch.device("cpu"))
        assert ours.is_contiguous()
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shard_items", [1, 5_000, 4_096, 10**6])
@pytest.mark.parametrize("bits", [1, 9, 13, 64, 130])
def test_equals_the_function(folder: Path, bits: int, shard_items: int) -> None:
    """Few distinct codes, so that nearly all is tied, across all borders."""
    items = 700 if shard_items == 1 else 13_000
    q, g = random_codes(17, bits, 1), random_codes(items, bits, 2, distinct=40)
    gallery = write_code_set(folder / "gallery", g, bits=bits, shard_items=shard_items)
    for k in (1, 50, 6_000):
        assert_equal(search_sets(q, gallery, k), rdh_ext.hamming_topk(q, g, k))


def test_all_codes_alike(folder: Path) -> None:
    """The first k of the gallery, whatever the cuts are."""
    gallery = write_code_set(folder / "gallery", torch.zeros(9_000, 2, dtype=torch.uint8), shard_items=5_000)
    for k in (3, 4_096, 4_097, 9_000):
        distances, indices = search_sets(torch.zeros(2, 2, dtype=torch.uint8), gallery, k)
        assert torch.equal(indices, torch.arange(k).expand(2, k))
        assert not distances.any()


@pytest.mark.parametrize("order", ["nearest first", "nearest last"])
def test_what_enters_late(folder: Path, order: str) -> None:
    """Later blocks change nothing, or everything."""
    g = rdh_ext.pack_codes(torch.arange(64) - 0.5 - torch.arange(20_000)[:, None] / 400)  # ever fewer ones
    g = g if order == "nearest first" else g.flip(0)
    q = torch.full((3, 8), 255, dtype=torch.uint8)
    gallery = write_code_set(folder / "gallery", g)
    for k in (1, 1_000, 20_000):
        assert_equal(search_sets(q, gallery, k), rdh_ext.hamming_topk(q, g, k))


@pytest.mark.parametrize("at_once", [1, 4_000, 100_000])
def test_some_queries_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    problem = make_problem(queries=31)
    query, gallery = write_problem(folder, problem, 24)
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    assert_equal(search_sets(query, gallery, 7), rdh_ext.hamming_topk(*problem[:2], 7))


def test_queries_of_all_kinds(folder: Path) -> None:
    problem = q, g, _, _ = make_problem()
    query, gallery = write_problem(folder, problem, 24)
    expected = rdh_ext.hamming_topk(q, g, 10)
    strided = q.repeat_interleave(2, dim=1)[:, ::2]
    assert not strided.is_contiguous()
    for asked in (query, query.path, str(query.path), q, strided):
        assert_equal(search_sets(asked, gallery.path, 10), expected)
    assert_equal(search_sets(query, str(gallery.path), np.int64(10)), expected)


def test_labels_are_not_read(folder: Path) -> None:
    problem = make_problem(classes=9)
    query, gallery = write_problem(folder, problem, 24)
    for path in gallery.path.glob("labels-*.npy"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert_equal(search_sets(query, gallery, 10), rdh_ext.hamming_topk(*problem[:2], 10))


class TestNothing:
    def test_more_neighbours_than_items(self, folder: Path) -> None:
        q, g = random_codes(5, 9, 1), random_codes(5_000, 9, 2)
        gallery = write_code_set(folder / "gallery", g, bits=9)
        for k in (5_000, 5_001, 2**63 - 1, 10**30):
            assert_equal(search_sets(q, gallery, k), rdh_ext.hamming_topk(q, g, k))

    def test_no_queries(self, folder: Path) -> None:
        query, gallery = write_problem(folder, make_problem(queries=0), 24)
        distances, indices = search_sets(query, gallery, 10)
        assert (distances.shape, distances.dtype) == ((0, 10), torch.int16)
        assert (indices.shape, indices.dtype) == ((0, 10), torch.int64)

    @pytest.mark.parametrize("name", ["gallery", "gallery.npz"])
    def test_no_items(self, folder: Path, name: str) -> None:
        gallery = write_code_set(folder / name, torch.zeros(0, 3, dtype=torch.uint8))
        distances, indices = search_sets(random_codes(4, 24, 1), gallery, 10)
        assert (distances.shape, distances.dtype) == ((4, 0), torch.int16)
        assert (indices.shape, indices.dtype) == ((4, 0), torch.int64)

    def test_shards_without_items(self, folder: Path) -> None:
        """No writer makes them; a manifest may have them."""
        g = random_codes(9_000, 24, 2, distinct=100)
        path = write_code_set(folder / "gallery", g, shard_items=5_000).path
        empty = write_code_set(folder / "empty.npz", g[:0]).path
        np.save(path / "nothing.npy", np.load(empty)["codes"])
        manifest = json.loads((path / "manifest.json").read_text())
        nothing = {"items": 0, "codes": {"file": "nothing.npy", "sha256": []}, "labels": None}
        first, second = manifest["shards"]
        manifest["shards"] = [nothing, first, nothing, nothing, second, nothing]
        (path / "manifest.json").write_text(json.dumps(manifest))
        q = random_codes(5, 24, 1)
        assert len(CodeSet(path)) == 9_000
        assert_equal(search_sets(q, path, 200), rdh_ext.hamming_topk(q, g, 200))


def test_distances_are_those_of_faiss(folder: Path) -> None:
    """Which items it takes at one distance is its own affair."""
    faiss = pytest.importorskip("faiss")
    q, g = random_codes(50, 61, 1), random_codes(10_000, 61, 2)
    gallery = write_code_set(folder / "gallery", g, bits=61, shard_items=3_000)
    index = faiss.IndexBinaryFlat(64)
    index.add(g.numpy())
    expected, theirs = index.search(q.numpy(), 40)
    distances, indices = search_sets(q, gallery, 40)
    assert np.array_equal(distances.numpy(), expected)
    for row in range(50):  # all items but those at the last distance are the same
        inner = expected[row] < expected[row, -1]
        assert set(indices[row].numpy()[inner]) == set(theirs[row, inner])


def test_progress_and_plan(folder: Path) -> None:
    query, gallery = write_problem(folder, make_problem(), 24)
    seen: list[tuple[int, int]] = []
    plans: list[MemoryPlan] = []
    search_sets(query, gallery, 10, progress=lambda *done: seen.append(done), on_plan=plans.append)
    ends = [0, *(block.first + block.items for block in gallery.blocks())]
    assert len(ends) > 8
    assert seen == [(end, 30_000) for end in ends]
    assert plans[0].ahead == 2
    assert plans[0].sums == 20 * (10 * 10 + 3)
    assert plans[0].blocks == 3 * 4_096 * 3  # without labels
    assert "results 1 MiB" in str(plans[0])


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"k": 0}, ValueError, r"search_sets: k must be an integer >= 1, got 0"),
            ({"k": 2.0}, TypeError, r"search_sets: k must be an integer >= 1, got float 2.0"),
            ({"query": "nowhere"}, CodeSetError, r"nowhere: no such code set"),
            ({"gallery": "nowhere"}, CodeSetError, r"nowhere: no such code set"),
            ({"query": torch.zeros(2, 3)}, TypeError, r"search_sets: query must be packed codes"),
            ({"query": torch.zeros(2, 4, dtype=torch.uint8)}, ValueError, r"query must be codes as wide as .*3 bytes"),
            ({"query": torch.full((2, 3), 255, dtype=torch.uint8)}, ValueError, r"zeros behind its 23 bits"),
            ({"query": torch.zeros(2, 3, dtype=torch.uint8, device="meta")}, ValueError, r"a tensor with values"),
            ({"device": "abacus"}, ValueError, r"search_sets: device must be a CPU or CUDA device that is here"),
            ({"device": "cuda:99"}, ValueError, r"search_sets: device must be a CPU or CUDA device that is here"),
            ({"device": "meta"}, ValueError, r"search_sets: device must be a CPU or CUDA device that is here"),
            ({"memory": 0}, ValueError, r"search_sets: memory must be a number of bytes, or None"),
            ({"memory": 1 << 20}, CodeSetError, r"search_sets: memory of 1 MiB is too little, .* are needed"),
            ({"group": "gloo"}, TypeError, r"search_sets: group must be a torch.distributed.ProcessGroup or None"),
        ],
    )
    def test_wrong_calls(self, folder: Path, options: dict[str, Any], error: type, message: str) -> None:
        gallery = write_code_set(folder / "gallery", torch.zeros(9, 3, dtype=torch.uint8), bits=23)
        asked: dict[str, Any] = {"query": torch.zeros(2, 3, dtype=torch.uint8), "gallery": gallery, "k": 1, **options}
        with pytest.raises(error, match=message):
            search_sets(**asked)

    def test_sets_of_other_bits(self, folder: Path) -> None:
        sets = [write_code_set(folder / f"{k}", torch.zeros(9, 3, dtype=torch.uint8), bits=k) for k in (23, 24)]
        with pytest.raises(CodeSetError, match=r"23 has 23 bits and .*24 has 24$"):
            search_sets(*sets, 1)

    def test_damaged_shard(self, folder: Path) -> None:
        query, gallery = write_problem(folder, make_problem(), 24)
        path = gallery.path / "codes-00002.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(DamagedShard, match=r"codes-00002\.npy"):
            search_sets(query, gallery, 10)


@pytest.mark.parametrize("k", [10, 2_000])
def test_memory_is_planned_and_kept(tmp_path: Path, k: int) -> None:
    g = torch.randint(0, 256, (5_000_000, 8), dtype=torch.uint8)
    gallery = write_code_set(tmp_path / "gallery", g)
    query = write_code_set(tmp_path / "query", g[:1_000])
    script = f"""{PEAK_MEMORY}
from rdh_ext.retrieval import search_sets
plans = []
search_sets({str(query.path)!r}, {str(gallery.path)!r}, {k}, on_plan=plans.append)
print(plans[0].total, plans[0].process, peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    planned, before, taken = map(int, done.stdout.split())
    assert before < taken <= planned


def test_plan_is_of_what_is_read(folder: Path) -> None:
    """Labels are not; and the plan of an evaluation is as it was."""
    _, gallery = write_problem(folder, make_problem(classes=9), 24)
    with_labels = plan("op", 20, gallery, copies=4, row=100, limit=None)
    without = plan("op", 20, gallery, copies=4, row=100, limit=None, labels=False)
    assert with_labels.sums == without.sums == 8_000
    assert without.blocks == 3 * 4_096 * 3
    assert with_labels.blocks == 3 * 4_096 * 5 + 4_096 * 2


@pytest.mark.skipif(not torch.distributed.is_available(), reason="a PyTorch without torch.distributed")
@pytest.mark.parametrize("world", [2, 3])
def test_ranks(folder: Path, world: int) -> None:
    """All have the result of one process; and all hear of the one that fails, and go on."""
    problem = q, g, _, _ = make_problem(gallery=30_001)
    query, gallery = write_problem(folder, problem, 24, shard_items=7_000)
    few = write_code_set(folder / "few", g[:3_000])
    none = write_code_set(folder / "none", g[:0])
    damaged = write_code_set(folder / "damaged", g, shard_items=7_000)
    path = damaged.path / "codes-00004.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    job = {"query": str(query.path), "gallery": str(gallery.path), "k": 10}
    jobs: dict[str, dict[str, Any]] = {
        "10": job,
        "all": {**job, "k": 40_000},
        "fewer blocks than ranks": {**job, "gallery": str(few.path), "k": 4_000},
        "no items": {**job, "gallery": str(none.path)},
        "damaged": {**job, "gallery": str(damaged.path)},
        "no query set on rank 1": {**job, "spoiled": {"1": {"query": "nowhere"}}},
        "after": {**job, "k": 1},
    }
    (folder / "jobs.json").write_text(json.dumps(jobs))
    ranks = run_ranks(folder, world=world, worker=WORKER)
    expected = {
        "10": rdh_ext.hamming_topk(q, g, 10),
        "all": rdh_ext.hamming_topk(q, g, 40_000),
        "fewer blocks than ranks": rdh_ext.hamming_topk(q, g[:3_000], 4_000),
        "no items": rdh_ext.hamming_topk(q, g[:0], 10),
        "after": rdh_ext.hamming_topk(q, g, 1),
    }
    for results in ranks:
        for name, found in expected.items():
            assert_equal((results[name]["distances"], results[name]["indices"]), found)
    done = [results["10"]["items"] for results in ranks]
    assert all(items == of for items, of in done)
    assert sum(items for items, _ in done) == 30_001  # every item by one rank
    last = world - 1
    for name, rank, words in (("damaged", last, "codes-00004.npy"), ("no query set on rank 1", 1, "nowhere")):
        errors = [results[name]["error"] for results in ranks]
        assert all(words in error for error in errors)
        assert [error.startswith(f"RankFailed: rank {rank} has failed") for error in errors] == [
            other != rank for other in range(world)
        ]


@pytest.mark.cuda
def test_on_cuda(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    problem = make_problem()
    query, gallery = write_problem(folder, problem, 24)
    for k in (1, 10, 20_000, 40_000):
        expected = rdh_ext.hamming_topk(*problem[:2], k)
        assert_equal(search_sets(query, gallery, k, device="cuda"), expected)
        assert_equal(search_sets(problem[0].cuda(), gallery, k), expected)
