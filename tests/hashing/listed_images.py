"""Ten images and three lists of them, for tests of what reads lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_layouts import ROLES, files_of, grey, write_list

from rdh_ext.hashing.data import RetrievalData

NAMES = [f"img/{letter} {number}.png" for letter in "ab" for number in range(5)]
"""Of ten images, with a space in each."""
IDS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
LISTS = {"query": [9, 0], "train": [3, 1, 2], "gallery": [8, 1, 2, 3, 4, 5, 6, 7]}


def one_hot(place: int) -> str:
    return " ".join("1" if IDS[place] == each else "0" for each in range(3))


def many_hot(place: int) -> str:
    return f"{one_hot(place)} {int(place % 2 == 0)}"


def write_lists(folder: Path, prefix: str = "", labels: Any = many_hot, **lists: list[int]) -> None:
    for role, places in {**LISTS, **lists}.items():
        write_list(folder / f"{role}.txt", [f"{prefix}{NAMES[place]} {labels(place)}" for place in places])


def check(data: RetrievalData, root: Path) -> None:
    """Files in the order of the lists, and pixels of these files."""
    for role in ROLES:
        part = getattr(data, role)
        assert files_of(part, root) == [NAMES[place] for place in LISTS[role]]
        assert [grey(part, place) for place in range(len(part))] == LISTS[role]
