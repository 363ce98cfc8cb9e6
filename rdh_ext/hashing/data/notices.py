"""Warnings that point at who asked for the data."""

from __future__ import annotations

import sys
import warnings

_HOUSE = __name__.rpartition(".data.")[0]


def warn(message: str) -> None:
    """A ``UserWarning`` at the line that called into the harness."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(f"{_HOUSE}."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
