"""Prints what gpu_check.py has to know of this machine, as one line of JSON behind ``FACTS``; a program of its own.

A torch that hangs or crashes then ends this program and not the check. ``facts`` are for the summary; ``tools`` (paths
and flags) are not; ``problems`` say what is missing, in sentences, and ``usable`` what is there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("numpy", "setuptools", "pybind11", "pytest", "hypothesis", "mpmath")
USED = ("ninja", "pytest-xdist", "triton", "scikit-learn", "torchmetrics", "lightning")
OLDEST_TORCH = (2, 11)


def packages() -> dict[str, str | None]:
    """Versions of what the build and the tests import; None where it is not installed."""
    installed = {found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}
    return {name: installed.get(name) for name in (*NEEDED, *USED)}


def torch_and_devices(facts: dict[str, Any]) -> str:
    """Fills in ``facts``; returns the first reason why torch cannot be used here, or ""."""
    try:
        import torch
    except Exception as error:  # whatever a damaged installation raises
        return f"torch cannot be imported: {type(error).__name__}: {error}"
    facts["torch"] = torch.__version__
    facts["torch_cuda"] = torch.version.cuda
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_TORCH:
        return f"torch >= {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} is needed, found {torch.__version__}"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    facts["devices"] = count
    if count == 0:
        return ""
    properties = torch.cuda.get_device_properties(0)
    facts["device"] = properties.name
    facts["memory_mib"] = properties.total_memory >> 20
    facts["multiprocessors"] = properties.multi_processor_count
    facts["compute_capability"] = "{}.{}".format(*torch.cuda.get_device_capability(0))
    try:
        works = torch.ones(3, device="cuda").sum().item() == 3
    except RuntimeError as error:
        return f"torch sees {properties.name} and cannot use it: {str(error).splitlines()[0]}"
    return "" if works else f"torch computes nonsense on {properties.name}"


def toolkit(facts: dict[str, Any], tools: dict[str, Any]) -> str:
    """The nvcc that ``setup.py`` finds, and the flags it compiles kernels with; returns why there is none, or ""."""
    spec = importlib.util.spec_from_file_location("rdh_ext_setup", ROOT / "setup.py")
    if spec is None or spec.loader is None:
        return "setup.py is not here"
    setup = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(setup)
        found = setup.find_toolkit()
    except SystemExit as error:  # its way to say what is missing
        return str(error)
    if isinstance(found, str):
        return str(found)
    home, facts["nvcc"] = found
    tools["nvcc"] = str(home / "bin" / "nvcc")
    tools["nvcc_flags"] = setup.cuda_extension(home).extra_compile_args["nvcc"]
    return ""


def main() -> int:
    facts: dict[str, Any] = {
        "device": None,
        "devices": 0,
        "compute_capability": None,
        "torch": None,
        "torch_cuda": None,
        "nvcc": None,
        "python": sys.version.split()[0],
        "packages": packages(),
    }
    tools: dict[str, Any] = {}
    os.environ.pop("RDH_EXT_CUDA", None)
    complaint = torch_and_devices(facts)
    problems = [complaint] if complaint else []
    usable = [] if complaint else ["torch"]
    if facts["devices"]:
        usable.append("device")
    elif facts["torch"]:
        has = f"CUDA {facts['torch_cuda']}" if facts["torch_cuda"] else "no CUDA"
        problems.append(f"no CUDA device: torch {facts['torch']} ({has}) sees none")
    if facts["torch"]:
        complaint = toolkit(facts, tools)
        problems += [complaint] if complaint else []
        usable += [] if complaint else ["nvcc"]
    missing = [name for name in NEEDED if facts["packages"][name] is None]
    if missing:
        problems.append(f"not installed: {', '.join(missing)}")
    print("FACTS " + json.dumps({"facts": facts, "tools": tools, "problems": problems, "usable": usable}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
