"""``rdh info``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import build_info


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "info",
        parents=[common],
        help="say what is compiled in, what runs on this machine, and why anything is missing",
        description="Prints rdh_ext.build_info(): attach it to a bug report.",
        epilog="examples:\n  rdh info\n  rdh info --json > build.json",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    info = build_info()
    if arguments.json:
        print(json.dumps(info, indent=2, default=str))
    else:
        print("\n".join(_readable(info)))


def _readable(value: Any, indent: int = 0) -> list[str]:
    """``key: value`` lines, nested mappings indented."""
    lines = []
    for key, item in value.items():
        pad = "  " * indent
        if isinstance(item, dict) and item:
            lines += [f"{pad}{key}:", *_readable(item, indent + 1)]
        else:
            lines.append(f"{pad}{key}: {_plain(item)}")
    return lines


def _plain(item: Any) -> str:
    if item is None or (isinstance(item, (list, tuple, dict, str)) and not item):
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    return ", ".join(str(part) for part in item) if isinstance(item, (list, tuple)) else str(item)
