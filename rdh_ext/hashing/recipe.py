"""Everything that decides a training: data, preprocessing, backbone, method, schedule, seed. YAML in, YAML out.

A recipe has five sections that are passed on by name (``data``, ``preprocessing``, ``backbone``, ``method``,
``training``), the choice of the epoch (``validation``), and ``bits`` and ``seed``::

    bits: 48
    seed: 0
    data: {name: cifar10, root: data, protocol: paper}
    preprocessing: {size: 224, augment: crop_flip}
    backbone: {name: alexnet}
    method: {name: hashnet, rdh: true, rdh_eta: 1.0}
    training: {epochs: 150, lr: 0.01}
    validation: {items: 1000, every: 10}
    methods:
      dpsh: {training: {lr: 0.05}}   # what differs with another method

The options in ``data``, ``backbone`` and ``method`` are the keyword arguments of the loader, the network and the method
of that name. ``rdh_eta`` is the weight of the error-aware term, where it is; ``eta`` is that of whichever quantization
term there is, which without RDH is the method's own, whose weight is its own, too, if neither says anything.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .._extras import require
from .history import Schedule

FOLDER = Path(__file__).parent / "recipes"
FILE = "recipe.yaml"
"""In the folder of a run."""
_NAMED = ("data", "backbone", "method")
_DEEPEST = 20
PRECISIONS = ("32", "16", "bf16", "64")


class RecipeError(ValueError):
    """A recipe that cannot be: a key it does not have, a value of another kind. The message names it."""


@dataclass(frozen=True)
class Validation:
    """How the epoch is chosen whose network is kept: never by the queries.

    Example:
        >>> from rdh_ext.hashing.recipe import Validation
        >>> Validation(items=500).select
        'best'
    """

    items: int = 1000
    """Held out, see :func:`rdh_ext.hashing.data.hold_out`; 0 keeps the last epoch."""
    every: int = 10
    """Epochs from one evaluation of them to the next; the last epoch is always evaluated."""
    select: str = "best"
    """"best": the epoch of the highest mAP of the held out items among the training items; "last": the last one."""


@dataclass(frozen=True)
class Recipe:
    """One training.

    Raises:
        RecipeError: a value that cannot be.

    Example:
        >>> from rdh_ext.hashing.recipe import Recipe
        >>> recipe = Recipe(bits=32, method={"name": "dpsh", "rdh": True})
        >>> recipe.override({"training.lr": 0.1, "seed": 3}).training.lr
        0.1
        >>> Recipe.from_dict(recipe.to_dict()) == recipe
        True
    """

    bits: int = 48
    seed: int = 0
    data: dict[str, Any] = field(default_factory=lambda: {"name": "digits"})
    preprocessing: dict[str, Any] = field(default_factory=dict)
    """What differs from the preprocessing of the data set."""
    backbone: dict[str, Any] = field(default_factory=lambda: {"name": "small_cnn"})
    method: dict[str, Any] = field(default_factory=lambda: {"name": "hashnet", "rdh": True})
    training: Schedule = field(default_factory=lambda: Schedule(epochs=150, lr=0.01))
    precision: str = "32"
    """"32", "64", or mixed with "bf16" or "16" where that is enough."""
    validation: Validation = field(default_factory=Validation)
    topk: int | None = None
    """Depth of mAP; None is the data set's own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", str(self.precision))  # 32 is a number in YAML
        for section in ("preprocessing", *_NAMED):
            object.__setattr__(self, section, _plain(section, _section(section, getattr(self, section))))
        _whole("bits", self.bits, 1, 4096)
        _whole("seed", self.seed, 0, 2**32 - 1)
        for section in _NAMED:
            name = getattr(self, section).get("name")
            if not isinstance(name, str):
                raise RecipeError(f"recipe: {section}.name must be the name of a {section}, got {name!r}")
        for name, low in (("epochs", 1), ("batch_size", 2)):
            _whole(f"training.{name}", getattr(self.training, name), low, 10**9)
        for name in ("lr", "momentum", "weight_decay"):
            value = getattr(self.training, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise RecipeError(f"recipe: training.{name} must be a number >= 0, got {value!r}")
        _whole("validation.items", self.validation.items, 0, 10**9)
        _whole("validation.every", self.validation.every, 1, 10**9)
        _one_of("validation.select", self.validation.select, ("best", "last"))
        _one_of("precision", self.precision, PRECISIONS)
        if self.topk is not None:
            _whole("topk", self.topk, 1, 2**62)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """A recipe of nested dictionaries; what is not named has its default.

        Raises:
            RecipeError: an unknown key, or a section that is none.
        """
        given = dict(values)
        overlays = given.pop("methods", None)
        _check_keys("", given, [each.name for each in fields(cls)])
        if overlays is not None:
            return cls.from_dict(_merged(given, _overlay(overlays, _section("method", given.get("method", {})))))
        if "training" in given:
            given["training"] = _made("training", Schedule(epochs=150, lr=0.01), given["training"])
        if "validation" in given:
            given["validation"] = _made("validation", Validation(), given["validation"])
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values, as in YAML."""
        return asdict(self)

    def override(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe with some values replaced, named like ``training.lr``.

        Another ``data.name``, ``backbone.name`` or ``method.name`` begins that section anew.

        Raises:
            RecipeError: an unknown name.
        """
        changed = self.to_dict()
        for section in _NAMED:
            name = values.get(f"{section}.name")
            if name is not None and name != changed[section]["name"]:
                changed[section] = {}
        for key, value in values.items():
            *sections, last = key.split(".")
            place: Any = changed
            for section in sections:
                place = place.get(section) if isinstance(place, dict) else None
            if not isinstance(place, dict) or (not sections and last not in changed):
                raise RecipeError(f"recipe: no {key!r}; there are {', '.join(changed)}")
            place[last] = value
        return Recipe.from_dict(changed)


def names() -> list[str]:
    """Of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str | Path, method: str | None = None) -> Recipe:
    """The recipe of that name, or in that YAML file.

    Args:
        name: one of :func:`names`, a path that ends in .yaml, or the folder of a run, which has its recipe.
        method: hashing method, in place of the one in the file; what the file has for it in ``methods`` applies.

    Raises:
        RecipeError: there is none, it is no YAML, or says what cannot be; the message names the file.
        MissingExtra: PyYAML is not installed.
        OSError: it cannot be read.
    """
    path = Path(name)
    if str(name) not in names() and (path / FILE).is_file():
        path = path / FILE
    if path.suffix.lower() not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            close = difflib.get_close_matches(str(name), names(), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise RecipeError(
                f"no recipe {str(name)!r}; {hint}there are {', '.join(names())}, a file that ends in .yaml, or "
                "the folder of a run"
            )
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise RecipeError("recipe: must be sections with values")
        if method is not None:
            values["method"] = {**_section("method", values.get("method", {})), "name": method}
        return Recipe.from_dict(values)
    except (RecipeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: {' '.join(str(error).removeprefix('recipe: ').split())}") from error


def parse_yaml(text: str) -> Any:
    """YAML of plain values; 1e-5 is a number, as people expect.

    Raises:
        RecipeError: it is not YAML.
    """
    yaml = require("yaml", package="pyyaml", extra="train")
    reader, _ = _yaml_kinds()
    try:
        return yaml.load(text, reader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates that there are not are ValueErrors
        raise RecipeError(f"not YAML: {' '.join(str(error).split())}") from error


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML that :func:`read` reads."""
    yaml = require("yaml", package="pyyaml", extra="train")
    _, writer = _yaml_kinds()
    options = {"sort_keys": False, "default_flow_style": None, "width": 120, "allow_unicode": True}
    text: str = yaml.dump(recipe.to_dict(), Dumper=writer, **options)
    return text


@functools.cache
def _yaml_kinds() -> tuple[Any, Any]:
    """What reads and what writes: safe, and with 1e-5 as a number, which YAML 1.1 takes for a text."""
    yaml = require("yaml", package="pyyaml", extra="train")
    reader: Any = type("_Reader", (yaml.SafeLoader,), {})
    writer: Any = type("_Writer", (yaml.SafeDumper,), {})
    number = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
    for kind in (reader, writer):  # the writer puts quotes around such a text
        kind.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return reader, writer


def _plain(name: str, value: Any) -> Any:
    """Of the kinds that YAML has, so that a recipe equals what is read of its file."""
    if name.count(".") > _DEEPEST:  # YAML can say that a section contains itself
        raise RecipeError(f"recipe: {name[:40]}... is a section in a section in a section, without an end")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(f"{name}.{key}", each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(f"{name}.{place}", each) for place, each in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise RecipeError(f"recipe: {name} must be text, numbers, true, false, or lists or sections of them, got {value!r}")


def _overlay(overlays: Any, method: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe has for its method in ``methods``."""
    from .methods import METHODS

    sections = _section("methods", overlays)
    _check_keys("methods.", sections, list(METHODS))
    name = method.get("name", Recipe().method["name"])
    return _section(f"methods.{name}", sections.get(name, {}))


def _section(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) and name in _NAMED:
        return {"name": value}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RecipeError(f"recipe: {name} must be a section with values, got {value!r}")
    return dict(value)


def _made(name: str, defaults: Any, values: Any) -> Any:
    given = _section(name, values)
    _check_keys(f"{name}.", given, [each.name for each in fields(defaults)])
    return replace(defaults, **given)


def _check_keys(prefix: str, given: Mapping[str, Any], known: list[str]) -> None:
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise RecipeError(f"recipe: no {prefix}{key}; {hint}there are {', '.join(known)}")


def _merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(values)
    for key, value in more.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RecipeError(f"recipe: {name} must be a whole number from {low} to {high}, got {value!r}")


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RecipeError(f"recipe: {name} must be one of {', '.join(allowed)}, got {value!r}")
