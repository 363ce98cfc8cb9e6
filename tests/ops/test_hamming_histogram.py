"""Items and relevant items per distance: against numpy; they add up over any split of the gallery."""

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
from rdh_ext.reference import _tiles
from rdh_ext.reference.hamming_histogram import hamming_histogram as reference


def labels_for(rows: int, classes: int | None, seed: int) -> Tensor:
    """Class ids, or multi-hot labels of so many classes."""
    return random_ids(rows, 4, seed) if classes is None else random_multi_hot(rows, classes, seed)


def check(q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, bits: int, device: str) -> None:
    arguments = [part.to(device) for part in (q, g, q_labels, g_labels)]
    with poisoned_memory():
        histogram = hamming_histogram(*arguments, bits=bits)
    same_as_oracle(histogram, q, g, q_labels, g_labels, bits)


def same_as_oracle(histogram: Tensor, q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, bits: int) -> None:
    assert histogram.dtype == torch.int64
    assert histogram.is_contiguous()
    expected = oracle.histogram(*(part.numpy() for part in (q, g, q_labels, g_labels)), bits)
    assert np.array_equal(histogram.cpu().numpy(), expected)


def check_prepared(q: Tensor, g: Tensor, q_labels: Tensor, g_labels: Tensor, bits: int, device: str) -> None:
    """The op itself, with what a prepared gallery keeps: planes of the codes, and labels in every other form."""
    op = torch.ops.rdh_ext.hamming_histogram
    on_device = [part.to(device) for part in (q, g, q_labels, g_labels)]
    with poisoned_memory():
        first = op(*on_device, bits)
    same_as_oracle(first, q, g, q_labels, g_labels, bits)
    planes = planes_of(on_device[1], bits)
    for labels in (on_device[3], *prepared_labels(on_device[3])):
        for form in (planes, None):
            with poisoned_memory():
                assert torch.equal(op(*on_device[:3], labels, bits, form), first)


@pytest.mark.parametrize("classes", [None, 1, 9, 80])
@pytest.mark.parametrize("bits", [1, 13, 64])
@pytest.mark.parametrize("gallery", SIZES)
def test_equals_numpy(backend: str, gallery: int, bits: int, classes: int | None) -> None:
    for queries in (0, 1, 7):
        q, g = random_codes(queries, bits, 1), random_codes(gallery, bits, 2)
        check(q, g, labels_for(queries, classes, 3), labels_for(gallery, classes, 4), bits, backend)


@pytest.mark.parametrize("classes", [None, 9])
@pytest.mark.parametrize("gallery", PLANE_SIZES)
def test_sizes_of_prepared_galleries(backend: str, gallery: int, classes: int | None) -> None:
    for queries in (0, 1, 6):
        q, g = random_codes(queries, 16, 1), random_codes(gallery, 16, 2)
        check_prepared(q, g, labels_for(queries, classes, 3), labels_for(gallery, classes, 4), 16, backend)


@pytest.mark.parametrize("classes", [None, 9])
@pytest.mark.parametrize(
    "bits", [1, 2, 3, 7, 8, 9, 15, 16, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 255, 1001]
)
def test_numbers_of_bits(backend: str, bits: int, classes: int | None) -> None:
    q, g = random_codes(5, bits, 1), random_codes(1100, bits, 2)
    g[3] = q[0]
    g[5] = ~q[0] if bits % 8 == 0 else g[5]
    check_prepared(q, g, labels_for(5, classes, 3), labels_for(1100, classes, 4), bits, backend)


@pytest.mark.parametrize("classes", [1, 2, 8, 63, 64, 65, 80, 128, 300, 5000])
def test_numbers_of_classes(backend: str, classes: int) -> None:
    """With rows that have no label, all of them, or the last one alone."""
    q, g = random_codes(6, 16, 1), random_codes(700, 16, 2)
    q_labels, g_labels = random_multi_hot(6, classes, 3, share=2 / classes), random_multi_hot(700, classes, 4)
    q_labels[0], q_labels[1], g_labels[::3], g_labels[1::3] = False, True, False, True
    q_labels[2, :-1], g_labels[5, :-1] = False, False
    q_labels[2, -1], g_labels[5, -1] = True, True
    check_prepared(q, g, q_labels, g_labels, 16, backend)


