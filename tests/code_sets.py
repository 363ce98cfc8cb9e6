"""Small code sets of many blocks and shards, for tests of everything that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rdh_ext
from rdh_ext.retrieval import CodeSet, CodeSetError, CodeSetWriter, write_code_set
from rdh_ext.retrieval.sets import manifest

Problem = tuple[Tensor, Tensor, Tensor, Tensor]
PEAK_MEMORY = """
def peak_memory():
    with open("/proc/self/status") as file:  # ru_maxrss would have that of the process that started this one
        return int(next(line.split()[1] for line in file if line.startswith("VmHWM:"))) * 1024
"""
"""For the script of another process: bytes that it had at most."""


def make_problem(
    queries: int = 20, gallery: int = 30_000, bits: int = 24, classes: int | None = None, seed: int = 0
) -> Problem:
    """Codes near a centre of their class, so that there are many ties; ids of 5 classes, or multi-hot labels."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, bits, generator=random)
    codes, labels = [], []
    for rows in (queries, gallery):
        ids = torch.randint(0, 5, (rows,), generator=random)
        codes.append(rdh_ext.pack_codes(centres[ids] + torch.randn(rows, bits, generator=random)))
        hot = None if classes is None else torch.rand(rows, classes, generator=random) < 2 / classes
        labels.append(ids if hot is None else hot)
    return codes[0], codes[1], labels[0], labels[1]


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets written from here on have blocks of 4,096 items, the smallest there are."""
    monkeypatch.setattr(manifest, "BLOCK_BYTES", 1)


def write_problem(
    folder: Path, problem: Problem, bits: int, shard_items: int | None = 9_000
) -> tuple[CodeSet, CodeSet]:
    """The query set in one file, the gallery in a folder of several shards."""
    q, g, q_labels, g_labels = problem
    query = write_code_set(folder / "query.npz", q, q_labels, bits=bits)
    return query, write_code_set(folder / "gallery", g, g_labels, bits=bits, shard_items=shard_items)


def write_in_parts(path: Path, problem: Problem, bits: int, sizes: list[int], shard_items: int) -> CodeSet:
    """The gallery of a problem, given to the writer in parts of these sizes."""
    _, g, _, labels = problem
    classes = labels.shape[1] if labels.dim() == 2 else None
    with CodeSetWriter(path, bits=bits, classes=classes, shard_items=shard_items) as writer:
        for codes, part in zip(g.split(sizes), labels.split(sizes), strict=True):
            writer.add(codes, part)
    return CodeSet(path)


def problem_set(folder: Path, monkeypatch: pytest.MonkeyPatch, bits: int, classes: int | None = None) -> CodeSet:
    """A set of several shards and blocks."""
    small_blocks(monkeypatch)
    _, g, _, labels = make_problem(gallery=12_000, bits=bits, classes=classes)
    return write_code_set(folder / "set", g, labels, bits=bits, shard_items=5_000)


def error_of(function: Any, *arguments: Any, **options: Any) -> str:
    """The one line of a CodeSetError."""
    with pytest.raises(CodeSetError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
