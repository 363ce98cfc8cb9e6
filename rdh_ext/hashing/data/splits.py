"""Query / training / gallery splits, and the data they cut out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .preprocessing import Preprocessing
from .sources import Source, TensorSource


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
    """Items of one role with their labels.

    Example:
        >>> from rdh_ext.hashing.data import Part, TensorSource
        >>> digits = TensorSource(torch.zeros(40, 1, 8, 8))
        >>> part = Part(digits, indices=torch.tensor([30, 12]), labels=torch.tensor([7, 1]))
        >>> len(part), part.images.shape
        (2, torch.Size([2, 1, 8, 8]))
    """

    source: Source
    indices: Tensor
    """Where the items are in the source ``[n]``, int64."""
    labels: Tensor
    """Class ids ``[n]``, int64, or multi-hot ``[n, C]``, bool."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def images(self) -> Tensor:
        """The items themselves, raw, where the data set is in memory: ``[n, *shape]``.

        Raises:
            TypeError: they are files.
        """
        if not isinstance(self.source, TensorSource):
            raise TypeError(f"images: the items are in files, which are read one by one; got {self.source!r}")
        return self.source.read(self.indices)

    def at(self, places: Tensor) -> Part:
        """Some of them, by their places in this part."""
        return Part(self.source, self.indices[places], self.labels[places])


@dataclass(frozen=True)
class RetrievalData:
    """A data set ready for training and evaluation.

    Example:
        >>> from rdh_ext.hashing.data import Part, RetrievalData, TensorSource
        >>> part = Part(TensorSource(torch.zeros(2, 1, 8, 8)), torch.tensor([0, 1]), torch.tensor([7, 1]))
        >>> data = RetrievalData("two", "two black images", classes=10, query=part, train=part, gallery=part)
        >>> data.classes, data.is_multilabel
        (10, False)
    """

    name: str
    description: str
    classes: int
    query: Part
    train: Part
    gallery: Part
    topk: int | None = None
    """The depth at which the field evaluates mAP on it; None is the whole gallery."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """What makes inputs of a network of its raw items, if a recipe says nothing else."""

    @property
    def is_multilabel(self) -> bool:
        """Whether items may have several labels."""
        return self.train.labels.dim() == 2


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


def cut(source: Source, labels: Tensor, split: Split) -> tuple[Part, Part, Part]:
    """Query, training and gallery part of a data set; ``labels`` are those of all its items."""
    query, train, gallery = (Part(source, where, labels[where]) for where in (split.query, split.train, split.gallery))
    return query, train, gallery


def hold_out(data: RetrievalData, items: int, seed: int) -> tuple[RetrievalData, Part | None]:
    """Sets items aside that choose among the epochs of a training, which queries must not do.

    They are gallery items that are neither queries nor training items, where there are enough of them: their labels
    choose an epoch and nothing else, and the training set stays what the protocol says. Else they are training items,
    half of them at most, which are then not trained on.

    Args:
        data: as its protocol says.
        items: how many; 0 for none.
        seed: of the choice.

    Returns:
        The data to train on (``data`` itself in the first case), and the items, None for none.

    Example:
        >>> from rdh_ext.hashing.data import hold_out, load_digits
        >>> data, validation = hold_out(load_digits(), 300, seed=0)
        >>> len(data.train), len(validation)
        (500, 300)
    """
    if items < 1:
        return data, None
    generator = torch.Generator().manual_seed(seed)
    is_trained = torch.isin(data.gallery.indices, data.train.indices) & (data.gallery.source is data.train.source)
    spare = torch.nonzero(~is_trained).flatten()
    if len(spare) >= items:
        return data, data.gallery.at(spare[torch.randperm(len(spare), generator=generator)[:items]])
    order = torch.randperm(len(data.train), generator=generator)
    items = min(items, len(order) // 2)
    if items < 1:
        return data, None
    return replace(data, train=data.train.at(order[items:].sort().values)), data.train.at(order[:items])
