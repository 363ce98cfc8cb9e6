"""Instructions that three small calls of the CPU kernels take, against the committed counts.

    python benchmarks/instructions.py                  # a table: committed, now, change
    python benchmarks/instructions.py --check          # the same; fails where a count has risen by more than 10 %
    python benchmarks/instructions.py --state "why"    # commits to what is counted now, with the reason

Counted are amplified_tanh (forward and backward), pairwise_loss (with its gradient) and hamming_histogram by valgrind
--tool=callgrind, so that a count is the same on every run, however busy the machine is. What a cache or a branch costs
is not in it: a count says that a kernel does more, not that it takes longer. valgrind knows no AVX-512: all of it is
the level avx2.

benchmarks/results/instructions.csv has the counts, each with the reason for it. A rise of more than 10 % fails until it
is stated; --state writes the counts that have moved by more than 10 %, or do other work, and leaves the rest. What it
writes is part of the change. Where git has an earlier version of the file (HEAD, HEAD~1, the merge base with main), a
count that rose there keeps no old reason. A fall does not fail, and is better stated, too: else it may be lost again.

Counts of one major version of a compiler compare. Needs valgrind, g++ (or $CXX) and x86-64 with AVX2, 15 seconds of
one core, and 2 where nothing has changed; compiles on $MAX_JOBS cores, else on all. Exit status: 0 all is well, 1
something is to be stated, 2 something is missing. Elsewhere than on x86-64 it is not available, and says so with 0.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import _instruction_counts as counts
import _instruction_rows as rows

ROOT = Path(__file__).resolve().parents[1]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="fail where a count has risen by more than 10 %%")
    what.add_argument("--state", metavar="WHY", help="write the counts that have moved, with this reason")
    parser.add_argument(
        "--other-compiler", action="store_true", help="compare with counts of another major version of the compiler"
    )
    options = parser.parse_args(arguments)
    if options.state is not None:
        options.state = " ".join(options.state.split())
        if not options.state:
            parser.error("--state takes a reason: what made the count rise, in a sentence")
    return options


def count_all(compiler: counts.Compiler, valgrind: str, root: Path) -> rows.Rows:
    """What is counted now; without a reason."""
    program = counts.build(compiler, root)
    found = [counts.count(program, case) for case in counts.CASES]
    return {
        one.case: rows.Row(one.case, one.instructions, "", one.checksum, compiler.name, valgrind, one.level)
        for one in found
    }


def table(committed: rows.Rows, counted: rows.Rows) -> str:
    """For who looks at it."""
    lines = [f"{'case':<20}{'committed':>12}{'now':>12}{'change':>11}"]
    for case, now in counted.items():
        before = committed.get(case)
        number = f"{before.instructions:,}" if before else "-"
        change = f"{rows.percent(before.instructions, now.instructions):+.2f} %" if before else "-"
        lines.append(f"{case:<20}{number:>12}{now.instructions:>12,}{change:>11}")
    return "\n".join(lines)


def state(committed: rows.Rows, counted: rows.Rows, why: str, root: Path) -> int:
    """Writes the file; a reason that a case already has would not be seen as a new one."""
    fresh = rows.stated(committed, counted, why)
    moved = [case for case, now in counted.items() if case not in committed or rows.has_moved(committed[case], now)]
    repeated = [case for case in moved if case in committed and committed[case].why == why]
    if repeated:
        print(f"{', '.join(repeated)}: this reason is already there; say what is new", file=sys.stderr)
        return 1
    if fresh == committed:
        print(f"nothing is written: no count has moved by more than {rows.ALLOWED} %")
        return 0
    rows.write(fresh, root)
    print(f"{rows.FILE} is written, to be committed with the change; with the new reason: {', '.join(moved) or 'none'}")
    return 0


def report(notes: list[str], failures: list[str]) -> int:
    """One line each; the status they come to."""
    for line in notes:
        print(f"note: {line}")
    sys.stdout.flush()
    for line in failures:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if failures else 0


def run(options: argparse.Namespace, root: Path) -> int:
    committed = rows.read(root)
    valgrind, compiler = counts.find_valgrind(), counts.find_compiler()
    failures: list[str] = []
    notes: list[str] = []
    if options.check:
        failures += rows.without_reason(committed, rows.earlier(root))
        notes += rows.silent_git(root)
    other = rows.other_compiler(committed, compiler.name)
    if options.check and other and not options.other_compiler:
        failures.append(f"{other}; state them anew: {rows.WAY_OUT}; or compare anyway: --other-compiler")
        return report(notes, failures)
    counted = count_all(compiler, valgrind, root)
    level = next(iter(counted.values())).level
    print(f"{compiler.name}, valgrind {valgrind}, level {level}\n{table(committed, counted)}")
    if options.state is not None:
        return state(committed, counted, options.state, root)
    failed, said = rows.compare(committed, counted)
    notes += [other] if other else []
    notes += said
    return report(notes, failures + failed) if options.check else report(notes + failed, [])


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    options = parsed(arguments)
    if platform.machine() not in ("x86_64", "AMD64"):
        print(f"instruction counts are not available on {platform.machine()}: they are those of AVX2")
        return 0
    try:
        return run(options, root)
    except rows.BadFile as error:
        print(f"FAILED {error}", file=sys.stderr)
        return 1
    except counts.Unavailable as error:
        print(f"instructions.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
