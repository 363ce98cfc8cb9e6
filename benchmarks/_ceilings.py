"""The least time that a case can take on this device: a copy of as many bytes, its multiply-adds, or a plain scan.

They are measured in the same rounds as what they limit, and so at the same clock, with the same neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from _problem import Case, Ceiling, Cost, NotHere
from peaks import Memory, Peaks, Unavailable, as_words
from torch import Tensor

from rdh_ext import _native

COPY = "copy of as many bytes"
PRODUCTS = "multiply-adds and elementwise"
SCAN = "xor + popcount, nothing kept"
SECONDS = 0.01  # of a probe


def settle(device: str) -> Callable[[], None]:
    """Waits for what is under way."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def seconds_per_call(step: Callable[[], object], device: str, seconds: float = SECONDS) -> float:
    """For about ``seconds``, after one call that does not count."""
    wait = settle(device)
    step()
    wait()
    calls, start, end = 0, time.perf_counter(), 0.0
    while calls == 0 or end - start < seconds:
        step()
        wait()
        calls, end = calls + 1, time.perf_counter()
    return (end - start) / calls


def copying(case: Case, cost: Cost) -> Ceiling:
    """A copy that reads half of the bytes and writes the other half."""
    half = max(1, cost.bytes // 2)
    source = torch.zeros(half, dtype=torch.uint8, device=case.device)
    target = torch.zeros_like(source)
    return Ceiling(COPY, lambda: seconds_per_call(lambda: target.copy_(source), case.device))


def multiplying(case: Case, cost: Cost) -> Ceiling:
    """Fused multiply-adds at the rate of the registers, and on a CPU the elementwise part of every pair."""
    if case.device == "cuda":
        from _ceilings_cuda import multiply_adds

        rate = multiply_adds()
        return Ceiling("multiply-adds", lambda: cost.flops / rate())
    level = _native.active_cpu_level()
    try:
        peaks = Peaks(level if _native.cpu_levels() else "avx2")
    except Unavailable as reason:
        raise NotHere(str(reason)) from reason
    if peaks.elementwise(seconds=1e-4) is None:
        raise NotHere("the elementwise part alone is not available")

    def probe() -> float:
        flops = peaks.fma(case.threads, SECONDS)
        return cost.flops / flops + cost.pairs * (peaks.elementwise(SECONDS) or 0.0) / case.threads

    return Ceiling(PRODUCTS, probe)


def scanning(case: Case, q: Tensor, g: Tensor, cost: Cost) -> Ceiling:
    """All pairs by xor and popcount a word at a time, the distances added up and forgotten; of codes of several words
    one scan for each."""
    if case.device == "cuda":
        from _ceilings_cuda import pairs_per_second

        rate = pairs_per_second(8 * q.size(1))
        return Ceiling(SCAN, lambda: cost.pairs / rate())
    try:
        memory = Memory()
        levels = memory.scans()
    except Unavailable as reason:
        raise NotHere(str(reason)) from reason
    if not levels:
        raise NotHere("this CPU has no level of the plain scan")
    pieces = zip(q.split(8, dim=1), g.split(8, dim=1), strict=True)
    words = [(as_words(a.numpy()), as_words(b.numpy())) for a, b in pieces]

    def scan() -> None:
        for a, b in words:
            memory.scan(levels[-1], a, b, case.threads)

    return Ceiling(SCAN, lambda: seconds_per_call(scan, case.device))
