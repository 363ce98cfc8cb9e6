"""The tests of an op have to pass before anything of it is timed: a fast wrong answer is worth nothing.

    python benchmarks/verify.py                    # all ops
    python benchmarks/verify.py hamming_topk       # one

Tests are those of this tree, with the library that is built in it. What has passed is remembered in ``build/`` by a
fingerprint of the library, the Python files and the tests, and not run again. Where there are no tests, as in an
installed package, results are still compared with float64 or numpy before each measurement, and the report says so.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from registry import OPS

import rdh_ext
from rdh_ext import _native

ROOT = Path(__file__).resolve().parent.parent
MEMORY = ROOT / "build" / "verified.json"
QUICK = "equals"  # in the names of those that compare with the oracles


@dataclass(frozen=True)
class Verdict:
    """Whether times may be taken; ``sentence`` is for the report."""

    passed: bool
    sentence: str


@functools.cache
def fingerprint() -> str:
    """SHA-256 over the libraries, the package and the tests, and the version of torch."""
    package = Path(rdh_ext.__file__).parent
    files = [*package.rglob("*.py"), *package.glob("*.so"), *(ROOT / "tests").rglob("*.py")]
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(files):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def remembered() -> dict[str, str]:
    """Test file -> "all" or "quick", of what has passed in this state."""
    try:
        kept = json.loads(MEMORY.read_text())
        passed = kept["passed"] if kept["fingerprint"] == fingerprint() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(passed) if isinstance(passed, dict) else {}


def remember(tests: Iterable[str], how: str) -> None:
    passed = remembered() | dict.fromkeys(tests, how)
    try:
        MEMORY.parent.mkdir(exist_ok=True)
        part = MEMORY.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"fingerprint": fingerprint(), "passed": passed}))
        part.replace(MEMORY)
    except OSError:
        return  # somebody else's tree: the tests run again next time


def tests_of(ops: Iterable[str]) -> list[str]:
    """Their test files, once each."""
    return list(dict.fromkeys(test for op in ops for test in OPS[op].tests))


def verify(ops: Iterable[str], *, quick: bool = False, device: str = "cpu") -> Verdict:
    """Runs the tests of ops; ``quick`` those that compare with the oracles, on ``device``."""
    ops = list(ops)
    files = tests_of(ops)
    if missing := [name for name in files if not (ROOT / name).exists()]:
        return Verdict(True, f"the tests are not here ({missing[0]}); results are compared before each measurement")
    if Path(rdh_ext.__file__).resolve().parent != ROOT / "rdh_ext":
        return Verdict(True, "another rdh_ext is installed than the tests here are of; results are compared")
    if importlib.util.find_spec("pytest") is None:
        return Verdict(True, "pytest is not installed, tests were not run; results are compared")
    enough = ("all", "quick") if quick else ("all",)
    done = remembered()
    todo = [name for name in files if done.get(name if device == "cpu" else f"{name} {device}") not in enough]
    words = "tests against the oracles" if quick else "tests"
    if not todo:
        return Verdict(True, f"{words} of {', '.join(ops)} have passed before, with these very files")
    code, output = run_pytest(todo, quick, device)
    counted = re.findall(r"(\d+) passed", output)
    if code or not counted:
        lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))] or output.splitlines()
        return Verdict(False, f"tests of {', '.join(ops)} fail: {(lines or ['no output'])[-1][:300]}")
    remember([name if device == "cpu" else f"{name} {device}" for name in todo], "quick" if quick else "all")
    return Verdict(True, f"{counted[-1]} {words} of {', '.join(ops)} passed")


def run_pytest(files: list[str], quick: bool, device: str) -> tuple[int, str]:
    """Exit status and output."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    if quick:  # and at the level that is measured
        level = str(_native.active_cpu_level()) if _native.cpu_levels() else "reference"
        words += ["-k", QUICK if device == "cuda" else f"{QUICK} and {level}"]
    if device == "cuda":
        words += ["-m", "cuda"]
    workers = min(4, len(os.sched_getaffinity(0)))
    if importlib.util.find_spec("xdist") is not None and workers > 1 and device == "cpu":
        words += ["-n", str(workers)]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ops", nargs="*", choices=[[], *OPS], default=[], metavar="OP", help=f"of {', '.join(OPS)}")
    parser.add_argument("--quick", action="store_true", help="only the tests that compare with the oracles")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    verdict = verify(options.ops or OPS, quick=options.quick, device=options.device)
    print(verdict.sentence)
    sys.exit(0 if verdict.passed else 1)


if __name__ == "__main__":
    main()
