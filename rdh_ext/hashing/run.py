"""One training from its recipe to its numbers, in a folder: what ``rdh train`` does, and ``rdh reproduce`` many times.

=====================  ================================================================================
recipe.yaml            everything that decided the training
split.npz              which items are queries, training items, gallery; with checksums
metrics.csv            loss, dead and saturated bits, learning rate: a line for every step
tensorboard/           the same for TensorBoard
last.ckpt              where an interrupted training is taken up again
model.pt               the network of the chosen epoch: ``rdh_ext.load``
codes/query, gallery   code sets: ``rdh evaluate``, ``rdh search``; with .txt the files of their images, in order
results.json           mAP and curves of the queries, and all that led to them; written last
=====================  ================================================================================
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import __version__
from .._extras import require
from .._files import sha256, write_json, write_text
from ..retrieval import evaluate_sets, write_code_set
from . import recipe as recipes
from .backbones import make_backbone
from .codes import part_codes
from .data import ImageFiles, Part, Preprocessing, RetrievalData, Split, hold_out, open_data
from .logs import METRICS, TENSORBOARD, StepLog, read_epochs
from .methods import METHODS, HashingMethod
from .model import HashingModel, load
from .options import call, choose
from .ranks import barrier, from_first, rank_and_count
from .recipe import Recipe

if TYPE_CHECKING:
    from .engine import Chosen, HashingModule

RESULTS, MODEL, CHECKPOINT, RECIPE, SPLIT = "results.json", "model.pt", "last.ckpt", recipes.FILE, "split.npz"
RADIUS = 2
_MANY_WORKERS = 8


class RunError(Exception):
    """A run that cannot begin or go on; the message says why and what to do."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how; nothing here changes the result, up to rounding."""

    out: Path
    device: str = "cpu"
    resume: bool = False
    """Go on with an interrupted run; a finished one is left as it is."""
    force: bool = False
    """Begin anew where there is another run."""
    progress: bool = True
    tensorboard: bool = False
    workers: int | None = None
    """Processes that prepare batches; None: several for image files, none for what is in memory."""


@dataclass(frozen=True)
class Setting:
    """What a recipe stands for: data, network, method."""

    data: RetrievalData
    """Without what is held out."""
    validation: Part | None
    preprocessing: Preprocessing
    shape: tuple[int, ...]
    method: HashingMethod
    make_backbone: Callable[[], nn.Module]


def prepare(recipe: Recipe) -> Setting:
    """Opens the data and makes the method; trains nothing.

    Raises:
        ValueError: a name or an option that there is not, data that cannot be used; OSError, MissingExtra.
    """
    data = open_data(recipe.data["name"], recipe.seed, _options(recipe.data))
    data, validation = hold_out(data, recipe.validation.items, recipe.seed)
    usual = data.preprocessing.to_dict()
    if "size" in recipe.preprocessing:  # another size is not cut out of images that were resized for the usual one
        usual.pop("resize", None)
    preprocessing = Preprocessing.from_dict({**usual, **recipe.preprocessing})
    shape = preprocessing.shape_of(data.train.source.shape)
    if shape is None:
        raise ValueError("preprocessing: size must be given, as images in files may have any size; 224 is usual")
    kind = choose("method", recipe.method["name"], METHODS)
    method = call("method", recipe.method["name"], kind, method_options(recipe), recipe.bits)
    name, options = recipe.backbone["name"], _options(recipe.backbone)
    return Setting(
        data, validation, preprocessing, shape, method, lambda: make_backbone(name, recipe.bits, shape, options)
    )


def _options(section: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != "name"}


def method_options(recipe: Recipe) -> dict[str, Any]:
    """With ``rdh_eta`` as ``eta`` where the error-aware term is: the method's own term has its own weight."""
    options = _options(recipe.method)
    rdh_eta = options.pop("rdh_eta", None)
    error_aware = options.get("error_aware")
    if rdh_eta is not None and (options.get("rdh", False) if error_aware is None else error_aware):
        options.setdefault("eta", rdh_eta)
    return options


