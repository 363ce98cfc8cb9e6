"""Text files that list images and their labels, in the forms in which they go round.

==========================================================  ==============================================
``train.txt``, ``x_Train.txt``                              ``<path> <class id>`` or ``<path> 0 1 0 ...``
``train_img.txt`` + ``train_label_onehot.txt``              ``<path>``, and ``0 1 0 ...`` in the same line
``train_img.txt`` + ``train_label.txt``                     ``<path>``, and ``<class id>`` in the same line
``img_tc10.txt`` + ``targets_onehot_tc10.txt``              the same, of images that have no roles yet
==========================================================  ==============================================

Roles are called train, query or test, and gallery, database or db, in capital letters or not. Paths may hold spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...retrieval.sets.arrays import open_file

ROLE_WORDS = {"train": ("train",), "query": ("query", "test"), "gallery": ("gallery", "database", "db")}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
_LABEL_STEMS = ("label_onehot", "labels_onehot", "targets_onehot", "onehot", "label", "labels", "targets")


@dataclass(frozen=True)
class ListFile:
    """The content of a list."""

    name: str
    """The file, for errors."""
    paths: list[str]
    labels: Tensor
    """Class ids int64 ``[n]``, or multi-hot bool ``[n, C]``."""
    lines: list[int]
    """Where the items stand in the file, from 1 on."""


@dataclass(frozen=True)
class ListName:
    """Where a list is: one file, or one of paths and one of labels."""

    images: Path
    labels: Path | None = None


def find_lists(folder: Path, given: dict[str, str | None]) -> dict[str, ListName]:
    """The lists of a folder, by role: train, query and gallery, the latter two alone, or pool alone.

    Args:
        folder: with the lists.
        given: by role, those that the user names; the rest is looked for.

    Raises:
        ValueError: a list is missing, or several could be meant.
        OSError: the folder or a named list is not there.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; name the one with the lists: lists=...")
    files = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".txt" and path.is_file())
    named = {role: name for role, name in given.items() if name is not None}
    if "pool" in named and len(named) > 1:
        raise ValueError(f"pool={named['pool']!r} is split into all roles; leave out train, query and gallery")
    found = {role: _named(folder, role, name, files) for role, name in named.items()}
    if "pool" in found:
        return found
    for role, words in ROLE_WORDS.items():
        if role not in found and (names := _of_role(words, files)):
            found[role] = _named(folder, role, _only(folder, role, names), files)
    if not found:
        pools = [name for name in files if re.fullmatch(r"img(?:_\w+)?\.txt", name, re.IGNORECASE)]
        if pools:
            return {"pool": _named(folder, "pool", _only(folder, "pool", pools), files)}
    missing = [role for role in ROLE_WORDS if role not in found]
    if missing and missing != ["train"]:
        raise ValueError(_no_list(folder, missing[0], files, bool(found)))
    return found


def read_list(where: ListName) -> ListFile:
    """Reads a list.

    Raises:
        ValueError: a line that is no path with labels; the message has file and line.
        OSError: the file cannot be read.
    """
    if where.labels is None:
        return _read_one(where.images)
    paths, lines = [], []
    for number, line in _lines(where.images, gaps=False):
        paths.append(line.replace("\\", "/"))
        lines.append(number)
    labels = _Labels(where.labels)
    for number, line in _lines(where.labels, gaps=False):
        labels.add(number, line.split())
    _not_empty(where.images, paths)
    if len(labels.rows) != len(paths):
        raise ValueError(
            f"{where.labels}: {len(labels.rows):,} lines of labels for {len(paths):,} paths in {where.images}; "
            "they belong together line by line: bring back the two that do"
        )
    return ListFile(str(where.images), paths, labels.tensor(), lines)


def _read_one(file: Path) -> ListFile:
    labels, paths = _Labels(file), []
    for number, line in _lines(file, gaps=True):
        columns = labels.columns or _columns(line)
        path, *values = line.rsplit(maxsplit=columns)
        *_, last = path.rsplit(maxsplit=1)
        if columns == 0 or len(values) != columns or (last != path and _NUMBER.fullmatch(last)):
            labels.refuse(number, _columns(line))
        labels.add(number, values)
        paths.append(path.replace("\\", "/"))
    _not_empty(file, paths)
    return ListFile(str(file), paths, labels.tensor(), labels.lines)


def _columns(line: str) -> int:
    """How many numbers stand behind the path."""
    words = line.split()
    count = 0
    while count < len(words) - 1 and _NUMBER.fullmatch(words[-1 - count]):
        count += 1
    return count


