"""Every example in a docstring runs, and everything that is public has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import io
import pkgutil
from typing import Any

import pytest
import torch

import rdh_ext
from rdh_ext.hashing import MissingExtra

HOUSES = (
    "rdh_ext",
    "rdh_ext.nn",
    "rdh_ext.distributed",
    "rdh_ext.retrieval",
    "rdh_ext.hashing",
    "rdh_ext.hashing.backbones",
    "rdh_ext.hashing.data",
    "rdh_ext.hashing.methods",
)
"""The modules whose ``__all__`` is the public interface."""


def modules() -> list[str]:
    """All of the package that is Python and no program."""
    names = [info.name for info in pkgutil.walk_packages(rdh_ext.__path__, "rdh_ext.")]
    return ["rdh_ext", *sorted(n for n in names if not n.endswith((".__main__", "._C")) and "._ops_" not in n)]


def load(name: str) -> Any:
    """The module, or a skipped test where it needs a package that is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").split(".")[0] == "rdh_ext":
            raise
        pytest.skip(f"{name} needs {error.name}")


def public() -> list[Any]:
    """``(module, name)`` of every public function and class, exceptions and submodules left out."""
    found = []
    for house in HOUSES:
        module = importlib.import_module(house)
        for name in module.__all__:
            value = getattr(module, name)
            is_error = inspect.isclass(value) and issubclass(value, BaseException)
            if callable(value) and not is_error:
                found.append(pytest.param(house, name, id=f"{house}.{name}"))
    return found


class Runner(doctest.DocTestRunner):
    """An example that needs an extra which is not installed is skipped."""

    def report_unexpected_exception(self, out: Any, test: Any, example: Any, exc_info: Any) -> None:
        if isinstance(exc_info[1], MissingExtra):
            pytest.skip(str(exc_info[1]))
        super().report_unexpected_exception(out, test, example, exc_info)


def test_the_walk_finds_the_package() -> None:
    assert {"rdh_ext._bit_counter", "rdh_ext.ops.pairwise_loss", "rdh_ext.hashing.demo"} <= set(modules())
    assert len(public()) > 25


@pytest.mark.parametrize("name", modules())
def test_examples_run(name: str) -> None:
    module = load(name)
    names = {"torch": torch, "rdh_ext": rdh_ext}
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names):
        if example.examples:
            torch.manual_seed(0)
            output = io.StringIO()
            Runner().run(example, out=output.write)
            assert not output.getvalue(), output.getvalue()


@pytest.mark.parametrize(("house", "name"), public())
def test_everything_public_has_an_example(house: str, name: str) -> None:
    value = getattr(importlib.import_module(house), name)
    text = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__  # not what a base class says
    assert text, f"{house}.{name} has no docstring"
    assert doctest.DocTestParser().get_examples(text), f"{house}.{name} has no example"
