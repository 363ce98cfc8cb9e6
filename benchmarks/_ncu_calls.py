"""Calls every op of rdh_ext that has a CUDA kernel once, for ncu to look at; a program of its own.

All of them run first once unprofiled, then between start and stop of the profiler (``ncu --profile-from-start off``).
Sizes are those of `rdh bench`, but for the distances, of which a tenth of the queries suffices. Prints, as JSON behind
``CALLS``, by call the kernels that have to be among those that ncu has seen: beginnings of their names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor

import rdh_ext

ROWS, CODES, ITEMS, BITS, CLASSES = 1 << 20, 1 << 22, 59_000, 64, 10
QUERIES, GALLERY, NEIGHBOURS = 10_000, 1_000_000, 100
TENSOR_CORES = 8  # major compute capability from which on the loss uses them
TENSOR_CORE_KERNELS = ("mma_kernel<unsigned int", "mma_kernel<__nv_bfloat16")  # tf32, bf16

Call = Callable[[], object]


def amplified(dtype: torch.dtype, function: Callable[[Tensor], Tensor], rows: int, device: str) -> Call:
    """Forward and backward."""
    x = (2 * torch.randn(rows, BITS, device=device)).to(dtype).requires_grad_()
    grad = torch.randn_like(x)
    return lambda: torch.autograd.grad(function(x), x, grad)


def loss(precision: str, rows: int, items: int, device: str) -> Call:
    """Value and gradient, of rows against a bank of all items; of all items with themselves where they are as many."""
    v = torch.tanh(torch.randn(items, BITS, device=device))
    labels = torch.randint(CLASSES, (items,), device=device)
    h = v[:rows].clone().requires_grad_()

    def run() -> object:
        torch.set_float32_matmul_precision(precision)
        bank = () if rows == items else (v, labels)
        return torch.autograd.grad(rdh_ext.pairwise_loss(h, labels[:rows], *bank), h)

    return run


def calls(scale: int = 1, device: str = "cuda") -> dict[str, tuple[Call, tuple[str, ...]]]:
    """By name: the call, and its kernels. Sizes are divided by ``scale``."""
    torch.manual_seed(0)
    rows, many, items, queries, gallery = (size // scale for size in (ROWS, CODES, ITEMS, QUERIES, GALLERY))
    tensor_cores = device == "cuda" and torch.cuda.get_device_capability()[0] >= TENSOR_CORES
    tf32, bf16 = TENSOR_CORE_KERNELS if tensor_cores else 2 * ("exact_kernel<float",)
    signs = torch.randn(many, BITS, device=device)
    packed = rdh_ext.pack_codes(signs)
    q, g = (torch.randint(256, (n, BITS // 8), dtype=torch.uint8, device=device) for n in (queries, gallery))
    q_labels, g_labels = (torch.randint(CLASSES, (len(codes),), device=device) for codes in (q, g))
    few, near = q[: max(1, queries // 10)], g[:items]
    few_labels, near_labels = q_labels[: len(few)], g_labels[:items]
    return {
        "amplified_tanh float32": (
            amplified(torch.float32, rdh_ext.amplified_tanh, rows, device),
            ("forward_kernel<float", "backward_kernel<float, false"),
        ),
        "amplified_tanh bfloat16": (
            amplified(torch.bfloat16, rdh_ext.amplified_tanh, rows, device),
            ("forward_kernel<__nv_bfloat16", "backward_kernel<__nv_bfloat16, false"),
        ),
        "gradient_amplifier float32": (
            amplified(torch.float32, rdh_ext.gradient_amplifier, rows, device),
            ("backward_kernel<float, true",),
        ),
        "pairwise_loss with a bank": (loss("highest", min(1024, items // 2), items, device), ("exact_kernel<float",)),
        "pairwise_loss with itself, float32": (loss("highest", items, items, device), ("exact_kernel<float",)),
        "pairwise_loss with itself, tf32": (loss("high", items, items, device), (tf32,)),
        "pairwise_loss with itself, bf16": (loss("medium", items, items, device), (bf16,)),
        "pack_codes": (lambda: rdh_ext.pack_codes(signs), ("pack_kernel<float",)),
        "unpack_codes": (lambda: rdh_ext.unpack_codes(packed, BITS), ("unpack_kernel",)),
        "hamming_distance": (lambda: rdh_ext.hamming_distance(few, g), ("distance_kernel",)),
        "hamming_histogram": (lambda: rdh_ext.hamming_histogram(q, g, q_labels, g_labels), ("histogram_kernel",)),
        "hamming_topk": (lambda: rdh_ext.hamming_topk(q, g, NEIGHBOURS), ("count_kernel<0, ", "place_kernel")),
        "evaluate, stable": (
            lambda: rdh_ext.evaluate(few, near, few_labels, near_labels, ties="stable"),
            ("count_kernel<1, ", "rank_kernel"),
        ),
    }


def main() -> int:
    if not torch.cuda.is_available():
        print("no CUDA device is available to PyTorch")
        return 2
    every = calls()
    for profiled in (False, True):
        if profiled:
            torch.cuda.profiler.start()
        for call, _ in every.values():
            call()
        torch.cuda.synchronize()
        if profiled:
            torch.cuda.profiler.stop()
    print("CALLS " + json.dumps({name: kernels for name, (_, kernels) in every.items()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
