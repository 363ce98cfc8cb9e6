"""Backbones: networks that end in K linear outputs, one logit per bit. The activation belongs to the hashing method."""

from __future__ import annotations

from torch import nn


def small_cnn(bits: int, *, channels: int = 1, size: int = 8, width: int = 32, hidden: int = 128) -> nn.Sequential:
    """Two convolutions, two fully connected layers: ``[B, channels, size, size]`` -> logits ``[B, bits]``.

    PyTorch's default initialisation, no normalisation layers and no dropout, so that the only randomness in training is
    the initialisation and the order of the batches. 55,840 parameters at 32 bits and the defaults.

    Raises:
        ValueError: ``size`` is not a positive multiple of 4 (there are two poolings by 2).
    """
    if size < 4 or size % 4:
        raise ValueError(f"small_cnn: size must be a positive multiple of 4, got {size}")
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (size // 4) ** 2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, bits),
    )
