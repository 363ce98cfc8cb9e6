"""What makes inputs of a network of raw images or features; part of a recipe, and so of every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """Raw items -> float32 inputs: ``(scale * x - mean) / std`` per channel, of images of one size.

    Images are first resized so that their shorter side is ``resize``, and the square of ``size`` in the middle is cut
    out. In training ``augment`` takes the place of this: "flip" mirrors half of the images, "crop_flip" cuts out and
    resizes a random part of 8 to 100 % of the area as well. Needs torchvision where ``size`` or ``augment`` is given.

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

    def __call__(
        self, items: Tensor | Sequence[Tensor], *, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """Inputs ``[n, ...]`` float32 of raw items.

        Args:
            items: ``[n, ...]``, or a list of images ``[channels, height, width]`` of any sizes.
            generators: one for each item, from which its augmentation is drawn; None does not augment.
        """
        inputs = items if isinstance(items, Tensor) else torch.stack(list(items))
        inputs = inputs.to(torch.float32) * self.scale
        for values, apply in ((self.mean, torch.sub), (self.std, torch.div)):
            if values:
                inputs = apply(inputs, torch.tensor(values, device=inputs.device).view(-1, *[1] * (inputs.dim() - 2)))
        return inputs
