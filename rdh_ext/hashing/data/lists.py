"""Images and labels by list files, of a user's own or as they go round."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..._extras import require
from .image_files import PHOTOS, Named, check_there, merge_same, one_item_each, refuse_common, shown
from .labels import digest_of, number_of_classes, one_hot_as_ids, say_without_label
from .list_files import ListFile, find_lists, read_list
from .notices import warn
from .protocols import Pool, Usual, draw_train
from .sources import ImageFiles
from .split_files import ROLES
from .splits import Part, RetrievalData, Split, cut

_OF_A_POOL = Usual(500)
"""Training items of each class, of one list."""


@dataclass(frozen=True)
class Known:
    """What the field has agreed on about a data set."""

    name: str
    title: str
    classes: int | None = None
    topk: int | None = None
    sizes: tuple[int, int, int] | None = None
    """Query, training and gallery items."""


@dataclass(frozen=True)
class Place:
    """Where lists and images are: the options that loaders share."""

    images: str
    lists: str | None
    strip: str
    given: Mapping[str, str | None]

    @property
    def root(self) -> str:
        """The folder that relative paths begin in."""
        return os.path.expanduser(self.images)

    @property
    def folder(self) -> Path:
        """With the lists."""
        return Path(self.root if self.lists is None else self.lists).expanduser()

    def strip_all(self, lists: Mapping[str, ListFile]) -> dict[str, list[str]]:
        """Paths by role, without the prefix."""
        prefix = self.strip.replace("\\", "/")
        start = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        stripped = {role: [_without(path, start) for path in each.paths] for role, each in lists.items()}
        if start and all(stripped[role] == each.paths for role, each in lists.items()):
            each = next(iter(lists.values()))
            raise ValueError(
                f"{each.name}: no path begins with strip={self.strip!r}; the first is {shown(each.paths[:1])}"
            )
        return stripped


def _without(path: str, start: str) -> str:
    return path[len(start) :].lstrip("/") if start and path.startswith(start) else path


def load_lists(
    seed: int = 0,
    *,
    root: str = ".",
    lists: str | None = None,
    strip: str = "",
    train: str | None = None,
    query: str | None = None,
    gallery: str | None = None,
    pool: str | None = None,
    query_items: int = 100,
    train_items: int | None = _OF_A_POOL,
    per_class: bool = True,
    split: str | None = None,
    classes: int | None = None,
    topk: int | None = None,
) -> RetrievalData:
    """Images of your own, listed in text files.

    Three lists say which images are queries, training images and gallery: ``train.txt``, ``query.txt`` or
    ``test.txt``, ``gallery.txt`` or ``database.txt``, also with something in front (``my_Train.txt``, ``my_DB.txt``).
    Each line is ``<path> <class id>`` or ``<path> 0 1 0 ...`` with one number for each class; or the paths are in
    ``train_img.txt`` and the labels in ``train_label_onehot.txt`` or ``train_label.txt``. Training images may be in
    the gallery, by the same paths; where they have no list, ``train_items`` are drawn from the gallery by seed. Or one
    list (``pool``, or ``img_tc10.txt`` with ``targets_onehot_tc10.txt``) is split by seed. Where every image has
    exactly one label the labels become class ids.

    Args:
        seed: of the split of one list, or of the choice of training items of a gallery; of no influence on three.
        root: the folder in which relative paths begin.
        lists: the folder with the lists; None means ``root``.
        strip: beginning of the paths that is taken off, a folder of somebody else's machine.
        train, query, gallery: names of lists; None looks for them. ``gallery="train.txt"`` searches training images.
        pool: name of one list of everything.
        query_items, train_items: of one list: how many of each class, or of all where ``per_class`` is False;
            ``train_items=None`` trains on the whole gallery. Of lists of queries and gallery alone, ``train_items``
            must be given.
        per_class: see :func:`split_per_class`; False see :func:`split_random`.
        split: file of a saved split of one list, in place of the three before.
        classes: C of class ids; None means one more than the largest.
        topk: depth of mAP; None is the whole gallery.

    Raises:
        ValueError: a list is missing, ambiguous or malformed (with file and line); a query is in the gallery or
            trained on; an image has different labels in two lists.
        OSError: images are not there, which is found out before any work: one line that counts them.
        MissingExtra: Pillow is not installed.

    Warns:
        UserWarning: an image is more than once in a list, where it counts once; images have no label.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from rdh_ext.hashing.data import load_lists
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a", "b", "c", "d"):
        ...         _ = Path(folder, f"{name}.jpg").write_bytes(b"an image")
        ...     _ = Path(folder, "query.txt").write_text("a.jpg 0 1 1\\n")
        ...     _ = Path(folder, "train.txt").write_text("b.jpg 0 1 0\\n")
        ...     _ = Path(folder, "gallery.txt").write_text("b.jpg 0 1 0\\nc.jpg 1 0 0\\nd.jpg 0 1 1\\n")
        ...     data = load_lists(root=folder)
        >>> len(data.query), len(data.train), len(data.gallery), data.classes, data.is_multilabel
        (1, 1, 3, 3, True)
    """
    known = Known("lists", "images in lists", classes, topk)
    place = Place(root, lists, strip, {"train": train, "query": query, "gallery": gallery, "pool": pool})
    return load_known(known, seed, place, Pool(query_items, train_items, per_class, split))


def load_known(known: Known, seed: int, place: Place, pool: Pool) -> RetrievalData:
    """What the loaders of lists share: all of it."""
    require("PIL", package="pillow", extra="train")
    lists = {role: read_list(name) for role, name in find_lists(place.folder, dict(place.given)).items()}
    if "pool" not in lists and pool.split is not None:
        raise ValueError(f"{place.folder}: the lists say which images are queries; leave out split={pool.split!r}")
    if not {"train", "pool"} & set(lists) and isinstance(pool.train_items, Usual):
        raise ValueError(
            f"{place.folder}: no list for train; name it: train=..., or say how many images "
            f"{'of each class ' if pool.per_class else ''}to draw from the gallery: train_items=..."
        )
    _check_columns(list(lists.values()))
    files = [Named(lists[role].name, paths) for role, paths in place.strip_all(lists).items()]
    source, named = one_item_each(files, place.root)
    _check_labels(source, list(lists.values()), named)
    identities = check_there(source, known.name, lambda path: _advice(path, place))
    merged = merge_same(source, identities, files, named)
    indices = {role: index for role, (index, _) in zip(lists, merged, strict=True)}
    kept = one_hot_as_ids([each.labels[places] for each, (_, places) in zip(lists.values(), merged, strict=True)])
    labels = dict(zip(lists, kept, strict=True))
    if "pool" in lists:
        return _pooled(known, seed, source, indices["pool"], labels["pool"], pool)
    for role in [role for role in ("train", "gallery") if role in lists]:
        query = (lists["query"].name, indices["query"])
        refuse_common(known.name, source, query, (lists[role].name, indices[role]))
    given = [role for role in ROLES if role in lists]
    joined = torch.cat([indices[role] for role in given])
    digest = digest_of(torch.cat([labels[role] for role in given]), (source.paths[index] for index in joined.tolist()))
    protocol = f"as {', '.join(os.path.basename(lists[role].name) for role in given)} say"
    if "train" not in lists:
        drawn = _drawn(place, labels["gallery"], pool, seed)
        indices["train"], labels["train"] = indices["gallery"][drawn], labels["gallery"][drawn]
        protocol += f", {len(drawn):,} training items of the gallery"
    parts = {role: Part(source, indices[role], labels[role]) for role in ROLES}
    split = Split(
        query=indices["query"],
        train=indices["train"],
        gallery=indices["gallery"],
        protocol=protocol,
        seed=None if "train" in lists else seed,
        items=len(source),
        data=digest,
    )
    return _described(known, parts, split)


def _drawn(place: Place, gallery: Tensor, pool: Pool, seed: int) -> Tensor:
    """Places in the gallery of the training items, where no list names them."""
    try:
        return draw_train(gallery, pool.train_items, per_class=pool.per_class, seed=seed)
    except ValueError as error:
        raise ValueError(
            f"{place.folder}: no list for train, and {error}; train_items=... says how many of the gallery are drawn"
        ) from None


def _pooled(known: Known, seed: int, source: ImageFiles, index: Tensor, labels: Tensor, pool: Pool) -> RetrievalData:
    """One list without roles, split."""
    source = ImageFiles([source.paths[each] for each in index.tolist()], source.root)
    split = pool.divide(source, labels, seed, source.paths)
    return _described(known, dict(zip(ROLES, cut(source, labels, split), strict=True)), split)


def _described(known: Known, parts: dict[str, Part], split: Split) -> RetrievalData:
    labels = {role: parts[role].labels for role in ROLES}
    classes = number_of_classes(list(labels.values()), known.name, at_least=known.classes or 1)
    sizes = tuple(len(parts[role]) for role in ROLES)
    differs = []
    if known.classes not in (None, classes):
        differs.append(f"{classes:,} classes instead of {known.classes:,}")
    if known.sizes is not None:
        pairs = zip(ROLES, sizes, known.sizes, strict=True)
        differs += [f"{size:,} {role} images instead of {usual:,}" for role, size, usual in pairs if size != usual]
    if differs:
        warn(f"{known.name}: not as usual: {', '.join(differs)}")
    say_without_label(known.name, labels)
    items = len(torch.cat([parts[role].indices for role in ROLES]).unique())
    return RetrievalData(
        name=known.name,
        description=f"{known.title}: {items:,} images, {classes:,} classes, split {split.protocol}",
        classes=classes,
        topk=known.topk,
        preprocessing=PHOTOS,
        made_by=split,
        query=parts["query"],
        train=parts["train"],
        gallery=parts["gallery"],
    )


def _check_columns(lists: list[ListFile]) -> None:
    """All lists must have the same kind of labels."""
    first = lists[0]
    for each in lists[1:]:
        if each.labels.shape[1:] != first.labels.shape[1:]:
            kinds = [
                f"{one.labels.shape[1]} labels" if one.labels.dim() == 2 else "a class id" for one in (first, each)
            ]
            raise ValueError(
                f"{each.name}: {kinds[1]} in each line, and {kinds[0]} in {first.name}; bring back the right one"
            )


def _check_labels(source: ImageFiles, lists: list[ListFile], indices: list[Tensor]) -> None:
    """An image must have the same labels wherever it is."""
    index, labels = torch.cat(indices).numpy(), torch.cat([each.labels for each in lists]).numpy()
    first = np.unique(index, return_index=True)[1][index]
    wrong = (labels != labels[first]).reshape(len(labels), -1).any(axis=1)
    if wrong.any():
        where = [f"{each.name}, line {line}" for each in lists for line in each.lines]
        row = int(wrong.argmax())
        raise ValueError(
            f"{where[row]}: {shown([source.paths[index[row]]])} has other labels than in {where[first[row]]}, and so "
            f"have {int(wrong.sum()) - 1:,} more; bring back the lists that belong together"
        )


def _advice(path: str, place: Place) -> str:
    """How a missing image might be found: without the prefix that is in the way, where there is one."""
    parts = path.split("/")
    for first in range(1, len(parts)):
        if os.path.isfile(os.path.join(place.root, *parts[first:])):
            prefix = "/".join([*filter(None, [place.strip.rstrip("/")]), *parts[:first]])
            return f"the first is found with strip={prefix!r}"
    return f"set root (now {place.root!r}) to the folder the paths begin in, and strip to what must be taken off them"
