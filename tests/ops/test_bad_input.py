"""Wrong arguments, for every public function at once: one line that names op, argument, expectation and value.

What is special to one op (labels, bits behind the last one, a bank without labels, ...) stands in that op's file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hamming_cases import nested, random_codes
from torch import Tensor

import rdh_ext
from rdh_ext import distributed, nn, retrieval

H = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
Q, G = random_codes(4, 16, 1), random_codes(6, 16, 2)
IDS, MORE_IDS = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 2, 1, 0, 0])
HISTOGRAM = rdh_ext.hamming_histogram(Q, G, IDS, MORE_IDS)
RESULT = rdh_ext.evaluate(Q, G, IDS, MORE_IDS)
GALLERY = retrieval.Gallery(G, MORE_IDS)
AMPLIFIER = {"tau": "tau", "alpha": "positive or None", "counter": "counter"}
ACTIVATION = {**AMPLIFIER, "beta": "positive"}
LOSS = {
    "scale": "finite",
    "eta": "not negative",
    "pair_weights": "choice",
    "quantization": "choice",
    "reduction": "choice",
    "include_diagonal": "bool",
}
METRICS = {"topk": "count or None", "ties": "choice", "denominator": "choice"}


def beside(spoiled: dict[str, Any], **good: Tensor) -> dict[str, Any]:
    """Arguments of which some are spoiled, all on the device of those."""
    device = next((value.device for value in spoiled.values() if isinstance(value, Tensor)), None)
    return {**{name: value.to(device) for name, value in good.items()}, **spoiled}


def updated_bank(**spoiled: Any) -> Tensor:
    arguments = beside(spoiled, index=IDS, h=H, labels=IDS)
    device = next(value.device for value in arguments.values() if isinstance(value, Tensor))
    bank = nn.CodeBank(4, 16).to(device)
    bank.update(**arguments)
    return bank.outputs


def gathered(**spoiled: Any) -> Tensor:
    return distributed.gather_batch(**beside(spoiled, h=H, labels=IDS))[0]


def asked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a gallery, with queries and labels where they are not given."""
    return lambda **spoiled: method(**{"q": Q, "q_labels": IDS, **spoiled})


class Subject(NamedTuple):
    """A callable with arguments that it takes, and the kinds of what may be wrong about them."""

    name: str
    call: Callable[..., Any]
    tensors: dict[str, tuple[Tensor, str]]
    options: dict[str, str]
    needs_values: bool = False

    def in_doubt(self, argument: str) -> str:
        """Which argument is blamed when ``argument`` does not fit the others: never the first one."""
        partners = [name for name in ("g", "bank", "similarity") if name in self.tensors]
        return partners[0] if argument == next(iter(self.tensors)) else argument


