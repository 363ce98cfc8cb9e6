"""Tables of what `rdh bench` wrote, in Markdown: who takes how long, what grows how, the paper's sizes, and a summary.

Every function gets rows of one file, and returns "" where nothing was measured. ``levels`` shows instruction sets of
rdh_ext other than the machine's best too.
"""

from __future__ import annotations

import _bench_words as words
from _bench_choice import (
    Row,
    Rows,
    ceiling,
    ceiling_name,
    fastest,
    first_case,
    groups,
    is_ceiling,
    is_level,
    is_measured,
    is_rival,
    measured,
    obvious,
    ours,
    peers,
    ratio,
    time_of,
)
from _bench_words import cell
from _markdown import head, line


def default_table(rows: Rows, *, levels: bool = False) -> str:
    """The default case of an op: everybody's time, the limit, who is missing and why, and where it was measured.

    Where rdh_ext was not measured, why that is.
    """
    rows = first_case(rows)
    own = ours(rows)
    if own is None:
        return "\n".join(absent(rows))
    here = [row for row in measured(rows) if not is_ceiling(row) and (levels or not is_level(row) or row is own)]
    here.sort(key=lambda row: (row is not own, row["kind"] != "rdh_ext", time_of(row)))
    with_error = any(row["error"] for row in here)
    lines = head(
        cell(own["case"]), "time", "times rdh_ext (p20 .. p80)", "of the limit", "extra memory",
        *(["error"] if with_error else []), "version",
    )  # fmt: skip
    for row in here:
        cells = [words.time(time_of(row)), _spread(row, own), _share(row, rows), _memory(row)]
        cells += [cell(row["error"])] if with_error else []
        name = cell(row["provider"])
        lines.append(line(f"**{name}**" if row is own else name, *cells, cell(row["version"])))
    if least := ceiling(rows):
        empty = [""] * (2 + with_error)
        lines.append(line(f"*limit: {cell(ceiling_name(rows))}*", words.time(least), _multiple(least, own), "", *empty))
    remarks = [*absent(rows), *_parts_of(here)]
    return "\n".join([*lines, "", *remarks, *([""] if remarks else []), where(rows)])


def absent(rows: Rows) -> list[str]:
    """A line for everybody who was not measured, who it is and why; none where there is nobody."""
    found = []
    for row in rows:
        if is_measured(row) or row["status"] == "measured":
            continue
        name = f"limit, {ceiling_name(rows)}" if is_ceiling(row) else row["provider"]
        verb = "" if row["status"] == "missing" and row["reason"] else row["status"]
        said = ", ".join(cell(part) for part in (verb, row["reason"]) if part)
        found.append(f"- {said}" if row["reason"].startswith(f"{name} ") and not verb else f"- {cell(name)}: {said}")
    return list(dict.fromkeys(found))


def _parts_of(rows: Rows) -> list[str]:
    parts = [cell(row["provider"]) for row in rows if row["kind"] == "peer" and not is_rival(row)]
    return [f"- {', '.join(parts)}: a part of the work, no rival"] if parts else []


def where(rows: Rows) -> str:
    """Device, level, threads and torch; what was typed."""
    row = ours(rows) or rows[0]
    used = words.threads(each["threads"] for each in rows if each["kind"] == "rdh_ext")
    parts = [cell(row["device"]), cell(row["level"]), used, row["torch"] and f"torch {cell(row['torch'])}"]
    rounds = f"; medians of {row['rounds']} rounds, everybody once in each" if row["rounds"] else ""
    if any((words.number(each["rounds"]) or 0) < (words.number(row["rounds"]) or 0) for each in measured(rows)):
        rounds += ", where that is slow in fewer"
    command = f": `{' '.join(row['command'].replace('`', ' ').split())}`" if row["command"] else ""
    return f"{', '.join(part for part in parts if part)}{rounds}{command}."


def sweep_table(rows: Rows) -> str:
    """A sweep in three lines or four: time, share of the limit and memory of rdh_ext, and the fastest peer.

    Below it who was left out or failed, at which sizes; who is not installed is said at the default case.
    """
    by_x = groups(rows, "x")
    if not any(ours(here) for here in by_x.values()):
        return "\n".join(absent(rows)) if any(row["status"] != "missing" for row in rows) else ""
    first = rows[0]
    values = [words.number(x) for (x,) in by_x]
    names = [cell(x) if value is None else words.count(value) for (x,), value in zip(by_x, values, strict=True)]
    columns = list(by_x.values())
    if None not in values:  # what was left out may come later in the file
        order = sorted(range(len(values)), key=lambda i: values[i] or 0.0)
        names, columns = [names[i] for i in order], [columns[i] for i in order]
    same = words.fixed(row["case"] for row in measured(rows))
    lines = head(f"{cell(words.axis(first['sweep']))}{f' ({cell(same)})' if same else ''}", *names)
    own = [ours(here) for here in columns]
    lines.append(line("**rdh_ext**", *(words.time(time_of(row)) if row else "" for row in own)))
    shares = [_share(row, here) if row else "" for row, here in zip(own, columns, strict=True)]
    if any(shares):
        lines.append(line(f"of the limit, {cell(ceiling_name(rows))}", *shares))
    sizes = [_memory(row) if row else "" for row in own]
    if any(sizes):
        lines.append(line("extra memory", *sizes))
    rivals = [_rival(fastest(here), row) for row, here in zip(own, columns, strict=True)]
    if any(rivals):
        lines.append(line("fastest peer", *rivals))
    without = _without(dict(zip(names, columns, strict=True)))
    return "\n".join([*lines, *([""] if without else []), *without])


