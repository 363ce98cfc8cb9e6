"""`rdh bench`: measures ops next to what people would use otherwise, and to what the machine can do at most.

``rdh bench --help`` says what it does and how; rdh_ext/cli/bench.py has the options, and starts this program with them
as JSON. Each group of cases (an op and a sweep) is measured by a process of its own, _case_run.py, so that what one
leaves in memory does not help or hinder the next; a process that dies takes its own cases with it and no others.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _bench_rows import Run, row_of_nothing, rows_of
from _bench_text import text_of
from _measure import HERE, MALLOC, cores, die_with_parent, host_threads, machine, write_csv
from _problem import OURS, Case
from _rows import read
from registry import OPS, cases_of, sweeps_of
from verify import verify

import rdh_ext

PLANS = {  # rounds, seconds of a provider in a round, longest call, seconds of a provider in all rounds
    True: {"rounds": 5, "seconds": 0.004, "limit": 2.0, "share": 0.4},
    False: {"rounds": 11, "seconds": 0.02, "limit": 30.0, "share": 2.0},
}
PACKAGE = Path(rdh_ext.__file__).resolve().parents[1]  # where the package lies that is measured


class Stop(Exception):
    """Ends the program; its message is the last line, for the one who started it."""


@dataclass
class Options:
    """What rdh_ext/cli/bench.py asks for."""

    command: str
    ops: list[str] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    device: str = "cpu"
    threads: int = 1
    quick: bool = False
    processes: int | None = None
    rounds: int | None = None
    out: str | None = None
    resume: bool = False
    as_json: bool = False
    verify: bool = True
    listing: bool = False
    compare: str | None = None

    @property
    def plan(self) -> dict[str, Any]:
        """How much is measured."""
        return {**PLANS[self.quick], **({} if self.rounds is None else {"rounds": self.rounds})}


def say(line: str) -> None:
    """For a person, on standard error: standard output has results alone."""
    print(line, file=sys.stderr, flush=True)


def environment(threads: int, package: Path) -> dict[str, str]:
    """Of the processes: the package of a tree, so many threads, memory that stays mapped, no pool of compilers beside
    what is timed."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    paths = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, **MALLOC, **counts, "TORCHINDUCTOR_COMPILE_THREADS": "1", "PYTHONPATH": paths}


def chosen_ops(options: Options) -> list[str]:
    names = options.ops or [name for name, op in OPS.items() if not options.quick or op.quick is not None]
    for name in names:
        if name not in OPS:
            raise Stop(f"there is no op {name!r}; there are {', '.join(OPS)}")
    return names


def cases(options: Options) -> list[Case]:
    """All of them, in the order in which they are measured."""
    found: list[Case] = []
    for name in chosen_ops(options):
        op = OPS[name]
        known = sweeps_of(op, cores())
        wanted = known if options.sweeps == ["all"] else [sweep for sweep in options.sweeps if sweep in known]
        how = {"device": options.device, "cores": cores(), "threads": options.threads}
        found += cases_of(op, wanted, quick=options.quick, **how)
    every = {sweep for name in chosen_ops(options) for sweep in OPS[name].sweeps} | {"all"}
    for sweep in options.sweeps:
        if sweep not in every:
            raise Stop(f"none of these ops has a sweep {sweep!r}; they have {', '.join(sorted(every))}")
    return found


def groups(found: list[Case], quick: bool) -> list[list[Case]]:
    """Cases of one process: of one op and sweep, on so many threads; quick runs begin fewer processes."""
    sorted_out: dict[tuple[str, ...], list[Case]] = {}
    for case in found:
        key = (str(case.threads),) if quick else (case.op, case.sweep, str(case.threads))
        sorted_out.setdefault(key, []).append(case)
    return list(sorted_out.values())


