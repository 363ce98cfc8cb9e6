"""Images as queries of ``rdh search``, encoded by a model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .arguments import CommandError


@contextlib.contextmanager
def images_as_queries(images: list[Path], run: Path, device: str) -> Iterator[Path]:
    """A code set of the images, which is gone afterwards.

    Raises:
        CommandError: the model takes no such images.
        ModelError: no model.
        OSError: a file cannot be read.
    """
    from .._files import sha256
    from ..hashing.model import file_of, load
    from ..retrieval import write_code_set

    model = load(run, device)
    try:
        codes = model.encode(images)
    except ValueError as error:
        raise CommandError(f"--image: {error}") from error
    with tempfile.TemporaryDirectory(prefix="rdh-search-") as folder:
        query = Path(folder) / "images"
        made = {"by": "rdh search", "model_sha256": sha256(file_of(run))}
        write_code_set(query, codes, bits=model.bits, made=made)
        yield query
