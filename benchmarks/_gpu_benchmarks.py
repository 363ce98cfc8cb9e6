"""The steps of ``gpu_check.sh OUT --benchmarks``: what the compiler made, ceilings, `rdh bench`, Nsight Compute."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import _ncu
from _check_run import Check, Done, Failure, Shell, Step

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMIT = 570.0
BENCH_SECONDS = 300
BENCH = "build/bench"
"""Where `rdh bench` writes first: its rows hold its command, which is to have no paths of this machine in it."""


class Machine(Protocol):
    """What the other steps have found out."""

    python: str
    tools: dict[str, Any]
    check: Check


def device_word(device: str | None) -> str:
    """``h200`` for an NVIDIA H200."""
    return re.sub(r"[^a-z0-9]+", "_", (device or "none").lower().replace("nvidia", "")).strip("_")


def find_tool(name: str, nvcc: str | None, *folders: str) -> str | None:
    """A program on PATH, with the toolkit of nvcc, or in one of these folders."""
    places = [os.environ.get("PATH", os.defpath)]
    if nvcc:
        home = Path(nvcc).resolve().parents[1]
        places += [str(home / "bin"), str(home / name), *map(str, sorted(home.glob("nsight-compute*"), reverse=True))]
    return shutil.which(name, path=os.pathsep.join([*places, *folders]))


class Benchmarks:
    """The steps behind the build; ``kept`` has what is worth committing, by its name in benchmarks/results."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.kept: dict[str, Path] = {}
        self.steps = [
            Step("sass", self.sass, "benchmarks.log", 60, ("build",)),
            Step("peaks", self.peaks, "benchmarks.log", 60, ("build",)),
            Step("bench", self.bench, "benchmarks.log", BENCH_SECONDS, ("build",)),
            Step("ncu", self.ncu, "ncu.log", 150, ("build",)),
        ]

    @property
    def folder(self) -> Path:
        """OUT."""
        return self.machine.check.folder

    @property
    def word(self) -> str:
        """The device, as in names of files."""
        return device_word(self.machine.check.facts.get("device"))

    def result(self, name: str) -> Path:
        """A file of results in OUT; what an earlier run has left there is removed."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        return path

    def sass(self, shell: Shell) -> str:
        """Step: what the compiler made of every kernel of the built library."""
        found = sorted((ROOT / "rdh_ext").glob("_ops_cuda*.so"))
        if len(found) != 1:
            raise Failure(f"{len(found)} libraries rdh_ext/_ops_cuda*.so")
        out = self.result("sass.csv")
        number = self.machine.check.facts["compute_capability"].replace(".", "")
        done = shell.run([self.machine.python, HERE / "_sass_facts.py", found[0], number, out], check=False)
        if out.exists():
            self.kept[f"{self.word}_sass.csv"] = out
        said = re.search(r"^SASS (.+)$", done.output, re.MULTILINE)
        if done.exit_code or said is None:
            raise Failure(said[1] if said else last_line(done))
        return said[1]

    def peaks(self, shell: Shell) -> str:
        """Step: the measured ceilings of the device, against its datasheet."""
        home = str(Path(self.machine.tools["nvcc"]).parents[1])
        command = [self.machine.python, HERE / "peaks.py", "--device", "cuda"]
        done = shell.run(command, check=False, CUDA_HOME=home)
        said = re.search(r"^PEAKS (\{.*\})$", done.output, re.MULTILINE)
        if said is None:
            raise Failure(last_line(done))
        report = json.loads(said[1])
        self.machine.check.facts["peaks"] = report
        if report["complaints"]:
            raise Failure("; ".join(report["complaints"]))
        if not report["datasheet"]:
            return f"measured; no datasheet of {report['device']} is known"
        shares = (f"{what.partition(',')[0]} {report['measured'][what] / peak:.0%}" for what, peak in peaks_of(report))
        return f"of the datasheet: {', '.join(shares)}"

    def bench(self, shell: Shell) -> str:
        """Step: `rdh bench` on the device, every op measured."""
        told = shell.run([self.machine.python, "-c", OPS_PROGRAM]).output
        listed = re.search(r"^OPS (\[.*\])$", told, re.MULTILINE)
        if listed is None:
            raise Failure("benchmarks/registry.py does not say which ops there are")
        out, name = self.result(f"{self.word}.csv"), f"{BENCH}/{self.word}.csv"
        (ROOT / BENCH).mkdir(parents=True, exist_ok=True)
        (ROOT / name).unlink(missing_ok=True)
        # --no-verify: the tests are what gpu_check.sh without --benchmarks is for; results are compared all the same
        command = [self.machine.python, "-m", "rdh_ext", "bench", "--device", "cuda", "--no-verify", "--out", name]
        try:
            done = shell.run(command, check=False)
        finally:
            if (ROOT / name).exists():
                shutil.copyfile(ROOT / name, out)
                shell.step.counts = dict(measured_ops(out))
        missing = [op for op in json.loads(listed[1]) if not shell.step.counts.get(op)]
        if done.exit_code:
            raise Failure(f"rdh bench ended with {done.exit_code}: {last_line(done)}")
        if missing:
            raise Failure(f"not measured: {', '.join(missing)}")
        self.kept[f"{self.word}.csv"] = out
        return f"{sum(shell.step.counts.values())} rows of {len(shell.step.counts)} ops"

    def ncu(self, shell: Shell) -> str:
        """Step: bandwidth, occupancy and more of each kernel, by Nsight Compute."""
        ncu = find_tool("ncu", self.machine.tools.get("nvcc"), "/usr/local/cuda/bin")
        if not ncu:
            raise Failure("ncu is neither on PATH nor with the toolkit; it comes with Nsight Compute")
        out = self.result("ncu.csv")
        command = _ncu.command(ncu, [self.machine.python, HERE / "_ncu_calls.py"])
        done = shell.run(command, check=False, LC_ALL="C")
        try:
            rows = _ncu.read(done.output, lambda names: demangled(shell, names))
        except _ncu.NoProfile as reason:
            ended = f"; exit status {done.exit_code}: {last_line(done)}" if done.exit_code else ""
            raise Failure(f"{reason}{ended}" if "ERR_" not in str(reason) else str(reason)) from reason
        _ncu.write(out, _ncu.COLUMNS, rows)
        self.kept[f"{self.word}_ncu.csv"] = out
        shell.step.counts = dict(Counter(row["kernel"].partition("<")[0] for row in rows))
        expected = re.search(r"^CALLS (\{.*\})$", done.output, re.MULTILINE)
        if expected is None:
            raise Failure(f"{len(rows)} launches, and then it did not finish: {last_line(done)}")
        missing = _ncu.missing(rows, json.loads(expected[1]))
        if missing:
            raise Failure(f"ncu has not seen {'; '.join(missing)}")
        complaint = _ncu.complaint_of(done.output)
        if done.exit_code or complaint:
            raise Failure(complaint or f"ncu ended with {done.exit_code}: {last_line(done)}")
        return f"{len(rows)} launches of {len({row['kernel'] for row in rows})} kernels"


OPS_PROGRAM = (
    "import json, sys; sys.path.insert(0, 'benchmarks'); import registry; print('OPS', json.dumps(list(registry.OPS)))"
)


def peaks_of(report: dict[str, Any]) -> list[tuple[str, float]]:
    """What was measured, and the datasheet's number for it."""
    return [(what, report["datasheet"][what]) for what in report["measured"] if what in report["datasheet"]]


def measured_ops(path: Path) -> Counter[str]:
    """Rows of a result of `rdh bench` in which rdh_ext was measured, by op."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        return Counter(row["op"] for row in rows if (row["kind"], row["status"]) == ("rdh_ext", "measured"))


def demangled(shell: Shell, names: list[str]) -> list[str]:
    """By c++filt, which makes of them what is in the budget of the kernels; as they are where it is not here."""
    program = shutil.which("c++filt")
    if program is None or not any(name.startswith("_Z") for name in names):
        return names
    told = shell.run([program, *dict.fromkeys(names)]).output.splitlines()
    plain = dict(zip(dict.fromkeys(names), told, strict=True))
    return [plain[name] for name in names]


def last_line(done: Done) -> str:
    """Of what a program has printed."""
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"nothing printed, exit status {done.exit_code}"
