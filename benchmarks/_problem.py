"""What the registry is made of: an op at one size, everybody who computes it, and what the device needs at least."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

Step = Callable[[], object]
Value = int | str

DEFAULT = "default"
OURS = "rdh_ext"


class Wrong(Exception):
    """A result that is not what it has to be, in one sentence."""


class NotHere(Exception):
    """Why somebody does not take part, in one sentence; ``status`` is the one of the row."""

    def __init__(self, reason: str, status: str = "missing") -> None:
        super().__init__(reason)
        self.status = status


def not_installed(error: ImportError | str) -> NotHere:
    """Of a library, by its error or its name."""
    name = error if isinstance(error, str) else (error.name or str(error)).partition(".")[0]
    return NotHere(f"{name} is not installed; pip install 'rdh_ext[bench]' brings it")


@dataclass(frozen=True)
class Cost:
    """What has to be moved and computed at least; costs.py has the formulas."""

    bytes: int
    flops: int = 0
    pairs: int = 0


@dataclass(frozen=True)
class Case:
    """An op at one size; ``sizes`` are what its builder takes."""

    op: str
    sizes: Mapping[str, Value]
    sweep: str = DEFAULT
    threads: int = 1
    device: str = "cpu"
    quick: bool = False

    @property
    def x(self) -> str:
        """The value of what the sweep changes."""
        if self.sweep == DEFAULT:
            return ""
        return str(self.threads if self.sweep == "threads" else self.sizes[self.sweep])

    @property
    def label(self) -> str:
        """For progress and errors."""
        return self.op if self.sweep == DEFAULT else f"{self.op}, {self.sweep} {self.x}"


@dataclass(frozen=True)
class Provider:
    """Somebody who computes an op.

    ``check`` gets what ``step`` has returned, and returns its relative error, or raises :class:`Wrong`; without it
    there is nothing to compare. ``parts``: the step does a part of the work, and its time counts that often.
    ``patient``: it is waited for, however long it takes, and has more time for its rounds.
    """

    step: Step
    check: Callable[[object], float] | None = None
    library: str = "torch"
    parts: float = 1.0
    kind: str = "peer"
    patient: bool = False

    @property
    def version(self) -> str:
        """Of its library, with the name."""
        return version_of(self.library)


@dataclass(frozen=True)
class Ceiling:
    """What the device needs at least: a name, and seconds, asked anew in every round."""

    name: str
    probe: Callable[[], float]


@dataclass
class Problem:
    """A case, ready to be measured; ``providers`` begins with rdh_ext."""

    title: str
    cost: Cost
    providers: dict[str, Provider]
    ceiling: Ceiling | None = None
    absent: dict[str, NotHere] = field(default_factory=dict)

    def add(self, name: str, make: Callable[[], Provider], *, unless: bool = False) -> None:
        """A provider, or why it is not here; ``unless``: it takes long to begin, and this is a quick run."""
        try:
            if unless:
                raise NotHere("takes seconds to begin; without --quick it takes part", "left out")
            self.providers[name] = make()
        except NotHere as reason:
            self.absent[name] = reason
        except ImportError as error:
            self.absent[name] = not_installed(error)

    def set_ceiling(self, make: Callable[[], Ceiling]) -> None:
        """What limits everybody, or why that is not known."""
        try:
            self.ceiling = make()
        except NotHere as reason:
            self.absent["ceiling"] = reason


@dataclass(frozen=True)
class Op:
    """What is measured of an op.

    ``sweeps`` has, by the name of a size, the values that it takes; ``base`` the sizes that differ from the default in
    that sweep; ``named`` what a value stands for, where it is the name of several sizes. ``tests`` have to pass first:
    paths below the root. ``quick`` has the sizes that differ in a quick run; None: it is not in it.
    """

    name: str
    title: str
    mode: str
    build: Callable[[Case], Problem]
    default: Mapping[str, Value]
    sweeps: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    base: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    named: Mapping[str, Mapping[str, Mapping[str, Value]]] = field(default_factory=dict)
    quick: Mapping[str, Value] | None = None
    tests: tuple[str, ...] = ()
    device_sizes: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def default_case(self, device: str = "cpu", *, quick: bool = False) -> Case:
        sizes = {**self.default, **self.device_sizes.get(device, {}), **((self.quick or {}) if quick else {})}
        return Case(self.name, sizes, device=device, quick=quick)

    def sweep_cases(self, sweep: str, device: str = "cpu", threads: tuple[int, ...] = (1,)) -> list[Case]:
        """The cases of a sweep, smallest first; ``threads`` has a sweep where there are several cores."""
        default = self.default_case(device)
        sized = replace(default, sweep=sweep, sizes={**default.sizes, **self.base.get(sweep, {})})
        if sweep == "threads":
            return [replace(sized, threads=count) for count in threads]
        meaning = self.named.get(sweep, {})
        values = self.sweeps[sweep]
        return [replace(sized, sizes={**sized.sizes, **meaning.get(str(value), {}), sweep: value}) for value in values]


DISTRIBUTIONS = {"faiss": ("faiss-cpu", "faiss-gpu", "faiss"), "KeOps": ("pykeops",)}  # where they differ from the name


@functools.cache
def version_of(library: str) -> str:
    """``name version`` of what is installed; "" where that is not known."""
    installed = {found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}
    names = DISTRIBUTIONS.get(library, (library,))
    version = next((installed[name] for name in names if name in installed), "")
    return f"{library} {version}" if version else ""
