"""mAP over galleries on disk: histograms add up over blocks, and so do the sums of stable rankings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from ... import _checks as checks
from ...ops.bit_planes import bit_planes
from ...ops.stable_ranks import add_sums, exact_sums, normalize_sums, shift_of_piece
from .._ranking import HistogramRanking, LabelledCodes, Ranking, stable_average_precision
from ..average_precision import check_topk
from ..evaluate import check_choices
from ..result import EvaluationResult, make_result
from ..sets.code_set import CodeSet, check_alike
from .memory import MemoryPlan, plan
from .ranks import Ranks
from .reader import BlockReader, Piece
from .state import Counted, Saver, Segment, State, own_segments, segments_of

if TYPE_CHECKING:  # a PyTorch without torch.distributed does not have it
    from torch.distributed import ProcessGroup

StageProgress = Callable[[str, int, int], None]
"""Called with ("count" or "rank", items this rank has done, its items in all)."""
_NO_LIMIT = 2**63 - 1
_OP = "evaluate_sets"


def evaluate_sets(
    query: CodeSet | str | os.PathLike[str],
    gallery: CodeSet | str | os.PathLike[str],
    topk: int | None = None,
    ties: str = "expected",
    denominator: str = "found",
    empty: str = "zero",
    *,
    device: torch.device | str = "cpu",
    memory: int | None = None,
    state: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: StageProgress | None = None,
    on_plan: Callable[[MemoryPlan], None] | None = None,
    group: ProcessGroup | None = None,
) -> EvaluationResult:
    r"""Mean average precision of queries against a gallery on disk, which is read once (twice with stable ties).

    The gallery goes through memory block by block, the next ones being read and checked meanwhile. What is kept are
    sums: the histograms of :func:`rdh_ext.hamming_histogram`, which add up over blocks, and with ``ties="stable"`` the
    exact sums of precisions. So the numbers are those of :func:`rdh_ext.evaluate` bit for bit, for any shards and
    blocks, any number of ranks, interrupted or not.

    **Many processes.** In a process group (torchrun) every rank calls this with the same sets and gets the same result.
    The blocks are divided among the ranks; the sums are reduced.

    **Interruptions.** With ``state``, a folder, sums are saved every ten seconds and at every error; ``resume=True``
    goes on from there, with any number of ranks that see the folder (a rank counts again what it does not see).

    Args:
        query, gallery: code sets, or where they are. The queries are loaded into memory.
        topk, ties, denominator, empty: as for :func:`rdh_ext.evaluate`.
        device: where the work is done; on CUDA blocks are copied from pinned memory while the ones before are counted.
        memory: bytes that the process may take in all; None for what is best. The plan is kept on a CPU.
        state: folder of what has been counted; made, and removed at the end.
        resume: go on with what is in ``state``; nothing being there is fine.
        progress: called after every block with "count" or "rank", and how many of its items this rank has done.
        on_plan: called with the plan of memory before the work begins.
        group: process group, by default that of all ranks.

    Returns:
        What :func:`rdh_ext.evaluate` returns, on every rank. With ``ties="stable"`` the gallery is not kept: mAP, the
        curve by radius and P@H<=r are there, and what needs the order again is a ValueError.

    Raises:
        CodeSetError: sets that do not fit each other, or are damaged (nothing counted is lost: repair the shard and
            resume); ``memory`` too small; ``state`` of another evaluation, or there without ``resume``.
        RankFailed: another rank has failed or died.
        TypeError, ValueError: as for :func:`rdh_ext.evaluate`.
        OSError: something cannot be read or written.

    Cost: as :func:`rdh_ext.evaluate`, and SHA-256 of the gallery in another thread. Memory: up to three blocks (about
    32 MiB each), five histograms, 16 Q (K + 1) bytes each (ten with stable ties), and some 120 MiB. Deterministic.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> g = torch.tensor([[0b11], [0b00], [0b01]], dtype=torch.uint8)
        >>> gallery = rdh_ext.retrieval.write_code_set(folder + "/gallery", g, torch.tensor([7, 3, 7]), bits=2)
        >>> q = torch.tensor([[0b01]], dtype=torch.uint8)
        >>> query = rdh_ext.retrieval.write_code_set(folder + "/query", q, torch.tensor([7]), bits=2)
        >>> round(rdh_ext.retrieval.evaluate_sets(query, gallery).map, 4)
        0.9167
    """
    check_choices(_OP, ties, denominator, empty)
    topk = check_topk(_OP, topk)
    where = checks.check_device(_OP, device)
    if memory is not None:
        memory = checks.check_integer(_OP, "memory", memory, low=1, expected="a number of bytes, or None")
    checks.check_bool(_OP, "resume", resume)
    stable = ties == "stable"
    ranks = Ranks(_OP, group, advice="start all of them again with --resume")

    def prepare() -> _Run:
        asked, source = (part if isinstance(part, CodeSet) else CodeSet(part) for part in (query, gallery))
        check_alike(_OP, asked, source)
        # the sums, and the queries with their labels, which are unpacked
        row = (10 if stable else 5) * 16 * (source.bits + 1) + source.manifest.code_bytes + _label_bytes(asked)
        made = plan(_OP, len(asked), source, copies=1, row=row, limit=memory)
        if on_plan is not None:
            on_plan(made)
        return _Run(
            gallery=source,
            queries=_Queries.load(asked, where),
            job={"query": asked.manifest.digest(), "gallery": source.manifest.digest()},
            segments=own_segments(segments_of(source), ranks.rank, ranks.count),
            ahead=made.ahead,
            progress=progress or (lambda stage, done, items: None),
        )

    run = ranks.guarded(prepare)
    folder = None if state is None else Path(state)
    # rank 0 first: it makes the folder that the others then find
    own_state = ranks.guarded(lambda: State(folder, run.job, resume=resume) if ranks.rank == 0 else None)
    kept = ranks.guarded(lambda: own_state or State(folder, run.job, resume=True))
    items = len(run.gallery)
    own = ranks.guarded(lambda: run.count(kept))
    before = ranks.sum_before(own) if stable else None
    histogram = ranks.sum(own)
    ranking: Ranking = HistogramRanking(histogram, ties)
    if before is not None:
        limit = _NO_LIMIT if topk is None or topk >= items else topk
        sums, found = ranks.guarded(lambda: run.rank(kept, histogram, before, limit))
        sums = normalize_sums(ranks.sum(sums))
        ranking = SummedStableRanking(exact_sums(sums), ranks.sum(found), histogram, min(limit, items))
    result = make_result(
        _OP,
        histogram,
        ranking,
        gallery=items,
        topk=topk,
        ties=ties,
        denominator=denominator,
        empty=empty,
    )
    ranks.agree(None)  # all have what they need
    kept.remove()
    return result


def _label_bytes(query: CodeSet) -> int:
    """Of a query's labels as the ops take them, and as they lie on the disk."""
    if query.labels is None:
        return 0
    return query.labels.width + (8 if query.labels.classes is None else query.labels.classes)


