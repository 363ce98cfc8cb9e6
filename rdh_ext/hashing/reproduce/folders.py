"""The folder of a grid: ``runs/<key>/`` for each training, ``logs/``, and the tables and figures beside them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..._files import write_text
from ..recipe import Recipe, RecipeError, read
from .grid import Run, short_name

MARKER = ".rdh-reproduce"
"""Written before anything else: a folder that has it is one of ours."""


class FolderInUse(Exception):
    """A folder cannot be used; the message says why and what to do."""


def default(target: str, dataset: str) -> Path:
    """Where a grid goes if nothing is said: one folder for each data set."""
    return Path("rdh-reproduce") if target == "fig3" else Path(f"rdh-reproduce-{short_name(dataset)}")


def claim(out: Path, *, force: bool = False) -> None:
    """Makes ``out`` and marks it. Nothing in it is deleted.

    Raises:
        FolderInUse: a file, or a folder with other things in it and ``force`` is not given.
        OSError: it cannot be made or written.
    """
    if out.exists() and not out.is_dir():
        raise FolderInUse(f"--out {out} is a file; name a folder")
    if (out / MARKER).is_file():
        return
    if out.is_dir() and any(out.iterdir()) and not force:
        raise FolderInUse(
            f"--out {out} is not empty and was not made by 'rdh reproduce'; "
            "name another folder, or add --force to write into it"
        )
    write_text(out / MARKER, "Made by 'rdh reproduce', which goes on with the trainings in runs/.\n")


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """Only one grid works in a folder; the system lets go of it however its process ends.

    Raises:
        FolderInUse: another one does.
    """
    import fcntl

    with open(out / MARKER, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"--out {out}: another 'rdh reproduce' is at work in it; wait, or name another") from None
        yield


def folder_of(out: Path, key: str) -> Path:
    """Of one training."""
    return out / "runs" / key


def log_of(out: Path, key: str) -> Path:
    """What one training has written to the terminal; it stays if the training failed."""
    return out / "logs" / f"{key}.log"


def read_results(out: Path, key: str) -> dict[str, Any] | None:
    """``results.json`` of a training; None if it is not done, or is not what it should be."""
    try:
        content = json.loads((folder_of(out, key) / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("kind") == "rdh train" else None


def obstacle(out: Path, run: Run) -> str | None:
    """Why the training cannot go on in its folder: it was made by another recipe. None if nothing is in the way."""
    folder = folder_of(out, run.key)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not folder.is_dir():
        return "it is a file"
    results = read_results(out, run.key)
    if results is None and (folder / "results.json").exists():
        return "its results.json is damaged"
    try:
        if results is not None:
            found = Recipe.from_dict(results.get("recipe", {}))
        elif (folder / "recipe.yaml").exists():
            found = read(folder / "recipe.yaml")
        else:  # ended before its first file was there
            return None
    except (RecipeError, OSError, TypeError, ValueError) as error:
        return f"its recipe cannot be read ({error})"
    return difference(found.to_dict(), run.recipe.to_dict())


def difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    """The first value in which two recipes differ, in words."""
    a, b = (json.loads(json.dumps(_flat(values))) for values in (there, here))
    for name in [*b, *(name for name in a if name not in b)]:
        if a.get(name, _NONE) != b.get(name, _NONE):
            return f"its {name} is {a.get(name, _NONE)}, and not {b.get(name, _NONE)}"
    return None


_NONE = "(not set)"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat
