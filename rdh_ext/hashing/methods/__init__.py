"""Hashing methods, one file each: what is the method's own; everything that methods share is in ``base``."""

from .base import HashingMethod, MethodLoss
from .hashnet import HashNet

METHODS: dict[str, type[HashingMethod]] = {"hashnet": HashNet}
"""Name on the command line and in file names -> class."""

__all__ = ["METHODS", "HashNet", "HashingMethod", "MethodLoss"]
