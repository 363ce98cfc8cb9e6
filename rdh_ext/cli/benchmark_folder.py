"""The programs of the folder ``benchmarks``: beside the package in a source tree, inside it where it is installed.

They are started as processes of their own: they import one another by their names, and what they measure must not find
in memory what the command line has left there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .arguments import INTERRUPTED, CommandError, one_line

_PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (_PACKAGE.parent / "benchmarks", _PACKAGE / "_bench" / "benchmarks")


def folder() -> Path:
    """Where the programs are."""
    for place in PLACES:
        if (place / "run.py").is_file():
            return place
    raise CommandError(f"the benchmarks are neither in {PLACES[0]} nor in {PLACES[1]}; reinstall rdh_ext")


def run_program(name: str, arguments: dict[str, Any]) -> None:
    """Runs ``python <folder>/<name> '<JSON of arguments>'`` with this very package, its output going where ours goes.

    Raises:
        CommandError: it failed; the message is its last line on standard error.
        KeyboardInterrupt: it was interrupted.
    """
    paths = os.pathsep.join(filter(None, (str(_PACKAGE.parent), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, str(folder() / name), json.dumps(arguments)]
    last = ""
    sys.stdout.flush()
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:  # said when the next one comes: the last one may be the error
                if last:
                    print(last, file=sys.stderr, flush=True)
                last = line.rstrip("\n")
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
    if code == 0 and last:
        print(last, file=sys.stderr, flush=True)
    if code in (INTERRUPTED, -2):
        raise KeyboardInterrupt
    if code:
        raise CommandError(one_line(last) or f"{name} ended with {code} and said nothing")
