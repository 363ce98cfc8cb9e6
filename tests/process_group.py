"""Starts the processes of a data-parallel test, and shows what all of them said when one fails."""

from __future__ import annotations

import os
import signal
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
SETUPS = (
    ("gloo", "cpu", 0),
    pytest.param(("gloo", "cuda:0", 1), marks=pytest.mark.cuda),
    pytest.param(("nccl", "cuda", 2), marks=pytest.mark.cuda),
)
"""Backend, device and the CUDA devices it takes: where two processes are tested."""


def environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(rdh_ext.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    if "lo" in (name for _, name in socket.if_nameindex()):  # whatever the name of this machine resolves to
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _wait(processes: list[subprocess.Popen[bytes]], fine: tuple[int, ...]) -> None:
    """Until all have ended, one has failed (the others, which may wait for it, get a moment), or it takes too long."""
    deadline = time.monotonic() + PATIENCE
    failed = False
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        if not failed and any(process.poll() not in (None, *fine) for process in processes):
            failed, deadline = True, min(deadline, time.monotonic() + 10)
        time.sleep(0.05)


def run_ranks(
    folder: Path,
    *,
    backend: str = "gloo",
    device: str = "cpu",
    world: int = 2,
    worker: Path = WORKER,
    may_die: bool = False,
) -> list[Any]:
    """What every rank has saved: the results of all jobs of ``worker``.

    ``device``: "cpu", "cuda:0" for all, or "cuda" for one device per rank. ``may_die``: a rank may be killed by
    SIGKILL, and None is what it has saved.
    """
    fine = (0, -signal.SIGKILL) if may_die else (0,)
    processes, logs = [], [folder / f"{rank}.log" for rank in range(world)]
    try:
        for rank, log in enumerate(logs):
            here = f"cuda:{rank}" if device == "cuda" else device
            command = [sys.executable, str(worker), str(rank), str(world), str(folder), backend, here]
            with log.open("wb") as file:
                processes.append(
                    subprocess.Popen(command, env=environment(), stdout=file, stderr=subprocess.STDOUT, cwd=folder)
                )
        _wait(processes, fine)
        codes = [process.poll() for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    if any(code not in fine for code in codes):
        said = "\n".join(f"--- rank {r} (exit code {codes[r]})\n{logs[r].read_text()[-8000:]}" for r in range(world))
        pytest.fail(f"exit codes {codes} (None: killed after it did not end)\n{said}", pytrace=False)
    saved = [f"{rank}.pt" if code == 0 else None for rank, code in enumerate(codes)]
    return [None if name is None else torch.load(folder / name, map_location="cpu") for name in saved]


def run_setup(setup: tuple[str, str, int], folder: Path, worker: Path = WORKER) -> list[Any]:
    """``run_ranks`` with two processes in one of ``SETUPS``, or a skip where this machine does not have it."""
    backend, device, devices = setup
    found = torch.cuda.device_count()
    if found < devices:
        pytest.skip(f"needs {devices} CUDA device{'s' if devices > 1 else ''}, found {found}")
    if not torch.distributed.is_available():
        pytest.skip("a PyTorch without torch.distributed")
    if backend == "nccl" and not torch.distributed.is_nccl_available():
        pytest.skip("a PyTorch without NCCL")
    return run_ranks(folder, backend=backend, device=device, worker=worker)


def torchrun(words: list[str]) -> subprocess.CompletedProcess[str]:
    """An rdh command in two processes, by the launcher of PyTorch."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rdh_ext"]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=300, env=environment())
