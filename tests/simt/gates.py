"""What the compiler made of the CUDA kernels, against what was agreed on; needs no GPU.

Every csrc/kernels/cuda/*_kernel.cu is compiled with the flags of the build, for four architectures, and must
  - compile without a warning and without spilling registers,
  - stay within csrc/kernels/cuda/budget.csv: registers, stack and static shared memory of every kernel instance,
  - use no local memory that the budget does not name,
  - contain the instructions that tests/simt/sass_rules.py asks for, and none that it forbids.

A change that needs more writes the budget anew (--write) and says why; the difference is there for everyone to see.
Shared memory counts, from sm_90 on and where there is any, 1024 bytes more that the system takes for itself.
Registers are compared only with the nvcc that the budget was made with: another one may allocate differently.
Exit code: 0 all gates hold, 1 one does not, 2 a tool is missing.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cubins
from cubins import ARCHS, CSRC, CompileFailure, Kernel
from sass_rules import RULES, Rule
from toolkit import ROOT, ToolMissing

BUDGET = CSRC / "kernels" / "cuda" / "budget.csv"
COLUMNS = ("registers", "stack", "shared")
WAY_OUT = "if that is meant: python tests/simt/gates.py --write, and say why in the change"
LOCAL = re.compile(r"(LDL|STL)\b")


class Key(NamedTuple):
    """Which line of the budget."""

    source: str
    kernel: str
    arch: int

    def __str__(self) -> str:
        return f"{self.source}: {self.kernel} on sm_{self.arch}"


class BudgetFailure(Exception):
    """The budget file is missing or cannot be read."""


@dataclass(frozen=True)
class Budget:
    """What every kernel instance may use, by column, and the nvcc that its registers were counted with."""

    nvcc: str
    lines: dict[Key, dict[str, int]] = field(default_factory=dict)

    def text(self) -> str:
        """The file, the same for the same budget on every machine."""
        stream = io.StringIO()
        stream.write(f"# nvcc {self.nvcc}; sizes in bytes; written by python tests/simt/gates.py --write\n")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow((*Key._fields, *COLUMNS))
        for key in sorted(self.lines):
            writer.writerow((key.source, key.kernel, f"sm_{key.arch}", *(self.lines[key][name] for name in COLUMNS)))
        return stream.getvalue()


def key_of(kernel: Kernel) -> Key:
    """The budget's line for a kernel."""
    return Key(kernel.source, kernel.name, kernel.arch)


def usage_of(kernel: Kernel) -> dict[str, int]:
    """What a kernel uses, by the columns of the budget."""
    return {"registers": kernel.registers, "stack": kernel.stack, "shared": kernel.shared}


def budget_of(kernels: Iterable[Kernel], nvcc: str) -> Budget:
    """The budget that these kernels just meet."""
    return Budget(nvcc, {key_of(kernel): usage_of(kernel) for kernel in kernels})


def read_budget(path: Path = BUDGET) -> Budget:
    """The committed budget; raises BudgetFailure with file and line where it cannot be understood."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise BudgetFailure(f"{path}: {error.strerror}; python tests/simt/gates.py --write makes it") from error
    head = re.match(r"# nvcc ([\d.]+);", lines[0]) if lines else None
    if head is None or lines[1:2] != [",".join((*Key._fields, *COLUMNS))]:
        raise BudgetFailure(f"{path}: does not begin with the release of nvcc and the names of the columns")
    budget = Budget(head[1])
    for number, row in enumerate(csv.reader(lines[2:]), start=3):
        try:
            source, kernel, arch, *numbers = row
            key = Key(source, kernel, int(arch.removeprefix("sm_")))
            usage = dict(zip(COLUMNS, map(int, numbers), strict=True))
        except ValueError as error:
            raise BudgetFailure(f"{path}:{number}: {','.join(row)}: {error}") from error
        if key in budget.lines:
            raise BudgetFailure(f"{path}:{number}: {key} is there twice")
        budget.lines[key] = usage
    return budget


def write_budget(budget: Budget, path: Path = BUDGET) -> None:
    """All of it or nothing: whoever reads the file meanwhile sees the old one."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        made.write_text(budget.text())
        made.replace(path)


