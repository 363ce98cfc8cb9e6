"""Training on Lightning: one module, one Trainer set-up, for every hashing method.

Importing this folder imports Lightning; the rest of the harness imports it inside functions.
"""

from .fit import Settings, Trained, train
from .module import HashingModule
from .selection import Chosen, Selection

__all__ = ["Chosen", "HashingModule", "Selection", "Settings", "Trained", "train"]
