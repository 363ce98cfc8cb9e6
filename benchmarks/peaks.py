"""What this CPU or GPU can do at most, measured on the spot: ``peaks.cpp`` and ``peaks.cu``, compiled into ``build/``.

    python benchmarks/peaks.py [--device cpu|cuda]

prints it, beside what the datasheet says (datasheets.py), and one line of JSON behind ``PEAKS``. It ends with 1 where a
measured number can hardly be true, and with 2 where nothing can be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from datasheets import CODE_BITS, Ceilings, Datasheet, cpu_clock, cpu_peak_flops, datasheet, sane
from numpy.typing import NDArray

__all__ = [
    "SCANS",
    "Ceilings",
    "CudaPeaks",
    "Datasheet",
    "Memory",
    "Peaks",
    "Unavailable",
    "as_words",
    "copy_bandwidth",
    "core_clock",
    "cpu_peak_flops",
    "datasheet",
    "sane",
]

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
IN_A_TREE = (HERE.parent / "setup.py").exists()
OF_THE_USER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rdh_ext"
CACHE = (HERE.parent / "build" if IN_A_TREE else OF_THE_USER) / "peaks"
FLAGS = ("-std=c++20", "-O3", "-ffp-contract=off", "-shared", "-fPIC", f"-I{CSRC}")
LEVELS = {"avx2": 1, "avx512": 2, "avx512vpopcntdq": 2}
NVCC_FLAGS = ("-std=c++17", "-O3", "-shared", "-Xcompiler=-fPIC", f"-I{CSRC}")
COPY_BYTES = 1 << 30
"""Of a copy on a GPU, read and written once each: ten times what the largest second-level cache holds, or more."""
SCANS = ("popcnt", "avx2", "avx512", "avx512vpopcntdq")


class Unavailable(Exception):
    """Why there are no peaks here, in one sentence."""


def _compiler() -> list[str]:
    """$CXX or g++."""
    words = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(words[0]) is None:
        raise Unavailable(f"no C++ compiler ({words[0]}) was found; install g++ or set CXX")
    return words


def _nvcc() -> str:
    """That of $CUDA_HOME, the one on PATH, or the usual one."""
    home = os.environ.get("CUDA_HOME")
    for folder in ([f"{home}/bin"] if home else []) + [os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]:
        nvcc = shutil.which("nvcc", path=folder)
        if nvcc:
            return nvcc
    raise Unavailable("no nvcc was found; install the CUDA toolkit or set CUDA_HOME")


def _capability() -> str:
    """Of the device at hand, as compilers have it: ``90``."""
    try:
        import torch
    except ImportError as error:
        raise Unavailable(f"torch cannot be imported: {error}") from error
    if not torch.cuda.is_available():
        raise Unavailable("no CUDA device is available to PyTorch")
    return "{}{}".format(*torch.cuda.get_device_capability())


def _built(command: Sequence[str], main: Path, others: Sequence[Path], cache: Path, version: str = "") -> Path:
    """The library of one source, built again where it, another file that it may include, the command, or the version of
    the compiler has changed."""
    digest = hashlib.sha256((repr(command) + version).encode())
    for path in [main, *others]:
        digest.update(path.read_bytes())
    library = cache / f"peaks_{digest.hexdigest()[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            fresh = Path(folder) / library.name
            done = subprocess.run([*command, str(main), "-o", str(fresh)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise Unavailable(f"{main.name} does not compile: {(done.stderr + done.stdout).strip()[:2000]}")
            fresh.replace(library)  # at once: somebody else may be building the same
    return library


def _compiled(cache: Path) -> Path:
    """peaks.cpp."""
    folders = (CSRC / "common", CSRC / "kernels", CSRC / "kernels" / "cpu")
    included = sorted(path for folder in folders for path in folder.iterdir() if path.suffix in (".h", ".inl"))
    parts = [*HERE.glob("peaks_*.h"), *HERE.glob("peaks_*.inl")]
    return _built([*_compiler(), *FLAGS], HERE / "peaks.cpp", [*sorted(parts), *included], cache)


def compiled_cuda(cache: Path, capability: str) -> Path:
    """peaks.cu, for one kind of device."""
    nvcc = _nvcc()
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    target = f"-gencode=arch=compute_{capability},code=sm_{capability}"
    included = [*sorted(HERE.glob("peaks_*.cuh")), CSRC / "common" / "cuda_kernel.h", CSRC / "common" / "host_device.h"]
    return _built([nvcc, *NVCC_FLAGS, target], HERE / "peaks.cu", included, cache, version)


def _loaded(library: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise Unavailable(f"the compiled peaks do not load: {error}") from error


class Peaks:
    """The rates of one CPU level: "avx2" or "avx512". Raises :class:`Unavailable`."""

    def __init__(self, level: str, cache: Path = CACHE) -> None:
        if level not in LEVELS:
            raise Unavailable(f"peaks are measured at the levels {', '.join(LEVELS)}, this is {level}")
        self._level = LEVELS[level]
        self._library = _loaded(_compiled(cache))
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
        library = _loaded(_compiled(cache))
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


def copy_bandwidth(nbytes: int, seconds: float = 0.05) -> float:
    """Bytes moved per second by copies of so many on one thread, read and written counted; the fastest of several."""
    source, target = np.ones((2, max(1, nbytes)), dtype=np.uint8)  # ones: pages that are there
    best, spent = float("inf"), 0.0
    np.copyto(target, source)
    while spent < seconds or best == float("inf"):
        start = time.perf_counter()
        np.copyto(target, source)
        once = max(time.perf_counter() - start, 1e-9)
        best, spent = min(best, once), spent + once
    return 2 * source.nbytes / best


def core_clock(cache: Path = CACHE, seconds: float = 0.01) -> float:
    """Clocks per second of the core that this runs on, measured; 0 where that is not known."""
    library = _loaded(_compiled(cache))
    library.core_clock.argtypes, library.core_clock.restype = (ctypes.c_double,), ctypes.c_double
    return max(0.0, *(float(library.core_clock(seconds / 3)) for _ in range(3)))


class CudaPeaks:
    """The rates of the current CUDA device. Raises :class:`Unavailable`, its methods too.

    Memory is taken beside PyTorch's and given back. Each result of a kernel is compared with the host's for some
    threads: what is not computed is not measured.
    """

    def __init__(self, cache: Path = CACHE) -> None:
        self._library = _loaded(compiled_cuda(cache, _capability()))
        for name, first in (
            ("copy_bytes_per_second", (ctypes.c_int64,)),
            ("fma_flops_per_second", ()),
            ("scan_pairs_per_second", (ctypes.c_int,)),
        ):
            function = getattr(self._library, name)
            function.argtypes, function.restype = (*first, ctypes.c_double), ctypes.c_double
        self._library.peaks_problem.argtypes = (ctypes.c_double,)
        self._library.peaks_problem.restype = ctypes.c_char_p

    def _rate(self, name: str, *arguments: float) -> float:
        rate = float(getattr(self._library, name)(*arguments))
        if rate <= 0:
            raise Unavailable(f"{name}: {self._library.peaks_problem(rate).decode() or 'no time has passed'}")
        return rate

    def copy(self, nbytes: int = COPY_BYTES, seconds: float = 0.05) -> float:
        """Bytes moved per second by copies of so many, read and written counted."""
        return self._rate("copy_bytes_per_second", nbytes, seconds)

    def fma(self, seconds: float = 0.05) -> float:
        """float32 operations per second in fused multiply-adds, two to each, without tensor cores."""
        return self._rate("fma_flops_per_second", seconds)

    def scan(self, bits: int, seconds: float = 0.05) -> float:
        """Pairs of codes of up to 32, 64 or 128 bits per second whose distance is counted and added up."""
        words = next((size // 32 for size in CODE_BITS if bits <= size), None)
        if words is None:
            raise Unavailable(f"the plain scan takes codes of up to {CODE_BITS[-1]} bits, these have {bits}")
        return self._rate("scan_pairs_per_second", words, seconds)

    def ceilings(self, nbytes: int = COPY_BYTES, seconds: float = 0.2) -> Ceilings:
        """All of it."""
        pairs = {bits: self.scan(bits, seconds) for bits in CODE_BITS}
        return Ceilings(self.copy(nbytes, seconds), self.fma(seconds), pairs)


def cuda_report() -> dict[str, Any]:
    """Of the device at hand, measured and by its datasheet."""
    measured = CudaPeaks().ceilings()
    import torch

    device = torch.cuda.get_device_name()
    rows = {
        "copy, bytes/s": measured.bandwidth,
        "float32 multiply-adds, FLOP/s": measured.fp32,
        **{f"scan of {bits} bits, pairs/s": rate for bits, rate in measured.pairs.items()},
    }
    sheet = datasheet(device)
    if sheet is None:
        return {"device": device, "measured": rows, "datasheet": {}, "source": None, "complaints": []}
    peaks = (sheet.bandwidth, sheet.fp32, *(sheet.pairs(bits) for bits in measured.pairs))
    return {
        "device": device,
        "measured": rows,
        "datasheet": dict(zip(rows, peaks, strict=True)),
        "source": sheet.source,
        "complaints": sane(measured, sheet),
    }


def cpu_report() -> dict[str, Any]:
    """Of one core, measured; the bound that is known of it is about multiply-adds."""
    clock = max(core_clock(), cpu_clock())
    rows, bounds = {"clock, 1/s": clock, "copy of 256 MiB, bytes/s": copy_bandwidth(1 << 28, 0.3)}, {}
    for level in ("avx2", "avx512"):
        with contextlib.suppress(Unavailable):
            rows[f"{level}: multiply-adds, FLOP/s"] = Peaks(level).fma(seconds=0.1)
            bounds[f"{level}: multiply-adds, FLOP/s"] = cpu_peak_flops(level, clock)
    memory, codes = Memory(), np.random.default_rng(0).integers(256, size=(1 << 13, 8), dtype=np.uint8)
    for name in memory.scans():
        start = time.perf_counter()
        memory.scan(name, codes, codes)
        rows[f"scan of 64 bits, {name}, pairs/s"] = len(codes) ** 2 / (time.perf_counter() - start)
    return {
        "device": "cpu",
        "measured": rows,
        "datasheet": bounds,
        "source": "two units of multiply-adds at the clock",
        "complaints": [],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    try:
        report = {"cpu": cpu_report, "cuda": cuda_report}[parser.parse_args().device]()
    except Unavailable as reason:
        print(reason)
        return 2
    print(report["device"])
    for what, rate in report["measured"].items():
        peak = report["datasheet"].get(what)
        share = f"  {100 * rate / peak:5.1f} % of at most {peak:.4g}" if peak else ""
        print(f"  {what:36} {rate:10.4g}{share}")
    print("".join(f"  {complaint}\n" for complaint in report["complaints"]), end="")
    print("PEAKS " + json.dumps(report))
    return 1 if report["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
