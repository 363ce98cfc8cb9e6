"""Weights of torchvision's models: downloaded, or of a file, which may come from anywhere and is not trusted."""

from __future__ import annotations

import http.client
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._extras import require

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Classifiers of GoogLeNet and Inception that take part in their training on ImageNet alone."""


@dataclass(frozen=True)
class Weights:
    """A state_dict, and what error messages call it."""

    state: Mapping[str, Any]
    origin: str


def weights_from(name: str, weights: str | Path | None) -> Weights | None:
    """The weights that an option says: None for "none", a download for a name that torchvision has, else a file.

    Raises:
        ValueError: there is no such name and no such file, or the file has no state_dict that can be read safely.
        OSError: a download that fails.
    """
    if weights is None or weights == "none":
        return None
    known = require("torchvision.models", extra="train").get_model_weights(name).__members__
    if weights in known:
        url = known[str(weights)].url
        return Weights(_state_dict(_download(name, url), url), url)
    path = Path(str(weights)).expanduser()
    if not path.is_file():
        names = ", ".join(["DEFAULT", *(each for each in known if each != "DEFAULT"), "none"])
        raise ValueError(f"backbone {name}: weights must be {names} or a file, got {str(weights)!r}, which is none")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of bytes that are no pickle anything may come
        raise ValueError(f"{path}: not a file of weights that is safe to read ({one_line(error)})") from error
    return Weights(_state_dict(loaded, str(path)), str(path))


def load_weights(name: str, model: nn.Module, head: str, weights: Weights) -> None:
    """Loads all but the layer ``head`` into a model of torchvision.

    Raises:
        ValueError: something else is missing, too much, of another shape, or not finite; the message names it.
    """
    own: Any = model.state_dict()  # with an attribute that no type of it has
    state: Any = OrderedDict((_current(key, own), value) for key, value in weights.state.items())
    for key in [key for key in state if key.startswith((f"{head}.", *AUXILIARY))]:
        del state[key]
    # the versions that old files are told by; some models want one
    state._metadata = getattr(weights.state, "_metadata", own._metadata)
    try:
        result = model.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[2] or str(error)
        raise ValueError(f"{weights.origin}: not weights of this {name}: {one_line(reason.splitlines()[0])}") from error
    missing = [key for key in result.missing_keys if not key.startswith(f"{head}.") and not _is_count_of_batches(key)]
    wrong = [
        f"{what} {_first(keys)}" for what, keys in (("without", missing), ("with", result.unexpected_keys)) if keys
    ]
    if wrong:
        raise ValueError(f"{weights.origin}: not weights of {name}: a state_dict {' and '.join(wrong)}")
    infinite = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if infinite:
        raise ValueError(f"{weights.origin}: holds infinite values or NaN in {_first(infinite)}")


def one_line(error: object) -> str:
    """What an error of PyTorch says, short enough for the end of a message of one line."""
    if isinstance(error, pickle.UnpicklingError) and error.__context__ is not None:
        error = error.__context__  # what is wrong, without how to trust a file nevertheless
    text = " ".join(str(error).split()).partition(" Please use")[0] or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def _download(name: str, url: str) -> Any:
    """What is at ``url``, or was on an earlier day."""
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, http.client.HTTPException) as error:
        file = url.rpartition("/")[2]
        cache = Path(torch.hub.get_dir()) / "checkpoints" / file
        raise OSError(
            f"backbone {name}: its weights could not be fetched from {url} ({one_line(error)}); download them where "
            f"there is a network, and put them to {cache} or name them as weights=FOLDER/{file}; weights=none trains "
            "without them"
        ) from error


def _state_dict(loaded: Any, origin: str) -> Mapping[str, Any]:
    """The dictionary of tensors in what was loaded."""
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"{origin}: must hold a state_dict, names with their tensors, got {type(loaded).__name__}")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{origin}: must hold a state_dict, names with their tensors, got {key!r}: {type(value).__name__}"
            )
    if not all(key.startswith("module.") for key in loaded):
        return loaded
    bare: Any = OrderedDict((key.removeprefix("module."), value) for key, value in loaded.items())
    if hasattr(loaded, "_metadata"):
        versions = ((key.removeprefix("module").removeprefix("."), value) for key, value in loaded._metadata.items())
        bare._metadata = OrderedDict(versions)
    plain: Mapping[str, Any] = bare
    return plain


def _current(key: str, own: Mapping[str, Tensor]) -> str:
    """The name of a tensor in the model: DenseNet's published files say ``norm.1`` for what is called ``norm1`` now."""
    new = re.sub(r"\b(norm|conv)\.([12])\.", r"\1\2.", key)
    return new if key not in own and new in own else key


def _is_count_of_batches(key: str) -> bool:
    """A buffer of batch norm that old files lack, and that it does not use at its usual settings."""
    return key.endswith(".num_batches_tracked")


def _first(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
