"""One rank of a search over code sets: does the jobs of ``jobs.json`` and saves what each gives, or the error.

A job may have a rank that is asked for something else, and fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rank_main import main

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


def run_all(rank: int, device: str) -> dict[str, dict[str, Any]]:
    return {name: run(rank, job, device) for name, job in json.loads(Path("jobs.json").read_text()).items()}


if __name__ == "__main__":
    main(run_all, timeout=60)
