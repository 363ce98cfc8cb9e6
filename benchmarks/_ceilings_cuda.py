"""Rates of the GPU at hand for _ceilings.py, by peaks.cu: each is asked once before it is relied on."""

from __future__ import annotations

from collections.abc import Callable

from _problem import NotHere
from datasheets import CODE_BITS
from peaks import CudaPeaks, Unavailable

SECONDS = 0.01


def _working(rate: Callable[[], float]) -> Callable[[], float]:
    try:
        rate()
    except Unavailable as reason:
        raise NotHere(str(reason)) from reason
    return rate


def _peaks() -> CudaPeaks:
    try:
        return CudaPeaks()
    except Unavailable as reason:
        raise NotHere(str(reason)) from reason


def multiply_adds() -> Callable[[], float]:
    """Of float32 operations per second, without matrix units."""
    peaks = _peaks()
    return _working(lambda: peaks.fma(SECONDS))


def pairs_per_second(bits: int) -> Callable[[], float]:
    """Of the plain scan of codes of so many bits; of longer ones as many scans as they have words."""
    peaks, longest = _peaks(), CODE_BITS[-1]
    if bits <= longest:
        return _working(lambda: peaks.scan(bits, SECONDS))
    words = -(-bits // longest)
    return _working(lambda: peaks.scan(longest, SECONDS) / words)
