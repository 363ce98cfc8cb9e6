"""Embeddings of your own, in .npy files: read into memory, or where they are."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...retrieval.sets.arrays import PIECE_BYTES, Array, npy_array, open_file
from ...retrieval.sets.meaning import labels_of
from ...retrieval.sets.npy import read_header
from .labels import digest_of, number_of_classes, one_hot_as_ids, say_without_label
from .preprocessing import Preprocessing
from .protocols import Pool, draw_train
from .sources import Source, TensorSource
from .split_files import ROLES
from .splits import Part, RetrievalData, Split, cut

IN_MEMORY = 1 << 30
"""Files of at most so many bytes are read as a whole."""
_LOOKED_AT = 1 << 17
"""Training items that mean and deviation are taken of, at most."""
_PIECE = 1 << 12


class FeatureFile:
    """The rows of a ``.npy`` file ``[n, D]``, read from it when they are asked for; the file may be of any size.

    Args:
        path: float16, float32, float64, uint8 or int8, in C order.

    Raises:
        ValueError: it is no such array, or has become shorter since; one line that names the file.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> import numpy
        >>> from rdh_ext.hashing.data import FeatureFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     numpy.save(f"{folder}/x.npy", numpy.arange(6, dtype="float32").reshape(3, 2))
        ...     FeatureFile(f"{folder}/x.npy").read(torch.tensor([2, 0]))
        tensor([[4., 5.],
                [0., 1.]])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        array = _features(self.path)
        with open_file(self.path) as file:
            self._offset = read_header(file, str(path)).offset
        self._rows, self._width, self._dtype = array.shape[0], array.shape[1], array.dtype
        self._descriptor: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item."""
        return (self._width,)

    def __len__(self) -> int:
        return self._rows

    def read(self, index: Tensor) -> Tensor:
        """The rows at ``index``."""
        if self._descriptor is None:  # each process opens the file for itself
            self._descriptor = os.open(self.path, os.O_RDONLY)
        rows: NDArray[Any] = np.empty((len(index), self._width), self._dtype)
        size = self._width * self._dtype.itemsize
        for row, place in zip(rows, index.tolist(), strict=True):
            content = os.pread(self._descriptor, size, self._offset + place * size)
            if len(content) != size:
                raise ValueError(f"{self.path}: has become shorter meanwhile; bring back the whole file")
            row[:] = np.frombuffer(content, self._dtype)
        return _tensor(rows)

    def name(self, index: int) -> str:
        """Its number."""
        return str(index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptor": None}

    def __del__(self) -> None:
        descriptor: int | None = getattr(self, "_descriptor", None)  # there is none where __init__ has failed
        if descriptor is not None:
            os.close(descriptor)


def load_features(
    seed: int = 0,
    *,
    features: str,
    labels: str,
    query_features: str | None = None,
    query_labels: str | None = None,
    train_features: str | None = None,
    train_labels: str | None = None,
    query_items: int = 100,
    train_items: int | None = 500,
    per_class: bool = True,
    split: str | None = None,
    standardize: bool = True,
    topk: int | None = None,
) -> RetrievalData:
    """Hashes your own embeddings: arrays ``[n, D]`` with labels, in ``.npy`` files.

    With ``features`` and ``labels`` alone, one set is split by seed. With ``query_features`` as well, ``features`` are
    the gallery, of which some are trained on, or ``train_features`` are.

    Embeddings come in all scales: of length 1 they give a network of ordinary weights next to nothing, and large ones
    saturate bits before anything is learned. So each of the D numbers is brought to mean 0 and deviation 1 over the
    training items (of more than 131,072, over at most so many, at equal distances), as a preprocessing that a trained
    model keeps. ``benchmarks/feature_scales.py`` measures what that is worth.

    Files up to 1 GiB are read into memory; rows of larger ones are read when they are needed. Nothing is unpickled.

    Args:
        seed: of the split, or of the choice of training items.
        features, query_features, train_features: float16, float32, float64, uint8 or int8 ``[n, D]``, finite.
        labels, query_labels, train_labels: class ids ``[n]``, or ``[n, C]`` of 0 and 1.
        query_items, train_items: how many of each class, or of all where ``per_class`` is False;
            ``train_items=None`` trains on the whole gallery.
        per_class: see :func:`split_per_class`; False see :func:`split_random`.
        split: file of a saved split of one set, in place of the three before.
        standardize: False leaves values as they are.
        topk: depth of mAP; None is the whole gallery.

    Raises:
        ValueError: a file is no array of the kind; numbers of rows or columns do not fit; a value is not finite as
            float32; queries are the gallery itself. One line that names the file, and the row.
        OSError: a file cannot be read.

    Warns:
        UserWarning: items have no label.

    Example:
        >>> import tempfile
        >>> import numpy
        >>> from rdh_ext.hashing.data import load_features
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     numpy.save(f"{folder}/x.npy", numpy.random.default_rng(0).random((40, 16), dtype="float32"))
        ...     numpy.save(f"{folder}/y.npy", numpy.arange(40) % 4)
        ...     data = load_features(features=f"{folder}/x.npy", labels=f"{folder}/y.npy", query_items=2, train_items=5)
        >>> len(data.query), len(data.train), len(data.gallery), data.train.images.shape
        (8, 20, 32, torch.Size([20, 16]))
        >>> inputs = data.preprocessing(data.train.images)
        >>> bool(inputs.mean(dim=0).abs().max() < 1e-6), bool((inputs.std(dim=0, correction=0) - 1).abs().max() < 1e-6)
        (True, True)
    """
    if not isinstance(standardize, bool):
        raise ValueError(f"features: standardize must be true or false, got {standardize!r}")
    given = {
        "gallery": _pair("features", features, labels),
        "train": _pair("train_features", train_features, train_labels),
        "query": _pair("query_features", query_features, query_labels),
    }
    if given["train"] and not given["query"]:
        raise ValueError("features: train_features come without query_features; give both, or features alone")
    if given["query"] and split is not None:
        raise ValueError(f"features: query_features say what the queries are; leave out split={split!r}")
    files = {role: pair for role, pair in given.items() if pair is not None}
    sources, kinds = _open_all(files)
    pool = Pool(query_items, train_items, per_class, split)
    if "query" not in files:
        source, kind = sources["gallery"], kinds["gallery"]
        made_by = pool.divide(source, kind, seed)
        parts = dict(zip(ROLES, cut(source, kind, made_by), strict=True))
    else:
        parts, made_by = _given(sources, kinds, pool, seed)
    say_without_label("features", {role: parts[role].labels for role in ROLES})
    classes = number_of_classes([part.labels for part in parts.values()], "features")
    width = sources["gallery"].shape
    items = sum(len(source) for source in {id(source): source for source in sources.values()}.values())
    return RetrievalData(
        name="features",
        description=f"features: {items:,} of {width[0] if width else 0:,} numbers, {classes:,} classes, "
        f"split {made_by.protocol}",
        classes=classes,
        topk=topk,
        preprocessing=_standardized(parts["train"]) if standardize else Preprocessing(),
        made_by=made_by,
        query=parts["query"],
        train=parts["train"],
        gallery=parts["gallery"],
    )


def _pair(name: str, features: str | None, labels: str | None) -> tuple[Path, Path] | None:
    if (features is None) != (labels is None):
        missing = name if features is None else name.replace("features", "labels")
        raise ValueError(f"features: {missing} must be given, too: features and labels go together")
    return None if features is None or labels is None else (Path(features).expanduser(), Path(labels).expanduser())


def _open_all(files: dict[str, tuple[Path, Path]]) -> tuple[dict[str, Source], dict[str, Tensor]]:
    """Sources and labels by role; a file that has two roles is one source."""
    sources: dict[str, Source] = {}
    kinds: dict[str, Tensor] = {}
    opened: dict[str, Source] = {}
    for role, (features, labels) in files.items():
        key = os.path.realpath(features)
        if key not in opened:
            opened[key] = _open(features)
        elif role == "query":
            raise ValueError(
                f"{features}: queries must be neither searched nor trained on; give them a file of their own"
            )
        sources[role] = opened[key]
        kinds[role] = _labels(labels, features, len(opened[key]))
        if sources[role].shape != sources["gallery"].shape:
            widths = [(source.shape or (0,))[0] for source in (sources[role], sources["gallery"])]
            raise ValueError(
                f"{features}: {widths[0]:,} numbers in a row, and {widths[1]:,} in {files['gallery'][0]}; "
                "all must come from one network"
            )
        if kinds[role].shape[1:] != kinds["gallery"].shape[1:]:
            raise ValueError(f"{labels}: not the kind of labels that {files['gallery'][1]} has; save both in one way")
    return sources, dict(zip(kinds, one_hot_as_ids(list(kinds.values())), strict=True))


def _given(
    sources: dict[str, Source], kinds: dict[str, Tensor], pool: Pool, seed: int
) -> tuple[dict[str, Part], Split]:
    """The parts of a set whose queries are in a file of their own."""
    whole = {role: Part(source, torch.arange(len(source)), kinds[role]) for role, source in sources.items()}
    words = "as the files say"
    if "train" not in whole:
        drawn = draw_train(kinds["gallery"], pool.train_items, per_class=pool.per_class, seed=seed)
        whole["train"] = whole["gallery"].at(drawn)
        words = f"queries given, {len(drawn):,} training items of the gallery"
    parts = {role: whole[role] for role in ROLES}
    digest = digest_of(torch.cat([kinds[role] for role in sources]))
    return parts, Split(
        query=parts["query"].indices,
        train=parts["train"].indices,
        gallery=parts["gallery"].indices,
        protocol=words,
        seed=None if "train" in sources else seed,
        items=sum(len(source) for source in {id(source): source for source in sources.values()}.values()),
        data=digest,
    )


def _standardized(train: Part) -> Preprocessing:
    """Mean 0 and deviation 1 of each number over the training items; what is the same in all of them becomes 0."""
    step = -(-len(train) // _LOOKED_AT) or 1
    looked_at = train.indices[::step]
    total: Tensor = torch.zeros(1, dtype=torch.float64)
    squares, first = total, train.source.read(looked_at[:1])
    shift = first[0].double() if len(looked_at) else total  # squares of what is near to it keep their digits
    for piece in looked_at.split(_PIECE):
        values = train.source.read(piece)
        assert isinstance(values, Tensor)
        values = values.double() - shift
        total, squares = total + values.sum(dim=0), squares + values.square().sum(dim=0)
    mean = total / max(1, len(looked_at))
    deviation = (squares / max(1, len(looked_at)) - mean.square()).clamp(min=0).sqrt()
    # below this it is rounding, or its inverse is no float32
    spread = torch.where(deviation > (1e-7 * (mean + shift).abs()).clamp(min=1e-37), deviation, 1.0)
    return Preprocessing(mean=tuple((mean + shift).tolist()), std=tuple(spread.tolist()))


def _features(path: Path) -> Array:
    array = npy_array(path)
    is_known = (array.dtype.kind == "f" and array.dtype.itemsize <= 8) or array.dtype in (np.uint8, np.int8)
    if len(array.shape) != 2 or not is_known or 0 in array.shape:
        raise ValueError(
            f"{path}: features must be [items, D] of float16, float32, float64, uint8 or int8, got {array}"
        )
    return array


def _open(path: Path) -> Source:
    """A file of features whose values are all finite."""
    array = _features(path)
    in_memory = math.prod(array.shape) * array.dtype.itemsize <= IN_MEMORY
    whole: NDArray[Any] = np.empty(array.shape if in_memory else (0,), array.dtype.newbyteorder("="))
    step = max(1, PIECE_BYTES // array.row_bytes)
    for first in range(0, array.shape[0], step):
        rows = array.rows(first, min(array.shape[0], first + step))
        _check_finite(rows, first, path)
        if in_memory:
            whole[first : first + len(rows)] = rows
    return TensorSource(torch.from_numpy(whole)) if in_memory else FeatureFile(path)


def _check_finite(rows: NDArray[Any], first: int, path: Path) -> None:
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(rows.astype(np.float32, copy=False))
    if wrong.any():
        row = int(wrong.any(axis=1).argmax())
        value = rows[row][wrong[row]][0]
        raise ValueError(
            f"{path}: row {first + row:,} holds {value}, no finite float32; leave such rows out, or make them again"
        )


def _tensor(rows: NDArray[Any]) -> Tensor:
    """In the byte order of this machine."""
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("=")))


def _labels(path: Path, features: Path, items: int) -> Tensor:
    array = npy_array(path)
    if array.shape[0] != items:
        raise ValueError(
            f"{path}: {array.shape[0]:,} labels for {items:,} rows of {features}; give those that belong to them"
        )
    rows = labels_of(array, items, str(features)).read(0, items)
    return torch.from_numpy(rows if rows.dtype == np.bool_ else rows.astype(np.int64))
