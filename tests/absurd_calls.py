"""Calls every op with random nonsense, below the checks of the public functions. A program, because it must not crash.

Prints how many calls it made and how many of them returned; what it tried last is in the traceback of a crash.
"""

from __future__ import annotations

import contextlib
import faulthandler
import random
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from rdh_ext import _native
from rdh_ext.ops._library import REFERENCES

NATIVE = (
    *("amplified_tanh", "amplified_sigmoid", "gradient_amplifier", "pairwise_loss"),
    *("pack_codes", "unpack_codes", "bit_planes", "hamming", "stable", "average_precision"),
)
SHAPES = ([], [0], [1], [3], [33], [2, 3], [3, 2], [0, 4], [4, 0], [2, 3, 4], [1] * 9, [2] * 11, [1, 513], [1] * 64)
DTYPES = (
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16) * 2,
    *(torch.int64, torch.uint8, torch.bool, torch.complex64, torch.int8, torch.float8_e4m3fn, torch.uint16),
)
REALS = (0.0, 0.5, 0.99, 1.0, -1.0, 2.0, torch.nan, torch.inf, -torch.inf, 1e308, 5e-324)
INTEGERS = (0, 1, -1, 3, 8, 9, 24, 4096, 2**31, 2**63 - 1, -(2**63))
CHOICES = {  # what an argument may be, so that some calls get as far as a kernel
    "pair_weights": ("none", "balanced"),
    "quantization": ("error_aware", "l2", "log_cosh", "none"),
    "reduction": ("mean", "sum"),
    "precision": ("highest", "high", "medium"),
}
STRINGS = ("none", "balanced", "l2", "error_aware", "mean", "sum", "log_cosh", "", "x\0y")


def some_tensor() -> Tensor:
    """Zeros, or values of all magnitudes, in a layout, on a device or in memory that nobody expects."""
    shape, dtype = random.choice(SHAPES), random.choice(DTYPES)
    x = torch.zeros(shape, dtype=dtype)
    if dtype.is_floating_point and random.random() < 0.5:
        x = (torch.randn(shape) * 10 ** random.uniform(-40, 38)).to(dtype)
    change = random.choice(
        (
            *(lambda: x,) * 12,
            lambda: x.to("meta"),
            lambda: x.to_sparse(),
            lambda: x.t(),
            lambda: x.expand(2, *x.shape),
            lambda: x.requires_grad_(),
            lambda: torch._neg_view(x),
            lambda: x.to(torch.complex64).conj(),
            lambda: x.float().to_mkldnn(),
            lambda: torch._efficientzerotensor(x.shape),
            lambda: torch.nested.nested_tensor([torch.randn(2), torch.randn(3)]),
            lambda: torch.quantize_per_tensor(torch.randn(3, 2), 0.1, 0, torch.quint8),
        )
    )
    try:
        return change()
    except RuntimeError:  # a layout that this dtype or shape does not have
        return x


def some_argument(name: str, kind: str) -> Any:
    if "Tensor" in kind:
        return None if "Optional" in kind and random.random() < 0.4 else some_tensor()
    if name in CHOICES and random.random() < 0.95:
        return random.choice(CHOICES[name])
    return random.choice({"float": REALS, "int": INTEGERS, "bool": (True, False), "str": STRINGS}[kind])


def some_call(name: str) -> bool:
    """Whether a call of the op returned."""
    op = getattr(torch.ops.rdh_ext, name).default
    arguments = [some_argument(argument.name, str(argument.type)) for argument in op._schema.arguments]
    if random.random() < 0.5:  # the same tensor everywhere gets further
        tensor = some_tensor()
        arguments = [tensor if isinstance(argument, Tensor) else argument for argument in arguments]
    try:
        op(*arguments)
    except Exception:
        return False
    return True


def some_pairwise_loss() -> bool:
    """One that fits but for what random hands have changed."""
    rows, columns, bits = random.choice(((0, 0, 0), (1, 0, 3), (3, 2, 0), (5, 70, 33), (65, 3, 1)))
    with_bank, multi_hot = random.random() < 0.5, random.random() < 0.5
    columns = columns if with_bank else rows
    shape = (random.choice((0, 1, 65)),) if multi_hot else ()

    def labels(n: int) -> Tensor:
        return torch.rand(n, *shape) < 0.3 if multi_hot else torch.randint(-(2**63), 2**63 - 1, (n,))

    h, bank = (torch.randn(n, bits, dtype=random.choice(DTYPES[:8])) * 1e20 for n in (rows, columns))
    arguments: list[Any] = (
        [h, labels(rows), bank, labels(columns), None] if with_bank else [h, labels(rows)] + [None] * 3
    )
    if random.random() < 0.3:
        arguments[1] = arguments[3] = None
        arguments[4] = torch.zeros(rows, columns, dtype=random.choice(DTYPES))
    if random.random() < 0.5:
        arguments[random.randrange(5)] = some_tensor()
    options = [
        some_argument(a.name, str(a.type)) for a in torch.ops.rdh_ext.pairwise_loss.default._schema.arguments[5:]
    ]
    try:
        torch.ops.rdh_ext.pairwise_loss.default(*arguments, *options)
    except Exception:
        return False
    return True


