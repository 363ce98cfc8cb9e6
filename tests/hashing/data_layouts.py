"""Small data sets in the layouts that users have, for tests of what loads them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from rdh_ext.hashing.data import Part, RetrievalData

ROLES = ("query", "train", "gallery")


def make_image(path: Path, value: int = 0, size: tuple[int, int] = (5, 4)) -> Path:
    """An image of one grey; PNG keeps it as it is."""
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", size, (value, value, value)).save(path)
    return path


def make_images(folder: Path, names: Iterable[str]) -> None:
    """One each, with greys 0, 1, 2, ..."""
    for value, name in enumerate(names):
        make_image(folder / name, value)


def write_list(path: Path, rows: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def grey(part: Part, place: int) -> int:
    """Of the image at a place of a part, as it is read."""
    (item,) = part.source.read(part.indices[[place]])
    assert item.dtype == torch.uint8
    assert item.shape == (3, 4, 5)
    return int(item.unique())


def files_of(part: Part, folder: Path) -> list[str]:
    """Names of its items, relative to a folder."""
    return [str(Path(part.source.name(index)).relative_to(folder)) for index in part.indices.tolist()]


def sizes(data: RetrievalData) -> tuple[int, ...]:
    return tuple(len(getattr(data, role)) for role in ROLES)


def error_of(call: Callable[..., Any], *arguments: Any, kind: type[Exception] = ValueError, **options: Any) -> str:
    """The one line that a call ends in."""
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def warnings_of(call: Callable[..., Any], *arguments: Any, **options: Any) -> list[str]:
    """What a call warns of, at the line that called."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments, **options)
    assert all(each.category is UserWarning and each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]
