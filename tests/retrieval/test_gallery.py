"""Prepared galleries: what the one-shot functions give, bit for bit, in the memory that is promised."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hamming_cases import LargestTensor, awkward_views, random_codes, random_ids, random_multi_hot
from torch import Tensor

import rdh_ext
from rdh_ext.retrieval import Gallery
from rdh_ext.retrieval import gallery as module

STEM = "hamming_histogram"
TIES = ("expected", "stable", "optimistic", "pessimistic")
Case = tuple[Tensor, Tensor, Tensor, Tensor]


def make_case(gallery: int, bits: int, classes: int | None = None, queries: int = 9) -> Case:
    """Codes that repeat; 5 class ids of which the gallery has 4, or multi-hot labels, some without any."""
    q, g = random_codes(queries, bits, 1), random_codes(gallery, bits, 2, distinct=max(1, gallery // 3))
    if classes is None:
        return q, g, random_ids(queries, 5, 3), random_ids(gallery, 4, 4)
    q_labels, g_labels = random_multi_hot(queries, classes, 3), random_multi_hot(gallery, classes, 4)
    q_labels[:1], g_labels[::4] = False, False
    return q, g, q_labels, g_labels


def same(a: rdh_ext.retrieval.EvaluationResult, b: rdh_ext.retrieval.EvaluationResult) -> bool:
    tensors = (a.ap, b.ap), (a.histogram, b.histogram), (a.ndcg_per_query(7), b.ndcg_per_query(7))
    curves = ((a.pr_curve(by).precision, b.pr_curve(by).precision) for by in ("radius", "rank", "recall"))
    same_bits = (torch.equal(x.view(torch.int64), y.view(torch.int64)) for x, y in (*tensors, *curves))  # NaN too
    return a.to_dict() == b.to_dict() and all(same_bits)


@pytest.mark.parametrize("planes", [True, False])
@pytest.mark.parametrize("classes", [None, 1, 70])
@pytest.mark.parametrize(("gallery", "bits"), [(0, 9), (1, 64), (63, 1), (700, 12), (4097, 64), (300, 200)])
def test_equals_the_functions(backend: str, gallery: int, bits: int, classes: int | None, planes: bool) -> None:
    case = q, g, q_labels, g_labels = tuple(part.to(backend) for part in make_case(gallery, bits, classes))
    prepared = Gallery(g, g_labels, bits=bits, planes=planes)
    assert len(prepared) == gallery
    for some in (slice(0, 9), slice(0, 0), slice(3, 4)):  # as many query sets as one likes
        assert torch.equal(prepared.distance(q[some]), rdh_ext.hamming_distance(q[some], g))
        for k in (1, 50, 10**30):
            ours, theirs = prepared.topk(q[some], k), rdh_ext.hamming_topk(q[some], g, k)
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])
        expected = rdh_ext.hamming_histogram(q[some], g, q_labels[some], g_labels, bits=bits)
        assert torch.equal(prepared.histogram(q[some], q_labels[some]), expected)
    for ties in TIES:
        options: dict[str, Any] = {"topk": 40, "ties": ties, "denominator": "min", "empty": "skip"}
        assert same(prepared.evaluate(q, q_labels, **options), rdh_ext.evaluate(*case, bits=bits, **options))
        assert same(prepared.evaluate(q, q_labels, ties=ties), rdh_ext.evaluate(*case, ties=ties, bits=bits))


@pytest.mark.parametrize("classes", [None, 70])
def test_moves_between_devices(backend: str, classes: int | None) -> None:
    q, g, q_labels, g_labels = make_case(5000, 20, classes)
    there = Gallery(g, g_labels, bits=20).to(backend)
    assert there.device.type == backend
    assert (len(there), there.bits, there.classes) == (5000, 20, Gallery(g, g_labels).classes)
    expected = rdh_ext.hamming_histogram(q, g, q_labels, g_labels, bits=20)
    assert torch.equal(there.histogram(q.to(backend), q_labels.to(backend)).cpu(), expected)
    back = there.to("cpu")
    assert torch.equal(back.histogram(q, q_labels), expected)
    assert back.nbytes == Gallery(g, g_labels, bits=20).nbytes


ID_SETS = {
    "uint8": (torch.arange(256), torch.uint8),
    "int16": (torch.arange(257), torch.int16),
    "int16, to the end": (torch.arange(32768), torch.int16),
    "int32": (torch.arange(32769), torch.int32),
    "far apart": (torch.tensor([0, 3, 2**40, 2**63 - 1]), torch.uint8),
    "just below the table's end": (torch.tensor([5, (1 << 20) - 1]), torch.uint8),
    "just beyond it": (torch.tensor([5, 1 << 20]), torch.uint8),
}


@pytest.mark.parametrize(("ids", "dtype"), ID_SETS.values(), ids=ID_SETS.keys())
def test_class_ids_are_kept_in_the_smallest_type(ids: Tensor, dtype: torch.dtype) -> None:
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    g, q = random_codes(len(ids), 8, 1), random_codes(7, 8, 2)
    prepared = Gallery(g, ids[order])
    assert prepared._labels is not None
    assert prepared._labels.dtype == dtype
    assert prepared.classes == len(ids)
    q_labels = torch.stack((ids[0], ids[-1], ids[-2], ids[-1] - 1, ids[0] + 1, torch.tensor(4), torch.tensor(2**62)))
    expected = rdh_ext.hamming_histogram(q, g, q_labels, ids[order])
    assert torch.equal(prepared.histogram(q, q_labels), expected)
    assert expected[:3, :, 1].sum() == 3
    assert not expected[6, :, 1].any()


def test_classes_that_the_gallery_does_not_have() -> None:
    """Among them those that another class would become in its smaller type."""
    g, labels = random_codes(500, 8), random_ids(500, 200) + 10
    prepared = Gallery(g, labels)
    unknown = torch.tensor([0, 9, 210, 255, 256, 266, 65546, 2**32 + 10, 2**63 - 1])
    assert not prepared.histogram(random_codes(9, 8, 1), unknown)[..., 1].any()
    assert prepared.evaluate(random_codes(9, 8, 1), unknown).queries_without_relevant == 9
    assert not Gallery(g[:0], labels[:0]).histogram(random_codes(9, 8, 1), unknown).any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_and_strides_of_multi_hot_labels(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    q, g, q_labels, g_labels = make_case(9000, 16, 11)
    expected = rdh_ext.hamming_histogram(q, g, q_labels, g_labels)
    for rows in (module._ROWS, 4096):
        monkeypatch.setattr(module, "_ROWS", rows)
        for view in awkward_views(g_labels.to(dtype)):
            assert torch.equal(Gallery(g, view).histogram(q, q_labels.to(dtype)), expected)


def test_awkward_memory_of_codes() -> None:
    q, g, q_labels, g_labels = make_case(700, 40)
    expected = rdh_ext.hamming_histogram(q, g, q_labels, g_labels)
    for q_view, g_view in zip(awkward_views(q), awkward_views(g), strict=True):
        prepared = Gallery(g_view, g_labels)
        assert torch.equal(prepared.histogram(q_view, q_labels), expected)
        assert torch.equal(prepared.topk(q_view, 30)[1], rdh_ext.hamming_topk(q, g, 30)[1])


@pytest.mark.parametrize(
    ("bits", "labels", "per_item"),
    [
        (64, None, 16),
        (64, random_ids(40_960, 10), 17),
        (64, random_ids(40_960, 1000), 18),
        (24, random_ids(40_960, 200), 7),
        (64, random_multi_hot(40_960, 81, share=0.03), 26.125),
        (12, random_multi_hot(40_960, 3), 2 + 1.5 + 0.375),
    ],
)
def test_memory_is_what_is_promised(bits: int, labels: Tensor | None, per_item: float) -> None:
    codes = random_codes(40_960, bits)
    prepared = Gallery(codes, labels, bits=bits)
    table = 8 * prepared.classes if labels is not None and labels.dim() == 1 else 0
    assert prepared.nbytes == 40_960 * per_item + table
    assert prepared.nbytes_per_item == prepared.nbytes / 40_960
    assert Gallery(codes, labels, bits=bits, planes=False).nbytes == prepared.nbytes - 40_960 * bits / 8
    held = [getattr(prepared, name) for name in Gallery.__slots__]
    assert sum(part.untyped_storage().nbytes() for part in held if isinstance(part, Tensor)) == prepared.nbytes


def test_codes_are_not_copied() -> None:
    codes = random_codes(1000, 64)
    assert Gallery(codes)._codes.data_ptr() == codes.data_ptr()
    with LargestTensor() as largest:
        Gallery(codes, random_ids(1000, 7), planes=False)
    assert largest.numel <= 1000 * 8  # a view of the codes


def test_building_makes_no_copy_of_multi_hot_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 4096)
    codes, labels = random_codes(40_000, 8), random_multi_hot(40_000, 50).to(torch.float32)
    monkeypatch.setattr(rdh_ext._labels, "_VALUES_AT_A_TIME", 50 * 4096)
    with LargestTensor() as largest:
        prepared = Gallery(codes, labels)
    assert largest.numel <= 56 * 4096  # rows of whole bytes
    assert prepared.nbytes < 40_000 * 10


@pytest.mark.parametrize("write", ["in place", "through a view", "by copy_"])
def test_codes_that_were_written_to_are_noticed(write: str) -> None:
    q, g, q_labels, g_labels = make_case(100, 16)
    prepared = Gallery(g, g_labels)
    prepared.topk(q, 3)
    if write == "in place":
        g ^= 1
    elif write == "through a view":
        g[5:7, 0] = 0
    else:
        g.copy_(g.clone())
    message = "Gallery: codes must stay as they are while a gallery uses them, got codes written to"
    for call in (
        lambda: prepared.distance(q),
        lambda: prepared.topk(q, 3),
        lambda: prepared.histogram(q, q_labels),
        lambda: prepared.evaluate(q, q_labels),
        lambda: prepared.to("meta"),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()


def test_labels_may_change_afterwards() -> None:
    for classes in (None, 7):
        q, g, q_labels, g_labels = make_case(100, 16, classes)
        prepared = Gallery(g, g_labels)
        expected = prepared.histogram(q, q_labels)
        g_labels.zero_()
        assert torch.equal(prepared.histogram(q, q_labels), expected)


def test_is_made_and_used_in_inference_mode() -> None:
    with torch.inference_mode():
        q, g, q_labels, g_labels = make_case(100, 16)
        prepared = Gallery(g.clone(), g_labels)
        expected = rdh_ext.evaluate(q, g, q_labels, g_labels)
    assert same(prepared.evaluate(q, q_labels), expected)


def test_does_not_depend_on_defaults() -> None:
    for classes in (None, 7):
        q, g, q_labels, g_labels = make_case(5000, 16, classes)
        expected = [rdh_ext.evaluate(q, g, q_labels, g_labels, ties=ties) for ties in TIES]
        with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16):
            prepared = Gallery(g, g_labels)
            results = [prepared.evaluate(q, q_labels, ties=ties) for ties in TIES]
        assert all(torch.equal(a.ap, b.ap) for a, b in zip(results, expected, strict=True))


def test_is_immutable_and_serialises() -> None:
    q, g, q_labels, g_labels = make_case(500, 12)
    prepared = Gallery(g, g_labels, bits=12)
    for name in ("bits", "nbytes", "classes", "device", "something"):
        with pytest.raises(AttributeError):
            setattr(prepared, name, 3)
    copy = pickle.loads(pickle.dumps(prepared))
    assert same(copy.evaluate(q, q_labels), prepared.evaluate(q, q_labels))
    assert prepared.to("cpu") is prepared


def test_several_threads() -> None:
    q, g, q_labels, g_labels = make_case(3000, 32, queries=64)
    prepared = Gallery(g, g_labels)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda i: prepared.histogram(q[i::8], q_labels[i::8]), range(8)))
    expected = rdh_ext.hamming_histogram(q, g, q_labels, g_labels)
    assert all(torch.equal(part, expected[i::8]) for i, part in enumerate(parts))


def test_repr() -> None:
    assert repr(Gallery(random_codes(59_000, 64), random_ids(59_000, 10))) == (
        "Gallery(59,000 codes of 64 bits, 10 classes, bit planes, on cpu)"
    )
    assert repr(Gallery(random_codes(1, 1), bits=1, planes=False)) == "Gallery(1 code of 1 bit, no labels, on cpu)"
    assert repr(Gallery(random_codes(2, 8), torch.zeros(2, 1))).startswith("Gallery(2 codes of 8 bits, 1 class, ")


def test_an_empty_gallery() -> None:
    for labels in (None, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5)):
        prepared = Gallery(random_codes(0, 16), labels)
        assert (len(prepared), prepared.nbytes, prepared.nbytes_per_item, prepared.bits) == (0, 0, 0.0, 16)
        assert prepared.topk(random_codes(3, 16), 5)[1].shape == (3, 0)
        assert prepared.distance(random_codes(3, 16)).shape == (3, 0)


PREPARED = Gallery(random_codes(6, 13, 2), torch.tensor([0, 1, 2, 1, 0, 0]), bits=13)
HOT = Gallery(random_codes(6, 13, 2), random_multi_hot(6, 5), bits=13)
Q, IDS = random_codes(4, 13, 1), torch.tensor([0, 1, 2, 1])
ROWS = torch.zeros(4, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Gallery(Q, IDS[:3]), ValueError, r"Gallery: labels must be class ids \[4\] .* got int64 \[3\]"),
        (lambda: Gallery(Q, -IDS), ValueError, r"Gallery: labels must be class ids .* got -2"),
        (lambda: Gallery(Q, 2 * torch.ones(4, 5)), ValueError, r"Gallery: labels must be class ids .* got 2.0"),
        (lambda: Gallery(Q, IDS.to("meta")), ValueError, r"Gallery: labels must be on the device of what it labels"),
        (lambda: Gallery(Q, bits=8), ValueError, r"Gallery: bits must be an integer in \(8, 16\]"),
        (lambda: Gallery(Q | 128, bits=13), ValueError, r"Gallery: codes must have zeros behind its 13 bits"),
        (lambda: Gallery(Q.to("meta")), ValueError, r"Gallery: codes must be a tensor with values"),
        (lambda: Gallery(Q, planes=1), TypeError, r"Gallery: planes must be True or False"),
        (
            lambda: PREPARED.topk(Q[:, :1], 1),
            ValueError,
            r"Gallery.topk: q must be codes as wide as the gallery's \(2 bytes\), got uint8 \[4, 1\]",
        ),
        (
            lambda: PREPARED.distance(Q.to("meta")),
            ValueError,
            r"Gallery.distance: q must be on the device of the gallery \(cpu\), got .* on meta",
        ),
        (
            lambda: PREPARED.distance(Q | 128),
            ValueError,
            r"Gallery.distance: q must have zeros behind its 13 bits, got ones in the last byte",
        ),
        (lambda: PREPARED.topk(Q, 0), ValueError, r"Gallery.topk: k must be an integer >= 1, got 0"),
        (lambda: PREPARED.histogram(Q, IDS[:3]), ValueError, r"Gallery.histogram: q_labels must be class ids \[4\]"),
        (lambda: PREPARED.histogram(Q, -IDS), ValueError, r"Gallery.histogram: q_labels must be class ids .* got -2"),
        (
            lambda: PREPARED.evaluate(Q, ROWS),
            ValueError,
            r"Gallery.evaluate: q_labels must be class ids like the gallery's, got multi-hot rows",
        ),
        (
            lambda: HOT.evaluate(Q, IDS),
            ValueError,
            r"Gallery.evaluate: q_labels must be multi-hot rows like the gallery's, got class ids",
        ),
        (
            lambda: HOT.evaluate(Q, ROWS[:, :4]),
            ValueError,
            r"Gallery.evaluate: q_labels must have the 5 classes of the gallery, got 4",
        ),
        (
            lambda: Gallery(Q).evaluate(Q, IDS),
            ValueError,
            r"Gallery.evaluate: labels must be given to Gallery\(codes, labels\) for this, got None",
        ),
        (lambda: PREPARED.evaluate(Q, IDS, topk=0), ValueError, r"Gallery.evaluate: topk must be an integer >= 1"),
        (lambda: PREPARED.evaluate(Q, IDS, ties="x"), ValueError, r"Gallery.evaluate: ties must be one of"),
        (
            lambda: PREPARED.evaluate(Q, IDS + 9, empty="error"),
            ValueError,
            r"Gallery.evaluate: every query must have a relevant item .* got 4 of 4 queries without one",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_gallery_does_not_keep_what_it_was_made_from() -> None:
    """Labels of eight bytes each may go."""
    labels = torch.from_numpy(np.arange(1000) % 7)
    prepared = Gallery(random_codes(1000, 8), labels)
    assert prepared._labels is not None
    assert prepared._labels.data_ptr() != labels.data_ptr()
    assert prepared._labels.untyped_storage().nbytes() == 1000
