"""An interrupted training that is taken up again ends as one that was not: weights, records, choice, codes, numbers."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import malicious
import pytest
import torch
from process_group import environment
from tiny_runs import (
    STEPS,
    assert_same,
    assert_same_run,
    forgetful,
    model_of,
    options_of,
    recipe_of,
    results_of,
    state_of,
    with_forgetful,
)

from rdh_ext.hashing import run as run_module
from rdh_ext.hashing.backbones import BACKBONES
from rdh_ext.hashing.data import DATASETS
from rdh_ext.hashing.methods import METHODS
from rdh_ext.hashing.recipe import Recipe
from rdh_ext.hashing.run import RunError, run

pytest.importorskip("lightning")

from rdh_ext.hashing.engine import HashingModule, checkpoints

__all__ = ["with_forgetful"]

Interrupt = Callable[[int], None]


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def _at_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints do not wait for the clock."""
    monkeypatch.setattr(checkpoints, "SAVE_SECONDS", 0.0)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Says before which step the next training ends."""
    steps: list[int] = []
    begin = HashingModule.on_train_batch_start

    def may_end(self: HashingModule, batch: Any, batch_idx: int) -> None:
        if steps and self.global_step == steps[0]:
            del steps[0]
            raise Interrupted
        begin(self, batch, batch_idx)

    monkeypatch.setattr(HashingModule, "on_train_batch_start", may_end)
    return steps.append


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe without an interrupt."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "forgetful", forgetful)
        patch.setattr(checkpoints, "SAVE_SECONDS", 0.0)
        run(recipe_of(), options_of(out))
    return out


def in_pieces(recipe: Recipe, out: Path, interrupt: Interrupt, *steps: int) -> None:
    """Trains until each of the steps, and then to the end."""
    for step in steps:
        interrupt(step)
        with pytest.raises(Interrupted):
            run(recipe, options_of(out, resume=True))
        assert not (out / "results.json").exists()
    run(recipe, options_of(out, resume=True))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_where_it_was(method: str, tmp_path: Path, interrupt: Interrupt) -> None:
    recipe = recipe_of(method={"name": method, "rdh": True, "tau": 0.9}, training__epochs=3)
    run(recipe, options_of(tmp_path / "whole"))
    in_pieces(recipe, tmp_path / "pieces", interrupt, 3)
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")


def test_more_than_one_interrupt(whole: Path, tmp_path: Path, interrupt: Interrupt) -> None:
    """In the first epoch, which leaves no checkpoint, twice in a later one, and after the last validation."""
    in_pieces(recipe_of(), tmp_path / "run", interrupt, 1, 3, 2, 7)
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": {"name": "hashnet", "continuation": "sqrt_step"}},
        {"method": {"name": "hashnet", "continuation": "sqrt_epoch"}},
        {"method": {"name": "dsdh", "update": "batch"}},
        {"method": {"name": "dagh", "anchors": 20}},
        {"precision": "64"},
        {"precision": "bf16", "preprocessing__augment": "crop_flip"},
        {"validation__items": 0},
        {"validation__every": 3, "validation__select": "last"},
    ],
    ids=["steeper by steps", "by epochs", "codes in steps", "anchors", "64", "bf16 and crops", "no validation", "last"],
)
def test_other_recipes(changes: dict[str, Any], tmp_path: Path, interrupt: Interrupt) -> None:
    if changes.get("preprocessing__augment") == "crop_flip":
        pytest.importorskip("torchvision")
    recipe = recipe_of(training__epochs=3, **changes)
    run(recipe, options_of(tmp_path / "whole"))
    in_pieces(recipe, tmp_path / "pieces", interrupt, 5)
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")


def test_a_method_is_told_where_the_training_is(
    tmp_path: Path, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each epoch once, before its first step, and each step; those of an epoch that is done again once more."""
    told: list[tuple[str, int]] = []

    class Listening(METHODS["hashnet"]):  # type: ignore[name-defined,misc]
        def begin(self, labels: torch.Tensor, steps: int) -> None:
            assert len(labels) == 80
            told.append(("begin", steps))

        def begin_epoch(self, epoch: int) -> None:
            told.append(("epoch", epoch))

        def begin_step(self, step: int) -> None:
            told.append(("step", step))

    monkeypatch.setitem(METHODS, "hashnet", Listening)
    epochs = [[("epoch", epoch), ("step", 2 * epoch), ("step", 2 * epoch + 1)] for epoch in range(4)]
    run(recipe_of(method={"name": "hashnet"}), options_of(tmp_path / "whole"))
    assert told == [("begin", 8), *epochs[0], *epochs[1], *epochs[2], *epochs[3]]
    told.clear()
    in_pieces(recipe_of(method={"name": "hashnet"}), tmp_path / "pieces", interrupt, 3)
    assert told == [("begin", 8), *epochs[0], *epochs[1][:2], ("begin", 8), *epochs[1], *epochs[2], *epochs[3]]


