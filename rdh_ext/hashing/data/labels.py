"""What is said of labels whatever file they come from: class ids or multi-hot, how many classes, their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...retrieval.sets.manifest import MAX_CLASSES
from .notices import warn


def one_hot_as_ids(labels: Sequence[Tensor]) -> list[Tensor]:
    """Labels of several files as one kind: class ids where every row of all of them has exactly one label.

    Args:
        labels: int64 ``[n]`` or bool ``[n, C]`` each, of one kind and one C.
    """
    if any(each.dim() == 1 or bool((each.sum(dim=1) != 1).any()) for each in labels):
        return list(labels)
    return [each.to(torch.uint8).argmax(dim=1) for each in labels]


def number_of_classes(labels: Sequence[Tensor], name: str, at_least: int = 1) -> int:
    """C: the columns of multi-hot labels, or one more than the largest class id.

    Raises:
        ValueError: an id so large that nothing could be kept for each class.
    """
    if labels[0].dim() == 2:
        return labels[0].shape[1]
    largest = max((int(each.max()) for each in labels if len(each)), default=0)
    if largest >= MAX_CLASSES:
        raise ValueError(
            f"{name}: class id {largest} is not below {MAX_CLASSES:,}; number the classes from 0 on, as "
            "numpy.unique(ids, return_inverse=True)[1] does"
        )
    return max(at_least, largest + 1)


def say_without_label(name: str, labels: Mapping[str, Tensor]) -> None:
    """Warns of items that have no label at all: they stay, and nothing is relevant to them."""
    missing = {role: int((~each.any(dim=1)).sum()) for role, each in labels.items() if each.dim() == 2}
    if any(missing.values()):
        counts = ", ".join(f"{missing[role]:,} of {len(labels[role]):,} {role} items" for role in missing)
        warn(f"{name}: without any label: {counts}; they are kept, and nothing is relevant to them")


def update_with(digest: hashlib._Hash, pieces: Iterable[bytes]) -> None:
    """Adds pieces so that where one ends and the next begins counts, too."""
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)


def label_bytes(labels: Tensor) -> list[bytes]:
    """Kind and values, the same on every machine."""
    kind = "ids" if labels.dim() == 1 else f"multi-hot {labels.shape[1]}"
    values = labels.cpu().numpy()
    return [kind.encode(), values.astype("<i8" if labels.dim() == 1 else np.bool_).tobytes()]


def name_bytes(names: Iterable[str]) -> bytes:
    """File names, whatever bytes are in them."""
    return "\0".join(names).encode("utf-8", "surrogateescape")


def digest_of(labels: Tensor, names: Iterable[str] | None = None) -> str:
    """SHA-256 of the labels of all items in their order, and of the names of files where items are files.

    Args:
        labels: class ids ``[n]`` int64, or multi-hot ``[n, C]`` bool.
        names: of the files, relative to the folder that the data set is in.

    Example:
        >>> from rdh_ext.hashing.data import digest_of
        >>> digest_of(torch.tensor([3, 1]))[:8], digest_of(torch.tensor([1, 3]))[:8]
        ('9f05281b', 'c2b674c2')
    """
    digest = hashlib.sha256()
    update_with(digest, [*label_bytes(labels), b"" if names is None else name_bytes(names)])
    return digest.hexdigest()
