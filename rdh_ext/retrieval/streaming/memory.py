"""How much memory an evaluation or a search takes, said before it begins and kept."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from ..sets.code_set import CodeSet
from ..sets.errors import CodeSetError
from ..sets.manifest import Manifest

MiB = 1 << 20
OF_OPS = 112 * MiB
"""Working memory of the ops on a CPU: lines of slabs and their order; and that of each thread besides."""
OF_THREAD = 2 * MiB
MOST_AHEAD = 2


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they are for.

    Example:
        >>> plan = rdh_ext.retrieval.MemoryPlan(process=300 << 20, blocks=96 << 20, sums=4 << 20, ops=96 << 20, ahead=2)
        >>> print(plan)
        496 MiB: blocks 96 MiB, sums 4 MiB, working memory 96 MiB, the process 300 MiB
        >>> plan.total >> 20
        496
    """

    process: int
    """What the process has already: Python and PyTorch."""
    blocks: int
    sums: int
    ops: int
    ahead: int
    """Blocks that are read ahead."""
    kept: str = "sums"
    """What ``sums`` are, in words."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.process + self.blocks + self.sums + self.ops

    def __str__(self) -> str:
        parts = (
            ("blocks", self.blocks),
            (self.kept, self.sums),
            ("working memory", self.ops),
            ("the process", self.process),
        )
        return f"{_mib(self.total)}: " + ", ".join(f"{name} {_mib(value)}" for name, value in parts)


def _mib(value: int) -> str:
    return f"{-(-value // MiB):,} MiB"


def resident() -> int:
    """Bytes that the process has in memory now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def plan(
    op: str,
    queries: int,
    gallery: CodeSet,
    *,
    copies: int,
    row: int,
    limit: int | None,
    ops: int = OF_OPS,
    labels: bool = True,
    kept: str = "sums",
) -> MemoryPlan:
    """The plan for ``copies`` sums of ``row`` bytes per query, with as many blocks ahead as fit into ``limit`` bytes.

    ``ops``: working memory; ``labels``: whether those of the gallery are read; ``kept``: what the sums are called.

    Raises:
        CodeSetError: it does not fit.
    """
    base, sums = resident(), copies * queries * row
    ops += torch.get_num_threads() * OF_THREAD
    manifest = gallery.manifest
    block = largest_block(manifest) * (manifest.item_bytes if labels else manifest.code_bytes)
    planes = _planes(manifest) if labels else 0
    for ahead in range(MOST_AHEAD, -1, -1):
        made = MemoryPlan(base, block * (ahead + 1) + planes, sums, ops, ahead, kept)
        if limit is None or made.total <= limit:
            return made
    raise CodeSetError(
        f"{op}: memory of {_mib(limit or 0)} is too little, {made} are needed; give more, or take fewer queries at a "
        "time"
    )


def largest_block(manifest: Manifest) -> int:
    """Items of the largest block."""
    return min(manifest.block_items, max((shard.items for shard in manifest.shards), default=0))


def _planes(manifest: Manifest) -> int:
    """Of multi-hot labels, which the ops read as planes; and of those with very many classes, rows of bytes."""
    if manifest.labels is None or manifest.labels.classes is None:
        return 0
    return largest_block(manifest) * (
        manifest.labels.width if manifest.labels.classes <= 4096 else 9 * manifest.labels.width
    )
