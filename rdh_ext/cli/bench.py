"""``rdh bench``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from .arguments import CommandError, file_name, whole_number

OPS = (
    "amplified_tanh",
    "amplified_sigmoid",
    "gradient_amplifier",
    "pairwise_loss",
    "pack_codes",
    "unpack_codes",
    "hamming_distance",
    "hamming_topk",
    "hamming_histogram",
    "evaluate",
    "training_step",
)


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "bench",
        parents=[common],
        help="how fast, how much memory, how close to the limit, next to what",
        description=f"""\
Measures rdh_ext on this machine, next to what people would use otherwise, in the same run: PyTorch written the obvious
way and in the best form that we know, torch.compile, KeOps, FAISS, torchmetrics, scikit-learn, numpy. Who is not
installed is named; pip install 'rdh_ext[bench]' brings them all. The tests of an op run first (in a source tree), and
every result is compared with float64 or numpy before anything is timed.

ops: {", ".join(OPS[:5])},
     {", ".join(OPS[5:])}""",
        epilog="""\
examples:
  rdh bench --quick                                 a minute: the main ops, coarse
  rdh bench                                         all ops at one size each, some minutes, into rdh-bench.csv
  rdh bench evaluate --sweep gallery bits           how evaluation grows with the gallery, and with the bits
  rdh bench evaluate training_step --sweep paper    the paper's three data sets, end to end
  rdh bench --sweep all --out results.csv           everything, half an hour; --resume goes on after an interrupt
  rdh report results.csv                            tables and log-log pictures of it
  rdh bench --compare HEAD~1                        two commits in turn, and the ratio of their times
  rdh bench --quick --json > results.json

how to read it:
  "against rdh_ext" is the time of somebody over that of rdh_ext, taken round by round, so that it bears a machine that
  others use too; in brackets percentiles 20 and 80 over the rounds. "Of the limit" is the least time that this machine
  needs, measured in the same rounds, over the time taken: for the amplifier and codes a copy of as many bytes, for the
  pairwise loss its multiply-adds and exponentials alone, for Hamming ops an xor and popcount of all pairs that keeps
  nothing. Memory is what a call adds to the peak, its result included. Times are medians, on one thread unless
  --threads says more.""",
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help="what to measure (all; --quick: the main ones)")
    parser.add_argument("--quick", action="store_true", help="within a minute: fewer ops, smaller, few rounds")
    parser.add_argument(
        "--sweep", nargs="+", default=[], metavar="NAME", help="also how cost grows with NAME (see --list), or 'all'"
    )
    parser.add_argument("--list", action="store_true", help="list ops and their sweeps, measure nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(cpu)")
    parser.add_argument("--threads", type=whole_number(1, 1024), default=1, metavar="N", help="of everybody (1)")
    parser.add_argument(
        "--rounds", type=whole_number(2, 10_000), metavar="N", help="all take turns in each (11; quick 5)"
    )
    parser.add_argument(
        "--processes", type=whole_number(1, 100), metavar="N", help="fresh ones per case (1; with --compare 5)"
    )
    parser.add_argument("--out", type=file_name, metavar="FILE.csv", help="(rdh-bench.csv; --quick writes none)")
    parser.add_argument("--resume", action="store_true", help="go on with the cases that FILE.csv does not have")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, not as text")
    parser.add_argument("--no-verify", action="store_true", help="do not run the tests first")
    parser.add_argument(
        "--compare", metavar="REV", help="measure this tree and commit REV in turn (needs git and a compiler)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.resume and arguments.out is None and arguments.quick:
        raise CommandError("--resume goes on with a file; --quick writes one with --out alone")
    if arguments.quick and arguments.sweep:
        raise CommandError("--quick has no sweeps; leave one of the two out")
    if arguments.compare is not None and arguments.sweep:
        raise CommandError("--compare measures every op at one size; leave --sweep out")
    out: Path | None = arguments.out
    if out is None and not (arguments.quick or arguments.list or arguments.compare is not None):
        out = Path("rdh-bench.csv")
    from .benchmark_folder import run_program

    run_program(
        "run.py",
        {
            "command": _typed(),
            "ops": list(dict.fromkeys(arguments.ops)),
            "sweeps": list(dict.fromkeys(arguments.sweep)),
            "device": arguments.device,
            "threads": arguments.threads,
            "quick": arguments.quick,
            "processes": arguments.processes,
            "rounds": arguments.rounds,
            "out": None if out is None else str(out),
            "resume": arguments.resume,
            "as_json": arguments.json,
            "verify": not arguments.no_verify,
            "listing": arguments.list,
            "compare": arguments.compare,
        },
    )


def _typed() -> str:
    """The command, for the rows of the result."""
    words = sys.argv[sys.argv.index("bench") :] if "bench" in sys.argv else ["bench"]
    return shlex.join(["rdh", *words])
