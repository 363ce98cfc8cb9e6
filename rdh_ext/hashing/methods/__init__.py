"""Hashing methods, one file each: what is the method's own; everything that methods share is in ``base``."""

from .base import HashingMethod, MethodLoss
from .dagh import DAGH
from .dhn import DHN
from .dpsh import DPSH
from .dsdh import DSDH
from .hashnet import HashNet

METHODS: dict[str, type[HashingMethod]] = {
    "dpsh": DPSH,
    "dhn": DHN,
    "hashnet": HashNet,
    "dagh": DAGH,
    "dsdh": DSDH,
}
"""Name on the command line and in file names -> class."""

__all__ = ["DAGH", "DHN", "DPSH", "DSDH", "METHODS", "HashNet", "HashingMethod", "MethodLoss"]
