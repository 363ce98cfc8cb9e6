"""Where the work on blocks is done."""

from __future__ import annotations

from typing import Any

import torch

from ... import _checks as checks


def check_device(op: str, device: Any) -> torch.device:
    """``device`` as a CPU or CUDA device that is here.

    Raises:
        ValueError: it is none.
    """
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError):
        checks.fail_value(op, "device", "a CPU or CUDA device that is here", device)
    count = torch.cuda.device_count() if where.type == "cuda" and torch.cuda.is_available() else 0
    if where.type != "cpu" and (where.index or 0) >= count:
        checks.fail_value(op, "device", "a CPU or CUDA device that is here", device)
    return where
