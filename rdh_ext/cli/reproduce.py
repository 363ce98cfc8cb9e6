"""``rdh reproduce``."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .arguments import CommandError, check_device, device_name, folder_name, number, setting, whole_number

if TYPE_CHECKING:
    from ..hashing.reproduce import Options, Plan
    from ..hashing.reproduce.pool import Ended

_T = TypeVar("_T")
TARGETS = ("table1", "table2", "fig3", "fig4", "fig5", "fig6", "all")
NAMED_FAILURES = 3
"""In the error at the end."""


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "reproduce",
        parents=[common],
        help="the paper's tables and figures, measured: whole grids of trainings, in parallel, resumable",
        description="""\
Runs all trainings that a table or figure of the paper needs, each as 'rdh train' would, several at a time, and writes
what was measured: Markdown tables with mean and standard deviation over the seeds beside the paper's values, the
difference that RDH makes with its confidence interval, the figures, and every number as CSV and JSON. A training that
is done is never done again: the same command goes on after an interrupt, and a larger one, or one for another target,
takes what is there. Needs: pip install 'rdh_ext[train]'""",
        epilog="""\
targets:
  table1   mAP of every method without and with RDH, for every length          methods x 2 x lengths x seeds
  table2   HashNet with both parts of RDH, each one alone, and none             4 x lengths x seeds
  fig3     the gradient of the loss                                             no training
  fig4     precision-recall curves without and with RDH, longest length         within table1
  fig5     dead bits during training without and with RDH, longest length       within table1
  fig6     mAP of HashNet + RDH for values of tau and eta, longest length       about 10 x seeds
  all      all of them; trainings that several need are done once

examples:
  rdh reproduce table1 --dataset digits --methods hashnet --bits 16,32 --seeds 2       minutes on two cores
  rdh reproduce all --dataset digits --dry-run                                         what would be done
  rdh reproduce all --dataset digits --out digits                                      the same, done
  rdh reproduce table1 --dataset cifar10 --device cuda:0,cuda:1 --out cifar10          one training on each GPU
  rdh reproduce fig5 --dataset digits --set training.lr=0.1 --set training.epochs=50 --out large-steps
  rdh reproduce table1 --dataset mine.yaml --seeds 3                                   your data, by your recipe

the folder:
  <target>.md .csv .json .png    what was measured, and the command
  runs/<training>/               each as 'rdh train' leaves it: model, codes, metrics, results.json
  logs/<training>.log            what a training that failed has printed

