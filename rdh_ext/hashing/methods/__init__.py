"""Hashing methods, one file each: what is the method's own; everything that methods share is in ``base``."""

from .base import HashingMethod, MethodLoss
from .dhn import DHN
from .dpsh import DPSH
from .hashnet import HashNet

METHODS: dict[str, type[HashingMethod]] = {
    "dpsh": DPSH,
    "dhn": DHN,
    "hashnet": HashNet,
}
"""Name on the command line and in file names -> class."""

__all__ = ["DHN", "DPSH", "METHODS", "HashNet", "HashingMethod", "MethodLoss"]
