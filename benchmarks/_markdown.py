"""Lines of the tables that report.py writes."""

from __future__ import annotations


def line(*cells: str) -> str:
    """One row."""
    return f"| {' | '.join(cells)} |"


def head(*cells: str) -> list[str]:
    """The first row and the rule below it: words on the left, numbers on the right."""
    return [line(*cells), "|---|" + "---:|" * (len(cells) - 1)]
