"""Retrieval metrics in Hamming space: exact, deterministic, from histograms."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .._extras import require
from ..ops.pack_codes import count_zeros
from .average_precision import average_precision
from .curves import PRCurve
from .evaluate import evaluate, evaluate_histogram
from .gallery import Gallery
from .result import EvaluationResult
from .sets.code_set import Block, CodeSet
from .sets.dumps import Dump, open_faiss, open_npy, open_pt
from .sets.errors import CodeSetError, DamagedShard
from .sets.exports import export_faiss, export_npy
from .sets.writer import CodeSetWriter, write_code_set
from .streaming.evaluate_sets import evaluate_sets
from .streaming.memory import MemoryPlan
from .streaming.ranks import RankFailed
from .streaming.search_sets import search_sets

if TYPE_CHECKING:
    from .hamming_map import HammingMAP as HammingMAP

__all__ = [
    "Block",
    "CodeSet",
    "CodeSetError",
    "CodeSetWriter",
    "DamagedShard",
    "Dump",
    "EvaluationResult",
    "Gallery",
    "MemoryPlan",
    "PRCurve",
    "RankFailed",
    "average_precision",
    "count_zeros",
    "evaluate",
    "evaluate_histogram",
    "evaluate_sets",
    "export_faiss",
    "export_npy",
    "open_faiss",
    "open_npy",
    "open_pt",
    "search_sets",
    "write_code_set",
]


# not in __all__: importing * would import torchmetrics, and fail where it is not installed
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """``HammingMAP``, which needs torchmetrics: imported when asked for."""
        if name == "HammingMAP":
            require("torchmetrics", extra="metrics")
            from .hamming_map import HammingMAP

            return HammingMAP
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """``HammingMAP`` only where it can be had: who lists a module asks for all that is in the list."""
    return sorted({*globals(), "HammingMAP"} if find_spec("torchmetrics") else globals())
