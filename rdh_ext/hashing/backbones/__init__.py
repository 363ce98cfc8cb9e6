"""Backbones: networks that end in K linear outputs, one logit per bit. The activation belongs to the hashing method."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from ..data.preprocessing import Preprocessing
from ..options import call
from .pretrained import TorchvisionBackbone, model_names, model_preprocessing, torchvision_backbone
from .small import linear, mlp, small_cnn

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn,
    "linear": linear,
    "mlp": mlp,
    "alexnet": partial(torchvision_backbone, "alexnet"),
}
"""Name -> function of K and the shape of an input; its options are keyword arguments. Every other classification model
of torchvision is a backbone, too, by the name it has there and with the options of "alexnet"."""

__all__ = ["BACKBONES", "TorchvisionBackbone", "input_hint", "is_known", "linear", "make_backbone", "mlp", "small_cnn"]


def make_backbone(
    name: str, bits: int, shape: tuple[int, ...] | None, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """A new network ``[B, *shape]`` -> logits ``[B, bits]``; what is not pretrained follows the global random state.

    =============  ==============================================================================  =================
    name           network                                                                         options
    =============  ==============================================================================  =================
    ``linear``     one linear layer, for features (images are flattened)                           none
    ``mlp``        linear layers with ReLU between them, for features (images are flattened)       ``hidden``
    ``small_cnn``  two convolutions and two linear layers, for small images                        ``width, hidden``
    ``alexnet``    the paper's: AlexNet of torchvision, pretrained on ImageNet, with a new last    ``weights``,
                   layer                                                                           ``frozen``,
                                                                                                   ``init_std``
    any other      a classification model of torchvision by its name there, with a new last layer  as ``alexnet``
    =============  ==============================================================================  =================

    Args:
        name: of :data:`BACKBONES`, or of torchvision (``torchvision.models.list_models``).
        bits: K.
        shape: of one input, ``(channels, height, width)`` or ``(features,)``;
            :meth:`rdh_ext.hashing.data.Preprocessing.shape_of` says it. None is an
            error that says what to do.
        options: keyword arguments of the function in :data:`BACKBONES`; see :func:`small_cnn`, :func:`linear`,
            :func:`mlp` and, for all models of torchvision, :class:`TorchvisionBackbone`.

    Raises:
        ValueError: an unknown name or option, inputs of a shape that the network does not take, or weights that are
            not its own.
        OSError: weights that cannot be downloaded; the message says where they are and how to give them as a file.
        MissingExtra: torchvision is not installed.

    Example:
        >>> from rdh_ext.hashing.backbones import make_backbone
        >>> make_backbone("mlp", 32, (512,), {"hidden": [128]})(torch.zeros(2, 512)).shape
        torch.Size([2, 32])
    """
    if not _is_count(bits):
        raise ValueError(f"backbone {name}: bits must be a whole number of at least 1, got {bits!r}")
    if shape is None:
        raise ValueError(
            f"backbone {name}: all inputs must have one shape, which a size in the preprocessing gives them"
        )
    if len(shape) not in (1, 3) or not all(map(_is_count, shape)):
        raise ValueError(f"backbone {name}: inputs must be (channels, height, width) or (features,), got {shape!r}")
    return call("backbone", name, _function(name), options or {}, bits, tuple(shape))


def input_hint(name: str, weights: str = "DEFAULT") -> Preprocessing | None:
    """The inputs that pretrained weights were made for, of images of bytes; None for networks without such weights.

    Resizing is bilinear, which is what most weights were trained with; a few (EfficientNet, Swin) had bicubic images.

    Args:
        name: as in :func:`make_backbone`.
        weights: as its option; "none" and a file are taken for "DEFAULT".

    Raises:
        ValueError: an unknown name.
        MissingExtra: torchvision is not installed.

    Example:
        >>> from rdh_ext.hashing.backbones import input_hint
        >>> hint = input_hint("alexnet")
        >>> hint.resize, hint.size, hint.mean
        (256, 224, (0.485, 0.456, 0.406))
    """
    function = _function(name)
    is_pretrained = isinstance(function, partial) and function.func is torchvision_backbone
    return model_preprocessing(name, weights) if is_pretrained else None


def is_known(name: str) -> bool:
    """Whether :func:`make_backbone` has a network of that name.

    Raises:
        MissingExtra: it is none of the package, and torchvision is not installed.

    Example:
        >>> from rdh_ext.hashing.backbones import is_known
        >>> is_known("linear")
        True
    """
    return name in BACKBONES or name in model_names()


def _function(name: str) -> Callable[..., nn.Module]:
    if name in BACKBONES:
        return BACKBONES[name]
    known = model_names()
    if name in known:
        return partial(torchvision_backbone, name)
    close = difflib.get_close_matches(name, {*BACKBONES, *known}, n=3)
    names = ", ".join([*close, *(each for each in BACKBONES if each not in close)])
    raise ValueError(f"backbone must be {names} or another classification model of torchvision, got {name!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
