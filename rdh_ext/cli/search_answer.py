"""What ``rdh search`` has found, with labels: as a table, as JSON and as CSV, some queries at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch
from torch import Tensor

from ..retrieval import Block, CodeSet
from ..retrieval.sets.code_set import unpack_labels

if TYPE_CHECKING:
    from .search_faiss import Approximate

Label = int | list[int]
"""A class id, or the classes of a multi-hot row."""
_VALUES_AT_ONCE = 1 << 18
"""Labels that are put in words together."""
_WIDEST_LABEL = 24
"""Letters of a label in a table."""


@dataclass(frozen=True)
class Labels:
    """Labels of some items of a set."""

    items: Tensor
    """int64, ascending."""
    rows: Tensor
    """Class ids ``[items]``, or multi-hot rows packed like codes."""
    classes: int | None
    """C of multi-hot rows."""

    def of(self, items: Tensor) -> Tensor:
        """Those of ``items``, of any shape."""
        return self.rows[torch.searchsorted(self.items, items)]

    def in_words(self, rows: Tensor) -> list[Label]:
        """Labels as numbers."""
        if self.classes is None:
            return list(rows.tolist())
        bits = unpack_labels(rows.numpy(), self.classes)
        where, which = np.nonzero(bits)
        cuts = np.searchsorted(where, np.arange(1, len(bits)))
        return [part.tolist() for part in np.split(which, cuts)] if len(bits) else []


def _blocks_of(
    source: CodeSet, items: Tensor, progress: Callable[[int, int], None]
) -> Iterator[tuple[Block, slice, Tensor]]:
    """The blocks that have some of ``items``, which ascend: each with their place in ``items`` and in the block."""
    for block in source.blocks():
        low, high = torch.searchsorted(items, torch.tensor([block.first, block.first + block.items])).tolist()
        if low < high:
            yield block, slice(low, high), items[low:high] - block.first
        progress(block.first + block.items, len(source))


def read_items(
    source: CodeSet, items: Tensor, progress: Callable[[int, int], None]
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Codes and labels of ``items``, which ascend, from the blocks that have some, each with its place in ``items``."""
    for block, place, rows in _blocks_of(source, items, progress):
        codes, labels = source.read(block)
        yield place, codes[rows], None if labels is None else labels[rows]


def read_labels(source: CodeSet, indices: Tensor, progress: Callable[[int, int], None]) -> Labels | None:
    """Labels of the items ``indices`` of a set, of any shape; None where it has none. Codes are not read."""
    if source.labels is None:
        return None
    if indices.numel() > len(source):
        wanted = torch.zeros(len(source), dtype=torch.bool)
        wanted[indices.flatten()] = True
        items = wanted.nonzero().squeeze(1)
    else:
        items = indices.unique()
    classes = source.labels.classes
    dtype = torch.uint8 if classes is not None else getattr(torch, source.labels.dtype)
    rows = torch.empty((len(items), source.labels.width) if classes is not None else len(items), dtype=dtype)
    for block, place, in_block in _blocks_of(source, items, progress):
        labels = source.read_labels(block)
        assert labels is not None
        rows[place] = labels[in_block]
    return Labels(items, rows, classes)


@dataclass(frozen=True)
class Record:
    """A query and its neighbours, nearest first."""

    query: int
    label: Label | None
    indices: list[int]
    distances: list[int]
    labels: list[Label] | None
    shared: list[bool] | None
    """Whether the query has a label of the neighbour's; None where the sets do not have labels of one kind."""


