"""Loading a trained model, without importing the harness before that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .hashing.model import HashingModel


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> HashingModel:
    """A model that ``rdh train`` has written.

    Args:
        path: ``model.pt``, or the folder of the run with it.
        device: where it goes.

    Returns:
        A :class:`rdh_ext.hashing.model.HashingModel` in evaluation mode: ``.encode(images)`` gives packed codes.

    Raises:
        ModelError: not a model, or one of a later version.
        MissingExtra: its network is one of torchvision's, which is not installed.
        OSError: it cannot be read.
        TypeError, ValueError: ``path`` is no path, ``device`` none that is here.

    The file cannot run code: it is read with ``weights_only=True``, and its network is one of those known by name.

    Example:
        >>> import tempfile
        >>> from rdh_ext.hashing.backbones import make_backbone
        >>> from rdh_ext.hashing.data import Preprocessing
        >>> from rdh_ext.hashing.model import HashingModel
        >>> from rdh_ext.hashing.recipe import Recipe
        >>> path = tempfile.mkdtemp() + "/model.pt"
        >>> network = make_backbone("linear", 12, (16,), {})
        >>> recipe = Recipe(bits=12, backbone={"name": "linear"})
        >>> HashingModel(network, recipe, Preprocessing(), shape=(16,), classes=10).save(path)
        >>> model = rdh_ext.load(path)
        >>> model.bits, model.encode(torch.randn(5, 16)).shape
        (12, torch.Size([5, 2]))
    """
    from .hashing.model import load as load_model

    return load_model(path, device)
