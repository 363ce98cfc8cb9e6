"""``rdh evaluate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import CommandError, byte_count, check_device, device_name, file_name, whole_number

if TYPE_CHECKING:
    from ..retrieval import EvaluationResult, MemoryPlan, PRCurve

CUTOFFS = (1, 10, 100, 1000, 5000)
"""Ranks of the table."""


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "evaluate",
        parents=[common],
        help="mAP, precision and recall of codes on disk, however large the gallery",
        description="""\
Mean average precision, precision, recall and NDCG of a query set against a gallery, exact and deterministic, from
code sets as 'rdh encode' writes them. The gallery goes through memory block by block, so a billion codes are no
problem; the numbers are those of rdh_ext.evaluate, bit for bit, for any shards and any number of processes. Prints a
table; with --out writes everything as JSON, and a picture of the precision-recall curve beside it (which needs
pip install 'rdh_ext[cli]').""",
        epilog="""\
examples:
  rdh evaluate --query query --gallery gallery                       mAP over the whole gallery
  rdh evaluate --query query --gallery gallery --topk 5000           mAP@5000, as for NUS-WIDE and MS-COCO
  rdh evaluate --query query --gallery gallery --out report.json     also report.png; can be interrupted, and
  rdh evaluate --query query --gallery gallery --out report.json --resume       goes on where it was
  rdh evaluate --query query --gallery gallery --memory 2GiB         in no more memory than that, or an error
  torchrun --nproc-per-node 4 -m rdh_ext evaluate --query query --gallery gallery --device cuda

