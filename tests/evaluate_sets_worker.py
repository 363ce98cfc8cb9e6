"""One rank of an evaluation over code sets: python evaluate_sets_worker.py RANK WORLD FOLDER JOBS.json

Saves what every job gives as FOLDER/RANK.pt: the AP of every query and the histogram, or the error. A job may say that
a rank dies on the way.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rdh_ext.retrieval import evaluate_sets


def run(rank: int, job: dict[str, Any]) -> dict[str, Any]:
    """What the job gives on this rank."""
    dies_at = job.pop("dies_at", None)

    def progress(stage: str, done: int, total: int) -> None:
        if dies_at is not None and rank == dies_at["rank"] and stage == dies_at["stage"] and done >= total // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        result = evaluate_sets(**job, progress=progress)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"ap": result.ap, "histogram": result.histogram, "map": result.map}


def main() -> None:
    rank, world, folder, jobs = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=20))
    results = [run(rank, job) for job in json.loads(jobs.read_text())]
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
