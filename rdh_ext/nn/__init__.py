"""Modules without arithmetic: each holds parameters and calls the op of the same name."""

from .._bit_counter import BitCounter, BitCounts
from .gradient_amplifier import AmplifiedSigmoid, AmplifiedTanh, GradientAmplifier, rescue_
from .pairwise_loss import LossParts, PairwiseLoss

__all__ = [
    "AmplifiedSigmoid",
    "AmplifiedTanh",
    "BitCounter",
    "BitCounts",
    "GradientAmplifier",
    "LossParts",
    "PairwiseLoss",
    "rescue_",
]
