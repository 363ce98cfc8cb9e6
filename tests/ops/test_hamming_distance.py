"""Distances of all pairs: against numpy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hamming_cases import (
    BITS,
    BITS_OF_MANY,
    MANY,
    NATIVE,
    PLANE_SIZES,
    SIZES,
    awkward_views,
    planes_of,
    poisoned_memory,
    random_codes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import hamming as oracle

from rdh_ext.ops.hamming_distance import hamming_distance


def same_as_oracle(result: torch.Tensor, q: torch.Tensor, g: torch.Tensor) -> bool:
    return np.array_equal(result.cpu().numpy(), oracle.distances(q.numpy(), g.numpy()))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("gallery", SIZES)
@pytest.mark.parametrize("queries", [0, 1, 65])
def test_equals_numpy(backend: str, queries: int, gallery: int, bits: int) -> None:
    q, g = random_codes(queries, bits, 1), random_codes(min(gallery, 200_000 // bits), bits, 2)
    with poisoned_memory():
        d = hamming_distance(q.to(backend), g.to(backend))
    assert d.dtype == torch.int16
    assert d.is_contiguous()
    assert same_as_oracle(d, q, g)


@pytest.mark.parametrize("bits", [*BITS, 16, 24, 32, 48, 63, 128, 200, 256, 1001])
def test_the_planes_of_a_prepared_gallery_change_nothing(backend: str, bits: int) -> None:
    """The op itself: the public function makes no planes."""
    for gallery in PLANE_SIZES:
        q, g = random_codes(5, bits, 1), random_codes(min(gallery, 2_000_000 // bits), bits, 2)
        expected = hamming_distance(q.to(backend), g.to(backend))
        assert same_as_oracle(expected, q, g)
        with poisoned_memory():
            d = torch.ops.rdh_ext.hamming_distance(q.to(backend), g.to(backend), planes_of(g.to(backend), bits))
        assert torch.equal(d, expected)


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
def test_many_queries(backend: str) -> None:
    for bits in BITS_OF_MANY:
        q, g = random_codes(MANY, bits, 1), random_codes(4200 if bits == 64 else 600, bits, 2)
        d = hamming_distance(q.to(backend), g.to(backend))
        assert same_as_oracle(d, q, g)
        assert torch.equal(
            torch.ops.rdh_ext.hamming_distance(q.to(backend), g.to(backend), planes_of(g.to(backend), bits)), d
        )


CROSSINGS = ((45, 20), (24, 32), (40, 50), (16, 100))
"""Slope and base of every level in ``hamming_words.inl``: where a CPU goes over from words to a chunk of planes."""


def sizes_around_the_crossings(queries: int, bits: int, prepared: bool) -> set[int]:
    """Galleries on both sides of a word, a block and every crossing, alone and behind a whole chunk."""
    sizes = {1, 63, 64, 65}
    for slope, base in CROSSINGS:
        limit = queries * slope * (base + bits) // (-(-bits // 64) * (queries + (16 if prepared else 0)))
        sizes |= {min(max(limit + step, 1), 4095) for step in (-1, 0, 1)}
    return sizes | {4096 + size for size in sizes}


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
@pytest.mark.parametrize("bits", [*range(1, 18), 63, 64, 65, 127, 128, 129, 255, 256, 257])
def test_words_and_planes_agree(backend: str, bits: int) -> None:
    """With queries that make carries of the planes, and with some that do not."""
    q, g = random_codes(33, bits, 1), random_codes(2 * 4096 - 1, bits, 2)
    expected = torch.from_numpy(oracle.distances(q.numpy(), g.numpy())).to(backend, torch.int16)
    q, g = q.to(backend), g.to(backend)
    for queries, prepared in ((33, False), (33, True), (3, True)):
        # without planes all bits of the bytes are compared
        for size in sizes_around_the_crossings(queries, bits if prepared else 8 * g.shape[1], prepared):
            planes = planes_of(g[:size], bits) if prepared else None
            with poisoned_memory():
                d = torch.ops.rdh_ext.hamming_distance(q[:queries], g[:size], planes)
            assert torch.equal(d, expected[:queries, :size]), (queries, size, prepared)


def test_threads_change_nothing() -> None:
    q, g = random_codes(300, 64, 1), random_codes(4096 + 100, 64, 2)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            for size in (100, 4096 + 100):
                assert same_as_oracle(hamming_distance(q, g[:size]), q, g[:size])
    finally:
        torch.set_num_threads(before)


def test_several_tiles_both_ways(backend: str) -> None:
    q, g = random_codes(600, 12, 1), random_codes(5000, 12, 2)
    assert same_as_oracle(hamming_distance(q.to(backend), g.to(backend)), q, g)


@pytest.mark.parametrize("bits", [8, 4096])
def test_extremes(backend: str, bits: int) -> None:
    zeros = torch.zeros(1, bits // 8, dtype=torch.uint8, device=backend)
    assert hamming_distance(zeros, ~zeros).item() == bits
    assert hamming_distance(zeros, zeros).item() == 0


def test_awkward_memory(backend: str) -> None:
    q, g = random_codes(65, 40, 1), random_codes(63, 40, 2)
    for q_view, g_view in zip(awkward_views(q.to(backend)), awkward_views(g.to(backend)), strict=True):
        assert same_as_oracle(hamming_distance(q_view, g_view), q, g)


@pytest.mark.parametrize("bits", [8, 64, 256])
def test_faiss_agrees(backend: str, bits: int) -> None:
    faiss = pytest.importorskip("faiss")
    q, g = random_codes(20, bits, 1), random_codes(700, bits, 2)
    index = faiss.IndexBinaryFlat(bits)
    index.add(g.numpy())
    sorted_distances, order = index.search(q.numpy(), 700)
    theirs = np.empty_like(sorted_distances)
    np.put_along_axis(theirs, order, sorted_distances, axis=1)
    assert np.array_equal(hamming_distance(q.to(backend), g.to(backend)).cpu().numpy(), theirs)


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(1, 100), seed=st.integers(0, 2**31))
def test_is_a_metric(bits: int, seed: int) -> None:
    d = hamming_distance(*2 * [random_codes(12, bits, seed, distinct=6)]).to(torch.int64)
    assert torch.equal(d, d.T)
    assert bool((d.diagonal() == 0).all())
    assert bool((d.unsqueeze(1) <= d.unsqueeze(2) + d.unsqueeze(0)).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_round(backend: str, dtype: torch.dtype) -> None:
    q, g = random_codes(3, 4096, 1), random_codes(50, 4096, 2)
    with torch.autocast(backend, dtype=dtype):
        assert same_as_oracle(hamming_distance(q.to(backend), g.to(backend)), q, g)


CODES = torch.zeros(2, 2, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("q", "g", "error", "message"),
    [
        (
            torch.ones(2, 16),
            CODES,
            TypeError,
            r"hamming_distance: q must be packed codes, a uint8 tensor .* got float32",
        ),
        (CODES, CODES.to(torch.int8), TypeError, r"hamming_distance: g must be packed codes"),
        (CODES, None, TypeError, r"hamming_distance: g must be packed codes, .* got NoneType None"),
        (CODES, CODES[0], ValueError, r"hamming_distance: g must be a tensor of 2 dimensions, got uint8 \[2\]"),
        (
            CODES,
            CODES[:, :1],
            ValueError,
            r"hamming_distance: g must be codes as wide as q \(2 bytes\), got uint8 \[2, 1\]",
        ),
        (CODES[:, :0], CODES[:, :0], ValueError, r"hamming_distance: q must be \[rows, bytes\] with 1 to 512 bytes"),
        (
            CODES.expand(2, 2).repeat(1, 300),
            CODES,
            ValueError,
            r"q must be .* 512 bytes \(4096 bits\), got uint8 \[2, 600\]",
        ),
        (
            CODES,
            CODES.to("meta"),
            ValueError,
            r"hamming_distance: g must be on the device of q \(cpu\), got .* on meta",
        ),
    ],
)
def test_bad_input(q: torch.Tensor, g: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hamming_distance(q, g)


def test_opcheck(backend: str) -> None:
    for queries, gallery in ((3, 7), (0, 7), (3, 0)):
        arguments = random_codes(queries, 19, 1).to(backend), random_codes(gallery, 19, 2).to(backend)
        torch.library.opcheck(torch.ops.rdh_ext.hamming_distance.default, arguments)
        torch.library.opcheck(torch.ops.rdh_ext.hamming_distance.default, (*arguments, planes_of(arguments[1], 19)))


def test_compiles_without_graph_break() -> None:
    compiled = torch.compile(hamming_distance, fullgraph=True, backend="aot_eager")
    for queries in (3, 5, 8):
        q, g = random_codes(queries, 24, 1), random_codes(2 * queries + 1, 24, 2)
        assert torch.equal(compiled(q, g), hamming_distance(q, g))
