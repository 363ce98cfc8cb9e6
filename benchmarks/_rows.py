"""What `rdh bench` writes: one row per op, case and provider, as CSV or JSON; units are in the names of the columns.

A case is an op at one size. Cases that differ in one thing alone make a sweep: ``sweep`` is its name, ``x`` the value
that changes. The case that an op has in no sweep has the sweep ``default``; what is shown in tables first.
"""

from __future__ import annotations

import csv
from pathlib import Path

COLUMNS = {
    "op": "name of the op, as in rdh_ext",
    "mode": "what of it: forward, forward+backward, ...",
    "sweep": "which sweep the case belongs to: default, or the name of what grows",
    "x": "the value of what grows; empty in the default case",
    "case": "the case in words",
    "provider": "who computes it",
    "kind": "rdh_ext, peer, or ceiling: what the device needs for bytes or operations alone",
    "status": "measured, missing (not installed, or not for this case), left out (no time), or failed",
    "reason": "of everything but measured, in a sentence",
    "p20_us": "time of a call: percentile 20 over the rounds",
    "p50_us": "median",
    "p80_us": "percentile 80",
    "rounds": "how many rounds, each provider once in each",
    "times_rdh_ext": "median over the rounds of this time / rdh_ext's time of the same round",
    "times_rdh_ext_p20": "percentile 20 of the same",
    "times_rdh_ext_p80": "percentile 80",
    "of_ceiling": "the ceiling's time / this time, 1 at the limit; median over the rounds",
    "extra_bytes": "by how much a call raises the peak of memory, its result included",
    "error": "largest relative error against float64, where results are numbers; 0 where they are equal",
    "ceiling": "what the ceiling is: copy, fma, scan, ...",
    "bytes": "what the op has to move at least",
    "flops": "float operations it has to do, a fused multiply-add being two",
    "pairs": "pairs of items it looks at",
    "threads": "of this provider",
    "version": "of the provider's library",
    "device": "",
    "level": "instruction set of rdh_ext on a CPU; cuda on a GPU",
    "torch": "",
    "rdh_ext": "",
    "command": "what was typed",
}


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a file, each with every column."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or COLUMNS  # a file without a line is no mistake
        rows = list(reader)
    if differ := sorted(set(names) ^ set(COLUMNS)):
        raise ValueError(f"{path}: no result of rdh bench: columns {', '.join(differ)}")
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path}: no result of rdh bench: a line has too few cells or too many; was the file cut off?")
    return rows
