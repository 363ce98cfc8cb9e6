"""Images in folders: one for each class, in one for each role, or without roles."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..._extras import require
from ..._image_names import is_image
from .image_files import PHOTOS, Named, check_there, merge_same, one_item_each, refuse_common, shown
from .labels import digest_of
from .list_files import ROLE_WORDS
from .protocols import Pool
from .sources import ImageFiles
from .split_files import ROLES
from .splits import Part, RetrievalData, Split, cut

_ASKED = ("val", "valid", "validation", "dev", "eval")
"""Names that folders beside ``train`` have, and classes do not."""


def load_folders(
    seed: int = 0,
    *,
    root: str = "data",
    train: str | None = None,
    query: str | None = None,
    gallery: str | None = None,
    query_items: int = 100,
    train_items: int | None = 500,
    per_class: bool = True,
    split: str | None = None,
    topk: int | None = None,
) -> RetrievalData:
    """Images of your own in folders whose names are the classes.

    ``train/cat/1.jpg``: three folders ``train``, ``query`` or ``test``, and ``gallery`` or ``database``, each with a
    folder for each class. Training images may be in the gallery, too, as links or copies. Or ``cat/1.jpg``: folders of
    classes alone, which are split by seed.

    Classes are numbered in the order of their names, the same in all three; images come in the order of their names.
    Folders in the folder of a class belong to it. Left out are hidden files, and those without the suffix of an image.

    Args:
        seed: of the split of folders without roles; of no influence on three.
        root: the folder with these folders.
        train, query, gallery: names of the three folders; None looks for them. ``gallery="train"`` searches training
            images.
        query_items, train_items: without roles: how many of each class, or of all where ``per_class`` is False;
            ``train_items=None`` trains on the whole gallery.
        per_class: see :func:`split_per_class`; False see :func:`split_random`.
        split: file of a saved split of folders without roles, in place of the three before.
        topk: depth of mAP; None is the whole gallery.

    Raises:
        ValueError: a role is missing or could be two folders; there are no images; a query is in the gallery or
            trained on, by a link or as a copy of the same name.
        OSError: a folder or a file cannot be read.
        MissingExtra: Pillow is not installed.

    Warns:
        UserWarning: links lead to an image more than once in a role, where it counts once.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from rdh_ext.hashing.data import load_folders
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat/1.jpg", "cat/2.jpg", "cat/3.png", "dog/1.jpg", "dog/2.jpg"):
        ...         Path(folder, name).parent.mkdir(exist_ok=True)
        ...         _ = Path(folder, name).write_bytes(b"an image")
        ...     data = load_folders(root=folder, query_items=1, train_items=1)
        >>> data.class_names, len(data.query), len(data.train), len(data.gallery)
        (('cat', 'dog'), 2, 2, 3)
    """
    require("PIL", package="pillow", extra="train")
    root = os.path.expanduser(root)
    given = {"train": train, "query": query, "gallery": gallery}
    roles = _find_roles(Path(root), given)
    if roles and split is not None:
        raise ValueError(f"{root}: its folders say which images are queries; leave out split={split!r}")
    folders = roles or {"pool": ""}
    found = {role: _classes_in(os.path.join(root, folder)) for role, folder in folders.items()}
    names = sorted(set().union(*found.values()))
    number = {name: place for place, name in enumerate(names)}
    files, labels = [], {}
    for role, classes in found.items():
        paths = [os.path.join(folders[role], name, path) for name in sorted(classes) for path in classes[name]]
        where = str(Path(root, folders[role]))
        if not paths:
            raise ValueError(
                f"{where}: no images; put them into one folder for each class: {where}/<class>/<image>.jpg"
            )
        files.append(Named(where, paths))
        ids = [number[name] for name in sorted(classes) for _ in classes[name]]
        labels[role] = torch.tensor(ids, dtype=torch.int64)
    source, named = one_item_each(files, root)
    identities = check_there(source, "folders", lambda _: "bring them back, or delete the links to them")
    merged = merge_same(source, identities, files, named)
    indices = {role: index for role, (index, _) in zip(found, merged, strict=True)}
    labels = {role: labels[role][places] for role, (_, places) in zip(found, merged, strict=True)}
    pool = Pool(query_items, train_items, per_class, split)
    if roles:
        parts, made_by = _parts(source, roles, indices, labels)
    else:
        parts, made_by = _pooled(source, seed, indices["pool"], labels["pool"], pool, names)
    items = len(torch.cat([parts[role].indices for role in ROLES]).unique())
    return RetrievalData(
        name="folders",
        description=f"images in folders: {items:,} images, {len(names):,} classes, split {made_by.protocol}",
        classes=len(names),
        topk=topk,
        preprocessing=PHOTOS,
        class_names=tuple(names),
        made_by=made_by,
        query=parts["query"],
        train=parts["train"],
        gallery=parts["gallery"],
    )


def _find_roles(root: Path, given: Mapping[str, str | None]) -> dict[str, str]:
    """Folder by role; none where folders are classes."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; name the one with the folders of classes: root=...")
    folders = [each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")]
    found = {role: name for role, name in given.items() if name is not None}
    for role, name in found.items():
        if not (root / name).is_dir():
            raise FileNotFoundError(f"{root / name}: no such folder; {role}=... must be one of {_listed(folders)}")
    for role, words in ROLE_WORDS.items():
        names = sorted(name for name in folders if name.lower() in words)
        if role not in found and names:
            if len(names) > 1:
                raise ValueError(
                    f"{root}: {_listed(names)} could be the folder for {role}; say which: {role}={names[0]!r}"
                )
            found[role] = names[0]
    missing = [role for role in ROLE_WORDS if role not in found]
    if len(folders) == 2 and list(found) == ["train"] and given["train"] is None:
        other = next(name for name in folders if name != found["train"])
        if other.lower() in _ASKED:
            raise ValueError(
                f"{root}: {other} and {found['train']} are roles, and no classes; to search training images: "
                f"query={other} and gallery={found['train']}"
            )
    # one such name alone may well be a class: a train
    if missing and len(found) < 2 and not any(given.values()):
        return {}
    if missing:
        hint = ", or gallery='train' where the training images are what is searched" if missing == ["gallery"] else ""
        raise ValueError(
            f"{root}: no folder for {missing[0]} ({' or '.join(ROLE_WORDS[missing[0]])}), it has {_listed(folders)}; "
            f"name it: {missing[0]}=...{hint}"
        )
    return found


def _listed(names: list[str]) -> str:
    return shown(sorted(names)) or "none"


def _classes_in(folder: str) -> dict[str, list[str]]:
    """Images of each class, in order, relative to its folder."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return {name: _images_in(os.path.join(folder, name)) for name in names}


def _images_in(folder: str) -> list[str]:
    found = []
    for above, inside, files in os.walk(folder, onerror=_refuse):
        inside[:] = [name for name in inside if not name.startswith(".")]
        found += [os.path.relpath(os.path.join(above, name), folder) for name in files if is_image(name)]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


def _parts(
    source: ImageFiles, roles: Mapping[str, str], indices: dict[str, Tensor], labels: dict[str, Tensor]
) -> tuple[dict[str, Part], Split]:
    """The parts that three folders are."""
    copies = _copies(source, roles, indices)
    indices = {role: copies[index] for role, index in indices.items()}
    for role in ("train", "gallery"):
        refuse_common("folders", source, (roles["query"], indices["query"]), (roles[role], indices[role]))
    names = (source.paths[index] for role in ROLES for index in indices[role].tolist())
    split = Split(
        query=indices["query"],
        train=indices["train"],
        gallery=indices["gallery"],
        protocol=f"as {', '.join(roles[role] for role in ROLES)} say",
        items=len(source),
        data=digest_of(torch.cat([labels[role] for role in ROLES]), names),
    )
    return {role: Part(source, indices[role], labels[role]) for role in ROLES}, split


def _copies(source: ImageFiles, roles: Mapping[str, str], indices: Mapping[str, Tensor]) -> Tensor:
    """For each image the one that it is a copy of: of the same class and name in another role, byte for byte."""
    same = torch.arange(len(source))
    first: dict[str, list[int]] = {}
    for role in ("gallery", "train", "query"):
        for index in indices[role].tolist():
            name = os.path.relpath(source.paths[index], roles[role])
            others = first.setdefault(name, [])
            for other in others:
                if other != index and filecmp.cmp(source.name(index), source.name(other), shallow=False):
                    same[index] = other
                    break
            else:
                others.append(index)
    return same


def _pooled(
    source: ImageFiles, seed: int, index: Tensor, labels: Tensor, pool: Pool, class_names: list[str]
) -> tuple[dict[str, Part], Split]:
    """Folders without roles, split."""
    source = ImageFiles([source.paths[each] for each in index.tolist()], source.root)
    split = pool.divide(source, labels, seed, source.paths, class_names)
    return dict(zip(ROLES, cut(source, labels, split), strict=True)), split
