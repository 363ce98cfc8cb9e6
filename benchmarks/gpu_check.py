"""Builds rdh_ext in place for the GPU of this machine and runs everything there is to check it with, or to measure it.

    benchmarks/gpu_check.sh OUT               # OUT: a folder for the logs and summary.json; made if it is not there
    benchmarks/gpu_check.sh OUT --benchmarks  # measures instead of checking
    benchmarks/gpu_check.sh --sources         # only prints the fingerprint of the sources that a summary refers to

Needs a CUDA device, nvcc, g++, and a Python >= 3.10 (python3, or $PYTHON) with torch >= 2.11, setuptools, pybind11,
numpy, pytest, hypothesis and mpmath; ninja and pytest-xdist make it faster. Needs no network, installs nothing, and
ends within 8 minutes, 9.5 with --benchmarks: steps that are left then count as failures. The exit status is 0 only if
every step passed.

Steps: facts; build; cpp_build and cpp_tests (tests/simt/test_*.cpp by nvcc); pytest (-m cuda); memcheck, racecheck,
synccheck and initcheck (compute-sanitizer on the C++ tests). A step runs if those that it needs have passed. What is
built is for this device alone: build again before the tree is used for another.

A summary worth keeping is committed as benchmarks/results/gpu_check_<device>.json, a copy of OUT/summary.json: it holds
no paths of the machine.

Steps of --benchmarks, behind facts and build: sass (registers, spills and instructions of every kernel, to sass.csv),
peaks (copy, multiply-adds and popcounts of the device, against its datasheet), bench (`rdh bench`, to <device>.csv) and
ncu (bandwidth and occupancy of every kernel, to ncu.csv; needs Nsight Compute and leave to read counters). At its end
stand the commands that keep its results.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _gpu_benchmarks
from _check_run import LOG_BYTES, Check, Done, Failure, Shell, Step, line_of
from _gpu_benchmarks import Benchmarks, device_word, find_tool

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
SIMT = ROOT / "tests" / "simt"
BINARIES = ROOT / "build" / "simt" / "gpu"
LIMIT = 480.0
IGNORED = ("RDH_EXT_", "PYTEST_", "TORCH_ALLOW_TF32", "NVIDIA_TF32")
"""Beginnings of environment variables that are wishes for other builds, other runs, or less precise products."""
SOURCES = ("csrc/**/*", "rdh_ext/**/*.py", "tests/**/*", "benchmarks/*.*", "setup.py")
SANITIZER_OPTIONS = {
    "memcheck": ("--leak-check", "full"),
    "racecheck": ("--racecheck-report", "all"),
    "synccheck": (),
    "initcheck": (),
}


def fingerprint() -> str:
    """SHA-256 over names and contents of the sources, which tells what was checked where there is no .git."""
    digest = hashlib.sha256()
    files = {path for pattern in SOURCES for path in ROOT.glob(pattern) if path.is_file()}
    for path in sorted(files):
        if "__pycache__" not in path.parts and path.suffix != ".so":
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()


class GpuCheck:
    """The steps; what one of them finds out, the later ones use."""

    def __init__(self, folder: Path, limit: float, *, benchmarks: bool = False) -> None:
        self.python = shutil.which(os.environ.get("PYTHON") or sys.executable) or sys.executable
        self.cores = len(os.sched_getaffinity(0))
        self.tools: dict[str, Any] = {}
        self.binaries: list[Path] = []
        sanitizers = [
            Step(tool, self.sanitizer(tool), "sanitizer.log", 120, ("cpp_build",)) for tool in SANITIZER_OPTIONS
        ]
        self.benchmarks = Benchmarks(self) if benchmarks else None
        first = [
            Step("facts", self.facts, "facts.log", 100, shows_log=False),
            Step("build", self.build, "build.log", 240, ("torch", "nvcc", "device")),
        ]
        checks = [
            Step("cpp_build", self.cpp_build, "cpp_tests.log", 150, ("nvcc", "device")),
            Step("cpp_tests", self.cpp_tests, "cpp_tests.log", 60, ("cpp_build",)),
            Step("pytest", self.pytest, "pytest.log", 200, ("build",)),
            *sanitizers,
        ]
        self.check = Check([*first, *(self.benchmarks.steps if self.benchmarks else checks)], folder, ROOT, limit)

    @property
    def junit(self) -> Path:
        """Where pytest writes what became of every test."""
        return self.check.folder / "pytest.xml"

    def facts(self, shell: Shell) -> str:
        """Step: what is here, and whether it suffices."""
        facts = self.check.facts
        facts["sources_sha256"] = fingerprint()
        facts["commit"] = self.commit(shell)
        facts["system"] = f"{platform.system()} {platform.release()} {platform.machine()}, {self.cores} cores"
        facts["gxx"] = first_line(self.ask(shell, os.environ.get("CXX", "g++").split()[0], "--version"))
        smi = self.nvidia_smi(shell)
        said = shell.run([self.python, HERE / "_gpu_facts.py"], check=False)
        found = re.search(r"^FACTS (?=\{)", said.output, re.MULTILINE)
        if found is None:
            raise Failure(f"{self.python} {HERE / '_gpu_facts.py'} ended with {said.exit_code} and told nothing")
        told, _ = json.JSONDecoder().raw_decode(said.output, found.end())
        facts.update(told["facts"])
        self.tools.update(told["tools"])
        self.check.have.update(told["usable"])
        self.tools["compute-sanitizer"] = find_tool("compute-sanitizer", self.tools.get("nvcc"))
        if self.tools["compute-sanitizer"]:
            answer = self.ask(shell, self.tools["compute-sanitizer"], "--version")
            facts["compute_sanitizer"] = (re.findall(r"[Vv]ersion (\S+)", answer) or [first_line(answer)])[0]
        if told["problems"]:
            without_device = "device" not in told["usable"]
            raise Failure("; ".join((*told["problems"], *([smi] if without_device and smi else []))))
        return (
            f"{facts['device']}, sm_{facts['compute_capability'].replace('.', '')}, torch {facts['torch']}, nvcc"
            f" {facts['nvcc']}"
        )

    @staticmethod
    def ask(shell: Shell, program: str, *arguments: str) -> str:
        """What a program answers; "" where it is not here or does not work."""
        path = shutil.which(program)
        done = shell.run([path, *arguments], check=False) if path else Done(1, "")
        return done.output if done.exit_code == 0 else ""

    def commit(self, shell: Shell) -> str:
        """The commit of the tree, where that can be told."""
        if not (ROOT / ".git").exists():
            return "unknown: the tree has no .git"
        commit = self.ask(shell, "git", "rev-parse", "HEAD").strip()
        if not commit:
            return "unknown: git does not say"
        return f"{commit} with changes" if self.ask(shell, "git", "status", "--porcelain").strip() else commit

    def nvidia_smi(self, shell: Shell) -> str:
        """Fills in driver and compute mode of the first device; returns why it cannot, or ""."""
        query = "--query-gpu=driver_version,compute_mode"
        answer = self.ask(shell, "nvidia-smi", query, "--format=csv,noheader")
        fields = [field.strip() for field in first_line(answer).split(",")]
        if len(fields) != 2:
            return "nvidia-smi knows none" if shutil.which("nvidia-smi") else "there is no nvidia-smi"
        self.check.facts.update(driver=fields[0], compute_mode=fields[1])
        return ""

    def build(self, shell: Shell) -> str:
        """Step: the package, in place; it has to load."""
        facts = self.check.facts
        environment = {
            "RDH_EXT_CUDA": "1",
            "TORCH_CUDA_ARCH_LIST": facts["compute_capability"],
            "MAX_JOBS": str(self.cores),
        }
        # --force: a library that is newer than the sources may be of another torch; which objects hold, ninja knows
        shell.run([self.python, "setup.py", "build_ext", "--inplace", "--force"], **environment)
        program = "import json, rdh_ext; print('BUILD', json.dumps([rdh_ext.build_info(), rdh_ext.__file__]))"
        said = shell.run([self.python, "-c", program]).output
        told = re.search(r"^BUILD (?=\[)", said, re.MULTILINE)
        if told is None:
            raise Failure("rdh_ext does not say what was built")
        (info, file), _ = json.JSONDecoder().raw_decode(said, told.end())
        if Path(file).resolve().parent != ROOT / "rdh_ext":
            raise Failure(f"another rdh_ext is imported than was built: {file}")
        for part in ("cpu", "cuda"):
            if not info[f"{part}_native"]:
                raise Failure(f"the {part} library is not loaded: {info[f'{part}_reason']}")
        facts["cpu_level"] = info["cpu_level"]
        return f"for {facts['compute_capability']}, by CUDA {facts['nvcc']}; the CPU's level is {info['cpu_level']}"

    def cpp_build(self, shell: Shell) -> str:
        """Step: the C++ tests, with the flags of the package's kernels."""
        sources = sorted(SIMT.glob("test_*.cpp"))
        if not sources:
            raise Failure(f"there are no C++ tests in {SIMT}")
        shutil.rmtree(BINARIES, ignore_errors=True)
        BINARIES.mkdir(parents=True)
        number = self.check.facts["compute_capability"].replace(".", "")
        options = [*self.tools["nvcc_flags"], "-lineinfo", f"-gencode=arch=compute_{number},code=sm_{number}"]
        folders = ["-I", ROOT / "csrc", "-I", SIMT]
        self.binaries = [BINARIES / source.stem for source in sources]
        pairs = zip(sources, self.binaries, strict=True)
        compile_all = [
            [self.tools["nvcc"], *options, *folders, "-x", "cu", source, "-o", binary] for source, binary in pairs
        ]
        shell.run_all(compile_all, jobs=self.cores)
        return f"{len(sources)} programs"

    def cpp_tests(self, shell: Shell) -> str:
        """Step: every C++ test, on the device."""
        done = {binary.name: shell.run([binary], check=False) for binary in self.binaries}
        counts = {name: tests_of(one.output)[0] for name, one in done.items()}
        shell.step.counts = counts
        require_none({name: complaint_of_tests(one) for name, one in done.items()})
        return f"{sum(counts.values())} tests in {len(counts)} programs"

    def pytest(self, shell: Shell) -> str:
        """Step: the tests of the suite that need a device."""
        shared = self.check.facts.get("compute_mode", "Default") in ("Default", "[N/A]")  # else one process at a time
        workers = min(8, self.cores) if shared and self.check.facts["packages"].get("pytest-xdist") else 1
        command = [self.python, "-m", "pytest", "-m", "cuda", "-q", f"--junitxml={self.junit}"]
        command += ["-o", "faulthandler_timeout=90", *(["-n", str(workers)] if workers > 1 else [])]
        done = shell.run(command, check=False, OMP_NUM_THREADS="1")
        if not self.junit.exists():
            raise Failure(f"pytest ended with {done.exit_code} before any test")
        counts, failures = read_junit(self.junit)
        shell.step.counts = counts
        if self.junit.stat().st_size > LOG_BYTES:
            self.junit.unlink()  # what matters of it is in the log and in the summary
        words = ", ".join(f"{counts[key]} {key}" for key in ("passed", "failed", "skipped"))
        if counts["failed"] or done.exit_code not in (0, 5):
            named = f": {', '.join(failures[:3])}{', ...' if len(failures) > 3 else ''}" if failures else ""
            raise Failure(f"{words}{named}" if failures else f"{words}; exit status {done.exit_code}")
        if not counts["passed"]:
            raise Failure(f"no test ran on the device: {words}")
        return f"{words}, {workers} at a time"

    def sanitizer(self, tool: str) -> Callable[[Shell], str]:
        """The step that runs the C++ tests under one of compute-sanitizer's tools."""

        def action(shell: Shell) -> str:
            program = self.tools.get("compute-sanitizer")
            if not program:
                raise Failure("compute-sanitizer is neither on PATH nor with the toolkit")
            command = [program, "--tool", tool, "--error-exitcode", "1", *SANITIZER_OPTIONS[tool]]
            wishes = {"HARNESS_UNFILLED": "1"} if tool == "initcheck" else {}  # else every byte counts as written
            done = {binary.name: shell.run([*command, binary], check=False, **wishes) for binary in self.binaries}
            require_none({name: complaint_of(tool, one) for name, one in done.items()})
            return f"{len(self.binaries)} programs, nothing found"

        return action


