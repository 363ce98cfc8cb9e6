"""One rank of a search over code sets: does every job of FOLDER/jobs.json and saves what it gives, or the error.

A job may have a rank that is asked for something else, and fails.
"""

from __future__ import annotations

import datetime
import faulthandler
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rdh_ext.retrieval import search_sets


def run(rank: int, job: dict[str, Any], device: str) -> dict[str, Any]:
    """What the job gives on this rank, and how many items it has searched."""
    spoiled = job.pop("spoiled", {})
    items: list[tuple[int, int]] = []
    try:
        asked = {**job, **spoiled.get(str(rank), {})}
        distances, indices = search_sets(**asked, device=device, progress=lambda *done: items.append(done))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"distances": distances, "indices": indices, "items": items[-1]}


def main(rank: int, world: int, folder: Path, backend: str, device: str) -> None:
    faulthandler.enable()
    faulthandler.dump_traceback_later(240, exit=True)  # says where it hangs, before the test ends it
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    jobs = json.loads((folder / "jobs.json").read_text())
    torch.save({name: run(rank, job, device) for name, job in jobs.items()}, folder / f"{rank}.pt")
    # who is done keeps its connections until all are: closing them would be an error for who still reads
    store.set(f"done {rank}", "1")
    store.wait([f"done {other}" for other in range(world)], timeout)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5])