@pytest.mark.parametrize("classes", [None, 9])
def test_all_at_one_distance(backend: str, classes: int | None) -> None:
    """Counts beyond what 16 bits hold."""
    gallery = 70_000
    g = random_codes(1, 24, 2).expand(gallery, -1)
    q = torch.cat((g[:2], ~g[:1], random_codes(2, 24, 1)))
    check_prepared(q, g, labels_for(5, classes, 3), labels_for(gallery, classes, 4), 24, backend)


@pytest.mark.parametrize("classes", [None, 9])
def test_a_gallery_sorted_by_class(backend: str, classes: int | None) -> None:
    q, g = random_codes(9, 32, 1), random_codes(5000, 32, 2, distinct=300)
    g_labels = labels_for(5000, classes, 4)
    g_labels = g_labels.sort().values if classes is None else g_labels[g_labels.to(torch.uint8).argmax(1).argsort()]
    check_prepared(q, g, labels_for(9, classes, 3), g_labels, 32, backend)


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
@pytest.mark.parametrize("queries", [40, MANY])
@pytest.mark.parametrize("classes", [None, 9])
def test_many_queries(backend: str, classes: int | None, queries: int) -> None:
    """Enough of them for the gallery to be prepared in other ways."""
    for bits in BITS_OF_MANY if classes is None else (5, 64):
        gallery = 4200 if bits in (24, 64) else 600
        q, g = random_codes(queries, bits, 1), random_codes(gallery, bits, 2)
        g[-1] = q[0]
        check_prepared(q, g, labels_for(queries, classes, 3), labels_for(gallery, classes, 4), bits, backend)


@pytest.mark.parametrize("queries", [3, 40, MANY])
@pytest.mark.parametrize("bits", [3, 13, 23])
def test_places_behind_the_last_bit_count_nothing(backend: str, bits: int, queries: int) -> None:
    """The op itself: the functions refuse such codes."""
    q, g = random_codes(queries, bits, 1), random_codes(100, bits, 2)
    labels = random_ids(queries, 4, 3).to(backend), random_ids(100, 4, 4).to(backend)
    op = torch.ops.rdh_ext.hamming_histogram
    expected = op(q.to(backend), g.to(backend), *labels, bits)
    for codes in (q, g):
        codes[:, -1] |= 256 - 2 ** (bits % 8)
    assert torch.equal(op(q.to(backend), g.to(backend), *labels, bits), expected)


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
@pytest.mark.parametrize("gallery", PLANE_SIZES)
def test_many_queries_of_many_classes(backend: str, gallery: int) -> None:
    """Far more classes than a byte tells apart, and some that one of the sides does not have."""
    ids = torch.cat((torch.arange(200), torch.from_numpy(np.random.default_rng(5).integers(0, 2**63, 400))))
    q, g = random_codes(300, 16, 1), random_codes(gallery, 16, 2)
    q_labels, g_labels = ids[random_ids(300, 600, 3)], ids[random_ids(gallery, 500, 4)]
    q_labels[::7] = -1
    on_device = [part.to(backend) for part in (q, g, q_labels, g_labels)]
    same_as_oracle(torch.ops.rdh_ext.hamming_histogram(*on_device, 16), q, g, q_labels, g_labels, 16)


