"""Modules without arithmetic: each holds parameters and calls the op of the same name; the bank holds rows."""

from .._bit_counter import BitCounter, BitCounts
from .code_bank import CodeBank
from .gradient_amplifier import AmplifiedSigmoid, AmplifiedTanh, GradientAmplifier, rescue_
from .pairwise_loss import LossParts, PairwiseLoss

__all__ = [
    "AmplifiedSigmoid",
    "AmplifiedTanh",
    "BitCounter",
    "BitCounts",
    "CodeBank",
    "GradientAmplifier",
    "LossParts",
    "PairwiseLoss",
    "rescue_",
]
