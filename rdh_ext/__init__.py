"""Deep hashing for PyTorch: fused RDH ops, exact Hamming evaluation, honest benchmarks."""

from .ops import gradient_amplifier as _gradient_amplifier

__all__: list[str] = []