@pytest.mark.parametrize("backend", NATIVE, indirect=True)
def test_a_gallery_of_millions_is_the_sum_of_its_parts(backend: str) -> None:
    """More than is prepared at a time."""
    gallery, part = 4_300_000, 1_500_000
    g = torch.randint(256, (gallery, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    q, q_labels, g_labels = (
        random_codes(MANY, 64, 2),
        random_ids(MANY, 10, 3),
        random_ids(gallery, 10, 4).to(torch.uint8),
    )
    q, g, q_labels, g_labels = (part.to(backend) for part in (q, g, q_labels, g_labels))
    op = torch.ops.rdh_ext.hamming_histogram
    whole = op(q, g, q_labels, g_labels, 64)
    parts = [op(q, g[i : i + part], q_labels, g_labels[i : i + part], 64) for i in range(0, gallery, part)]
    assert torch.equal(whole, torch.stack(parts).sum(0))
    assert whole[..., 0].sum(1).unique().tolist() == [gallery]
    assert torch.equal(whole[..., 1].sum(1), g_labels.bincount()[q_labels])


@pytest.mark.parametrize("backend", NATIVE[1:], indirect=True)
def test_more_pairs_than_31_bits_count(backend: str) -> None:
    """By repetition of a few queries; a reference would take minutes."""
    q, g = random_codes(11, 8, 1), random_codes(65_537, 8, 2)
    q_labels, g_labels = random_ids(11, 4, 3), random_ids(65_537, 4, 4).to(torch.uint8)
    op, times = torch.ops.rdh_ext.hamming_histogram, 3000
    expected = oracle.histogram(*(part.numpy() for part in (q, g, q_labels, g_labels)), 8)
    on_device = [part.to(backend) for part in (q.repeat(times, 1), g, q_labels.repeat(times), g_labels)]
    assert 11 * times * 65_537 > 2**31
    histogram = op(*on_device, 8).cpu().view(times, 11, 9, 2)
    assert np.array_equal(histogram[0].numpy(), expected)
    assert bool((histogram == histogram[0]).all())


def test_ids_of_any_size(backend: str) -> None:
    """-1 is no id of uint8, and 256 is not 0."""
    q, g, g_labels = random_codes(7, 12, 1), random_codes(600, 12, 2), random_ids(600, 256, 4)
    q_labels = torch.tensor([-1, 255, 256, 65536, 2**32, 2**63 - 1, -256])
    check_prepared(q, g, q_labels, g_labels, 12, backend)
    wide = torch.where(g_labels < 128, g_labels * 255, g_labels + 2**40)
    q_labels = torch.tensor([-1, 255, 65535, 2**40 + 200, 0, 510, 2**63 - 1])
    parts = [part.to(backend) for part in (q, g, q_labels, wide)]
    same_as_oracle(torch.ops.rdh_ext.hamming_histogram(*parts, 12), q, g, q_labels, wide, 12)


@pytest.mark.parametrize("classes", [None, 9])
def test_several_tiles(backend: str, classes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 4096)  # tiles of 16 items for 256 queries
    q, g = random_codes(300, 8, 1), random_codes(100, 8, 2)
    check(q, g, labels_for(300, classes, 3), labels_for(100, classes, 4), 8, backend)


@pytest.mark.parametrize("classes", [None, 30])
def test_no_temporary_of_all_pairs(classes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "TILE", 1 << 13)
    monkeypatch.setattr(_tiles, "SIGNS", 1 << 13)
    q, g = random_codes(300, 16, 1), random_codes(2000, 16, 2)
    with LargestTensor() as largest:
        reference(q, g, labels_for(300, classes, 3), labels_for(2000, classes, 4), 16)
    assert 0 < largest.numel <= max(300 * 17 * 2, 2000 * (classes or 1))  # the result, and the labels as they came


def test_longest_codes(backend: str) -> None:
    q = torch.cat((random_codes(2, 4096, 1), torch.zeros(1, 512, dtype=torch.uint8)))
    g = torch.cat((random_codes(9, 4096, 2), torch.full((1, 512), 255, dtype=torch.uint8)))
    check(q, g, random_ids(3, 2, 3), random_ids(10, 2, 4), 4096, backend)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31), classes=st.sampled_from([None, 5]))
def test_adds_up_over_any_split(data: st.DataObject, seed: int, classes: int | None) -> None:
    q, g = random_codes(4, 10, seed), random_codes(60, 10, seed + 1)
    q_labels, g_labels = labels_for(4, classes, seed + 2), labels_for(60, classes, seed + 3)
    cuts = sorted(data.draw(st.lists(st.integers(0, 60), max_size=4)))
    whole = hamming_histogram(q, g, q_labels, g_labels, bits=10)
    pieces = zip([0, *cuts], [*cuts, 60], strict=True)
    parts = [hamming_histogram(q, g[a:b], q_labels, g_labels[a:b], bits=10) for a, b in pieces]
    assert torch.equal(torch.stack(parts).sum(0), whole)
    assert bool((whole[..., 0].sum(1) == 60).all())
    assert bool((whole[..., 1] <= whole[..., 0]).all())