def above_budget(kernels: Iterable[Kernel], budget: Budget, columns: Sequence[str] = COLUMNS) -> list[str]:
    """A line for each kernel and column that is above its budget; kernels that the budget does not know are not."""
    return [
        f"{key}: {column} {used[column]}, budget {allowed[column]}; {WAY_OUT}"
        for key, used, allowed in known(kernels, budget)
        for column in columns
        if used[column] > allowed[column]
    ]


def below_budget(kernels: Iterable[Kernel], budget: Budget, columns: Sequence[str] = COLUMNS) -> list[str]:
    """A line for each kernel and column that uses less than it may."""
    return [
        f"{key}: {column} {used[column]}, budget {allowed[column]}; could be tightened"
        for key, used, allowed in known(kernels, budget)
        for column in columns
        if used[column] < allowed[column]
    ]


def known(kernels: Iterable[Kernel], budget: Budget) -> list[tuple[Key, dict[str, int], dict[str, int]]]:
    """Key, use and allowance of the kernels that the budget has a line for."""
    pairs = ((key_of(kernel), usage_of(kernel)) for kernel in kernels)
    return [(key, used, budget.lines[key]) for key, used in pairs if key in budget.lines]


def unbudgeted(kernels: Iterable[Kernel], budget: Budget) -> list[str]:
    """A line for each kernel instance that the budget does not have."""
    keys = (key_of(kernel) for kernel in kernels)
    return [f"{key}: is not in the budget; {WAY_OUT}" for key in keys if key not in budget.lines]


def stale(kernels: Iterable[Kernel], lines: Iterable[Key]) -> list[str]:
    """A line for each of these keys of the budget for which there is no kernel."""
    there = {key_of(kernel) for kernel in kernels}
    return [f"{key}: is in the budget and not in the sources; {WAY_OUT}" for key in lines if key not in there]


def local_memory(kernels: Iterable[Kernel], budget: Budget | None = None) -> list[str]:
    """A line for each kernel that keeps something in local memory without the budget's leave."""
    failures = []
    for kernel in kernels:
        allowed = budget.lines.get(key_of(kernel)) if budget else None
        found = Counter(match[1] for match in map(LOCAL.match, kernel.instructions) if match)
        if (found or kernel.stack) and not (allowed and allowed["stack"] > 0):
            what = ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "no LDL or STL"
            failures.append(f"{key_of(kernel)}: local memory of {kernel.stack} bytes ({what}), allowed none; {WAY_OUT}")
    return failures


def broken_rules(kernels: Sequence[Kernel], rule: Rule) -> list[str]:
    """A line for each instruction that a rule misses or meets; for a rule that is about no kernel, too."""
    about = [kernel for kernel in kernels if kernel.arch in rule.archs and re.fullmatch(rule.kernel, kernel.name)]
    if not about:
        return [f"{rule.source}: no kernel matches {rule.kernel} of the rule: {rule.why}"]
    failures = []
    for kernel in about:
        failures += [
            f"{key_of(kernel)}: no instruction {pattern}: {rule.why}"
            for pattern in rule.must
            if not any(re.match(pattern, line) for line in kernel.instructions)
        ]
        for pattern in rule.never:
            found = [line for line in kernel.instructions if re.match(pattern, line)]
            if found:
                failures.append(f"{key_of(kernel)}: {len(found)} times {pattern}, as in {found[0]!r}: {rule.why}")
    return failures


def kernel_sources() -> list[Path]:
    """What has a budget."""
    return sorted((CSRC / "kernels" / "cuda").glob("*_kernel.cu"))


def ruled_sources() -> list[Path]:
    """What has rules: kernels, and sources of tests that are compiled only to look into them."""
    return sorted({ROOT / rule.source for rule in RULES})


