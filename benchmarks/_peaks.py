"""What this CPU can do at most, measured on the spot: ``peaks.cpp``, compiled into ``build/`` and loaded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
CACHE = HERE.parent / "build" / "peaks"
FLAGS = ("-std=c++20", "-O3", "-ffp-contract=off", "-shared", "-fPIC", f"-I{CSRC}")
LEVELS = {"avx2": 1, "avx512": 2, "avx512vpopcntdq": 2}
SCANS = ("popcnt", "avx2", "avx512", "avx512vpopcntdq")


class Unavailable(Exception):
    """Why there are no peaks here, in one sentence."""


def _compiler() -> list[str]:
    """$CXX or g++."""
    words = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(words[0]) is None:
        raise Unavailable(f"no C++ compiler ({words[0]}) was found; install g++ or set CXX")
    return words


def _compiled(cache: Path) -> Path:
    """The library, built again where one of its sources or the command has changed."""
    command = [*_compiler(), *FLAGS]
    sources = [HERE / "peaks.cpp", *sorted(HERE.glob("peaks_*"))]
    folders = (CSRC / "common", CSRC / "kernels", CSRC / "kernels" / "cpu")
    included = sorted(path for folder in folders for path in folder.iterdir() if path.suffix in (".h", ".inl"))
    digest = hashlib.sha256(repr(command).encode())
    for path in [*sources, *included]:
        digest.update(path.read_bytes())
    library = cache / f"peaks_{digest.hexdigest()[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            fresh = Path(folder) / library.name
            done = subprocess.run(
                [*command, str(sources[0]), "-o", str(fresh)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise Unavailable(f"peaks.cpp does not compile: {done.stderr.strip()[:2000]}")
            fresh.replace(library)  # at once: somebody else may be building the same
    return library


def _loaded(cache: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(_compiled(cache)))
    except OSError as error:
        raise Unavailable(f"the compiled peaks do not load: {error}") from error


class Peaks:
    """The rates of one CPU level: "avx2" or "avx512". Raises :class:`Unavailable`."""

    def __init__(self, level: str, cache: Path = CACHE) -> None:
        if level not in LEVELS:
            raise Unavailable(f"peaks are measured at the levels {', '.join(LEVELS)}, this is {level}")
        self._level = LEVELS[level]
        self._library = _loaded(cache)
        for name in ("fma_flops_per_second", "elementwise_seconds_per_pair"):
            function = getattr(self._library, name)
            function.argtypes, function.restype = (ctypes.c_int, ctypes.c_double), ctypes.c_double
        if self.fma(seconds=1e-4) <= 0:
            raise Unavailable(f"this CPU does not run {level}")

    def fma(self, threads: int = 1, seconds: float = 0.01) -> float:
        """float32 operations per second in fused multiply-adds, two to each, of so many threads together."""
        if threads == 1:
            return float(self._library.fma_flops_per_second(self._level, seconds))
        with ThreadPoolExecutor(threads) as pool:  # a call through ctypes leaves Python's lock to the others
            return sum(pool.map(lambda _: self.fma(1, seconds), range(threads)))

    def elementwise(self, seconds: float = 0.01) -> float | None:
        """Seconds per pair of the elementwise part of the pairwise loss, one thread; None where that is not known."""
        per_pair = float(self._library.elementwise_seconds_per_pair(self._level, seconds))
        return per_pair if per_pair > 0 else None


def as_words(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Packed codes of up to 64 bits in words of 4 or 8 bytes, as many bytes as a row of the result has."""
    if codes.shape[1] > 8:
        raise Unavailable(f"the plain scan takes codes of up to 8 bytes, these have {codes.shape[1]}")
    words = np.zeros((len(codes), 4 if codes.shape[1] <= 4 else 8), dtype=np.uint8)
    words[:, : codes.shape[1]] = codes
    return words


class Memory:
    """One read of memory, and the plain scan of codes. Raises :class:`Unavailable`."""

    def __init__(self, cache: Path = CACHE) -> None:
        library = _loaded(cache)
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._scan, self._read = library.hamming_scan, library.read_through
        self._scan.argtypes = (ctypes.c_int, ctypes.c_int, pointer, integer, pointer, integer)
        self._read.argtypes = (pointer, integer)
        self._scan.restype = self._read.restype = integer
        # kept: to start threads takes as long as some scans; a core each: the system may take longer to notice that
        # two of them share one
        cores = iter(sorted(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(
            len(os.sched_getaffinity(0)), initializer=lambda: os.sched_setaffinity(0, {next(cores)})
        )

    def read(self, memory: NDArray[np.generic]) -> None:
        """Every byte of a contiguous array, once."""
        self._read(memory.ctypes.data, memory.nbytes)

    def scans(self) -> tuple[str, ...]:
        """Of :data:`SCANS` those that this CPU runs, slowest first."""
        none = np.zeros((0, 8), dtype=np.uint8)
        return tuple(name for name in SCANS if self.scan(name, none, none) == 0)

    def scan(self, name: str, q: NDArray[np.uint8], g: NDArray[np.uint8], threads: int = 1) -> int:
        """The sum of the Hamming distances of all pairs of codes from :func:`as_words`, nothing else kept; -1 where
        this CPU does not run it. The queries are divided among the threads."""
        size = max(1, -(-len(q) // threads))

        def part(start: int) -> int:
            rows = q[start : start + size]
            args = (rows.ctypes.data, len(rows), g.ctypes.data, len(g))
            return int(self._scan(SCANS.index(name), q.shape[1], *args))

        if threads == 1:
            return part(0)
        return sum(self._pool.map(part, range(0, len(q), size)))  # ctypes leaves Python's lock to the others