what the numbers mean:
  Items at the same distance are tied. --ties expected (the default) takes the mean over all orders of tied items, and
  so depends on nothing else; stable takes the order of the gallery; optimistic and pessimistic are the bounds.
  AP@k is divided by the relevant items found in the top k (--denominator found, the convention of the field), by all
  relevant ones (relevant), or by the smaller of these and k (min).
  A query that finds nothing relevant in the whole gallery scores 0, is left out (--empty skip), or is an error; how
  many there are is always said.""",
    )
    parser.add_argument("--query", required=True, type=file_name, metavar="SET", help="code set of the queries")
    parser.add_argument("--gallery", required=True, type=file_name, metavar="SET", help="code set to search in")
    parser.add_argument("--topk", type=whole_number(1, 2**62), metavar="K", help="mAP@K (the whole gallery)")
    parser.add_argument("--ties", choices=("expected", "stable", "optimistic", "pessimistic"), default="expected")
    parser.add_argument("--denominator", choices=("found", "relevant", "min"), default="found")
    parser.add_argument("--empty", choices=("zero", "skip", "error"), default="zero")
    parser.add_argument("--device", type=device_name, default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument(
        "--memory", type=byte_count, metavar="SIZE", help="of the process in all, as 2GiB (what it needs)"
    )
    parser.add_argument("--out", type=file_name, metavar="FILE.json", help="all numbers, curves, AP of every query")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run with the same --out")
    parser.add_argument(
        "--force", action="store_true", help="overwrite FILE.json, and begin anew if interrupted before"
    )
    parser.add_argument(
        "--timeout", type=whole_number(1, 10**6), default=1800, metavar="SECONDS", help="to wait for other ranks (1800)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    check_device(arguments.device)
    from ..retrieval import CodeSet, evaluate_sets
    from .one_model import say_if_two_models
    from .process_group import process_group
    from .progress import Bar

    out: Path | None = arguments.out
    if arguments.resume and out is None:
        raise CommandError("--resume goes on with a run that had --out FILE.json; name it")
    if out is not None and out.suffix.lower() != ".json":
        raise CommandError(f"--out {out}: the report is JSON; name a file that ends in .json")

    def begin(plan: MemoryPlan) -> None:
        say_if_two_models("evaluate", CodeSet(arguments.query), CodeSet(arguments.gallery))
        print(f"memory: {plan}", file=sys.stderr)

    with process_group(arguments.device, arguments.timeout) as (rank, device):
        first = rank == 0
        state = None if out is None else out.with_name(f"{out.name}.partial")
        if first and out is not None:
            _claim(out, state, force=arguments.force, resume=arguments.resume)
        bar = Bar(" codes", shown=first)
        try:
            result = evaluate_sets(
                arguments.query,
                arguments.gallery,
                arguments.topk,
                arguments.ties,
                arguments.denominator,
                arguments.empty,
                device=device,
                memory=arguments.memory,
                state=state,
                resume=arguments.resume,
                progress=bar,
                on_plan=begin if first else None,
            )
        finally:
            bar.close()
        if not first:
            return
        print(_table(result))
        if out is not None:
            _write(out, result, arguments)


def _claim(out: Path, state: Path | None, *, force: bool, resume: bool) -> None:
    """Fails before the work where the report could not be written after it."""
    import shutil

    if out.is_dir():
        raise CommandError(f"--out {out} is a folder; name a file")
    if out.exists() and not force:
        raise CommandError(f"--out {out} exists; name another file, or add --force to overwrite it")
    if force and not resume and state is not None and (state / "job.json").is_file():
        shutil.rmtree(state)
    out.parent.mkdir(parents=True, exist_ok=True)


def _has_order(result: EvaluationResult) -> bool:
    """Whether questions about ranks can be answered: with stable ties the order is not kept."""
    return result.ties != "stable"


def _table(result: EvaluationResult) -> str:
    lines = [str(result)]
    if _has_order(result) and result.gallery:
        cutoffs = [n for n in CUTOFFS if n <= result.gallery]
        lines += ["", f"{'n':>9}  {'P@n':>8}  {'R@n':>8}  {'NDCG@n':>8}"]
        lines += [
            f"{n:>9,}  {result.precision_at(n):8.4f}  {result.recall_at(n):8.4f}  {result.ndcg(n):8.4f}"
            for n in cutoffs
        ]
    curve = result.pr_curve(by="radius")
    lines += ["", f"{'H<=r':>9}  {'P':>8}  {'R':>8}  {'queries':>9}"]
    for r in _radii(curve):
        lines.append(f"{r:>9}  {curve.precision[r]:8.4f}  {curve.recall[r]:8.4f}  {int(curve.queries[r]):>9,}")
    return "\n".join(lines)


def _radii(curve: PRCurve) -> list[int]:
    """0 to 2, and where the recall first reaches some levels."""
    recall = curve.recall.tolist()
    reached = [
        next((r for r, value in enumerate(recall) if value >= level), None) for level in (0.1, 0.25, 0.5, 0.75, 0.9)
    ]
    return sorted({r for r in (*range(3), *reached, len(recall) - 1) if r is not None and r < len(recall)})


def _report(result: EvaluationResult, arguments: argparse.Namespace) -> dict[str, Any]:
    from .. import __version__

    numbers: dict[str, Any] = {"kind": "rdh evaluate", "rdh_ext": __version__}
    numbers |= {"query_set": str(arguments.query), "gallery_set": str(arguments.gallery)}
    numbers |= result.to_dict()
    curves = [result.pr_curve(by="radius")]
    if _has_order(result) and result.gallery:
        curves += [result.pr_curve(by="rank"), result.pr_curve(by="recall")]
        cutoffs = [n for n in CUTOFFS if n <= result.gallery]
        numbers["at"] = {
            str(n): {"precision": result.precision_at(n), "recall": result.recall_at(n), "ndcg": result.ndcg(n)}
            for n in cutoffs
        }
    numbers["curves"] = [curve.to_dict() for curve in curves]
    numbers["ap"] = result.to_dict(per_query=True)["ap"]
    return numbers


def _write(out: Path, result: EvaluationResult, arguments: argparse.Namespace) -> None:
    from .._files import write_json

    write_json(out, _report(result, arguments))
    print(f"\nreport: {out}")
    picture = out.with_suffix(".png")
    if picture.exists() and not arguments.force:
        print(f"{picture} exists and is left alone; add --force to draw it anew", file=sys.stderr)
        return
    from .._extras import MissingExtra, require

    try:
        require("matplotlib", extra="cli")
    except MissingExtra as error:
        print(f"no picture of the curve: {error}", file=sys.stderr)
        return
    from ..hashing.report.curves import evaluation_figure
    from ..hashing.report.files import write_figure

    write_figure(picture, evaluation_figure(result))
    print(f"picture: {picture}")
