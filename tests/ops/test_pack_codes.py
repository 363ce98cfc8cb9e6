"""Packing signs to bytes: against numpy, over dtypes, sizes and strides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backends import backends_of
from hamming_cases import BITS, SIZES, awkward_views, poisoned_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import hamming as oracle
from torch._subclasses.fake_tensor import FakeTensorMode

from rdh_ext import _native
from rdh_ext.ops.pack_codes import count_zeros, pack_codes
from rdh_ext.ops.unpack_codes import unpack_codes

CHECKED = [name for name in backends_of("pack_codes") if name not in ("simt", "cuda")]
"""Backends that look for NaN."""
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


def test_nan_is_refused_by_number(backend: str) -> None:
    h = torch.tensor([[1.0, torch.nan, torch.nan]], device=backend)
    assert torch.ops.rdh_ext.pack_codes(h).tolist() == [[1]]
    if backend == "cuda":  # which would have to be waited for
        assert pack_codes(h).tolist() == [[1]]
        return
    for function in (pack_codes, count_zeros):
        name = function.__name__
        with pytest.raises(ValueError, match=rf"^{name}: h must be free of NaN, got 2 NaN in float32 \[1, 3\] on cpu$"):
            function(h)
    with pytest.raises(RuntimeError, match=r"^pack_codes: h must be free of NaN$"):
        torch.ops.rdh_ext.pack_codes_checked(h)


def test_nan_is_not_looked_at_by_tracers() -> None:
    h = torch.tensor([[1.0, torch.nan, 2.0]])
    assert torch.compile(pack_codes, fullgraph=True, backend="aot_eager")(h).tolist() == [[5]]
    with FakeTensorMode() as mode:
        assert pack_codes(mode.from_tensor(h)).shape == (1, 1)
    assert pack_codes(h.to("meta")).shape == (1, 1)


@pytest.mark.parametrize("backend", CHECKED, indirect=True)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_found_wherever_it_is(backend: str, dtype: torch.dtype) -> None:
    """The only one, of either sign, in the first and the last row and in one between."""
    rows = 9
    for bits in (*range(1, 67), 100, 129):
        h = torch.full((rows, bits), -1.0, dtype=dtype, device=backend)
        for row in (0, 4, rows - 1):
            for bit in range(bits):
                h[row, bit] = torch.nan if bit % 2 else -torch.nan
                with pytest.raises(RuntimeError, match="free of NaN"):
                    torch.ops.rdh_ext.pack_codes_checked(h)
                h[row, bit] = -1.0
        assert not torch.ops.rdh_ext.pack_codes_checked(h).any()


@pytest.mark.parametrize("backend", CHECKED, indirect=True)
@pytest.mark.parametrize("bits", [12, 64])
def test_nan_is_found_in_every_task_of_many_threads(backend: str, bits: int) -> None:
    rows, each = 70_000, 2**18 // bits  # rows of a task
    h = torch.ones(rows, bits)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert np.array_equal(pack_codes(h).numpy(), oracle.pack(h.numpy()))
        for place in (0, each * bits - 1, each * bits, 2 * each * bits - 1, rows * bits - 1):
            h.view(-1)[place] = torch.nan
            with pytest.raises(ValueError, match=r"got 1 NaN in float32"):
                pack_codes(h)
            h.view(-1)[place] = 1.0
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_of_every_pattern(backend: str, dtype: torch.dtype) -> None:
    """The smallest and the largest ones beyond infinity, quiet or not, and the largest number before it."""
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    infinity = int(torch.tensor(torch.inf, dtype=dtype).view(integer))
    for beyond in (infinity + 1, torch.iinfo(integer).max):
        for pattern in (beyond, beyond + torch.iinfo(integer).min):
            h = torch.zeros(2, 64, dtype=integer, device=backend)
            h[1, 3] = pattern
            codes = torch.ops.rdh_ext.pack_codes(h.view(dtype))
            assert codes[1].tolist() == [0b11110111, *[255] * 7]
            if backend != "cuda":
                with pytest.raises(ValueError, match="got 1 NaN"):
                    pack_codes(h.view(dtype))
            h[1, 3] = infinity - 1
            assert pack_codes(h.view(dtype)).eq(255).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_false_alarm(backend: str, dtype: torch.dtype) -> None:
    """Sums of these are NaN, or beyond every number."""
    huge, tiny = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal / 2
    for values in ((torch.inf, -torch.inf), (huge, huge, -huge), (-0.0, 0.0), (tiny, -tiny)):
        h = torch.tensor(values, dtype=dtype, device=backend).repeat(40)[None].repeat(3, 1)
        assert np.array_equal(pack_codes(h).cpu().numpy(), oracle.pack(h.double().cpu().numpy()))
        count_zeros(h)


@pytest.mark.skipif(not _native.CPU_LOADED, reason="the references read what is not there")
def test_other_errors_stay_what_they_are() -> None:
    h = torch.randn(3, 9)
    h.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="the memory of the input has been freed"):
        pack_codes(h)


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
        torch.library.opcheck(torch.ops.rdh_ext.pack_codes_checked.default, (h,))


def test_compiles_without_graph_break() -> None:
    compiled = torch.compile(pack_codes, fullgraph=True, backend="aot_eager")
    for rows in (3, 5, 8):
        h = torch.randn(rows, 21)
        assert torch.equal(compiled(h), pack_codes(h))