SUBJECTS = (
    Subject("amplified_tanh", rdh_ext.amplified_tanh, {"x": (H, "float any")}, ACTIVATION),
    Subject("amplified_sigmoid", rdh_ext.amplified_sigmoid, {"x": (H, "float any")}, ACTIVATION),
    Subject("gradient_amplifier", rdh_ext.gradient_amplifier, {"h": (H, "float any")}, AMPLIFIER),
    Subject("AmplifiedTanh", nn.AmplifiedTanh, {}, ACTIVATION),
    Subject("AmplifiedSigmoid", nn.AmplifiedSigmoid, {}, ACTIVATION),
    Subject("GradientAmplifier", nn.GradientAmplifier, {}, AMPLIFIER),
    Subject("rescue_", lambda **options: nn.rescue_(torch.nn.Sequential(torch.nn.Tanh()), **options), {}, AMPLIFIER),
    Subject(
        "pairwise_loss",
        rdh_ext.pairwise_loss,
        {
            "h": (H, "float"),
            "labels": (IDS, "labels"),
            "bank": (H[:3], "float or None"),
            "bank_labels": (IDS[:3], "labels"),
        },
        LOSS,
    ),
    Subject(
        "pairwise_loss",
        rdh_ext.pairwise_loss,
        {"h": (H, "float"), "similarity": (torch.eye(4), "matrix")},
        {},
    ),
    Subject("pairwise_loss", nn.PairwiseLoss, {}, LOSS),
    Subject(
        "CodeBank",
        lambda **options: nn.CodeBank(**{"length": 4, "bits": 16, **options}),
        {},
        {"length": "count", "bits": "count", "classes": "count or None", "dtype": "dtype"},
    ),
    Subject("CodeBank", lambda labels: nn.CodeBank(4, 16, labels=labels).outputs, {"labels": (IDS, "labels")}, {}),
    *(
        Subject("CodeBank", updated_bank, {argument: value}, {})
        for argument, value in {"h": (H, "float"), "index": (IDS, "index"), "labels": (IDS, "labels")}.items()
    ),
    *(
        Subject("gather_batch", gathered, {argument: value}, {})
        for argument, value in {"h": (H, "float"), "labels": (IDS, "labels")}.items()
    ),
    Subject("pack_codes", rdh_ext.pack_codes, {"h": (H, "float")}, {}),
    Subject("count_zeros", retrieval.count_zeros, {"h": (H, "float")}, {}, needs_values=True),
    Subject(
        "unpack_codes",
        lambda codes, bits=16: rdh_ext.unpack_codes(codes, bits),
        {"codes": (Q, "codes")},
        {"bits": "bits"},
    ),
    Subject("hamming_distance", rdh_ext.hamming_distance, {"q": (Q, "codes"), "g": (G, "codes")}, {}),
    Subject(
        "hamming_topk",
        lambda q, g, k=3: rdh_ext.hamming_topk(q, g, k),
        {"q": (Q, "codes"), "g": (G, "codes")},
        {"k": "count"},
    ),
    Subject(
        "hamming_histogram",
        rdh_ext.hamming_histogram,
        {"q": (Q, "codes"), "g": (G, "codes"), "q_labels": (IDS, "labels"), "g_labels": (MORE_IDS, "labels")},
        {"bits": "bits or None"},
    ),
    Subject(
        "evaluate",
        rdh_ext.evaluate,
        {"q": (Q, "codes"), "g": (G, "codes"), "q_labels": (IDS, "labels"), "g_labels": (MORE_IDS, "labels")},
        {**METRICS, "empty": "choice", "bits": "bits or None"},
        needs_values=True,
    ),
    Subject(
        "evaluate_histogram",
        retrieval.evaluate_histogram,
        {"histogram": (HISTOGRAM, "histogram")},
        {**METRICS, "empty": "choice"},
        needs_values=True,
    ),
    Subject(
        "average_precision",
        retrieval.average_precision,
        {"histogram": (HISTOGRAM, "histogram")},
        METRICS,
        needs_values=True,
    ),
    Subject("Gallery", retrieval.Gallery, {"codes": (G, "codes")}, {"planes": "bool"}, needs_values=True),
    Subject(
        "Gallery", lambda labels: retrieval.Gallery(G, labels), {"labels": (MORE_IDS, "labels")}, {}, needs_values=True
    ),
    Subject("Gallery", lambda **options: retrieval.Gallery(G, **options), {}, {"bits": "bits or None"}),
    Subject("Gallery.distance", GALLERY.distance, {"q": (Q, "codes")}, {}, needs_values=True),
    Subject("Gallery.topk", lambda q, k=3: GALLERY.topk(q, k), {"q": (Q, "codes")}, {"k": "count"}, needs_values=True),
    *(
        Subject(f"Gallery.{name}", call, {argument: value}, {}, needs_values=True)
        for name, call in {"histogram": asked(GALLERY.histogram), "evaluate": asked(GALLERY.evaluate)}.items()
        for argument, value in {"q": (Q, "codes"), "q_labels": (IDS, "labels")}.items()
    ),
    Subject(
        "Gallery.evaluate",
        lambda **options: GALLERY.evaluate(Q, IDS, **options),
        {},
        {**METRICS, "empty": "choice"},
    ),
    Subject("precision_at", lambda n=1: RESULT.precision_at(n), {}, {"n": "count"}),
    Subject("recall_at", lambda n=1: RESULT.recall_at(n), {}, {"n": "count"}),
    Subject("ndcg", lambda n=1: RESULT.ndcg(n), {}, {"n": "count or None"}),
    Subject("ndcg_per_query", lambda n=1: RESULT.ndcg_per_query(n), {}, {"n": "count or None"}),
    Subject("precision_within_radius", lambda r=1: RESULT.precision_within_radius(r), {}, {"r": "radius"}),
    Subject("pr_curve", lambda **options: RESULT.pr_curve(**options), {}, {"by": "choice", "at": "points or None"}),
)
NOT_HERE = {"build_info", "BitCounter"}  # no arguments; tested beside its counts
RESULTS = {
    "BitCounts",
    "LossParts",
    "PRCurve",
    "EvaluationResult",
    "Block",
    "MemoryPlan",
    "Dump",
}  # made by the package
ON_DISK = {  # files, and errors of them: tests/galleries has their bad input, and tests/hashing/test_model_files.py
    "load",
    *("CodeSet", "CodeSetError", "CodeSetWriter", "DamagedShard", "RankFailed", "write_code_set"),
    *("evaluate_sets", "search_sets", "open_npy", "open_pt", "open_faiss", "export_npy", "export_faiss"),
}

