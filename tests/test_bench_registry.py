"""The registry of `rdh bench`: everybody computes the op, whoever does not is caught, and who is not here is named.

torch.compile is taken for the identity here, and KeOps is not here: both take seconds to begin.
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_modules import HERE, load
from oracles import average_precision as oracle

from rdh_ext.cli import bench
from rdh_ext.retrieval import EvaluationResult

registry, problems, paper, codes, op_training, peers, pairwise = load(
    "registry", "_problem", "_paper", "_codes", "_op_training_step", "_hamming_peers", "_pairwise_peers"
)
with contextlib.suppress(ImportError):  # a training step needs the extras
    load("_training_peers", "_training_run")
OPS: dict[str, Any] = registry.OPS
OURS: str = problems.OURS
TINY = {"rows": 64, "queries": 24, "gallery": 300, "batch": 16, "bank": 100, "k": 5}
NAMED = [(op, sweep) for op in OPS for sweep in OPS[op].named]
LIBRARIES = {  # what cannot be imported -> who is missing then
    "faiss": {"hamming_topk": ["FAISS, counting", "FAISS, heap"], "evaluate": ["FAISS, then AP in numpy"]},
    "sklearn": {"hamming_distance": ["scikit-learn"], "hamming_topk": ["scikit-learn"], "evaluate": ["scikit-learn"]},
    "torchmetrics": {"evaluate": ["torchmetrics"]},
    "pykeops": {"pairwise_loss": ["KeOps, likelihood alone"]},
}


@pytest.fixture(autouse=True)
def quick_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    hide(monkeypatch, "pykeops")


def hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """It cannot be imported, nor can what has been imported of it before."""
    for name in [each for each in sys.modules if each.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)


def tiny(case: Any, **sizes: int | str) -> Any:
    """The same case, small; images become features, and a top k a small one."""
    smaller = {name: value for name, value in TINY.items() if name in case.sizes}
    if case.sizes.get("topk"):
        smaller["topk"] = 50
    if case.sizes.get("backbone"):
        smaller["backbone"] = "mlp"
    return replace(case, sizes={**case.sizes, **smaller, **sizes})


def built(case: Any) -> Any:
    if case.op == "training_step":
        pytest.importorskip("lightning")
        pytest.importorskip("torchvision")
    return OPS[case.op].build(case)


def default(op: str) -> Any:
    return tiny(OPS[op].default_case())


def spoiled(result: object) -> object:
    """The same kind of thing, everywhere another value."""
    if isinstance(result, EvaluationResult):
        return replace(result, ap=result.ap + 0.01, map=result.map + 0.01)
    if isinstance(result, tuple):
        return tuple(spoiled(part) for part in result)
    if isinstance(result, float):
        return result + 1.5
    assert isinstance(result, torch.Tensor | np.ndarray)
    if isinstance(result, np.ndarray):
        return (result ^ 1) if result.dtype == np.uint8 else result + 1
    if result.dim() == 0:
        return result + torch.nan
    return (result ^ 1) if result.dtype == torch.uint8 else result + 1


def nothing(result: object) -> object:
    """Zeros, which is what those leave behind who do not write their result."""
    if isinstance(result, tuple):
        return tuple(nothing(part) for part in result)
    return torch.zeros_like(result) if isinstance(result, torch.Tensor) else np.zeros_like(np.asarray(result))


def assert_everybody_is_compared(problem: Any, op: str) -> None:
    names = list(problem.providers)
    assert names[0] == OURS
    assert problem.providers[OURS].kind == OURS
    assert len(names) > 1
    for name, provider in problem.providers.items():
        assert provider.kind == (OURS if name.startswith(OURS) else "peer")
        assert provider.version.startswith(f"{provider.library} ") or provider.library == OURS  # a tree has no version
        assert provider.parts == 1
        result = provider.step()
        if provider.check is None:
            assert name.endswith(" alone")  # computes less: there is nothing to compare
            continue
        error = provider.check(result)
        assert 0 <= error < (0.5 if op.startswith("amplified") and name != OURS else 1e-2)
        wrong = [spoiled(result)]
        if op != "training_step" and not isinstance(result, EvaluationResult | float):
            wrong.append(nothing(result))
        for each in wrong:
            with pytest.raises((problems.Wrong, AssertionError)):
                provider.check(each)


@pytest.mark.parametrize("op", OPS)
def test_everybody_is_compared(op: str) -> None:
    problem = built(default(op))
    assert_everybody_is_compared(problem, op)
    assert problem.title
    assert problem.cost.bytes > 0
    assert {name for name, reason in problem.absent.items() if reason.status != "missing"} == set()


@pytest.mark.parametrize(("op", "sweep"), NAMED, ids=lambda value: str(value))
def test_with_the_labels_of_the_papers_data_sets(op: str, sweep: str) -> None:
    for case in OPS[op].sweep_cases(sweep):
        problem = built(tiny(case))
        assert_everybody_is_compared(problem, op)
        assert ("mAP@50" in problem.title) == (op == "evaluate" and case.x != "CIFAR-10")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_amplified_tanh_of_every_type(dtype: str) -> None:
    assert_everybody_is_compared(built(tiny(OPS["amplified_tanh"].default_case(), dtype=dtype)), "amplified_tanh")


@pytest.mark.parametrize("bits", [12, 16, 128])
@pytest.mark.parametrize("op", ["hamming_topk", "hamming_histogram", "evaluate"])
def test_codes_of_other_lengths(op: str, bits: int) -> None:
    assert_everybody_is_compared(built(tiny(OPS[op].default_case(), bits=bits)), op)


def test_a_part_of_the_work_counts_as_often_as_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With limits so low that the slow ways get every sixth query."""
    _op_codes, _op_evaluate, _op_topk = load("_op_codes", "_op_evaluate", "_op_hamming_topk")
    pairs = TINY["queries"] * TINY["gallery"] // 6
    monkeypatch.setattr(_op_codes, "SLOW_PAIRS", pairs)
    monkeypatch.setattr(_op_evaluate, "PAIRS", dict.fromkeys(_op_evaluate.PAIRS, pairs))
    monkeypatch.setattr(_op_topk, "SLOW_PAIRS", dict.fromkeys(_op_topk.SLOW_PAIRS, pairs))
    for op in ("hamming_distance", "hamming_topk", "hamming_histogram", "evaluate"):
        parts = {}
        for name, provider in built(default(op)).providers.items():
            provider.check(provider.step())
            parts[name] = provider.parts
        assert parts[OURS] == 1
        assert parts["eager"] == 6
        assert set(parts.values()) == {1, 6}
    on_paper = [tiny(case) for case in OPS["evaluate"].sweep_cases("paper")]
    public = built(on_paper[0]).providers["numpy argsort"]
    assert (public.parts, public.patient) == (1, True)


