"""One rank of an evaluation over code sets: does the jobs of ``jobs.json`` and saves what each gives, or the error.

That is the AP of every query and the histogram. A job may say that a rank dies on the way.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from rank_main import main

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


def run_all(rank: int, device: str) -> list[dict[str, Any]]:
    return [run(rank, job) for job in json.loads(Path("jobs.json").read_text())]


if __name__ == "__main__":
    main(run_all, timeout=20, may_die=True)
