"""Installs the package in the ways that the README promises, and looks at what arrives.

    make test-install
    python tests/build/install.py --torch 2.13.0

In a fresh environment with one torch, from a copy of the sources that has seen builds before:
- the sdist holds every file of the project and nothing compiled;
- what a build needs and does not find is said in one sentence;
- a wheel holds the package and what was built, and nothing else;
- with nvcc the CUDA library is built, whatever torch there is, and loaded where torch has CUDA;
- the sdist installs with build isolation, hence built by another torch than it runs on, and without nvcc, which
  build_info() tells.
One line per step; exit status 1 at the first that fails. About six minutes on two cores and 15 GB of temporary disk,
most of it for the newest torch, which pip fetches to build with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _steps import (
    BUILD_NEEDS,
    Failure,
    check,
    clean_environment,
    copy_sources,
    make_venv,
    parser_for,
    run,
    say,
    smoke,
    tracked_files,
)

DEFAULT = "2.13.0"
NOT_IN_THE_SDIST = {".gitignore", ".ci/run"}
LIBRARIES = {"rdh_ext/_ops_cpu.so", "rdh_ext/_ops_cuda.so"}
FORGOTTEN = ("rdh_ext/_ops_cuda.so", "rdh_ext/_C.cpython-26-x86_64-linux-gnu.so", "rdh_ext/__pycache__/gone.pyc")


@dataclass
class Place:
    """Where everything happens: the interpreter has torch and what a build needs, and not yet the package."""

    workdir: Path
    sources: Path
    python: Path
    environment: dict[str, str]

    def pip(self, *words: str | Path, **options: Any) -> str:
        """pip there; ``variables`` change its environment (None removes), ``prefix`` comes before the command."""
        environment = {**self.environment, **options.pop("variables", {})}
        environment = {key: value for key, value in environment.items() if value is not None}
        python = options.pop("python", self.python)
        command = [*options.pop("prefix", []), python, "-m", "pip", *words]
        return run(command, environment, self.workdir, **options)

    def test_and_remove(self) -> dict[str, Any]:
        """``build_info()`` of the installed package, after the smoke test; the package is gone then."""
        info: dict[str, Any] = json.loads(smoke(self.python, self.environment, self.workdir, "--quick"))["info"]
        self.pip("uninstall", "--quiet", "--yes", "rdh_ext")
        return info


def parse() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    parser.add_argument(
        "--torch",
        default=DEFAULT,
        metavar="VERSION",
        help=f"the torch to run on, not the newest, better without CUDA; default {DEFAULT}",
    )
    return parser.parse_args()


def compilers() -> list[Path]:
    """Every nvcc that setup.py could find."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += [Path(os.environ.get(name, "/usr/local/cuda"), "bin") for name in ("CUDA_HOME", "CUDA_PATH")]
    folders.append(Path("/opt/cuda/bin"))
    found = ((folder / "nvcc").resolve() for folder in folders)
    return sorted({path for path in found if path.is_file() and os.access(path, os.X_OK)})


def prefix_that_hides(files: list[Path]) -> list[str] | None:
    """Words before a command for which the files are not there; None if this machine forbids it."""
    script = 'while [ "$1" != -- ]; do mount --bind /dev/null "$1" || exit 125; shift; done; shift; exec "$@"'
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *map(str, files), "--"]
    if not files:
        return []
    works = shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if works and works.returncode == 0 else None


def litter(place: Place) -> None:
    """Leaves in the sources what builds of the past would: none of it may reach a sdist or a wheel."""
    words = "import sys, sysconfig; print(f'lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}')"
    library = run([place.python, "-c", words], place.environment, place.workdir).strip()
    for name in (*FORGOTTEN, f"build/{library}/rdh_ext/gone.py", f"build/{library}/rdh_ext/_ops_gone.so"):
        (place.sources / name).parent.mkdir(parents=True, exist_ok=True)
        (place.sources / name).write_bytes(b"forgotten")