def _without(columns: dict[str, Rows]) -> list[str]:
    """A line for everybody who has no time in some columns, with the reason of the first."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name, rows in columns.items():
        for row in rows:
            if row["status"] not in ("measured", "missing") and not is_ceiling(row):
                found.setdefault((row["provider"], row["status"]), {})[name] = row["reason"]
    lines = []
    for (provider, status), reasons in found.items():
        said = f"- {cell(provider)}: {cell(status)} at {', '.join(reasons)}"
        reason = next(iter(reasons.values()))
        lines.append(f"{said}: {cell(reason)}" if reason else said)
    return lines


def paper_table(rows: Rows) -> str:
    """The data sets of the paper: rdh_ext, the way of public code, and everybody else."""
    lines = head("op", "data set", "size", "**rdh_ext**", "the obvious way", "others")
    lines[1] = "|---|---|---|---:|---:|---|"
    empty = len(lines)
    for (op, _, _, _), here in groups(
        [row for row in rows if row["sweep"] == "paper"], "op", "mode", "x", "case"
    ).items():
        own = ours(here)
        if own is None:
            continue
        plain = obvious(here)
        others = ", ".join(_rival(row, own) for row in peers(here) if row is not plain)
        told = f"{cell(plain['provider'])}: {words.time(time_of(plain))}, {_multiple_of(plain, own)}" if plain else ""
        size = cell(own["case"])
        lines.append(line(_op(op, ""), cell(own["x"]), size, words.time(time_of(own)), told, others))
    return "\n".join(lines) if len(lines) > empty else ""


def summary_table(rows: Rows) -> str:
    """One line per op, its default case: time, share of the limit, against the best peer and the obvious way."""
    lines = head("op", "size", "**rdh_ext**", "of the limit", "the best of the others", "the obvious way")
    lines[1] = "|---|---|---:|---:|---:|---:|"
    empty = len(lines)
    for (op,), of_op in groups(rows, "op").items():
        here = first_case(of_op)
        own = ours(here)
        if own is None:
            continue
        share = f"{_share(own, here)}, {cell(ceiling_name(here))}" if _share(own, here) else ""
        others = [_rival(row, own) for row in (fastest(here), obvious(here))]
        lines.append(line(_op(op, own["mode"]), cell(own["case"]), words.time(time_of(own)), share, *others))
    return "\n".join(lines) if len(lines) > empty else ""


def files_table(files: dict[str, Rows]) -> str:
    """The default cases of several files beside one another: rdh_ext's time, and its multiple of the first file's.

    Sizes are compared only where they are the same.
    """
    cases: dict[tuple[str, str, str], dict[str, Row]] = {}
    for name, rows in files.items():
        for (op, mode), of_op in groups(rows, "op", "mode").items():
            own = ours(first_case(of_op))
            if own is not None:
                cases.setdefault((op, mode, own["case"]), {})[name] = own
    lines = head("op", "size", *map(cell, files))
    lines[1] = "|---|---|" + "---:|" * len(files)
    for (op, mode, case), found in cases.items():
        first = found.get(next(iter(files)))
        cells = []
        for name in files:
            row = found.get(name)
            told = words.time(time_of(row)) if row else ""
            compared = row is not None and first is not None and row is not first
            cells.append(
                f"{told}, {words.times(time_of(row) / time_of(first))}" if compared and row and first else told
            )
        lines.append(line(_op(op, mode), cell(case), *cells))
    return "\n".join(lines) if cases else ""


def _op(op: str, mode: str) -> str:
    return f"`{op.replace('`', ' ')}`, {cell(mode)}" if mode else f"`{op.replace('`', ' ')}`"


def _spread(row: Row, own: Row) -> str:
    if row is own:
        return "1"
    low, high = (words.number(row[f"times_rdh_ext_{part}"]) for part in ("p20", "p80"))
    told = _multiple_of(row, own)
    return told if low is None or high is None else f"{told} ({_plain(low)} .. {_plain(high)})"


def _plain(value: float) -> str:
    return words.times(value).removesuffix(" x")


def _multiple(time: float, own: Row) -> str:
    return words.times(time / time_of(own))


def _multiple_of(row: Row, own: Row | None) -> str:
    value = ratio(row, own)
    return "" if value is None else words.times(value)


def _rival(row: Row | None, own: Row | None) -> str:
    """Name and multiple."""
    return "" if row is None else f"{cell(row['provider'])} {_multiple_of(row, own) or words.time(time_of(row))}"


def _share(row: Row, rows: Rows) -> str:
    """Of the limit."""
    share, least = words.number(row["of_ceiling"]), ceiling(rows)
    if not share and least:
        share = least / time_of(row)
    return "" if share is None else words.percent(share)


def _memory(row: Row) -> str:
    size = words.number(row["extra_bytes"])
    return "" if size is None else words.memory(size)
