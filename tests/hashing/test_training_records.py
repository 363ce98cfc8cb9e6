"""Records of steps: right, in one file whatever happened, in TensorBoard, and for nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import options_of, recipe_of, with_forgetful
from torch import nn

from rdh_ext.hashing.data import load_digits
from rdh_ext.hashing.history import Schedule, StepRecord, from_csv, to_csv
from rdh_ext.hashing.logs import METRICS, StepLog, read_epochs, read_steps
from rdh_ext.hashing.methods import METHODS
from rdh_ext.hashing.run import run

pytest.importorskip("lightning")

from rdh_ext.hashing.engine import Settings, module, train

__all__ = ["with_forgetful"]


def records(first: int, last: int) -> list[StepRecord]:
    return [
        StepRecord(step // 3, step, 1 / (step + 3), 0.1 * step, 1e-17, step, 2 * step, 512, 0.1 / (step + 1))
        for step in range(first, last)
    ]


class TestFile:
    def test_in_pieces(self, tmp_path: Path) -> None:
        with StepLog(tmp_path) as log:
            for first, last in ((0, 1), (1, 7), (7, 9)):
                log.add(records(first, last))
                assert read_steps(tmp_path) == records(0, last)  # what is added is on the disk
        assert (tmp_path / METRICS).read_text() == to_csv(records(0, 9))
        assert [record.epoch for record in read_epochs(tmp_path)] == [0, 1, 2]

    @pytest.mark.parametrize("cut", [0, 1, 30])
    def test_going_on_where_the_training_does(self, cut: int, tmp_path: Path) -> None:
        """Lines of steps that are done again are dropped, also one that was not written to its end."""
        with StepLog(tmp_path) as log:
            log.add(records(0, 8))
        path = tmp_path / METRICS
        path.write_bytes(path.read_bytes()[: -cut or None])
        assert read_steps(tmp_path) == records(0, 8 if cut == 0 else 7)
        with StepLog(tmp_path, steps=6) as log:
            assert read_steps(tmp_path) == records(0, 6)
            log.add(records(6, 10))
        assert path.read_text() == to_csv(records(0, 10))

    def test_beginning_anew(self, tmp_path: Path) -> None:
        with StepLog(tmp_path) as log:
            log.add(records(0, 8))
        with StepLog(tmp_path):
            assert read_steps(tmp_path) == []

    def test_numbers_survive(self) -> None:
        odd = [StepRecord(0, 0, float("inf"), float("nan"), -0.0, 0, 2**40, 2**50, 1 / 3)]
        [again] = from_csv(to_csv(odd))
        assert repr(again) == repr(odd[0])
        assert from_csv(to_csv([])) == []

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "the first line must name epoch, step, loss"),
            ("epoch,loss\n1,2\n", "the first line must name .* got 'epoch,loss'"),
            (to_csv(records(0, 2)).replace("512", "512,7"), "a line must have 9 values, got '0,0,"),
            (to_csv(records(0, 2)).replace("512", "many"), "many"),
        ],
    )
    def test_another_file_is_named(self, content: str, message: str, tmp_path: Path) -> None:
        (tmp_path / METRICS).write_text(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_steps(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path / METRICS}: ")
        assert read_steps(tmp_path / "nowhere") == []


class TestTensorBoard:
    @staticmethod
    def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
        accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        return {
            name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]
        }

    def test_it_has_what_the_run_has(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        results = run(recipe_of(), options_of(tmp_path, tensorboard=True))
        seen = self.scalars(tmp_path / "tensorboard")
        names = ("loss", "similarity", "quantization", "dead", "saturated", "lr")
        assert set(seen) == {*(f"train/{name}" for name in names), "validation/map"}
        for name in names:
            values = [(record.step, getattr(record, name)) for record in read_steps(tmp_path)]
            assert [step for step, _ in seen[f"train/{name}"]] == [step for step, _ in values]
            assert [value for _, value in seen[f"train/{name}"]] == pytest.approx([value for _, value in values])
        assert [step for step, _ in seen["validation/map"]] == [2, 4, 6, 8]
        maps = [each["map"] for each in results["validation"]]
        assert [value for _, value in seen["validation/map"]] == pytest.approx(maps)

    def test_steps_that_are_done_again_are_there_once(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        with StepLog(tmp_path, tensorboard=True) as log:
            log.add([each._replace(loss=100.0) for each in records(0, 8)])
        with StepLog(tmp_path, steps=6, tensorboard=True) as log:
            log.add(records(6, 10))
        seen = self.scalars(tmp_path / "tensorboard")["train/loss"]
        assert [step for step, _ in seen] == list(range(10))
        assert [value == 100.0 for _, value in seen] == [True] * 6 + [False] * 4

    def test_without_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run(recipe_of(training__epochs=1), options_of(tmp_path / "not wanted"))
        assert not (tmp_path / "not wanted" / "tensorboard").exists()
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        with pytest.warns(UserWarning, match=r"tensorboard is not installed.*rdh_ext\[train\].*metrics\.csv alone"):
            run(recipe_of(training__epochs=1), options_of(tmp_path / "missing", tensorboard=True))
        assert not (tmp_path / "missing" / "tensorboard").exists()
        assert (tmp_path / "missing" / METRICS).read_bytes() == (tmp_path / "not wanted" / METRICS).read_bytes()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Which files of the harness, and how often, ask tensors for numbers: what waits for the device, were it one.

    The operators have tests of their own: they look at values on the CPU alone.
    """
    counted: Counter[str] = Counter()

    def note(name: str) -> None:
        read = getattr(torch.Tensor, name)

        def counting(self: torch.Tensor, *arguments: Any) -> Any:
            frame = sys._getframe(1)
            file = Path(frame.f_code.co_filename)
            if {"rdh_ext", "hashing"} <= set(file.parts):
                counted[file.name] += 1
            return read(self, *arguments)

        monkeypatch.setattr(torch.Tensor, name, counting)

    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "numpy", "cpu"):
        note(name)
    return counted


