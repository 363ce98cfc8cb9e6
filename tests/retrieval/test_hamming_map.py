"""The metric for training loops: what one evaluation of everything gives, however it arrives and on how many ranks."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hamming_cases import random_ids, random_multi_hot
from process_group import SETUPS, run_setup
from torch import Tensor

import rdh_ext
from rdh_ext.hashing import MissingExtra
from rdh_ext.retrieval import EvaluationResult, evaluate

torchmetrics = pytest.importorskip("torchmetrics")
HammingMAP = rdh_ext.retrieval.HammingMAP

import hamming_map_worker as worker  # noqa: E402  needs torchmetrics

TIES = ("expected", "stable", "optimistic", "pessimistic")
ORDERLESS = ("expected", "optimistic", "pessimistic")
DENOMINATORS = ("found", "relevant", "min")
QUERIES, GALLERY, BITS = 23, 150, 12
Case = tuple[Tensor, Tensor, Tensor, Tensor]


def make_case(classes: int | None = None, bits: int = BITS) -> Case:
    """Outputs of few signs, so that there are many ties, and their labels: 4 class ids, or multi-hot."""
    generator = torch.Generator().manual_seed(0)
    hq, hg = torch.randn(QUERIES, bits, generator=generator), torch.randn(GALLERY, bits, generator=generator)
    hq[:, 5:], hg[:, 5:] = -1, -1
    if classes is None:
        return hq, hg, random_ids(QUERIES, 4, 1), random_ids(GALLERY, 4, 2)
    return hq, hg, random_multi_hot(QUERIES, classes, 1), random_multi_hot(GALLERY, classes, 2)


def evaluated(case: Case, **options: Any) -> EvaluationResult:
    hq, hg, q_labels, g_labels = case
    q, g = rdh_ext.pack_codes(hq), rdh_ext.pack_codes(hg)
    return evaluate(q, g, q_labels, g_labels, bits=hq.shape[1], **options)


def batches(case: Case, size: int = 8) -> Iterator[tuple[Tensor, Tensor, str]]:
    hq, hg, q_labels, g_labels = case
    for role, h, labels in (("query", hq, q_labels), ("gallery", hg, g_labels)):
        for h_batch, labels_batch in zip(h.split(size), labels.split(size), strict=True):
            yield h_batch, labels_batch, role


def filled(case: Case, **options: Any) -> Any:
    metric = HammingMAP(**options)
    for h, labels, role in batches(case):
        metric.update(h, labels, role=role)
    return metric


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def same(a: EvaluationResult, b: EvaluationResult) -> bool:
    return a.to_dict() == b.to_dict() and same_bits(a.ap, b.ap) and torch.equal(a.histogram, b.histogram)


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


def test_what_only_computing_can_see() -> None:
    """torchmetrics empties a metric that is called as a function before ``update`` sees the batch."""
    metric = HammingMAP()
    metric.update(torch.ones(2, 12), torch.tensor([0, 1]))
    metric(torch.ones(2, 9), torch.tensor([0, 1]))
    message = "h and labels must be alike in all updates, got 12 bits with class ids and 9 bits with class ids"
    with pytest.raises(ValueError, match=f"^HammingMAP: {message}$"):
        metric.compute()
    metric.reset()
    metric.update(torch.ones(2, 9), torch.ones(2, 2))
    assert metric.compute() == 1


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


H, IDS, HOT = torch.ones(3, 12), torch.tensor([0, 1, 2]), torch.eye(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bits": 0}, ValueError, r"bits must be an integer in \[1, 4096\], or None, got 0"),
        ({"bits": 4097}, ValueError, r"bits must be an integer in \[1, 4096\], or None, got 4097"),
        ({"bits": 12.0}, TypeError, r"bits must be an integer in \[1, 4096\], or None, got float 12.0"),
        ({"topk": 0}, ValueError, r"topk must be an integer >= 1, or None for the whole gallery, got 0"),
        ({"ties": "random"}, ValueError, r"ties must be one of 'expected', .*, got 'random'"),
        ({"denominator": None}, ValueError, r"denominator must be one of 'found', .*, got None"),
        ({"empty": "neg"}, ValueError, r"empty must be one of 'zero', 'skip', 'error', got 'neg'"),
    ],
)
def test_options_that_do_not_fit(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=f"^HammingMAP: {message}$"):
        HammingMAP(**arguments)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `k`"):
        HammingMAP(k=3)


@pytest.mark.parametrize(
    ("before", "h", "labels", "error", "message"),
    [
        (None, [[1.0]], IDS, TypeError, r"h must be a torch.Tensor, got list \[\[1.0\]\]"),
        (None, H.long(), IDS, TypeError, r"h must be a tensor of dtype float32, .*, uint8, got int64 \[3, 12\] on cpu"),
        (None, H[0], IDS, ValueError, r"h must be a tensor of 2 dimensions, got float32 \[12\] on cpu"),
        (None, H[:, :0], IDS, ValueError, r"h must be \[N, K\] with K from 1 to 4096, got float32 \[3, 0\] on cpu"),
        (None, H[:, :0].byte(), IDS, ValueError, r"h must be \[rows, bytes\] with 1 to 512 bytes .*"),
        (
            None,
            H.to("meta"),
            IDS,
            ValueError,
            r"h must be on the device of the metric \(cpu\), which .to\(\) moves, .*",
        ),
        (None, H.log() / 0, IDS, ValueError, r"h must be free of NaN, got 36 NaN in float32 \[3, 12\] on cpu"),
        (None, H, IDS[:2], ValueError, r"labels must be class ids \[3\] .* or multi-hot rows \[3, C\] .*"),
        (None, H, -IDS, ValueError, r"labels must be class ids \[3\] \(integers >= 0\) .*, got -2"),
        (None, H, HOT * 2, ValueError, r"labels must be class ids \[3\] .*, got 2.0"),
        (None, H, IDS.float(), TypeError, r"labels must be class ids \[3\] .*, got float32 \[3\] on cpu"),
        (None, H, IDS.tolist(), TypeError, r"labels must be class ids \[3\] .*, got list \[0, 1, 2\]"),
        (None, H, IDS.to("meta"), ValueError, r"labels must be on the device of what it labels \(cpu\), got .*"),
        (9, H, IDS, ValueError, r"h must be of 9 bits \[B, 9\], got float32 \[3, 12\] on cpu"),
        (9, H[:, :1].byte(), IDS, ValueError, r"h must be codes of 9 bits \[B, 2\], got uint8 \[3, 1\] on cpu"),
        (9, H[:, :2].byte() * 2, IDS, ValueError, r"h must have zeros behind its 9 bits, got ones in the last byte"),
        ((H, IDS), H[:, :11], IDS, ValueError, r"h must be of 12 bits \[B, 12\], got float32 \[3, 11\] on cpu"),
        ((H, IDS), H[:, :3].byte(), IDS, ValueError, r"h must be codes of 12 bits \[B, 2\], got uint8 \[3, 3\] on cpu"),
        ((H, IDS), H, HOT, ValueError, r"labels must be class ids like those before, got multi-hot rows"),
        ((H, HOT), H, IDS, ValueError, r"labels must be multi-hot rows like those before, got class ids"),
        ((H, HOT), H, HOT[:, :2], ValueError, r"labels must have the 3 classes of those before, got 2"),
    ],
)
def test_updates_that_do_not_fit(before: Any, h: Any, labels: Any, error: type, message: str) -> None:
    """They leave the metric as it was."""
    for role, first in (("query", "gallery"), ("gallery", "query"), ("both", "both")):
        metric = HammingMAP(before if isinstance(before, int) else None)
        if isinstance(before, tuple):
            metric.update(*before, role=first)
        sizes = {name: len(state) for name, state in metric.metric_state.items()}
        with pytest.raises(error, match=f"^HammingMAP: {message}$"):
            metric.update(h, labels, role=role)
        assert {name: len(state) for name, state in metric.metric_state.items()} == sizes


@pytest.mark.parametrize("role", ["queries", None, 1])
def test_unknown_roles(role: Any) -> None:
    with pytest.raises(ValueError, match=r"^HammingMAP: role must be one of 'both', 'query', 'gallery', got "):
        HammingMAP().update(H, IDS, role=role)


def test_without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the package is there, and who asks for the metric reads what to install."""
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    message = r"^torchmetrics is not installed; get it with: pip install 'rdh_ext\[metrics\]'$"
    with pytest.raises(MissingExtra, match=message):
        _ = rdh_ext.retrieval.HammingMAP
    with pytest.raises(MissingExtra, match=message):
        exec("from rdh_ext.retrieval import HammingMAP", {})
    names: dict[str, Any] = {}
    exec("from rdh_ext.retrieval import *", names)
    assert "evaluate" in names
    assert "HammingMAP" not in dir(rdh_ext.retrieval)
    with pytest.raises(AttributeError, match=r"^module 'rdh_ext\.retrieval' has no attribute 'HammingMap'$"):
        _ = rdh_ext.retrieval.HammingMap


