"""How query, training and gallery items are drawn from one set: seeded, and independent of the global random state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .labels import digest_of
from .sources import Source
from .splits import Split, check_split


class Usual(int):
    """A number that is taken where nobody gives one."""


def split_per_class(
    labels: Tensor,
    query_per_class: int,
    train_per_class: int | None,
    seed: int,
    *,
    class_names: Sequence[str] = (),
) -> Split:
    """The paper's protocol for CIFAR-10 and NUS-WIDE: so many queries and training items of every class.

    One label each: from every class ``query_per_class`` images become queries, the rest of the class is gallery, and
    ``train_per_class`` of the gallery images are used for training.

    Several labels each: for one class after the other, those with the fewest images first, ``query_per_class`` of its
    images that are not drawn yet become queries, and ``train_per_class`` others are used for training. All but the
    queries is gallery. No image is drawn twice, so that C classes give exactly C times as many.

    Each of the three lists is shuffled: a gallery sorted by class would bias every evaluation that breaks ties by
    position. Classes without any image are left out.

    Args:
        labels: class ids ``[n]`` or multi-hot ``[n, C]``.
        query_per_class, train_per_class: numbers of images, at least 1; ``train_per_class=None`` trains on the whole
            gallery.
        seed: decides everything; the global random state is neither used nor changed.
        class_names: of the classes 0, 1, ..., for the message.

    Raises:
        ValueError: a number below 1; a class has too few images; the message names it.

    Example:
        >>> from rdh_ext.hashing.data import split_per_class
        >>> split = split_per_class(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 1, 2, seed=0)
        >>> len(split.query), len(split.train), len(split.gallery)
        (2, 4, 6)
        >>> split.protocol
        'per class: 1 query, 2 train'
    """
    op = "split_per_class"
    _at_least_1(op, "query_per_class", query_per_class)
    if train_per_class is not None:
        _at_least_1(op, "train_per_class", train_per_class)
    generator = torch.Generator().manual_seed(seed)
    draw = _of_each_class if labels.dim() == 1 else _of_each_label
    query, train, gallery = draw(labels, query_per_class, train_per_class or 0, generator, class_names)
    query, train, gallery = (part[torch.randperm(len(part), generator=generator)] for part in (query, train, gallery))
    protocol = f"per class: {query_per_class:,} query, {_number(train_per_class)} train"
    return Split(
        query, gallery if train_per_class is None else train, gallery, protocol, seed, len(labels), digest_of(labels)
    )


def split_random(labels: Tensor, query_items: int, train_items: int | None, seed: int) -> Split:
    """The paper's protocol for MS-COCO: queries at random, the rest is gallery, of which some are trained on.

    Args:
        labels: class ids ``[n]`` or multi-hot ``[n, C]``; of no influence on what is drawn.
        query_items, train_items: how many, at least 1; ``train_items=None`` trains on the whole gallery.
        seed: decides everything; the global random state is neither used nor changed.

    Raises:
        ValueError: a number below 1, or more than there are.

    Example:
        >>> from rdh_ext.hashing.data import split_random
        >>> split = split_random(torch.zeros(10, dtype=torch.int64), 2, 3, seed=0)
        >>> len(split.query), len(split.train), len(split.gallery)
        (2, 3, 8)
    """
    op = "split_random"
    _at_least_1(op, "query_items", query_items)
    if train_items is not None:
        _at_least_1(op, "train_items", train_items)
    items, needed = len(labels), query_items + (train_items or 1)
    if needed > items:
        raise ValueError(
            f"{op}: {needed:,} items are needed ({query_items:,} query + {train_items or 1:,} train), got {items:,}"
        )
    generator = torch.Generator().manual_seed(seed)
    query, rest = torch.randperm(items, generator=generator).split([query_items, items - query_items])
    gallery = rest[torch.randperm(len(rest), generator=generator)]
    train = gallery if train_items is None else rest[:train_items]
    protocol = f"at random: {query_items:,} query, {_number(train_items)} train"
    return Split(query, train, gallery, protocol, seed, items, digest_of(labels))


def draw_train(labels: Tensor, train_items: int | None, *, per_class: bool, seed: int) -> Tensor:
    """Positions ``[m]`` of training items in a gallery whose queries are elsewhere; None takes all of it.

    Raises:
        ValueError: a number below 1, or more than there are.
    """
    if train_items is None:
        return torch.arange(len(labels))
    _at_least_1("train_items", "it", train_items)
    generator = torch.Generator().manual_seed(seed)
    if per_class:
        draw = _of_each_class if labels.dim() == 1 else _of_each_label
        train = draw(labels, 0, train_items, generator)[1]
        return train[torch.randperm(len(train), generator=generator)]
    if train_items > len(labels):
        raise ValueError(f"train_items: at most the {len(labels):,} items of the gallery, got {train_items:,}")
    return torch.randperm(len(labels), generator=generator)[:train_items]


@dataclass(frozen=True)
class Pool:
    """How one set without roles is split: the options that loaders share."""

    query_items: int
    train_items: int | None
    per_class: bool
    split: str | None = None
    """A saved split that takes the place of the rest."""

    def divide(
        self,
        source: Source,
        labels: Tensor,
        seed: int,
        names: list[str] | None = None,
        class_names: Sequence[str] = (),
    ) -> Split:
        """The split of these items.

        Raises:
            ValueError, OSError: too few items; a saved split that is damaged, or of other items.
        """
        if self.split is not None:
            return Split.load(Path(self.split), labels, names)
        numbers = (self.query_items, self.train_items, seed)
        try:
            if self.per_class:
                split = split_per_class(labels, *numbers, class_names=class_names)
            else:
                split = split_random(labels, *numbers)
        except ValueError as error:
            raise ValueError(f"{error}; query_items and train_items say how many") from None
        split = replace(split, data=digest_of(labels, names))
        check_split(split, len(source))
        return split


def _of_each_class(
    labels: Tensor, queries: int, training: int, generator: torch.Generator, class_names: Sequence[str] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    query, train, gallery = [], [], []
    needed = queries + training
    for label in torch.unique(labels).tolist():
        members = torch.nonzero(labels == label).flatten()
        if len(members) < max(needed, queries + 1):
            raise _too_few(_called(label, class_names), queries, training, len(members))
        members = members[torch.randperm(len(members), generator=generator)]
        query.append(members[:queries])
        gallery.append(members[queries:])
        train.append(members[queries:needed])
    return torch.cat(query), torch.cat(train), torch.cat(gallery)


def _of_each_label(
    labels: Tensor, queries: int, training: int, generator: torch.Generator, class_names: Sequence[str] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    counts = labels.sum(dim=0)
    order = [label for label in torch.argsort(counts, stable=True).tolist() if counts[label]]
    if not order:
        raise ValueError(f"split_per_class: labels must have a class for some of the {len(labels):,} images, got none")
    is_free = torch.ones(len(labels), dtype=torch.bool)
    is_query = torch.zeros(len(labels), dtype=torch.bool)
    train = []
    for label in order:
        members = torch.nonzero(labels[:, label] & is_free).flatten()
        if len(members) < queries + training:
            more = f", {len(members):,} of them not drawn"
            raise _too_few(_called(label, class_names), queries, training, int(counts[label]), more)
        drawn = members[torch.randperm(len(members), generator=generator)[: queries + training]]
        is_free[drawn] = False
        is_query[drawn[:queries]] = True
        train.append(drawn[queries:])
    return torch.nonzero(is_query).flatten(), torch.cat(train), torch.nonzero(~is_query).flatten()


def _called(label: int, class_names: Sequence[str]) -> str:
    return f"{label} ({class_names[label]})" if label < len(class_names) else str(label)


def _too_few(label: str, queries: int, training: int, got: int, more: str = "") -> ValueError:
    return ValueError(
        f"split_per_class: class {label} must have at least {queries + max(training, 1)} images "
        f"({queries} query + {max(training, 1)} train), got {got:,}{more}"
    )


def _number(items: int | None) -> str:
    return "all" if items is None else f"{items:,}"


def _at_least_1(op: str, argument: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{op}: {argument} must be a whole number, at least 1, got {value!r}")
