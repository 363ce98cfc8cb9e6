"""The metric for training loops: what one evaluation of everything gives, however it arrives."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest
import torch
from hamming_map_cases import (
    BITS,
    TIES,
    HammingMAP,
    batches,
    evaluated,
    filled,
    make_case,
    same,
    same_bits,
    torchmetrics,
)
from torch import Tensor

import rdh_ext

ORDERLESS = ("expected", "optimistic", "pessimistic")
DENOMINATORS = ("found", "relevant", "min")


@pytest.mark.parametrize("classes", [None, 70])
@pytest.mark.parametrize("topk", [None, 17])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("ties", TIES)
def test_equals_one_evaluation(ties: str, denominator: str, topk: int | None, classes: int | None) -> None:
    case = make_case(classes)
    options: dict[str, Any] = {"topk": topk, "ties": ties, "denominator": denominator, "empty": "skip"}
    metric, expected = filled(case, **options), evaluated(case, **options)
    value = metric.compute()
    assert same(metric.result, expected)
    assert same_bits(value, torch.tensor(expected.map))
    assert metric.bits == BITS
    assert metric.result.precision_at(5) == expected.precision_at(5)
    assert metric.result.ndcg() == expected.ndcg()


@pytest.mark.parametrize("classes", [None, 70])
def test_any_order_and_any_batches(classes: int | None) -> None:
    """But with stable ties, where the order of the updates is that of the gallery."""
    case = make_case(classes)
    for size in (1, 7, 64, 1000):
        parts = list(batches(case, size))
        order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(size)).tolist()
        metrics = {ties: HammingMAP(topk=40, ties=ties) for ties in TIES}
        for i in order:
            for metric in metrics.values():
                metric.update(parts[i][0], parts[i][1], role=parts[i][2])
        for ties in ORDERLESS:
            assert same_bits(metrics[ties].compute(), torch.tensor(evaluated(case, topk=40, ties=ties).map))
            assert metrics[ties].result.map == evaluated(case, topk=40, ties=ties).map
        arrived = [
            torch.cat([parts[i][place] for i in order if parts[i][2] == role])
            for place in (0, 1)
            for role in ("query", "gallery")
        ]
        metrics["stable"].compute()
        assert same(metrics["stable"].result, evaluated(tuple(arrived), topk=40, ties="stable"))


def test_items_that_are_both() -> None:
    _, h, _, labels = make_case()
    metric = HammingMAP()
    for h_batch, labels_batch in zip(h.split(40), labels.split(40), strict=True):
        metric.update(h_batch, labels_batch)
    metric.update(h[:9], labels[:9], role="query")
    metric.compute()
    queries = torch.cat((h, h[:9])), torch.cat((labels, labels[:9]))
    assert same(metric.result, evaluated((queries[0], h, queries[1], labels)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_of_outputs_and_labels(dtype: torch.dtype) -> None:
    for classes in (None, 6):
        hq, hg, q_labels, g_labels = make_case(classes)
        expected = evaluated((hq, hg, q_labels, g_labels))
        label_dtype = torch.int16 if classes is None else dtype
        metric = HammingMAP()
        metric.update(hq.to(dtype).requires_grad_(), q_labels.to(label_dtype), role="query")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            metric.update(hg.to(dtype), g_labels, role="gallery")
            value = metric.compute()
        assert same(metric.result, expected)
        assert (value.dtype, value.requires_grad) == (torch.float32, False)


@pytest.mark.parametrize("bits", [3, 8, 12, 16, 100])
def test_packed_codes(bits: int) -> None:
    case = hq, hg, q_labels, g_labels = make_case(bits=bits)
    expected = evaluated(case)
    for given in (bits, None):
        metric = HammingMAP(given)
        metric.update(hq, q_labels, role="query")  # says K
        metric.update(rdh_ext.pack_codes(hg), g_labels, role="gallery")
        metric.compute()
        assert same(metric.result, expected)
    metric = HammingMAP(bits)
    metric.update(rdh_ext.pack_codes(hq).T.contiguous().T, q_labels, role="query")
    metric.update(rdh_ext.pack_codes(hg), g_labels, role="gallery")
    metric.compute()
    assert same(metric.result, expected)
    metric = HammingMAP()
    metric.update(rdh_ext.pack_codes(hq), q_labels, role="query")
    assert metric.bits == (bits + 7) // 8 * 8


def test_exact_zeros_are_ones() -> None:
    metric = HammingMAP()
    metric.update(torch.tensor([[0.0, -0.0, -1e-30]]), torch.tensor([0]))
    assert metric.q_codes[0].tolist() == [[3]]


def test_empty_batches() -> None:
    case = hq, hg, q_labels, g_labels = make_case(6)
    metric = HammingMAP()
    for role in ("query", "gallery", "both"):
        metric.update(hq[:0], q_labels[:0], role=role)
        metric.update(rdh_ext.pack_codes(hq[:0]), q_labels[:0].float(), role=role)
    assert metric.bits == BITS
    metric.update(hq, q_labels, role="query")
    metric.update(hg, g_labels, role="gallery")
    metric.compute()
    assert same(metric.result, evaluated(case))


def test_what_was_collected_is_a_copy() -> None:
    for classes in (None, 6):
        hq, hg, q_labels, g_labels = make_case(classes)
        expected = evaluated((hq, hg, q_labels, g_labels))
        codes = rdh_ext.pack_codes(hg)
        metric = HammingMAP(BITS)
        metric.update(hq, q_labels, role="query")
        metric.update(codes, g_labels, role="gallery")
        for tensor in (hq, codes, q_labels, g_labels):
            tensor.zero_()
        metric.compute()
        assert same(metric.result, expected)


def test_updates_after_computing_and_reset() -> None:
    hq, hg, q_labels, g_labels = make_case()
    metric = HammingMAP()
    metric.update(hq, q_labels, role="query")
    for rows in (slice(0, 60), slice(60, 150)):
        metric.update(hg[rows], g_labels[rows], role="gallery")
        first = metric.compute()
        assert metric.compute() is first  # remembered
        assert same(metric.result, evaluated((hq, hg[: rows.stop], q_labels, g_labels[: rows.stop])))
    result = metric.result
    metric.reset()
    assert metric.bits is None
    assert metric.result is result
    other = make_case(5, bits=20)  # nothing is left of the first codes
    for h, labels, role in batches(other):
        metric.update(h, labels, role=role)
    metric.compute()
    assert same(metric.result, evaluated(other))


def test_copies_and_checkpoints() -> None:
    case = make_case(9)
    for metric in (filled(case), filled(case, topk=9, ties="stable")):
        expected = metric.clone().compute()
        for twin in (pickle.loads(pickle.dumps(metric)), metric.clone()):
            assert twin.result is None
            assert same_bits(twin.compute(), expected)
            twin.update(case[0], case[2], role="query")
            assert same(pickle.loads(pickle.dumps(twin)).result, twin.result)
        assert metric.result is None
        assert not metric.state_dict()
        metric.persistent(True)
        loaded = HammingMAP(topk=metric.topk, ties=metric.ties)
        loaded.load_state_dict(metric.state_dict())
        loaded._update_count = 1  # or torchmetrics takes it for a metric without updates
        assert same_bits(loaded.compute(), expected)
        assert loaded.bits == BITS


def test_moves_and_types() -> None:
    """Codes and labels stay integers; what a type is asked for is the value."""
    case = make_case()
    metric = filled(case)
    expected = evaluated(case).map
    assert metric.to("cpu").half().double().compute().dtype == torch.float32
    for dtype, of_value in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        for moved in (metric.clone().set_dtype(dtype), metric.clone().to(dtype)):
            moved.update(case[0][:0], case[2][:0])
            value = moved.compute()
            assert same_bits(value, torch.tensor(expected, dtype=of_value))
            assert moved.q_codes[0].dtype == torch.uint8
    holder = torch.nn.Sequential(torch.nn.Linear(2, 2), filled(case)).to(torch.float16)
    assert same_bits(holder[1].compute(), torch.tensor(expected))


@pytest.mark.cuda
def test_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for classes in (None, 70):
        case = make_case(classes)
        for ties in TIES:
            for options in ({}, {"compute_on_cpu": True}):
                metric = HammingMAP(ties=ties, topk=50, **options).cuda()
                for h, labels, role in batches(case):
                    metric.update(h.cuda(), labels.cuda(), role=role)
                value = metric.compute()
                assert value.is_cuda
                assert metric.q_codes[0].is_cuda != bool(options)
                assert same(metric.result, evaluated(case, ties=ties, topk=50))
                metric.cpu().update(case[0][:0], case[2][:0])
                assert same_bits(metric.compute(), value.cpu())


@pytest.mark.parametrize("classes", [None, 70])
def test_in_a_collection(classes: int | None) -> None:
    """Metrics of one collection share what they collected, and each computes its own."""
    options: dict[str, dict[str, Any]] = {
        "all": {},
        "first": {"topk": 9},
        "stable": {"ties": "stable", "empty": "skip"},
    }
    metrics = torchmetrics.MetricCollection({name: HammingMAP(**of) for name, of in options.items()})
    for _ in range(2):
        hq, hg, q_labels, g_labels = make_case(classes)
        for rows in (slice(0, 70), slice(70, 150)):
            metrics.update(hg[rows], g_labels[rows], role="gallery")
            metrics.update(hq[rows], q_labels[rows], role="query")
            seen = hq[: rows.stop], hg[: rows.stop], q_labels[: rows.stop], g_labels[: rows.stop]
            values = metrics.compute()
            assert list(map(sorted, metrics.compute_groups.values())) == [sorted(options)]
            for name, of in options.items():
                assert same(metrics[name].result, evaluated(seen, **of))
                assert same_bits(values[name], torch.tensor(evaluated(seen, **of).map))
                assert metrics[name].bits == BITS
        metrics.reset()


def test_called_as_a_function() -> None:
    """The value of the batch, which is added as by ``update``."""
    hq, hg, q_labels, g_labels = make_case()
    metric = HammingMAP()
    with pytest.warns(UserWarning, match="HammingMAP: got no gallery"):
        assert metric(hq, q_labels, role="query") == 0
    batch = hg[:20], hg[:20], g_labels[:20], g_labels[:20]
    assert same_bits(metric(hg[:20], g_labels[:20]), torch.tensor(evaluated(batch).map))
    assert same(metric.result, evaluated(batch))
    metric.update(hg[20:], g_labels[20:], role="gallery")
    metric.compute()
    assert same(
        metric.result, evaluated((torch.cat((hq, hg[:20])), hg, torch.cat((q_labels, g_labels[:20])), g_labels))
    )
    assert metric.update_count == 3


def test_states_that_are_merged() -> None:
    case = hq, hg, q_labels, g_labels = make_case()
    if not hasattr(HammingMAP, "merge_state"):
        pytest.skip("a torchmetrics that cannot merge states")
    metric, other = HammingMAP(), HammingMAP()
    metric.update(hq, q_labels, role="query")
    other.update(hg, g_labels, role="gallery")
    metric.merge_state(other)
    metric.compute()
    assert same(metric.result, evaluated(case))


def test_without_updates() -> None:
    for metric, bits in ((HammingMAP(), 8), (HammingMAP(20), 20)):
        with pytest.warns(UserWarning, match="was called before the ``update`` method"):
            assert metric.compute() == 0
        assert (metric.result.queries, metric.result.gallery, metric.result.bits) == (0, 0, bits)


@pytest.mark.parametrize(
    ("role", "missing"), [("query", "gallery"), ("gallery", "queries"), (None, "queries and no gallery")]
)
def test_without_queries_or_gallery(role: str | None, missing: str) -> None:
    metric = HammingMAP()
    rows = 0 if role is None else 3
    metric.update(torch.ones(rows, 9), torch.zeros(rows, dtype=torch.int64), role=role or "both")
    with pytest.warns(UserWarning, match=f"^HammingMAP: got no {missing} \\(see role in update\\): the value is 0"):
        assert metric.compute() == 0
    assert (metric.result.queries, metric.result.gallery) == (3 * (role == "query"), 3 * (role == "gallery"))


def test_queries_without_relevant_items() -> None:
    values = {}
    for empty in ("zero", "skip", "error"):
        metric = HammingMAP(empty=empty)
        metric.update(torch.ones(2, 9), torch.tensor([0, 1]), role="query")
        metric.update(torch.ones(1, 9), torch.tensor([0]), role="gallery")
        try:
            values[empty] = float(metric.compute())
        except ValueError as error:
            values[empty] = str(error)
            assert metric.result is None
    message = "HammingMAP: every query must have a relevant item in the gallery with empty='error', got 1 of 2"
    assert values == {"zero": 0.5, "skip": 1.0, "error": f"{message} queries without one"}


def test_does_not_depend_on_defaults() -> None:
    case = make_case(6)
    metric = HammingMAP()
    with torch.inference_mode(), torch.device("meta"):
        for h, labels, role in batches(case):
            metric.update(h, labels, role=role)
        value = metric.compute()
    assert same_bits(value, torch.tensor(evaluated(case).map))
    metric.update(case[0][:0], case[2][:0])
    assert same_bits(metric.compute(), value)


def test_does_not_keep_a_module_from_being_scripted() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = HammingMAP()

        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.script(Net())
    assert scripted(torch.ones(1)) == 2
