"""Optional packages: imported when needed, and a missing one is answered with the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtra(ImportError):
    """An optional package is not installed; the message says which one, and how to get it."""


def require(module: str, *, package: str | None = None, extra: str = "demo") -> ModuleType:
    """Imports ``module``, or raises :class:`MissingExtra` naming the package and the extra of this one that brings it.

    Only the absence of the package itself is translated: an installed package that fails while importing raises its
    own error.
    """
    root = module.split(".", 1)[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".", 1)[0] != root:
            raise
        raise MissingExtra(
            f"{package or root} is not installed; get it with: pip install 'rdh_ext[{extra}]'"
        ) from error
