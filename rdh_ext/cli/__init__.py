"""The command line ``rdh``: one clear line for every error.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Errors are one line on standard error that
names the thing and the way out; ``--debug`` shows the traceback instead. Commands import what they need when they run.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .. import __version__
from . import bench, demo, encode, evaluate, export, info, report, reproduce, search, train
from .arguments import FAILURE, INTERRUPTED, CommandError, Parser, one_line

COMMANDS: dict[str, Callable[[Any, argparse.ArgumentParser], None]] = {
    "bench": bench.add,
    "demo": demo.add,
    "encode": encode.add,
    "evaluate": evaluate.add,
    "export": export.add,
    "info": info.add,
    "report": report.add,
    "reproduce": reproduce.add,
    "search": search.add,
    "train": train.add,
}


def _make_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser, and those of its commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    parser = Parser(
        prog="rdh",
        parents=[common],
        description="Deep hashing rescued from dead bits: operators for PyTorch, exact Hamming evaluation.",
        epilog="""\
start here:
  rdh demo               train and compare on real images, in about a minute
  rdh train --help       a hashing model by a recipe, on your data
  rdh reproduce --help   the tables and figures of the paper, measured
  rdh encode --help      codes that you have, in .npy, .pt or FAISS files, made ready for the others
  rdh evaluate --help    mAP of codes on disk, and what its numbers mean
  rdh bench --quick      how fast this machine is, next to what you would use otherwise, in a minute
  rdh report --help      tables and pictures of what 'rdh bench' measured
  rdh info               what is compiled in, and what is missing""",
    )
    parser.add_argument("--version", action="version", version=f"rdh_ext {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for add in COMMANDS.values():
        add(commands, common)
    return parser, commands.choices


def _check_command(parser: Parser, words: Sequence[str]) -> None:
    """An unknown command, said with the closest known one."""
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or name in COMMANDS:
        return
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "commands: " + ", ".join(COMMANDS)
    parser.error(f"unknown command {name!r}; {hint}")


def _refuse(parser: Parser, words: Sequence[str]) -> None:
    """Words that a command does not know, the first with the closest option that it has."""
    options = [option for action in parser._actions for option in action.option_strings]
    close = difflib.get_close_matches(words[0].partition("=")[0], options, n=1)
    parser.error(f"unrecognized arguments: {' '.join(words)}{f'; did you mean {close[0]}?' if close else ''}")


def _say(command: str, message: str) -> None:
    print(f"rdh {command}: error: {one_line(message)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status; usage errors and ``--help`` raise SystemExit."""
    words = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file may have a name that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    parser, commands = _make_parser()
    _check_command(parser, words)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse(commands.get(arguments.command, parser), unknown)
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
    from ..hashing import MissingExtra
    from ..hashing.model import ModelError
    from ..hashing.recipe import RecipeError
    from ..retrieval import CodeSetError, RankFailed

    if isinstance(error, (CommandError, MissingExtra, CodeSetError, ModelError, RankFailed, RecipeError)):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, OSError) and str(error):  # raised with a sentence of ours
        return str(error)
    return f"{type(error).__name__}: {error or 'no message'} (add --debug for the traceback)"
