"""Evaluation over galleries on disk: the numbers of codes in memory, bit for bit, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import PEAK_MEMORY, Problem, make_problem, write_in_parts, write_problem
from process_group import run_ranks
from torch import Tensor

import rdh_ext
from rdh_ext.retrieval import CodeSetError, DamagedShard, EvaluationResult, evaluate_sets, write_code_set
from rdh_ext.retrieval._ranking import LabelledCodes
from rdh_ext.retrieval.sets.npy import header_of
from rdh_ext.retrieval.streaming import state

BITS = 24
WORKER = Path(__file__).parents[1] / "evaluate_sets_worker.py"


def in_memory(problem: Problem, bits: int = BITS, **options: Any) -> EvaluationResult:
    q, g, q_labels, g_labels = problem
    return rdh_ext.evaluate(q, g, q_labels, g_labels, bits=bits, **options)


def assert_equal(got: EvaluationResult, expected: EvaluationResult) -> None:
    assert torch.equal(got.ap, expected.ap)
    assert got.map == expected.map
    assert torch.equal(got.histogram, expected.histogram)
    assert got.to_dict() == expected.to_dict()


@pytest.mark.parametrize("classes", [None, 9])
@pytest.mark.parametrize("ties", ["expected", "stable", "optimistic", "pessimistic"])
@pytest.mark.parametrize("topk", [None, 1, 100, 9_999, 10**12])
def test_equals_codes_in_memory(folder: Path, classes: int | None, ties: str, topk: int | None) -> None:
    problem = make_problem(gallery=10_000, classes=classes)
    query, gallery = write_problem(folder, problem, BITS, shard_items=5_000)
    for denominator in ("found", "relevant", "min"):
        options: dict[str, Any] = {"topk": topk, "ties": ties, "denominator": denominator}
        assert_equal(evaluate_sets(query, gallery, **options), in_memory(problem, **options))


@pytest.mark.parametrize("bits", [1, 7, 64, 300])
@pytest.mark.parametrize("ties", ["expected", "stable"])
def test_numbers_of_bits(folder: Path, bits: int, ties: str) -> None:
    problem = make_problem(queries=40, gallery=9_000, bits=bits)
    query, gallery = write_problem(folder, problem, bits, shard_items=5_000)
    assert_equal(evaluate_sets(query, gallery, ties=ties), in_memory(problem, bits, ties=ties))


@pytest.mark.parametrize("classes", [64, 5000])
def test_many_classes(folder: Path, classes: int) -> None:
    problem = make_problem(gallery=5_000, classes=classes)
    query, gallery = write_problem(folder, problem, BITS, shard_items=3_000)
    for ties in ("expected", "stable"):
        assert_equal(evaluate_sets(query, gallery, ties=ties), in_memory(problem, ties=ties))


def test_shards_do_not_matter(folder: Path) -> None:
    problem = make_problem()
    query, _ = write_problem(folder, problem, BITS)
    expected = in_memory(problem, ties="stable")
    for number, (sizes, shard_items) in enumerate(
        (([30_000], 30_000), ([1, 29_999], 777), ([0, 15_000, 15_000], 4_097))
    ):
        gallery = write_in_parts(folder / f"shards-{number}", problem, BITS, sizes, shard_items)
        assert_equal(evaluate_sets(query, gallery, ties="stable"), expected)


@pytest.mark.parametrize("ties", ["expected", "stable"])
@pytest.mark.parametrize(("queries", "gallery"), [(0, 5_000), (3, 0), (0, 0), (1, 1)])
def test_nothing_there(folder: Path, ties: str, queries: int, gallery: int) -> None:
    problem = make_problem(queries, gallery)
    sets = write_problem(folder, problem, BITS)
    assert_equal(evaluate_sets(*sets, ties=ties), in_memory(problem, ties=ties))


def test_a_shard_without_items(folder: Path) -> None:
    problem = make_problem(gallery=9_000)
    query, gallery = write_problem(folder, problem, BITS, shard_items=4_500)
    fields = json.loads((gallery.path / "manifest.json").read_text())
    nothing = {"items": 0, "codes": {"file": "none.npy", "sha256": []}, "labels": {"file": "none-l.npy", "sha256": []}}
    fields["shards"].insert(1, nothing)
    (gallery.path / "none.npy").write_bytes(header_of(np.dtype(np.uint8), (0, 3)))
    (gallery.path / "none-l.npy").write_bytes(header_of(np.dtype(np.uint8), (0,)))
    (gallery.path / "manifest.json").write_text(json.dumps(fields))
    assert_equal(evaluate_sets(query, gallery.path), in_memory(problem))


def test_what_stable_ties_do_not_keep(folder: Path) -> None:
    problem = make_problem(gallery=5_000)
    result = evaluate_sets(*write_problem(folder, problem, BITS), ties="stable")
    expected = in_memory(problem, ties="stable")
    assert result.precision_within_radius(5) == expected.precision_within_radius(5)
    assert torch.equal(result.pr_curve("radius").recall, expected.pr_curve("radius").recall)
    for ask in (lambda: result.precision_at(5), lambda: result.ndcg(), lambda: result.pr_curve("recall")):
        with pytest.raises(ValueError, match="the order of the gallery is not kept"):
            ask()


class TestSetsThatDoNotFit:
    def check(self, folder: Path, problem: Problem, other: Problem, bits: tuple[int, int], message: str) -> None:
        query = write_problem(folder / "a", problem, bits[0])[0]
        gallery = write_problem(folder / "b", other, bits[1])[1]
        with pytest.raises(CodeSetError) as caught:
            evaluate_sets(query, gallery)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_bits(self, folder: Path) -> None:
        problems = make_problem(gallery=10), make_problem(gallery=10, bits=32)
        self.check(folder, *problems, (24, 32), "has 24 bits and")

    def test_kinds_of_labels(self, folder: Path) -> None:
        problems = make_problem(gallery=10), make_problem(gallery=10, classes=5)
        self.check(folder, *problems, (24, 24), "has class ids and")

    def test_numbers_of_classes(self, folder: Path) -> None:
        problems = make_problem(gallery=10, classes=6), make_problem(gallery=10, classes=5)
        self.check(folder, *problems, (24, 24), "has 6 labels, multi-hot and")

    def test_no_labels(self, folder: Path) -> None:
        q, g, labels, _ = make_problem(gallery=10)
        query, gallery = write_code_set(folder / "q", q, labels), write_code_set(folder / "g", g)
        with pytest.raises(CodeSetError, match="labels are needed"):
            evaluate_sets(query, gallery)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"topk": 0}, ValueError, "topk"),
        ({"ties": "random"}, ValueError, "ties"),
        ({"denominator": "all"}, ValueError, "denominator"),
        ({"empty": "drop"}, ValueError, "empty"),
        ({"device": "tpu"}, ValueError, "device"),
        ({"memory": 0}, ValueError, "memory"),
        ({"memory": "1GB"}, TypeError, "memory"),
        ({"resume": 1}, TypeError, "resume"),
        ({"group": 5}, TypeError, "group"),
    ],
)
def test_wrong_arguments(folder: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    sets = write_problem(folder, make_problem(gallery=10), BITS)
    with pytest.raises(error, match=message) as caught:
        evaluate_sets(*sets, **options)
    assert str(caught.value).startswith("evaluate_sets: ")


class Interrupt(Exception):
    """Stands for anything that may happen."""


class StopAt:
    """A progress function that ends the work in a stage after some items."""

    def __init__(self, stage: str, items: int) -> None:
        self.stage, self.items = stage, items
        self.seen: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.seen.append((stage, done, total))
        if stage == self.stage and done >= self.items:
            raise Interrupt


class TestResume:
    @pytest.mark.parametrize("stage", ["count", "rank"])
    @pytest.mark.parametrize("items", [1, 13_000, 26_000])
    def test_goes_on_where_it_was(self, folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str, items: int) -> None:
        monkeypatch.setattr(state, "SEGMENTS", 3)
        problem = make_problem()
        sets = write_problem(folder, problem, BITS)
        partial = folder / "partial"
        stop = StopAt(stage, items)
        with pytest.raises(Interrupt):
            evaluate_sets(*sets, ties="stable", state=partial, progress=stop)
        again = StopAt("", 0)
        result = evaluate_sets(*sets, ties="stable", state=partial, resume=True, progress=again)
        assert_equal(result, in_memory(problem, ties="stable"))
        first = next(done for name, done, _ in again.seen if name == stage)
        assert first == stop.seen[-1][1] >= items  # nothing was counted twice
        assert not partial.exists()

    def test_interrupted_within_a_block(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is saved then are the sums of whole blocks, although one of them was being added."""
        monkeypatch.setattr(state, "SEGMENTS", 3)
        problem = make_problem()
        sets = write_problem(folder, problem, BITS)
        partial = folder / "partial"
        sum_of_piece = LabelledCodes.stable_precision_sum
        calls = []

        class Interrupted:
            def cpu(self) -> Tensor:
                raise Interrupt

        def sum_without_count(*arguments: Any) -> tuple[Tensor, Any]:
            calls.append(arguments)
            part, count = sum_of_piece(*arguments)
            return part, count if len(calls) < 3 else Interrupted()

        with monkeypatch.context() as patch:
            patch.setattr(LabelledCodes, "stable_precision_sum", sum_without_count)
            with pytest.raises(Interrupt):
                evaluate_sets(*sets, ties="stable", state=partial)
        assert list(partial.glob("rank-*.npz"))
        assert_equal(evaluate_sets(*sets, ties="stable", state=partial, resume=True), in_memory(problem, ties="stable"))

    def test_a_state_is_not_taken_up_by_accident(self, folder: Path) -> None:
        sets = write_problem(folder, make_problem(), BITS)
        partial = folder / "partial"
        with pytest.raises(Interrupt):
            evaluate_sets(*sets, state=partial, progress=StopAt("count", 5_000))
        with pytest.raises(CodeSetError, match="add --resume"):
            evaluate_sets(*sets, state=partial)
        other = write_problem(folder / "other", make_problem(seed=1), BITS)
        with pytest.raises(CodeSetError, match="another query and gallery"):
            evaluate_sets(*other, state=partial, resume=True)

    def test_counts_serve_other_questions(self, folder: Path) -> None:
        """The histogram does not depend on ties, depth and denominators."""
        problem = make_problem()
        sets = write_problem(folder, problem, BITS)
        partial = folder / "partial"
        for topk in (100, 200):
            with pytest.raises(Interrupt):
                evaluate_sets(*sets, topk, "stable", state=partial, resume=True, progress=StopAt("rank", 20_000))
        seen = StopAt("", 0)
        result = evaluate_sets(*sets, 100, "stable", "min", state=partial, resume=True, progress=seen)
        assert_equal(result, in_memory(problem, topk=100, ties="stable", denominator="min"))
        assert [entry for entry in seen.seen if entry[0] == "count"] == [("count", 30_000, 30_000)]
        assert next(done for name, done, _ in seen.seen if name == "rank") >= 20_000

    def test_damaged_state_is_counted_again(self, folder: Path) -> None:
        problem = make_problem()
        sets = write_problem(folder, problem, BITS)
        partial = folder / "partial"
        with pytest.raises(Interrupt):
            evaluate_sets(*sets, state=partial, progress=StopAt("count", 25_000))
        files = sorted(partial.glob("count-*.npz"))
        assert len(files) > 3
        files[0].write_bytes(b"")
        content = bytearray(files[1].read_bytes())
        content[len(content) // 2] ^= 1
        files[1].write_bytes(content)
        files[2].unlink()
        assert_equal(evaluate_sets(*sets, state=partial, resume=True), in_memory(problem))

    @pytest.mark.parametrize("ties", ["expected", "stable"])
    def test_killed_at_any_moment(self, folder: Path, ties: str) -> None:
        """kill -9, again and again, until it comes through."""
        problem = make_problem(gallery=40_000)
        query, gallery = write_problem(folder, problem, BITS)
        partial = folder / "partial"
        script = f"""
import sys, time, torch
from rdh_ext.retrieval import evaluate_sets
from rdh_ext.retrieval._ranking import LabelledCodes
from rdh_ext.retrieval.streaming import state
state.SAVE_SECONDS = 0.0
def progress(stage, done, total):
    print(stage, done, flush=True)
    time.sleep(0.02)
result = evaluate_sets({str(query.path)!r}, {str(gallery.path)!r}, ties={ties!r}, state={str(partial)!r}, resume=True,
                       progress=progress)
torch.save((result.ap, result.histogram), {str(folder / "result.pt")!r})
"""
        patience, starts = 0.1, []
        for _ in range(40):
            process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            line = process.stdout.readline()
            starts.append(line)
            time.sleep(patience)
            process.send_signal(signal.SIGKILL)
            process.stdout.close()
            if process.wait(60) == 0:
                break
            patience += 0.2
        assert process.returncode == 0
        assert len(starts) >= 3, "it was never killed"
        assert any(int(line.split()[1]) > 0 for line in starts)
        ap, histogram = torch.load(folder / "result.pt")
        expected = in_memory(problem, ties=ties)
        assert torch.equal(ap, expected.ap)
        assert torch.equal(histogram, expected.histogram)
        assert not partial.exists()

    def test_a_damaged_shard_loses_nothing(self, folder: Path) -> None:
        problem = make_problem()
        query, gallery = write_problem(folder, problem, BITS)
        path = gallery.path / "codes-00002.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        partial = folder / "partial"
        with pytest.raises(DamagedShard, match=r"codes-00002\.npy"):
            evaluate_sets(query, gallery, state=partial)
        path.write_bytes(whole)
        seen = StopAt("", 0)
        assert_equal(evaluate_sets(query, gallery, state=partial, resume=True, progress=seen), in_memory(problem))
        assert seen.seen[0] == ("count", 26_192, 30_000)  # all but the last block of that shard, and what follows

    def test_a_shard_replaced_on_the_way(self, folder: Path) -> None:
        """By the bytes of another, as many: what was opened is not what is read."""
        problem = make_problem()
        query, gallery = write_problem(folder, problem, BITS)
        _, other = write_problem(folder / "other", make_problem(seed=1), BITS)

        content = (other.path / "codes-00003.npy").read_bytes()

        def replace(stage: str, done: int, total: int) -> None:
            if done > 5_000:
                with (gallery.path / "codes-00003.npy").open("r+b") as file:  # not for a moment shorter than it was
                    file.write(content)

        with pytest.raises(DamagedShard, match=r"codes-00003\.npy.*are not those that were written"):
            evaluate_sets(query, gallery, progress=replace)


def test_memory_is_planned_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # blocks as large as they are
    g = torch.randint(0, 256, (3_000_000, 8), dtype=torch.uint8)
    gallery = write_code_set(folder / "gallery", g, torch.randint(0, 9, (3_000_000,)))
    query = write_code_set(folder / "query", g[:10], torch.arange(10) % 9)
    with pytest.raises(CodeSetError, match="too little"):
        evaluate_sets(query, gallery, memory=10 << 20)
    script = f"""{PEAK_MEMORY}
import sys
from rdh_ext.retrieval import evaluate_sets
plans = []
evaluate_sets({str(query.path)!r}, {str(gallery.path)!r}, memory=int(sys.argv[1]), on_plan=plans.append, ties="stable")
print(plans[0].total, plans[0].ahead, peak_memory())
"""
    plans: list[tuple[int, int]] = []
    for less in (0, 20 << 20, 45 << 20):  # a block is 26 MiB
        limit = 1 << 40 if not plans else plans[0][0] - less
        done = subprocess.run([sys.executable, "-c", script, str(limit)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        planned, ahead, taken = map(int, done.stdout.split())
        assert taken <= planned <= limit
        plans.append((planned, ahead))
    assert [ahead for _, ahead in plans] == [2, 1, 0]  # with less memory fewer blocks are read ahead


def ranks(folder: Path, world: int, jobs: list[dict[str, Any]]) -> list[list[dict[str, Any]] | None]:
    """What every rank has saved; None of one that died."""
    here = folder / f"ranks-{time.monotonic_ns()}"
    here.mkdir()
    (here / "jobs.json").write_text(json.dumps(jobs))
    return run_ranks(here, world=world, worker=WORKER, may_die=True)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="a PyTorch without torch.distributed")
class TestRanks:
    @pytest.mark.parametrize("world", [2, 3, 7])
    def test_equals_one_process(self, folder: Path, world: int) -> None:
        jobs, expected = [], []
        for classes in (None, 9):
            problem = make_problem(classes=classes)
            query, gallery = write_problem(folder / str(classes), problem, BITS, shard_items=7_000)
            for ties, topk in (("expected", None), ("stable", None), ("stable", 500)):
                options: dict[str, Any] = {"ties": ties, "topk": topk}
                jobs.append({"query": str(query.path), "gallery": str(gallery.path), **options})
                expected.append(in_memory(problem, **options))
        for results in ranks(folder, world, jobs):
            assert results is not None
            for got, one in zip(results, expected, strict=True):
                assert torch.equal(got["ap"], one.ap)
                assert torch.equal(got["histogram"], one.histogram)
                assert got["map"] == one.map

    def test_more_ranks_than_blocks(self, folder: Path) -> None:
        problem = make_problem(gallery=5_000)
        query, gallery = write_problem(folder, problem, BITS)
        [first, *_] = ranks(folder, 3, [{"query": str(query.path), "gallery": str(gallery.path), "ties": "stable"}])
        assert first is not None
        assert torch.equal(first[0]["ap"], in_memory(problem, ties="stable").ap)

    def test_a_damaged_shard_stops_all(self, folder: Path) -> None:
        query, gallery = write_problem(folder, make_problem(), BITS)
        path = gallery.path / "codes-00003.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        results = ranks(folder, 3, [{"query": str(query.path), "gallery": str(gallery.path)}])
        errors = [result[0]["error"] for result in results if result is not None]
        assert len(errors) == 3
        assert all("codes-00003.npy" in error for error in errors)
        assert [error.split(":")[0] for error in errors] == ["RankFailed", "RankFailed", "DamagedShard"]

    @pytest.mark.parametrize("stage", ["count", "rank"])
    def test_a_rank_that_dies(self, folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
        """The others say so, and any number of ranks goes on."""
        problem = make_problem()
        query, gallery = write_problem(folder, problem, BITS)
        partial = folder / "partial"
        job = {"query": str(query.path), "gallery": str(gallery.path), "ties": "stable", "state": str(partial)}
        dead = ranks(folder, 3, [{**job, "dies_at": {"rank": 1, "stage": stage}}])
        assert dead[1] is None
        for result in (dead[0], dead[2]):
            assert result is not None
            assert result[0]["error"].startswith("RankFailed: rank ")
            assert "--resume" in result[0]["error"]
        assert partial.is_dir()
        seen = StopAt("", 0)
        expected = in_memory(problem, ties="stable")
        again = shutil.copytree(partial, folder / "copy")
        assert_equal(evaluate_sets(query, gallery, ties="stable", state=again, resume=True, progress=seen), expected)
        assert next(done for name, done, _ in seen.seen if name == stage) > 10_000
        for result in ranks(folder, 2, [{**job, "resume": True}]):
            assert result is not None
            assert torch.equal(result[0]["ap"], expected.ap)
        assert not partial.exists()


@pytest.mark.cuda
@pytest.mark.parametrize("classes", [None, 9])
@pytest.mark.parametrize("ties", ["expected", "stable"])
def test_on_cuda(folder: Path, classes: int | None, ties: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    problem = make_problem(classes=classes)
    sets = write_problem(folder, problem, BITS)
    assert_equal(evaluate_sets(*sets, ties=ties, device="cuda"), in_memory(problem, ties=ties))
