"""What the build tests share: fresh environments, copies of the sources, commands that report only when they fail."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
BUILD_NEEDS = ("setuptools>=77.0.3", "ninja", "pybind11>=2.13", "numpy")
MADE_AT_THE_TOP = {"build", "dist", ".venv", "rdh-demo", "rdh_ext.egg-info", ".hypothesis", "PKG-INFO", "setup.cfg"}
MADE_ANYWHERE = ("__pycache__", ".*_cache", "*.so", "*.pyc")
_START = time.monotonic()


class Failure(Exception):
    """A step that did not do what it should; the text is what a person gets to see."""


def parser_for(doc: str | None) -> argparse.ArgumentParser:
    """A command line that explains itself with the docstring of its file, and the options that all of them have."""
    summary, details = (doc or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="the Python to use; default the one that runs this")
    parser.add_argument("--workdir", type=Path, help="where to put environments; default a temporary folder")
    return parser


def say(text: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - _START:4.0f} s] {text}", flush=True)


def check(truth: object, complaint: str) -> None:
    """Raises the complaint unless it is true."""
    if not truth:
        raise Failure(complaint)


def clean_environment(workdir: Path) -> dict[str, str]:
    """The environment without anything that steers the package or Python, temporary files in ``workdir``."""
    ours = ("RDH_EXT_", "PYTHONPATH", "VIRTUAL_ENV", "TORCH_", "CUDA_HOME", "CUDA_PATH")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    temporary = workdir / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return environment | {
        "TMPDIR": str(temporary),
        "TORCHINDUCTOR_CACHE_DIR": str(temporary / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MAX_JOBS": os.environ.get("MAX_JOBS", "2"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def run(
    command: list[str | Path], environment: Mapping[str, str], folder: Path, *, expect_failure: bool = False
) -> str:
    """Everything that the command printed; what a Failure tells of it if it ended another way than expected."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if (done.returncode != 0) != expect_failure:
        wish = "a failure was expected" if expect_failure else f"exit status {done.returncode}"
        raise Failure(f"{wish}: {' '.join(words)}\n{_essence(done.stdout)}")
    return done.stdout


def _essence(output: str) -> str:
    """The first complaints of a compiler, which stand far above the traceback of what called it, and the tail."""
    lines = output.splitlines()
    complaints = [line for line in lines[:-40] if "error:" in line][:10]
    return "\n".join("    " + line for line in complaints + lines[-40:])


def make_venv(python: str, folder: Path, packages: list[str], environment: Mapping[str, str]) -> Path:
    """A fresh environment with the packages; returns its interpreter."""
    run([python, "-m", "venv", folder], environment, folder.parent)
    inside = folder / "bin" / "python"
    if packages:
        run([inside, "-m", "pip", "install", "--quiet", *packages], environment, folder.parent)
    return inside


def tracked_files() -> list[Path]:
    """The files of the project, relative to its root; in an unpacked sdist, which has no history, all that is there."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return sorted(path for name in listed.stdout.split("\0") if name and (ROOT / (path := Path(name))).exists())
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return sorted(
        path
        for path in files
        if path.parts[0] not in MADE_AT_THE_TOP
        and not any(Path(part).match(made) for part in path.parts for made in MADE_ANYWHERE)
    )


def copy_sources(target: Path) -> None:
    """The project's files in ``target``: what builds there touches nothing here."""
    for path in tracked_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)


def smoke(python: Path, environment: Mapping[str, str], folder: Path, *arguments: str) -> str:
    """The last line of the smoke test of the installed package, run in a folder where no sources are."""
    return run([python, SMOKE, *arguments], environment, folder).splitlines()[-1]
