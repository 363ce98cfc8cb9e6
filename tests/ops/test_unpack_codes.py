"""Unpacking: against numpy; the number of bits has to fit the bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hamming_cases import BITS, SIZES, awkward_views, poisoned_memory, random_codes
from oracles import hamming as oracle

from rdh_ext.ops.unpack_codes import unpack_codes


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", SIZES)
def test_equals_numpy(backend: str, rows: int, bits: int) -> None:
    codes = random_codes(min(rows, 100_000 // bits), bits)
    with poisoned_memory():
        signs = unpack_codes(codes.to(backend), bits)
    assert signs.dtype == torch.float32
    assert signs.is_contiguous()
    assert np.array_equal(signs.cpu().numpy(), oracle.unpack(codes.numpy(), bits))


def test_awkward_memory(backend: str) -> None:
    codes = random_codes(65, 40)
    for view in awkward_views(codes.to(backend)):
        assert np.array_equal(unpack_codes(view, 40).cpu().numpy(), oracle.unpack(codes.numpy(), 40))


def test_numpy_integers_are_bits() -> None:
    assert unpack_codes(random_codes(2, 9), np.int64(9)).shape == (2, 9)


@pytest.mark.parametrize(
    ("codes", "bits", "error", "message"),
    [
        (torch.ones(2, 1), 8, TypeError, r"unpack_codes: codes must be packed codes, a uint8 tensor .* got float32"),
        (torch.ones(2, dtype=torch.uint8), 8, ValueError, r"unpack_codes: codes must be a tensor of 2 dimensions"),
        (torch.ones(2, 0, dtype=torch.uint8), 8, ValueError, r"codes must be \[rows, bytes\] with 1 to 512 bytes"),
        (torch.ones(2, 513, dtype=torch.uint8), 4104, ValueError, r"with 1 to 512 bytes \(4096 bits\)"),
        (
            torch.zeros(2, 2, dtype=torch.uint8),
            8,
            ValueError,
            r"bits must be an integer in \(8, 16\], .* 2 bytes, got 8",
        ),
        (torch.zeros(2, 2, dtype=torch.uint8), 17, ValueError, r"bits must be an integer in \(8, 16\], .* got 17"),
        (torch.zeros(2, 2, dtype=torch.uint8), None, TypeError, r"bits must be an integer, got NoneType"),
        (
            torch.zeros(2, 2, dtype=torch.uint8),
            9.0,
            TypeError,
            r"bits must be an integer in \(8, 16\], .* got float 9.0",
        ),
        (torch.zeros(2, 1, dtype=torch.uint8), True, TypeError, r"bits must be .* got bool True"),
        (torch.tensor([[255, 4]], dtype=torch.uint8), 10, ValueError, r"codes must have zeros behind its 10 bits"),
    ],
)
def test_bad_input(codes: torch.Tensor, bits: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        unpack_codes(codes, bits)


def test_opcheck(backend: str) -> None:
    for rows in (5, 0):
        codes = random_codes(rows, 19).to(backend)
        torch.library.opcheck(torch.ops.rdh_ext.unpack_codes.default, (codes, 19))
