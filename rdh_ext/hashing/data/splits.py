"""Query / training / gallery splits, and the data they cut out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Positions in a data set, int64. Queries are disjoint from the gallery, training images are inside it.

    Example:
        >>> from rdh_ext.hashing.data import Split
        >>> Split(query=torch.tensor([3]), train=torch.tensor([0]), gallery=torch.tensor([0, 1, 2])).gallery
        tensor([0, 1, 2])
    """

    query: Tensor
    train: Tensor
    gallery: Tensor


@dataclass(frozen=True)
class Part:
    """Images of one role with their labels.

    Example:
        >>> from rdh_ext.hashing.data import Part
        >>> part = Part(torch.zeros(2, 1, 8, 8), torch.tensor([7, 1]), indices=torch.tensor([30, 12]))
        >>> len(part)
        2
    """

    images: Tensor
    """``[n, channels, height, width]``, float32."""
    labels: Tensor
    """Class ids ``[n]``, int64."""
    indices: Tensor
    """Where the images are in the data set ``[n]``, int64."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RetrievalData:
    """A data set ready for training and evaluation.

    Example:
        >>> from rdh_ext.hashing.data import Part, RetrievalData
        >>> part = Part(torch.zeros(2, 1, 8, 8), torch.tensor([7, 1]), indices=torch.tensor([30, 12]))
        >>> RetrievalData("two", "two black images", classes=10, query=part, train=part, gallery=part).classes
        10
    """

    name: str
    description: str
    classes: int
    query: Part
    train: Part
    gallery: Part


def split_per_class(labels: Tensor, query_per_class: int, train_per_class: int, seed: int) -> Split:
    """The paper's CIFAR-10 protocol for any single-label data set.

    From every class ``query_per_class`` images become queries, the rest of the class is gallery, and
    ``train_per_class`` of the gallery images are used for training. Each of the three lists is shuffled: a gallery
    sorted by class would bias every evaluation that breaks ties by position.

    Args:
        labels: class ids ``[n]``.
        query_per_class, train_per_class: numbers of images, at least 1.
        seed: decides everything; independent of the global random state, which is left alone.

    Raises:
        ValueError: a class has too few images; the message names it.

    Example:
        >>> from rdh_ext.hashing.data import split_per_class
        >>> split = split_per_class(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 1, 2, seed=0)
        >>> len(split.query), len(split.train), len(split.gallery)
        (2, 4, 6)
    """
    generator = torch.Generator().manual_seed(seed)
    query, train, gallery = [], [], []
    for label in torch.unique(labels).tolist():
        members = torch.nonzero(labels == label).flatten()
        needed = query_per_class + train_per_class
        if len(members) < needed:
            raise ValueError(
                f"split_per_class: class {label} must have at least {needed} images "
                f"({query_per_class} query + {train_per_class} train), got {len(members)}"
            )
        members = members[torch.randperm(len(members), generator=generator)]
        query.append(members[:query_per_class])
        gallery.append(members[query_per_class:])
        train.append(members[query_per_class:needed])

    def shuffled(parts: list[Tensor]) -> Tensor:
        joined = torch.cat(parts)
        return joined[torch.randperm(len(joined), generator=generator)]

    return Split(shuffled(query), shuffled(train), shuffled(gallery))


def cut(images: Tensor, labels: Tensor, positions: Tensor) -> Part:
    """The images and labels at ``positions``."""
    return Part(images[positions], labels[positions], positions)
