"""``rdh report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import CommandError, file_name, folder_name


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        parents=[common],
        help="tables and pictures of what 'rdh bench' measured, of one machine or several",
        description="""\
Makes a folder of results that 'rdh bench' wrote: report.md, with a table for every op and for all that grows, and
pictures on two log axes with the limit of the device drawn in. Of several files, as of two machines or two versions,
each has its part, and pictures show the times of rdh_ext in all of them. Pictures need
pip install 'rdh_ext[cli]'; without it there are tables alone.""",
        epilog="""\
examples:
  rdh bench --out results.csv
  rdh report results.csv                          results-report/report.md, and pictures beside it
  rdh report cpu.csv gpu.csv --out compared       two machines side by side
  rdh report before.csv after.csv --out change    what a change has brought; the first file is 1
  rdh report results.csv --levels                 also rdh_ext on instruction sets below the best

how to read it:
  The first line of a table is the time of rdh_ext; others are multiples of it, taken round by round, in brackets
  percentiles 20 and 80. "Of the limit" is the time that the device needs for the bytes or the operations alone, as a
  share of the time taken. In pictures the limit is a dashed line, and what lies below it grey. Who is not installed is
  named, and so is who was left out, and why.""",
    )
    parser.add_argument("files", nargs="+", type=file_name, metavar="FILE.csv", help="what 'rdh bench' wrote")
    parser.add_argument(
        "--out", type=folder_name, metavar="FOLDER", help="where the report goes (FILE-report, beside the first file)"
    )
    parser.add_argument("--levels", action="store_true", help="show lower instruction sets of rdh_ext too")
    parser.add_argument("--force", action="store_true", help="write into FOLDER though it holds other things")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    files: list[Path] = arguments.files
    for file in files:
        if file.is_dir():
            raise CommandError(f"{file} is a folder; name the CSV file that 'rdh bench' wrote")
        if not file.exists():
            raise CommandError(f"{file}: no such file; 'rdh bench --out {file}' writes it")
        if file.suffix.lower() == ".json":
            raise CommandError(f"{file}: reports are made of CSV files, as 'rdh bench --out FILE.csv' writes them")
    twice = next((file for i, file in enumerate(files) if file in files[:i]), None)
    if twice is not None:
        raise CommandError(f"{twice} is named twice")
    out: Path = arguments.out or files[0].with_name(f"{files[0].stem}-report")
    from .benchmark_folder import run_program

    request: dict[str, Any] = {"files": [str(file.absolute()) for file in files], "out": str(out.absolute())}
    run_program("bench_report.py", {**request, "levels": arguments.levels, "force": arguments.force})
