"""Runs the CPU ops of all levels on tensors that end where their memory ends, and compares them with the references.

    LD_PRELOAD=guard_pages.so python guarded_ops.py CASES SEED [beyond]

A byte too many that is read or written kills the process; "beyond" does so on purpose. test_guard_pages.py starts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdh_ext import _native
from rdh_ext.ops import _library

OPS = torch.ops.rdh_ext
switch = ctypes.CDLL(None).guard_pages


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    switch(1)
    try:
        yield
    finally:
        switch(0)


def at_the_end(x: Tensor) -> Tensor:
    """The same values in guarded memory of their own, whose last byte they have."""
    size = x.nbytes
    with guarded():
        block = torch.empty(-(-size // 64) * 64, dtype=torch.uint8)
    return block[len(block) - size :].view(x.dtype).view(x.shape).copy_(x)


def random_codes(rng: np.random.Generator, rows: int, bits: int) -> Tensor:
    signs = rng.integers(0, 2, (rows, bits), dtype=np.uint8)
    if rows > 1:
        signs[rng.integers(0, rows, rows // 2)] = signs[0]
    return torch.from_numpy(np.packbits(signs, axis=1, bitorder="little"))


Call = tuple[str, tuple[Any, ...]]


def hamming_calls(rng: np.random.Generator) -> Iterator[Call]:
    """The Hamming ops on one random problem."""
    queries = int(rng.choice([1, 3, 40, 70, 130]))
    gallery = int(rng.choice([0, 1, 63, 64, 65, 513, 1500, 4095, 4097]))
    bits = int(rng.choice([1, 5, 8, 16, 24, 33, 48, 64, 65, 128, 255, 256, 1000]))
    classes = int(rng.choice([1, 5, 63, 64, 70, 200]))
    if queries * gallery * bits > 20_000_000:
        queries = 2
    q, g = random_codes(rng, queries, bits), random_codes(rng, gallery, bits)
    if rng.random() < 0.5:
        ids = rng.integers(0, 2**40, 300) if rng.random() < 0.5 else np.arange(300)
        q_labels, g_labels = (torch.from_numpy(ids[rng.integers(0, 300, rows)]) for rows in (queries, gallery))
        g_labels = g_labels.to(torch.int16) if ids[-1] == 299 and rng.random() < 0.5 else g_labels
    else:
        share = rng.choice([0.5, 0.05])
        q_rows, g_rows = (rng.random((rows, classes)) < share for rows in (queries, gallery))
        q_labels, g_labels = torch.from_numpy(q_rows), torch.from_numpy(g_rows)
        if rng.random() < 0.5:  # as a prepared gallery keeps them
            g_labels = OPS.bit_planes(torch.from_numpy(np.packbits(g_rows, axis=1, bitorder="little")), classes)
    planes = OPS.bit_planes(g, bits) if rng.random() < 0.5 else None
    histogram = OPS.hamming_histogram(q, g, q_labels, g_labels, bits)
    yield "bit_planes", (g, bits)
    yield "unpack_codes", (g, bits)
    yield "hamming_distance", (q, g, planes)
    yield "hamming_topk", (q, g, int(rng.integers(1, gallery + 2)), planes)
    yield "hamming_histogram", (q, g, q_labels, g_labels, bits, planes)
    yield "stable_ranks", (q, g, q_labels, g_labels, histogram, planes)
    yield "average_precision", (histogram,)
    limit = int(rng.integers(0, gallery + 2))
    yield "stable_precision_sum", (q, g, q_labels, g_labels, histogram, limit, histogram if limit else None, planes)


def packing_calls(rng: np.random.Generator) -> Iterator[Call]:
    rows, columns = int(rng.choice([0, 1, 7, 64, 129])), int(rng.choice([1, 8, 24, 33, 64, 100]))
    dtype = (torch.float32, torch.float64, torch.float16, torch.bfloat16)[rng.integers(4)]
    h = torch.from_numpy(rng.standard_normal((rows, columns))).to(dtype)
    yield "pack_codes_checked", (h,)
    h[torch.from_numpy(rng.random((rows, columns)) < 0.1)] = torch.nan
    yield "pack_codes", (h,)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-12, atol=0) if a.is_floating_point() else torch.equal(a, b)


def compare(name: str, arguments: tuple[Any, ...], levels: list[str]) -> None:
    """All levels against the reference."""
    reference: Callable[..., Any] = _library.REFERENCES[name]
    expected = reference(*arguments)
    expected = (expected,) if isinstance(expected, Tensor) else expected
    inputs = [at_the_end(x) if isinstance(x, Tensor) else x for x in arguments]
    for level in levels:
        with _native.forced_cpu_level(level), guarded():
            found = getattr(OPS, name)(*inputs)
        found = (found,) if isinstance(found, Tensor) else found
        if not all(close(a, b) for a, b in zip(found, expected, strict=True)):
            shapes = [tuple(x.shape) if isinstance(x, Tensor) else x for x in arguments]
            sys.exit(f"{name} at level {level} is not the reference for {shapes}")


def main() -> None:
    cases, rng = int(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))
    torch.set_num_threads(1)
    if sys.argv[3:] == ["beyond"]:
        x = at_the_end(torch.arange(13, dtype=torch.uint8))
        assert ctypes.string_at(x.data_ptr(), 13) == bytes(range(13))
        ctypes.string_at(x.data_ptr(), 14)
    levels = list(_native.cpu_levels())
    for _ in range(cases):
        for calls in (hamming_calls, packing_calls):
            for name, arguments in calls(rng):
                compare(name, arguments, levels)
    print(f"{cases} cases at {', '.join(levels)}, {switch(0)} blocks")


if __name__ == "__main__":
    main()
