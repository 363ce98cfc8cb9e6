"""Modules without arithmetic: each holds parameters and calls the op of the same name."""

from .._bit_counter import BitCounter, BitCounts
from .gradient_amplifier import AmplifiedSigmoid, AmplifiedTanh, GradientAmplifier, rescue_

__all__ = ["AmplifiedSigmoid", "AmplifiedTanh", "BitCounter", "BitCounts", "GradientAmplifier", "rescue_"]