def test_bits_default_to_whole_bytes(backend: str) -> None:
    q, g = random_codes(3, 13, 1).to(backend), random_codes(20, 13, 2).to(backend)
    labels = random_ids(3, 2).to(backend), random_ids(20, 2).to(backend)
    assert hamming_histogram(q, g, *labels).shape == (3, 17, 2)
    assert torch.equal(hamming_histogram(q, g, *labels)[:, :14], hamming_histogram(q, g, *labels, bits=13))


def test_awkward_memory(backend: str) -> None:
    q, g = random_codes(9, 40, 1), random_codes(63, 40, 2)
    q_labels, g_labels = random_multi_hot(9, 7, 3), random_multi_hot(63, 7, 4)
    expected = hamming_histogram(q, g, q_labels, g_labels)
    views = zip(*(awkward_views(part.to(backend)) for part in (q, g, q_labels, g_labels)), strict=True)
    for arguments in views:
        assert torch.equal(hamming_histogram(*arguments).cpu(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_round(backend: str, dtype: torch.dtype) -> None:
    q, g = random_codes(3, 512, 1), random_codes(50, 512, 2)
    q_labels, g_labels = random_multi_hot(3, 3000, 3), random_multi_hot(50, 3000, 4)
    with torch.autocast(backend, dtype=dtype):
        check(q, g, q_labels, g_labels, 512, backend)


Q, G, IDS = random_codes(2, 8, 1), random_codes(3, 8, 2), torch.tensor([0, 1, 0])
HOT = torch.eye(3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "bits", "error", "message"),
    [
        ((Q.float(), G, IDS[:2], IDS), None, TypeError, r"hamming_histogram: q must be packed codes"),
        ((Q, G.repeat(1, 2), IDS[:2], IDS), None, ValueError, r"hamming_histogram: g must be codes as wide as q"),
        ((Q, G.to("meta"), IDS[:2], IDS), None, ValueError, r"hamming_histogram: g must be on the device of q"),
        ((Q, G, IDS, IDS), None, ValueError, r"hamming_histogram: q_labels must"),
        ((Q, G, IDS[:2], IDS[:2]), None, ValueError, r"hamming_histogram: g_labels must"),
        ((Q, G, HOT[:2], IDS), None, ValueError, r"hamming_histogram: .*labels"),
        ((Q, G, HOT[:2], HOT[:, :2]), None, ValueError, r"hamming_histogram: .*labels"),
        ((Q, G, IDS[:2], torch.tensor([0.5, 1.0, 0.0])), None, (TypeError, ValueError), r"hamming_histogram: g_labels"),
        ((Q, G, IDS[:2], IDS.to("meta")), None, ValueError, r"hamming_histogram: g_labels must be on the device"),
        ((Q, G, IDS[:2], IDS - 1), None, ValueError, r"hamming_histogram: g_labels must be class ids .* got -1"),
        ((Q, G, HOT[:2], 2 * HOT.int()), None, ValueError, r"hamming_histogram: g_labels must be .* got 2"),
        ((Q, G, IDS[:2], None), None, TypeError, r"hamming_histogram: g_labels must"),
        (
            (Q, G, IDS[:2], IDS),
            9,
            ValueError,
            r"hamming_histogram: bits must be an integer in \(0, 8\], .* 1 byte, got 9",
        ),
        ((Q, G, IDS[:2], IDS), 0, ValueError, r"hamming_histogram: bits must be an integer in \(0, 8\]"),
        ((Q & 1, G | 128, IDS[:2], IDS), 7, ValueError, r"hamming_histogram: g must have zeros behind its 7 bits"),
    ],
)
def test_bad_input(arguments: tuple[Tensor, ...], bits: int | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hamming_histogram(*arguments, bits=bits)


def test_opcheck(backend: str) -> None:
    for queries, gallery, classes in ((3, 7, None), (3, 7, 5), (0, 7, None), (3, 0, 5)):
        parts = random_codes(queries, 19, 1), random_codes(gallery, 19, 2)
        labels = labels_for(queries, classes, 3), labels_for(gallery, classes, 4)
        arguments = [part.to(backend) for part in (*parts, *labels)]
        torch.library.opcheck(torch.ops.rdh_ext.hamming_histogram.default, (*arguments, 19))
        planes = planes_of(arguments[1], 19)
        for prepared in prepared_labels(arguments[3]):
            torch.library.opcheck(torch.ops.rdh_ext.hamming_histogram.default, (*arguments[:3], prepared, 19, planes))
