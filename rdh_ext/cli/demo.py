"""``rdh demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import CommandError, check_device, device_name, folder_name, whole_number


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="train HashNet without and with RDH on real digits, and write a report",
        description="""\
Trains HashNet twice on scikit-learn's 1,797 handwritten digits, without and with RDH, from the same weights on the same
batches; encodes and evaluates both; writes a folder with report.md, figures, packed codes and all numbers as JSON;
prints a table. Offline, about a minute on two cores. Needs: pip install 'rdh_ext[demo]'""",
        epilog="""\
examples:
  rdh demo                             the report goes to ./rdh-demo/report.md
  rdh demo --seed 1 --out seed-1       other initial weights, another split
  rdh demo --epochs 20 --bits 16       shorter training, shorter codes
  rdh demo --device cuda               on a GPU""",
    )
    parser.add_argument(
        "--out", type=folder_name, default=Path("rdh-demo"), metavar="FOLDER", help="report folder (rdh-demo)"
    )
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=0, help="of split, weights and batches (0)")
    parser.add_argument("--epochs", type=whole_number(1, 100_000), default=None, help="of each training (200)")
    parser.add_argument("--bits", type=whole_number(1, 1024), default=32, help="code length (32)")
    parser.add_argument("--device", type=device_name, default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--force", action="store_true", help="write into FOLDER even if it holds other files")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    check_device(arguments.device)
    from ..hashing import demo
    from ..hashing.report import folder

    demo.require_extras()
    options = demo.DemoOptions(
        out=arguments.out,
        seed=arguments.seed,
        epochs=demo.EPOCHS if arguments.epochs is None else arguments.epochs,
        bits=arguments.bits,
        device=arguments.device,
        force=arguments.force,
    )
    try:
        print(demo.run(options))
    except folder.FolderInUse as error:
        raise CommandError(str(error)) from error
