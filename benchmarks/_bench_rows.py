"""From what processes have sampled to the rows of a result."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

from _problem import OURS, Case, Op
from _rows import COLUMNS

CEILING = "ceiling"
Run = dict[str, Any]  # what _case_run.py printed for a case


def cuts(values: Sequence[float]) -> tuple[float, float, float]:
    """Percentiles 20, 50 and 80."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    fifths = quantiles(values, n=5, method="inclusive")
    return fifths[0], median(values), fifths[3]


def by_round(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Quotients of the same rounds; where one side has a single sample, of that and the other's median."""
    if min(len(above), len(below)) == 1:
        return [median(above) / median(below)]
    return [a / b for a, b in zip(above, below, strict=False)]


def samples_of(run: Run, name: str) -> list[float]:
    values: list[float] = run["providers"].get(name, {}).get("samples", [])
    return values


def chosen(runs: list[Run], name: str, kind: str) -> Run:
    """Of a peer its best process, else the middle one."""
    having = sorted((run for run in runs if samples_of(run, name)), key=lambda run: median(samples_of(run, name)))
    return having[0 if kind == "peer" else (len(having) - 1) // 2]


def number(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else f"{value:{form}}"


def row_of_nothing(op: Op, case: Case, run: Run, facts: dict[str, str]) -> list[dict[str, str]]:
    """The one row of a case that came to nothing."""
    row = dict.fromkeys(COLUMNS, "") | facts
    row |= {"op": op.name, "mode": op.mode, "sweep": case.sweep, "x": case.x, "case": case.label}
    row |= {
        "provider": OURS,
        "kind": OURS,
        "status": run["status"],
        "reason": run["failed"],
        "threads": str(case.threads),
    }
    return [row]


def rows_of(op: Op, case: Case, runs: list[Run], facts: dict[str, str]) -> list[dict[str, str]]:
    """One per provider."""
    first = runs[0]
    rows = []
    for name, told in first["providers"].items():
        row = dict.fromkeys(COLUMNS, "") | facts
        row |= {
            "op": op.name,
            "mode": op.mode,
            "sweep": case.sweep,
            "x": case.x,
            "case": first["title"],
            "provider": name,
            "kind": "ceiling" if name == CEILING else told["kind"],
            "status": told["status"],
            "reason": told["reason"],
            "ceiling": first["ceiling"],
            **{key: str(value) for key, value in first["cost"].items()},
            "threads": str(case.threads),
            "version": told["version"],
        }
        if any(samples_of(run, name) for run in runs):
            run = chosen(runs, name, str(row["kind"]))
            row |= measured(run, name)
            row |= {"status": "measured", "reason": run["providers"][name]["reason"]}
        rows.append(row)
    return rows


def measured(run: Run, name: str) -> dict[str, str]:
    """The numbers of one provider."""
    values, told = samples_of(run, name), run["providers"][name]
    p20, p50, p80 = (1e6 * value for value in cuts(values))
    times = cuts(by_round(values, samples_of(run, OURS)))
    ceiling = samples_of(run, CEILING)
    share = median(by_round(ceiling, values)) if ceiling else None
    return {
        "p20_us": number(p20, ".6g"),
        "p50_us": number(p50, ".6g"),
        "p80_us": number(p80, ".6g"),
        "rounds": str(len(values)),
        "times_rdh_ext": number(times[1]),
        "times_rdh_ext_p20": number(times[0]),
        "times_rdh_ext_p80": number(times[2]),
        "of_ceiling": number(share),
        "extra_bytes": "" if told["extra_bytes"] is None else str(told["extra_bytes"]),
        "error": number(told["error"], ".2g"),
    }
