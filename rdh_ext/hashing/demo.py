"""``rdh demo``: HashNet without and with RDH on real digits, evaluated, and written up in a folder."""

from __future__ import annotations

import platform
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import __version__, evaluate, hamming_topk
from .._extras import require
from .backbones import small_cnn
from .data import RetrievalData, load_digits
from .history import Schedule
from .methods import HashingMethod, HashNet
from .results import DemoResult, Evaluation, RunResult

if TYPE_CHECKING:
    from .codes import Codes

INPUT_SCALE = 16.0
LEARNING_RATE = 0.02
EPOCHS = 200
BITS = 32
TAU = 0.99
ETA = 1.0
"""The paper's value for CIFAR-10, which like the digits has ten classes and one label per image."""
NEIGHBOURS = 10
RADIUS = 2


@dataclass(frozen=True)
class DemoOptions:
    """What the command line can set."""

    out: Path = Path("rdh-demo")
    seed: int = 0
    epochs: int = EPOCHS
    bits: int = BITS
    device: str = "cpu"
    force: bool = False


def require_extras() -> None:
    """Raises :class:`MissingExtra` for the first optional package that is not there, before any work is done."""
    require("lightning")
    require("sklearn", package="scikit-learn")
    require("matplotlib")


def run(options: DemoOptions, *, progress: bool = True) -> str:
    """The whole demo: trains, evaluates, writes the report folder; returns the table and where the report is.

    Raises:
        MissingExtra: an optional package is not installed.
        FolderInUse: ``options.out`` holds something else; see :func:`rdh_ext.hashing.report.folder.claim`.
    """
    from .report import folder, markdown

    require_extras()
    folder.claim(options.out, force=options.force)
    result = measure(options, progress=progress)
    folder.write(options.out, result)
    return f"{markdown.terminal_table(result)}\n\nreport: {options.out / 'report.md'}"


def measure(options: DemoOptions, *, progress: bool = True) -> DemoResult:
    """Trains, encodes and evaluates both runs; writes nothing.

    One thread: the network is so small that a second one hardly helps, and two that wait for each other on a busy
    machine take many times as long. It also makes the result the same for any number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(options, progress)
    finally:
        torch.set_num_threads(threads)


def _measure(options: DemoOptions, progress: bool) -> DemoResult:
    data = load_digits(options.seed, input_scale=INPUT_SCALE)
    schedule = Schedule(epochs=options.epochs, lr=LEARNING_RATE)
    without, with_rdh = (
        train_and_evaluate(HashNet(options.bits, rdh=rdh, tau=TAU, eta=ETA), key, data, schedule, options, progress)
        for key, rdh in (("hashnet", False), ("hashnet_rdh", True))
    )
    return DemoResult(data, schedule, _settings(options), _versions(), (without, with_rdh))


def train_and_evaluate(
    method: HashingMethod,
    key: str,
    data: RetrievalData,
    schedule: Schedule,
    options: DemoOptions,
    progress: bool = False,
) -> RunResult:
    """One training of the demo's network with ``method``, its codes and their quality."""
    from .codes import encode
    from .engine import Settings, train

    trained = train(
        lambda: small_cnn(options.bits),
        method,
        data.train,
        schedule,
        seed=options.seed,
        settings=Settings(device=torch.device(options.device), progress=progress),
    )
    model = nn.Sequential(trained.backbone, method)
    query, gallery = (encode(model, part.images.split(1024), options.bits) for part in (data.query, data.gallery))
    distances, neighbours = hamming_topk(query.packed, gallery.packed, NEIGHBOURS)
    return RunResult(
        key=key,
        label=method.label,
        rdh=method.rdh,
        steps=trained.steps,
        epochs=trained.epochs,
        seconds=trained.seconds,
        query_codes=query.packed,
        gallery_codes=gallery.packed,
        exact_zeros=query.exact_zeros + gallery.exact_zeros,
        evaluation=_evaluate(query, gallery, data, options.bits),
        neighbours=neighbours,
        distances=distances,
    )


def _evaluate(query: Codes, gallery: Codes, data: RetrievalData, bits: int) -> Evaluation:
    arguments = (query.packed, gallery.packed, data.query.labels, data.gallery.labels)
    result = evaluate(*arguments, bits=bits)
    curve = result.pr_curve(by="radius")
    not_empty = curve.queries.tolist()
    return Evaluation(
        map=result.map,
        ap=result.ap.tolist(),
        map_at_100=evaluate(*arguments, topk=100, bits=bits).map,
        precision_radius_2=result.precision_within_radius(RADIUS),
        empty_radius_2=len(data.query) - int(not_empty[min(RADIUS, bits)]),
        precision=curve.precision.tolist(),
        recall=curve.recall.tolist(),
        queries=not_empty,
    )


def _settings(options: DemoOptions) -> dict[str, Any]:
    words = ["rdh", "demo", "--out", str(options.out), "--seed", str(options.seed), "--epochs", str(options.epochs)]
    words += ["--bits", str(options.bits), "--device", options.device]
    return {
        "command": shlex.join(words),
        "method": "hashnet",
        "seed": options.seed,
        "epochs": options.epochs,
        "bits": options.bits,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "tau": TAU,
        "eta": ETA,
        "lr": LEARNING_RATE,
        "input_scale": INPUT_SCALE,
    }


def _versions() -> dict[str, str]:
    found = {"rdh_ext": __version__, "Python": platform.python_version(), "torch": torch.__version__}
    for package in ("lightning", "scikit-learn", "matplotlib", "numpy"):
        found[package] = metadata.version(package)
    return found
