"""Two commits in turn: ``rdh bench --compare REV``. This tree, with what is not committed, against commit REV.

REV is unpacked and built below ``build/compare/``, once, with the settings of this build. Processes of both take turns
(A B, B A, A B, ...), each measures rdh_ext alone, and a ratio is that of two neighbours: it bears a machine that gets
slower while it runs. What is printed is the median of the ratios and all of their span. A difference is one
that at least five pairs agree on, of 3 % or more: the same code, built twice, was seen to differ by less.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _bench_rows import Run
from _bench_text import time_of
from _measure import HERE, machine, write_csv
from _problem import OURS, Case
from registry import OPS

import rdh_ext

if TYPE_CHECKING:
    from run import Options

ROOT = HERE.parent
BUILDS = ROOT / "build" / "compare"
PAIRS = 5  # of processes
LEAST = 0.03  # a smaller difference says nothing


def git(*words: str) -> bytes:
    from run import Stop

    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)
    except OSError as error:
        raise Stop(f"git does not start: {error.strerror}; --compare needs it") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Stop(f"git {words[0]}: {said[-1] if said else 'failed'}")
    return done.stdout


def commit_of(revision: str) -> str:
    """Its full name."""
    from run import Stop

    if not (ROOT / ".git").exists():
        raise Stop(
            f"--compare needs the git repository of rdh_ext, and {ROOT} is none; clone it, and install from there"
        )
    if revision.startswith("-"):
        raise Stop(f"{revision!r} is no commit")
    try:
        return git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
    except Stop as error:
        raise Stop(f"{revision!r} is no commit of this repository") from error


def built(commit: str, device: str) -> Path:
    """The tree of a commit, built in place; kept for the next time."""
    from run import Stop, say

    tree = BUILDS / f"{commit[:12]}-{device}"
    if (tree / "built").exists():
        return tree
    say(f"  building {commit[:12]} ...")
    tree.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
        archive.extractall(tree, filter="data")
    environment = {**os.environ, "RDH_EXT_CUDA": "1" if device == "cuda" else "0"}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Stop(f"{commit[:12]} does not build: {lines[-1] if lines else 'no output'}")
    (tree / "built").touch()
    return tree


def this_tree() -> Path:
    """Which has to be the one that is imported."""
    from run import Stop

    package = Path(rdh_ext.__file__).resolve().parent
    if package != ROOT / "rdh_ext":
        raise Stop(f"rdh_ext comes from {package}, and not from this tree; install it with pip install -e {ROOT}")
    return ROOT


def measured(cases: list[Case], plan: dict[str, Any], tree: Path) -> list[Run]:
    """What a process with the package of a tree has measured."""
    from run import results_of

    return list(results_of(cases, plan, package=tree))


def seconds_of(run: Run) -> float | None:
    """Median time of rdh_ext; None where it did not come to it."""
    return None if "failed" in run else median(run["providers"][OURS]["samples"])


def rows_of(cases: list[Case], pairs: list[tuple[list[Run], list[Run]]], facts: dict[str, str]) -> list[dict[str, str]]:
    """One row per case."""
    rows = []
    for index, case in enumerate(cases):
        both = [(seconds_of(old[index]), seconds_of(new[index])) for old, new in pairs]
        found = [(old, new) for old, new in both if old is not None and new is not None]
        row = {"op": case.op, "case": case.label, "status": "measured", "reason": ""}
        if found:
            ratios = sorted(new / old for old, new in found)
            row["case"] = next(new[index]["title"] for _, new in pairs if "failed" not in new[index])
            numbers = (median(o for o, _ in found) * 1e6, median(n for _, n in found) * 1e6)
            row |= {"before_us": f"{numbers[0]:.6g}", "now_us": f"{numbers[1]:.6g}"}
            row |= {"ratio": f"{median(ratios):.4g}", "lowest": f"{ratios[0]:.4g}", "highest": f"{ratios[-1]:.4g}"}
        else:
            reason = next(run["failed"] for pair in pairs for side in pair if "failed" in (run := side[index]))
            row |= {"status": "failed", "reason": reason}
            row |= dict.fromkeys(("before_us", "now_us", "ratio", "lowest", "highest"), "")
        rows.append({**row, "pairs": str(len(found)), **facts})
    return rows


def verdict(row: dict[str, str]) -> str:
    """In words; a difference is one that all pairs agree on."""
    if row["status"] != "measured":
        return f"failed: {row['reason']}"
    low, high = float(row["lowest"]), float(row["highest"])
    if int(row["pairs"]) < PAIRS:
        return "too few pairs to tell"
    if low <= 1 <= high or abs(float(row["ratio"]) - 1) < LEAST:
        return "no difference seen"
    return "slower" if low > 1 else "faster"


def text_of(rows: list[dict[str, str]], before: str) -> str:
    """A table for a terminal."""
    lines = [f"{'':20s} {before:>12s} {'this tree':>12s} {'ratio':>8s}   lowest .. highest"]
    for row in rows:
        if row["status"] == "measured":
            times = f"{time_of(row['before_us']):>12s} {time_of(row['now_us']):>12s} {float(row['ratio']):8.3f}"
            span = f"{float(row['lowest']):.3f} .. {float(row['highest']):.3f}"
            lines.append(f"{row['op']:20s} {times}   {span}   {verdict(row)}")
        else:
            lines.append(f"{row['op']:20s} {verdict(row)}")
    lines.append(f"{rows[0]['device']}, {rows[0]['level']}, torch {rows[0]['torch']}; ratio: this tree / {before}")
    return "\n".join(lines)


def compare(options: Options) -> int:
    """Measures, prints, writes."""
    from run import Stop, can_be_written, chosen_ops, say, warn_of_neighbours

    if options.out:
        if Path(options.out).exists():
            raise Stop(f"{options.out} is there already; --out names another")
        can_be_written(Path(options.out))
    names = chosen_ops(options)
    commit = commit_of(options.compare or "")
    here, there = this_tree(), built(commit, options.device)
    warn_of_neighbours()
    cases = [OPS[name].default_case(options.device, quick=options.quick) for name in names]
    plan = {**options.plan, "only": OURS, "memory": False}
    pairs: list[tuple[list[Run], list[Run]]] = []
    count = options.processes or PAIRS
    for number in range(count):
        say(f"  pair {number + 1} of {count}")
        trees = (there, here) if number % 2 == 0 else (here, there)
        runs = [measured(cases, {**plan, "seed": number}, tree) for tree in trees]
        pairs.append((runs[0], runs[1]) if number % 2 == 0 else (runs[1], runs[0]))
    facts = {key: machine()[key] for key in ("device", "level", "torch")}
    rows = rows_of(cases, pairs, {**facts, "before": commit, "command": options.command})
    if options.as_json:
        print(json.dumps({"command": options.command, "before": commit, "rows": rows}, indent=1))
    else:
        print(text_of(rows, commit[:12]))
    if options.out:
        write_csv(Path(options.out), rows)
        say(f"written: {options.out}")
    if failures := [row["op"] for row in rows if row["status"] != "measured"]:
        raise Stop(f"not measured: {', '.join(failures)}")
    return 0
