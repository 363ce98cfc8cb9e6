"""What the ranks of a process group tell each other: sums, sums of the ranks before, and that one of them failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ... import _checks as checks

if TYPE_CHECKING:  # a PyTorch without torch.distributed does not have it
    from torch.distributed import ProcessGroup

_T = TypeVar("_T")
_AT_ONCE = 1 << 22
"""Numbers of a sum over the ranks before that travel at a time (32 MiB from each rank)."""


class RankFailed(RuntimeError):
    """Another rank has failed, died, or not answered in time."""


class Ranks:
    """The ranks of a group, or this process alone where there is none."""

    def __init__(self, op: str, group: ProcessGroup | None, *, advice: str = "start all of them again") -> None:
        self._group: Any = group
        self._advice = advice
        self.rank, self.count = 0, 1
        if group is not None and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
            checks.fail_type(op, "group", "a torch.distributed.ProcessGroup or None", group)
        if dist.is_available() and dist.is_initialized():
            self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)
            if self.count < 1:
                checks.fail_value(op, "group", "one that this rank is in", group)

    def _call(self, what: Callable[[], _T]) -> _T:
        try:
            return what()
        except RuntimeError as error:
            words = " ".join(str(error).split())[:200]
            raise RankFailed(
                f"rank {self.rank}: another rank has died or did not answer in time; {self._advice} ({words})"
            ) from error

    def _device(self) -> torch.device:
        name = str(dist.get_backend(self._group))
        return torch.device("cuda" if "nccl" in name and "gloo" not in name else "cpu")

    def agree(self, error: BaseException | None) -> None:
        """Every rank comes here when its work is done or has failed. Raises on all of them where one has failed.

        Raises:
            RankFailed: another rank has; this rank's own error otherwise.
        """
        if self.count == 1:
            if error is not None:
                raise error
            return
        own = None if error is None else f"{type(error).__name__}: {error}"
        everyone: list[Any] = [None] * self.count
        try:
            self._call(lambda: dist.all_gather_object(everyone, own, group=self._group))
        except RankFailed:
            if error is None:
                raise
        if error is not None:
            raise error
        for rank, told in enumerate(everyone):
            if told is not None:
                raise RankFailed(f"rank {rank} has failed: {told}")

    def guarded(self, work: Callable[[], _T]) -> _T:
        """Does it; where it fails on one rank, all of them end."""
        out, error = [], None
        try:
            out.append(work())
        except Exception as failed:
            error = failed
        self.agree(error)
        return out[0]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, int64 on the CPU; ``tensor`` may be overwritten."""
        if self.count == 1 or not tensor.numel():
            return tensor
        there = tensor.to(self._device())
        self._call(lambda: dist.all_reduce(there, group=self._group))
        return there.cpu()

    def sum_before(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks before this one, some rows at a time."""
        out = torch.zeros_like(tensor)
        if self.count == 1 or not tensor.numel():
            return out
        flat, to = tensor.reshape(-1), out.view(-1)
        for start in range(0, flat.numel(), _AT_ONCE):
            part = flat[start : start + _AT_ONCE]
            to[start : start + part.numel()] = torch.stack(self.gather(part)[: self.rank + 1])[:-1].sum(0)
        return out

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Those of all ranks, which have one shape, on the CPU."""
        if self.count == 1 or not tensor.numel():
            return [tensor] * self.count
        there = tensor.to(self._device()).contiguous()
        everyone = [torch.empty_like(there) for _ in range(self.count)]
        self._call(lambda: dist.all_gather(everyone, there, group=self._group))
        return [part.cpu() for part in everyone]
