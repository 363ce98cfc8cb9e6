"""The nearest codes of a gallery on disk: lists of neighbours are merged over blocks, and over ranks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from ... import _checks as checks
from ...ops.hamming_topk import hamming_topk_op
from ..sets.code_set import CodeSet, Progress
from ..sets.errors import CodeSetError
from .memory import OF_OPS, MemoryPlan, MiB, largest_block, plan
from .ranks import Ranks
from .reader import BlockReader
from .state import own_segments, segments_of

if TYPE_CHECKING:  # a PyTorch without torch.distributed does not have it
    from torch.distributed import ProcessGroup

_T = TypeVar("_T")
_OP = "search_sets"
_NOBODY = torch.iinfo(torch.int16).max
"""A distance greater than any: of places in a list that no item has taken."""
_ENTRY = 10
"""Bytes of a neighbour: its distance and its index."""
_AT_ONCE = 128 * MiB
"""Working memory of a search and a merge, beside that of the op: so many queries are taken at a time."""
_MERGED = 8
"""Lists of k that a merge has at a time: the old one, the new one, both as one, sorted, its order, and the result."""
_MOST_PARTS = 16
"""Lists of k that the op has for a query on a CPU."""


def search_sets(
    query: CodeSet | str | os.PathLike[str] | Tensor,
    gallery: CodeSet | str | os.PathLike[str],
    k: int,
    *,
    device: torch.device | str = "cpu",
    memory: int | None = None,
    progress: Progress | None = None,
    on_plan: Callable[[MemoryPlan], None] | None = None,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The ``k`` codes of a gallery on disk that are nearest to every query, in the order of (distance, gallery index).

    The gallery goes through memory once, block by block, the next ones being read and checked meanwhile. What is kept
    is the list of every query. The result is that of :func:`rdh_ext.hamming_topk` bit for bit, for any shards and
    blocks and any number of ranks: a list that comes later has later items, so at equal distance it stands behind.

    **Many processes.** In a process group (torchrun) every rank calls this with the same arguments and gets the same
    result. The blocks are divided among the ranks; their lists are merged in the order of the ranks.

    Args:
        query: code set, or where it is, or packed codes uint8 ``[Q, ceil(K / 8)]`` as from :func:`rdh_ext.pack_codes`,
            any strides and device. A set is loaded into memory. Labels are not needed.
        gallery: code set, or where it is. Its labels are not read.
        k: number of neighbours, at least 1; above G it means all of them.
        device: where the work is done, and the lists are meanwhile; on CUDA blocks are copied from pinned memory while
            the ones before are searched.
        memory: bytes that the process may take in all; None for what is best. The plan is kept on a CPU.
        progress: called before the first block and after every one with how many items this rank has searched, and how
            many it has to.
        on_plan: called with the plan of memory before the work begins.
        group: process group, by default that of all ranks.

    Returns:
        ``(distances, indices)``, int16 and int64, both ``[Q, min(k, G)]`` and contiguous, on the CPU, on every rank.

    Raises:
        CodeSetError: sets whose codes have not one length, or that are damaged; ``memory`` too small.
        RankFailed: another rank has failed or died.
        TypeError, ValueError: ``query`` is no tensor of such codes, or (looked at on CPU only) has ones behind bit K;
            ``k`` below 1; ``device`` is not here.
        OSError: something cannot be read.

    Cost: O(QGK) time for the distances, O(Qk) for every block that has a nearer item, and SHA-256 of the gallery's
    codes in another thread. Memory: the result, 10 Q k bytes; up to three blocks (about 32 MiB each), 96 MiB, and 128
    MiB of lists (one query's where that is more, up to 240 k bytes). Deterministic.

    Example:
        >>> import tempfile
        >>> g = torch.tensor([[0b11], [0b00], [0b01], [0b10]], dtype=torch.uint8)
        >>> gallery = rdh_ext.retrieval.write_code_set(tempfile.mkdtemp() + "/gallery", g, bits=2)
        >>> q = torch.tensor([[0b01]], dtype=torch.uint8)
        >>> rdh_ext.retrieval.search_sets(q, gallery, k=3)
        (tensor([[0, 1, 1]], dtype=torch.int16), tensor([[2, 0, 1]]))
    """
    k = checks.check_integer(_OP, "k", k, low=1, expected="an integer >= 1")
    where = checks.check_device(_OP, device)
    if memory is not None:
        memory = checks.check_integer(_OP, "memory", memory, low=1, expected="a number of bytes, or None")
    ranks = Ranks(_OP, group)

    def prepare() -> _Search:
        asked = query if isinstance(query, (CodeSet, Tensor)) else CodeSet(query)
        source = gallery if isinstance(gallery, CodeSet) else CodeSet(gallery)
        _check_queries(asked, source)
        width = min(k, len(source))
        is_set = isinstance(asked, CodeSet)
        queries = len(asked)
        rows = _rows_at_once(queries, width, min(_MOST_PARTS * width, largest_block(source.manifest)))
        made = plan(
            _OP,
            queries,
            source,
            copies=1,
            row=_ENTRY * width + (source.manifest.code_bytes if is_set else 0),
            limit=memory,
            ops=OF_OPS + rows.bytes,
            labels=False,
            kept="results",
        )
        if on_plan is not None:
            on_plan(made)
        codes = asked.load()[0] if isinstance(asked, CodeSet) else asked.detach()
        lists = _Lists.empty(queries, width, where)
        return _Search(source, codes.to(where), lists, rows.count, made.ahead, progress or (lambda done, items: None))

    search = ranks.guarded(prepare)
    ranks.guarded(lambda: search.run(ranks.rank, ranks.count))
    _join(ranks, search.lists)
    return search.lists.distances.cpu(), search.lists.indices.cpu()


