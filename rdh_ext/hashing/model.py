"""A trained model in one file: network, preprocessing, and the recipe that made it. Needs torch only."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import _checks as checks
from .._files import write_bytes
from .backbones import BACKBONES, is_known, make_backbone
from .codes import BATCH, Codes, encode
from .data.preprocessing import Preprocessing
from .data.sources import image_tensor, read_image
from .options import options_of
from .recipe import Recipe
from .torch_files import read_torch

_FORMAT, _VERSION = "rdh_ext model", 1


class ModelError(ValueError):
    """A file that is no model, or one that this version cannot read. The message names it."""


class HashingModel(nn.Module):
    """A network that gives images, or features, their codes.

    Args:
        backbone: inputs -> logits ``[B, K]``.
        recipe: what it was trained by.
        preprocessing: raw items -> inputs.
        shape: of one input.
        classes: of the data set it was trained on.
        class_names: of the classes 0, 1, ..., where they are known.
        chosen: how its epoch was chosen, for people.

    Attributes:
        bits: K.

    Example:
        >>> from rdh_ext.hashing.backbones import make_backbone
        >>> from rdh_ext.hashing.data import Preprocessing
        >>> from rdh_ext.hashing.model import HashingModel
        >>> from rdh_ext.hashing.recipe import Recipe
        >>> recipe = Recipe(bits=12, backbone={"name": "linear"})
        >>> network = make_backbone("linear", 12, (16,), {})
        >>> model = HashingModel(network, recipe, Preprocessing(), shape=(16,), classes=10)
        >>> model.encode(torch.randn(5, 16)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        backbone: nn.Module,
        recipe: Recipe,
        preprocessing: Preprocessing,
        *,
        shape: Sequence[int],
        classes: int,
        class_names: Sequence[str] = (),
        chosen: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.recipe, self.preprocessing = backbone, recipe, preprocessing
        self.shape, self.classes, self.chosen = tuple(shape), classes, dict(chosen or {})
        self.class_names = tuple(class_names)
        self.bits = recipe.bits

    def forward(self, inputs: Tensor) -> Tensor:
        """Relaxed codes ``[B, K]`` in [-1, 1] of preprocessed inputs ``[B, *shape]``."""
        h: Tensor = torch.tanh(self.backbone(inputs))
        return h

    def encode(self, items: Any, *, batch_size: int = BATCH) -> Tensor:
        """Packed codes of raw items, in evaluation mode.

        Args:
            items: images as a tensor or array ``[n, channels, height, width]`` or ``[channels, height, width]`` with
                the values of the files (bytes, where it was trained on image files); a Pillow image; the path of an
                image file; features ``[n, D]``; or a list of any of these.
            batch_size: how many go through the network at a time.

        Returns:
            uint8 ``[n, ceil(K / 8)]`` on the CPU, as :func:`rdh_ext.pack_codes`: bit 1 for ``h >= 0``.

        Raises:
            TypeError: something else.
            ValueError: items of a shape that the network does not take.
            OSError: a file that cannot be read.
        """
        return self.codes_of(items, batch_size=batch_size).packed

    def codes_of(self, items: Any, *, batch_size: int = BATCH) -> Codes:
        """Packed codes of raw items, as :meth:`encode`, and how many activations were neither + nor -."""
        some = _several(items)
        batches = (_raw(some[start : start + batch_size]) for start in range(0, len(some), batch_size))
        return encode(self, (self.checked(self.preprocessing(batch)) for batch in batches), self.bits)

    def checked(self, inputs: Tensor) -> Tensor:
        """The inputs, which must be of the shape that the network takes."""
        if tuple(inputs.shape[1:]) != self.shape:
            raise ValueError(
                f"encode: items must give inputs of shape {list(self.shape)}, as in training, got "
                f"{list(inputs.shape[1:])}"
            )
        return inputs

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything into one file, atomically, that :func:`rdh_ext.load` reads."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "recipe": self.recipe.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "shape": list(self.shape),
            "classes": self.classes,
            "class_names": list(self.class_names),
            "chosen": self.chosen,
            "backbone": {name: value.cpu() for name, value in self.backbone.state_dict().items()},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_bytes(Path(path), buffer.getbuffer())

    def extra_repr(self) -> str:
        """For ``print(model)``."""
        return f"bits={self.bits}, shape={list(self.shape)}, classes={self.classes}"


def file_of(path: str | os.PathLike[str]) -> Path:
    """The file of a model: ``path``, or ``model.pt`` in the folder of a run."""
    where = Path(path)
    return where / "model.pt" if where.is_dir() else where


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> HashingModel:
    """See :func:`rdh_ext.load`."""
    device = checks.check_device("load", device)
    where = file_of(path)
    try:
        content = read_torch(where)
    except ValueError as error:
        raise ModelError(f"{where}: not a model of 'rdh train', or damaged ({error})") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ModelError(f"{where}: not a model of 'rdh train'; name its model.pt, or the folder of the run")
    if content.get("version") != _VERSION:
        raise ModelError(
            f"{where}: a model of version {content.get('version')}, this rdh_ext reads {_VERSION}; install a newer one"
        )
    name = _backbone_name(content)
    if name is not None and not is_known(name):
        raise ModelError(
            f"{where}: its network {name!r} is neither of rdh_ext nor of torchvision; add it to "
            "rdh_ext.hashing.backbones.BACKBONES as for the training, then load"
        )
    try:
        with torch.random.fork_rng(devices=[]):  # a network begins with random weights
            model = _built(content)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{where}: a damaged model ({' '.join(str(error).split())[:200]})") from error
    return model.to(device).eval()


def _backbone_name(content: dict[str, Any]) -> str | None:
    """None where it cannot be told."""
    recipe = content.get("recipe")
    backbone = recipe.get("backbone") if isinstance(recipe, dict) else None
    name = backbone.get("name") if isinstance(backbone, dict) else None
    return name if isinstance(name, str) else None


def _built(content: dict[str, Any]) -> HashingModel:
    recipe = Recipe.from_dict(content["recipe"])
    options = {name: value for name, value in recipe.backbone.items() if name != "name"}
    if "weights" in options_of(BACKBONES.get(recipe.backbone["name"], BACKBONES["alexnet"])):
        options["weights"] = "none"  # they are in the file
    backbone = make_backbone(recipe.backbone["name"], recipe.bits, tuple(content["shape"]), options)
    backbone.load_state_dict(content["backbone"])
    return HashingModel(
        backbone,
        recipe,
        Preprocessing.from_dict(content["preprocessing"]),
        shape=content["shape"],
        classes=content["classes"],
        class_names=content["class_names"],
        chosen=content["chosen"],
    )


def _several(items: Any) -> Any:
    """One item is the first of several."""
    if isinstance(items, (Tensor, np.ndarray)):
        return items if items.ndim in (2, 4) else items[None]
    return items if isinstance(items, (list, tuple)) else [items]


def _raw(items: Any) -> Tensor | list[Tensor]:
    """Some items as a batch, or as a list of items that may differ in shape."""
    return _one(items) if isinstance(items, (Tensor, np.ndarray)) else [_one(item) for item in items]


def _one(item: Any) -> Tensor:
    if isinstance(item, (str, os.PathLike)):
        return read_image(Path(item))
    if isinstance(item, Tensor):
        return item
    if isinstance(item, np.ndarray):  # a copy: files that are mapped, views backwards, numbers of other machines
        return torch.from_numpy(np.array(item, dtype=item.dtype.newbyteorder("=")))
    if hasattr(item, "convert"):
        return image_tensor(item)
    raise TypeError(
        f"encode: items must be tensors, arrays, Pillow images or paths of image files, got {type(item).__name__}"
    )
