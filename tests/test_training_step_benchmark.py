"""The benchmark of a training step: everybody computes the same, what is timed is a step, tables show what was written.

torch.compile is taken for the identity here: what it makes of these functions the benchmark itself compares.
"""

from __future__ import annotations

import csv
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_modules import load
from oracles import pairwise_loss as oracle

pytest.importorskip("lightning")
peers, predicted, rows, run, tables, script, report = load(
    "_training_peers",
    "_training_predictions",
    "_training_rows",
    "_training_run",
    "_training_tables",
    "training_step",
    "report",
)

CPU = torch.device("cpu")
SMALL = {"rows": 12, "bits": 8, "items": 100}


@pytest.fixture(autouse=True)
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)


def problem(backbone: str = "mlp", shape: tuple[int, ...] = (16,)) -> Any:
    torch.manual_seed(0)
    return run.make_problem(backbone, shape=shape, device=CPU, **SMALL)


@pytest.mark.parametrize("case", peers.CASES, ids=lambda case: case.label)
def test_everybody_computes_the_same(case: Any) -> None:
    small = problem()
    losses = run.losses_of(case, small)
    assert {"rdh_ext", "counting", "obvious", "eager", "compiled"} <= set(losses)
    assert ("eager class sums" in losses) == (case.title == "DPSH")
    assert set(run.differences(small, losses)) == set(losses)
    logits = small.backbone(small.batches[0][0])
    assert (logits.abs() > 2.65).any()  # there are bits that Eq. 3 looks at


@pytest.mark.parametrize("title", ["DPSH", "DHN"])
def test_the_loss_with_rdh_is_that_of_the_paper(title: str) -> None:
    small, case = problem(), peers.Case(title, True)
    inputs, items = small.batches[0]
    logits = small.backbone(inputs).detach()
    bank, column_labels = None, items.labels
    if title == "DPSH":
        bank, column_labels = small.outputs.clone(), small.labels
        bank[items.index] = torch.tanh(logits)
    s = (items.labels[:, None] == column_labels).double()
    true = oracle.pairwise_loss(torch.tanh(logits), bank, s, scale=0.5, eta=0.1)
    for name, loss in run.losses_of(case, small).items():
        value = loss(logits.requires_grad_(), items).double()
        torch.testing.assert_close(value, true.loss, rtol=1e-5, atol=0, msg=name)


def test_bits_on_the_threshold_are_not_compared() -> None:
    small = problem()
    first = run.logits_of(small, small.batches[0][0])
    assert torch.equal(first, run.logits_of(small, small.batches[0][0]))
    assert run.clear_batch(small)[1] is small.batches[0][1]
    with torch.no_grad():  # of item 0 all bits come to stand on it
        small.backbone[-1].bias.add_(torch.atanh(torch.tensor(run.TAU)) - first[0])
    assert run.clear_batch(small)[1] is small.batches[1][1]


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_wrong_peer_ends_the_benchmark(what: str) -> None:
    small, case = problem(), peers.Case("HashNet", True)
    losses = run.losses_of(case, small)
    right = losses["eager"]

    def wrong(logits: torch.Tensor, items: Any) -> torch.Tensor:
        value = right(logits, items)
        return value + (1e-4 * value.detach() if what == "value" else 1e-3 * (value - value.detach()))

    losses["eager"] = wrong
    with pytest.raises(SystemExit, match="eager does not compute"):
        run.differences(small, losses)


@pytest.mark.parametrize("mode", ["step", "loss"])
@pytest.mark.parametrize("case", peers.CASES[:2], ids=lambda case: case.label)
def test_a_step_moves_the_network_and_a_loss_part_does_not(case: Any, mode: str) -> None:
    moved, values = {}, {}
    for name in ("rdh_ext", "counting", "records", "obvious", "eager"):
        small = problem()
        before = small.backbone[1].weight.clone()
        steps = run.steps_of(mode, case, small, run.losses_of(case, small))
        values[name] = [steps[f"{mode}/{name}"]().item() for _ in range(3)]
        moved[name] = small.backbone[1].weight - before
    for name, change in moved.items():
        assert bool(change.any()) == (mode == "step")
        torch.testing.assert_close(change, moved["rdh_ext"], rtol=1e-3, atol=1e-6)
        if mode == "step":  # the loss parts have random logits of their own
            assert values[name] == pytest.approx(values["rdh_ext"], rel=1e-4)