def require_none(complaints: dict[str, str | None]) -> None:
    """Raises what there is to complain about, by program; each complaint once."""
    programs: dict[str, list[str]] = {}
    for program, complaint in complaints.items():
        if complaint:
            programs.setdefault(complaint, []).append(program)
    if programs:
        raise Failure("; ".join(f"{', '.join(names)}: {complaint}" for complaint, names in programs.items()))


def first_line(text: str) -> str:
    """Or "" where there is none."""
    return next(iter(text.splitlines()), "").strip()


def tests_of(output: str) -> tuple[int, int]:
    """How many tests of a C++ program ran and failed, by its own last words; (0, 0) where it has none."""
    found = re.findall(r"^(\d+) of (\d+) failed$", output, re.MULTILINE)
    return (int(found[-1][1]), int(found[-1][0])) if found else (0, 0)


def complaint_of_tests(done: Done) -> str | None:
    """What is wrong with a run of a C++ program, or None: a program that ran no test has not passed."""
    ran, failed = tests_of(done.output)
    if not ran:
        last = next(reversed(done.output.split("\n")[:-1]), "")
        return f"no test ran, exit status {done.exit_code}: {last or 'no output'}"
    if failed:
        return f"{failed} of {ran} tests failed"
    return f"exit status {done.exit_code} behind its tests" if done.exit_code else None


