"""Options of data sets, as their errors name them and as a command line gives them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .arguments import CommandError


@contextmanager
def data_errors(data: Mapping[str, Any]) -> Iterator[None]:
    """Errors of data and recipes as one line, with the options of the loader that they name as they are given here.

    Args:
        data: section of a recipe, whose ``name`` says which loader it is.

    Raises:
        CommandError: in place of a ValueError, or of an OSError with a sentence of ours.
    """
    try:
        yield
    except ValueError as error:  # a name or an option in the recipe, or data that cannot be used
        raise CommandError(with_options(str(error), data)) from error
    except OSError as error:
        if error.strerror or not str(error):  # what the system says has the name of a file
            raise
        raise CommandError(with_options(str(error), data)) from error


def with_options(message: str, data: Mapping[str, Any]) -> str:
    """The message, and how to give the options that it names.

    Example:
        >>> from rdh_ext.cli.data_options import with_options
        >>> with_options("no such folder; name it: root=...", {"name": "folders"})
        'no such folder; name it: root=... (here --root FOLDER)'
    """
    from ..hashing.data import DATASETS
    from ..hashing.options import options_of

    loader = DATASETS.get(data["name"])
    known = {} if loader is None else options_of(loader)
    named = dict.fromkeys(name for name in re.findall(r"\b([a-z_]+)=", message) if name in known)
    ways = ["--root FOLDER" if name == "root" else f"--set data.{name}=..." for name in named]
    return f"{message} (here {', '.join(ways)})" if ways else message
