"""What all commands have: a parser whose errors are one line, types of arguments, and foreseen failures."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


class CommandError(Exception):
    """A foreseen failure: its message is the whole story."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help with the longest command beside its description: argparse reckons with less indentation than it has."""

    def add_argument(self, action: argparse.Action) -> None:
        """Adds what is said about it."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line and say where the help is; long options are not abbreviated."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", Help)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Ends the process."""
        self.exit(USAGE, f"{self.prog}: error: {one_line(message)}; see '{self.prog} --help'\n")


def one_line(text: str) -> str:
    """The same on one line."""
    return " ".join(text.split())


def whole_number(low: int, high: int) -> Callable[[str], int]:
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


def number(low: float, high: float = float("inf")) -> Callable[[str], float]:
    """An argparse type: a finite number in ``[low, high]``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (low <= value <= high and value < float("inf")):
            most = "" if high == float("inf") else f" to {high:g}"
            raise argparse.ArgumentTypeError(f"must be a number from {low:g}{most or ' on'}, got {text!r}")
        return value

    return parse


def setting(text: str) -> tuple[str, str]:
    """An argparse type: a value of a recipe by its name, as training.lr=0.1."""
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise argparse.ArgumentTypeError(f"must be like training.lr=0.1, got {text!r}")
    return key.strip(), value.strip()


def device_name(text: str) -> str:
    """An argparse type."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or cuda:N, got {text!r}")
    return text


def folder_name(text: str) -> Path:
    """An argparse type."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a folder, got ''")
    return Path(text)


def file_name(text: str) -> Path:
    """An argparse type."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file or folder, got ''")
    return Path(text)


def byte_count(text: str) -> int:
    """An argparse type: a number of bytes with a unit, as 512MiB, 2GiB or 1.5GB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a size like 512MiB or 2GiB, got {text!r}")
    number, unit, binary = match.groups()
    value = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least a byte, got {text!r}")
    return value


@contextlib.contextmanager
def warnings_in_a_line(command: str, *, shown: bool = True) -> Iterator[None]:
    """Shows each warning as one line on standard error, or none of them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if shown:
            print(f"rdh {command}: warning: {one_line(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def check_device(name: str) -> None:
    """The device that ``--device`` names is here.

    Raises:
        CommandError: it is not.
    """
    import torch

    if name == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise CommandError(f"--device {name}: PyTorch {torch.__version__} sees no CUDA device; use --device cpu")
    if ":" in name and int(name.split(":")[1]) >= count:
        raise CommandError(f"--device {name}: there are {count} CUDA devices, numbered from 0; use --device cuda")
