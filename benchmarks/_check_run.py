"""Steps that are given a time, a log and what they need: what gpu_check.py runs its commands with. Standard library."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import IO, Any, NamedTuple

SCHEMA = 1
PATIENCE = 2.0
"""Seconds between asking a process to end and ending it, and from there to giving up on it."""
LOG_BYTES = 12 << 20
READ_BYTES = 32 << 20


class Failure(Exception):
    """A step that did not do what it should; the text is the line that a person gets to see."""


@dataclass
class Step:
    """A step and, once it has run, what became of it."""

    name: str
    action: Callable[[Shell], str]
    log: str
    limit: float
    needs: tuple[str, ...] = ()
    shows_log: bool = True
    status: str = "not run"
    seconds: float = 0.0
    exit_code: int | None = None
    detail: str = "the check has not come to it"
    counts: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """For the summary."""
        keys = ("name", "status", "seconds", "exit_code", "detail", "counts", "log")
        return {key: getattr(self, key) for key in keys}


class Done(NamedTuple):
    """A command that has ended."""

    exit_code: int
    output: str


def clipped(file: IO[bytes], start: int, limit: int) -> bytes:
    """What a file holds from ``start`` on; of more than ``limit`` bytes the middle is left out."""
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    if size <= limit:
        return file.read()
    head = file.read(limit // 2)
    file.seek(-(limit // 2), os.SEEK_END)
    return head + f"\n[... {size - limit // 2 * 2} bytes left out ...]\n".encode() + file.read()


def members(sessions: set[int]) -> list[int]:
    """The living processes of sessions: what a command has started stays in its session, whatever process group."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, _, its_session = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) in sessions and state not in "ZX":
                found.append(int(entry))
    return found


