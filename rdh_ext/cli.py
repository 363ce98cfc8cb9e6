"""The command line ``rdh``: parsing, and one clear line for every error.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Errors are one line on standard error that
names the thing and the way out; ``--debug`` shows the traceback instead. Commands import what they need when they run.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__, build_info

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


class CommandError(Exception):
    """A foreseen failure: its message is the whole story."""


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line and say where the help is; long options are not abbreviated."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: error: {_one_line(message)}; see '{self.prog} --help'\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number in ``[low, high]``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
        return value

    return parse


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or cuda:N, got {text!r}")
    return text


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a folder, got ''")
    return Path(text)


def _add_demo(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="train HashNet without and with RDH on real digits, and write a report",
        description="""\
Trains HashNet twice on scikit-learn's 1,797 handwritten digits, without and with RDH, from the same weights on the same
batches; encodes and evaluates both; writes a folder with report.md, figures, packed codes and all numbers as JSON;
prints a table. Offline, about a minute on two cores. Needs: pip install 'rdh_ext[demo]'""",
        epilog="""\
examples:
  rdh demo                             the report goes to ./rdh-demo/report.md
  rdh demo --seed 1 --out seed-1       other initial weights, another split
  rdh demo --epochs 20 --bits 16       shorter training, shorter codes
  rdh demo --device cuda               on a GPU""",
    )
    parser.add_argument(
        "--out", type=_folder, default=Path("rdh-demo"), metavar="FOLDER", help="report folder (rdh-demo)"
    )
    parser.add_argument("--seed", type=_whole_number(0, 2**32 - 1), default=0, help="of split, weights and batches (0)")
    parser.add_argument("--epochs", type=_whole_number(1, 100_000), default=None, help="of each training (200)")
    parser.add_argument("--bits", type=_whole_number(1, 1024), default=32, help="code length (32)")
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--force", action="store_true", help="write into FOLDER even if it holds other files")
    parser.set_defaults(run=_run_demo)


def _add_info(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "info",
        parents=[common],
        help="say what is compiled in, what runs on this machine, and why anything is missing",
        description="Prints rdh_ext.build_info(): attach it to a bug report.",
        epilog="examples:\n  rdh info\n  rdh info --json > build.json",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run_info)


COMMANDS: dict[str, Callable[[Any, argparse.ArgumentParser], None]] = {"demo": _add_demo, "info": _add_info}


def _make_parser() -> _Parser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    parser = _Parser(
        prog="rdh",
        parents=[common],
        description="Deep hashing rescued from dead bits: operators for PyTorch, exact Hamming evaluation.",
        epilog="""\
start here:
  rdh demo               train and compare on real images, in about a minute
  rdh demo --help        what every option means
  rdh info               what is compiled in, and what is missing""",
    )
    parser.add_argument("--version", action="version", version=f"rdh_ext {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for add in COMMANDS.values():
        add(commands, common)
    return parser


def _run_demo(arguments: argparse.Namespace) -> None:
    import torch

    _check_device(torch, arguments.device)
    from .hashing import demo
    from .hashing.report import folder

    demo.require_extras()
    options = demo.DemoOptions(
        out=arguments.out,
        seed=arguments.seed,
        epochs=demo.EPOCHS if arguments.epochs is None else arguments.epochs,
        bits=arguments.bits,
        device=arguments.device,
        force=arguments.force,
    )
    try:
        print(demo.run(options))
    except folder.FolderInUse as error:
        raise CommandError(str(error)) from error


def _check_device(torch: Any, device: str) -> None:
    if device == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise CommandError(f"--device {device}: PyTorch {torch.__version__} sees no CUDA device; use --device cpu")
    if ":" in device and int(device.split(":")[1]) >= count:
        raise CommandError(f"--device {device}: there are {count} CUDA devices, numbered from 0; use --device cuda")


def _run_info(arguments: argparse.Namespace) -> None:
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


def _check_command(parser: _Parser, words: Sequence[str]) -> None:
    """An unknown command, said with the closest known one."""
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or name in COMMANDS:
        return
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "commands: " + ", ".join(COMMANDS)
    parser.error(f"unknown command {name!r}; {hint}")


def _say(command: str, message: str) -> None:
    print(f"rdh {command}: error: {_one_line(message)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status; usage errors and ``--help`` raise SystemExit."""
    words = sys.argv[1:] if argv is None else list(argv)
    parser = _make_parser()
    _check_command(parser, words)
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output went away, as `rdh info | head -1` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except KeyboardInterrupt:
        _say(arguments.command, "interrupted")
        return INTERRUPTED
    except Exception as error:
        if getattr(arguments, "debug", False):
            raise
        _say(arguments.command, _explain(error))
        return FAILURE
    return 0


def _explain(error: Exception) -> str:
    """Foreseen errors and those of files speak for themselves; others are named, with the way to the traceback."""
    from .hashing import MissingExtra

    if isinstance(error, (CommandError, MissingExtra)):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error or 'no message'} (add --debug for the traceback)"