def results_of(group: list[Case], plan: dict[str, Any], package: Path = PACKAGE) -> Iterator[Run]:
    """What the process of a group prints, case by case; for cases that it does not come to, why. ``package`` is the
    folder that has the rdh_ext to be measured."""
    arguments = json.dumps({"cases": [asdict(case) for case in group], "plan": plan})
    command = [sys.executable, str(HERE / "_case_run.py"), arguments]
    left = len(group)
    with (
        open(os.devnull) as nothing,
        subprocess.Popen(
            command,
            env=environment(host_threads(group[0].threads, group[0].device), package),
            stdin=nothing,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        errors = Tail(process.stderr)
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    left -= 1
                    yield json.loads(line)
        finally:
            if left and process.poll() is None:
                process.terminate()
        code = process.wait()
    last = errors.last()
    for _ in range(left):
        yield {"failed": f"its process ended with {code}: {last}", "status": "failed"}


class Tail:
    """Reads a stream to its end beside everything else, and keeps its last lines."""

    def __init__(self, stream: Any) -> None:
        import threading

        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._lines = [*self._lines[-30:], line.strip()]

    def last(self) -> str:
        """The last line that says something."""
        self._thread.join(5)
        return next((line for line in reversed(self._lines) if line), "it said nothing")[:300]


def facts_of(options: Options, run: Run | None = None) -> dict[str, str]:
    """What every row carries."""
    told = run["machine"] if run and "machine" in run else machine()
    return {key: told[key] for key in ("device", "level", "torch", "rdh_ext")} | {"command": options.command}


def can_be_written(path: Path) -> None:
    """Makes its folder; ends the program where that is not possible, before anything is measured."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Stop(f"--out {path}: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise Stop(f"--out {path}: {os.strerror(errno.EACCES)}")


class Results:
    """Rows as they come; the file has them after every case."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.path = Path(options.out) if options.out else None
        self.rows: list[dict[str, str]] = []
        if self.path is None:
            return
        if self.path.exists() and not options.resume:
            raise Stop(f"{self.path} is there already; --resume goes on with it, --out names another")
        if self.path.exists():
            try:
                self.rows = read(self.path)
            except (ValueError, OSError) as error:
                raise Stop(str(error)) from error
        can_be_written(self.path)

    def has(self, case: Case) -> bool:
        """Whether a case has been measured before, by the same versions on the same machine."""
        mine = facts_of(self.options)
        keys = ("level", "torch", "rdh_ext") if self.options.device == "cpu" else ("torch", "rdh_ext")
        return any(
            (row["op"], row["sweep"], row["x"], row["threads"]) == (case.op, case.sweep, case.x, str(case.threads))
            and (row["provider"], row["status"]) == (OURS, "measured")
            and all(row[key] == mine[key] for key in keys)
            for row in self.rows
        )

    def add(self, case: Case, rows: list[dict[str, str]]) -> None:
        """Takes rows in, and writes the file."""
        key = (case.op, case.sweep, case.x, str(case.threads))
        kept = [row for row in self.rows if (row["op"], row["sweep"], row["x"], row["threads"]) != key]
        order = {name: place for place, name in enumerate(OPS)}  # also after --resume
        self.rows = sorted(kept + rows, key=lambda row: order.get(row["op"], len(order)))
        if self.path is not None:
            write_csv(self.path, self.rows)


def measure_all(options: Options, results: Results) -> int:
    """Every case, with a line about each; returns how many have failed."""
    start, failures, processes = time.monotonic(), 0, options.processes or 1
    found = [case for case in cases(options) if not results.has(case)]
    done = 0
    for group in groups(found, options.quick):
        runs: list[list[Run]] = [[] for _ in group]
        for number in range(processes):
            plan = {**options.plan, "seed": number}
            for index, run in enumerate(results_of(group, plan)):
                runs[index].append(run)
                last = number == processes - 1
                done += last
                if last:
                    failures += not keep(group[index], runs[index], options, results)
                case = group[index].label
                say(f"  {time.monotonic() - start:5.0f} s  {done:3d} of {len(found)}  {case}")
    return failures


def keep(case: Case, runs: list[Run], options: Options, results: Results) -> bool:
    """Rows of a case; whether it came to something."""
    good = [run for run in runs if "failed" not in run]
    if not good:
        last = runs[-1]
        say(f"  {case.label}: {last['status']}, {last['failed']}")
        results.add(case, row_of_nothing(OPS[case.op], case, last, facts_of(options)))
        return last["status"] != "failed"
    results.add(case, rows_of(OPS[case.op], case, good, facts_of(options, good[0])))
    return True


def checked(options: Options) -> str:
    """The sentence about the tests; ends the program where one fails."""
    if not options.verify:
        return "tests were not run (--no-verify); results are compared before each measurement"
    say("  tests first ...")
    verdict = verify(chosen_ops(options), quick=options.quick, device=options.device)
    if not verdict.passed:
        raise Stop(f"{verdict.sentence}; nothing was timed")
    return verdict.sentence


def listed(options: Options) -> str:
    """Ops, their sweeps and tests."""
    lines = []
    for name in chosen_ops(options):
        op = OPS[name]
        lines.append(f"{name:20s} {op.title} ({op.mode})")
        for sweep in sweeps_of(op, cores()):
            values = ", ".join(case.x for case in cases_of(op, [sweep], device="cpu", cores=cores(), threads=1)[1:])
            lines.append(f"{'':20s}   --sweep {sweep}: {values}")
    return "\n".join(lines)


def warn_of_neighbours() -> None:
    if (load := os.getloadavg()[0]) > 0.5:
        say(f"  others are using this machine (load {load:.1f}): ratios bear it, small differences do not")


def run(options: Options) -> int:
    if options.listing:
        print(listed(options))
        return 0
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise Stop("no CUDA device is available to PyTorch; `rdh info` says what is compiled in")
    if options.compare is not None:
        from compare import compare

        return compare(options)
    results = Results(options)
    cases(options)  # names that there are not, before anything takes long
    sentence = checked(options)
    say(f"  {sentence}")
    warn_of_neighbours()
    failures = measure_all(options, results)
    if options.as_json:
        print(json.dumps({"command": options.command, "tests": sentence, "rows": results.rows}, indent=1))
    else:
        print(text_of(results.rows))
    if results.path is not None:
        say(f"written: {results.path}; `rdh report {results.path}` makes tables and pictures of it")
    if failures:
        raise Stop(f"{failures} of the cases failed; their rows say why")
    return 0


def main() -> None:
    die_with_parent()
    try:
        sys.exit(run(Options(**json.loads(sys.argv[1]))))
    except Stop as reason:
        print(reason, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
