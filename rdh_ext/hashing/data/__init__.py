"""Data sets as query, training and gallery items, and the seeded splits that make them.

``DATASETS`` has the loaders by name; :func:`open_data` opens one with options by name, as recipes and command lines do.
Each loader takes the seed of the split, then options by keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..options import call, choose
from .cifar10 import load_cifar10
from .digits import load_digits
from .features import FeatureFile, load_features
from .folders import load_folders
from .known_lists import load_coco, load_imagenet100, load_nuswide21
from .labels import digest_of
from .lists import load_lists
from .preprocessing import Preprocessing
from .protocols import split_per_class, split_random
from .sources import ImageFiles, Source, TensorSource
from .splits import Part, RetrievalData, Split, check_split, hold_out

DATASETS: dict[str, Callable[..., RetrievalData]] = {
    "digits": load_digits,
    "cifar10": load_cifar10,
    "coco": load_coco,
    "nuswide21": load_nuswide21,
    "imagenet100": load_imagenet100,
    "lists": load_lists,
    "folders": load_folders,
    "features": load_features,
}
"""Name in recipes and on the command line -> loader."""


def open_data(name: str, seed: int, options: Mapping[str, Any]) -> RetrievalData:
    """A data set by its name.

    Args:
        name: one of :data:`DATASETS`.
        seed: of the split.
        options: keyword arguments of the loader.

    Raises:
        ValueError: no such data set or option, or one that is missing; the message has those that there are. And what
            the loader raises.

    Example:
        >>> from rdh_ext.hashing.data import open_data
        >>> len(open_data("digits", 0, {"query_per_class": 10}).query)
        100
    """
    return call("data", name, choose("data", name, DATASETS), options, seed)


__all__ = [
    "DATASETS",
    "FeatureFile",
    "ImageFiles",
    "Part",
    "Preprocessing",
    "RetrievalData",
    "Source",
    "Split",
    "TensorSource",
    "check_split",
    "digest_of",
    "hold_out",
    "load_cifar10",
    "load_coco",
    "load_digits",
    "load_features",
    "load_folders",
    "load_imagenet100",
    "load_lists",
    "load_nuswide21",
    "open_data",
    "split_per_class",
    "split_random",
]
