"""Counting dead and saturated bits without a second pass over memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._checks import fail_type, fail_value


class BitCounts(NamedTuple):
    """What a :class:`BitCounter` has seen: numbers of bits (elements of ``h``), summed over backward passes.

    Example:
        >>> counts = rdh_ext.nn.BitCounts(dead=3, saturated=40, total=128)
        >>> counts.dead_fraction, counts.saturated_fraction
        (0.0234375, 0.3125)
    """

    dead: int
    """Bits that Eq. 3 amplifies: saturated, and pushed outward by the loss wanting them on the other side."""
    saturated: int
    """Bits with ``|h| >= tau``."""
    total: int
    """All bits."""

    @property
    def dead_fraction(self) -> float:
        """``dead / total``; 0 when nothing was counted."""
        return self.dead / self.total if self.total else 0.0

    @property
    def saturated_fraction(self) -> float:
        """``saturated / total``; 0 when nothing was counted."""
        return self.saturated / self.total if self.total else 0.0


class BitCounter:
    """Counts dead and saturated bits during backward; read it once per step, or once per epoch.

    Give it to any number of functions or modules as ``counter=``; the backward kernels count while they hold the values
    in registers. The counts travel as the *gradient* of a tiny float64 tensor ``[dead, saturated, total]`` (exact up
    to 2^53) that enters the graph beside ``x``, so they work wherever gradients do: torch.compile, CUDA graphs,
    checkpointing, DDP (each rank counts its own bits; sum them over ranks if you want the global number). Several
    backward passes add up.

    Args:
        device: where the counted tensors live; by default the CPU and, where there is one, the current CUDA device.

    Raises:
        TypeError, ValueError: ``device`` is not a device, or not one that is here.

    Cost: 24 bytes per device; :meth:`read` synchronises with a CUDA device, counting does not.

    Example:
        >>> counter = rdh_ext.nn.BitCounter()
        >>> x = torch.tensor([8.0, -8.0, 0.1], requires_grad=True)
        >>> rdh_ext.amplified_tanh(x, counter=counter).sum().backward()
        >>> counter.read()
        BitCounts(dead=1, saturated=2, total=3)
        >>> counter.read()  # reading resets
        BitCounts(dead=0, saturated=0, total=0)
    """

    def __init__(self, device: torch.device | str | int | None = None) -> None:
        devices: list[torch.device]
        if device is not None:
            devices = [_named(device)]
        else:
            devices = [torch.device("cpu")]
            if torch.cuda.is_available():
                devices.append(_with_index(torch.device("cuda")))
        self._counts = {str(d): torch.zeros(3, dtype=torch.float64, device=d, requires_grad=True) for d in devices}

    def counts_on(self, device: torch.device) -> Tensor:
        """The tensor whose gradient collects the counts of ``device``; what the ops take.

        Raises:
            ValueError: the counter was made for other devices.
        """
        counts = self._counts.get(str(device))
        if counts is None:
            made_for = ", ".join(self._counts)
            raise ValueError(
                f"BitCounter: made for {made_for}, got a tensor on {device}; use BitCounter(device='{device}')"
            )
        return counts

    def read(self, *, reset: bool = True) -> BitCounts:
        """The counts since the last reset, over all devices; resets them unless told otherwise."""
        sums = [0, 0, 0]
        for counts in self._counts.values():
            if counts.grad is not None:
                sums = [int(a + b) for a, b in zip(sums, counts.grad.tolist(), strict=True)]
        if reset:
            self.reset()
        return BitCounts(*sums)

    def take(self, device: torch.device) -> Tensor:
        """The counts on ``device`` as a tensor there, float64 ``[dead, saturated, total]``; resets them.

        For loops that look at the counts of many steps together: nothing waits for the device.

        Raises:
            ValueError: the counter was made for other devices.

        Example:
            >>> counter = rdh_ext.nn.BitCounter()
            >>> x = torch.tensor([8.0, -8.0, 0.1], requires_grad=True)
            >>> rdh_ext.amplified_tanh(x, counter=counter).sum().backward()
            >>> counter.take(x.device)
            tensor([1., 2., 3.], dtype=torch.float64)
        """
        counts = self.counts_on(device)
        if counts.grad is None:
            return torch.zeros_like(counts, requires_grad=False)
        taken = counts.grad.clone()
        counts.grad.zero_()
        return taken

    def reset(self) -> None:
        """Sets all counts to 0, in place, so that a captured CUDA graph keeps adding to the same memory."""
        for counts in self._counts.values():
            if counts.grad is not None:
                counts.grad.zero_()

    def __repr__(self) -> str:
        return f"BitCounter(device={', '.join(self._counts)})"


def _named(device: Any) -> torch.device:
    """The device that a caller means."""
    if isinstance(device, bool) or not isinstance(device, (torch.device, str, int)):
        fail_type("BitCounter", "device", "a torch.device, its name or its index", device)
    try:
        return _with_index(torch.device(device))
    except (RuntimeError, AssertionError):  # no such name or index, or a PyTorch without support for it
        fail_value("BitCounter", "device", "a device that is here", device)


def _with_index(device: torch.device) -> torch.device:
    """``cuda`` as ``cuda:<current>``, the way a tensor on it names it."""
    return torch.empty(0, device=device).device