def end_sessions(sessions: set[int]) -> None:
    """Ends all processes of sessions: first by asking, which lets ninja stop its compilers, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in members(sessions):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)
        patient_until = time.monotonic() + PATIENCE
        while members(sessions):
            if time.monotonic() > patient_until:
                break
            time.sleep(0.05)
        else:
            return


class Shell:
    """Runs the commands of one step: output into its log, and nothing of them is left when its time is up."""

    def __init__(self, step: Step, folder: Path, root: Path, ends: float) -> None:
        self.step, self.root, self._ends = step, root, ends
        self.path = folder / step.log
        paths = (str(root), os.environ.get("PYTHONPATH", ""))
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}

    def say(self, text: str) -> None:
        """A line for the log."""
        with self.path.open("ab") as log:
            log.write(f"{text}\n".encode())

    def run(self, command: Sequence[str | Path], *, check: bool = True, **environment: str) -> Done:
        """One command, which has to succeed unless told otherwise; what it prints is in the log while it runs."""
        with self.path.open("ab+") as log:
            log.write(f"$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            start = log.tell()
            (exit_code,) = self._finish([(command, log)], environment)
            output = clipped(log, start, READ_BYTES).decode(errors="replace")
        return self._judged(command, Done(exit_code, output), check)

    def run_all(self, commands: Sequence[Sequence[str | Path]], *, jobs: int) -> None:
        """Several at a time, which all have to succeed; the log gets the output of one after the other."""
        for first in range(0, len(commands), jobs):
            batch = commands[first : first + jobs]
            with contextlib.ExitStack() as stack:
                files = [stack.enter_context(tempfile.TemporaryFile()) for _ in batch]
                outputs: list[str] = []
                try:
                    exit_codes = self._finish(list(zip(batch, files, strict=True)), {})
                finally:
                    for command, file in zip(batch, files, strict=True):
                        outputs.append(clipped(file, 0, READ_BYTES).decode(errors="replace"))
                        self.say(f"$ {' '.join(map(str, command))}\n{outputs[-1].rstrip()}")
            for command, code, output in zip(batch, exit_codes, outputs, strict=True):
                self._judged(command, Done(code, output), check=True)

    def _finish(
        self, commands: Sequence[tuple[Sequence[str | Path], IO[bytes]]], environment: Mapping[str, str]
    ) -> list[int]:
        """Exit codes of commands that run side by side; of what they have started nothing is left afterwards."""
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for command, output in commands:
                processes.append(self._start(command, output, environment))
            while any(process.poll() is None for process in processes):
                if time.monotonic() > self._ends:
                    raise Failure(f"stopped: not done after {self.step.limit:.0f} s")
                time.sleep(0.02)
        finally:
            end_sessions({process.pid for process in processes})
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE / 2)
        return [int(process.returncode) for process in processes]

    def _start(
        self, command: Sequence[str | Path], output: IO[bytes], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        words = [str(word) for word in command]
        try:
            return subprocess.Popen(
                words,
                cwd=self.root,
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise Failure(f"{words[0]} does not start: {error.strerror}") from error

    def _judged(self, command: Sequence[str | Path], done: Done, check: bool) -> Done:
        self.step.exit_code = done.exit_code
        if check and done.exit_code != 0:
            how = f"exit status {done.exit_code}" if done.exit_code > 0 else f"signal {-done.exit_code}"
            lines = [" ".join(line.split()) for line in done.output.splitlines() if line.strip()]
            line = next((line for line in lines if "error:" in line.lower()), lines[-1] if lines else "no output")
            raise Failure(f"{Path(command[0]).name} ended with {how}: {line[:200]}")
        return done


class Check:
    """All steps, in order, within one limit of time, and the summary that is up to date after each."""

    def __init__(self, steps: Sequence[Step], folder: Path, root: Path, limit: float) -> None:
        self.steps, self.folder, self.root, self.limit = steps, folder, root, limit
        self.facts: dict[str, Any] = {}
        self.have: set[str] = set()
        self._started = time.monotonic()
        self._date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def passed(self) -> bool:
        """Every step has run and passed."""
        return all(step.status == "passed" for step in self.steps)

    def seconds(self) -> float:
        """Since the start."""
        return round(time.monotonic() - self._started, 1)

    def write_summary(self) -> None:
        """``summary.json``, replaced in one go: whoever reads it finds all of it."""
        summary = {
            "schema": SCHEMA,
            "date": self._date,
            "passed": self.passed,
            "seconds": self.seconds(),
            "limit_seconds": self.limit,
            "facts": self.facts,
            "steps": [step.row() for step in self.steps],
        }
        text = json.dumps(summary, indent=1)
        for path in (self.folder, self.root):  # it may be committed: no paths of this machine
            text = text.replace(f"{path}{os.sep}", "").replace(str(path), ".")
        part = self.folder / "summary.json.part"
        part.write_text(f"{text}\n")
        part.replace(self.folder / "summary.json")

    def run(self) -> bool:
        """Runs all steps that can run; True if every step passed. SIGTERM and SIGINT end it, the summary included."""
        before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for step in self.steps:
                self.write_summary()
                self._take(step)
        except KeyboardInterrupt:
            for step in self.steps:
                if step.status == "not run":
                    step.detail = "interrupted"
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.write_summary()
        return self.passed

    @staticmethod
    def _interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def _take(self, step: Step) -> None:
        now = time.monotonic()
        last = self._started + self.limit - 3 * PATIENCE  # by then the processes of the last step have to be gone
        missing = [name for name in step.needs if name not in self.have]
        if now >= last:
            step.detail = "out of time"
        elif missing:
            step.detail = f"needs {missing[0]}"
        else:
            step.limit = min(step.limit, last - now)
            with self._timed(step):
                step.detail = step.action(Shell(step, self.folder, self.root, now + step.limit))
                step.status = "passed"
                self.have.add(step.name)
        self._report(step)

    @contextlib.contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        """Times a step; a failure is its result, and so is a mistake in the check itself."""
        start = time.monotonic()
        step.status, step.detail = "failed", "interrupted"
        try:
            yield
        except Failure as failure:
            step.detail = str(failure)
        except Exception as error:
            step.detail = f"the check itself failed: {type(error).__name__}: {error}"
        finally:
            step.seconds = round(time.monotonic() - start, 1)
            self._trim(self.folder / step.log)

    @staticmethod
    def _trim(path: Path) -> None:
        if path.exists() and path.stat().st_size > LOG_BYTES:
            with path.open("rb") as log:
                kept = clipped(log, 0, LOG_BYTES)
            path.write_bytes(kept)

    def _report(self, step: Step) -> None:
        print(f"[{self.seconds():5.1f} s] {line_of(step)}", flush=True)
        path = self.folder / step.log
        if step.status == "failed" and step.shows_log and path.exists():
            with path.open("rb") as log:
                tail = clipped(log, max(0, path.stat().st_size - 3000), 3000).decode(errors="replace")
            print("".join(f"          | {line}\n" for line in tail.splitlines()[-20:]), end="", flush=True)


def line_of(step: Step) -> str:
    """A step's result in one line."""
    return f"{step.name:<11} {step.status:<8} {step.seconds:6.1f} s  {step.detail}"
