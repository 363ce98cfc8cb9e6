"""Of the rows of `rdh bench`: which belong together, which is ours, and which peers tell most."""

from __future__ import annotations

from _bench_words import limit, number

Row = dict[str, str]
Rows = list[Row]
LEVELS = ("scalar", "avx2", "avx512", "avx512vpopcntdq", "neon", "sve")
OBVIOUS = ("public code", "numpy argsort", "eager", "numpy", "torchmetrics", "scikit-learn")
"""Providers that do what one writes first, or finds in public code; the first that is there is it."""
KNOWN = ("torch.compile", "FAISS", "torchmetrics", "scikit-learn", "KeOps", "cuVS", "eager", "numpy")
"""Beginnings of the names of peers that everybody knows; of each the fastest is shown before another form of one."""
MOST = 7
"""Lines in a picture."""


def groups(rows: Rows, *columns: str) -> dict[tuple[str, ...], Rows]:
    """Rows by the values of columns, in the order in which they come."""
    found: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found


def is_measured(row: Row) -> bool:
    """It has a time."""
    return row["status"] == "measured" and (number(row["p50_us"]) or 0) > 0


def measured(rows: Rows) -> Rows:
    """Those with a time."""
    return [row for row in rows if is_measured(row)]


def is_level(row: Row) -> bool:
    """It is rdh_ext on another instruction set than the machine's best."""
    return row["kind"] == "rdh_ext" and row["provider"] != "rdh_ext" and row["provider"].split()[-1] in LEVELS


def first_case(rows: Rows) -> Rows:
    """The rows of the first case of the default sweep, or of the first sweep where there is none."""
    chosen = [row for row in rows if row["sweep"] == "default"] or rows
    columns = ("mode", "sweep", "x", "case")
    return [row for row in chosen if all(row[column] == chosen[0][column] for column in columns)]


def time_of(row: Row) -> float:
    """The median in microseconds."""
    return number(row["p50_us"]) or 0.0


def ours(rows: Rows) -> Row | None:
    """The row of rdh_ext at one case, on its best level."""
    own = [row for row in measured(rows) if row["kind"] == "rdh_ext"]
    named = [row for row in own if row["provider"] == "rdh_ext"]
    return min(named or own, key=time_of, default=None)


def ratio(row: Row, own: Row | None) -> float | None:
    """Its time as a multiple of ours: the median over the rounds, else of the medians."""
    told = number(row["times_rdh_ext"])
    return told if told or own is None else time_of(row) / time_of(own)


def is_ceiling(row: Row) -> bool:
    """It is what the device needs at least, or why that is not known."""
    return "ceiling" in (row["kind"], row["provider"])


def is_rival(row: Row) -> bool:
    """It computes the same; ``torch.tanh alone`` says what a part of it costs."""
    return row["kind"] == "peer" and not is_ceiling(row) and not row["provider"].endswith(" alone")


def peers(rows: Rows) -> Rows:
    """Measured peers that compute the same, the fastest first."""
    return sorted((row for row in measured(rows) if is_rival(row)), key=time_of)


def fastest(rows: Rows) -> Row | None:
    """The peer that comes next to us, or before."""
    return next(iter(peers(rows)), None)


def obvious(rows: Rows) -> Row | None:
    """The peer that does what one writes first."""
    found = {row["provider"]: row for row in peers(rows)}
    return next((found[name] for name in OBVIOUS if name in found), None)


def ceiling(rows: Rows) -> float | None:
    """Microseconds that the device needs at least at one case: the highest ceiling, or what our share of it tells."""
    told = [time_of(row) for row in measured(rows) if is_ceiling(row)]
    own = ours(rows)
    share = number(own["of_ceiling"]) if own else None
    if not told and own and share:
        told = [time_of(own) * share]
    return max(told, default=None)


def ceiling_name(rows: Rows) -> str:
    """What the ceiling is, in words."""
    return limit([row["ceiling"] for row in rows if is_ceiling(row)] or [row["ceiling"] for row in rows])


def points(rows: Rows) -> dict[float, Rows]:
    """The rows of a sweep by the number that grows; those where it is no number above 0 are left out."""
    by_value = ((number(row["x"]), row) for row in rows)
    found: dict[float, Rows] = {}
    for x, row in sorted(((x, row) for x, row in by_value if x is not None and x > 0), key=lambda pair: pair[0]):
        found.setdefault(x, []).append(row)
    return found


def telling(rows: Rows, *, levels: bool = False, most: int = MOST) -> list[str]:
    """Names of the providers that tell most in the rows of a sweep: ours first, then peers; no ceilings.

    One line of ``most`` is kept for the ceiling. At the largest size where peers were measured the fastest comes first,
    then the obvious one, another form of rdh_ext, those that everybody knows, and the others as they are fast;
    ``levels`` adds those of rdh_ext.
    """
    usable = measured(rows)
    own = ours(usable)
    names = [own["provider"]] if own else []
    if levels:
        names += [row["provider"] for row in usable if is_level(row)]
    at = points(usable)
    last = next((at[x] for x in sorted(at, reverse=True) if peers(at[x])), usable)
    names += [row["provider"] for row in (fastest(last), obvious(usable)) if row]
    forms = [row["provider"] for row in usable if row["kind"] == "rdh_ext" and not is_level(row)]
    names += [name for name in forms if name not in names][:1]
    every = [*peers(last), *(row for row in peers(usable) if row["provider"] not in names)]
    known = [next((row["provider"] for row in every if row["provider"].startswith(name)), "") for name in KNOWN]
    names += [name for name in known if name] + [row["provider"] for row in every]
    names += [row["provider"] for row in usable if row["kind"] == "peer" and not is_ceiling(row)] + forms
    has_ceiling = any(is_ceiling(row) or row["of_ceiling"] for row in usable)
    return list(dict.fromkeys(names))[: most - has_ceiling]
