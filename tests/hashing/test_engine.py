"""Training: both runs start alike, the schedule is the stated one, it learns, repeats, and leaves nothing behind."""

from __future__ import annotations

import itertools
import os
import signal
import warnings
from pathlib import Path

import pytest
import torch

import rdh_ext
from rdh_ext.hashing.backbones import small_cnn
from rdh_ext.hashing.codes import encode
from rdh_ext.hashing.data import load_digits
from rdh_ext.hashing.data.splits import Part
from rdh_ext.hashing.history import Schedule, StepRecord, epochs_of, to_csv
from rdh_ext.hashing.methods import HashNet

engine = pytest.importorskip("rdh_ext.hashing.engine")
QUIET = engine.Settings(progress=False)


@pytest.fixture(scope="module")
def part() -> Part:
    return load_digits(0, train_per_class=15, input_scale=8.0).train


def fit(
    part: Part, *, rdh: bool = False, epochs: int = 2, seed: int = 0, batch_size: int = 64, lr: float = 0.05
) -> object:
    schedule = Schedule(epochs=epochs, lr=lr, batch_size=batch_size)
    return engine.train(lambda: small_cnn(16), HashNet(16, rdh=rdh), part, schedule, seed=seed, settings=QUIET)


def test_same_seed_same_numbers(part: Part) -> None:
    first, again, other = fit(part), fit(part), fit(part, seed=1)
    assert first.steps == again.steps
    for a, b in zip(first.backbone.parameters(), again.backbone.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.steps != other.steps


def test_both_runs_start_from_the_same_weights_on_the_same_batches(part: Part) -> None:
    without, with_rdh = fit(part, epochs=1), fit(part, rdh=True, epochs=1)
    assert without.steps[0].similarity == pytest.approx(with_rdh.steps[0].similarity, rel=1e-6)
    assert without.steps[0].quantization == 0 < with_rdh.steps[0].quantization


def test_records_follow_the_schedule(part: Part) -> None:
    steps = fit(part, epochs=3).steps
    assert [record.epoch for record in steps] == [0, 0, 1, 1, 2, 2]  # 150 images: two whole batches of 64
    assert [record.step for record in steps] == list(range(6))
    assert all(record.bits == 64 * 16 for record in steps)
    assert steps[0].lr == pytest.approx(0.05)
    assert steps[3].lr == pytest.approx(0.025)
    assert all(a.lr > b.lr > 0 for a, b in itertools.pairwise(steps))


def test_batch_larger_than_the_data_is_the_data(part: Part) -> None:
    assert [record.bits for record in fit(part, batch_size=4096).steps] == [150 * 16] * 2


@pytest.mark.parametrize("rdh", [False, True])
def test_overfits_one_small_batch(rdh: bool) -> None:
    part = load_digits(0, train_per_class=3).train
    trained = engine.train(
        lambda: torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 16)
        ),
        HashNet(16, rdh=rdh),
        part,
        Schedule(epochs=150, lr=0.3, batch_size=30),
        seed=0,
        settings=QUIET,
    )
    codes = encode(torch.nn.Sequential(trained.backbone, trained.method), [part.images], 16).packed
    assert trained.steps[-1].similarity < 0.5 * trained.steps[0].similarity
    assert float(rdh_ext.evaluate(codes, codes, part.labels, part.labels).map) > 0.95


def test_leaves_no_trace(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random_state, filters = torch.get_rng_state(), list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(part)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert list(warnings.filters) == filters
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_interrupt_arrives_as_interrupt(part: Part) -> None:
    def interrupt() -> torch.nn.Module:
        model = small_cnn(16)
        model.register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        return model

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        engine.train(interrupt, HashNet(16), part, Schedule(epochs=1, lr=0.1), seed=0, settings=QUIET)
    assert signal.getsignal(signal.SIGINT) is handler


def test_encode(part: Part) -> None:
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 11, bias=False))
    model = torch.nn.Sequential(backbone, HashNet(11))
    images = torch.cat((part.images[:100], torch.zeros(3, 1, 8, 8)))
    codes = encode(model, images.split(7), 11)
    assert torch.equal(codes.packed, rdh_ext.pack_codes(torch.tanh(backbone(images))))
    assert codes.packed.dtype == torch.uint8
    assert codes.exact_zeros == 33  # three black images without bias
    assert encode(model, [], 11).packed.shape == (0, 2)


def test_epoch_means_and_csv() -> None:
    steps = [
        StepRecord(epoch, step, loss, loss / 2, 0.0, dead, 2 * dead, 100, 0.1)
        for step, (epoch, loss, dead) in enumerate([(0, 1.0, 4), (0, 2.0, 7), (1, 0.1, 1)])
    ]
    first, second = epochs_of(steps)
    assert first == (0, 1.5, 0.75, 0.0, 5.5, 11.0, 100.0)
    assert second == (1, 0.1, 0.05, 0.0, 1.0, 2.0, 100.0)
    lines = to_csv(steps).splitlines()
    assert lines[0] == "epoch,step,loss,similarity,quantization,dead,saturated,bits,lr"
    assert lines[3] == "1,2,0.1,0.05,0.0,1,2,100,0.1"
    assert epochs_of([]) == []