def _check_queries(query: CodeSet | Tensor, gallery: CodeSet) -> None:
    if isinstance(query, CodeSet):
        if query.bits != gallery.bits:
            raise CodeSetError(
                f"{_OP}: codes of one length are needed, {query.path} has {query.bits} bits and {gallery.path} has "
                f"{gallery.bits}"
            )
        return
    checks.check_codes(_OP, "query", query)
    checks.check_has_values(_OP, "query", query)
    width = gallery.manifest.code_bytes
    if query.shape[1] != width:
        checks.fail_value(_OP, "query", f"codes as wide as those of {gallery.path} ({width} bytes)", query)
    checks.check_bits(_OP, gallery.bits, query=query)


@dataclass(frozen=True)
class _Rows:
    """Queries that are taken at a time."""

    count: int
    bytes: int
    """Of their lists."""


def _rows_at_once(queries: int, width: int, in_op: int) -> _Rows:
    """As many as ``_AT_ONCE`` has room for, where the op has ``in_op`` neighbours of each, at least one."""
    each = _ENTRY * max(1, _MERGED * width + in_op)
    count = max(1, min(queries, _AT_ONCE // each))
    return _Rows(count, count * each)


@dataclass(frozen=True)
class _Lists:
    """The nearest so far, sorted, with free places at the end."""

    distances: Tensor
    """int16 ``[rows, places]``."""
    indices: Tensor
    """int64 ``[rows, places]``."""

    @classmethod
    def empty(cls, rows: int, places: int, device: torch.device) -> _Lists:
        shape = (rows, places)
        return cls(
            torch.full(shape, _NOBODY, dtype=torch.int16, device=device),
            torch.full(shape, -1, dtype=torch.int64, device=device),
        )

    def part(self, rows: slice, places: slice = slice(None)) -> _Lists:
        """Some of the lists, which share memory with these."""
        return _Lists(self.distances[rows, places], self.indices[rows, places])

    def take(self, parts: Sequence[_Lists]) -> None:
        """Writes what is nearest in ``parts``, whose items come one behind the other, at equal distance as well."""
        places = self.distances.shape[1]
        if len(parts) == 1:
            self.distances.copy_(parts[0].distances)
            self.indices.copy_(parts[0].indices)
            return
        distances, order = torch.cat([part.distances for part in parts], dim=1).sort(dim=1, stable=True)
        self.distances.copy_(distances[:, :places])
        self.indices.copy_(torch.cat([part.indices for part in parts], dim=1).gather(1, order[:, :places]))


def _row_blocks(rows: int, count: int) -> Iterator[slice]:
    return (slice(start, min(rows, start + count)) for start in range(0, rows, count))


@dataclass(frozen=True)
class _Search:
    """The part of a search that is this rank's."""

    gallery: CodeSet
    codes: Tensor
    lists: _Lists
    rows: int
    ahead: int
    progress: Progress

    def run(self, rank: int, ranks: int) -> None:
        """Fills the lists with what is nearest in this rank's blocks."""
        segments = own_segments(segments_of(self.gallery), rank, ranks)
        blocks = [block for segment in segments for block in segment.blocks] if self.codes.shape[0] else []
        done, items = 0, sum(block.items for block in blocks)
        self.progress(done, items)
        with BlockReader(self.gallery, blocks, self.codes.device, ahead=self.ahead, labels=False) as reader:
            for piece in reader:
                for rows in _row_blocks(self.codes.shape[0], self.rows):
                    self._take(rows, piece.codes, piece.block.first, done)
                done += piece.block.items
                self.progress(done, items)

    def _take(self, rows: slice, codes: Tensor, first: int, before: int) -> None:
        """Merges a piece of the gallery into the lists of some queries, which have seen ``before`` items."""
        places = self.lists.distances.shape[1]
        found = _Lists(*hamming_topk_op(self.codes[rows], codes, places))
        found.indices.add_(first)
        taken = min(before, places)
        if taken == places:  # only what is nearer than the last can enter: mostly very little
            last = self.lists.distances[rows, -1:]
            enter = int((found.distances < last).sum(dim=1).max())
            if enter == 0:
                return
            found = found.part(slice(None), slice(enter))
        filled = min(places, taken + found.distances.shape[1])
        so_far = [self.lists.part(rows, slice(taken))] if taken else []
        self.lists.part(rows, slice(filled)).take([*so_far, found])


def _join(ranks: Ranks, lists: _Lists) -> None:
    """Makes ``lists`` those of all ranks: items of later ranks are later items."""
    queries, places = lists.distances.shape
    if ranks.count == 1 or places == 0:
        return
    for rows in _row_blocks(queries, _rows_at_once(queries, ranks.count * places, 0).count):
        own = lists.part(rows)
        # as bytes: not every backend knows int16
        distances = ranks.gather(own.distances.contiguous().view(torch.uint8))
        indices = ranks.gather(own.indices)
        parts = [_Lists(d.view(torch.int16), i) for d, i in zip(distances, indices, strict=True)]
        own.take(parts)
