"""Approximate search with a FAISS binary index of the gallery, and how much of the exact answer it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._extras import require
from ..retrieval import CodeSet
from .arguments import CommandError, one_line

_QUERIES_AT_ONCE = 4096
_ENTRIES_AT_ONCE = 1 << 22
_MISSING = -1
"""The index of a neighbour that was not found."""


@dataclass(frozen=True)
class Index:
    """A FAISS index that fits the gallery."""

    path: Path
    faiss: Any
    kind: str
    lists: int | None
    """Of an inverted file."""
    nprobe: int | None
    """How many of them are searched."""


def _inverted_file(faiss: Any, index: Any) -> Any:
    """The inverted file that it is or has inside, or None."""
    if isinstance(index, (faiss.IndexBinaryIDMap, faiss.IndexBinaryIDMap2)):
        index = faiss.downcast_IndexBinary(index.index)
    return index if isinstance(index, faiss.IndexBinaryIVF) else None


def open_index(path: Path, gallery: CodeSet, nprobe: int | None) -> Index:
    """The index in ``path``, which must have as many items and bits as ``gallery``.

    Raises:
        MissingExtra: FAISS is not installed.
        CommandError: there is none, or it does not fit.
    """
    faiss = require("faiss", package="faiss-cpu", extra="search")
    if not path.is_file():
        raise CommandError(f"--faiss {path}: no such file; name a FAISS binary index of the gallery")
    try:
        index = faiss.read_index_binary(str(path))
    except Exception as error:
        words = one_line(str(error))[-120:]
        raise CommandError(
            f"--faiss {path}: not a FAISS binary index; write one with faiss.write_index_binary ({words})"
        ) from error
    # FAISS knows whole bytes alone; places behind the last bit are 0 in all codes
    if index.d != 8 * gallery.manifest.code_bytes:
        raise CommandError(
            f"--faiss {path}: codes of {index.d} bits, {gallery.path} has {gallery.bits}; name the gallery's own index"
        )
    if index.ntotal != len(gallery):
        raise CommandError(
            f"--faiss {path}: {index.ntotal:,} items, {gallery.path} has {len(gallery):,}; name the gallery's own index"
        )
    inverted = _inverted_file(faiss, index)
    if inverted is None and nprobe is not None:
        kind = type(index).__name__
        raise CommandError(f"--nprobe {nprobe}: {path} is an {kind}, which has no lists to search; leave --nprobe away")
    if inverted is not None and nprobe is not None:
        inverted.nprobe = min(nprobe, inverted.nlist)
    lists, probed = (None, None) if inverted is None else (int(inverted.nlist), int(inverted.nprobe))
    return Index(path, index, type(index if inverted is None else inverted).__name__, lists, probed)


@dataclass(frozen=True)
class Approximate:
    """What FAISS has found."""

    index: Index
    distances: Tensor
    """int32 ``[Q, k]``."""
    indices: Tensor
    """int64 ``[Q, k]``, -1 where nothing was found."""
    by_index: Tensor
    """float64 ``[Q]``: the part of the exact neighbours that it has."""
    by_distance: Tensor
    """float64 ``[Q]``: the same, where another item at the same distance is as good."""
    seconds: float

    def in_words(self, k: int, exact: float) -> Iterator[str]:
        """Lines for people."""
        probed = "" if self.index.lists is None else f", nprobe {self.index.nprobe:,} of {self.index.lists:,} lists"
        yield f"FAISS    {self.index.path}: {self.index.kind}{probed}"
        by_index, by_distance = self._means()
        if by_index is None or by_distance is None:
            yield "recall   there is nothing to find"
        else:
            yield (
                f"recall@{k:,}  {by_index:.4f} of the exact neighbours; "
                f"{by_distance:.4f} where another item at the same distance is as good"
            )
        yield f"time     exact {exact:.3f} s, with reading the gallery; FAISS {self.seconds:.3f} s, its index in memory"

    def _means(self) -> tuple[float | None, float | None]:
        if self.indices.numel() == 0:
            return None, None
        return float(self.by_index.mean()), float(self.by_distance.mean())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        by_index, by_distance = self._means()
        fields: dict[str, Any] = {"file": str(self.index.path), "index": self.index.kind}
        if self.index.lists is not None:
            fields |= {"lists": self.index.lists, "nprobe": self.index.nprobe}
        return {**fields, "recall": by_index, "recall_by_distance": by_distance}

    def of_query(self, n: int) -> dict[str, Any]:
        """Of one query, for JSON."""
        fields: dict[str, Any] = {
            "faiss_indices": self.indices[n].tolist(),
            "faiss_distances": self.distances[n].masked_fill(self.indices[n] == _MISSING, _MISSING).tolist(),
        }
        if self.indices.shape[1]:
            fields |= {"recall": float(self.by_index[n]), "recall_by_distance": float(self.by_distance[n])}
        return fields


def search(
    index: Index,
    gallery: CodeSet,
    codes: Tensor,
    exact: tuple[Tensor, Tensor],
    progress: Callable[[int, int], None],
) -> Approximate:
    """Searches ``codes`` with ``index`` and compares what it finds with the exact distances and indices.

    Raises:
        CommandError: the index has other items than the gallery.
    """
    shape = exact[1].shape
    distances = torch.full(shape, _MISSING, dtype=torch.int32)
    indices = torch.full(shape, _MISSING, dtype=torch.int64)
    begin = time.perf_counter()
    for start in range(0, shape[0] if shape[1] else 0, _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        d, i = index.faiss.search(codes[part].contiguous().numpy(), shape[1])
        distances[part], indices[part] = torch.from_numpy(d), torch.from_numpy(i)
        progress(min(shape[0], part.stop), shape[0])
    seconds = time.perf_counter() - begin
    if indices.numel() and int(indices.max()) >= len(gallery):
        raise CommandError(
            f"--faiss {index.path}: it numbers an item {int(indices.max()):,}, {gallery.path} has {len(gallery):,}; "
            "number items by their place in the gallery"
        )
    by_index, by_distance = (torch.zeros(shape[0], dtype=torch.float64) for _ in range(2))
    if shape[1]:
        step = max(1, _ENTRIES_AT_ONCE // max(shape[1], gallery.bits))
        for start in range(0, shape[0], step):
            rows = slice(start, start + step)
            found = _Lists(distances[rows], indices[rows], gallery.bits)
            true = _Lists(exact[0][rows].to(torch.int32), exact[1][rows], gallery.bits)
            hits = found.hits(true, len(gallery))
            if hits is None:
                raise CommandError(
                    f"--faiss {index.path}: its distances are not those of {gallery.path}; name the gallery's own index"
                )
            by_index[rows] = hits.to(torch.float64) / shape[1]
            common = torch.minimum(found.histogram(), true.histogram()).sum(dim=1)
            by_distance[rows] = common.to(torch.float64) / shape[1]
    return Approximate(index, distances, indices, by_index, by_distance, seconds)


@dataclass(frozen=True)
class _Lists:
    """Lists of neighbours of some queries."""

    distances: Tensor
    indices: Tensor
    bits: int

    def hits(self, true: _Lists, items: int) -> Tensor | None:
        """How many of these are in ``true``, int64 ``[Q]``; None where one has another distance there."""
        first = items * torch.arange(self.indices.shape[0]).unsqueeze(1)
        known, order = (first + true.indices).flatten().sort()
        is_there = self.indices != _MISSING
        asked = (first + self.indices)[is_there]
        place = torch.searchsorted(known, asked).clamp(max=len(known) - 1)
        is_hit = known[place] == asked
        theirs = true.distances.flatten()[order[place]]
        if bool((theirs[is_hit] != self.distances[is_there][is_hit]).any()):
            return None
        all_hits = torch.zeros_like(is_there)
        all_hits[is_there] = is_hit
        return all_hits.sum(dim=1)

    def histogram(self) -> Tensor:
        """How many there are at each distance, int64 ``[Q, bits + 1]``."""
        none = self.bits + 1
        places = self.distances.to(torch.int64).clamp(0, none).masked_fill(self.indices == _MISSING, none)
        counts = torch.zeros((places.shape[0], none + 1), dtype=torch.int64)
        return counts.scatter_add_(1, places, torch.ones_like(places))[:, :none]