def run(recipe: Recipe, options: RunOptions) -> dict[str, Any]:
    """Trains, encodes queries and gallery, evaluates. In a process group every rank calls this.

    Returns:
        The content of ``results.json``.

    Raises:
        RunError: the folder holds another run, or an interrupted one and ``resume`` is not given.
        ValueError, OSError, MissingExtra: as :func:`prepare`.

    Deterministic on the CPU for one number of threads, interrupted or not.
    """
    require("lightning", extra="train")
    rank, ranks = rank_and_count()
    if recipe.training.batch_size < ranks:
        raise ValueError(
            f"training.batch_size {recipe.training.batch_size} is that of all {ranks} processes together; each "
            "must have an item of it"
        )
    finished = from_first(lambda: _look(recipe, options))
    if finished is not None:
        return finished
    setting = prepare(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = setting.make_backbone()
    setting = replace(setting, make_backbone=lambda: network)
    from_first(lambda: _claim(recipe, options))  # not before all that may be wrong in a recipe
    from_first(lambda: _keep_split(setting.data.split(), options))
    history, seconds = _train(recipe, setting, options, rank == 0)
    return _outcome(recipe, setting, options, history, seconds, rank == 0)


def _look(recipe: Recipe, options: RunOptions) -> dict[str, Any] | None:
    """May the folder be this run's? The results where it is finished."""
    out, where = options.out, options.out / RECIPE
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; name a folder")
    if where.is_file() and not options.force:
        other = recipes.read(where) != recipe
        if other or not options.resume:
            state = "another run" if other else "this run, finished" if (out / RESULTS).is_file() else "this run, begun"
            advice = "name another folder, or add --force to begin anew"
            raise RunError(f"{out} holds {state}; {advice if other else f'add --resume to go on with it, {advice}'}")
        if (out / RESULTS).is_file():
            content: dict[str, Any] = json.loads((out / RESULTS).read_bytes())
            return content
    elif out.is_dir() and not where.is_file() and any(out.iterdir()) and not options.force:
        raise RunError(f"{out} is not empty and holds no run; name another folder, or add --force to write into it")
    return None


def _claim(recipe: Recipe, options: RunOptions) -> None:
    """Makes the folder this run's."""
    out = options.out
    if options.force:
        _clear(out)
    for half in out.glob(f".{CHECKPOINT}.*.tmp"):  # of a process that was killed while it wrote
        half.unlink()
    write_text(out / RECIPE, recipes.to_yaml(recipe))


def _keep_split(split: Split, options: RunOptions) -> None:
    """Writes it; an interrupted training does not go on with other data."""
    where = options.out / SPLIT
    if options.resume and (options.out / CHECKPOINT).is_file():
        with contextlib.suppress(OSError, ValueError):  # what cannot be read is written again
            before = Split.load(where)
            if before.data != split.data or not all(
                torch.equal(getattr(before, role), getattr(split, role)) for role in ("query", "train", "gallery")
            ):
                raise RunError(
                    f"{options.out} was begun with other data, as {SPLIT} says; bring them back, or add --force to "
                    "begin anew"
                )
    split.save(where)


def _clear(out: Path) -> None:
    """Removes what an earlier run has left, so that nothing of it is taken for the new one's."""
    for name in (RESULTS, CHECKPOINT, MODEL, METRICS):
        (out / name).unlink(missing_ok=True)
    if (out / RECIPE).is_file():  # else folders of these names are somebody's own
        for folder in (out / TENSORBOARD, out / "codes" / "query", out / "codes" / "gallery"):
            if folder.is_dir():
                shutil.rmtree(folder)
        for role in ("query", "gallery"):
            (out / "codes" / f"{role}.txt").unlink(missing_ok=True)


def _train(recipe: Recipe, setting: Setting, options: RunOptions, first: bool) -> tuple[list[Chosen], float]:
    from .engine import Selection, Settings, train
    from .engine.checkpoints import steps_in

    checkpoint = options.out / CHECKPOINT
    done = steps_in(checkpoint) if options.resume else None
    if options.resume and done is None and checkpoint.exists():
        warnings.warn(f"{checkpoint} is damaged, or none of this program; the training begins anew", stacklevel=3)

    def keep(module: HashingModule, chosen: Chosen) -> None:
        if first:
            note = {"epoch": chosen.epoch, "validation_map": None if chosen.map != chosen.map else chosen.map}
            _model(recipe, setting, module.backbone, note).save(options.out / MODEL)

    selection = Selection(
        setting.validation,
        setting.data.train,
        setting.preprocessing,
        keep,
        every=recipe.validation.every,
        topk=_depth(recipe, setting.data),
        best=recipe.validation.select == "best",
        workers=_workers(options, setting),
    )
    settings = Settings(
        device=torch.device(options.device),
        precision=recipe.precision,
        workers=_workers(options, setting),
        progress=options.progress,
        checkpoint=checkpoint,
        resume=done is not None,
    )

    def fit(on_records: Callable[[list[Any]], None]) -> float:
        return train(
            setting.make_backbone,
            setting.method,
            setting.data.train,
            recipe.training,
            seed=recipe.seed,
            settings=settings,
            preprocessing=setting.preprocessing,
            selection=selection,
            on_records=on_records,
        ).seconds

    if not first:
        return selection.history, fit(lambda records: None)
    with StepLog(options.out, steps=done or 0, tensorboard=options.tensorboard) as log:
        selection.on_value = log.add_validation
        seconds = fit(log.add)
    return selection.history, seconds


def _model(recipe: Recipe, setting: Setting, backbone: nn.Module, chosen: dict[str, Any]) -> HashingModel:
    data = setting.data
    kinds: dict[str, Any] = {"shape": setting.shape, "classes": data.classes, "class_names": data.class_names}
    return HashingModel(backbone, recipe, setting.preprocessing, **kinds, chosen=chosen)


def _workers(options: RunOptions, setting: Setting) -> int:
    if options.workers is not None:
        return options.workers
    in_memory = setting.data.train.source.shape is not None and setting.preprocessing.size is None
    return 0 if in_memory else min(_MANY_WORKERS, torch.multiprocessing.cpu_count())


def _depth(recipe: Recipe, data: RetrievalData) -> int | None:
    return data.topk if recipe.topk is None else recipe.topk


def _outcome(
    recipe: Recipe, setting: Setting, options: RunOptions, history: list[Chosen], seconds: float, first: bool
) -> dict[str, Any]:
    """Codes of queries and gallery by the kept network, and what they are worth."""
    out, data = options.out, setting.data
    barrier()  # the network is on the disk
    model = load(out / MODEL, options.device)
    digest = sha256(out / MODEL) if first else ""
    zeros = 0
    for role in ("query", "gallery"):
        part: Part = getattr(data, role)
        codes = part_codes(model, part, setting.preprocessing, recipe.bits, workers=_workers(options, setting))
        zeros += codes.exact_zeros
        if first:
            made = {"by": "rdh train", "data": data.name, "part": role, "method": recipe.method, "seed": recipe.seed}
            made["model_sha256"] = digest
            write_code_set(out / "codes" / role, codes.packed, part.labels, bits=recipe.bits, overwrite=True, made=made)
            if isinstance(part.source, ImageFiles):  # what `rdh search --pictures` takes
                names = [os.path.abspath(part.source.name(index)) for index in part.indices.tolist()]
                write_text(out / "codes" / f"{role}.txt", "".join(f"{name}\n" for name in names))
    barrier()  # the codes are, too
    depth = _depth(recipe, data)
    result = evaluate_sets(out / "codes" / "query", out / "codes" / "gallery", depth)
    at_100 = evaluate_sets(out / "codes" / "query", out / "codes" / "gallery", 100)
    results = {
        "kind": "rdh train",
        "rdh_ext": __version__,
        "label": setting.method.label,
        "map": result.map,
        "topk": result.topk,
        "map_at_100": at_100.map,
        "precision_radius_2": result.precision_within_radius(RADIUS),
        "queries_without_relevant": result.queries_without_relevant,
        "exact_zeros": zeros,
        "epoch": model.chosen["epoch"],
        "seconds": seconds,
        "items": {"query": len(data.query), "train": len(data.train), "gallery": len(data.gallery)},
        "validation": [{"epoch": each.epoch, "map": each.map} for each in history if each.map == each.map],
        "data": {"name": data.name, "description": data.description, "fingerprint": data.fingerprint()},
        "versions": versions(),
        "recipe": recipe.to_dict(),
        "epochs": [record._asdict() for record in read_epochs(out)],
        "curves": [result.pr_curve(by=by).to_dict() for by in ("radius", "rank", "recall")],
        "ap": result.ap.tolist(),
    }

    def written() -> dict[str, Any]:
        write_json(out / RESULTS, results)
        return results

    return from_first(written)


def versions() -> dict[str, str]:
    """Of what decides about numbers."""
    found = {"rdh_ext": __version__, "Python": platform.python_version(), "torch": str(torch.__version__)}
    for package in ("lightning", "torchvision", "scikit-learn", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
