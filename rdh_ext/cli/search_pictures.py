"""Queries with their nearest pictures, as a grid: framed by whether they share a label."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._extras import require
from .arguments import CommandError, one_line
from .picture_files import picture_files
from .search_answer import Answer, Record

MOST_QUERIES, MOST_NEIGHBOURS = 20, 20
"""Of a grid: more would be too small to be seen."""
_PIXELS = 128
_FIRST = 1.5
"""Where the first neighbour stands, in cells."""
_SIZE = 0.84
"""Of a picture, in cells."""
_ROW = 1.16
"""Height of a row: a picture with a line of text below."""
_PLAIN = "#888888"


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of a set are: a text file with one path a line, a folder, or the files themselves."""

    option: str
    where: Path | list[Path]
    items: int

    def paths(self, wanted: Iterable[int]) -> dict[int, Path]:
        """Those of the items ``wanted``.

        Raises:
            CommandError: there are not as many as items.
            OSError: they cannot be read.
        """
        places, found, count = set(wanted), {}, 0
        if isinstance(self.where, list):
            return {item: self.where[item] for item in places}
        for item, path in enumerate(picture_files(self.option, self.where)):
            count = item + 1
            if item in places:
                found[item] = path
        if count != self.items:
            what = "pictures" if self.where.is_dir() else "lines"
            raise CommandError(
                f"{self.option} {self.where}: {count:,} {what}, the set has {self.items:,} items; name one for each, "
                "in their order"
            )
        return found

    def check(self) -> None:
        """There are as many as items.

        Raises:
            CommandError: there are not.
            OSError: they cannot be read.
        """
        self.paths(())


def _read(path: Path) -> Any:
    """A small copy of a picture, upright, uint8 ``[height, width, 3]``."""
    numpy = require("numpy")
    image_module = require("PIL.Image", package="pillow", extra="cli")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is made small at once, however large it is
            with image_module.open(path) as image:
                image.draft("RGB", (_PIXELS, _PIXELS))
                upright = require("PIL.ImageOps").exif_transpose(image).convert("RGB")
                upright.thumbnail((_PIXELS, _PIXELS))
                return numpy.asarray(upright)
    except FileNotFoundError:
        raise CommandError(f"{path}: no such picture; correct the list, relative paths begin where it is") from None
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise CommandError(
            f"{path}: cannot be read as a picture ({type(error).__name__}: {one_line(str(error))[:100]}); bring it back"
        ) from error


def grid(answer: Answer, pictures: Pictures, query_pictures: Pictures | None) -> Any:
    """A figure: a row for each of the first queries, its own picture (or its row in words) and its neighbours."""
    require("matplotlib", extra="cli")
    from ..hashing.report.style import new_figure

    records = list(answer.records(MOST_QUERIES))
    places = min(MOST_NEIGHBOURS, answer.indices.shape[1])
    paths = pictures.paths(index for record in records for index in record.indices[:places])
    own = {} if query_pictures is None else query_pictures.paths(record.query for record in records)
    width, height = _FIRST + max(3, places), 0.5 + _ROW * len(records)
    figure = new_figure(0.8 * width + 0.2, 0.8 * height + 0.2)
    axes = figure.subplots()
    title = f"the {places} nearest, with Hamming distance"
    axes.text(_FIRST if places > 4 else 0.0, 0.2, title, va="bottom", fontsize=10, weight="bold")
    for number, record in enumerate(records):
        _draw_row(axes, 0.4 + _ROW * number, record, paths, own.get(record.query), places)
    axes.set_xlim(-0.05, width)
    axes.set_ylim(height, -0.05)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure


def _draw_row(axes: Any, y: float, record: Record, paths: dict[int, Path], own: Path | None, places: int) -> None:
    from ..hashing.report.neighbours import RIGHT, WRONG

    if own is None:
        axes.text(_SIZE / 2, y + _SIZE / 2, f"query\n{record.query}", ha="center", va="center", fontsize=9)
    else:
        _draw(axes, 0.0, y, own, _PLAIN, 0.8)
        _note(axes, 0.0, y, f"query {record.query}", "black")
    for place in range(places):
        colour, mark = _PLAIN, ""
        if record.shared is not None:
            colour, mark = (RIGHT, "\u2713 ") if record.shared[place] else (WRONG, "\u2717 ")
        _draw(axes, _FIRST + place, y, paths[record.indices[place]], colour, 2.0)
        _note(axes, _FIRST + place, y, f"{mark}{record.distances[place]}", colour)


def _note(axes: Any, x: float, y: float, text: str, colour: str) -> None:
    axes.text(x + _SIZE / 2, y + _SIZE + 0.04, text, ha="center", va="top", fontsize=8, color=colour)


def _draw(axes: Any, x: float, y: float, path: Path, colour: str, linewidth: float) -> None:
    """The picture in the middle of its cell, in its own proportions, and its frame."""
    image = _read(path)
    high, wide = (_SIZE * size / max(image.shape[:2]) for size in image.shape[:2])
    x, y = x + (_SIZE - wide) / 2, y + (_SIZE - high) / 2
    axes.imshow(image, extent=(x, x + wide, y + high, y), aspect="auto", interpolation="nearest")
    rectangle = require("matplotlib.patches").Rectangle
    axes.add_patch(rectangle((x, y), wide, high, fill=False, edgecolor=colour, linewidth=linewidth))