BAD_TENSORS: dict[str, tuple[torch.dtype, ...]] = {
    "float": (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn),
    "codes": (torch.float32, torch.int8, torch.int64, torch.bool, torch.uint16),
    "labels": (torch.float32, torch.bool, torch.complex64),
    "matrix": (torch.complex64,),
    "histogram": (torch.float32, torch.int32, torch.uint8),
    "index": (torch.float32, torch.bool, torch.complex64, torch.uint16),
}
HUGE = 10**400
BAD_OPTIONS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    # kind: (TypeError, ValueError)
    "tau": (("0.9", None, True, 1j, torch.tensor(0.9), [0.9]), (1, 1.0, -0.1, HUGE, torch.nan, torch.inf, -torch.inf)),
    "positive": (("1", None, False, 1j, torch.tensor(1.0)), (0, 0.0, -1, HUGE, -HUGE, torch.nan, torch.inf)),
    "finite": (("1", None, False, 1j, torch.tensor(1.0)), (HUGE, torch.nan, torch.inf, -torch.inf)),
    "not negative": (("1", None, False, 1j, torch.tensor(1.0)), (-1, -1e-300, HUGE, torch.nan, torch.inf)),
    "counter": ((3, "cpu", [0, 0, 0], torch.zeros(3)), ()),
    "choice": ((), ("", "Mean", "expected ", None, 3, ["none"], HISTOGRAM)),
    "bool": ((0, 1, "yes", None, torch.tensor(True), np.True_), ()),
    "count": ((1.0, "1", None, True, 1j, torch.tensor(1), [1], np.float64(1)), (0, -1, -HUGE, np.int64(-3))),
    "radius": ((1.0, "1", None, True, torch.tensor(1), [1]), (-1, -HUGE)),
    "bits": ((16.0, "16", None, True, torch.tensor(16), [16]), (0, 8, 17, -16, HUGE, 2**63)),
    "dtype": (("float32", None, 3, torch.int64, torch.complex64, torch.float8_e4m3fn), ()),
    "points": ((3, "123", [1.5], [True], [None], [[1]], np.array(3)), ([-1], [0, 17], [HUGE])),
}


def subject_id(subject: Subject) -> str:
    return "-".join((subject.name, *list(subject.tensors)[1:2]))


def refused(error: type[Exception], subject: Subject, argument: str, **arguments: Any) -> None:
    """One line, ``op: argument must be <expected>, got <value>``."""
    good = {name: value for name, (value, _) in subject.tensors.items()}
    with pytest.raises(error) as caught:
        subject.call(**{**good, **arguments})
    message = str(caught.value)
    assert re.fullmatch(rf"{subject.name}: {argument} must [^\n]+, got [^\n]+", message), message
    assert len(message) < 400
    assert caught.value.__cause__ is None


def every_tensor() -> Iterator[Any]:
    for subject in SUBJECTS:
        for argument, (value, kind) in subject.tensors.items():
            yield pytest.param(subject, argument, value, kind.split()[0], kind, id=f"{subject_id(subject)}-{argument}")


