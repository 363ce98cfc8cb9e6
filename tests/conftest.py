"""What every test shares: the backends an op can be forced to run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from backends import backends_of, require, use_backend


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``backend``: every one that the op has a kernel for. The op is the module's ``STEM``, else its name says it."""
    marks = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "backend" in metafunc.fixturenames and "backend" not in marks:
        stem = getattr(metafunc.module, "STEM", metafunc.module.__name__.removeprefix("test_"))
        names = [pytest.param(name, marks=pytest.mark.cuda if name == "cuda" else ()) for name in backends_of(stem)]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device string to put tensors on, with ops running on the backend."""
    require(request.param)
    with use_backend(request.param) as device:
        yield device


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