def test_workers_may_change(whole: Path, tmp_path: Path, interrupt: Interrupt) -> None:
    interrupt(5)
    with pytest.raises(Interrupted):
        run(recipe_of(), options_of(tmp_path / "run", workers=2))
    run(recipe_of(), options_of(tmp_path / "run", workers=0, resume=True))
    assert_same_run(whole, tmp_path / "run")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny_runs
from rdh_ext.hashing.backbones import BACKBONES
from rdh_ext.hashing.engine import checkpoints
from rdh_ext.hashing.run import run

BACKBONES["forgetful"] = tiny_runs.forgetful
checkpoints.SAVE_SECONDS = 0.0
rename, written = os.replace, []

def kill(half, path):  # in the place of that of all modules
    if str(path).endswith("last.ckpt"):
        written.append(path)
    if len(written) == 3:  # the third checkpoint is on the disk and has no name yet
        os.kill(os.getpid(), signal.SIGKILL)
    rename(half, path)

os.replace = kill
run(tiny_runs.recipe_of(), tiny_runs.options_of(Path(sys.argv[2])))
"""


def test_killed_while_it_writes_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(out)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert [path.name for path in out.glob(".last.ckpt.*")] != []
    assert state_of(out)["steps"] == 4
    assert (out / "metrics.csv").read_text().count("\n") == 1 + 6
    run(recipe_of(), options_of(out, resume=True))
    assert_same_run(whole, out)


def test_interrupted_after_the_training(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    for name in ("part_codes", "evaluate_sets", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(run_module, name, fail)
            with pytest.raises(OSError, match="full"):
                run(recipe_of(), options_of(tmp_path / "run", resume=True))
        assert state_of(tmp_path / "run")["steps"] == STEPS
    run(recipe_of(), options_of(tmp_path / "run", resume=True))
    assert_same_run(whole, tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("it was begun")

    monkeypatch.setattr(run_module, "prepare", fail)
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    again = run(recipe_of(), options_of(whole, resume=True))
    again.pop("seconds")
    assert again == results_of(whole)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def damaged(content: bytes, kind: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size)
    middle = largest.header_offset + largest.file_size // 2 + 100  # in the numbers of a tensor
    kinds = {
        "empty": b"",
        "cut off": content[:middle],
        "one byte short": content[:-1],
        "another byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "text": b"years of work",
    }
    return kinds[kind]


@pytest.mark.parametrize("kind", ["empty", "cut off", "one byte short", "another byte", "text"])
def test_damage_is_seen(kind: str, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert checkpoints.steps_in(path) is None
    path.write_bytes((whole / "last.ckpt").read_bytes())
    assert checkpoints.steps_in(path) == STEPS
    path.write_bytes(damaged(path.read_bytes(), kind))
    assert checkpoints.steps_in(path) is None


@pytest.mark.parametrize("content", [[1, 2], {"global_step": "many"}, {}, torch.zeros(3), 5], ids=str)
def test_other_files_of_torch_are_none(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "last.ckpt")
    assert checkpoints.steps_in(tmp_path / "last.ckpt") is None


@pytest.mark.parametrize("kind", ["cut off", "another byte"])
def test_a_damaged_checkpoint_begins_anew_and_says_so(
    kind: str, whole: Path, tmp_path: Path, interrupt: Interrupt
) -> None:
    out = tmp_path / "run"
    interrupt(5)
    with pytest.raises(Interrupted):
        run(recipe_of(), options_of(out))
    (out / "last.ckpt").write_bytes(damaged((out / "last.ckpt").read_bytes(), kind))
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged.* begins anew"):
        run(recipe_of(), options_of(out, resume=True))
    assert_same_run(whole, out)


def test_a_missing_checkpoint_begins_anew(whole: Path, tmp_path: Path, interrupt: Interrupt) -> None:
    out = tmp_path / "run"
    interrupt(7)
    with pytest.raises(Interrupted):
        run(recipe_of(), options_of(out))
    (out / "last.ckpt").unlink()
    run(recipe_of(), options_of(out, resume=True))
    assert_same_run(whole, out)


def test_a_checkpoint_runs_no_code(whole: Path, tmp_path: Path, interrupt: Interrupt) -> None:
    out = tmp_path / "run"
    interrupt(5)
    with pytest.raises(Interrupted):
        run(recipe_of(), options_of(out))
    content = torch.load(out / "last.ckpt", weights_only=True)
    torch.save({**content, "evil": malicious.Evil()}, out / "last.ckpt")
    malicious.RAN.clear()
    with pytest.warns(UserWarning, match="begins anew"):
        run(recipe_of(), options_of(out, resume=True))
    assert malicious.RAN == []
    assert_same_run(whole, out)


def test_other_data_are_refused(tmp_path: Path, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch) -> None:
    out, load = tmp_path / "run", DATASETS["digits"]
    interrupt(5)
    with pytest.raises(Interrupted):
        run(recipe_of(), options_of(out))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def other(seed: int = 0, *, query_per_class: int = 5, train_per_class: int = 8) -> Any:
        return load(seed + 1, query_per_class=query_per_class, train_per_class=train_per_class)

    with monkeypatch.context() as patch:
        patch.setitem(DATASETS, "digits", other)
        with pytest.raises(RunError, match="begun with other data"):
            run(recipe_of(), options_of(out, resume=True))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    run(recipe_of(), options_of(out, resume=True))


def test_epochs_that_are_far_apart_in_time_alone_have_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the last one."""
    monkeypatch.setattr(checkpoints, "SAVE_SECONDS", 10.0)
    now, written, replace = [0.0], [], checkpoints.os.replace
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    def note(source: Any, target: Any) -> None:
        if str(target).endswith("last.ckpt"):
            written.append(now[0])
        replace(source, target)

    monkeypatch.setattr(checkpoints.os, "replace", note)
    begin = HashingModule.on_train_epoch_start

    def later(self: HashingModule) -> None:
        now[0] += 4.0
        begin(self)

    monkeypatch.setattr(HashingModule, "on_train_epoch_start", later)
    results = run(recipe_of(training__epochs=7), options_of(tmp_path / "run"))
    assert written == [12.0, 24.0, 28.0]
    assert results["seconds"] == 28.0


def test_time_before_an_interrupt_counts(tmp_path: Path, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch) -> None:
    now, begin = [0.0], HashingModule.on_train_epoch_start
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    def later(self: HashingModule) -> None:
        now[0] += 1.0
        begin(self)

    monkeypatch.setattr(HashingModule, "on_train_epoch_start", later)
    interrupt(5)
    with pytest.raises(Interrupted):
        run(recipe_of(), options_of(tmp_path / "run"))
    now[0] += 1000.0
    assert run(recipe_of(), options_of(tmp_path / "run", resume=True))["seconds"] == 4.0


def test_another_seed_is_another_training(whole: Path) -> None:
    """What is compared above is something."""
    other = whole.parent / "other"
    run(recipe_of(seed=1), options_of(other))
    with pytest.raises(AssertionError):
        assert_same(model_of(whole)["backbone"], model_of(other)["backbone"])
    assert (whole / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes()
