"""Files of ``torch.save``, read without running code, and whole."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch


def read_torch(path: Path) -> Any:
    """What :func:`torch.save` wrote: tensors and plain values, on the CPU.

    Raises:
        ValueError: another file, one that would run code, or a byte of it has changed; a few words, without its name.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            wrong = archive.testzip()
        if wrong is not None:
            raise ValueError(f"checksum of {wrong}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file is read as anything
        raise ValueError(" ".join(str(error).split())[:120] or type(error).__name__) from error
