"""Codes, labels and awkward memory for the tests of the Hamming ops and metrics."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SIZES = (0, 1, 63, 65, 1000)
PLANE_SIZES = (0, 1, 63, 64, 65, 511, 512, 513, 4095, 4096, 4097, 9000)
"""On both sides of a word, of a run of a register's lane, and of a chunk of bit planes."""
BITS = (1, 7, 8, 9, 64, 65, 4096)
MANY = 70
"""Queries enough for a CPU to prepare a gallery as it does for many."""
BITS_OF_MANY = (*range(1, 10), 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 191, 255, 256)
NATIVE = ("scalar", "avx2", "avx512", "avx512vpopcntdq", pytest.param("cuda", marks=pytest.mark.cuda))
"""For what would take a simulator minutes, and is nothing new to a reference."""


def random_codes(rows: int, bits: int, seed: int = 0, distinct: int | None = None) -> Tensor:
    """Random packed codes with clean pads, at most ``distinct`` different ones: trained codes repeat."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (rows if distinct is None else distinct, bits), dtype=np.uint8)
    if distinct is not None:
        signs = signs[rng.integers(0, distinct, rows)]
    return torch.from_numpy(np.packbits(signs, axis=1, bitorder="little"))


def random_ids(rows: int, classes: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, classes, rows))


def random_multi_hot(rows: int, classes: int, seed: int = 0, share: float = 0.2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((rows, classes)) < share)


def planes_of(codes: Tensor, bits: int) -> Tensor:
    """Bit planes as the package makes them; ``tests/ops/test_bit_planes.py`` holds them to the format."""
    return torch.ops.rdh_ext.bit_planes(codes, bits)


def prepared_labels(g_labels: Tensor) -> Iterator[Tensor]:
    """Every form in which a prepared gallery may keep these labels: small class ids, or int64; multi-hot rows."""
    if g_labels.dim() == 1:
        for dtype in (torch.uint8, torch.int16, torch.int32):
            yield g_labels.to(dtype)
    else:
        rows = np.packbits(g_labels.cpu().numpy(), axis=1, bitorder="little")
        yield planes_of(torch.from_numpy(rows).to(g_labels.device), g_labels.shape[1])


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fresh memory is filled with NaN (integers: the largest value), so that reading what was never written shows.

    Nothing but that is wanted of the mode, which would otherwise refuse every matrix product on CUDA unless cuBLAS is
    configured by the environment.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Deterministic behavior was enabled")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)


def awkward_views(x: Tensor) -> Iterator[Tensor]:
    """The same values in memory that is not contiguous, transposed, or off by one element."""
    wide = x.new_empty((x.shape[0], 2 * x.shape[1] + 1))
    wide[:, 1::2] = x
    yield wide[:, 1::2]
    yield x.T.contiguous().T
    shifted = x.new_empty(x.numel() + 1)[1:].view(x.shape)
    yield shifted.copy_(x)


def nested(rows: Tensor) -> Tensor:
    """The rows as one nested tensor: strided, and without a shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says PyTorch
        return torch.nested.nested_tensor(list(rows))


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation inside the block returns."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return out