def check_sdist(place: Place) -> Path:
    """The sdist, made as pip's build frontend does, holds the project and nothing compiled."""
    words = "from setuptools import build_meta; build_meta.build_sdist('../sdist')"
    run([place.python, "-c", words], place.environment, place.sources)
    (archive,) = (place.workdir / "sdist").glob("rdh_ext-*.tar.gz")
    with tarfile.open(archive) as tar:
        there = {member.name.split("/", 1)[1] for member in tar.getmembers() if member.isfile()}
    missing = {str(path) for path in tracked_files()} - there - NOT_IN_THE_SDIST
    check(not missing, f"not in the sdist: {', '.join(sorted(missing))}; see MANIFEST.in")
    made = [name for name in there if Path(name).suffix in (".so", ".pyc", ".o") or "gone" in name]
    check(not made, f"in the sdist, but made by a build: {', '.join(sorted(made))}; see MANIFEST.in")
    say(f"ok: sdist with all {len(there)} files, {archive.stat().st_size >> 10} KB, nothing compiled")
    return archive


def check_sentence(output: str, sentence: str) -> None:
    """Exactly one line of the package's own, with the sentence, and no traceback."""
    ours = [line.strip() for line in output.splitlines() if line.strip().startswith("rdh_ext: ")]
    check(len(ours) == 1 and sentence in ours[0], f"expected one line with {sentence!r}, got {ours}:\n{output[-3000:]}")
    check("Traceback" not in output, f"a traceback beside {sentence!r}")
    say(f"ok: {ours[0]}")


def check_refusals(place: Place, hidden: list[str] | None) -> None:
    """What a build cannot do without, one sentence each."""
    build = ("install", "--no-build-isolation", "--no-deps", place.sources)
    only_python = {"PATH": str(place.python.parent), "CXX": None, "CC": None}
    output = place.pip(*build, variables=only_python, expect_failure=True)
    check_sentence(output, "no C++ compiler (c++) was found")
    if hidden is not None:
        output = place.pip(*build, variables={"RDH_EXT_CUDA": "1"}, prefix=hidden, expect_failure=True)
        check_sentence(output, "RDH_EXT_CUDA=1, but no CUDA toolkit")
    output = place.pip(*build, variables={"RDH_EXT_CUDA": "yes"}, expect_failure=True)
    check_sentence(output, "RDH_EXT_CUDA must be auto, 0 or 1, got 'yes'")
    bare = make_venv(str(place.python), place.workdir / "bare", ["setuptools>=77.0.3"], place.environment)
    output = place.pip(*build, python=bare, expect_failure=True)
    check_sentence(output, "is needed to build and is not installed")


def of_the_benchmarks(path: Path) -> bool:
    """Whether `rdh bench` needs it where the package is installed: programs, and headers for its ceilings."""
    if path.parts[0] == "benchmarks":
        return len(path.parts) == 2 and path.suffix in (".py", ".cpp", ".h", ".inl", ".cu", ".cuh")
    return path.parent in map(Path, ("csrc/common", "csrc/kernels", "csrc/kernels/cpu")) and path.suffix in (
        ".h",
        ".inl",
    )


