"""Committed instruction counts: the file, what was committed before, and what a new count means."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from _instruction_counts import CASES

FILE = "benchmarks/results/instructions.csv"
ALLOWED = 10
"""Percent that a count may rise without a word."""
CHECKSUM_ERROR = 1e-6
"""Relative, of checksums that are no integers: 20 times what the levels differ by."""
WAY_OUT = 'python benchmarks/instructions.py --state "why"'


class BadFile(Exception):
    """What is wrong with the file, in one sentence."""


@dataclass(frozen=True)
class Row:
    """The count of a case, and why it is what it is."""

    case: str
    instructions: int
    why: str
    checksum: str
    compiler: str
    valgrind: str
    level: str

    @property
    def major(self) -> str:
        """The compiler without its minor version: counts of one major version compare."""
        return self.compiler.partition(".")[0]


COLUMNS = [field.name for field in fields(Row)]
Rows = dict[str, Row]


def parse(text: str) -> Rows:
    """Rows by case."""
    reader = csv.DictReader(io.StringIO(text))
    if reader.fieldnames != COLUMNS:
        raise BadFile(f"{FILE}: the columns are not {', '.join(COLUMNS)}")
    rows: Rows = {}
    for line in reader:
        case, number = line["case"], line["instructions"]
        if case not in CASES or case in rows or set(line) != set(COLUMNS) or None in line.values():
            raise BadFile(f"{FILE}: line {reader.line_num} is no case, or one that was there before")
        if not number.isascii() or not number.isdigit() or int(number) == 0 or not line["why"].strip():
            raise BadFile(f"{FILE}: {case} has no count or no reason")
        rows[case] = Row(case, int(number), *(line[name] for name in COLUMNS[2:]))
    return rows


def read(root: Path) -> Rows:
    """The file as it is now; no rows where it is not there."""
    path = root / FILE
    return parse(path.read_text()) if path.exists() else {}


def write(rows: Rows, root: Path) -> None:
    """All of it or nothing."""
    path = root / FILE
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(rows[case]) for case in CASES if case in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        made.write_text(stream.getvalue())
        made.replace(path)


def percent(before: int, now: int) -> float:
    """The change."""
    return 100 * (now / before - 1)


def has_risen(before: int, now: int) -> bool:
    """By more than is allowed without a word."""
    return 100 * now > (100 + ALLOWED) * before


def has_fallen(before: int, now: int) -> bool:
    """By as much."""
    return 100 * now < (100 - ALLOWED) * before


def same_checksum(one: str, other: str) -> bool:
    """Integers exactly, other numbers but for the last digits of a float."""
    if one == other:
        return True
    try:
        a, b = float(one), float(other)
    except ValueError:
        return False
    is_whole = one.lstrip("-").isdigit() or other.lstrip("-").isdigit()
    return not is_whole and math.isclose(a, b, rel_tol=CHECKSUM_ERROR)


def other_compiler(committed: Rows, compiler: str) -> str | None:
    """What to say where the counts were made by another major version than this one."""
    names = sorted({row.compiler for row in committed.values() if row.major != compiler.partition(".")[0]})
    if not names:
        return None
    return f"the committed counts are of {' and '.join(names)}, this is {compiler}: they do not compare"


def compare(committed: Rows, counted: Rows) -> tuple[list[str], list[str]]:
    """What fails, and what is only to be said, one line each."""
    failures, notes = [], []
    for case, now in counted.items():
        before = committed.get(case)
        if before is None:
            failures.append(f"{case}: no count is committed; state it: {WAY_OUT}")
            continue
        numbers = f"{case}: {now.instructions:,} instructions, committed {before.instructions:,}"
        change = f"{abs(percent(before.instructions, now.instructions)):.1f} %"
        if has_risen(before.instructions, now.instructions):
            failures.append(f"{numbers}: {change} more, {ALLOWED} % are allowed; if that is meant, state it: {WAY_OUT}")
        elif has_fallen(before.instructions, now.instructions):
            notes.append(f"{numbers}: {change} less; state it, so that it stays: {WAY_OUT}")
        if not same_checksum(before.checksum, now.checksum):
            failures.append(
                f"{case}: checksum {now.checksum}, committed {before.checksum}: not the same work;"
                f" if that is meant, state it: {WAY_OUT}"
            )
    return failures, notes


def stated(committed: Rows, counted: Rows, why: str) -> Rows:
    """The committed rows with new ones for the cases that have moved, and for all where the compiler is another.

    The others keep their count: several small rises would otherwise pass as none.
    """
    rows: Rows = {}
    for case, now in counted.items():
        before = committed.get(case)
        if before is None or has_moved(before, now):
            rows[case] = replace(now, why=why)
        else:
            rows[case] = before if before.major == now.major else replace(now, why=before.why)
    return rows


def has_moved(before: Row, now: Row) -> bool:
    """So far that it takes a reason."""
    numbers = (before.instructions, now.instructions)
    return has_risen(*numbers) or has_fallen(*numbers) or not same_checksum(before.checksum, now.checksum)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:  # not installed
        return subprocess.CompletedProcess(command, 127, "", str(error))


def earlier(root: Path) -> dict[str, Rows]:
    """The file in the commits that this one is to be compared with, as far as they are here and have it."""
    commits = {"HEAD": "HEAD", "HEAD~1": "HEAD~1"}
    for branch in ("main", "origin/main"):
        base = _git(root, "merge-base", "HEAD", branch)
        if base.returncode == 0:
            commits[f"the merge base with {branch}"] = base.stdout.strip()
    found = {}
    for name, commit in commits.items():
        shown = _git(root, "show", f"{commit}:./{FILE}")
        if shown.returncode == 0:
            try:
                found[name] = parse(shown.stdout)
            except BadFile:  # of another time
                continue
    return found


def silent_git(root: Path) -> list[str]:
    """A line where there is a repository and git does not answer."""
    asked = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if asked is None or asked.returncode == 0:
        return []
    return ["not compared with earlier commits, git says: " + " ".join(asked.stderr.split())[:200]]


def without_reason(committed: Rows, before: dict[str, Rows]) -> list[str]:
    """A line for every case whose committed count has risen while its reason stayed."""
    lines: dict[str, str] = {}
    for name, rows in before.items():
        for case, old in rows.items():
            new = committed.get(case)
            if new is None or case in lines or new.why != old.why or not has_risen(old.instructions, new.instructions):
                continue
            lines[case] = (
                f"{case}: the committed count rose from {old.instructions:,} in {name} to {new.instructions:,} and its"
                f" reason is the old one; state it: {WAY_OUT}"
            )
    return list(lines.values())
