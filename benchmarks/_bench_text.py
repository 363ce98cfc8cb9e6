"""Results of `rdh bench` as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

Row = dict[str, str]
CASE = ("op", "sweep", "x", "threads")


def time_of(microseconds: str) -> str:
    """In the unit that reads best."""
    if not microseconds:
        return "-"
    value = float(microseconds)
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if value >= 0.9995 * size:  # as three digits are rounded
            return f"{value / size:.3g} {unit}" if value < 999.5 * size else f"{value / size:,.0f} {unit}"
    return f"{value:.3g} us"


def bytes_of(number: str) -> str:
    if not number:
        return "-"
    value = float(number)
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 999.5 * size else f"{value / size:.0f} {unit}"
    return f"{value:.0f} B"


def times_of(row: Row) -> str:
    """``4.42 x (4.31 .. 4.60)``."""
    if not row["times_rdh_ext"] or row["provider"] == "rdh_ext":
        return ""
    middle, low, high = (float(row[key]) for key in ("times_rdh_ext", "times_rdh_ext_p20", "times_rdh_ext_p80"))
    return f"{digits(middle)} x ({digits(low)} .. {digits(high)})"


def digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def share_of(row: Row) -> str:
    if not row["of_ceiling"] or row["kind"] == "ceiling":
        return ""
    percent = 100 * float(row["of_ceiling"])
    return f"{percent:,.0f} %" if percent >= 100 else f"{percent:.3g} %"


def lines_of_case(rows: list[Row]) -> list[str]:
    """One block: everybody, and below them who is not here."""
    first = rows[0]
    lines = [f"{first['op']}, {first['mode']}: {first['case']}"]
    head = f"  {'':36s} {'time':>9s}  {'against rdh_ext':<27s} {'of the limit':>12s} {'memory':>9s}"
    if any(row["status"] == "measured" for row in rows):
        lines.append(head)
    for row in rows:
        if row["status"] != "measured":
            continue
        name = f"limit: {row['ceiling']}" if row["kind"] == "ceiling" else row["provider"]
        memory = "" if row["kind"] == "ceiling" else bytes_of(row["extra_bytes"])
        numbers = f"{time_of(row['p50_us']):>9s}  {times_of(row):<27s} {share_of(row):>12s} {memory:>9s}"
        lines.append(f"  {name:36s} {numbers}".rstrip())
    absent = [f"{row['provider']}: {row['status']}, {row['reason']}" for row in rows if row["status"] != "measured"]
    return lines + [f"  {line}" for line in absent]


OBVIOUS = ("numpy argsort", "eager")  # how people write it who think of nothing but what it means


def summary(blocks: list[list[Row]]) -> list[str]:
    """One line per op that is measured at its default size: against the best peer and the obvious way."""
    lines = [f"  {'':20s} {'rdh_ext':>9s} {'of the limit':>13s}   {'the best other way':34s} the obvious way"]
    for rows in blocks:
        ours = next((row for row in rows if row["provider"] == "rdh_ext" and row["status"] == "measured"), None)
        peers = [row for row in rows if row["kind"] == "peer" and row["times_rdh_ext"] and not is_less(row)]
        if ours is None or ours["sweep"] != "default" or not peers:
            continue
        best = min(peers, key=lambda row: float(row["times_rdh_ext"]))
        obvious = next((row for name in OBVIOUS for row in peers if row["provider"] == name), None)
        words = [f"{digits(float(row['times_rdh_ext'])):>6s} x  {row['provider']}" for row in (best, obvious) if row]
        first = f"  {ours['op']:20s} {time_of(ours['p50_us']):>9s} {share_of(ours):>13s}  "
        lines.append(f"{first} {words[0]:34s} {words[1] if len(words) > 1 else ''}".rstrip())
    return lines if len(lines) > 1 else []


def is_less(row: Row) -> bool:
    """Whether a provider computes less than the op: it is beside the others for comparison."""
    return row["provider"].endswith("alone")


def text_of(rows: Iterable[Row]) -> str:
    """All cases, the summary, and at the end where it was measured."""
    rows = list(rows)
    if not rows:
        return "nothing was measured"
    cases = [list(same) for _, same in groupby(rows, key=lambda row: [row[key] for key in CASE])]
    blocks = ["\n".join(lines_of_case(same)) for same in cases]
    if lines := summary(cases):
        blocks.append("\n".join(["in short:", *lines]))
    last = rows[-1]
    threads = sorted({int(row["threads"]) for row in rows})
    where = f"{last['device']}, {last['level']}, {'/'.join(map(str, threads))} thread{'s' if threads != [1] else ''}"
    where += f", torch {last['torch']}, rdh_ext {last['rdh_ext']}"
    return "\n\n".join([*blocks, f"{where}; medians of rounds in which all take turns, (20th .. 80th percentile)"])