def test_gradients_of_logits_do_not_add_up() -> None:
    logits, items = torch.randn(12, 8, requires_grad=True), problem().batches[0][1]
    step = run.loss_step(lambda inputs, items: inputs.sum(), itertools.repeat((logits, items)), lambda: None)
    step()
    step()
    assert torch.equal(logits.grad, torch.ones(12, 8))


def test_the_engine_records_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    small, case, records = problem(), peers.Case("HashNet", True), []
    value_of, record = run.recorded(case, small, small.backbone, records.extend)
    step = run.whole_step(value_of, itertools.cycle(small.batches), record, small)
    values = [step().item() for _ in range(run.FLUSH_STEPS)]
    assert [each.loss for each in records] == pytest.approx(values)
    assert all(each.bits == 12 * 8 for each in records)
    assert sum(each.saturated for each in records) > 0


@pytest.mark.parametrize("rdh", [False, True])
def test_both_ways_of_counting_count_the_same(rdh: bool) -> None:
    small, case = problem(), peers.Case("DHN", rdh)
    logits = (4 * torch.randn(12, 8)).requires_grad_()
    by_hook = run.CountedByHook(run.uncounted(small.method(case)))
    counting = small.method(case)
    for loss in (by_hook, run.loss_of(counting)):
        loss(logits, small.batches[0][1]).backward()
    counted = counting.counter.read()
    assert [int(each) for each in by_hook.counts] == [counted.dead, counted.saturated]
    assert 0 < counted.dead < counted.saturated


