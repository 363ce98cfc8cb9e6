"""What Nsight Compute says of every kernel: its command line, and its CSV as rows with plain names and numbers."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "simt"))
from cubins import short_name  # noqa: E402

METRICS = {
    "time_us": "gpu__time_duration.sum",
    "dram_bytes_per_second": "dram__bytes.sum.per_second",
    "of_peak_dram": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "of_peak_sm": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers": "launch__registers_per_thread",
    "shared": "launch__shared_mem_per_block",
    "blocks_by_registers": "launch__occupancy_limit_registers",
    "blocks_by_shared": "launch__occupancy_limit_shared_mem",
    "blocks_by_warps": "launch__occupancy_limit_warps",
    "blocks_by_blocks": "launch__occupancy_limit_blocks",
}
"""Column of the result: metric. Shares (of_..., occupancy) are of 1; blocks_by_...: so many fit on a multiprocessor."""
COLUMNS = ("kernel", "grid", "block", *METRICS)
SCALES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
Row = dict[str, str]


class NoProfile(Exception):
    """Why there is nothing to read, and the way out, in one sentence."""


def command(ncu: str, program: Sequence[str | Path]) -> list[str | Path]:
    """Profiles the kernels of rdh_ext that a program launches between start and stop of the profiler.

    Names come mangled: what demanglers make of them differs. The clocks stay as they are.
    """
    options = ["--csv", "--page", "raw", "--print-units", "base", "--metrics", ",".join(METRICS.values())]
    which = ["--profile-from-start", "off", "--target-processes", "all"]
    names = ["--kernel-name-base", "mangled", "--kernel-name", "regex:_ZN3rdh.*", "--print-kernel-base", "mangled"]
    return [ncu, *options, *which, *names, "--clock-control", "none", *program]


def complaint_of(output: str) -> str | None:
    """Why ncu has not profiled, by its own words; None where it complains of nothing."""
    if "ERR_NVGPUCTRPERM" in output:
        return (
            "ncu may not read the performance counters (ERR_NVGPUCTRPERM): run it as root, or load the driver with"
            " NVreg_RestrictProfilingToAdminUsers=0"
        )
    found = re.search(r"^==ERROR== *(.+)$", output, re.MULTILINE)
    if found:
        return f"ncu: {found[1].strip()[:200]}"
    return "ncu has profiled no kernel" if "No kernels were profiled" in output else None


def table_of(output: str) -> tuple[list[Row], Row]:
    """The rows of the raw page, and the unit of every column, among whatever else was printed.

    Raises:
        NoProfile: there is no table in it.
    """
    lines = output.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID",')), None)
    if start is None:
        raise NoProfile(complaint_of(output) or "ncu has printed no table")
    text = "\n".join(line for line in lines[start:] if line.startswith('"'))
    units, *rows = list(csv.DictReader(io.StringIO(text))) or [{}]
    if units.get("ID"):  # no line of units in this version
        return [units, *rows], {}
    if not rows:
        raise NoProfile(complaint_of(output) or "ncu has profiled no kernel")
    return rows, units


def number(text: str, unit: str, column: str) -> str:
    """A value in the unit of its column; "" where there is none."""
    try:
        value = float(text.replace(",", ""))
    except (AttributeError, ValueError):  # "n/a", or no such metric in this version
        return ""
    if unit == "%":
        return f"{value / 100:.4f}"
    scaled = re.fullmatch(r"([numKMGT]?)(s|second|sec|byte|B)(/.*)?", unit.removesuffix("s") if len(unit) > 2 else unit)
    if column == "time_us":
        return f"{value * (SCALES[scaled[1]] if scaled else 1e-9) * 1e6:.3f}"
    return f"{value * (SCALES[scaled[1]] if scaled else 1.0):.6g}"


def shape(text: str) -> str:
    """``132x1x1`` of ``(132, 1, 1)``."""
    return "x".join(re.findall(r"\d+", text))


def plain_name(name: str) -> str:
    """As in the budget: without namespaces and arguments, constants as C++ writes them."""
    text = name.replace("<unnamed>::", "")
    text = re.sub(r"\(bool\)([01])", lambda found: "true" if found[1] == "1" else "false", text)
    return short_name(re.sub(r"\((?:unsigned )?(?:int|long|char)\)(-?\d)", r"\1", text))


def read(output: str, demangle: Callable[[list[str]], list[str]]) -> list[Row]:
    """A row with :data:`COLUMNS` for each launch, in their order; ``demangle`` gets names and returns them plain.

    Raises:
        NoProfile: ncu refused, or profiled nothing.
    """
    rows, units = table_of(output)
    names = demangle([row["Kernel Name"] for row in rows])
    return [
        {
            "kernel": plain_name(name),
            "grid": shape(row.get("Grid Size") or ""),
            "block": shape(row.get("Block Size") or ""),
            **{
                column: number(row.get(metric) or "", units.get(metric) or "", column)
                for column, metric in METRICS.items()
            },
        }
        for name, row in zip(names, rows, strict=True)
    ]


def missing(rows: Iterable[Row], expected: Mapping[str, Sequence[str]]) -> list[str]:
    """Kernels that a call should have launched and nobody has seen, ``call: kernel``; a kernel that several calls
    launch has to be there as often. Expected is a beginning of the name, such as ``forward_kernel<float``."""
    seen = [row["kernel"] for row in rows]
    lost = []
    for call, kernels in expected.items():
        for kernel in kernels:
            place = next((i for i, name in enumerate(seen) if name.startswith(kernel)), None)
            if place is None:
                lost.append(f"{call}: {kernel.partition('<')[0]}")
            else:
                del seen[place]
    return lost


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """A CSV file, all of it or nothing."""
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
