"""Which trainings a table or figure needs. One that several of them need is the same run, by its key."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..methods import METHODS, HashingMethod
from ..options import call, choose
from ..recipe import Recipe, parse_yaml, read
from ..run import method_options
from . import paper

TARGETS = ("table1", "table2", "fig3", "fig4", "fig5", "fig6")
VARIANTS: dict[str, dict[str, bool]] = {
    "plain": {"rdh": False},
    "rdh": {"rdh": True},
    "rdh-no-ga": {"rdh": True, "amplifier": False},
    "rdh-no-eaql": {"rdh": True, "error_aware": False},
}
"""Options of the method."""
ABLATED = "hashnet"
"""The method of Table 2 and Fig. 6."""
TAUS = (0.5, 0.7, 0.9, 0.95, 0.99, 0.999)
ETAS = (0.01, 0.1, 1.0, 10.0)
"""The values on the axes of the paper's Fig. 6 are not in its text: these go a decade beyond those that it names."""

_OF_THE_GRID = {
    "bits": "--bits",
    "seed": "--seeds",
    "method.name": "--methods",
    "method.rdh": "the target",
    "method.amplifier": "the target",
    "method.error_aware": "the target",
}


class GridError(ValueError):
    """A grid that cannot be; the message names the option."""


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Example:
        >>> from rdh_ext.hashing.reproduce import Options
        >>> Options("table1", seeds=2, settings={"training.epochs": 5}).command()
        'rdh reproduce table1 --dataset digits --bits 24,32,48,64 --seeds 2 --set training.epochs=5 --out rdh-reproduce'
    """

    target: str
    """One of :data:`TARGETS`, or "all"."""
    dataset: str = "digits"
    """A recipe: its name, or a YAML file."""
    bits: tuple[int, ...] = paper.BITS
    seeds: int = paper.SEEDS
    """How many: 0, 1, 2, ..."""
    methods: tuple[str, ...] = paper.METHODS
    taus: tuple[float, ...] = TAUS
    etas: tuple[float, ...] = ETAS
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What replaces values of the recipe, named like ``training.lr``."""
    out: Path = Path("rdh-reproduce")
    devices: tuple[str, ...] = ("cpu",)
    jobs: int | None = None
    """Processes; None: one per core, or one per CUDA device."""
    workers: int | None = None
    """Of each training, that read images."""
    force: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """One target, or all."""
        return TARGETS if self.target == "all" else (self.target,)

    def command(self) -> str:
        """The command line that asks for the same numbers."""
        words = ["rdh", "reproduce", self.target]
        if self.target != "fig3":
            words += ["--dataset", self.dataset, "--bits", _commas(self.bits), "--seeds", str(self.seeds)]
            if self.methods != paper.METHODS:
                words += ["--methods", _commas(self.methods)]
            if self.taus != TAUS:
                words += ["--taus", _commas(self.taus)]
            if self.etas != ETAS:
                words += ["--etas", _commas(self.etas)]
            for name, value in self.settings.items():
                words += ["--set", f"{name}={_yaml(value)}"]
            if self.devices != ("cpu",):
                words += ["--device", _commas(self.devices)]
        return shlex.join([*words, "--out", str(self.out)])


@dataclass(frozen=True)
class Cell:
    """A training up to its seed."""

    method: str
    variant: str
    """One of :data:`VARIANTS`."""
    bits: int
    tau: float | None = None
    eta: float | None = None
    """None: as in the recipe."""


@dataclass(frozen=True)
class Run:
    """One training."""

    key: str
    """The name of its folder; two trainings have the same if and only if they are the same."""
    cell: Cell
    seed: int
    recipe: Recipe


