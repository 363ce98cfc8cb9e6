"""Nearest codes: equal to a stable sort of all distances, ids and distances, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hamming_cases import (
    BITS_OF_MANY,
    MANY,
    NATIVE,
    PLANE_SIZES,
    SIZES,
    LargestTensor,
    awkward_views,
    planes_of,
    poisoned_memory,
    random_codes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import hamming as oracle

from rdh_ext.ops.hamming_topk import hamming_topk
from rdh_ext.reference import _tiles
from rdh_ext.reference.hamming_topk import hamming_topk as reference


def check(q: torch.Tensor, g: torch.Tensor, k: int, device: str, bits: int | None = None) -> None:
    """With ``bits``, the planes of a prepared gallery are there too, which only the op itself takes."""
    with poisoned_memory():
        results = [hamming_topk(q.to(device), g.to(device), k)]
        if bits is not None:
            results.append(torch.ops.rdh_ext.hamming_topk(q.to(device), g.to(device), k, planes_of(g.to(device), bits)))
    expected_d, expected_i = oracle.topk(q.numpy(), g.numpy(), k)
    for d, i in results:
        assert (d.dtype, i.dtype) == (torch.int16, torch.int64)
        assert d.is_contiguous()
        assert i.is_contiguous()
        assert np.array_equal(d.cpu().numpy(), expected_d)
        assert np.array_equal(i.cpu().numpy(), expected_i)


@pytest.mark.parametrize("k", [1, 10, 999, 1000, 5000])
@pytest.mark.parametrize("gallery", SIZES)
def test_equals_stable_sort(backend: str, gallery: int, k: int) -> None:
    for queries in (0, 1, 65):
        check(random_codes(queries, 12, 1), random_codes(gallery, 12, 2), k, backend)


@pytest.mark.parametrize("gallery", PLANE_SIZES)
def test_sizes_of_prepared_galleries(backend: str, gallery: int) -> None:
    q, g = random_codes(5, 16, 1), random_codes(gallery, 16, 2)
    for k in sorted({1, 2, 64, 100, gallery // 2, gallery - 1, gallery, gallery + 1} - {-1, 0}):
        check(q, g, k, backend, 16)


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 9, 24, 31, 32, 33, 48, 63, 64, 65, 96, 128, 200, 256, 1001, 4095, 4096])
def test_numbers_of_bits(backend: str, bits: int) -> None:
    q, g = random_codes(5, bits, 1), random_codes(700, bits, 2, distinct=200)
    g[3] = q[0]
    g[5] = ~q[0] if bits % 8 == 0 else g[5]
    for k in (1, 3, 64, 300, 699, 700):
        check(q, g, k, backend, bits)


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
def test_many_queries(backend: str) -> None:
    for bits in BITS_OF_MANY:
        q, g = random_codes(MANY, bits, 1), random_codes(4200 if bits == 64 else 600, bits, 2, distinct=500)
        g[-1] = q[0]
        check(q, g, 400, backend, bits)


@pytest.mark.parametrize("distinct", [1, 2])
def test_a_cut_through_thousands_at_one_distance(backend: str, distinct: int) -> None:
    """The first of them in gallery order."""
    q, g = random_codes(3, 32, 1), random_codes(9000, 32, 2, distinct=distinct)
    for k in (1, 63, 64, 65, 511, 4095, 4096, 4097, 5000, 8999, 9000):
        check(q, g, k, backend, 32)


@pytest.mark.parametrize("k", [1, 70, 5000])
def test_several_tiles(backend: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 4096)  # tiles of 63 items for 65 queries
    check(random_codes(65, 16, 1), random_codes(1000, 16, 2, distinct=20), k, backend)


def test_no_temporary_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 1 << 13)
    with LargestTensor() as largest:
        reference(random_codes(300, 16, 1), random_codes(2000, 16, 2), 20)
    assert 0 < largest.numel <= 256 * 20 + (1 << 13) + 2000 * 16  # a block's best with a tile, and the signs


def test_more_queries_than_a_block(backend: str) -> None:
    check(random_codes(600, 16, 1), random_codes(300, 16, 2, distinct=20), 50, backend)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_merges_over_any_split(data: st.DataObject, seed: int) -> None:
    q, g = random_codes(4, 10, seed), random_codes(50, 10, seed + 1, distinct=9)
    k, cut = data.draw(st.integers(1, 60)), data.draw(st.integers(0, 50))
    parts = [hamming_topk(q, g[:cut], k), hamming_topk(q, g[cut:], k)]
    d = torch.cat([part[0] for part in parts], dim=1).to(torch.int64)
    i = torch.cat([parts[0][1], parts[1][1] + cut], dim=1)
    best = (d * 1000 + i).sort(dim=1).values[:, :k]
    whole = hamming_topk(q, g, k)
    assert torch.equal(best // 1000, whole[0].to(torch.int64))
    assert torch.equal(best % 1000, whole[1])


def test_awkward_memory(backend: str) -> None:
    q, g = random_codes(9, 40, 1), random_codes(63, 40, 2)
    for q_view, g_view in zip(awkward_views(q.to(backend)), awkward_views(g.to(backend)), strict=True):
        assert torch.equal(hamming_topk(q_view, g_view, 7)[1].cpu(), hamming_topk(q, g, 7)[1])


@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        (0, ValueError, r"hamming_topk: k must be an integer >= 1, got 0"),
        (-1, ValueError, r"hamming_topk: k must be an integer >= 1, got -1"),
        (2.0, TypeError, r"hamming_topk: k must be an integer >= 1, got float 2.0"),
        (True, TypeError, r"hamming_topk: k must be an integer >= 1, got bool True"),
        (None, TypeError, r"hamming_topk: k must be an integer >= 1, got NoneType None"),
    ],
)
def test_bad_k(k: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hamming_topk(random_codes(2, 8), random_codes(3, 8), k)


def test_bad_codes() -> None:
    with pytest.raises(ValueError, match=r"hamming_topk: g must be codes as wide as q \(1 bytes\)"):
        hamming_topk(random_codes(2, 8), random_codes(3, 9), 1)
    with pytest.raises(ValueError, match=r"hamming_topk: g must be on the device of q"):
        hamming_topk(random_codes(2, 8), random_codes(3, 8).to("meta"), 1)


@pytest.mark.parametrize("heap", [True, False])
@pytest.mark.parametrize(("bits", "gallery", "k"), [(64, 2000, 100), (24, 5000, 1), (128, 900, 900), (512, 9000, 70)])
def test_faiss_agrees(backend: str, bits: int, gallery: int, k: int, heap: bool) -> None:
    faiss = pytest.importorskip("faiss")
    q, g = random_codes(20, bits, 1), random_codes(gallery, bits, 2)
    index = faiss.IndexBinaryFlat(bits)
    index.use_heap = heap
    index.add(g.numpy())
    d, i = index.search(q.numpy(), k)
    ours_d, ours_i = (part.cpu() for part in hamming_topk(q.to(backend), g.to(backend), k))
    assert np.array_equal(ours_d.numpy(), d)
    order = np.lexsort((i, d), axis=1)  # FAISS promises no order among ties
    inside = d < d[:, -1:]  # nor which of those at the last distance it returns
    assert np.array_equal(np.take_along_axis(i, order, axis=1)[inside], ours_i.numpy()[inside])


def test_opcheck(backend: str) -> None:
    for queries, gallery, k in ((3, 7, 2), (3, 7, 9), (0, 7, 2), (3, 0, 2)):
        codes = random_codes(queries, 19, 1).to(backend), random_codes(gallery, 19, 2).to(backend)
        torch.library.opcheck(torch.ops.rdh_ext.hamming_topk.default, (*codes, k))
        torch.library.opcheck(torch.ops.rdh_ext.hamming_topk.default, (*codes, k, planes_of(codes[1], 19)))
