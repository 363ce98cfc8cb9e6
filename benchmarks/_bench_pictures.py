"""Pictures of what `rdh bench` wrote: every sweep on two log axes with the ceiling drawn in, and all ops on one page.

Every function returns PNG files by name, the same bytes for the same rows. ``levels`` shows instruction sets of rdh_ext
other than the machine's best too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import _bench_words as words
from _bench_choice import (
    Row,
    Rows,
    ceiling,
    ceiling_name,
    first_case,
    groups,
    is_ceiling,
    is_level,
    measured,
    ours,
    points,
    ratio,
    telling,
    time_of,
)
from _bench_draw import (
    COLOURS,
    LIMIT,
    MARKERS,
    OURS,
    BarLine,
    Curve,
    Panel,
    Plot,
    bars_figure,
    curves_figure,
    png,
)

GROWN = 4
"""A picture of memory is drawn where somebody's grows by that much over a sweep."""
LEAST = 4096.0
"""A page: less memory is drawn as that, for 0 has no place on a log axis."""
BARS = 11


def pictures(rows: Rows, *, levels: bool = False) -> dict[str, bytes]:
    """All of a file: ``overview.png``, and ``OP-MODE-SWEEP.png`` and ``..._memory.png`` for its sweeps."""
    found = {}
    if any(ours(own) for own in groups(rows, "op", "mode").values()):
        found["overview.png"] = overview(rows)
    for (op, mode, sweep), own in groups(rows, "op", "mode", "sweep").items():
        drawn = {"": sweep_picture(own, rows, levels=levels), "-memory": memory_picture(own, rows, levels=levels)}
        for kind, picture in drawn.items():
            if picture is not None:
                found[picture_name(rows, op, mode, sweep, kind)] = picture
    return found


def picture_name(rows: Rows, op: str, mode: str, sweep: str, kind: str = "") -> str:
    """The file of a sweep's picture; the mode is left out where the op has one."""
    modes = {row["mode"] for row in rows if row["op"] == op}
    return f"{words.slug(op, mode if len(modes) > 1 else '', sweep)}{kind}.png"


def footer(rows: Rows) -> str:
    """Device, level, threads, torch."""
    row = ours(rows) or rows[0]
    used = words.threads(each["threads"] for each in rows if each["kind"] == "rdh_ext")
    parts = (row["device"], row["level"], used, row["torch"] and f"torch {row['torch']}")
    return ", ".join(part for part in parts if part)