@dataclass(frozen=True)
class SummedStableRanking:
    """Ties in gallery order, of which the sums of precisions up to one rank are known."""

    total: Tensor
    found: Tensor
    histogram: Tensor
    limit: int

    def average_precision(self, topk: int | None, denominator: str) -> Tensor:
        """AP of every query."""
        return stable_average_precision(self.total, self.found, self.histogram, self.limit, denominator)

    def _fail(self) -> NoReturn:
        raise ValueError(
            f"{_OP}: with ties='stable' the order of the gallery is not kept, got a question about it; ask an "
            "evaluation with ties='expected', or rdh_ext.evaluate with codes in memory"
        )

    def relevant_within(self, ranks: Tensor) -> Tensor:
        """Not known."""
        self._fail()

    def precision_at_recall(self, levels: Tensor) -> Tensor:
        """Not known."""
        self._fail()

    def discounted_gain(self, n: int) -> Tensor:
        """Not known."""
        self._fail()


@dataclass(frozen=True)
class _Queries:
    """All queries, on the device."""

    codes: Tensor
    labels: Tensor
    """int64 ``[Q]`` or bool ``[Q, C]``."""
    bits: int
    classes: int | None

    @classmethod
    def load(cls, query: CodeSet, device: torch.device) -> _Queries:
        codes, labels = query.load()
        assert labels is not None
        assert query.labels is not None
        classes = query.labels.classes
        labels = labels.to(torch.int64) if classes is None else _unpack(labels, classes)
        return cls(codes.to(device), labels.to(device), query.bits, classes)

    def with_piece(self, piece: Piece) -> LabelledCodes:
        """The queries and a piece of the gallery, as the ops take them."""
        assert piece.labels is not None
        labels = piece.labels
        if self.classes is not None:
            small = self.classes <= checks.MAX_BITS
            labels = bit_planes(labels, self.classes) if small else _unpack(labels, self.classes)
        return LabelledCodes(self.codes, piece.codes, self.labels, labels, self.bits)


