"""What the build knows of the CUDA toolkit, for the simulator and for the compile gates."""

from __future__ import annotations

import functools
import importlib.util
import logging
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class ToolMissing(Exception):
    """Something that is needed to compile or to look into a cubin is not here; the text says what and the way out."""


@functools.cache
def build_script() -> Any:
    """``setup.py`` as a module: flags and the search for a toolkit stand there once."""
    spec = importlib.util.spec_from_file_location("rdh_ext_setup", ROOT / "setup.py")
    if spec is None or spec.loader is None:
        raise ToolMissing(f"{ROOT / 'setup.py'} is not here")
    module = importlib.util.module_from_spec(spec)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:  # its way to say that torch or pybind11 is not installed
        raise ToolMissing(str(error)) from error
    return module