def styles(rows: Rows, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of providers, no two of them the same; those met often in a file have theirs in every picture.

    Of what has more providers than there are colours, the rare ones get what is free.
    """
    met = Counter(row["provider"] for row in measured(rows) if row["kind"] != "rdh_ext" and not is_ceiling(row))
    order = [name for name, _ in met.most_common()]
    order += [name for name in names if name not in order]
    chosen: dict[str, int] = {}
    for name in sorted(names, key=order.index):
        start = order.index(name) % len(COLOURS)
        free = [place % len(COLOURS) for place in range(start, start + len(COLOURS))]
        chosen[name] = next((place for place in free if place not in chosen.values()), start)
    return {name: (COLOURS[place], MARKERS[place]) for name, place in chosen.items()}


def sweep_picture(rows: Rows, file: Rows | None = None, *, levels: bool = False) -> bytes | None:
    """Time per call over what grows, of the providers that tell most; None with less than three sizes of ours."""
    names = telling(rows, levels=levels)
    at = points(measured(rows))
    if not names or sum(ours(here) is not None for here in at.values()) < 3:
        return None
    look = styles(file or rows, names[1:])
    curves = []
    for name in names:
        found = {x: row for x, here in at.items() for row in here if row["provider"] == name}
        if not found:
            continue
        last = max(found)
        bold = name == names[0]
        told = words.time(time_of(found[last])) if bold else _times(found[last], ours(at[last]))
        colour, marker = (OURS, "o") if bold else look[name]
        band = {
            x: [words.number(row[column]) or time_of(row) for column in ("p20_us", "p80_us")]
            for x, row in found.items()
        }
        curves.append(
            Curve(
                f"{name}\u2002{told}{_to(last, at)}",
                list(found),
                [time_of(row) for row in found.values()],
                [low for low, _ in band.values()],
                [high for _, high in band.values()],
                colour=colour,
                marker=marker,
                bold=bold,
            )
        )
    floor = {x: least for x, here in at.items() if (least := ceiling(here))}
    if floor:
        label = f"limit: {ceiling_name(rows)}"
        curves.append(Curve(label, list(floor), list(floor.values()), colour=LIMIT, dashed=True, shaded=True))
    return png(curves_figure(_plot(rows, "time of a call", words.round_time, 10), curves))


def memory_picture(rows: Rows, file: Rows | None = None, *, levels: bool = False) -> bytes | None:
    """What a call adds to the peak of memory; None where nobody's grows, or with less than three sizes."""
    sized = [row for row in measured(rows) if words.number(row["extra_bytes"]) is not None]
    at = points(sized)
    found: dict[str, dict[float, float]] = {}
    for name in telling(rows, levels=levels):
        mine = {x: row for x, here in at.items() for row in here if row["provider"] == name}
        found[name] = {x: words.number(row["extra_bytes"]) or 0.0 for x, row in mine.items()}
    found = {name: sizes for name, sizes in found.items() if sizes}
    drawn = {name: {x: max(size, LEAST) for x, size in sizes.items()} for name, sizes in found.items()}
    grows = any(max(sizes.values()) >= GROWN * min(sizes.values()) for sizes in drawn.values())
    if len(at) < 3 or not grows:
        return None
    own = next(iter(telling(rows)))
    look = styles(file or rows, [name for name in found if name != own])
    curves = []
    for name, sizes in drawn.items():
        last = max(sizes)
        colour, marker = (OURS, "o") if name == own else look[name]
        label = f"{name}\u2002{words.memory(found[name][last])}{_to(last, at)}"
        bold = name == own
        curves.append(Curve(label, list(sizes), list(sizes.values()), colour=colour, marker=marker, bold=bold))
    return png(curves_figure(_plot(rows, "memory that a call adds at its peak", _round_size, 2), curves))


def comparison_picture(files: dict[str, Rows]) -> bytes | None:
    """The rdh_ext of several files over one sweep, each with its ceiling.

    Files whose other sizes are not those of the first are left out. None where less than two have three sizes.
    """
    curves, limits = [], []
    same = None
    first: dict[float, Row] = {}
    for place, (name, rows) in enumerate(files.items()):
        at = points(measured(rows))
        own = {x: row for x, here in at.items() if (row := ours(here))}
        if len(own) < 3:
            continue
        sizes = words.fixed(row["case"] for row in measured(rows))
        if same not in (None, sizes):
            continue
        first, same = first or own, sizes
        last = max(own)
        other = first.get(last)
        told = words.time(time_of(own[last]))
        if own is not first and other:
            told += f", {words.times(time_of(own[last]) / time_of(other))}"
        colour, marker = (OURS, "o") if own is first else (COLOURS[(place - 1) % len(COLOURS)], MARKERS[place - 1])
        times = [time_of(row) for row in own.values()]
        curves.append(Curve(f"{name}\n{told}", list(own), times, colour=colour, marker=marker, bold=own is first))
        floor = {x: least for x, here in at.items() if (least := ceiling(here))}
        if floor:
            limits.append(Curve("", list(floor), list(floor.values()), colour=colour, dashed=True))
    if len(curves) < 2:
        return None
    rows = [row for own in files.values() for row in own]
    plot = _plot(
        rows, "time of a call of rdh_ext" + ("; dashed: the limit" if limits else ""), words.round_time, 10, ""
    )
    return png(curves_figure(plot, [*curves, *limits]))


def overview(rows: Rows) -> bytes:
    """Every op in its default case: times of all as multiples of rdh_ext's, and who is not there."""
    panels, shown = [], []
    for (op, mode), all_rows in groups(rows, "op", "mode").items():
        own_rows = first_case(all_rows)
        own = ours(own_rows)
        if own is None:
            continue
        title = f"{op}, {mode}" if mode else op
        subtitle = f"{own['case']}: {words.time(time_of(own))}"
        panels.append(Panel(title, subtitle, _bars(own_rows, own, rows)))
        shown += own_rows
    row = rows[0]
    version = f"rdh_ext {row['rdh_ext']}" if row["rdh_ext"] else "rdh_ext"
    subtitle = "time of a call as a multiple of rdh_ext's, log axis; longer is slower, left of the line faster"
    return png(bars_figure(f"{version}: everybody on one axis", subtitle, footer(shown), panels))


def _bars(rows: Rows, own: Row, file: Rows) -> list[BarLine]:
    here = [row for row in measured(rows) if row is not own and not is_level(row) and not is_ceiling(row)]
    here.sort(key=lambda row: ratio(row, own) or 0.0)
    if len(here) > BARS:
        kept = telling(rows, most=BARS + 1)
        here = [row for row in here if row["provider"] in kept]
    look = styles(file, [row["provider"] for row in here])
    lines = []
    if least := ceiling(rows):
        share = words.number(own["of_ceiling"]) or least / time_of(own)
        lines.append(BarLine(ceiling_name(rows), share, f"limit, {words.times(share)}", "#9a9a9a"))
    lines.append(BarLine(own["provider"], 1.0, words.time(time_of(own)), OURS))
    for row in here:
        value = ratio(row, own) or 1.0
        low, high = (words.number(row[f"times_rdh_ext_{part}"]) for part in ("p20", "p80"))
        colour = look[row["provider"]][0]
        lines.append(BarLine(row["provider"], value, words.times(value), colour, low, high))
    absent = [row for row in rows if row["status"] != "measured" and not is_level(row) and not is_ceiling(row)]
    return lines + [BarLine(row["provider"], None, words.absence(row["status"], row["reason"])) for row in absent]


def _plot(rows: Rows, what: str, y_words: words.Words, base: int, where: str | None = None) -> Plot:
    row = rows[0]
    sweep, same = words.axis(row["sweep"]), words.fixed(each["case"] for each in measured(rows))
    axis = f"{sweep}, N" if re.search(r"\bN\b", same) else sweep
    title = f"{row['op']}, {row['mode']}" if row["mode"] else row["op"]
    below = footer(rows) if where is None else where
    return Plot(title, same, axis, what, below, words.count, y_words, base)


def _times(row: Row, own: Row | None) -> str:
    value = ratio(row, own)
    return words.times(value) if value else words.time(time_of(row))


def _to(last: float, at: dict[float, Rows]) -> str:
    """Where a curve ends before the others."""
    return "" if last == max(at) else f"\nat {words.count(last)}"


def _round_size(size: float) -> str:
    return f"≤ {words.round_memory(size)}" if size <= LEAST else words.round_memory(size)
