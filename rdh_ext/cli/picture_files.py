"""Where the pictures of a set are: a text file with one path a line, or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .arguments import CommandError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def picture_files(option: str, where: Path) -> Iterator[Path]:
    """Their paths in the order of the items.

    In a folder, that of their names, folder by folder, as class folders have them. In a text file, line by line;
    relative to the folder that the file is in.

    Raises:
        CommandError: ``where`` is no text file; ``option`` is what named it.
        OSError: it cannot be read.
    """
    if where.is_dir():
        found = [path for path in where.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
        yield from sorted(found, key=lambda path: path.relative_to(where).parts)
        return
    try:
        with open(where, encoding="utf-8") as file:
            for line in file:
                yield where.parent / line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError(
            f"{option} {where}: not a text file; name a list with one path a line, or a folder"
        ) from None