class TestCost:
    def fit(self, name: str, steps: int, on_records: Callable[[list[StepRecord]], None]) -> None:
        part = load_digits(train_per_class=8).train
        train(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8)),
            METHODS[name](8, rdh=True),
            part,
            Schedule(epochs=steps // 8, lr=0.01, batch_size=10),
            seed=0,
            settings=Settings(progress=False),
            on_records=on_records,
        )

    @pytest.mark.parametrize("name", ["hashnet", "dpsh", "dhn"])
    def test_records_wait_for_nothing(self, name: str, reads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """The engine reads from the device when it gives records out, and neither it nor a method does in a step."""
        pieces: list[list[StepRecord]] = []
        self.fit(name, 8, pieces.append)
        assert [len(piece) for piece in pieces] == [8]
        once = Counter(reads)
        assert once["module.py"] == 1
        self.fit(name, 80, pieces.append)
        assert [len(piece) for piece in pieces[1:]] == [8] * 10
        more = Counter({file: count - 2 * once[file] for file, count in reads.items()})
        assert more.pop("module.py") == 9
        assert more.pop("batches.py") > 0  # orders of items, which are on the CPU wherever the training is
        assert not +more, f"numbers are read in every step: {dict(more)}"

    def test_long_epochs_are_given_out_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "FLUSH_STEPS", 3)
        pieces: list[list[StepRecord]] = []
        self.fit("hashnet", 16, pieces.append)
        assert [[record.step for record in piece] for piece in pieces] == [
            [0, 1, 2], [3, 4, 5], [6, 7], [8, 9, 10], [11, 12, 13], [14, 15]
        ]  # fmt: skip

    def test_the_file_is_not_written_in_every_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        added, add = [], StepLog.add

        def note(self: StepLog, records: list[StepRecord]) -> None:
            added.append(len(records))
            add(self, records)

        monkeypatch.setattr(StepLog, "add", note)
        run(recipe_of(training__batch_size=2, training__epochs=2), options_of(tmp_path))
        assert added == [40, 40]


class TestNumbers:
    def test_dead_and_saturated_bits_are_those_of_the_step(self) -> None:
        """A network of one layer whose first step is worked out by hand."""
        import rdh_ext

        part = load_digits(train_per_class=8, input_scale=16.0).train
        seen: list[StepRecord] = []
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
        with torch.no_grad():
            network[1].weight.mul_(3)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        method = METHODS["hashnet"](8, rdh=False, tau=0.9)
        schedule = Schedule(epochs=1, lr=0.01, batch_size=80)
        train(
            lambda: network, method, part, schedule, seed=0, settings=Settings(progress=False), on_records=seen.extend
        )
        network.load_state_dict(state)
        # no gradient comes back through a saturated tanh, but to it
        h = torch.tanh(network(part.images)).detach().requires_grad_()
        scale, pairs = method.scale, {"pair_weights": "balanced", "quantization": "none"}
        loss = rdh_ext.pairwise_loss(h, part.labels, scale=scale, **pairs)
        loss.backward()
        assert h.grad is not None
        saturated = h.abs() >= 0.9
        dead = saturated & (h.sign() == h.grad.sign()) & (h.grad != 0)
        [record] = seen
        assert record.loss == pytest.approx(loss.item(), rel=1e-5)
        assert (record.saturated, record.dead) == (int(saturated.sum()), int(dead.sum()))
        assert record.dead > 20
        assert record.bits == 80 * 8
