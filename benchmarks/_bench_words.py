"""Numbers and names of `rdh bench` in words, for its tables and its pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Words = Callable[[float], str]
AXES = {
    "rows": "rows",
    "batch": "rows of the batch",
    "bank": "outputs in the bank",
    "bits": "bits of a code",
    "classes": "classes",
    "threads": "threads",
    "gallery": "codes in the gallery",
    "queries": "queries",
    "k": "neighbours kept of each query, k",
    "paper": "data set",
}
LIMITS = {  # ceilings that have a shorter name, or a clearer one
    "copy": "copy bandwidth",
    "copy of as many bytes": "copy bandwidth",
    "fma": "multiply-adds",
    "multiply-adds and elementwise": "multiply-adds",
    "scan": "xor + popcount alone",
    "xor + popcount, nothing kept": "xor + popcount alone",
}
_TIMES = (("s", 1e6), ("ms", 1e3), ("us", 1.0))
_SIZES = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def number(text: str) -> float | None:
    """What a cell says, None where it says nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _three_digits(value: float) -> str:
    """As 1,138 and 29.1 and 2.50."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def time(microseconds: float) -> str:
    """With three digits and a unit, as 1.33 ms."""
    for unit, size in _TIMES:
        if microseconds >= 0.9995 * size:  # 999.7 us are 1.00 ms
            return f"{_three_digits(microseconds / size)} {unit}"
    return f"{microseconds:.2g} us"


def memory(size: float) -> str:
    """As 5.1 MiB."""
    for unit, unit_size in _SIZES:
        if size >= 0.9995 * unit_size:
            value = size / unit_size
            return f"{value:,.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
    return f"{size:.0f} B" if size else "0"


def round_time(microseconds: float) -> str:
    """A tick of an axis, as 10 ms."""
    unit, size = next((pair for pair in _TIMES if microseconds >= 0.9995 * pair[1]), ("ns", 1e-3))
    return f"{microseconds / size:.3g} {unit}"


def round_memory(size: float) -> str:
    """A tick of an axis, as 16 MiB."""
    unit, unit_size = next((pair for pair in _SIZES if size >= pair[1]), ("B", 1))
    return f"{size / unit_size:.4g} {unit}"


def absence(status: str, reason: str) -> str:
    """Why there is no time, in two words or three."""
    if status == "missing":
        return "not installed" if "not installed" in reason or not reason else "not for this case"
    return {"left out": "left out, no time", "failed": "failed"}.get(status, status)


def times(ratio: float) -> str:
    """A multiple, as 2.10 x."""
    return f"{_three_digits(ratio)} x" if ratio >= 0.095 else f"{ratio:.2g} x"


def percent(share: float) -> str:
    """As 63 %."""
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.1g} %"


def count(value: float) -> str:
    """As 5,000, and round ones from a hundred thousand on as 100k, 2M."""
    if value != int(value):
        return f"{value:g}"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= max(size, 10**5) and value % (size // 10) == 0:
            return f"{value / size:g}{unit}"
    return f"{value:,.0f}"


def threads(found: Iterable[str]) -> str:
    """``1 thread``, or ``1 to 8 threads``; nothing where they are not said."""
    known = sorted({int(value) for value in map(number, found) if value is not None})
    if not known:
        return ""
    span = f"{known[0]}" if len(known) == 1 else f"{known[0]} to {known[-1]}"
    return f"{span} thread" if known == [1] else f"{span} threads"


def axis(sweep: str) -> str:
    """What grows in a sweep."""
    return AXES.get(sweep, sweep)


def limit(ceilings: Iterable[str]) -> str:
    """What ceilings are; several where they change along a sweep."""
    return ", ".join(dict.fromkeys(LIMITS.get(name, name) for name in ceilings if name)) or "of the device"


def fixed(cases: Iterable[str]) -> str:
    """What the cases of a sweep have in common: parts between commas, and of sizes N for what differs.

    >>> fixed(["128 x 1,000, 64 bits, 8 classes", "128 x 5,000, 64 bits, 9 classes"])
    '128 x N, 64 bits'
    """
    split = [case.split(", ") for case in dict.fromkeys(cases)]
    if not split:
        return ""
    if len({len(parts) for parts in split}) > 1:
        return ", ".join(part for part in split[0] if all(part in parts for parts in split))
    found = []
    for parts in zip(*split, strict=True):
        words = [part.split(" ") for part in parts]
        if len(set(parts)) == 1:
            found.append(parts[0])
        elif "x" in words[0] and len({len(each) for each in words}) == 1:
            found.append(" ".join(a[0] if len(set(a)) == 1 else "N" for a in zip(*words, strict=True)))
    return ", ".join(found)


def slug(*names: str) -> str:
    """A name of a file, or of a heading that is linked to."""
    short = (re.sub(r"[^a-z0-9_]+", "-", name.lower())[:60].strip("-") for name in names)
    return "-".join(filter(None, short)) or "unnamed"


def cell(text: str) -> str:
    """Text that stays text in a cell of a table."""
    return re.sub(r"([\\|`*<\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
