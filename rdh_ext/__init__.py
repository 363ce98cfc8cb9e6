"""Deep hashing for PyTorch: fused RDH ops, exact Hamming evaluation, honest benchmarks."""

from . import nn
from .ops import amplified_sigmoid, amplified_tanh, gradient_amplifier

__all__ = ["amplified_sigmoid", "amplified_tanh", "gradient_amplifier", "nn"]
