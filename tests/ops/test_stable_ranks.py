"""Ranks in gallery order: against a stable argsort in numpy; sums of precisions against their terms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hamming_cases import (
    MANY,
    NATIVE,
    PLANE_SIZES,
    LargestTensor,
    awkward_views,
    planes_of,
    poisoned_memory,
    prepared_labels,
    random_codes,
    random_ids,
    random_multi_hot,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import hamming as oracle
from torch import Tensor

from rdh_ext.ops.hamming_histogram import hamming_histogram
from rdh_ext.ops.stable_ranks import (
    SUM_DIGITS,
    add_sums,
    exact_sums,
    shift_of_piece,
    stable_precision_sum,
    stable_ranks,
)
from rdh_ext.reference import _tiles
from rdh_ext.reference import stable_ranks as reference

Case = tuple[Tensor, Tensor, Tensor, Tensor]
UNITS = 2 ** (2 * SUM_DIGITS)


def make_case(queries: int, gallery: int, bits: int, classes: int | None = None, distinct: int | None = None) -> Case:
    """Codes of which at most ``distinct`` differ, with 4 class ids, or multi-hot labels."""
    q, g = random_codes(queries, bits, 1), random_codes(gallery, bits, 2, distinct=distinct)
    if classes is None:
        return q, g, random_ids(queries, 4, 3), random_ids(gallery, 4, 4)
    return q, g, random_multi_hot(queries, classes, 3), random_multi_hot(gallery, classes, 4)


def as_integers(sums: Tensor) -> list[int]:
    """Exact sums in units of 2^-92, from parts that are in the one form there is."""
    assert bool(((sums[:, 1:] >= 0) & (sums[:, 1:] < 2**SUM_DIGITS)).all())
    return [(a << 2 * SUM_DIGITS) + (b << SUM_DIGITS) + c for a, b, c in sums.tolist()]


def check(case: Case, bits: int, device: str, *, prepared: bool = False) -> None:
    """Both ops, for limits below, within and beyond the gallery; ``prepared`` in every form of a gallery too."""
    expected = oracle.stable_ranks(*(part.numpy() for part in case))
    q, g, q_labels, g_labels = (part.to(device) for part in case)
    histogram = torch.ops.rdh_ext.hamming_histogram(q, g, q_labels, g_labels, bits)
    forms = [(g_labels, None)]
    if prepared:
        planes = planes_of(g, bits)
        forms += [(g_labels, planes), *((labels, planes) for labels in prepared_labels(g_labels))]
    gallery = g.shape[0]
    for labels, planes in forms:
        arguments = q, g, q_labels, labels, histogram
        with poisoned_memory():
            ranks = stable_ranks(*arguments, planes)
        assert ranks.dtype == torch.int64
        assert np.array_equal(ranks.cpu().numpy(), np.concatenate([np.zeros(0, dtype=np.int64), *expected]))
        for limit in sorted({0, 1, gallery // 3, gallery - 1, gallery, gallery + 5} - {-1}):
            with poisoned_memory():
                parts, found = stable_precision_sum(*arguments, limit, planes)
            assert (parts.dtype, found.dtype) == (torch.int64, torch.int64)
            assert found.tolist() == [int((row <= limit).sum()) for row in expected]
            assert as_integers(parts) == [
                sum(int(Fraction((i + 1) / rank) * UNITS) for i, rank in enumerate(row) if rank <= limit)
                for row in expected
            ]
            sums = [math.fsum((i + 1) / rank for i, rank in enumerate(row) if rank <= limit) for row in expected]
            np.testing.assert_allclose(exact_sums(parts.cpu()).numpy(), sums, rtol=2.3e-16, atol=0)


@pytest.mark.parametrize("classes", [None, 9])
@pytest.mark.parametrize("gallery", PLANE_SIZES)
def test_equals_a_stable_argsort(backend: str, gallery: int, classes: int | None) -> None:
    for queries in (0, 1, 5):
        check(make_case(queries, gallery, 12, classes), 12, backend, prepared=queries == 5)


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 13, 16, 31, 32, 33, 48, 63, 64, 65, 128, 200, 256, 1000])
def test_numbers_of_bits(backend: str, bits: int) -> None:
    check(make_case(5, 700, bits), bits, backend, prepared=True)


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
@pytest.mark.parametrize("classes", [None, 9])
def test_many_queries(backend: str, classes: int | None) -> None:
    for bits in (1, 2, 3, 8, 15, 24, 31, 33, 64, 65, 128, 255, 256) if classes is None else (5, 64):
        check(make_case(MANY, 4200 if bits == 64 else 600, bits, classes), bits, backend)


@pytest.mark.parametrize("bits", [4095, 4096])
def test_longest_codes(backend: str, bits: int) -> None:
    q, g, q_labels, g_labels = make_case(3, 70, bits, distinct=30)
    g[5] = ~q[0] if bits % 8 == 0 else g[5]  # the largest distance
    check((q, g, q_labels, g_labels), bits, backend, prepared=True)


@pytest.mark.parametrize("classes", [1, 2, 63, 64, 65, 80, 300])
def test_numbers_of_classes(backend: str, classes: int) -> None:
    q, g, q_labels, g_labels = make_case(6, 700, 12, classes)
    q_labels[2] = False
    g_labels[::3] = False
    check((q, g, q_labels, g_labels), 12, backend, prepared=True)


@pytest.mark.parametrize("classes", [None, 9])
def test_all_at_one_distance(backend: str, classes: int | None) -> None:
    q, g, q_labels, g_labels = make_case(3, 5000, 24, classes)
    check((q, g[:1].expand(5000, -1), q_labels, g_labels), 24, backend, prepared=True)
    check((g[:1].expand(3, -1), g[:1].expand(5000, -1), q_labels, g_labels), 24, backend)


def test_a_gallery_sorted_by_class(backend: str) -> None:
    """All relevant items of a distance first, or last."""
    q, g, q_labels, g_labels = make_case(8, 4500, 10)
    q_labels = torch.arange(8) % 4
    for labels in (g_labels.sort().values, g_labels.sort(descending=True).values):
        check((q, g, q_labels, labels), 10, backend, prepared=True)


@pytest.mark.parametrize("relevant", [0.0, 0.001, 0.5, 1.0])
def test_shares_of_relevant_items(backend: str, relevant: float) -> None:
    q, g, _, _ = make_case(4, 4200, 16)
    labels = torch.from_numpy((np.random.default_rng(0).random(4200) >= relevant).astype(np.int64))
    check((q, g, torch.tensor([0, 0, 1, 7]), labels), 16, backend, prepared=True)


def test_ids_of_any_size(backend: str) -> None:
    """-1 is no id of uint8, and 256 is not 0."""
    q, g, _, _ = make_case(7, 600, 12)
    g_labels = random_ids(600, 256, 4)
    q_labels = torch.tensor([-1, 255, 256, 65536, 2**32, 2**63 - 1, -256])
    check((q, g, q_labels, g_labels), 12, backend, prepared=True)
    wide = torch.where(g_labels < 128, g_labels * 255, g_labels + 2**40)
    check((q, g, torch.tensor([-1, 255, 65535, 2**40 + 200, 0, 510, 2**63 - 1]), wide), 12, backend)


def test_more_queries_than_a_block(backend: str) -> None:
    check(make_case(600, 150, 10, distinct=20), 10, backend, prepared=True)


def test_several_tiles(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 1 << 13)  # tiles of 32 items
    check(make_case(300, 150, 10, 5), 10, backend, prepared=True)


def test_no_temporary_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 1 << 13)
    monkeypatch.setattr(_tiles, "SIGNS", 1 << 13)
    case = make_case(300, 2000, 16, 30)
    histogram = hamming_histogram(*case)
    with LargestTensor() as largest:
        reference.stable_precision_sum(*case, histogram, 1000)
    assert 0 < largest.numel <= max(256 * 17 * 2, 2000 * 30)  # a block's counts, and the labels as they came


def test_a_sum_depends_on_its_terms_alone(backend: str) -> None:
    """Not on the queries beside it, and not on the pieces of the gallery: bit for bit those of the reference."""
    case = make_case(40, 9000, 12)
    histogram = hamming_histogram(*case)
    expected = reference.stable_precision_sum(*case, histogram, 5000)
    q, g, q_labels, g_labels, counts = (part.to(backend) for part in (*case, histogram))
    together = stable_precision_sum(q, g, q_labels, g_labels, counts, 5000)
    for part, other in zip(together, expected, strict=True):
        assert torch.equal(part.cpu(), other)
    for i in (0, 17):
        row = slice(i, i + 1)
        alone = stable_precision_sum(q[row], g, q_labels[row], g_labels, counts[row], 5000)
        assert all(torch.equal(a, b[row]) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("classes", [None, 9])
@pytest.mark.parametrize("bits", [3, 24, 64, 300])
@pytest.mark.parametrize("limit", [700, 2**63 - 1])
def test_pieces_of_a_gallery(backend: str, limit: int, bits: int, classes: int | None) -> None:
    """Each piece knows the whole histogram and what stands before it; the sums add up to those of the whole."""
    for queries in (3, 40):
        case = make_case(queries, 5000, bits, classes, distinct=None if bits > 3 else 200)
        whole = hamming_histogram(*case, bits=bits)
        expected = reference.stable_precision_sum(*case, whole, limit)
        q, g, q_labels, g_labels = (part.to(backend) for part in case)
        before = torch.zeros_like(whole)
        sums, found = torch.zeros((queries, 3), dtype=torch.int64), torch.zeros(queries, dtype=torch.int64)
        for piece in (slice(0, 1), slice(1, 1), slice(1, 4500), slice(4500, 5000)):
            labels = g_labels[piece]
            own = hamming_histogram(q, g[piece], q_labels, labels, bits=bits)
            shift = shift_of_piece(whole, own.cpu(), before).to(backend)
            part, count = stable_precision_sum(q, g[piece], q_labels, labels, own, limit, None, shift)
            sums, found, before = add_sums(sums, part.cpu()), found + count.cpu(), before + own.cpu()
        assert torch.equal(sums, expected[0])
        assert torch.equal(found, expected[1])


def test_ranks_of_a_huge_gallery(backend: str) -> None:
    """A piece behind 2^39 items of others: ranks beyond 32 bits, and terms down to 2^-39."""
    q, g, q_labels, g_labels = make_case(5, 600, 16)
    own = hamming_histogram(q, g, q_labels, g_labels)
    shift = torch.full_like(own, 2**39)
    shift[1:, :, 1] = 0
    expected = reference.stable_precision_sum(q, g, q_labels, g_labels, own, 2**63 - 1, shift)
    arguments = (part.to(backend) for part in (q, g, q_labels, g_labels, own))
    got = stable_precision_sum(*arguments, 2**63 - 1, None, shift.to(backend))
    assert all(torch.equal(a.cpu(), b) for a, b in zip(got, expected, strict=True))
    terms = oracle.stable_ranks(q.numpy(), g.numpy(), q_labels.numpy(), g_labels.numpy())[1]
    exact = sum(int(Fraction((i + 1) / (int(rank) + 2**39)) * UNITS) for i, rank in enumerate(terms))
    assert as_integers(got[0].cpu())[1] == exact


@settings(max_examples=30, deadline=None)
@given(
    bits=st.integers(1, 70),
    queries=st.integers(0, 5),
    gallery=st.integers(0, 700),
    classes=st.one_of(st.none(), st.integers(1, 70)),
    distinct=st.integers(1, 40),
)
def test_any_case(bits: int, queries: int, gallery: int, classes: int | None, distinct: int) -> None:
    check(make_case(queries, gallery, bits, classes, distinct), bits, "cpu", prepared=True)


def test_awkward_memory(backend: str) -> None:
    case = make_case(9, 163, 40, 7)
    histogram = hamming_histogram(*case)
    expected = stable_ranks(*case, histogram)
    views = zip(*(awkward_views(part.to(backend)) for part in case), strict=True)
    for arguments in views:
        assert torch.equal(stable_ranks(*arguments, histogram.to(backend)).cpu(), expected)
        shifted = histogram.to(backend).transpose(0, 1).contiguous().transpose(0, 1)
        assert torch.equal(stable_ranks(*arguments, shifted).cpu(), expected)


def test_opcheck(backend: str) -> None:
    ops = torch.ops.rdh_ext
    for queries, gallery, classes in ((3, 70, None), (3, 70, 5), (0, 7, None), (3, 0, 5)):
        q, g, q_labels, g_labels = (part.to(backend) for part in make_case(queries, gallery, 19, classes))
        histogram, planes = hamming_histogram(q, g, q_labels, g_labels, bits=19), planes_of(g, 19)
        for labels in (g_labels, *prepared_labels(g_labels)):
            arguments = q, g, q_labels, labels, histogram
            torch.library.opcheck(ops.stable_ranks.default, (*arguments, planes))
            torch.library.opcheck(ops.stable_precision_sum.default, (*arguments, 20, None, planes))
            torch.library.opcheck(ops.stable_precision_sum.default, (*arguments, 20, histogram, planes))
