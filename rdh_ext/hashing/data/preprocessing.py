"""What makes inputs of a network of raw images or features; part of a recipe, and so of every checkpoint."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..._extras import require
from ..options import choose

AREA = (0.08, 1.0)
"""Of what "crop_flip" cuts out, relative to the image."""
ASPECT = (3 / 4, 4 / 3)
"""Width by height of what "crop_flip" cuts out."""
TRIES = 10
"""How often "crop_flip" draws a part before it takes the middle, where parts do not fit into very long images."""


@dataclass(frozen=True)
class Preprocessing:
    """Raw items -> float32 inputs: ``(scale * x - mean) / std`` per channel, of images of one size.

    Images are first resized so that their shorter side is ``resize``, and the square of ``size`` in the middle is cut
    out. In training ``augment`` takes the place of this: "flip" mirrors half of the images, "crop_flip" cuts out and
    resizes a random part of 8 to 100 % of the area as well. Needs torchvision where ``size`` or "crop_flip" is given.

    Resizing is bilinear and antialiased. Images of bytes stay bytes in it, as they do in Pillow and in torchvision.
    ``mean`` and ``std`` have one value per channel, or one for all; grey images become as many equal channels as they
    have values.

    Raises:
        ValueError: a value that is out of its range, or does not go with another.

    Example:
        >>> from rdh_ext.hashing.data import Preprocessing
        >>> Preprocessing(scale=1 / 16)(torch.full((2, 1, 8, 8), 8.0)).max()
        tensor(0.5000)
    """

    scale: float = 1.0
    """Multiplies raw values; 1 / 255 for images with bytes."""
    mean: tuple[float, ...] = ()
    """Per channel, after ``scale``; empty means 0."""
    std: tuple[float, ...] = ()
    """Per channel, after ``scale``; empty means 1."""
    resize: int | None = None
    """Shorter side; None means ``size``."""
    size: int | None = None
    """Side of the square that the network sees; None leaves images as they are."""
    augment: str = "none"
    """In training: "none", "flip" or "crop_flip"."""

    AUGMENTATIONS: ClassVar[tuple[str, ...]] = ("none", "flip", "crop_flip")

    def __post_init__(self) -> None:
        if not _is_number(self.scale) or self.scale == 0:
            raise ValueError(f"preprocessing: scale must be a number other than 0, got {self.scale!r}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if any(value <= 0 for value in self.std):
            raise ValueError(f"preprocessing: std must be above 0 in every channel, got {self.std}")
        if len({len(values) for values in (self.mean, self.std)} - {0, 1}) > 1:
            raise ValueError(f"preprocessing: mean and std must have as many values, got {self.mean} and {self.std}")
        for name in ("resize", "size"):
            side = getattr(self, name)
            if side is not None and (not isinstance(side, int) or isinstance(side, bool) or side < 1):
                raise ValueError(f"preprocessing: {name} must be a whole number of at least 1, got {side!r}")
        if self.resize is not None and (self.size is None or self.resize < self.size):
            raise ValueError(
                f"preprocessing: resize goes with a size that is not larger, got {self.resize}, {self.size}"
            )
        choose("preprocessing: augment", self.augment, dict.fromkeys(self.AUGMENTATIONS))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Of a mapping of fields, as in a recipe or from :meth:`to_dict`; what is not in it has its default.

        Raises:
            ValueError: an unknown field, or a wrong value.
        """
        known = dict.fromkeys(field.name for field in fields(cls))
        if not isinstance(values, Mapping):
            raise ValueError(f"preprocessing must be a mapping with {', '.join(known)}, got {values!r}")
        for name in values:
            choose("a field of preprocessing", str(name), known)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields, of types that JSON has."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def shape_of(self, raw_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """The shape of one input.

        Args:
            raw_shape: of one raw item; None where they differ, as in image files, which have 3 channels.

        Returns:
            None where ``raw_shape`` is and there is no ``size``.

        Raises:
            ValueError: raw items of that shape do not go with the channels of ``mean`` and ``std``, or are no images.

        Example:
            >>> from rdh_ext.hashing.data import Preprocessing
            >>> Preprocessing(size=224).shape_of((3, 32, 32)), Preprocessing(size=224).shape_of(None)
            ((3, 224, 224), (3, 224, 224))
        """
        if raw_shape is None:
            return None if self.size is None else self.shape_of((3, self.size, self.size))
        if len(raw_shape) != 3 and (self.size is not None or self.augment != "none"):
            raise ValueError(
                "preprocessing: size and augment are for images (channels, height, width), got items of shape "
                f"{raw_shape}"
            )
        channels = max(len(self.mean), len(self.std), 1)
        if channels == 1:
            channels = raw_shape[0] if raw_shape else 1
        elif not raw_shape or raw_shape[0] not in ((1, channels) if len(raw_shape) == 3 else (channels,)):
            raise ValueError(f"preprocessing: mean and std have {channels} values, got items of shape {raw_shape}")
        sides = raw_shape[1:] if self.size is None else (self.size, self.size)
        return (channels, *sides) if raw_shape else ()

    def __call__(
        self, items: Tensor | Sequence[Tensor], *, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """Inputs ``[n, ...]`` float32 of raw items; each depends on its item and its generator alone.

        Args:
            items: ``[n, ...]``, or a list of images ``[channels, height, width]`` of any sizes.
            generators: one for each item, on the CPU, from which its augmentation is drawn; None does not augment.

        Raises:
            ValueError: items of different shapes without a ``size``, of a shape that :meth:`shape_of` refuses, or an
                empty list; another number of generators than items.
            MissingExtra: torchvision is needed and not installed.
        """
        if generators is not None and len(generators) != len(items):
            raise ValueError(f"preprocessing: one generator for each of {len(items)} items, got {len(generators)}")
        draw = generators if self.augment != "none" else None
        shape = self._shape_of_all(items)
        device = items.device if isinstance(items, Tensor) else items[0].device
        inputs = torch.empty(len(items), *shape, dtype=torch.float32, device=device)
        if self.size is not None or (draw is not None and self.augment == "crop_flip"):
            # one by one: each needs a resizing of its own, and is still in the cache when it is written
            for place, image in enumerate(items):
                inputs[place] = self._view(image, draw[place] if draw is not None else None)
                self._normalise(inputs[place : place + 1])
            return inputs
        images = items if isinstance(items, Tensor) else torch.stack(list(items))
        if draw is not None:
            flips = torch.tensor([_flips(generator) for generator in draw], device=images.device)
            images = torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)
        inputs.copy_(images)
        return self._normalise(inputs)

    def _shape_of_all(self, items: Tensor | Sequence[Tensor]) -> tuple[int, ...]:
        raw = {tuple(items.shape[1:])} if isinstance(items, Tensor) else {tuple(item.shape) for item in items}
        shapes = {self.shape_of(shape) for shape in raw}
        if len(shapes) != 1:
            got = " and ".join(str(shape) for shape in sorted(raw)[:2]) or "no items"
            raise ValueError(f"preprocessing: without a size all items must have one shape, got {got}")
        shape = shapes.pop()
        assert shape is not None
        return shape

    def _view(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """What the network sees of an image, in its raw values."""
        functional = require("torchvision.transforms.v2.functional", extra="train")
        if image.dtype != torch.uint8:
            image = image.to(torch.float32)
        height, width = image.shape[-2:]
        if generator is not None and self.augment == "crop_flip":
            part = _draw_part(generator, height, width)
            image = image[..., part.top : part.top + part.height, part.left : part.left + part.width]
            to = [height, width] if self.size is None else [self.size, self.size]
            view = functional.resize(image.flip(-1) if part.is_flipped else image, to, antialias=True)
        else:
            if generator is not None and _flips(generator):
                image = image.flip(-1)
            image = functional.resize(image, [self.resize or self.size], antialias=True)
            view = functional.center_crop(image, [self.size, self.size])
        assert isinstance(view, Tensor)
        return view

    def _normalise(self, inputs: Tensor) -> Tensor:
        """``(x - mean / scale) * (scale / std)``, in place: two passes, exact for values close to a large mean."""
        channels = (-1, *[1] * (inputs.dim() - 2))
        if self.mean:
            inputs.sub_(self._shift.to(inputs.device).view(channels))
        if self.std:
            inputs.mul_(self._factor.to(inputs.device).view(channels))
        elif self.scale != 1:
            inputs.mul_(self.scale)
        return inputs

    @functools.cached_property
    def _shift(self) -> Tensor:
        return torch.tensor([value / self.scale for value in self.mean], dtype=torch.float32)

    @functools.cached_property
    def _factor(self) -> Tensor:
        return torch.tensor([self.scale / value for value in self.std], dtype=torch.float32)


class _Part(NamedTuple):
    """A rectangle of an image, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    is_flipped: bool


def _draw_part(generator: torch.Generator, height: int, width: int) -> _Part:
    """A part of an image with a uniform area, a log-uniform aspect and a uniform position, all in fixed ranges."""
    flip, down, right, *sizes = torch.rand(3 + 2 * TRIES, generator=generator).tolist()
    for place in range(0, 2 * TRIES, 2):
        area = height * width * (AREA[0] + sizes[place] * (AREA[1] - AREA[0]))
        aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** sizes[place + 1]
        high, wide = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < high <= height and 0 < wide <= width:
            return _Part(int(down * (height - high + 1)), int(right * (width - wide + 1)), high, wide, flip < 0.5)
    wide = max(min(width, round(height * ASPECT[1])), 1)
    high = max(min(height, round(width / ASPECT[0])), 1)
    return _Part((height - high) // 2, (width - wide) // 2, high, wide, flip < 0.5)


def _flips(generator: torch.Generator) -> bool:
    return torch.rand(1, generator=generator).item() < 0.5


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(name: str, values: object) -> tuple[float, ...]:
    if isinstance(values, Sequence) and all(map(_is_number, values)):
        return tuple(float(value) for value in values)
    raise ValueError(f"preprocessing: {name} must be numbers, one per channel, got {values!r}")