def _unpack(rows: Tensor, classes: int) -> Tensor:
    """Bool ``[rows, classes]`` from rows packed like codes."""
    places = torch.arange(8, dtype=torch.uint8, device=rows.device)
    return (rows.unsqueeze(2) >> places & 1).flatten(1)[:, :classes].to(torch.bool)


@dataclass(frozen=True)
class _Run:
    """The part of an evaluation that is this rank's."""

    gallery: CodeSet
    queries: _Queries
    job: dict[str, str]
    """What sums belong to."""
    segments: list[Segment]
    ahead: int
    progress: StageProgress

    def _over_segments(
        self,
        state: State,
        stage: str,
        shapes: dict[str, tuple[int, ...]],
        start: Callable[[Counted], None],
        take: Callable[[Piece, dict[str, Tensor]], dict[str, Tensor]],
    ) -> Iterable[Counted]:
        """Takes up the blocks that are missing in each segment, which is given out when it is whole.

        ``take`` returns new sums and leaves those it is given alone: wherever it is interrupted, what is saved then are
        the sums of whole blocks.
        """
        saved = {segment.index: state.load(stage, segment, shapes).blocks for segment in self.segments}
        todo = [block for segment in self.segments for block in segment.blocks[saved[segment.index] :]]
        items = sum(segment.items for segment in self.segments)
        done = items - sum(block.items for block in todo)
        shown = stage.partition("-")[0]
        self.progress(shown, done, items)
        saver = Saver(state)
        with BlockReader(self.gallery, todo, self.queries.codes.device, ahead=self.ahead) as reader:
            pieces = iter(reader)
            for segment in self.segments:
                counted = state.load(stage, segment, shapes)
                start(counted)
                try:
                    for _ in segment.blocks[saved[segment.index] :]:
                        piece = next(pieces)
                        counted = Counted(counted.blocks + 1, take(piece, counted.sums))
                        done += piece.block.items
                        self.progress(shown, done, items)
                        if counted.blocks == len(segment.blocks) or saver.is_due():
                            saver.save(stage, segment, counted)
                            saved[segment.index] = counted.blocks
                except BaseException:  # what was counted is not lost
                    if counted.blocks > saved[segment.index]:
                        saver.save(stage, segment, counted)
                    raise
                yield counted

    def count(self, state: State) -> Tensor:
        """The histogram of this rank's segments."""
        shape = (self.queries.codes.shape[0], self.gallery.bits + 1, 2)
        total = torch.zeros(shape, dtype=torch.int64, device="cpu")

        def take(piece: Piece, sums: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"histogram": sums["histogram"] + self.queries.with_piece(piece).histogram().cpu()}

        for counted in self._over_segments(state, "count", {"histogram": shape}, lambda counted: None, take):
            total += counted.sums["histogram"]
        return total

    def rank(self, state: State, whole: Tensor, before: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        """Exact sums of precisions and their numbers of terms, of this rank's segments. ``before`` counts what stands
        before them, and is overwritten."""
        queries = self.queries.codes.shape[0]
        shapes = {"sums": (queries, 3), "found": (queries,), "histogram": tuple(whole.shape)}
        sums, found = (torch.zeros(shapes[name], dtype=torch.int64, device="cpu") for name in ("sums", "found"))

        def take(piece: Piece, sums: dict[str, Tensor]) -> dict[str, Tensor]:
            codes = self.queries.with_piece(piece)
            own = codes.histogram().cpu()
            shift = shift_of_piece(whole, own, before)
            part, count = codes.stable_precision_sum(own, limit, shift.to(piece.codes.device))
            before.add_(own)
            return {
                "sums": add_sums(sums["sums"], part.cpu()),
                "found": sums["found"] + count.cpu(),
                "histogram": sums["histogram"] + own,
            }

        def skip(counted: Counted) -> None:
            before.add_(counted.sums["histogram"])

        stage = "rank" if limit == _NO_LIMIT else f"rank-{limit}"
        for counted in self._over_segments(state, stage, shapes, skip, take):
            sums = add_sums(sums, counted.sums["sums"])
            found += counted.sums["found"]
        return sums, found
