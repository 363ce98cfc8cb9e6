"""Argument checks: every message names the op, the argument, what was expected and what came.

All public functions call these before they reach the dispatcher, so that a wrong call ends in a ``ValueError`` or a
``TypeError`` with one readable line, whichever backend would have run.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch._subclasses.fake_tensor import FakeTensor

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGER = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def describe(value: Any) -> str:
    """``value`` for the end of an error message: tensors by dtype and shape, the rest by repr, on one line."""
    if isinstance(value, torch.Tensor):
        shape = "(nested)" if value.is_nested else list(value.shape)
        return f"{str(value.dtype).removeprefix('torch.')} {shape} on {value.device}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def fail_value(op: str, argument: str, expected: str, got: Any) -> NoReturn:
    """Raises ``ValueError("op: argument must be expected, got ...")``."""
    raise ValueError(f"{op}: {argument} must be {expected}, got {describe(got)}")


def fail_type(op: str, argument: str, expected: str, got: Any) -> NoReturn:
    """Raises ``TypeError("op: argument must be expected, got ...")``."""
    kind = describe(got) if isinstance(got, torch.Tensor) else f"{type(got).__name__} {describe(got)}"
    raise TypeError(f"{op}: {argument} must be {expected}, got {kind}")


def check_dense(op: str, argument: str, tensor: torch.Tensor) -> None:
    """``tensor`` is strided and has a shape: neither sparse nor nested."""
    if tensor.layout != torch.strided or tensor.is_nested:
        advice = "" if tensor.is_nested else "; call .to_dense() first"
        fail_type(op, argument, f"a dense (strided) tensor{advice}", tensor)


def check_tensor(
    op: str,
    argument: str,
    value: Any,
    *,
    dtypes: Sequence[torch.dtype] = FLOATING,
    ndim: int | None = None,
) -> None:
    """``value`` is a strided tensor of one of ``dtypes`` and, where given, of ``ndim`` dimensions."""
    if not isinstance(value, torch.Tensor):
        fail_type(op, argument, "a torch.Tensor", value)
    if value.dtype not in dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        fail_type(op, argument, f"a tensor of dtype {names}", value)
    if value.layout is not torch.strided or value.is_nested:  # not a call: small ops are all overhead
        check_dense(op, argument, value)
    if ndim is not None and value.dim() != ndim:
        fail_value(op, argument, f"a tensor of {ndim} dimension{'s' if ndim != 1 else ''}", value)


def check_same_device(op: str, first: str, a: torch.Tensor, second: str, b: torch.Tensor) -> None:
    """Both tensors are on one device."""
    if a.device != b.device:
        raise ValueError(f"{op}: {second} must be on the device of {first} ({a.device}), got {describe(b)}")


def check_real(op: str, argument: str, value: Any, *, low: float, high: float, expected: str) -> float:
    """``value`` as a finite float with ``low <= value < high``; ``expected`` says it. NumPy's pass, bools do not."""
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, (int, float, numbers.Real)):
            fail_type(op, argument, f"a real number, {expected}", value)
        try:
            value = float(value)
        except OverflowError:  # an integer of more than 308 digits
            fail_value(op, argument, expected, value)
    if not low <= value < high:  # also false for NaN
        fail_value(op, argument, expected, value)
    return float(value)


def check_positive(op: str, argument: str, value: Any) -> float:
    """``value`` as a finite float greater than 0."""
    return check_real(op, argument, value, low=math.ulp(0.0), high=math.inf, expected="finite and > 0")


def check_choice(op: str, argument: str, value: Any, choices: Sequence[str]) -> None:
    """``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        fail_value(op, argument, "one of " + ", ".join(repr(choice) for choice in choices), value)


def check_bool(op: str, argument: str, value: Any) -> bool:
    """``value`` is True or False, and nothing that merely counts as one."""
    if not isinstance(value, bool):
        fail_type(op, argument, "True or False", value)
    return value


MAX_BITS = 4096
"""Longest code: distances then fit int16, and a dot product of signs is exact in float32, with room to spare."""


def check_integer(op: str, argument: str, value: Any, *, low: int, high: int | None = None, expected: str) -> int:
    """``value`` as an int with ``low <= value <= high``; ``expected`` says it. NumPy integers pass, bools do not."""
    if type(value) is not int:
        if isinstance(value, (bool, torch.Tensor)) or not hasattr(value, "__index__"):
            fail_type(op, argument, expected, value)
        value = operator.index(value)
    if value < low or (high is not None and value > high):
        fail_value(op, argument, expected, value)
    return int(value)


def may_read_values(tensor: torch.Tensor) -> bool:
    """Reading values costs no synchronisation and is possible: a CPU tensor, outside of tracing."""
    return tensor.is_cpu and not torch.compiler.is_compiling() and not isinstance(tensor, FakeTensor)


def check_has_values(op: str, argument: str, tensor: torch.Tensor) -> None:
    """``tensor`` holds numbers and not only their shape: for functions that return plain numbers."""
    if tensor.is_meta:
        fail_value(op, argument, "a tensor with values", tensor)


def check_codes(op: str, argument: str, codes: Any) -> None:
    """``codes`` is uint8 ``[rows, bytes]`` with 1 to ``MAX_BITS / 8`` bytes."""
    if not isinstance(codes, torch.Tensor) or codes.dtype != torch.uint8:
        fail_type(op, argument, "packed codes, a uint8 tensor as pack_codes makes it", codes)
    check_tensor(op, argument, codes, dtypes=(torch.uint8,), ndim=2)
    if not 1 <= codes.shape[1] <= MAX_BITS // 8:
        fail_value(op, argument, f"[rows, bytes] with 1 to {MAX_BITS // 8} bytes ({MAX_BITS} bits)", codes)


def check_code_pair(op: str, q: Any, g: Any) -> None:
    """``q`` and ``g`` are packed codes of one width on one device."""
    check_codes(op, "q", q)
    check_codes(op, "g", g)
    check_same_device(op, "q", q, "g", g)
    if q.shape[1] != g.shape[1]:
        fail_value(op, "g", f"codes as wide as q ({q.shape[1]} bytes)", g)


def check_bits(op: str, bits: Any, **codes: torch.Tensor) -> int:
    """The number of bits of ``codes`` (all of one width): ``bits``, or all of the bytes where it is None.

    The places behind ``bits`` in the last byte have to be 0; that is looked at where it costs no synchronisation.
    """
    width = next(iter(codes.values())).shape[1]
    if bits is None:
        return 8 * width
    expected = f"an integer in ({8 * width - 8}, {8 * width}], for codes of {width} byte{'s' if width != 1 else ''}"
    bits = check_integer(op, "bits", bits, low=8 * width - 7, high=8 * width, expected=expected)
    if bits % 8:
        for argument, tensor in codes.items():
            if may_read_values(tensor) and bool((tensor[:, -1] >> (bits % 8)).any()):
                raise ValueError(f"{op}: {argument} must have zeros behind its {bits} bits, got ones in the last byte")
    return int(bits)


def check_device(op: str, device: Any) -> torch.device:
    """``device`` as a CPU or CUDA device that is here.

    Raises:
        ValueError: it is none.
    """
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError):
        fail_value(op, "device", "a CPU or CUDA device that is here", device)
    count = torch.cuda.device_count() if where.type == "cuda" and torch.cuda.is_available() else 0
    if where.type != "cpu" and (where.index or 0) >= count:
        fail_value(op, "device", "a CPU or CUDA device that is here", device)
    return where
