"""Instructions of the cases of ``instructions.cpp``: built with the flags of the CPU library, counted by valgrind."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CASES = ("amplified_tanh", "pairwise_loss", "hamming_histogram")
KERNELS = ("gradient_amplifier", "pairwise_loss", "hamming_histogram")
KEPT = ("PATH", "LD_LIBRARY_PATH", "VALGRIND_LIB")
"""Of the environment: what else stands there may be options for valgrind, and moves the stack."""


class Unavailable(Exception):
    """Why nothing can be counted here, in one sentence."""


@dataclass(frozen=True)
class Count:
    """What one case did."""

    case: str
    instructions: int
    checksum: str
    level: str


@dataclass(frozen=True)
class Compiler:
    """The command, and what it is: "g++ 12.2.0"."""

    words: tuple[str, ...]
    name: str


def _output(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """What a program prints; where it fails, what it says of errors, or at last."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        words = [line for line in lines if "error: " in line][:3] or lines[-1:]
        raise Unavailable(f"{Path(command[0]).name} ended with {done.returncode}: {'; '.join(words)[:2000]}")
    return done.stdout


def find_compiler() -> Compiler:
    """$CXX or g++."""
    words = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(words[0]) is None:
        raise Unavailable(f"no C++ compiler ({words[0]}) was found; install g++ or set CXX")
    first, _, _ = _output(*words, "--version").partition("\n")
    version = re.search(r"\d+\.\d+(\.\d+)?", first)
    if version is None:
        raise Unavailable(f"{words[0]} --version does not tell its version: {first[:200]}")
    return Compiler(tuple(words), f"{'clang++' if 'clang' in first.lower() else 'g++'} {version[0]}")


def find_valgrind() -> str:
    """Its version."""
    if shutil.which("valgrind") is None:
        raise Unavailable("no valgrind was found, which counts the instructions; install it: apt-get install valgrind")
    return _output("valgrind", "--version").strip().removeprefix("valgrind-")


def cxx_flags(root: Path) -> list[str]:
    """``CXX_FLAGS`` as they stand in setup.py, which is read and not run: running it takes torch."""
    for node in ast.parse((root / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["CXX_FLAGS"]:
            return [str(flag) for flag in ast.literal_eval(node.value)]
    raise Unavailable("setup.py has no list CXX_FLAGS")


def _objects(root: Path) -> list[tuple[str, ...]]:
    """A source with its own flags each, everything relative to the root."""
    level = ("-include", "benchmarks/instructions_level.h")
    kernels = [(f"csrc/kernels/cpu/{stem}_kernel.cpp", *level) for stem in KERNELS]
    return [("benchmarks/instructions.cpp",), ("csrc/common/cpu_level.cpp",), *kernels]


def _digest(command: list[str], compiler: Compiler, root: Path) -> str:
    """Of everything that the program is made of."""
    folders = (root / "csrc" / "common", root / "csrc" / "kernels", root / "csrc" / "kernels" / "cpu")
    sources = [path for folder in folders for path in folder.glob("*") if path.suffix in (".h", ".inl", ".cpp")]
    digest = hashlib.sha256(repr((command, compiler.name, _objects(root))).encode())
    for path in sorted([*sources, *(root / "benchmarks").glob("instructions*.[hc]*")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(compiler: Compiler, root: Path) -> Path:
    """The program, compiled again where one of its sources, the flags or the compiler has changed."""
    # -fPIC: as for every shared library
    command = [*compiler.words, *cxx_flags(root), "-fPIC", f"-I{root / 'csrc'}"]
    cache = root / "build" / "instructions"
    program = cache / f"instructions_{_digest(command, compiler, root)}"
    if program.exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:

        def compiled(source: str, *flags: str) -> Path:
            to = Path(folder) / f"{Path(source).stem}.o"
            paths = [str(root / flag) if flag.endswith(".h") else flag for flag in flags]
            _output(*command, *paths, "-c", root / source, "-o", to)
            return to

        jobs = int(os.environ.get("MAX_JOBS") or len(os.sched_getaffinity(0)))
        with ThreadPoolExecutor(jobs) as pool:
            objects = list(pool.map(lambda words: compiled(*words), _objects(root)))
        _output(*compiler.words, *objects, "-o", Path(folder) / program.name)
        (Path(folder) / program.name).replace(program)  # at once: somebody else may be building the same
    return program


def run_case(program: Path, case: str, *before: str | Path) -> tuple[str, str]:
    """Level and checksum that the program prints, run as it is, or by what stands before it."""
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    printed = _output(*before, program, case, env=env)
    said = re.search(rf"^{case} level (\w+) checksum (\S+)$", printed, re.MULTILINE)
    if said is None:
        raise Unavailable(f"{case}: the program prints no checksum: {printed.strip()[-200:]}")
    return said[1], said[2]


def count(program: Path, case: str) -> Count:
    """The instructions of a case inside of its function ``counted``, and of what that calls."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile"
        options = ("--tool=callgrind", "--toggle-collect=counted", f"--callgrind-out-file={profile}")
        level, checksum = run_case(program, case, "valgrind", *options)
        total = re.search(r"^totals: (\d+)$", profile.read_text(), re.MULTILINE)
    if total is None or int(total[1]) == 0:
        raise Unavailable(f"{case}: valgrind counted nothing in the function `counted` of {program.name}")
    return Count(case, int(total[1]), checksum, level)
