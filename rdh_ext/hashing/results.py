"""What the demo measured, as plain data: filled by ``demo``, read by everything in ``report``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .data.splits import RetrievalData
from .history import EpochRecord, Schedule, StepRecord


@dataclass(frozen=True)
class Evaluation:
    """Retrieval quality of one set of codes."""

    map: float
    ap: list[float]
    """Average precision of every query."""
    map_at_100: float
    precision_radius_2: float
    """Mean over queries of the precision within Hamming radius 2; a query with nothing there counts 0."""
    empty_radius_2: int
    """How many queries those are."""
    precision: list[float]
    """Precision within radius 0 .. K, mean over the queries whose ball of that radius is not empty."""
    recall: list[float]
    """Recall within radius 0 .. K, mean over all queries."""
    queries: list[int]
    """How many queries have anything within radius 0 .. K."""


@dataclass(frozen=True)
class RunResult:
    """One training run, its codes and their quality."""

    key: str
    """In file names and JSON: ``hashnet`` or ``hashnet_rdh``."""
    label: str
    rdh: bool
    steps: list[StepRecord]
    epochs: list[EpochRecord]
    seconds: float
    query_codes: Tensor
    gallery_codes: Tensor
    exact_zeros: int
    evaluation: Evaluation
    neighbours: Tensor
    """Gallery positions of the ten nearest images ``[Q, 10]``, by (distance, position)."""
    distances: Tensor
    """Their Hamming distances ``[Q, 10]``."""


@dataclass(frozen=True)
class DemoResult:
    """Both runs and what they were run on."""

    data: RetrievalData
    schedule: Schedule
    settings: dict[str, Any]
    """Every option of the run, by name."""
    versions: dict[str, str]
    runs: tuple[RunResult, RunResult]
    """Without RDH, with RDH."""
