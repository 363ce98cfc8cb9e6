"""Which of the processes of a training this is."""

from __future__ import annotations

import torch.distributed as dist


def rank_and_count() -> tuple[int, int]:
    """Of this process; 0 and 1 where it is alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def barrier() -> None:
    """All ranks have come here."""
    if rank_and_count()[1] > 1:
        dist.barrier()
