"""The ops: one file each, holding schema, fake, autograd, autocast and the public function."""

from .gradient_amplifier import amplified_sigmoid, amplified_tanh, gradient_amplifier

__all__ = ["amplified_sigmoid", "amplified_tanh", "gradient_amplifier"]
