"""Options by name, as recipes and command lines give them, for functions that take them as keyword arguments."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")


def choose(kind: str, name: str, table: Mapping[str, _T]) -> _T:
    """The entry ``name`` of a table of names.

    Raises:
        ValueError: there is none; the message has the names, the closest first.
    """
    if name in table:
        return table[name]
    raise ValueError(f"{kind} must be {_listed(name, table)}, got {name!r}")


def call(kind: str, name: str, function: Callable[..., _T], options: Mapping[str, Any], *arguments: Any) -> _T:
    """``function(*arguments, **options)``, with options checked against its keyword arguments.

    Raises:
        ValueError: an option that the function does not have, or one without a default that is not given.
    """
    known = options_of(function)
    for option in options:
        if option not in known:
            raise ValueError(f"{kind} {name} has no option {option!r}; its options are {_listed(option, known)}")
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise ValueError(f"{kind} {name} needs the option {option!r}, which was not given")
    return function(*arguments, **options)


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Its keyword-only arguments with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}


def _listed(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    rest = [each for each in names if each not in close]
    return ", ".join([*close, *rest]) or "none"
