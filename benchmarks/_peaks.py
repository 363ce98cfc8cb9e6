"""What this CPU's arithmetic can do, measured on the spot: ``peaks.cpp``, compiled into ``build/`` and loaded."""

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

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
CACHE = HERE.parent / "build" / "peaks"
FLAGS = ("-std=c++20", "-O3", "-ffp-contract=off", "-shared", "-fPIC", f"-I{CSRC}")
LEVELS = {"avx2": 1, "avx512": 2, "avx512vpopcntdq": 2}


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
    sources = [HERE / "peaks.cpp", HERE / "peaks_simd.inl"]
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


class Peaks:
    """The rates of one CPU level: "avx2" or "avx512". Raises :class:`Unavailable`."""

    def __init__(self, level: str, cache: Path = CACHE) -> None:
        if level not in LEVELS:
            raise Unavailable(f"peaks are measured at the levels {', '.join(LEVELS)}, this is {level}")
        self._level = LEVELS[level]
        try:
            self._library = ctypes.CDLL(str(_compiled(cache)))
        except OSError as error:
            raise Unavailable(f"the compiled peaks do not load: {error}") from error
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
