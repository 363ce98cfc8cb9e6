"""``rdh reproduce``: the paper's tables and figures from grids of trainings.

``paper`` has the numbers as printed, ``grid`` says which trainings a target needs, ``folders`` where they are and
whether they can go on, ``pool`` and ``worker`` train in processes, ``summary`` takes means over seeds, ``tables``,
``figures`` and ``documents`` show them, and ``work`` does all that in turn.
"""

from .folders import FolderInUse
from .grid import TARGETS, Grid, GridError, Options
from .work import Outcome, Plan, plan, reproduce

__all__ = ["FolderInUse", "Grid", "GridError", "Options", "Outcome", "Plan", "TARGETS", "plan", "reproduce"]
