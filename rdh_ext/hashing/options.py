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
        if option not in known and not takes_any(function):
            raise ValueError(f"{kind} {name} has no option {option!r}; its options are {_listed(option, known)}")
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise ValueError(f"{kind} {name} needs the option {option!r}, which was not given")
    return function(*arguments, **options)


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Its keyword-only arguments with their defaults; those that a class passes on as ``**options`` are of its base."""
    own = inspect.signature(function).parameters.values()
    found = {each.name: each.default for each in own if each.kind is inspect.Parameter.KEYWORD_ONLY}
    base = _passed_on_to(function)
    return found if base is None else {**found, **{k: v for k, v in options_of(base).items() if k not in found}}


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether it takes options whatever their names are, and nothing says which."""
    base = _passed_on_to(function)
    return _has_rest(function) if base is None else takes_any(base)


def _passed_on_to(function: Callable[..., Any]) -> type | None:
    """The base class that a class with ``__init__(self, ..., **options)`` passes these on to."""
    if not isinstance(function, type) or not _has_rest(function):
        return None
    own = next(place for place, kind in enumerate(function.__mro__) if "__init__" in vars(kind))
    return next((kind for kind in function.__mro__[own + 1 : -1] if "__init__" in vars(kind)), None)


def _has_rest(function: Callable[..., Any]) -> bool:
    kinds = [each.kind for each in inspect.signature(function).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


def _listed(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    rest = [each for each in names if each not in close]
    return ", ".join([*close, *rest]) or "none"
