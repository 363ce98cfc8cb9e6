"""Where the items of a data set are: a tensor with all of them, or files that are read one by one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..._extras import require


class Source(Protocol):
    """All items of a data set, raw: images ``[channels, height, width]`` (uint8 from files) or features ``[D]``.

    Example:
        >>> from rdh_ext.hashing.data import TensorSource
        >>> TensorSource(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).read(torch.tensor([1]))[0].shape
        torch.Size([3, 8, 8])
    """

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of one item; None where they differ."""

    def __len__(self) -> int: ...

    def read(self, index: Tensor) -> Tensor | list[Tensor]:
        """The items at ``index`` (int64 ``[n]``): ``[n, *shape]``, or a list where shapes may differ."""

    def name(self, index: int) -> str:
        """What people call an item: its file, or its number."""


class TensorSource:
    """Items in memory.

    Args:
        items: ``[n, ...]`` of any dtype.

    Example:
        >>> from rdh_ext.hashing.data import TensorSource
        >>> source = TensorSource(torch.arange(6.0).reshape(3, 2))
        >>> len(source), source.shape, source.read(torch.tensor([2]))
        (3, (2,), tensor([[4., 5.]]))
    """

    def __init__(self, items: Tensor) -> None:
        self.items = items

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item."""
        return tuple(self.items.shape[1:])

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: Tensor) -> Tensor:
        """The items at ``index``."""
        return self.items[index]

    def name(self, index: int) -> str:
        """Its number."""
        return str(index)


class ImageFiles:
    """Image files, decoded when they are read: uint8 ``[3, height, width]``, RGB whatever is in the file.

    Args:
        paths: in the order of the items; what a fingerprint of the data has of them.
        root: the folder that relative paths begin in.

    Raises:
        MissingExtra: on reading, where Pillow is not installed.
        OSError: on reading, a file that is not there or is no image; the message names it.

    Example:
        >>> from rdh_ext.hashing.data import ImageFiles
        >>> source = ImageFiles(["cat.jpg", "dog.jpg"])
        >>> len(source), source.shape, source.name(1)
        (2, None, 'dog.jpg')
    """

    def __init__(self, paths: Sequence[str | Path], root: str | Path = "") -> None:
        self.paths = [str(path) for path in paths]
        self.root = str(root)

    @property
    def shape(self) -> None:
        """Images may have any size."""
        return

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: Tensor) -> list[Tensor]:
        """The images at ``index``."""
        return [read_image(self.name(place)) for place in index.tolist()]

    def name(self, index: int) -> str:
        """Its file."""
        return os.path.join(self.root, self.paths[index])


def read_image(path: str | Path) -> Tensor:
    """One image file as uint8 ``[3, height, width]``, upright.

    Raises:
        OSError: it is not there, or no image that Pillow reads; the message names it.
    """
    image = require("PIL.Image", package="pillow", extra="train")
    ops = require("PIL.ImageOps", package="pillow", extra="train")
    try:
        with image.open(path) as file:
            return image_tensor(ops.exif_transpose(file))
    except Exception as error:  # Pillow's plugins have many for a truncated file, an unknown format, a bomb
        if isinstance(error, OSError) and error.errno is not None:  # what the system says of a file has its name
            raise
        raise OSError(f"{path}: not an image that can be read ({' '.join(str(error).split())})") from error


def image_tensor(image: Any) -> Tensor:
    """A Pillow image as uint8 ``[3, height, width]``; of 16 bits per pixel the upper 8.

    Raises:
        ValueError: pixels are 32-bit numbers, whose range is not known.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits, mode {image.mode}; save it with 8 bits")
    if image.mode.startswith("I;16"):
        grey = torch.from_numpy((np.array(image) >> 8).astype(np.uint8))
        return grey.expand(3, -1, -1).contiguous()
    rgb = np.array(image.convert("RGB"), dtype=np.uint8)
    return torch.from_numpy(rgb).permute(2, 0, 1).contiguous()
