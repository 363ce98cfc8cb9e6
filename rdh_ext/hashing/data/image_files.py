"""Files that several lists or folders name: each is one item, is there, and has one role."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .notices import warn
from .preprocessing import Preprocessing
from .sources import ImageFiles

PIXELS = Preprocessing(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Bytes as networks pretrained on ImageNet expect them."""
PHOTOS = replace(PIXELS, resize=256, size=224)
"""The same of images of any size."""
SHOWN = 3
_AT_A_TIME = 2048
_THREADS = 8

Identity = tuple[int, int]
"""Device and number of a file: equal where two names lead to one file."""


@dataclass(frozen=True)
class Named:
    """Paths under one heading: a list, a folder."""

    heading: str
    paths: Sequence[str]


def shown(paths: Sequence[str]) -> str:
    """The first of some paths for an error, printable whatever bytes are in them."""
    words = ", ".join(path.encode("utf-8", "backslashreplace").decode() for path in paths[:SHOWN])
    return words if len(paths) <= SHOWN else f"{words}, ..."


def one_item_each(lists: Sequence[Named], root: str) -> tuple[ImageFiles, list[Tensor]]:
    """All files, each of them once, and where those of each list are among them.

    Paths are the same where they lead to the same place by their names, as ``a/b.jpg`` and ``./a//b.jpg`` do.
    """
    base = os.path.abspath(root or ".")
    place: dict[str, int] = {}
    paths: list[str] = []
    indices = []
    for each in lists:
        index = []
        for path in each.paths:
            key = os.path.normpath(os.path.join(base, path))
            if key not in place:
                place[key] = len(paths)
                paths.append(path)
            index.append(place[key])
        indices.append(torch.tensor(index, dtype=torch.int64))
    return ImageFiles(paths, root), indices


def check_there(source: ImageFiles, name: str, advise: Callable[[str], str]) -> list[Identity]:
    """Looks for every file, before any work is done; what each of them is.

    Args:
        source: the files.
        name: of the data set, for the error.
        advise: what to do about the first path that leads to nothing.

    Raises:
        FileNotFoundError: files are missing, empty, or none at all; one line with their number and the first of them.
    """
    names = [source.name(index) for index in range(len(source))]
    pieces = [names[first : first + _AT_A_TIME] for first in range(0, len(names), _AT_A_TIME)]
    with ThreadPoolExecutor(_THREADS) as pool:  # a disk in the network answers one at a time slowly
        found = [answer for piece in pool.map(_look_at_all, pieces) for answer in piece]
    missing = [index for index, answer in enumerate(found) if isinstance(answer, str)]
    if missing:
        reason = found[missing[0]]
        state = f"cannot be used ({reason})" if reason else "cannot be found"
        advice = "bring them back, or take them out" if reason else advise(source.paths[missing[0]])
        raise FileNotFoundError(
            f"{name}: {len(missing):,} of {len(names):,} images {state}: "
            f"{shown([names[index] for index in missing[: SHOWN + 1]])}; {advice}"
        )
    return [answer for answer in found if not isinstance(answer, str)]


def _look_at_all(names: list[str]) -> list[Identity | str]:
    return [_look_at(name) for name in names]


def _look_at(name: str) -> Identity | str:
    """What a file is, or why it is none; an empty string where it is not there."""
    try:
        found = os.stat(name)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error.strerror).lower()
    if not stat.S_ISREG(found.st_mode):
        return "not a file"
    return (found.st_dev, found.st_ino) if found.st_size else "empty"


def merge_same(
    source: ImageFiles, identities: Sequence[Identity], lists: Sequence[Named], indices: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Each file once in each list: where links lead to it, under its first name; repetitions are left out and said.

    Returns:
        For each list the items in the source, and their places in the list.
    """
    same = _same_by_links(source, identities)
    merged = []
    for each, index in zip(lists, indices, strict=True):
        items = same[index].numpy()
        kept = np.sort(np.unique(items, return_index=True)[1])
        if len(kept) < len(items):
            again = np.setdiff1d(np.arange(len(items)), kept)
            names = shown([each.paths[place] for place in again[: SHOWN + 1]])
            warn(f"{each.heading}: {len(again):,} images are there again, and count once: {names}")
        merged.append((torch.from_numpy(items[kept]), torch.from_numpy(kept)))
    return merged


def _same_by_links(source: ImageFiles, identities: Sequence[Identity]) -> Tensor:
    """For each file the first that is the same: another name of it that is a link, symbolic or in a folder above."""
    first: dict[Identity, int] = {}
    same = torch.arange(len(source))
    for index, identity in enumerate(identities):
        other = first.setdefault(identity, index)
        # numbers of files are not unique in every file system
        if other != index and os.path.realpath(source.name(index)) == os.path.realpath(source.name(other)):
            same[index] = other
    return same


def refuse_common(name: str, source: ImageFiles, query: tuple[str, Tensor], other: tuple[str, Tensor]) -> None:
    """Refuses images that are queries and in another part.

    Raises:
        ValueError: there are some; one line with their number and the first of them.
    """
    common = query[1][torch.isin(query[1], other[1])].unique().tolist()
    if common:
        raise ValueError(
            f"{name}: {len(common):,} images are both in {query[0]} and in {other[0]}: "
            f"{shown([source.paths[index] for index in common])}; a query must be neither searched nor trained on: "
            "take them out of one"
        )
