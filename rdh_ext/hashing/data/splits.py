"""Query / training / gallery splits, and the data they cut out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from .labels import digest_of, label_bytes, name_bytes, update_with
from .notices import warn
from .preprocessing import Preprocessing
from .sources import ImageFiles, Source, TensorSource
from .split_files import ROLES, read_split, write_split

_LOOKED_AT = 64
"""Items of a part in memory whose values are in its fingerprint."""
_SPARE_ENOUGH = 100
"""Items that choose an epoch well enough, so that training items are left alone."""


@dataclass(frozen=True)
class Split:
    """Positions in a data set, int64, without repetition. Queries are neither in the gallery nor trained on.

    Training items are in the gallery in most protocols, and apart from it in some.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from rdh_ext.hashing.data import Split, split_per_class
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> split = split_per_class(labels, 1, 1, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     split.save(Path(folder) / "split.npz")
        ...     again = Split.load(Path(folder) / "split.npz", labels)
        >>> torch.equal(again.gallery, split.gallery), again.protocol
        (True, 'per class: 1 query, 1 train')
    """

    query: Tensor
    train: Tensor
    gallery: Tensor
    protocol: str = ""
    """How it was made, in words."""
    seed: int | None = None
    """What it was drawn with; None where files say it."""
    items: int | None = None
    """Of the whole data set."""
    data: str = ""
    """SHA-256 of the labels (and names) of all items: :func:`rdh_ext.hashing.data.digest_of`."""

    def save(self, path: str | Path) -> None:
        """Writes one ``.npz`` with positions, protocol, seed, number and digest of the items, and a checksum.

        The file is complete or absent, and nothing in it needs unpickling.

        Raises:
            OSError: it cannot be written.
        """
        positions = {role: getattr(self, role).cpu().numpy() for role in ROLES}
        note = {"protocol": self.protocol, "seed": self.seed, "items": self.items, "data": self.data}
        write_split(Path(path), positions, note)

    @classmethod
    def load(cls, path: str | Path, labels: Tensor | None = None, names: Iterable[str] | None = None) -> Split:
        """Reads what :meth:`save` wrote.

        Args:
            path: the file.
            labels: of all items of the data set that it shall belong to, ``[n]`` or ``[n, C]``; None takes its word.
            names: of the files of these items, where they are files.

        Raises:
            ValueError: the file is no split or damaged, or was made of other data; one line that names it.
            OSError: it cannot be read.
        """
        positions, note = read_split(Path(path))
        tensors = {role: torch.from_numpy(positions[role]) for role in ROLES}
        split = cls(
            query=tensors["query"],
            train=tensors["train"],
            gallery=tensors["gallery"],
            **{key: note[key] for key in ("protocol", "seed", "items", "data")},
        )
        if labels is not None:
            if split.items not in (None, len(labels)):
                raise ValueError(f"{path}: a split of {split.items:,} items, and these are {len(labels):,}; {_MAKE}")
            if split.data and split.data != digest_of(labels, names):
                raise ValueError(f"{path}: a split of items with other labels, names or order; {_MAKE}")
        try:
            check_split(split, len(labels) if labels is not None else split.items)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return split


_MAKE = "bring back the data that it was made of, or make a split of these"


def check_split(split: Split, items: int | None = None) -> None:
    """Refuses a split that cannot be meant: queries that are searched or trained on, positions twice or out of range.

    Args:
        split: what is looked at.
        items: of the data set, where known.

    Raises:
        ValueError: one line that says what is wrong and names the first positions.

    Example:
        >>> from rdh_ext.hashing.data import Split, check_split
        >>> try:
        ...     check_split(Split(query=torch.tensor([3]), train=torch.tensor([0]), gallery=torch.tensor([0, 3])))
        ... except ValueError as error:
        ...     print(error)
        split: query and gallery must have no item in common, got 1: 3
    """
    for role in ROLES:
        where: Tensor = getattr(split, role)
        if where.dtype != torch.int64 or where.dim() != 1 or not len(where):
            raise ValueError(
                f"split: {role} must be positions, int64 [n], n > 0, got {where.dtype} {list(where.shape)}"
            )
        wrong = where[(where < 0) | (where >= (items if items is not None else torch.iinfo(torch.int64).max))]
        if len(wrong):
            limit = "0 on" if items is None else f"0 to {items - 1:,}"
            raise ValueError(f"split: {role} must have positions from {limit}, got {_some(wrong)}")
        values, counts = where.unique(return_counts=True)
        if len(values) < len(where):
            raise ValueError(f"split: {role} must have every item once, got {_some(values[counts > 1])} more often")
    for role in ("train", "gallery"):
        common = split.query[torch.isin(split.query, getattr(split, role))]
        if len(common):
            raise ValueError(
                f"split: query and {role} must have no item in common, got {len(common):,}: {_some(common)}"
            )


def _some(positions: Tensor) -> str:
    shown = ", ".join(map(str, positions[:3].tolist()))
    return shown if len(positions) <= 3 else f"{shown}, ..."


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
    class_names: tuple[str, ...] = ()
    """Of the classes 0, 1, ..., where they are known."""
    made_by: Split | None = None
    """The split that the parts were cut out by."""

    @property
    def is_multilabel(self) -> bool:
        """Whether items may have several labels."""
        return self.train.labels.dim() == 2

    def split(self) -> Split:
        """Positions of the parts as they are now, to be saved with a training.

        Where parts are in several files, the items of the gallery's are counted first, then those of the training
        set's and the queries'.
        """
        first, places, offset = {}, {}, 0
        for role in ("gallery", "train", "query"):
            part: Part = getattr(self, role)
            if id(part.source) not in first:
                first[id(part.source)] = offset
                offset += len(part.source)
            places[role] = part.indices + first[id(part.source)]
        query, train, gallery = (places[role] for role in ROLES)
        if self.made_by is None:
            return Split(query, train, gallery, items=offset)
        return replace(self.made_by, query=query, train=train, gallery=gallery)

    def fingerprint(self) -> str:
        """SHA-256 of what a training depends on: items, their order, labels and names in each part.

        Of images in files the names count, relative to their root, and not the pixels. Of items in arrays 64 of each
        part are looked at, so that features of another network have another fingerprint.
        """
        digest = hashlib.sha256(f"{self.name} {self.classes}".encode())
        for role in ROLES:
            update_with(digest, _marks_of(getattr(self, role)))
        return digest.hexdigest()


def _marks_of(part: Part) -> list[bytes]:
    source, indices = part.source, part.indices
    marks = [indices.numpy().astype("<i8").tobytes(), *label_bytes(part.labels)]
    if isinstance(source, ImageFiles):
        return [*marks, name_bytes(source.paths[index] for index in indices.tolist())]
    marks.append(name_bytes(source.name(index) for index in indices.tolist()))
    if source.shape is not None:
        places = torch.linspace(0, len(part) - 1, min(_LOOKED_AT, len(part)), dtype=torch.float64).long()
        items = source.read(indices[places])
        items = items if isinstance(items, Tensor) else torch.stack(items)
        marks.append(f"{items.dtype} {list(items.shape)}".encode())
        marks.append(items.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return marks


def cut(source: Source, labels: Tensor, split: Split) -> tuple[Part, Part, Part]:
    """Query, training and gallery part of a data set; ``labels`` are those of all its items.

    Raises:
        ValueError: the split is none of these items; see :func:`check_split`.
    """
    check_split(split, len(labels))
    query, train, gallery = (Part(source, where, labels[where]) for where in (split.query, split.train, split.gallery))
    return query, train, gallery


def hold_out(data: RetrievalData, items: int, seed: int) -> tuple[RetrievalData, Part | None]:
    """Sets items aside that choose among the epochs of a training, which queries must not do.

    They are gallery items that are neither queries nor training items, where there are at least ``min(items, 100)`` of
    these, and as many of them as there are, ``items`` at most: their labels choose an epoch and nothing else, and the
    training set stays what the protocol says. Else they are training items, a tenth of them at most (one where there
    are fewer than ten), which are then not trained on; a warning says so.

    Args:
        data: as its protocol says.
        items: how many; 0 for none.
        seed: of the choice.

    Returns:
        The data to train on (``data`` itself in the first case), and the items, None for none.

    Warns:
        UserWarning: training items are held out.

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
    if len(spare) >= min(items, _SPARE_ENOUGH):
        return data, data.gallery.at(spare[torch.randperm(len(spare), generator=generator)[:items]])
    held = min(items, max(1, len(data.train) // 10), len(data.train) - 1)
    if held < 1:
        return data, None
    warn(
        f"{data.name}: {held:,} of {len(data.train):,} training items are held out to choose the epoch, and not "
        f"trained on: validation.items={items}, and {len(spare):,} items of the gallery are not trained on; "
        "validation.items=0 keeps all and takes the last epoch"
    )
    order = torch.randperm(len(data.train), generator=generator)
    return replace(data, train=data.train.at(order[held:].sort().values)), data.train.at(order[:held])