@dataclass(frozen=True)
class Answer:
    """What has been found."""

    query: CodeSet
    gallery: CodeSet
    rows: Tensor
    """Of the queries, int64 ``[Q]``."""
    distances: Tensor
    """int16 ``[Q, k]``."""
    indices: Tensor
    query_labels: Labels | None
    gallery_labels: Labels | None
    seconds: float
    approximate: Approximate | None
    name: str | None = None
    """Of the queries, where they are no set that stays."""

    @property
    def query_name(self) -> str:
        """Of the queries."""
        return str(self.query.path) if self.name is None else self.name

    @property
    def are_alike(self) -> bool:
        """Whether both sets have labels, of one kind."""
        ours, theirs = self.query_labels, self.gallery_labels
        return ours is not None and theirs is not None and ours.classes == theirs.classes

    def records(self, stop: int | None = None) -> Iterator[Record]:
        """All queries in their order, or those before ``stop``."""
        stop = len(self.rows) if stop is None else min(stop, len(self.rows))
        classes = max([1, *(part.classes or 1 for part in (self.query_labels, self.gallery_labels) if part)])
        step = max(1, _VALUES_AT_ONCE // (classes * max(1, self.indices.shape[1])))
        for start in range(0, stop, step):
            yield from self._some(slice(start, min(stop, start + step)))

    def _some(self, part: slice) -> Iterator[Record]:
        rows, indices, distances = self.rows[part], self.indices[part], self.distances[part].tolist()
        count, width = indices.shape
        own: list[Label] | None = None
        labels: list[Label] | None = None
        shared: list[list[bool]] | None = None
        ours = theirs = torch.empty(0)
        if self.query_labels is not None:
            ours = self.query_labels.of(rows)
            own = self.query_labels.in_words(ours)
        if self.gallery_labels is not None:
            theirs = self.gallery_labels.of(indices)
            labels = self.gallery_labels.in_words(theirs.flatten(0, 1))
        if self.are_alike:
            if ours.dim() == 1:
                shared = (ours.unsqueeze(1) == theirs).tolist()
            else:
                shared = (ours.unsqueeze(1) & theirs).any(dim=2).tolist()
        found = indices.tolist()
        for n in range(count):
            yield Record(
                int(rows[n]),
                None if own is None else own[n],
                found[n],
                distances[n],
                None if labels is None else labels[n * width : (n + 1) * width],
                None if shared is None else shared[n],
            )


def table(answer: Answer, shown: int) -> Iterator[str]:
    """Lines for people: the sets, the first ``shown`` queries, and how good FAISS was."""
    yield f"gallery  {answer.gallery.path}: {answer.gallery.manifest}"
    yield f"query    {answer.query_name}: {answer.query.manifest}"
    yield ""
    yield from _lines(answer, shown)
    left = len(answer.rows) - shown
    if left > 0:
        yield f"and {left:,} more quer{'y' if left == 1 else 'ies'}: --rows chooses, --json and --csv have all"
    if answer.query_labels is not None and answer.gallery_labels is not None and not answer.are_alike:
        yield f"labels are not compared: the query set has {answer.query.labels}, the gallery {answer.gallery.labels}"
    if answer.approximate is not None:
        yield ""
        yield from answer.approximate.in_words(answer.indices.shape[1], answer.seconds)


def _lines(answer: Answer, shown: int) -> Iterator[str]:
    columns = ["query row", "its label", "rank", "gallery index", "distance", "label", "shared"]
    if not answer.are_alike:
        columns.remove("shared")
    if answer.gallery_labels is None:
        columns.remove("label")
    if answer.query_labels is None:
        columns.remove("its label")
    cells = [columns]
    for record in answer.records(shown):
        for n, index in enumerate(record.indices):
            cell = {
                "query row": str(record.query),
                "its label": _short(record.label),
                "rank": str(n + 1),
                "gallery index": str(index),
                "distance": str(record.distances[n]),
                "label": _short(None if record.labels is None else record.labels[n]),
                "shared": "" if record.shared is None else "yes" if record.shared[n] else "no",
            }
            cells.append([cell[column] for column in columns])
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    for row in cells:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _plain(label: Label | None) -> str:
    if label is None:
        return ""
    return " ".join(map(str, label)) if isinstance(label, list) else str(label)


def _short(label: Label | None) -> str:
    text = _plain(label)
    return text if len(text) <= _WIDEST_LABEL else f"{text[: _WIDEST_LABEL - 3]}..."


def write_csv(answer: Answer, file: TextIO, progress: Callable[[int, int], None]) -> None:
    """A line for every neighbour; classes of multi-hot rows with spaces between them."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["query", "query_label", "rank", "index", "distance", "label", "shared"])
    for done, record in enumerate(answer.records(), 1):
        own = _plain(record.label)
        labels = [""] * len(record.indices) if record.labels is None else [_plain(label) for label in record.labels]
        shared = [""] * len(record.indices) if record.shared is None else [str(int(value)) for value in record.shared]
        places = zip(record.indices, record.distances, labels, shared, strict=True)
        writer.writerows([record.query, own, rank, *place] for rank, place in enumerate(places, 1))
        progress(done, len(answer.rows))


def write_json(answer: Answer, file: TextIO, progress: Callable[[int, int], None]) -> None:
    """Everything: a line for every query, so that no program has to read all of it at once."""
    head = json.dumps(_head(answer), indent=1, allow_nan=False)
    file.write(head.removesuffix("\n}") + ',\n "results": [')
    for done, record in enumerate(answer.records(), 1):
        fields: dict[str, Any] = {"query": record.query, "label": record.label}
        fields |= {"indices": record.indices, "distances": record.distances}
        fields |= {"labels": record.labels, "shared": record.shared}
        fields = {name: value for name, value in fields.items() if value is not None}
        if answer.approximate is not None:
            fields |= answer.approximate.of_query(done - 1)
        file.write(("\n" if done == 1 else ",\n") + json.dumps(fields, allow_nan=False))
        progress(done, len(answer.rows))
    file.write("\n ]\n}\n")


def _head(answer: Answer) -> dict[str, Any]:
    from .. import __version__

    head: dict[str, Any] = {"kind": "rdh search", "rdh_ext": __version__}
    sets = (("query", answer.query, answer.query_name), ("gallery", answer.gallery, str(answer.gallery.path)))
    for name, source, path in sets:
        labels = None if source.labels is None else str(source.labels)
        head |= {f"{name}_set": path, f"{name}_items": len(source), f"{name}_labels": labels}
    head |= {"bits": answer.gallery.bits, "queries": len(answer.rows), "k": answer.indices.shape[1]}
    if answer.approximate is not None:
        head["faiss"] = answer.approximate.to_dict()
        head["seconds"] = {"exact": answer.seconds, "faiss": answer.approximate.seconds}
    return head
