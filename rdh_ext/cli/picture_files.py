"""Where the pictures of a set are: a text file with one path a line, or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .._image_names import is_image
from .arguments import CommandError


def picture_files(option: str, where: Path) -> Iterator[Path]:
    """Their paths in the order of the items.

    In a folder, that of their names, folder by folder, as class folders have them; without hidden files, and what is in
    hidden folders. In a text file, line by line; relative to the folder that the file is in.

    Raises:
        CommandError: ``where`` is no text file; ``option`` is what named it.
        OSError: it cannot be read.
    """
    if where.is_dir():
        found = {path.relative_to(where).parts: path for path in where.rglob("*") if is_image(path.name)}
        for parts in sorted(parts for parts, path in found.items() if path.is_file()):
            if not any(part.startswith(".") for part in parts):
                yield found[parts]
        return
    try:
        with open(where, encoding="utf-8") as file:
            for line in file:
                yield where.parent / line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise CommandError(
            f"{option} {where}: not a text file; name a list with one path a line, or a folder"
        ) from None