def check_wheel(place: Place, with_cuda: bool) -> Path:
    """A wheel built in the environment: the package, what was built, and nothing from builds of the past."""
    build = ("wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", "wheels", place.sources)
    place.pip(*build, variables={"TORCH_CUDA_ARCH_LIST": "9.0"})
    (wheel,) = (place.workdir / "wheels").glob("rdh_ext-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    expected = {str(path) for path in tracked_files() if path.parts[0] == "rdh_ext"}
    expected |= {f"rdh_ext/_bench/{path}" for path in tracked_files() if of_the_benchmarks(path)}
    expected |= LIBRARIES if with_cuda else LIBRARIES - {"rdh_ext/_ops_cuda.so"}
    module = {name for name in inside - expected if name.startswith("rdh_ext/_C.") and "cpython-26" not in name}
    check(len(module) == 1, "the wheel has no rdh_ext/_C")
    wrong = (inside - module) ^ expected
    check(not wrong, f"in the wheel or expected there, but not both: {', '.join(sorted(wrong))}")
    check("rdh_ext/py.typed" in names, "the wheel has no rdh_ext/py.typed")
    check(any(name.endswith("/LICENSE") for name in names), "the wheel has no LICENSE")
    say(f"ok: wheel with {len(inside)} files of the package, {wheel.stat().st_size >> 10} KB, no tests, nothing stale")
    return wheel


def check_cuda(place: Place, wheel: Path, with_cuda: bool) -> None:
    """With nvcc the CUDA library is built; it is loaded where torch has CUDA, and otherwise the reason is told."""
    place.pip("install", "--quiet", "--no-deps", wheel)
    info = place.test_and_remove()
    if not with_cuda:
        say("skipped: no nvcc here, so no CUDA library beside a torch without CUDA")
    elif info["cuda_native"]:
        say(f"ok: CUDA library built by nvcc {info['cuda_release']} and loaded by torch {info['torch']}")
    else:
        check(info["cuda_release"], f"the CUDA library was not built: {info['cuda_reason']}")
        check(info["cuda_reason"] == f"torch {info['torch']} has no CUDA", f"cuda_reason is {info['cuda_reason']!r}")
        say(f"ok: CUDA library built by nvcc {info['cuda_release']}, not loaded: {info['cuda_reason']}")


def check_isolation(place: Place, archive: Path, hidden: list[str] | None) -> None:
    """The plain ``pip install`` of the sdist, which builds with the newest torch, on a machine without nvcc."""
    variables = {} if hidden is not None else {"RDH_EXT_CUDA": "0"}
    output = place.pip("install", "-v", archive, variables=variables, prefix=hidden or [])
    reason = "no CUDA toolkit (nvcc, headers, libcudart_static) was found" if hidden is not None else "RDH_EXT_CUDA=0"
    check_sentence(output, reason)
    info = place.test_and_remove()
    check(reason in info["cuda_reason"], f"cuda_reason is {info['cuda_reason']!r}")
    check(not info["cuda_native"] and not info["cuda_release"], "there is a CUDA library")
    builder = info["torch_built_with"]
    check(builder != info["torch"], f"built and run with torch {builder}: give an older --torch")
    say(f"ok: installed with build isolation, built by torch {builder}, runs on {info['torch']}, {info['cpu_level']}")
    say(f"ok: build_info(): {info['cuda_reason']}")


def check_everything(arguments: argparse.Namespace, workdir: Path) -> None:
    """All steps, cheap ones first."""
    environment = clean_environment(workdir)
    nvcc = compilers()
    hidden = prefix_that_hides(nvcc)
    if hidden is None:
        say("note: nvcc cannot be hidden on this machine, RDH_EXT_CUDA=0 has to do")
    say(f"installing torch {arguments.torch} ({len(nvcc)} nvcc here)")
    needs = [f"torch=={arguments.torch}", *BUILD_NEEDS]
    place = Place(
        workdir, workdir / "sources", make_venv(arguments.python, workdir / "venv", needs, environment), environment
    )
    copy_sources(place.sources)
    litter(place)
    say("making the sdist")
    archive = check_sdist(place)
    say("building without what a build needs")
    check_refusals(place, hidden)
    say("building a wheel")
    wheel = check_wheel(place, bool(nvcc))
    check_cuda(place, wheel, bool(nvcc))
    say("installing the sdist with build isolation, which fetches the newest torch")
    check_isolation(place, archive, hidden)


def main() -> int:
    """Runs the steps in a temporary folder."""
    arguments = parse()
    workdir = Path(tempfile.mkdtemp(prefix="rdh-install-", dir=arguments.workdir))
    try:
        check_everything(arguments, workdir)
    except Failure as failure:
        say(f"FAILED: {failure}")
        return 1
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    say("ok: every way of installing works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
