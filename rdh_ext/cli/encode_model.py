"""``rdh encode --model``: codes of images, features, or a part of a data set, by a trained model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._files import sha256
from .._image_names import SUFFIXES
from ..retrieval import CodeSet, CodeSetWriter
from ..retrieval.sets.arrays import Array, npy_array
from ..retrieval.sets.manifest import LabelFormat, codes_in_words
from ..retrieval.sets.meaning import labels_of
from .arguments import CommandError, check_device
from .data_options import data_errors
from .picture_files import picture_files
from .progress import Bar

if TYPE_CHECKING:
    from ..hashing.data import ImageFiles, Part
    from ..hashing.model import HashingModel

MOST_WORKERS = 8


class ArraySource:
    """Features in a file, some rows at a time."""

    def __init__(self, array: Array) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item."""
        return self._array.shape[1:]

    def __len__(self) -> int:
        return self._array.shape[0]

    def read(self, index: Tensor) -> Tensor:
        """The items at ``index``, which stand close to each other."""
        if not len(index):
            return torch.empty((0, *self.shape))
        first, last = int(index.min()), int(index.max())
        return torch.from_numpy(self._array.rows(first, last + 1))[index - first]

    def name(self, index: int) -> str:
        """Its row."""
        return str(index)


def write(arguments: argparse.Namespace) -> str:
    """Writes the code set; returns what is said about it."""
    check_device(arguments.device)
    from ..hashing.batches import input_batches
    from ..hashing.codes import BATCH, encode_batches
    from ..hashing.model import file_of, load

    model = load(arguments.model, arguments.device)
    if arguments.bits not in (None, model.bits):
        raise CommandError(
            f"--bits {arguments.bits}: the model in {arguments.model} has {model.bits}; leave --bits out"
        )
    part, kind = _part(arguments, model)
    made = {"by": "rdh encode", "model": os.path.abspath(arguments.model), "recipe": model.recipe.to_dict()}
    made["model_sha256"] = sha256(file_of(arguments.model))
    workers = arguments.workers
    if workers is None:
        workers = 0 if part.source.shape is not None else min(MOST_WORKERS, os.cpu_count() or 1)
    bar, zeros, done = Bar(" items"), 0, 0
    writer = CodeSetWriter(
        arguments.out,
        bits=model.bits,
        classes=None if kind is None else kind.classes,
        label_dtype="int64" if kind is None else kind.dtype,
        shard_items=arguments.shard_items,
        overwrite=arguments.force,
        made=made,
    )
    try:
        with writer:
            batches = input_batches(part, model.preprocessing, torch.arange(len(part)), BATCH, workers)
            for codes in encode_batches(model, (model.checked(batch) for batch in batches)):
                stop = done + len(codes.packed)
                writer.add(codes.packed, None if kind is None else part.labels[done:stop])
                zeros, done = zeros + codes.exact_zeros, stop
                bar("encode", done, len(part))
            if not len(part):
                writer.add(
                    torch.empty((0, -(-model.bits // 8)), dtype=torch.uint8), None if kind is None else part.labels
                )
            writer.made["exact_zeros"] = zeros
    finally:
        bar.close()
    made_set = CodeSet(arguments.out)
    note = f", {zeros:,} exact zero{'s' if zeros != 1 else ''}{' taken as +' if zeros else ''}"
    source = f"{codes_in_words(len(made_set), made_set.bits)} by {model.recipe.method['name']}{note}"
    return f"{source}; {made_set.labels or 'no labels'}; in {made_set.path}"


def _part(arguments: argparse.Namespace, model: HashingModel) -> tuple[Part, LabelFormat | None]:
    """The items, and the kind of their labels, None for none."""
    from ..hashing.data import ImageFiles, Part, open_data
    from ..hashing.recipe import parse_yaml

    if arguments.part is not None:
        options = {name: value for name, value in model.recipe.data.items() if name != "name"}
        if arguments.root is not None:
            options["root"] = str(arguments.root)
        options |= {key.removeprefix("data."): parse_yaml(text) for key, text in arguments.set}
        with data_errors(model.recipe.data):
            data = open_data(model.recipe.data["name"], model.recipe.seed, options)
        named: Part = getattr(data, arguments.part)
        return named, LabelFormat("multi_hot", classes=data.classes) if data.is_multilabel else LabelFormat("class_ids")
    source: Any
    if arguments.features is not None:
        source = ArraySource(npy_array(arguments.features))
    else:
        source = ImageFiles([str(path) for path in picture_files("--images", arguments.images)])
        _check_images(arguments.images, source)
    labels, kind = _labels(arguments, model, source)
    return Part(source, torch.arange(len(source)), labels), kind


def _check_images(where: Path, source: ImageFiles) -> None:
    """Before any work: there are some, and all are there."""
    from ..hashing.data.image_files import check_there

    if not len(source):
        what = f"no images ({', '.join(sorted(SUFFIXES))})" if where.is_dir() else "no lines"
        raise CommandError(f"--images {where}: {what}; name a list with one path a line, or a folder with images")
    check_there(source, f"--images {where}", lambda _: "correct the list, relative paths begin where it is")


def _labels(arguments: argparse.Namespace, model: HashingModel, source: Any) -> tuple[Tensor, LabelFormat | None]:
    items = len(source)
    if arguments.labels is not None:
        rows = labels_of(npy_array(arguments.labels), items, str(arguments.images or arguments.features))
        return torch.from_numpy(rows.read(0, items)), rows.format
    if arguments.class_folders:
        return _folder_labels(arguments, model, source.paths), LabelFormat("class_ids")
    return torch.empty((items, 0)), None


def _folder_labels(arguments: argparse.Namespace, model: HashingModel, paths: list[str]) -> Tensor:
    """Class ids by the folders that images are in: those of the model, where it knows names."""
    names = [Path(path).parent.name for path in paths]
    classes = list(model.class_names) or sorted(set(names))
    ids = {name: number for number, name in enumerate(classes)}
    strange = sorted(set(names) - ids.keys())
    if strange:
        raise CommandError(
            f"--class-folders: {strange[0]!r} is no class of the model in {arguments.model}, which has "
            f"{', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}; give --labels, or leave both out"
        )
    return torch.tensor([ids[name] for name in names], dtype=torch.int64)
