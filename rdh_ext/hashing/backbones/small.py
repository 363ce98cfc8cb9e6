"""Backbones that are trained from scratch: for features, and for small images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn


def small_cnn(bits: int, shape: tuple[int, ...] = (1, 8, 8), *, width: int = 32, hidden: int = 128) -> nn.Sequential:
    """Two convolutions, two fully connected layers: ``[B, channels, height, width]`` -> logits ``[B, bits]``.

    PyTorch's default initialisation, no normalisation layers and no dropout, so that the only randomness in training is
    the initialisation and the order of the batches. 55,840 parameters at 32 bits and the defaults.

    Args:
        bits: K.
        shape: of an image; height and width are multiples of 4.
        width: channels of the first convolution, half as many as of the second.
        hidden: width of the first fully connected layer.

    Raises:
        ValueError: images that cannot be halved twice (there are two poolings by 2), or no images.

    Example:
        >>> from rdh_ext.hashing.backbones import small_cnn
        >>> small_cnn(16, (3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """
    if len(shape) != 3 or any(side < 4 or side % 4 for side in shape[1:]):
        raise ValueError(
            f"small_cnn: inputs must be images (channels, height, width) whose sides are positive multiples of 4, "
            f"got {shape}"
        )
    _check_widths("small_cnn", "width", [width])
    _check_widths("small_cnn", "hidden", [hidden])
    channels, height, across = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (across // 4), hidden),
        nn.ReLU(),
        nn.Linear(hidden, bits),
    )


def linear(bits: int, shape: tuple[int, ...]) -> nn.Sequential:
    """One linear layer: ``[B, *shape]`` -> logits ``[B, bits]``, images flattened.

    Example:
        >>> from rdh_ext.hashing.backbones import linear
        >>> linear(16, (512,))(torch.zeros(2, 512)).shape
        torch.Size([2, 16])
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), bits))


def mlp(bits: int, shape: tuple[int, ...], *, hidden: int | Sequence[int] = (512,)) -> nn.Sequential:
    """Linear layers with ReLU between them: ``[B, *shape]`` -> logits ``[B, bits]``, images flattened.

    Args:
        bits: K.
        shape: of an input.
        hidden: widths of the hidden layers, one or several.

    Raises:
        ValueError: a width is not a positive whole number.

    Example:
        >>> from rdh_ext.hashing.backbones import mlp
        >>> mlp(16, (512,), hidden=(256, 64))
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Linear(in_features=512, out_features=256, bias=True)
          (2): ReLU()
          (3): Linear(in_features=256, out_features=64, bias=True)
          (4): ReLU()
          (5): Linear(in_features=64, out_features=16, bias=True)
        )
    """
    hidden = list(hidden) if isinstance(hidden, Sequence) else [hidden]
    _check_widths("mlp", "hidden", hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = math.prod(shape)
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, bits))


def _check_widths(name: str, option: str, widths: Sequence[object]) -> None:
    for width in widths:
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise ValueError(f"{name}: {option} must be whole numbers of at least 1, got {width!r}")