def test_is_listed_where_torchmetrics_is_installed() -> None:
    assert {"HammingMAP", "evaluate"} <= set(dir(rdh_ext.retrieval))
    assert HammingMAP.__module__ == "rdh_ext.retrieval.hamming_map"


@pytest.mark.parametrize("how", ["metric", "value"])
def test_in_a_lightning_trainer(how: str) -> None:
    """With two loaders, queries and gallery, and batches that are not full; the trainer resets the metric itself."""
    lightning = pytest.importorskip("lightning.pytorch")
    data = torch.utils.data

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.map = torch.nn.Linear(BITS, 10), HammingMAP(topk=50)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            x, labels = batch
            self.map.update(self.net(x), labels, role=("query", "gallery")[dataloader_idx])

        def on_validation_epoch_end(self) -> None:
            if how == "metric":
                self.log("map", self.map)
            else:
                self.log("map", self.map.compute())
                self.map.reset()

    x, y, x_labels, y_labels = make_case()
    sets = [data.TensorDataset(x, x_labels), data.TensorDataset(y, y_labels)]
    loaders = [data.DataLoader(part, batch_size=16) for part in sets]
    module = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loaders[1], loaders)  # after two batches of each as a sanity check
        with torch.no_grad():
            expected = evaluated((module.net(x), module.net(y), x_labels, y_labels), topk=50)
        assert same(module.map.result, expected)
        for _ in range(2):
            module.map.result = None
            (logged, _) = trainer.validate(module, loaders, verbose=False)
            assert logged == {"map": float(torch.tensor(expected.map))}
            assert same(module.map.result, expected)
            assert module.map.update_count == 0