good to know:
  Each training has one thread and depends on its recipe alone: the numbers are the same for any --jobs on a machine.
  A training that fails is named at the end and the exit status is 1; the tables say how many seeds they are of, and the
  same command tries again. A folder with trainings by another recipe is refused; --force trains those anew.""",
    )
    parser.add_argument("target", choices=TARGETS, metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--dataset", default="digits", metavar="NAME", help="a recipe's name, or .yaml file (digits)")
    parser.add_argument(
        "--bits",
        type=_listed(whole_number(1, 4096)),
        default=(24, 32, 48, 64),
        metavar="K,K,...",
        help="code lengths (24,32,48,64)",
    )
    parser.add_argument("--seeds", type=whole_number(1, 1000), default=5, metavar="N", help="0 to N - 1 (5)")
    parser.add_argument(
        "--methods",
        type=_listed(_word),
        metavar="M,M,...",
        help="of table1, fig4 and fig5 (dpsh,dhn,hashnet,dagh,dsdh)",
    )
    parser.add_argument("--taus", type=_listed(number(0.0, 1.0)), metavar="T,T,...", help="of fig6 (0.5 to 0.999)")
    parser.add_argument("--etas", type=_listed(number(0.0)), metavar="E,E,...", help="of fig6 (0.01 to 10)")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="KEY=VALUE", help="replaces a value of the recipe"
    )
    parser.add_argument("--out", type=folder_name, metavar="FOLDER", help="(rdh-reproduce-NAME)")
    parser.add_argument(
        "--jobs", type=whole_number(1, 1024), metavar="N", help="trainings at a time (one per core, or per GPU)"
    )
    parser.add_argument(
        "--device",
        "--devices",
        type=_listed(device_name),
        default=("cpu",),
        metavar="D,D,...",
        help="cpu, cuda (all there are), or cuda:N,cuda:M (cpu)",
    )
    parser.add_argument(
        "--workers", type=whole_number(0, 1024), metavar="N", help="processes of each training that read images"
    )
    parser.add_argument("--force", action="store_true", help="use FOLDER though it holds other files or recipes")
    parser.add_argument("--dry-run", action="store_true", help="list the trainings and how long they take; do nothing")
    parser.set_defaults(run=_run)


def _listed(parse: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """An argparse type: values with commas between them, none twice."""

    def parse_all(text: str) -> tuple[_T, ...]:
        values = tuple(parse(part.strip()) for part in text.split(","))
        if len(set(values)) != len(values):
            raise argparse.ArgumentTypeError(f"must not name anything twice, got {text!r}")
        return values

    return parse_all


def _word(text: str) -> str:
    """An argparse type."""
    if not re.fullmatch(r"[\w-]+", text):
        raise argparse.ArgumentTypeError(f"must be names with commas between them, got {text!r}")
    return text


def _options(arguments: argparse.Namespace) -> Options:
    from ..hashing.recipe import parse_yaml
    from ..hashing.reproduce import Options, folders

    defaults = Options(arguments.target)
    return Options(
        target=arguments.target,
        dataset=arguments.dataset,
        bits=tuple(sorted(arguments.bits)),
        seeds=arguments.seeds,
        methods=arguments.methods or defaults.methods,
        taus=arguments.taus or defaults.taus,
        etas=arguments.etas or defaults.etas,
        settings={name: parse_yaml(value) for name, value in arguments.set},
        out=arguments.out or folders.default(arguments.target, arguments.dataset),
        devices=arguments.device,
        jobs=arguments.jobs,
        workers=arguments.workers,
        force=arguments.force,
    )


def _check_usage(arguments: argparse.Namespace) -> None:
    """Options that say nothing about the target."""
    from ..hashing.reproduce.grid import ABLATED

    a = arguments
    if a.target in ("table2", "fig6") and a.methods not in (None, (ABLATED,)):
        raise CommandError(f"--methods {','.join(a.methods)}: {a.target} is of {ABLATED} alone; leave it out")
    for name, given in (("--taus", a.taus), ("--etas", a.etas)):
        if given is not None and a.target not in ("fig6", "all"):
            raise CommandError(f"{name} is of fig6, and not of {a.target}; leave it out")


def _run(arguments: argparse.Namespace) -> None:
    _check_usage(arguments)
    if "cpu" in arguments.device and len(arguments.device) > 1:
        raise CommandError(f"--device {','.join(arguments.device)}: either the CPU or GPUs; name one kind")
    if "cuda" in arguments.device and len(arguments.device) > 1:
        raise CommandError(
            f"--device {','.join(arguments.device)}: cuda stands for all GPUs; name it alone, or each one"
        )
    for name in arguments.device:
        check_device(name)
    from ..hashing.recipe import RecipeError
    from ..hashing.reproduce import FolderInUse, GridError, plan, reproduce

    progress = _Progress()
    try:
        options = _options(arguments)
        if arguments.dry_run:
            print(_listing(plan(options)))
            return
        outcome = reproduce(options, progress.begin, progress.end)
    except (RecipeError, GridError, FolderInUse) as error:
        raise CommandError(str(error)) from error
    finally:
        progress.close()
    for text in filter(None, outcome.tables.values()):
        print(f"{text}\n")
    print(f"written: {', '.join(str(options.out / f'{target}.md') for target in outcome.tables)}")
    if outcome.failed:
        named = "; ".join(f"{end.key}: {end.error}" for end in outcome.failed[:NAMED_FAILURES])
        more = len(outcome.failed) - NAMED_FAILURES
        raise CommandError(
            f"{len(outcome.failed)} of {len(outcome.plan.runs)} trainings failed: {named}"
            f"{f'; and {more} more' if more > 0 else ''}; what they printed is in {options.out / 'logs'}; "
            "the same command tries them again"
        )


def _listing(todo: Plan) -> str:
    options = todo.grid.options
    lines = []
    for run in todo.runs:
        state = "done" if run.key in todo.done else "refused" if run.key in todo.obstacles else "to do"
        why = f"  ({todo.obstacles[run.key]})" if run.key in todo.obstacles else ""
        lines.append(f"{state:<8} {run.key}{why}")
    lines += [
        "",
        f"{len(todo.runs)} trainings for {options.target} in {options.out}: "
        f"{len(todo.done)} done, {len(todo.missing)} to do, {len(todo.devices)} at a time",
    ]
    if todo.missing:
        left = "unknown until one is done" if todo.seconds is None else f"about {duration(todo.seconds)}"
        lines.append(f"time: {left}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """For people.

    Example:
        >>> from rdh_ext.cli.reproduce import duration
        >>> duration(45), duration(200), duration(8000)
        ('45 s', '3 min', '2 h 13 min')
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class _Progress:
    """A bar where somebody looks, else a line for each training; failures are said either way."""

    def __init__(self) -> None:
        from .progress import Bar

        self._terminal = sys.stderr.isatty()
        self._bar = Bar(" trainings")
        self._begun, self._ended, self._left, self._total = 0.0, 0, 0, 0

    def begin(self, todo: Plan) -> None:
        """Before the first training."""
        self._begun, self._left, self._total = time.monotonic(), len(todo.missing), len(todo.runs)
        if self._left:
            self._show()
            if not self._terminal:
                places = min(len(todo.devices), self._left)
                print(f"{self._left} of {self._total} trainings to do, {places} at a time", file=sys.stderr, flush=True)

    def end(self, end: Ended) -> None:
        """After a training."""
        self._ended += 1
        self._left -= 1
        self._show()
        if not self._terminal:
            left = (time.monotonic() - self._begun) / self._ended * self._left
            how = f"{end.seconds:.0f} s" if end.error is None else f"FAILED: {end.error}"
            place = f"[{self._total - self._left}/{self._total}]"
            print(f"{place} {end.key}: {how}; {duration(left)} left", file=sys.stderr, flush=True)

    def _show(self) -> None:
        self._bar("training", self._total - self._left, self._total)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
