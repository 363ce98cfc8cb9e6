"""What is taken for an image by its name, wherever folders of them are read."""

from __future__ import annotations

import os

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2")
)
"""In small or capital letters."""


def is_image(name: str) -> bool:
    """Whether a file is an image by its name, and not hidden."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
