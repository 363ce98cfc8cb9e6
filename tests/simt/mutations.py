"""Finds every call in the kernels that orders threads or memory, by reading the sources.

Barriers, fences, atomics, and the commits and waits of cp.async. Each is a site, a file and a line; SIMT_REMOVE takes
one out while a test runs, without compiling anew: a dropped call does nothing, a plain atomic updates memory as an
ordinary expression would.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from building import HERE, ROOT

CALL = re.compile(
    r"\b(?:__syncthreads(?:_count|_or|_and)?|__syncwarp|__threadfence(?:_block)?|atomic[A-Z]\w*|cp_async_(?:commit|wait))\b"
)
COMMENT_OR_STRING = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)


@dataclass(frozen=True)
class Site:
    """A call that orders something."""

    path: Path
    line: int
    call: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}:{self.call}"

    @property
    def removals(self) -> tuple[str, ...]:
        """In how many ways it can be taken out."""
        ways = ("plain", "drop") if self.call.startswith("atomic") else ("drop",)
        return tuple(f"{self.path.relative_to(ROOT)}:{self.line}:{way}" for way in ways)


def kernel_sources() -> list[Path]:
    """All device code that tests run: the shipped kernels, whatever they may include, and the samples."""
    csrc = ROOT / "csrc"
    folders = (csrc / "common", csrc / "kernels", csrc / "kernels" / "cuda")
    files = [path for folder in folders for path in folder.glob("*.*") if path.suffix in (".h", ".cuh", ".cu", ".inl")]
    definitions = {csrc / "common" / "ptx.cuh"}  # of some of the calls
    return sorted({*files, HERE / "samples.cuh"} - definitions)


def sites_of(path: Path) -> list[Site]:
    """The calls in a file, in order. Two on a line could not be told apart: an error that says so."""
    text = COMMENT_OR_STRING.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), path.read_text())
    sites = []
    for number, line in enumerate(text.split("\n"), start=1):
        calls = CALL.findall(line)
        if len(calls) > 1:
            raise ValueError(f"{path.name}:{number}: {' and '.join(calls)} on one line; put each on a line of its own")
        sites += [Site(path, number, call) for call in calls]
    return sites


def all_sites() -> list[Site]:
    """Every call to take out."""
    return [site for path in kernel_sources() for site in sites_of(path)]