def test_a_block_is_of_whole_records(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, waits = [], []
    monkeypatch.setattr(run, "synchronize", waits.append)
    block = run.Block(lambda: calls.append(0), CPU, seconds=0.01)
    assert block.number == 4 * run.FLUSH_STEPS
    calls.clear()
    waits.clear()
    block.seconds()
    assert (len(calls), waits) == (block.number, [CPU])
    assert run.Block(lambda: calls.append(0), CPU, seconds=0.0).number == 1
    some = run.Block(lambda: time.sleep(1e-4), CPU, seconds=0.02)
    assert 1 < some.number < run.FLUSH_STEPS or some.number % run.FLUSH_STEPS == 0


def test_time_of_the_processor_is_not_that_of_the_clock() -> None:
    block = run.Block(lambda: time.sleep(0.02), CPU, seconds=0.0)
    wall, cpu = block.seconds()
    assert 0 < cpu < 0.01 < 0.02 <= wall


def test_every_round_has_all_blocks_in_an_order_of_its_own() -> None:
    order: list[str] = []
    blocks = {name: run.Block(lambda name=name: order.append(name), CPU, 0.0) for name in "abcd"}
    order.clear()
    wall, cpu = run.take_rounds(blocks, 6, seed=0)
    rounds = [tuple(order[start : start + 4]) for start in range(0, 24, 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len(set(rounds)) > 3
    assert {len(values) for values in (*wall.values(), *cpu.values())} == {6}


def test_images_go_through_alexnet() -> None:
    small = problem("alexnet", (3, 64, 64))
    case = peers.Case("HashNet", True)
    losses = {name: loss for name, loss in run.losses_of(case, small).items() if name in ("rdh_ext", "eager")}
    run.differences(small, losses)  # dropout is the same for all


def process(**samples: list[float]) -> Any:
    named = {f"{mode}/{name.replace('_', ' ')}": s for mode in ("step", "loss") for name, s in samples.items()}
    named = {name.replace("rdh ext", "rdh_ext"): values for name, values in named.items()}
    different = dict.fromkeys(("loss", "logits", "parameters"), 1e-7)
    cpu = {name: [2 * value for value in values] for name, values in named.items()}
    return {
        "samples": named,
        "cpu": cpu,
        "differences": {"rdh_ext": different},
        "machine": {"threads": "1", "level": "avx2"},
    }


def test_of_a_peer_counts_its_best_process_and_of_counting_every_round() -> None:
    runs = [
        process(rdh_ext=[1, 2, 4], eager=[60, 120, 240], counting=[2, 2, 4]),
        process(rdh_ext=[1, 1, 1], eager=[3, 3, 30], counting=[4, 4, 4]),
    ]
    found = {row["provider"]: row for row in rows.rows_of("mlp", "", peers.CASES[0], runs, {}) if row["mode"] == "step"}
    assert float(found["eager"]["times_rdh_ext"]) == 3
    assert float(found["eager"]["p50_us"]) == 3e6
    assert float(found["counting"]["times_rdh_ext"]) == 3  # of 2, 1, 1, 4, 4, 4: (2 + 4) / 2, by the processor's time
    assert found["counting"]["rounds"] == "6"
    assert float(found["counting"]["adds_us"]) == 4e6
    assert {name: row["clock"] for name, row in found.items()} == {
        "rdh_ext": "wall",
        "eager": "wall",
        "counting": "cpu",
    }
    assert len({tuple(row) for row in found.values()}) == 1
    for several in ({"threads": "2", "level": "avx2"}, {"threads": "1", "level": "cuda"}):
        assert rows.clock_of({"machine": several}, "counting") == "wall"


def test_quick_measures_and_the_tables_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def here(program: str, what: str, environment: dict[str, str], **arguments: Any) -> Any:
        asked.append((program, what, arguments["backbone"]))
        small = {**SMALL, "backbone": "mlp", "shape": [8], "rounds": 2, "seconds": 0.0}
        return run.measure_time(**{**arguments, **small})

    monkeypatch.setattr(script, "fresh_process", here)
    monkeypatch.setattr(script, "measure_memory", lambda options, case: {"rdh_ext": 1 << 20})
    options = script.parse(["--quick"])
    options.backbones = ["mlp", "alexnet"]
    script.run(options, tmp_path / "training_step_cpu.csv")
    assert len(asked) == 2 * len(peers.CASES)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    written = report.read("training_step_cpu.csv")
    assert {row["command"] for row in written} == {"python benchmarks/training_step.py --quick"}
    assert {(row["threads"], row["bank"]) for row in written} == {("1", "5000"), ("1", "")}
    assert {row["provider"] for row in written if row["backbone"] == "alexnet"} == {
        *("rdh_ext", "records", "obvious", "eager", "compiled")
    }
    for row in written:
        if row["mode"] == "loss":
            row["extra_bytes"] = str(3 << 20)
    line = next(each for each in tables.counts(written).splitlines() if each.startswith("| DPSH + RDH"))
    assert line.count(" .. ") == 3
    text = tables.speed(written)
    assert text.count("| DHN + RDH |") == 3
    assert "3.0 MiB | 3.0 MiB | 3.0 MiB |" in text
    assert tables.predictions(written).count("\n") == 1 + 2 * len(peers.CASES)


def test_tables_show_the_fastest_of_a_form() -> None:
    common = {"backbone": "mlp", "mode": "step", "method": "DPSH"}
    found = [
        {**common, "provider": name, "times_rdh_ext": time}
        for name, time in (("eager", "3"), ("eager class sums", "2"))
    ]
    fastest = tables.Table(found).fastest("mlp", "step", "DPSH", ("eager", "eager class sums", "another"))
    assert fastest["provider"] == "eager class sums"


def test_the_committed_results_are_those_of_the_whole_measurement() -> None:
    path = script.RESULTS / "training_step_cpu.csv"
    with path.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert {row["command"] for row in written} == {"python benchmarks/training_step.py"}
    assert {(row["backbone"], row["method"]) for row in written} == {
        (backbone, case.label) for backbone in run.SHAPES for case in peers.CASES
    }


def test_predictions_follow_from_the_loss_part() -> None:
    assert predicted.times("loss", "mlp", "DPSH", "eager") == pytest.approx(4600 / 1400)
    assert predicted.share("mlp", "DPSH", "rdh_ext") == pytest.approx(1400 / 3200)
    assert predicted.times("step", "alexnet", "DPSH", "eager") == pytest.approx(1, abs=1e-3)
    assert 1 < predicted.times("step", "mlp", "HashNet + RDH", "counting") < 1.01
    assert set(predicted.LOSS) == {case.label for case in peers.CASES}


def test_only_the_whole_measurement_writes_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    assert script.is_whole(script.parse([]))
    for cut in (["--quick"], ["--methods", "DPSH"], ["--backbones", "mlp"], ["--rounds", "3"], ["--threads", "2"]):
        assert not script.is_whole(script.parse(cut)), cut
    for wrong in (["--rounds", "1"], ["--processes", "0"], ["--threads", "0"]):
        with pytest.raises(SystemExit):
            script.parse(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        script.parse(["--device", "cuda"])