def compile_all(sources: Iterable[Path]) -> tuple[list[Kernel], list[str]]:
    """The kernels of all sources on all architectures, and what the compiler complained about."""
    jobs = [(source, arch) for source in sources for arch in archs_of(source)]

    def job(source: Path, arch: int) -> tuple[Kernel, ...] | str:
        try:
            return cubins.kernels_of(source, arch)
        except CompileFailure as error:
            return f"{source.name} on sm_{arch}: does not compile strictly\n{error}"

    cubins.toolchain()  # what is missing is said once, here
    workers = int(os.environ.get("MAX_JOBS", "0")) or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(job, *zip(*jobs, strict=True)))
    kernels = [kernel for result in results if not isinstance(result, str) for kernel in result]
    return kernels, [result for result in results if isinstance(result, str)]


def archs_of(source: Path) -> tuple[int, ...]:
    """All of them for what is shipped; for a source of the tests those that its rules are about."""
    if source in kernel_sources():
        return ARCHS
    asked = {arch for rule in RULES if ROOT / rule.source == source for arch in rule.archs}
    return tuple(sorted(asked))


def registers_skipped(budget: Budget, nvcc: str) -> str | None:
    """Why registers are not compared, or None."""
    if budget.nvcc == nvcc:
        return None
    return f"registers are not compared: the budget was made with nvcc {budget.nvcc}, this is {nvcc}"


def check(path: Path) -> int:
    """All gates, on everything; prints what fails, what could be tightened, and what was not looked at."""
    budget = read_budget(path)
    kernels, refused = compile_all(dict.fromkeys([*kernel_sources(), *ruled_sources()]))
    names = {source.name for source in kernel_sources()}
    shipped = [kernel for kernel in kernels if kernel.source in names]
    skipped = registers_skipped(budget, cubins.toolchain().version)
    columns = COLUMNS[1:] if skipped else COLUMNS
    failures = [*refused, *unbudgeted(shipped, budget), *above_budget(shipped, budget, columns)]
    failures += local_memory(shipped, budget)
    if not refused:  # what did not compile is not stale
        failures += stale(shipped, budget.lines)
    for rule in RULES:
        failures += broken_rules([kernel for kernel in kernels if kernel.source == Path(rule.source).name], rule)
    for line in [*below_budget(shipped, budget, columns), *failures, *([skipped] if skipped else [])]:
        print(line)
    print(f"{len(kernels)} kernel instances, {len(RULES)} rules, {len(failures)} failures")
    return 1 if failures else 0


def show(pattern: str) -> int:
    """Prints what kernels use and which instructions they consist of."""
    kernels, failures = compile_all(dict.fromkeys([*kernel_sources(), *ruled_sources()]))
    for kernel in kernels:
        if re.search(pattern, kernel.name):
            print(f"{key_of(kernel)}: {', '.join(f'{name} {value}' for name, value in usage_of(kernel).items())}")
            counts = Counter(line.split()[0] for line in kernel.instructions)
            print("  " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    print("\n".join(failures), end="")
    return 1 if failures else 0


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write the budget that the kernels just meet")
    parser.add_argument("--show", metavar="REGEX", help="print resources and instructions of kernels with such names")
    parser.add_argument("--budget", type=Path, default=BUDGET, help="another budget file")
    options = parser.parse_args(words)
    try:
        if options.show is not None:
            return show(options.show)
        if not options.write:
            return check(options.budget)
        kernels, failures = compile_all(kernel_sources())
        if not failures:
            write_budget(budget_of(kernels, cubins.toolchain().version), options.budget)
        print("\n".join(failures) or f"{options.budget}: {len(kernels)} kernel instances")
        return 1 if failures else 0
    except ToolMissing as error:
        print(f"gates: {error}", file=sys.stderr)
        return 2
    except BudgetFailure as error:
        print(f"gates: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
