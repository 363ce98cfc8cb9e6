"""The problem of the tests of ``rdh search``, and how they read its table."""

from __future__ import annotations

from code_sets import Problem, make_problem

BITS, QUERIES, ITEMS = 20, 24, 6_000
Words = list[str]


def problem(classes: int | None = None) -> Problem:
    return make_problem(QUERIES, ITEMS, BITS, classes)


def rows_of_table(text: str) -> list[list[str]]:
    """Cells of the lines between the sets and what follows."""
    return [line.split() for line in text.split("\n\n")[1].splitlines()[1:] if line[0] == " "]
