"""An object that runs code when it is unpickled, and where that would be seen."""

from __future__ import annotations

from typing import Any

RAN: list[str] = []


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return run_code, ()


def run_code() -> None:
    RAN.append("code")  # by the name of this function: a method of the list would be pickled with a copy of it
