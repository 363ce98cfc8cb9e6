"""Retrieval metrics in Hamming space: exact, deterministic, from histograms."""

from ..ops.pack_codes import count_zeros
from .average_precision import average_precision
from .curves import PRCurve
from .evaluate import evaluate, evaluate_histogram
from .gallery import Gallery
from .result import EvaluationResult

__all__ = [
    "EvaluationResult",
    "Gallery",
    "PRCurve",
    "average_precision",
    "count_zeros",
    "evaluate",
    "evaluate_histogram",
]
