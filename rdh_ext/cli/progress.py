"""A progress bar on standard error, where a person looks at it and tqdm is installed."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """Shows how far a stage is, the rate and the time that is left; silent where nobody looks.

    Used as ``bar(stage, done, total)``, again and again. A new stage begins a new bar.
    """

    def __init__(self, unit: str, *, shown: bool = True) -> None:
        self._unit, self._shown = unit, shown and sys.stderr.isatty()
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Moves on to ``done`` of ``total``."""
        if not self._shown:
            return
        if self._bar is None or stage != self._stage:
            self.close()
            try:
                from tqdm import tqdm
            except ImportError:
                self._shown = False
                return
            # what an earlier run has done says nothing about the rate
            self._bar = tqdm(total=total, initial=done, unit=self._unit, unit_scale=True, desc=stage, file=sys.stderr)
            self._stage = stage
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Ends the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
