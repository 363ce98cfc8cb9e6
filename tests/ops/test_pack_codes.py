"""Packing signs to bytes: against numpy, over dtypes, sizes and strides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hamming_cases import BITS, SIZES, awkward_views, poisoned_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import hamming as oracle

from rdh_ext.ops.pack_codes import count_zeros, pack_codes
from rdh_ext.ops.unpack_codes import unpack_codes

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", SIZES)
def test_equals_numpy(backend: str, rows: int, bits: int) -> None:
    if rows * bits > 1_000_000:
        rows = 100
    h = torch.randn(rows, bits)
    with poisoned_memory():
        codes = pack_codes(h.to(backend))
    assert codes.dtype == torch.uint8
    assert codes.shape == (rows, -(-bits // 8))
    assert codes.is_contiguous()
    assert np.array_equal(codes.cpu().numpy(), oracle.pack(h.numpy()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_zeros_and_infinities(backend: str, dtype: torch.dtype) -> None:
    h = torch.tensor(
        [[0.0, -0.0, 1e-7, -1e-7, torch.inf, -torch.inf, 1.0, -1.0, -1.0, 1.0]], dtype=dtype, device=backend
    )
    assert pack_codes(h).tolist() == [[0b01010111, 0b10]]


def test_awkward_memory(backend: str) -> None:
    h = torch.randn(65, 37)
    for view in awkward_views(h.to(backend)):
        assert np.array_equal(pack_codes(view).cpu().numpy(), oracle.pack(h.numpy()))


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 20), bits=st.integers(1, 200), seed=st.integers(0, 2**31))
def test_round_trip(rows: int, bits: int, seed: int) -> None:
    signs = 2.0 * torch.randint(0, 2, (rows, bits), generator=torch.Generator().manual_seed(seed)) - 1
    codes = pack_codes(signs)
    assert torch.equal(unpack_codes(codes, bits), signs)
    assert torch.equal(pack_codes(unpack_codes(codes, bits)), codes)


def test_needs_no_gradient(backend: str) -> None:
    assert not pack_codes(torch.randn(3, 9, device=backend, requires_grad=True)).requires_grad


def test_nan_is_refused_on_cpu_only() -> None:
    h = torch.tensor([[1.0, torch.nan, torch.nan]])
    with pytest.raises(ValueError, match=r"pack_codes: h must be free of NaN, got 2 NaN in float32 \[1, 3\]"):
        pack_codes(h)
    assert torch.ops.rdh_ext.pack_codes(h).tolist() == [[1]]


@pytest.mark.parametrize(
    ("h", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int8), TypeError, r"pack_codes: h must be a tensor of dtype float32"),
        (torch.ones(2, 3, dtype=torch.bool), TypeError, r"pack_codes: h must be a tensor of dtype float32"),
        ([[1.0]], TypeError, r"pack_codes: h must be a torch.Tensor, got list"),
        (torch.ones(3), ValueError, r"pack_codes: h must be a tensor of 2 dimensions"),
        (torch.ones(2, 0), ValueError, r"pack_codes: h must be \[N, K\] with K from 1 to 4096, got float32 \[2, 0\]"),
        (torch.ones(1, 4097), ValueError, r"pack_codes: h must be \[N, K\] with K from 1 to 4096"),
    ],
)
def test_bad_input(h: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pack_codes(h)


def test_count_zeros(backend: str) -> None:
    assert count_zeros(torch.tensor([[0.0, -0.0, 1e-30], [1.0, 0.0, -1.0]], device=backend)) == 3
    assert count_zeros(torch.zeros(0, 5, device=backend)) == 0
    with pytest.raises(TypeError, match=r"count_zeros: h must be a tensor of dtype"):
        count_zeros(torch.zeros(2, 2, dtype=torch.int64))


def test_opcheck(backend: str) -> None:
    for h in (torch.randn(5, 19, device=backend), torch.randn(0, 8, device=backend, requires_grad=True)):
        torch.library.opcheck(torch.ops.rdh_ext.pack_codes.default, (h,))


def test_compiles_without_graph_break() -> None:
    compiled = torch.compile(pack_codes, fullgraph=True, backend="aot_eager")
    for rows in (3, 5, 8):
        h = torch.randn(rows, 21)
        assert torch.equal(compiled(h), pack_codes(h))
