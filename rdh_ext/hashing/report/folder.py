"""The demo's report folder: which files there are, and whether a folder may be written into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..history import to_csv
from ..results import DemoResult, RunResult
from . import curves, figure3, files, neighbours
from .markdown import render

MARKER = ".rdh-demo"
"""Written before anything else: a folder that has it is a demo report, finished or not, and may be overwritten."""


class FolderInUse(Exception):
    """The output folder cannot be used; the message says why and what to do."""


def claim(out: Path, *, force: bool = False) -> None:
    """Makes ``out`` and marks it as a demo report, before the work starts. Nothing in it is deleted, ever.

    Raises:
        FolderInUse: ``out`` is a file, or holds things that are not an earlier report and ``force`` is not given.
        OSError: it cannot be made or written.
    """
    if out.exists() and not out.is_dir():
        raise FolderInUse(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file() and not force:
        raise FolderInUse(
            f"--out {out} is not empty and holds no earlier demo report; "
            "name another folder, or add --force to write into it"
        )
    files.write_text(out / MARKER, "An rdh demo report: 'rdh demo' overwrites the files it wrote here.\n")


def as_json(result: DemoResult) -> dict[str, Any]:
    """All numbers of the report; all but ``seconds`` repeat for the same seed, machine and versions."""
    return {
        "kind": "rdh demo",
        "settings": result.settings,
        "versions": result.versions,
        "data": {
            "name": result.data.name,
            "query": len(result.data.query),
            "train": len(result.data.train),
            "gallery": len(result.data.gallery),
        },
        "runs": {run.key: _run_as_json(run) for run in result.runs},
        "seconds": {run.key: run.seconds for run in result.runs},
    }


def _run_as_json(run: RunResult) -> dict[str, Any]:
    e = run.evaluation
    return {
        "label": run.label,
        "rdh": run.rdh,
        "map": e.map,
        "map_at_100": e.map_at_100,
        "precision_within_radius_2": e.precision_radius_2,
        "queries_with_nothing_within_radius_2": e.empty_radius_2,
        "exact_zeros_at_code_time": run.exact_zeros,
        "pr_curve_by_radius": {"precision": e.precision, "recall": e.recall, "queries": e.queries},
        "ap": e.ap,
        "epochs": [record._asdict() for record in run.epochs],
    }


def write(out: Path, result: DemoResult) -> None:
    """Writes every file of the report; ``report.md`` last, when all it shows is there."""
    data = result.data
    for run in result.runs:
        files.write_text(out / "metrics" / f"{run.key}.csv", to_csv(run.steps))
        files.write_npy(out / "codes" / f"{run.key}_query.npy", run.query_codes)
        files.write_npy(out / "codes" / f"{run.key}_gallery.npy", run.gallery_codes)
    files.write_npy(out / "codes" / "query_labels.npy", data.query.labels)
    files.write_npy(out / "codes" / "gallery_labels.npy", data.gallery.labels)
    files.write_npy(out / "codes" / "query_indices.npy", data.query.indices)
    files.write_npy(out / "codes" / "gallery_indices.npy", data.gallery.indices)
    figures = {
        "dead_bits": curves.dead_bits_figure(result.runs, result.settings["tau"]),
        "pr_curves": curves.pr_figure(result.runs, result.settings["bits"]),
        "gradient": figure3.gradient_figure(),
        "neighbours": neighbours.neighbours_figure(result.runs, data),
    }
    for name, figure in figures.items():
        files.write_figure(out / "figures" / f"{name}.png", figure)
    files.write_json(out / "results.json", as_json(result))
    files.write_text(out / "report.md", render(result))
