"""Labels as every function takes them: class ids ``[N]`` or multi-hot ``[N, C]``; similar means sharing a label."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from . import _checks as checks

_VALUES_AT_A_TIME = 1 << 20
"""How many values a check looks at together, so that it needs no second copy of a large matrix."""


def find_not_binary(values: Tensor) -> Any:
    """The first value of ``values`` ``[N, C]`` that is neither 0 nor 1 (NaN is neither), or None. Synchronises."""
    if values.dtype == torch.bool:
        return None
    for block in values.split(max(1, _VALUES_AT_A_TIME // max(1, values.size(1)))):
        wrong = ~((block == 0) | (block == 1))
        if bool(wrong.any()):
            return block[wrong][0].item()
    return None


def normalize_labels(
    op: str, argument: str, labels: Any, length: int, device: torch.device, *, check_values: bool
) -> Tensor:
    """``labels`` as int64 class ids ``[N]`` or bool multi-hot rows ``[N, C]``, checked by :func:`check_labels`."""
    check_labels(op, argument, labels, length, device, check_values=check_values)
    kind = torch.int64 if labels.dim() == 1 else torch.bool
    if labels.dtype is kind:
        return cast("Tensor", labels)
    return cast("Tensor", labels.to(torch.int64) if kind is torch.int64 else labels != 0)


def check_labels(op: str, argument: str, labels: Any, length: int, device: torch.device, *, check_values: bool) -> None:
    """``labels`` are class ids or multi-hot rows of ``length`` items on ``device``.

    Class ids are integers >= 0; multi-hot rows are bool, or 0 and 1 of any real dtype; an item may have no class.
    ``check_values`` looks at the values, which synchronises with a CUDA device.

    Raises:
        TypeError: not a dense tensor, class ids that are not integers, complex rows.
        ValueError: another length than ``length``, another device, no classes at all (C = 0), negative ids, NaN, or
            values other than 0 and 1.
    """

    # written where it is needed: a traced length that is put in words would be compiled in
    def expected() -> str:
        return f"class ids [{length}] (integers >= 0) or multi-hot rows [{length}, C] (bool or 0/1)"

    if not isinstance(labels, Tensor):
        checks.fail_type(op, argument, expected(), labels)
    checks.check_dense(op, argument, labels)
    if labels.dim() not in (1, 2) or labels.size(0) != length:
        checks.fail_value(op, argument, expected(), labels)
    if labels.device != device:
        checks.fail_value(op, argument, f"on the device of what it labels ({device})", labels)
    if labels.dim() == 1:
        if labels.dtype not in checks.INTEGER:
            checks.fail_type(op, argument, expected(), labels)
        if check_values and length and (least := labels.min().item()) < 0:
            checks.fail_value(op, argument, expected(), least)
        return
    if labels.is_complex():
        checks.fail_type(op, argument, expected(), labels)
    if labels.size(1) == 0:
        checks.fail_value(op, argument, f"multi-hot rows [{length}, C] of at least one class", labels)
    if check_values and (wrong := find_not_binary(labels)) is not None:
        checks.fail_value(op, argument, expected(), wrong)


def check_label_pair(op: str, name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    """Both are class ids, or both multi-hot with one number of classes."""
    if a.dim() != b.dim():
        kinds = {1: "class ids", 2: "multi-hot rows"}
        raise ValueError(f"{op}: {name_b} must be {kinds[a.dim()]} like {name_a}, got {kinds[b.dim()]}")
    if a.dim() == 2 and a.size(1) != b.size(1):
        raise ValueError(f"{op}: {name_b} must have the {a.size(1)} classes of {name_a}, got {b.size(1)}")


def similarity_tile(a: Tensor, b: Tensor) -> Tensor:
    """bool ``[A, B]``: the items share at least one label. Memory O(A B + (A + B) C).

    Multi-hot rows are multiplied as float32, for any number of classes: a sum of zeros and ones is above 0 where one of
    them is 1, however it is rounded.
    """
    if a.dim() == 1:
        return a[:, None] == b[None, :]
    return (a.to(torch.float32) @ b.to(torch.float32).T) > 0
