"""A word where queries and gallery have codes of two models, between which distances mean little."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..retrieval import CodeSet


def say_if_two_models(command: str, query: CodeSet, gallery: CodeSet) -> None:
    """Warns on standard error, where both sets say which model made them, and it is not one."""
    models = [each.manifest.made.get("model_sha256") for each in (query, gallery)]
    if None in models or models[0] == models[1]:
        return
    names = " and ".join(f"{each.path}{_model(each.manifest.made)}" for each in (query, gallery))
    print(
        f"rdh {command}: warning: {names} have codes of two models, between which distances mean little; "
        "encode both by one",
        file=sys.stderr,
    )


def _model(made: dict[str, Any]) -> str:
    name = made.get("model")
    return f" (of {Path(name).name})" if isinstance(name, str) else ""