def some_hamming() -> bool:
    """A call of an op on codes that fits but for what random hands have changed."""
    bits = random.choice((1, 7, 8, 24, 64, 65, 130))
    queries, gallery = random.choice((0, 1, 5)), random.choice((0, 1, 63, 70, 600))
    q, g = (torch.randint(0, 256, (n, (bits + 7) // 8), dtype=torch.uint8) for n in (queries, gallery))
    if bits % 8:  # places behind the last bit are equal
        for codes in (q, g):
            codes[:, -1] &= (1 << bits % 8) - 1
    ops = torch.ops.rdh_ext
    planes = ops.bit_planes(g, bits)
    if random.random() < 0.5:
        id_type = random.choice((torch.uint8, torch.int16, torch.int32, torch.int64))
        q_labels, g_labels = torch.randint(-3, 300, (queries,)), torch.randint(0, 300, (gallery,)).to(id_type)
    else:
        q_labels, g_labels = torch.rand(queries, 7) < 0.3, torch.rand(gallery, 7) < 0.3
        if random.random() < 0.5:
            places = 2 ** torch.arange(7, dtype=torch.uint8)
            g_labels = ops.bit_planes((g_labels * places).sum(1, keepdim=True, dtype=torch.uint8), 7)
    labelled = [q, g, q_labels, g_labels]
    histogram = ops.hamming_histogram(*labelled, bits)
    op, arguments = random.choice(
        (
            (ops.hamming_distance, [q, g, planes]),
            (ops.hamming_topk, [q, g, random.choice((1, 2, 70, 5000)), planes]),
            (ops.hamming_histogram, [*labelled, bits, planes]),
            (ops.stable_ranks, [*labelled, histogram, planes]),
            (
                ops.stable_precision_sum,
                [*labelled, histogram, random.choice((0, 1, 40, 5000)), random.choice((None, histogram)), planes],
            ),
            (ops.bit_planes, [g, bits]),
            (ops.unpack_codes, [g, bits]),
        )
    )
    if random.random() < 0.6:
        place = random.randrange(len(arguments))
        arguments[place] = random.choice(INTEGERS) if isinstance(arguments[place], int) else some_tensor()
    try:
        op(*arguments)
    except Exception:
        return False
    return True


def counts_of_other_codes_are_no_way_out_of_memory() -> None:
    """Histograms that promise more or fewer ranks than there are, or other distances: an error, or other numbers."""
    ops = torch.ops.rdh_ext
    q, g = (torch.randint(0, 256, (n, 2), dtype=torch.uint8) for n in (5, 300))
    ids = torch.randint(0, 3, (5,)), torch.randint(0, 3, (300,))
    right = ops.hamming_histogram(q, g, *ids, 16)
    changed = (right // 2, right * 2, right.flip(1), right * 0, -right, right + 10**3, right.roll(1, 0), right - 2**62)
    for wrong in changed:
        with contextlib.suppress(Exception):
            ops.stable_ranks(q, g, *ids, wrong)
        with contextlib.suppress(Exception):
            ops.stable_precision_sum(q, g, *ids, wrong, 100)
        with contextlib.suppress(Exception):
            ops.stable_precision_sum(q, g, *ids, right, 100, wrong)
        ops.average_precision(wrong)
    ops.average_precision(torch.randint(-(2**63), 2**63 - 1, (50, 9, 2)))


def freed_memory_is_an_error() -> None:
    """PyTorch's own tanh would read address 0."""
    x, fine, rows = torch.zeros(100), torch.zeros(100), torch.zeros(100, 1)
    every_other = x[::2]
    x.untyped_storage().resize_(0)
    rows.untyped_storage().resize_(0)
    ops = torch.ops.rdh_ext
    options = (0.5, "none", "none", 0.0, True, "mean", "highest", True)
    for call in (
        lambda: ops.amplified_tanh(x, 0.9, 5.0, 1.0),
        lambda: ops.amplified_sigmoid(every_other, 0.9, 5.0, 1.0),
        lambda: ops.amplified_tanh_backward(fine, x, 0.9, 5.0, 1.0, True),
        lambda: ops.gradient_amplifier_backward(x, fine, 0.9, 5.0, False),
        lambda: ops.pairwise_loss_backward(fine.sum(), x, fine),
        lambda: ops.pairwise_loss(rows, None, None, None, fine[None] * fine[:, None], *options),
    ):
        with pytest.raises(RuntimeError, match="the memory of the input has been freed"):
            call()


def main() -> None:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    random.seed(0)
    torch.manual_seed(0)
    results = [some_call(name) for name in REFERENCES for _ in range(100)]
    for level in _native.cpu_levels() if _native.CPU_LOADED else ():
        with _native.forced_cpu_level(level):
            names = [name for name in REFERENCES if name.startswith(NATIVE)]
            results += [some_call(name) for name in names for _ in range(200)]
            results += [some_pairwise_loss() for _ in range(300)]
            results += [some_hamming() for _ in range(400)]
            counts_of_other_codes_are_no_way_out_of_memory()
            freed_memory_is_an_error()
    print(len(results), sum(results))


if __name__ == "__main__":
    main()
