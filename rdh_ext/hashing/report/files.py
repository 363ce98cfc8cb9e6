"""Files of a report: those of ``rdh_ext._files``, and figures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ..._files import write_bytes, write_json, write_npy, write_text

__all__ = ["write_bytes", "write_figure", "write_json", "write_npy", "write_text"]


def write_figure(path: Path, figure: Any) -> None:
    """Writes a matplotlib figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    write_bytes(path, buffer.getvalue())