@pytest.fixture(scope="module", params=SETUPS, ids=lambda setup: "-".join(setup[:2]))
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes have computed, which do all their jobs in one life."""
    return run_setup(request.param, tmp_path_factory.mktemp("ranks"), Path(worker.__file__))


def joint(kind: str, shares: Any) -> Case:
    """The items of both ranks, one rank behind the other."""
    (hq, q_labels), (hg, g_labels) = worker.make_items(kind)
    (q_first, q_second), (g_first, g_second) = shares
    queries = (torch.cat((part[q_first], part[q_second])) for part in (hq, q_labels))
    gallery = (torch.cat((part[g_first], part[g_second])) for part in (hg, g_labels))
    (hq, q_labels), (hg, g_labels) = queries, gallery
    return hq, hg, q_labels, g_labels


def assert_computed(got: dict[str, Any], expected: EvaluationResult) -> None:
    assert same_bits(got["value"], torch.tensor(expected.map))
    assert same_bits(got["ap"], expected.ap)
    assert torch.equal(got["histogram"], expected.histogram)
    assert got["queries"] == expected.queries


class TestTwoProcesses:
    @pytest.mark.parametrize("split", worker.SPLITS)
    @pytest.mark.parametrize("kind", worker.KINDS)
    def test_equal_one(self, ranks: list[dict[str, Any]], kind: str, split: str) -> None:
        """Bit for bit, with ranks that have no queries, no gallery, or nothing; and without update, or an empty one."""
        names = [name for name in ranks[0]["compute_jointly"] if name.startswith(f"{kind}, {split}, ")]
        assert len(names) == len(TIES) + 1
        for name in names:
            expected = evaluated(joint(kind, worker.SPLITS[split]), ties=name.split(", ")[-2])
            for rank in ranks:
                assert_computed(rank["compute_jointly"][name], expected)

    def test_go_on_after_computing(self, ranks: list[dict[str, Any]]) -> None:
        (hq, q_labels), (hg, g_labels) = worker.make_items("ids")
        for rank, results in enumerate(part["go_on_after_computing"] for part in ranks):
            for step, stop in enumerate((20, 45, 60)):
                expected = evaluated((hq, hg[:stop], q_labels, g_labels[:stop]), topk=20)
                assert same_bits(results[f"step {step}"]["value"], torch.tensor(expected.map))
                assert same_bits(results[f"step {step}"]["ap"].sort().values, expected.ap.sort().values)
            assert results["mine"] == (31, 29)[rank]
            both = evaluated((hg, hg, g_labels, g_labels), topk=20)
            assert same_bits(results["both"]["value"], torch.tensor(both.map))

    def test_collections(self, ranks: list[dict[str, Any]]) -> None:
        for results in (rank["compute_collections"] for rank in ranks):
            assert len(results) == 6
            for name, values in results.items():
                case = joint("multi_hot", worker.SPLITS[name.rsplit(", ", 1)[0]])
                assert same_bits(values["all"], torch.tensor(evaluated(case).map))
                assert same_bits(values["first"], torch.tensor(evaluated(case, topk=5, denominator="min").map))

    def test_nothing_on_any_rank(self, ranks: list[dict[str, Any]]) -> None:
        for results in (rank["compute_nothing"] for rank in ranks):
            assert results["value"] == 0
            assert results["histogram"].shape == (0, worker.BITS + 1, 2)

    def test_every_rank_hears_of_a_difference(self, ranks: list[dict[str, Any]]) -> None:
        """And goes on with what it has."""
        for results in (rank["compute_what_does_not_fit"] for rank in ranks):
            message = "HammingMAP: h and labels must be alike on all ranks, got 10 bits with class ids (rank 0) and "
            assert results["bits"] == f"{message}9 bits with class ids (rank 1)"
            assert results["kind of labels"] == f"{message}10 bits with multi-hot rows of 2 classes (rank 1)"
            assert "got 1 of 2 queries without one" in results["a query without relevant items"]
            assert results["mine"] == 2
            h, labels = torch.ones(6, 10), torch.tensor([0, 0, 1, 0, 0, 1])
            assert_computed(results["after"], evaluated((h[:2], h, torch.tensor([0, 1]), labels)))
