"""Runs what building.py has built."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from building import OUT, TESTS

ORDERS = ("forward", "reverse", "random:1")
LIMIT_S = 120


@functools.cache
def prefix(build: str) -> tuple[str, ...]:
    """What has to stand before a binary: where addresses are spread too widely for this TSan, a fixed layout."""
    if build != "tsan":
        return ()
    probe = subprocess.run([OUT / build / TESTS[0], "--list"], capture_output=True, text=True, check=False)
    return ("setarch", "-R") if "unexpected memory mapping" in probe.stderr else ()


def run(build: str, test: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A test binary's exit code, and what it said in one text; 124 if it did not end, as with a barrier taken out."""
    command = [*prefix(build), str(OUT / build / test), *arguments]
    try:
        return subprocess.run(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if late.stdout else ""
        return subprocess.CompletedProcess(command, 124, f"{said}\nnot done after {LIMIT_S} s")


def is_green(build: str, test: str) -> bool:
    """Whether a test passes as it is. A file beside the binary remembers that it did, for whoever asks next."""
    binary = OUT / build / test
    remembered = binary.with_suffix(".green")
    if remembered.exists() and remembered.stat().st_mtime_ns >= binary.stat().st_mtime_ns:
        return True
    return passes(build, test).returncode == 0


def passes(build: str, test: str) -> subprocess.CompletedProcess[str]:
    """Runs a test as it is; where it passes, :func:`is_green` knows."""
    done = run(build, test, "--orders", ",".join(ORDERS if build == "o2" else ORDERS[2:]))
    if done.returncode == 0:
        (OUT / build / test).with_suffix(".green").touch()
    return done


def sources_of(build: str, test: str) -> list[Path]:
    """The files that a test binary was made from, by the compiler's own account."""
    text = (OUT / build / f"{test}.d").read_text().replace("\\\n", " ")
    names = text.split("\n", 1)[0].split(":", 1)[1].split()
    return [Path(name).resolve() for name in names]