def every_option() -> Iterator[Any]:
    for subject in SUBJECTS:
        for argument, kind in subject.options.items():
            yield pytest.param(subject, argument, kind, id=f"{subject_id(subject)}-{argument}")


def test_every_public_function_is_here() -> None:
    public = {
        name
        for module in (rdh_ext, nn, distributed, retrieval)
        for name in module.__all__
        if callable(getattr(module, name)) and name not in NOT_HERE | RESULTS | ON_DISK
    }
    assert public - {"PairwiseLoss"} <= {subject.name for subject in SUBJECTS}


@pytest.mark.parametrize("subject", SUBJECTS, ids=subject_id)
def test_the_arguments_are_good_before_they_are_spoiled(subject: Subject) -> None:
    subject.call(**{name: value for name, (value, _) in subject.tensors.items()})


@pytest.mark.parametrize(("subject", "argument", "value", "kind", "full_kind"), list(every_tensor()))
class TestTensors:
    def test_not_a_tensor(self, subject: Subject, argument: str, value: Tensor, kind: str, full_kind: str) -> None:
        for wrong in (value.tolist(), value.numpy(), "codes", 3.5, torch.float32, object()):
            refused(TypeError, subject, argument, **{argument: wrong})
        if kind in ("codes", "histogram", "float") and "None" not in full_kind:
            refused(TypeError, subject, argument, **{argument: None})

    def test_dtype(self, subject: Subject, argument: str, value: Tensor, kind: str, full_kind: str) -> None:
        for dtype in BAD_TENSORS[kind]:
            refused(TypeError, subject, argument, **{argument: value.to(dtype)})

    def test_layout(self, subject: Subject, argument: str, value: Tensor, kind: str, full_kind: str) -> None:
        wide = value if value.dim() > 1 else value[:, None]
        refused(TypeError, subject, argument, **{argument: wide.to_sparse()})
        refused(TypeError, subject, argument, **{argument: nested(wide)})

    def test_dimensions(self, subject: Subject, argument: str, value: Tensor, kind: str, full_kind: str) -> None:
        if "any" in full_kind:
            return
        fewer_or_more = (value.flatten()[0], value[None, None], value[..., None, None])
        for wrong in fewer_or_more if kind == "labels" else (*fewer_or_more, value[0], value[None]):
            refused(ValueError, subject, argument, **{argument: wrong})

    def test_device(self, subject: Subject, argument: str, value: Tensor, kind: str, full_kind: str) -> None:
        if len(subject.tensors) > 1:  # where the first one moves, it is the second one that is elsewhere
            refused(ValueError, subject, subject.in_doubt(argument), **{argument: value.to("meta")})


@pytest.mark.parametrize(
    "subject", [s for s in SUBJECTS if set(s.tensors) & {"codes", "q", "histogram"}], ids=subject_id
)
def test_width_of_what_is_packed_or_counted(subject: Subject) -> None:
    first, (value, kind) = next(iter(subject.tensors.items()))
    refused(ValueError, subject, first, **{first: value[:, :0]})
    if kind == "codes":
        too_wide = {name: codes.repeat(1, 257) for name, (codes, kind) in subject.tensors.items() if kind == "codes"}
        refused(ValueError, subject, first, **too_wide)


@pytest.mark.parametrize("name", ["pack_codes", "count_zeros"])
def test_width_of_what_will_be_packed(name: str) -> None:
    subject = next(subject for subject in SUBJECTS if subject.name == name)
    refused(ValueError, subject, "h", h=H[:, :0])
    refused(ValueError, subject, "h", h=torch.zeros(1, 4097))


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if len(s.tensors) > 1], ids=subject_id)
def test_widths_that_do_not_match(subject: Subject) -> None:
    first = next(iter(subject.tensors))
    second = subject.in_doubt(first)
    value = subject.tensors[second][0]
    refused(ValueError, subject, second, **{second: value[:, :1]})
    refused(ValueError, subject, second, **{second: torch.cat((value, value), 1)})


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if s.needs_values], ids=subject_id)
def test_numbers_need_values(subject: Subject) -> None:
    meta = {name: value.to("meta") for name, (value, _) in subject.tensors.items()}
    refused(ValueError, subject, next(iter(meta)), **meta)


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if s.tensors and not s.needs_values], ids=subject_id)
def test_shapes_need_none(subject: Subject) -> None:
    """Everything on the meta device: the shapes and dtypes of the real result."""
    meta = subject.call(**{name: value.to("meta") for name, (value, _) in subject.tensors.items()})
    real = subject.call(**{name: value for name, (value, _) in subject.tensors.items()})
    pairs = zip(meta, real, strict=True) if isinstance(meta, tuple) else [(meta, real)]
    assert all((m.is_meta, m.shape, m.dtype) == (True, r.shape, r.dtype) for m, r in pairs)