@pytest.mark.parametrize("library", LIBRARIES)
def test_who_is_not_installed_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, library)
    for op, names in LIBRARIES[library].items():
        problem = built(default(op))
        for name in names:
            assert name not in problem.providers
            reason = problem.absent[name]
            assert reason.status == "missing"
            distribution = "(sklearn|scikit-learn)" if library == "sklearn" else library
            assert re.fullmatch(
                rf"{distribution} is not installed; pip install 'rdh_ext\[bench\]' brings it", str(reason)
            )
        assert {OURS, "eager", "torch.compile"} <= set(problem.providers)


@pytest.mark.parametrize("library", ["lightning", "torchvision"])
def test_a_training_step_without_the_extras(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise ModuleNotFoundError(f"No module named '{library}.part'", name=f"{library}.part")

    monkeypatch.setitem(sys.modules, "_training_peers", Lacking("_training_peers"))
    with pytest.raises(
        problems.NotHere, match=f"^{library} is not installed; pip install 'rdh_ext\\[bench\\]'"
    ) as caught:
        OPS["training_step"].build(default("training_step"))
    assert caught.value.status == "missing"


def test_numpy_without_bitwise_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert str(built(default("hamming_distance")).absent["numpy"]) == "numpy has bitwise_count from 2.0 on"


def test_quick_runs_leave_out_who_takes_long_to_begin() -> None:
    case = tiny(OPS["pairwise_loss"].default_case(quick=True))
    absent = built(case).absent
    for name in ("torch.compile, by hand", "KeOps, likelihood alone"):
        assert (absent[name].status, str(absent[name])) == (
            "left out",
            "takes seconds to begin; without --quick it takes part",
        )


def test_a_mask_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    [op_pairwise] = load("_op_pairwise_loss")
    monkeypatch.setattr(op_pairwise, "MASK_BYTES", 4 * 16 * 100 * 64 - 1)
    reason = built(default("pairwise_loss")).absent["eager"]
    assert reason.status == "left out"
    assert "its mask [B, N, K] is" in str(reason)


def test_a_step_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    [training_peers] = load("_training_peers")
    obvious = training_peers.obvious

    def wrong(method: Any, bank: Any) -> Callable[..., torch.Tensor]:
        return lambda logits, items: 1.001 * obvious(method, bank)(logits, items)

    monkeypatch.setattr(training_peers, "obvious", wrong)
    with pytest.raises(problems.Wrong, match="obvious does not compute what rdh_ext computes"):
        built(default("training_step"))


def test_a_step_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_nothing(function: object, **options: object) -> Callable[..., torch.Tensor]:
        def fail(*arguments: object) -> torch.Tensor:
            raise RuntimeError("no compiler\nwas found")

        return fail

    monkeypatch.setattr(torch, "compile", compile_nothing)
    problem = built(default("training_step"))
    assert list(problem.providers) == [OURS, "eager", "eager, best form", "eager, sums per class"]
    for name in ("torch.compile", "torch.compile, sums per class"):
        reason = problem.absent[name]
        assert (reason.status, str(reason)) == ("failed", "RuntimeError: no compiler was found")


@pytest.mark.parametrize("op", OPS)
def test_cases_of_sweeps(op: str) -> None:
    one = OPS[op]
    for sweep, values in one.sweeps.items():
        cases = one.sweep_cases(sweep, threads=(1, 2, 3))
        expected = (1, 2, 3) if sweep == "threads" else values
        assert [case.x for case in cases] == [str(value) for value in expected]
        for case, value in zip(cases, expected, strict=True):
            assert (case.op, case.sweep) == (op, sweep)
            assert (case.threads if sweep == "threads" else case.sizes[sweep]) == value
            meaning = one.named.get(sweep, {}).get(str(value), {})
            assert {name: case.sizes[name] for name in meaning} == dict(meaning)
            changed = {name for name in one.default if case.sizes[name] != one.default[name]}
            assert changed <= {sweep, *one.base.get(sweep, {}), *meaning}
        numbers = [value for value in expected if isinstance(value, int)]
        assert numbers == sorted(numbers)  # smallest first: what is left out of one is left out of the next


def test_cases_in_the_order_in_which_they_are_measured() -> None:
    how: dict[str, Any] = {"device": "cpu", "cores": 4, "threads": 2}
    cases = registry.cases_of(OPS["amplified_tanh"], ["dtype", "threads"], **how)
    assert [(case.sweep, case.x) for case in cases[:2]] == [("default", ""), ("dtype", "float32")]
    assert [case.threads for case in cases] == [2, 2, 2, 2, 1, 2, 4]
    assert cases[-1].sizes["rows"] == 262_144
    assert [registry.thread_counts(cores) for cores in (1, 2, 6)] == [(1,), (1, 2), (1, 2, 4, 6)]
    assert "threads" not in registry.sweeps_of(OPS["evaluate"], 1)
    quick = registry.cases_of(OPS["evaluate"], [], quick=True, **how)
    assert [case.sizes["queries"] for case in quick] == [200]
    assert OPS["evaluate"].default_case("cuda").sizes["gallery"] == 1_000_000


def test_the_command_line_names_every_op() -> None:
    assert set(bench.OPS) == set(OPS)
    assert len(bench.OPS) == len(OPS)
    assert all(name == op.name for name, op in OPS.items())
    quick = [name for name, op in OPS.items() if op.quick is not None]
    assert {"amplified_tanh", "pairwise_loss", "evaluate"} <= set(quick)


@pytest.mark.parametrize("op", OPS)
def test_tests_that_have_to_pass_are_there(op: str) -> None:
    texts = [(HERE.parent / name).read_text() for name in OPS[op].tests]
    assert any("def test_equals" in text for text in texts)  # what quick runs choose


def test_sizes_of_the_paper() -> None:
    sizes = {name: (data["queries"], data["gallery"], data["topk"]) for name, data in paper.DATA.items()}
    assert sizes == {
        "CIFAR-10": (1000, 59_000, 0),
        "NUS-WIDE": (2100, 193_734, 5000),
        "COCO": (5000, 117_218, 5000),
    }
    for case in OPS["evaluate"].sweep_cases("paper"):
        assert tuple(case.sizes[name] for name in ("queries", "gallery", "topk")) == sizes[case.x]
    assert {name: data["bank"] for name, data in paper.TRAINING.items()} == {
        "CIFAR-10": 5000,
        "NUS-WIDE": 10_500,
        "COCO": 10_000,
    }
    assert {case.sizes["backbone"] for case in OPS["training_step"].sweep_cases("paper")} == {"alexnet"}


@pytest.mark.parametrize(
    ("labels_of", "classes", "first", "last"),
    [(codes.nuswide_like_labels, 21, 0.38, 0.027), (pairwise.coco_like_labels, 80, 0.54, 0.0022)],
    ids=["NUS-WIDE", "COCO"],
)
def test_multi_hot_labels(labels_of: Any, classes: int, first: float, last: float) -> None:
    rows = labels_of(20_000, classes)
    assert rows.shape == (20_000, classes)
    assert rows.dtype == torch.bool
    assert rows.any(1).all()
    shares = rows.float().mean(0)
    assert shares[0] == pytest.approx(first, rel=0.15)  # those without a label have got one
    assert shares[-1] == pytest.approx(last, rel=0.5)
    assert rows.float().sum(1).mean() == pytest.approx(2.9, rel=0.1)


def test_trained_codes_are_near_those_of_their_class() -> None:
    case = tiny(OPS["evaluate"].default_case(), codes="trained", bits=20)
    x = codes.Codes(case)
    assert x.g.shape == (300, 3)
    assert int(x.g[:, -1].max()) < 16  # no bits beyond the last one
    assert x.g_signs.shape == (300, 20)
    far = (x.g_signs[:, None] != x.g_signs[None]).sum(2)
    same = x.g_labels[:, None] == x.g_labels[None]
    assert far[same.numpy()].mean() < 3 < 8 < far[~same.numpy()].mean()


def test_expected_precision_of_the_first_k_is_the_mean_over_all_orders() -> None:
    draw = random.Random(0)
    for _ in range(60):
        items = [draw.randint(0, 4) for _ in range(4)]
        buckets = [(n, draw.randint(0, n)) for n in items]
        for k in range(1, sum(items) + 2):
            mean, _, _ = oracle.mean_and_bounds(buckets, k, "found")
            assert peers.expected_precision(np.array(buckets), k) == pytest.approx(float(mean), rel=1e-13)


def test_a_version_is_that_of_the_distribution() -> None:
    assert problems.version_of("torch").startswith("torch ")
    assert problems.version_of("torch").partition("+")[0] == f"torch {torch.__version__.partition('+')[0]}"
    assert problems.version_of("no such library") == ""
