"""Every C++ test of every kernel, in three builds: plain in three orders of threads, with ASan and UBSan, with TSan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from building import BUILDS, ROOT, TESTS
from running import passes, run

pytestmark = pytest.mark.usefixtures("binaries")


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("test", [*TESTS, "faults"])
def test_passes(test: str, build: str) -> None:
    """``faults`` is here for the kernels in it that have none."""
    done = passes(build, test)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^0 of [1-9]\d* failed$", done.stdout, re.MULTILINE)


def test_every_instance_runs(tmp_path: Path) -> None:
    """Whatever instance the library ships (the budget lists them all) is launched by some test."""
    log = tmp_path / "instances"
    for test in TESTS:
        run("o2", test, SIMT_INSTANCES=str(log))
    launched = set(re.findall(r"(\w+<[^;]*>)(?=[;\]])", log.read_text()))
    shipped = set(re.findall(r"\"?(\w+<.*?>)\"?,sm_", (ROOT / "csrc/kernels/cuda/budget.csv").read_text()))
    assert len(shipped) >= 48
    assert shipped - launched == set()
