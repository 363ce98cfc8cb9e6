"""What the process of one rank does, whatever it computes: started by ``process_group.run_ranks``, not imported there.

A worker is a file that ends in ``if __name__ == "__main__": main(...)``.
"""

from __future__ import annotations

import datetime
import faulthandler
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

Job = Callable[[int, str], Any]
"""Takes the rank and its device."""


def in_turn(*jobs: Job) -> Job:
    """All jobs, one after another; gives their results by name, and prints which one a rank is at."""

    def work(rank: int, device: str) -> dict[str, Any]:
        results = {}
        for job in jobs:
            print(job.__name__, flush=True)
            results[job.__name__] = job(rank, device)
        return results

    return work


def main(work: Job, *, timeout: float = 120, may_die: bool = False) -> None:
    """Joins the other ranks and saves what ``work`` gives. The current folder is that of the run.

    ``timeout``: seconds that a rank waits for the others. ``may_die``: then nobody waits for the others at the end.
    """
    rank, world, folder, backend, device = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]
    faulthandler.enable()
    faulthandler.dump_traceback_later(240, exit=True)  # says where it hangs, before the test ends it
    torch.set_num_threads(1)
    if device != "cpu":
        torch.cuda.set_device(device)
    store = dist.FileStore(str(folder / "store"), world)
    patience = datetime.timedelta(seconds=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=patience)
    torch.save(work(rank, device), folder / f"{rank}.pt")
    if not may_die:
        # who is done keeps its connections until all are: closing them would be an error for who still reads
        store.set(f"done {rank}", "1")
        store.wait([f"done {other}" for other in range(world)], patience)
    dist.destroy_process_group()
