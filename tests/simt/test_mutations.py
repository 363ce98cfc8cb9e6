"""Every barrier, fence, atomic and wait in the kernels is needed by a test: taken out, each turns some build red.

Nothing has to be added here for a new kernel. A site that stays green is one that no test reaches, or whose lack no
test sees: the test of its kernel is too weak, or the call is not needed.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest
import running
from building import HERE, TESTS
from mutations import Site, all_sites, kernel_sources, sites_of
from running import ORDERS, is_green, run, sources_of

SITES = all_sites()
REMOVALS = [(site, removal) for site in SITES for removal in site.removals]


@functools.cache
def is_red(build: str, test: str, removal: str) -> bool:
    orders = ORDERS if build == "o2" else ORDERS[:1]
    return run(build, test, "--stop", "--orders", ",".join(orders), SIMT_REMOVE=removal).returncode != 0


def is_caught(site: Site, removal: str) -> bool:
    """Some build of some test that has the site's file in it fails without the site; the cheap one comes first."""
    builds = ("tsan",) if removal.endswith(":plain") else ("o2", "tsan")
    for test in (test for test in TESTS if site.path in sources_of("o2", test)):
        for build in builds:
            assert is_green(build, test), f"{build}/{test} is red with nothing removed"
            if is_red(build, test, removal):
                return True
    return False


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize(("site", "removal"), REMOVALS, ids=[f"{site}-{how.rsplit(':')[-1]}" for site, how in REMOVALS])
def test_removal_is_caught(site: Site, removal: str) -> None:
    assert is_caught(site, removal), f"{removal}: no test misses it"


@pytest.mark.usefixtures("binaries")
def test_a_line_without_a_call_is_not_caught() -> None:
    """That is: it is the removal that turns the tests red."""
    site = Site(HERE / "samples.cuh", 1, "__syncthreads")
    assert not is_caught(site, site.removals[0])


def test_green_is_remembered_until_the_binary_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((1, 0, 1))
    monkeypatch.setattr(running, "OUT", tmp_path)
    monkeypatch.setattr(running, "run", lambda *words: subprocess.CompletedProcess(words, next(answers)))
    binary = tmp_path / "o2" / "test_x"
    binary.parent.mkdir()
    binary.touch()
    assert not is_green("o2", "test_x")  # red is not remembered
    assert is_green("o2", "test_x")
    assert is_green("o2", "test_x")
    later = binary.with_suffix(".green").stat().st_mtime + 1
    os.utime(binary, (later, later))
    assert not is_green("o2", "test_x")


def test_the_finder_finds(tmp_path: Path) -> None:
    path = tmp_path / "x.cuh"
    path.write_text(
        "// __syncthreads();\n/* atomicAdd(\n */ __syncwarp(mask);\nif (x) atomicMax_block(p, 1);\n"
        'puts("__threadfence()");\n'
        "ptx::cp_async_wait<1>(); ptx::cp_async<16>(a, b);\nint n = __syncthreads_count(v);\nfence();\n"
    )
    assert [(site.line, site.call) for site in sites_of(path)] == [
        (3, "__syncwarp"),
        (4, "atomicMax_block"),
        (6, "cp_async_wait"),
        (7, "__syncthreads_count"),
    ]
    path.write_text("__syncthreads(); x = 1; __syncthreads();\n")
    with pytest.raises(ValueError, match=r"x.cuh:1: .* on one line"):
        sites_of(path)


def test_kernels_and_samples_are_looked_at() -> None:
    assert {"gradient_amplifier_kernel.cu", "samples.cuh"} <= {path.name for path in kernel_sources()}
    found = {site.call for site in SITES}
    assert {"__syncthreads", "__syncwarp", "__threadfence", "atomicAdd", "cp_async_wait", "cp_async_commit"} <= found
