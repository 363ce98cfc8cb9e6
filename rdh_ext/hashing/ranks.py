"""Which of the processes of a training this is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

_T = TypeVar("_T")


def rank_and_count() -> tuple[int, int]:
    """Of this process; 0 and 1 where it is alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def barrier() -> None:
    """All ranks have come here."""
    if rank_and_count()[1] > 1:
        dist.barrier()


def from_first(work: Callable[[], _T]) -> _T:
    """What ``work`` gives or raises on the first rank, which alone does it, on all of them."""
    rank, ranks = rank_and_count()
    if ranks == 1:
        return work()
    outcome: list[Any] = [None, None]
    if rank == 0:
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    made: _T = outcome[0]
    return made
