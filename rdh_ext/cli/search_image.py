"""Images as queries of ``rdh search``, encoded by a model."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .arguments import CommandError


@contextlib.contextmanager
def images_as_queries(images: list[Path], run: Path, device: str) -> Iterator[tuple[Path, Path]]:
    """A code set of the images, and a list of their pictures; both are gone afterwards.

    Raises:
        CommandError: no model, or no image.
        OSError: a file cannot be read.
    """
    from ..hashing.model import load
    from ..retrieval import write_code_set

    model = load(run, device)
    try:
        codes = model.encode(images)
    except ValueError as error:
        raise CommandError(f"--image: {error}") from error
    with tempfile.TemporaryDirectory(prefix="rdh-search-") as folder:
        query, pictures = Path(folder) / "images", Path(folder) / "images.txt"
        write_code_set(query, codes, bits=model.bits)
        pictures.write_text("".join(f"{os.path.abspath(image)}\n" for image in images), encoding="utf-8")
        yield query, pictures
