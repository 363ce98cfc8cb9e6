"""The process group of a command that torchrun has started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

from .arguments import CommandError


def is_started_by_torchrun() -> bool:
    """torchrun tells its processes so."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


@contextlib.contextmanager
def process_group(device: str, timeout: int, *, gradients: bool = False) -> Iterator[tuple[int, str]]:
    """Joins the group, where there is one; gives the rank and the device of this process.

    With ``device`` "cuda" every process of a machine takes a device of its own. ``gradients``: what travels is large,
    and on the device.
    """
    if not is_started_by_torchrun():
        yield 0, device
        return
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        raise CommandError("started by torchrun, but this PyTorch has no torch.distributed; start it alone")
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % max(1, torch.cuda.device_count())}"
    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device))
    # sums are small and travel on the CPU: gloo serves both kinds of devices
    backend = "cpu:gloo,cuda:nccl" if gradients and device.startswith("cuda") else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise CommandError(f"the processes did not find each other within {timeout} s ({words})") from error
    try:
        yield dist.get_rank(), device
    finally:
        with contextlib.suppress(RuntimeError):  # the others may be gone
            dist.destroy_process_group()
