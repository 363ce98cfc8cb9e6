"""Builds the ops once and runs the very same files on several versions of torch: the promise of the stable ABI.

    make test-abi
    python tests/build/abi.py --torch 2.11.0 --torch 2.12.1 --torch 2.13.0 --torch 2.14.1 --torch 2.15.0

Each torch is installed from pip's index into a fresh environment, which is removed again (a CPU build takes 1 GB, one
with CUDA up to 7 GB; a version may be given as "2.13.0+cpu" if the index has that). The wheel is built with the oldest
of them, from a copy of the sources, CUDA library included if there is an nvcc (for one architecture, the default does
not matter here). ``smoke.py`` then runs with every version; a GPU is not needed, and used if there is one. Prints one
line per version; exit status 1 if one of them fails.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from _steps import BUILD_NEEDS, Failure, clean_environment, copy_sources, make_venv, parser_for, run, say, smoke

DEFAULT = ("2.13.0", "2.15.0")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    parser.add_argument(
        "--torch",
        action="append",
        metavar="VERSION",
        help=f"a torch to run on, two or more times; default {' and '.join(DEFAULT)}",
    )
    arguments = parser.parse_args()
    arguments.torch = sorted(set(arguments.torch or DEFAULT), key=number)
    if len(arguments.torch) < 2:
        parser.error("--torch: two or more different versions are needed")
    return arguments


def number(version: str) -> list[int]:
    """What a version is sorted by."""
    return [int(part) for part in re.findall(r"\d+", version.split("+")[0])]


def build(python: Path, environment: dict[str, str], workdir: Path) -> Path:
    """The wheel, built with the torch of ``python``."""
    sources = workdir / "sources"
    copy_sources(sources)
    run([python, "-m", "pip", "install", "--quiet", *BUILD_NEEDS], environment, workdir)
    words = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "wheels", sources]
    run(words, environment | {"TORCH_CUDA_ARCH_LIST": "9.0"}, workdir)
    (wheel,) = (workdir / "wheels").glob("rdh_ext-*.whl")
    return wheel


def describe(version: str, line: str) -> tuple[str, str]:
    """One line for a person, and what must be the same everywhere."""
    said = json.loads(line)
    info, libraries = said["info"], said["libraries"]
    cuda = f"CUDA library loaded, run on {said['devices'][-1]}" if info["cuda_native"] else info["cuda_reason"]
    gradients = "private shortcut" if said["shortcut"] else "public autograd"
    text = f"torch {version}: ok, {info['torch']}, {info['cpu_level']}, {gradients}; {cuda}"
    text += f"; _ops_cpu.so is {libraries['_ops_cpu.so']}"
    return text, json.dumps(libraries)


def main() -> int:
    """Oldest first; one environment at a time."""
    arguments = parse()
    workdir = Path(tempfile.mkdtemp(prefix="rdh-abi-", dir=arguments.workdir))
    environment = clean_environment(workdir)
    failures, identities, wheel = [], set(), None
    try:
        for version in arguments.torch:
            try:
                say(f"torch {version}: installing")
                folder = workdir / "venv"
                python = make_venv(arguments.python, folder, [f"torch=={version}", "numpy"], environment)
                if wheel is None:
                    say(f"torch {version}: building the ops, once")
                    wheel = build(python, environment, workdir)
                say(f"torch {version}: testing {wheel.name}")
                run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], environment, workdir)
                text, identity = describe(version, smoke(python, environment, workdir))
                identities.add(identity)
                say(text)
            except Failure as failure:
                failures.append(version)
                say(f"torch {version}: FAILED: {failure}")
            finally:
                shutil.rmtree(workdir / "venv", ignore_errors=True)
            if wheel is None:
                break
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    if not failures and len(identities) != 1:
        failures.append("the libraries are not the same files everywhere")
    say(f"FAILED: {', '.join(failures)}" if failures else f"ok: one build, {len(arguments.torch)} versions of torch")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
