"""Writes what the compiler made of the CUDA kernels of a built library: ``_sass_facts.py LIBRARY ARCH OUT``.

One row per kernel: registers, stack and static shared memory in bytes, instructions, and how many there are of the
kinds that decide about speed. Ends with 1 where a kernel keeps something in local memory without the budget's leave.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "simt"))
import cubins  # noqa: E402
import gates  # noqa: E402
from _ncu import write  # noqa: E402
from cubins import CompileFailure, Kernel, Toolchain  # noqa: E402
from toolkit import ToolMissing  # noqa: E402

KINDS = {
    "HMMA": r"HMMA\b",
    "IMMA": r"IMMA\b",
    "FFMA": r"FFMA\b",
    "DFMA": r"DFMA\b",
    "POPC": r"U?POPC\b",
    "LOP3": r"U?LOP3\b",
    "MUFU": r"MUFU\b",
    "LDG": r"LDG\b",
    "LDG_128": r"LDG\.\S*\b128\b",
    "STG": r"STG\b",
    "STG_128": r"STG\.\S*\b128\b",
    "LDGSTS": r"LDGSTS\b",
    "LDS": r"LDS\b",
    "LDS_128": r"LDS\.\S*\b128\b",
    "LDSM": r"LDSM\b",
    "STS": r"STS\b",
    "SHFL": r"SHFL\b",
    "BAR": r"BAR\b",
    "RED": r"REDG?\b",
    "ATOM": r"ATOM[GS]?\b",
    "LDL": r"LDL\b",
    "STL": r"STL\b",
}
"""Column: beginning of an instruction. A column with a size counts some of those that the one without counts."""
COLUMNS = ("source", "kernel", "arch", *gates.COLUMNS, "instructions", *KINDS)


def source_of(names: str) -> str:
    """The file that kernels were compiled from, which their mangled names carry; "" where none is in an anonymous
    namespace."""
    found = re.search(r"_GLOBAL__N__[0-9a-f]+_\d+_(\w+?)_cu_[0-9a-f]{8}", names)
    return f"{found[1]}.cu" if found else ""


def kernels_of(library: Path, arch: int, tools: Toolchain) -> list[Kernel]:
    """All kernels in a library that is built for one architecture; raises CompileFailure where it is not."""
    kernels: list[Kernel] = []
    with tempfile.TemporaryDirectory() as folder:
        cubins.ask([tools.cuobjdump, "-xelf", "all", library.resolve()], cwd=folder)
        parts = sorted(Path(folder).iterdir())
        others = [part.name for part in parts if not re.search(rf"\bsm_{arch}[af]?\.cubin$", part.name)]
        if others or not parts:
            has = f"has {', '.join(others[:3])}" if others else "has no device code"
            raise CompileFailure(f"{library.name} is not built for sm_{arch} alone: it {has}")
        for part in parts:
            names = cubins.ask([tools.cuobjdump, "-res-usage", part])
            if " Function " in names:  # the linker's own part has none
                kernels += cubins.read_cubin(part, source_of(names), arch, tools)
    return sorted(kernels, key=lambda kernel: (kernel.source, kernel.name))


def row_of(kernel: Kernel) -> dict[str, str | int]:
    """A line of the table."""
    counts = {
        kind: sum(1 for line in kernel.instructions if re.match(pattern, line)) for kind, pattern in KINDS.items()
    }
    facts = {"source": kernel.source, "kernel": kernel.name, "arch": f"sm_{kernel.arch}"}
    return {**facts, **gates.usage_of(kernel), "instructions": len(kernel.instructions), **counts}


def main(words: Sequence[str]) -> int:
    library, arch, out = Path(words[0]), int(words[1]), Path(words[2])
    os.environ.pop("RDH_EXT_CUDA", None)
    try:
        kernels = kernels_of(library, arch, cubins.toolchain())
        spills = gates.local_memory(kernels, gates.read_budget())
    except (ToolMissing, CompileFailure, gates.BudgetFailure) as error:
        print(error)
        return 2
    write(out, COLUMNS, [row_of(kernel) for kernel in kernels])
    most = max(kernels, key=lambda kernel: kernel.registers)
    print("\n".join(spills), end="\n" if spills else "")
    print(f"SASS {len(kernels)} kernels, {len(spills)} spill, at most {most.registers} registers ({most.name})")
    return 1 if spills else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
