"""Starts the processes of a data-parallel test, and shows what all of them said when one fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import rdh_ext

WORKER = Path(__file__).with_name("ddp_worker.py")
PATIENCE = 300.0
"""Seconds until processes that do not end are red; on an idle machine they take ten."""


def environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(rdh_ext.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    if "lo" in (name for _, name in socket.if_nameindex()):  # whatever the name of this machine resolves to
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _wait(processes: list[subprocess.Popen[bytes]]) -> None:
    """Until all have ended, one has failed (the others, which may wait for it, get a moment), or it takes too long."""
    deadline = time.monotonic() + PATIENCE
    failed = False
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        if not failed and any(process.poll() not in (None, 0) for process in processes):
            failed, deadline = True, min(deadline, time.monotonic() + 10)
        time.sleep(0.05)


def run_ranks(
    folder: Path, *, backend: str = "gloo", device: str = "cpu", world: int = 2, worker: Path = WORKER
) -> list[dict[str, Any]]:
    """What every rank has saved: the results of all jobs of ``worker``, by name.

    ``device``: "cpu", "cuda:0" for all, or "cuda" for one device per rank.
    """
    processes, logs = [], [folder / f"{rank}.log" for rank in range(world)]
    try:
        for rank, log in enumerate(logs):
            here = f"cuda:{rank}" if device == "cuda" else device
            command = [sys.executable, str(worker), str(rank), str(world), str(folder), backend, here]
            with log.open("wb") as file:
                processes.append(
                    subprocess.Popen(command, env=environment(), stdout=file, stderr=subprocess.STDOUT, cwd=folder)
                )
        _wait(processes)
        codes = [process.poll() for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    if any(code != 0 for code in codes):
        said = "\n".join(f"--- rank {r} (exit code {codes[r]})\n{logs[r].read_text()[-8000:]}" for r in range(world))
        pytest.fail(f"exit codes {codes} (None: killed after it did not end)\n{said}", pytrace=False)
    return [torch.load(folder / f"{rank}.pt", map_location="cpu") for rank in range(world)]