class Grid:
    """The trainings that ``options`` ask for.

    Raises:
        RecipeError: there is no such recipe, or it says what cannot be.
        GridError: a method, or an option of one, that cannot be.

    Example:
        >>> from rdh_ext.hashing.reproduce import Grid, Options
        >>> grid = Grid(Options("table2", bits=(16,), seeds=1))
        >>> for run in grid.runs():
        ...     print(run.key)
        digits-hashnet-rdh-16bits-seed0
        digits-hashnet-rdh-no-ga-16bits-seed0
        digits-hashnet-rdh-no-eaql-16bits-seed0
        digits-hashnet-16bits-seed0
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.name = short_name(options.dataset)
        for name in options.settings:
            if name in _OF_THE_GRID:
                raise GridError(f"--set {name}: {_OF_THE_GRID[name]} says which runs there are")
        self.bits = tuple(sorted(set(options.bits)))
        self.longest = max(self.bits)
        """What Figs. 4, 5 and 6 are drawn at."""
        self._recipes: dict[str, Recipe] = {}
        for run in self.runs():  # every recipe once, so that what cannot be is said before the first training
            if run.seed == 0:
                self.method(run.cell)

    def cells(self, target: str) -> list[Cell]:
        """What a target needs, in the order of its table or figure."""
        methods, longest = self.options.methods, self.longest
        if target == "table1":
            return [Cell(m, v, b) for m in methods for v in ("plain", "rdh") for b in self.bits]
        if target == "table2":
            return [Cell(ABLATED, v, b) for v in paper.TABLE2 for b in self.bits]
        if target in ("fig4", "fig5"):
            return [Cell(m, v, longest) for m in methods for v in ("plain", "rdh")]
        if target == "fig6":
            swept = [cell for name in ("tau", "eta") for _, cell in self.sensitivity(name)]
            return list(dict.fromkeys([Cell(ABLATED, "plain", longest), *swept]))
        return []

    def runs(self, targets: Iterable[str] | None = None) -> list[Run]:
        """All seeds of all cells of these targets, each once; seed by seed, so that an interrupted grid is balanced."""
        wanted = self.options.targets if targets is None else targets
        cells = list(dict.fromkeys(cell for target in wanted for cell in self.cells(target)))
        return [self.run(cell, seed) for seed in range(self.options.seeds) for cell in cells]

    def sensitivity(self, name: str) -> list[tuple[float, Cell]]:
        """Values of ``tau`` or ``eta`` with their cells, ascending; the recipe's own value is among them."""
        own = self.own(name)
        values = {*(self.options.taus if name == "tau" else self.options.etas), own}
        base = Cell(ABLATED, "rdh", self.longest)

        def cell(value: float) -> Cell:
            return replace(base, tau=value) if name == "tau" else replace(base, eta=value)

        return [(value, base if value == own else cell(value)) for value in sorted(values)]

    def own(self, name: str) -> float:
        """``tau`` or ``eta`` of the recipe, for :data:`ABLATED` with RDH."""
        value: float = getattr(self.method(Cell(ABLATED, "rdh", self.longest)), name)
        return value

    def run(self, cell: Cell, seed: int) -> Run:
        """One training."""
        return Run(self.key(cell, seed), cell, seed, self._recipe(cell, seed))

    def key(self, cell: Cell, seed: int) -> str:
        """``digits-hashnet-rdh-no-ga-48bits-seed0``."""
        variant = "" if cell.variant == "plain" else f"-{cell.variant}"
        swept = "".join(f"-{name}{v:.12g}" for name, v in (("tau", cell.tau), ("eta", cell.eta)) if v is not None)
        return f"{self.name}-{cell.method}{variant}{swept}-{cell.bits}bits-seed{seed}"

    def method(self, cell: Cell) -> HashingMethod:
        """The method of a cell, for its label and options.

        Raises:
            GridError: an option that it does not take.
        """
        recipe = self._recipe(cell, 0)
        name = recipe.method["name"]
        try:
            return call("method", name, _chosen(name), method_options(recipe), cell.bits)
        except (TypeError, ValueError) as error:
            raise GridError(str(error)) from error

    @cached_property
    def dataset(self) -> str:
        """The data set's name."""
        name: str = self._base(next(iter(self.options.methods), ABLATED)).data["name"]
        return name

    def _base(self, method: str) -> Recipe:
        if method not in self._recipes:
            self._recipes[method] = read(self.options.dataset, method).override(self.options.settings)
        return self._recipes[method]

    def _recipe(self, cell: Cell, seed: int) -> Recipe:
        base = self._base(cell.method)
        swept = {name: v for name, v in (("tau", cell.tau), ("rdh_eta", cell.eta)) if v is not None}
        replaced = (
            {"rdh", "amplifier", "error_aware"} if cell.eta is None else {"rdh", "amplifier", "error_aware", "eta"}
        )
        method = {name: value for name, value in base.method.items() if name not in replaced}
        return replace(base, bits=cell.bits, seed=seed, method={**method, **VARIANTS[cell.variant], **swept})


def short_name(dataset: str) -> str:
    """Of a recipe, for names of folders: without the path and the ending of its file."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", Path(dataset).stem) or "recipe"


def _chosen(name: str) -> type[HashingMethod]:
    try:
        return choose("method", name, METHODS)
    except ValueError as error:
        raise GridError(f"--methods: {error}") from error


def _commas(values: Iterable[object]) -> str:
    return ",".join(f"{value:.12g}" if isinstance(value, float) else str(value) for value in values)


def _yaml(value: Any) -> str:
    """In a form that reads back as itself."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and parse_yaml(value) == value:
        return value
    return json.dumps(value)
