"""CIFAR-10 in the three protocols of the field."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._extras import require
from .image_files import PIXELS
from .labels import digest_of
from .protocols import split_per_class
from .sources import TensorSource
from .splits import RetrievalData, Split, cut

PROTOCOLS = ("paper", "disjoint", "full")
QUERY_PER_CLASS = 100
TRAIN_PER_CLASS = 500
LOCK = ".cifar-10.lock"
_TIMEOUT = 30.0
"""Seconds for which a server may say nothing."""


def load_cifar10(
    seed: int = 0,
    *,
    root: str = "data",
    protocol: str = "paper",
    download: bool = True,
    split: str | None = None,
) -> RetrievalData:
    """CIFAR-10: 60,000 photographs of 32 x 32 pixels, ten classes.

    ==========  =====  =====  =======  =================================================================
    protocol    query  train  gallery
    ==========  =====  =====  =======  =================================================================
    "paper"     1,000  5,000  59,000   100 queries of each class, the rest is gallery, 500 of each class in it are
                                       trained on
    "disjoint"  1,000  5,000  54,000   the same queries and training images, which are not searched
    "full"      10,000 50,000 50,000   the test set asks, the training set is searched and trained on
    ==========  =====  =====  =======  =================================================================

    Args:
        seed: of the split; "full" has none, and its images are in the order of their files.
        root: folder of ``cifar-10-batches-py`` or ``cifar-10-python.tar.gz``, and where they are downloaded to.
        protocol: one of these three.
        download: 170 MB from the network where they are not there.
        split: file of a saved split, in place of ``protocol``.

    Returns:
        Images ``[n, 3, 32, 32]`` uint8 in memory. Preprocessing is that of networks pretrained on ImageNet, without a
        size: give 224 where the network needs it.

    Raises:
        ValueError: no such protocol; a saved split that is damaged, or of other data.
        OSError: the data are not there, or not the right ones by their checksums, and cannot be downloaded.
        MissingExtra: torchvision is not installed.

    Example:
        >>> from rdh_ext.hashing.data import load_cifar10
        >>> try:
        ...     load_cifar10(root="no/such/folder", download=False)
        ... except OSError as error:
        ...     print(str(error).split(";")[0])
        cifar10: not in no/such/folder, or damaged

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"cifar10: protocol must be {', '.join(PROTOCOLS)}, got {protocol!r}")
    images, labels, names, training = _read(Path(root).expanduser(), download)
    if split is not None:
        made_by = Split.load(split, labels)
    else:
        made_by = _split(labels, training, protocol, seed)
    query, train, gallery = cut(TensorSource(images), labels, made_by)
    return RetrievalData(
        name="cifar10",
        description=f"CIFAR-10: {len(labels):,} images, 10 classes, split {made_by.protocol}",
        classes=len(names),
        query=query,
        train=train,
        gallery=gallery,
        preprocessing=PIXELS,
        class_names=names,
        made_by=made_by,
    )


def _split(labels: Tensor, training: int, protocol: str, seed: int) -> Split:
    """Positions of training images are 0, 1, ..., those of test images follow."""
    if protocol == "full":
        train = torch.arange(training)
        words = "full: test images ask, training images are searched"
        return Split(torch.arange(training, len(labels)), train, train, words, None, len(labels), digest_of(labels))
    split = split_per_class(labels, QUERY_PER_CLASS, TRAIN_PER_CLASS, seed)
    gallery = split.gallery
    if protocol == "disjoint":
        gallery = gallery[~torch.isin(gallery, split.train)]
    return replace(split, gallery=gallery, protocol=f"{protocol}: {split.protocol}")


def _read(root: Path, download: bool) -> tuple[Tensor, Tensor, tuple[str, ...], int]:
    """All images and labels, names of classes, and how many images are of the training set.

    torchvision compares the checksums of the files before it unpickles them.
    """
    datasets = require("torchvision.datasets", extra="train")
    parts = _both(datasets, root)
    if parts is None:
        _bring(datasets, root, download)
        parts = _both(datasets, root)
    if parts is None:
        raise OSError(_advice(datasets, root, "not in", ", or damaged"))
    images = np.concatenate([part.data for part in parts]).transpose(0, 3, 1, 2)
    labels = [label for part in parts for label in part.targets]
    tensors = torch.from_numpy(np.ascontiguousarray(images)), torch.tensor(labels, dtype=torch.int64)
    return *tensors, tuple(parts[0].classes), len(parts[0].data)


def _both(datasets: Any, root: Path) -> tuple[Any, Any] | None:
    """Training and test set, where they are in the folder and whole."""
    try:
        return tuple(datasets.CIFAR10(str(root), train=train, download=False) for train in (True, False))
    except RuntimeError:  # what torchvision says of files that are missing or have another checksum
        return None


def _bring(datasets: Any, root: Path, download: bool) -> None:
    """Unpacks the archive, which is downloaded where it is not in the folder."""
    kind = datasets.CIFAR10
    has_archive = datasets.utils.check_integrity(str(root / kind.filename), kind.tgz_md5)
    if not has_archive and not download:
        return
    was_there = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root), _patience():
            kind(str(root), download=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if not was_there:
            _remove_empty(root)
        reason = " ".join(str(error).split()) or type(error).__name__
        what = "unpacking it" if has_archive else "downloading it"
        raise OSError(_advice(datasets, root, "not in", f", and {what} failed ({reason})")) from error


def _advice(datasets: Any, root: Path, before: str, after: str) -> str:
    kind = datasets.CIFAR10
    return f"cifar10: {before} {root}{after}; put {kind.filename} from {os.path.dirname(kind.url)} into {root}"


def _remove_empty(root: Path) -> None:
    """A folder that was made for nothing; what came into it meanwhile stays."""
    with contextlib.suppress(OSError):
        (root / LOCK).unlink(missing_ok=True)
        root.rmdir()


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Of several processes that begin together one downloads; the others wait, and find the files."""
    with open(root / LOCK, "w") as file:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """A network that swallows everything is an error after a while."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or _TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