class _Labels:
    """Rows of labels, which must have equally many columns."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.columns = 0
        self.lines: list[int] = []
        self.rows: list[str] = []
        """Of each row its 0s and 1s, or its class id."""

    def refuse(self, number: int, columns: int) -> None:
        """Raises the error of a line with other columns than the first, or none."""
        if columns == 0:
            beside = "".join(f", or put {name} beside it" for name in _label_names(self.file)[:1])
            raise ValueError(
                f"{self.file}, line {number}: no label behind the path; write '<path> 3' or '<path> 0 1 0'{beside}"
            )
        raise ValueError(
            f"{self.file}, line {number}: {columns} labels, and line {self.lines[0]} has {self.columns}; all lines "
            "must have one class id, or 0 or 1 for each class"
        )

    def add(self, number: int, values: list[str]) -> None:
        """One row."""
        if not self.columns:
            self.columns = len(values)
        elif len(values) != self.columns:
            self.refuse(number, len(values))
        text = values[0] if self.columns == 1 else "".join(values)
        if self.columns > 1 and len(text) != self.columns:
            text = "".join(self._bit(number, value) for value in values)
        self.lines.append(number)
        self.rows.append(text)

    def _bit(self, number: int, value: str) -> str:
        is_number = _NUMBER.fullmatch(value) is not None
        if not is_number or float(value) not in (0.0, 1.0):
            raise ValueError(
                f"{self.file}, line {number}: {value} where 0 or 1 must be; {self.columns} labels a line, one a class"
            )
        return str(int(float(value)))

    def tensor(self) -> Tensor:
        """Class ids, or multi-hot rows."""
        if self.columns == 1:
            return torch.tensor([self._id(row) for row in range(len(self.rows))], dtype=torch.int64)
        content = np.frombuffer("".join(self.rows).encode("ascii", "replace"), np.uint8)
        rows = content.reshape(len(self.rows), self.columns)
        wrong = (rows != ord("0")) & (rows != ord("1"))
        if wrong.any():
            row = int(wrong.any(axis=1).argmax())
            self._bit(self.lines[row], self.rows[row][int(wrong[row].argmax())])
        return torch.from_numpy(rows == ord("1"))

    def _id(self, row: int) -> int:
        value = self.rows[row]
        if value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
        number = float(value) if _NUMBER.fullmatch(value) else -1.0
        if not 0 <= number < 2**53 or number != int(number):
            raise ValueError(
                f"{self.file}, line {self.lines[row]}: {value} where a class id must be; a whole number from 0 on"
            )
        return int(number)


def _lines(file: Path, *, gaps: bool) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1 on; names in any encoding come out as they are."""
    with open_file(file) as opened:
        content = opened.read()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise ValueError(f"{file}: no text in UTF-8; save it as UTF-8")
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    empty = 0
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if stripped := line.strip():
            if empty and not gaps:
                raise ValueError(f"{file}, line {empty}: empty; paths and labels go line by line: fill or delete it")
            yield number, stripped
        else:
            empty = empty or number


def _not_empty(file: Path, paths: list[str]) -> None:
    if not paths:
        raise ValueError(f"{file}: empty; write a line for each image: '<path> 3' or '<path> 0 1 0'")


def _of_role(words: tuple[str, ...], files: list[str]) -> list[str]:
    pattern = re.compile(rf"(?:.*[_-])?(?:{'|'.join(words)})(?:_img)?\.txt", re.IGNORECASE)
    return [name for name in files if pattern.fullmatch(name)]


def _only(folder: Path, role: str, names: list[str]) -> str:
    if len(names) > 1:
        raise ValueError(
            f"{folder}: {' and '.join(names)} could be the list for {role}; say which: {role}={names[0]!r}"
        )
    return names[0]


def _named(folder: Path, role: str, name: str, files: list[str]) -> ListName:
    """The list of that name, with the labels beside it where they are in a file of their own."""
    images = folder / Path(name).expanduser()
    if not images.is_file():
        raise FileNotFoundError(f"{images}: no such list; {role}=... must be one of {', '.join(files) or 'none'}")
    wanted = _label_names(images)
    beside = {each.name.lower(): each for each in images.parent.iterdir() if each.suffix.lower() == ".txt"}
    return ListName(images, next((beside[each] for each in wanted if each in beside), None))


def _label_names(images: Path) -> list[str]:
    """What the file with the labels of a list of paths may be called, in small letters."""
    parts = re.fullmatch(r"(.*_)?img(_\w+)?\.txt", images.name.lower())
    if parts is None:
        return []
    stem, tail = parts[1] or "", parts[2] or ""
    return [f"{stem}{each}{tail}.txt" for each in _LABEL_STEMS]


def _no_list(folder: Path, role: str, files: list[str], some: bool) -> str:
    words = ", ".join(f"{word}.txt" for word in ROLE_WORDS[role])
    has = ", ".join(files[:8]) or "no .txt file"
    if not some:
        return (
            f"{folder}: no lists of images (it has {has}); put train.txt, query.txt and gallery.txt there, or name "
            "one to be split: pool=..."
        )
    advice = f"name it: {role}=..."
    if role == "gallery":
        advice += ", or gallery='train.txt' where the training images are what is searched"
    return f"{folder}: no list for {role} ({words}, *_{words.split(', ')[-1]}); it has {has}; {advice}"
