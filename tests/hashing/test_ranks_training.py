"""A training by two processes is that by one: records, weights, choice, codes, numbers, up to rounding."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from process_group import environment
from tiny_runs import assert_same_run, model_of, options_of, results_of

from rdh_ext.hashing.logs import read_steps
from rdh_ext.hashing.ranks import barrier, from_first, rank_and_count
from rdh_ext.hashing.run import run

pytest.importorskip("lightning")
if not torch.distributed.is_available():
    pytest.skip("a PyTorch without torch.distributed", allow_module_level=True)

from train_worker import recipes

WORLD = 2
WORKER = Path(__file__).with_name("train_worker.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have written."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(WORLD)]
    paths = environment()
    paths["PYTHONPATH"] = f"{paths['PYTHONPATH']}:{WORKER.parents[1]}:{WORKER.parent}"
    ended = subprocess.run([*command, str(WORKER), str(folder)], env=paths, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """What each of them was told."""
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by one process."""
    folder = tmp_path_factory.mktemp("one")
    for name, recipe in recipes().items():
        run(recipe, options_of(folder / name))
    return folder


@pytest.mark.parametrize("name", recipes())
class TestTwoAreOne:
    def test_records(self, name: str, folder: Path, alone: Path) -> None:
        """Losses of the whole batch, and bits of all ranks together."""
        ours, theirs = (read_steps(each / name) for each in (folder, alone))
        assert len(ours) == len(theirs) == 6
        for one, other in zip(ours, theirs, strict=True):
            assert one == pytest.approx(other, rel=1e-9, abs=1e-12)
            assert (one.dead, one.saturated, one.bits) == (other.dead, other.saturated, 31 * 12)
        assert ours[-1].saturated > 10
        if name in ("hashnet", "dpsh"):  # the others have few here
            assert sum(record.dead for record in ours) > 20

    def test_weights(self, name: str, folder: Path, alone: Path) -> None:
        ours, theirs = (model_of(each / name) for each in (folder, alone))
        assert ours["chosen"] == pytest.approx(theirs["chosen"])
        for key, value in ours["backbone"].items():
            assert value.dtype == torch.float64
            torch.testing.assert_close(value, theirs["backbone"][key], rtol=1e-9, atol=1e-11)

    def test_numbers(self, name: str, folder: Path, alone: Path) -> None:
        ours, theirs = (results_of(each / name) for each in (folder, alone))
        assert ours["validation"] == theirs["validation"]
        for key in ("map", "ap", "map_at_100", "epoch", "exact_zeros", "items", "recipe", "data", "curves"):
            assert ours[key] == theirs[key], key
        for role in ("query", "gallery"):
            for each in ("codes-00000.npy", "labels-00000.npy"):
                path = Path(name) / "codes" / role / each
                assert (folder / path).read_bytes() == (alone / path).read_bytes()

    def test_both_are_told_what_is_in_the_file(self, name: str, folder: Path, ranks: list[dict[str, Any]]) -> None:
        results = json.loads((folder / name / "results.json").read_text())
        assert math.isfinite(results["map"])
        for told in ranks:
            assert json.loads(json.dumps(told[name])) == results


def test_the_first_rank_writes(folder: Path, ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["written"] == [str(folder / name / "results.json") for name in recipes()]
    assert ranks[1]["written"] == []
    if pytest.importorskip("tensorboard"):
        assert len(list((folder / "dpsh" / "tensorboard").iterdir())) == 1
    left = [path.name for path in (folder / "hashnet").iterdir() if path.name.startswith(".")]
    assert left == []


def test_both_are_refused_alike(folder: Path, ranks: list[dict[str, Any]]) -> None:
    for told in ranks:
        assert told["again"].startswith(f"RunError: {folder / 'hashnet'} holds this run, finished; add --resume")
        assert told["small"].startswith(f"RunError: {folder / 'hashnet'} holds another run")
        assert told["finished"] == ranks[0]["hashnet"]


def test_an_interrupted_one_goes_on(folder: Path, ranks: list[dict[str, Any]]) -> None:
    assert all(told["interrupted"] for told in ranks)
    assert_same_run(folder / "whole", folder / "pieces")


def test_alone_there_is_one_rank() -> None:
    assert rank_and_count() == (0, 1)
    barrier()
    assert from_first(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        from_first(lambda: 1 // 0)
