"""What every test shares: the backends an op can be forced to run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from backends import BACKENDS, missing, use_backend


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.cuda if name == "cuda" else ()) for name in BACKENDS])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device string to put tensors on, once for every backend that can run here."""
    reason = missing(request.param, request.module.__name__.removeprefix("test_"))
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with use_backend(request.param) as device:
        yield device


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