@pytest.mark.parametrize(("subject", "argument", "kind"), list(every_option()))
def test_options(subject: Subject, argument: str, kind: str) -> None:
    types, values = BAD_OPTIONS[kind.split(" or ")[0]]
    for wrong in types:
        if not (wrong is None and "None" in kind):
            refused(TypeError, subject, argument, **{argument: wrong})
    for wrong in values:
        refused(ValueError, subject, argument, **{argument: wrong})


@pytest.mark.parametrize(("subject", "argument", "kind"), list(every_option()))
def test_numpy_numbers_are_numbers(subject: Subject, argument: str, kind: str) -> None:
    """np.float32 is no float and np.int64 no int; what comes out of an array of settings is taken all the same."""
    arguments = {name: value for name, (value, _) in subject.tensors.items()}
    name = kind.split(" or ")[0]
    if name in ("tau", "positive", "finite", "not negative"):
        subject.call(**arguments, **{argument: np.float32(0.5)})
        subject.call(**arguments, **{argument: np.float64(0.5)})
    elif name in ("count", "radius", "bits"):
        subject.call(**arguments, **{argument: np.int64(16)})
    elif name == "points":
        for at in (np.array([1, 2]), torch.tensor([2, 1]), range(1, 3), (point for point in (1, 2))):
            assert subject.call(**arguments, at=at).at.tolist() == [1, 2]


def test_as_many_as_there_are() -> None:
    """A k that no integer of the machine holds is beyond the gallery like any other."""
    assert torch.equal(rdh_ext.hamming_topk(Q, G, HUGE)[1], rdh_ext.hamming_topk(Q, G, 6)[1])
    assert rdh_ext.evaluate(Q, G, IDS, MORE_IDS, topk=HUGE).map == RESULT.map
    assert RESULT.ndcg(HUGE) == RESULT.ndcg()
    assert RESULT.precision_at(HUGE) == RESULT.precision_at(6)
    assert RESULT.precision_within_radius(HUGE) == RESULT.precision_within_radius(16)


def test_nothing_in_nothing_out() -> None:
    """Empty input that no op's own file has."""
    for module in (nn.AmplifiedTanh(), nn.AmplifiedSigmoid(), nn.GradientAmplifier()):
        x = torch.zeros(0, 16, requires_grad=True)
        module(x).sum().backward()
        assert x.grad is not None
        assert x.grad.shape == (0, 16)
    loss = nn.PairwiseLoss()(x, IDS[:0])
    loss.backward()
    assert loss.item() == 0.0
    result = retrieval.evaluate_histogram(HISTOGRAM[:0])
    assert (result.map, result.queries, result.gallery) == (0.0, 0, 0)
    with pytest.raises(ValueError, match=r"^pairwise_loss: labels must be class ids \[0\]"):
        nn.PairwiseLoss()(x, IDS)


def test_counts_that_overflow_are_refused() -> None:
    refused(
        ValueError,
        next(s for s in SUBJECTS if s.name == "average_precision"),
        "histogram",
        histogram=torch.full((1, 3, 2), 2**62),
    )
    assert retrieval.average_precision(torch.full((1, 3, 2), 2**60)).item() == pytest.approx(1.0)


def test_absurd_calls_do_not_end_the_interpreter() -> None:
    """Thousands of random calls of the bare ops, which check less: results or exceptions, never a crash."""
    script = Path(__file__).parents[1] / "absurd_calls.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(rdh_ext.__file__).parents[1])}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    calls, results = map(int, done.stdout.split())
    assert 100 < results < calls - 100  # some were in order, some were not
