"""The self-test of the tools: each fault planted in faults.cpp turns the build it is tied to red, in so many words."""

from __future__ import annotations

import re

import pytest
from building import BUILDS, HERE
from running import run

SOURCE = (HERE / "faults.cpp").read_text()
FAULTS = re.findall(r"^FAULT\((\w+), (\w+), \"([^\"]+)\"\)", SOURCE, re.MULTILINE)

pytestmark = pytest.mark.usefixtures("binaries")


def test_every_fault_is_read_and_every_build_has_some() -> None:
    assert len(FAULTS) == len(re.findall(r"^FAULT\(", SOURCE, re.MULTILINE)) >= 30
    assert {build for _, build, _ in FAULTS} == set(BUILDS)


@pytest.mark.parametrize(("fault", "build", "words"), FAULTS, ids=[f"{build}-{fault}" for fault, build, _ in FAULTS])
def test_is_caught(fault: str, build: str, words: str) -> None:
    done = run(build, "faults", fault)
    assert done.returncode != 0, done.stdout
    assert re.search(words, done.stdout), done.stdout
    assert "faults.cpp:" in done.stdout  # where
