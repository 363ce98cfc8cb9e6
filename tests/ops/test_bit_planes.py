"""Bit planes of packed rows: against the format, word by word, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hamming_cases import PLANE_SIZES, awkward_views, poisoned_memory, random_codes
from oracles import hamming as oracle

from rdh_ext.ops.bit_planes import bit_planes
from rdh_ext.reference import _tiles
from rdh_ext.reference import bit_planes as module
from rdh_ext.reference._tiles import plane_rows


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 64, 65, 130])
@pytest.mark.parametrize("rows", PLANE_SIZES)
def test_equals_the_format(backend: str, rows: int, bits: int) -> None:
    codes = random_codes(rows, bits)
    with poisoned_memory():
        planes = bit_planes(codes.to(backend), bits)
    assert planes.dtype == torch.int64
    assert planes.is_contiguous()
    assert np.array_equal(planes.cpu().numpy(), oracle.bit_planes(codes.numpy(), bits))


@pytest.mark.parametrize("bits", [4095, 4096, 5001])  # labels may have more classes than codes have bits
def test_many_bits(backend: str, bits: int) -> None:
    codes = random_codes(130, bits)
    planes = bit_planes(codes.to(backend), bits)
    assert np.array_equal(planes.cpu().numpy(), oracle.bit_planes(codes.numpy(), bits))


def test_places_behind_the_last_bit_are_not_looked_at(backend: str) -> None:
    codes = random_codes(70, 13)
    dirty = codes.clone()
    dirty[:, 1] |= 0b11100000
    assert torch.equal(bit_planes(dirty.to(backend), 13).cpu(), bit_planes(codes, 13))


def test_awkward_memory(backend: str) -> None:
    codes = random_codes(700, 40)
    for view in awkward_views(codes.to(backend)):
        assert np.array_equal(bit_planes(view, 40).cpu().numpy(), oracle.bit_planes(codes.numpy(), 40))


def test_several_blocks_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = random_codes(13_000, 5)
    expected = bit_planes(codes, 5)
    for signs in (1, 2 * 5 * _tiles.CHUNK):
        monkeypatch.setattr(module, "SIGNS", signs)
        assert torch.equal(module.bit_planes(codes, 5), expected)


@pytest.mark.parametrize("items", [slice(0, 9000), slice(0, 0), slice(4000, 4200), slice(511, 513), slice(8999, 9000)])
def test_back_to_rows(items: slice) -> None:
    codes = random_codes(9000, 11)
    rows = plane_rows(module.bit_planes(codes, 11), items)
    assert np.array_equal(rows.numpy(), np.unpackbits(codes.numpy(), axis=1, count=11, bitorder="little")[items])
    assert rows.dtype == torch.bool


def test_opcheck(backend: str) -> None:
    for rows in (0, 5, 4097):
        torch.library.opcheck(torch.ops.rdh_ext.bit_planes.default, (random_codes(rows, 19).to(backend), 19))