def complaint_of(tool: str, done: Done) -> str | None:
    """What compute-sanitizer has against a program, or None. Its silence proves nothing: it has been seen to report 0
    errors of a program that it had not run."""
    if "Device not supported" in done.output:
        return "compute-sanitizer refuses this device (Device not supported)"
    pattern = r"RACECHECK SUMMARY: (\d+) hazard" if tool == "racecheck" else r"ERROR SUMMARY: (\d+) error"
    found = [int(number) for number in re.findall(pattern, done.output)]
    leaked = sum(int(number) for number in re.findall(r"LEAK SUMMARY: (\d+) bytes", done.output))
    if sum(found):
        return f"{sum(found)} {'hazards' if tool == 'racecheck' else 'errors'} found"
    if leaked:
        return f"{leaked} bytes leaked"
    return complaint_of_tests(done) or (None if found else "compute-sanitizer gave no summary")


def read_junit(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Numbers of tests passed, failed (errors too) and skipped, why, and the names of the failed ones."""
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except ElementTree.ParseError as error:
        raise Failure(f"pytest did not finish its report: {error}") from error
    failures = [
        f"{case.get('classname', '')}::{case.get('name', '')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skips = [element.get("message", "") for case in cases if (element := case.find("skipped")) is not None]
    passed = len(cases) - len(failures) - len(skips)
    counts = {"passed": passed, "failed": len(failures), "skipped": len(skips), "skipped_because": dict(Counter(skips))}
    return counts, failures


def result_name(device: str | None, what: str = "check") -> str:
    """``gpu_check_h200.json`` for an NVIDIA H200."""
    return f"gpu_{what}_{device_word(device)}.json"


def copies(gpu: GpuCheck, passed: bool) -> list[str]:
    """The commands that keep what is worth it: a summary if everything has passed, and every result that is whole."""
    device = gpu.check.facts.get("device")
    kept = dict(gpu.benchmarks.kept) if gpu.benchmarks else {}
    if passed or kept:
        kept[result_name(device, "benchmarks" if gpu.benchmarks else "check")] = gpu.check.folder / "summary.json"
    return [f"cp {path} benchmarks/results/{name}" for name, path in kept.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder for summary.json and at most 7 files")
    parser.add_argument("--benchmarks", action="store_true", help="measure instead of checking")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="for everything; default 480, or 570 to measure")
    parser.add_argument("--sources", action="store_true", help="print the fingerprint of the sources, check nothing")
    options = parser.parse_args(arguments)
    if options.sources:
        print(fingerprint())
        return 0
    if options.out is None:
        parser.error("OUT is missing, the folder for logs and summary.json")
    for name in [name for name in os.environ if name.startswith(IGNORED)]:
        del os.environ[name]
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of tests may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="replace")
    folder = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    limit = options.limit or (_gpu_benchmarks.LIMIT if options.benchmarks else LIMIT)
    gpu = GpuCheck(folder, limit, benchmarks=options.benchmarks)
    for name in {"summary.json", gpu.junit.name, *(step.log for step in gpu.check.steps)}:
        (folder / name).unlink(missing_ok=True)  # of an earlier run
    passed = gpu.check.run()
    print(f"\n{gpu.check.facts.get('device') or 'no device'}; logs and summary.json are in {folder}")
    print("".join(f"  {line_of(step)}\n" for step in gpu.check.steps), end="")
    print(f"{'PASSED' if passed else 'FAILED'} after {gpu.check.seconds():.0f} s")
    print("".join(f"to keep it: {command}\n" for command in copies(gpu, passed)), end="")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
