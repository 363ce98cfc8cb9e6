"""Deep hashing for PyTorch: the gradient amplifier and losses of RDH, exact Hamming evaluation."""

from . import distributed, nn, retrieval
from ._build_info import build_info
from ._load import load
from .ops import (
    amplified_sigmoid,
    amplified_tanh,
    gradient_amplifier,
    hamming_distance,
    hamming_histogram,
    hamming_topk,
    pack_codes,
    pairwise_loss,
    unpack_codes,
)
from .retrieval import evaluate

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "amplified_sigmoid",
    "amplified_tanh",
    "build_info",
    "distributed",
    "evaluate",
    "gradient_amplifier",
    "hamming_distance",
    "hamming_histogram",
    "hamming_topk",
    "load",
    "nn",
    "pack_codes",
    "pairwise_loss",
    "retrieval",
    "unpack_codes",
]
