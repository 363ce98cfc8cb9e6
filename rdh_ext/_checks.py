"""Argument checks: every message names the op, the argument, what was expected and what came.

All public functions call these before they reach the dispatcher, so that a wrong call ends in a ``ValueError`` or a
``TypeError`` with one readable line, whichever backend would have run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGER = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def describe(value: Any) -> str:
    """A short description of ``value`` for the end of an error message: tensors by dtype and shape, the rest by repr."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)} on {value.device}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def fail_value(op: str, argument: str, expected: str, got: Any) -> NoReturn:
    """Raises ``ValueError("op: argument must be expected, got ...")``."""
    raise ValueError(f"{op}: {argument} must be {expected}, got {describe(got)}")


def fail_type(op: str, argument: str, expected: str, got: Any) -> NoReturn:
    """Raises ``TypeError("op: argument must be expected, got ...")``."""
    kind = describe(got) if isinstance(got, torch.Tensor) else f"{type(got).__name__} {describe(got)}"
    raise TypeError(f"{op}: {argument} must be {expected}, got {kind}")


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
    if value.layout != torch.strided:
        fail_type(op, argument, "a dense (strided) tensor; call .to_dense() first", value)
    if ndim is not None and value.dim() != ndim:
        fail_value(op, argument, f"a tensor of {ndim} dimension{'s' if ndim != 1 else ''}", value)


def check_same_device(op: str, first: str, a: torch.Tensor, second: str, b: torch.Tensor) -> None:
    """Both tensors are on one device."""
    if a.device != b.device:
        raise ValueError(f"{op}: {second} must be on the device of {first} ({a.device}), got {describe(b)}")


def check_real(op: str, argument: str, value: Any, *, low: float, high: float, expected: str) -> float:
    """``value`` as a finite float with ``low <= value < high``; ``expected`` says so in words."""
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            fail_type(op, argument, f"a real number, {expected}", value)
        value = float(value)
    if not low <= value < high:  # also false for NaN
        fail_value(op, argument, expected, value)
    return float(value)


def check_positive(op: str, argument: str, value: Any) -> float:
    """``value`` as a finite float greater than 0."""
    return check_real(op, argument, value, low=math.ulp(0.0), high=math.inf, expected="finite and > 0")


def check_choice(op: str, argument: str, value: Any, choices: Sequence[str]) -> None:
    """``value`` is one of ``choices``."""
    if value not in choices:
        fail_value(op, argument, "one of " + ", ".join(repr(choice) for choice in choices), value)
