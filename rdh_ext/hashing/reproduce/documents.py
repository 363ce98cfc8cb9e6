"""What a target leaves: ``<target>.md``, ``.csv`` with a line for each training, ``.json``, and a picture."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..report.files import write_figure, write_json, write_text
from . import figures, tables
from .grid import ABLATED, Cell, Grid
from .pool import Ended
from .summary import Results, Spread, dead, late, mean_ap, paired


def write(out: Path, target: str, results: Results, failed: Sequence[Ended]) -> str:
    """Writes the files of a target, ``<target>.md`` last; returns its tables."""
    grid = results.grid
    picture = _PICTURES.get(target)
    if picture is not None:
        write_figure(out / f"{target}.png", picture(results))
    body = _TABLES[target](results) if target in _TABLES else ""
    if target != "fig3":
        keys = {run.key for run in grid.runs([target])}
        mine = [end for end in failed if end.key in keys]
        write_text(out / f"{target}.csv", to_csv(grid, target, results))
        write_json(out / f"{target}.json", as_json(target, results, mine))
        write_text(out / f"{target}.md", render(target, results, body, mine))
    else:
        write_text(out / "fig3.md", _joined(_titles(target, results), _FIG3, _again(grid)))
    return body


_TABLES = {
    "table1": tables.table1,
    "table2": tables.table2,
    "fig4": tables.comparison,
    "fig5": tables.comparison,
    "fig6": tables.sensitivity,
}
_PICTURES = {
    "fig3": lambda results: figures.gradient_figure(),
    "fig4": figures.pr_figure,
    "fig5": figures.dead_figure,
    "fig6": figures.sensitivity_figure,
}


def render(target: str, results: Results, body: str, failed: Sequence[Ended]) -> str:
    """The Markdown of a target."""
    picture = f"![{_TITLES[target]}]({target}.png)" if target in _PICTURES else ""
    missing = "\n".join(f"- `{end.key}`: {end.error}" for end in failed)
    return _joined(
        _titles(target, results),
        picture,
        _CAPTIONS.get(target, ""),
        body,
        _how_to_read(results),
        f"## Failed\n\n{missing}" if missing else "",
        _what(target, results),
        _again(results.grid),
    )


def to_csv(grid: Grid, target: str, results: Results) -> str:
    """A line for each training that is done; floats in full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for run in grid.runs([target]):
        found = results.by_key.get(run.key)
        if found is None:
            continue
        method = grid.method(run.cell)
        writer.writerow(
            [
                *(run.key, run.cell.method, method.label, run.cell.variant, method.tau, method.eta, run.cell.bits),
                *(run.seed, found["map"], found["topk"], found["map_at_100"], found["precision_radius_2"]),
                *(dead(found), late(found, "saturated"), late(found, "bits"), found["epoch"], found["exact_zeros"]),
                *(found["data"]["fingerprint"], found["seconds"]),
            ]
        )
    return buffer.getvalue()


_COLUMNS = (
    *("key", "method", "label", "variant", "tau", "eta", "bits", "seed", "map", "topk", "map_at_100"),
    *("precision_radius_2", "dead_per_step", "saturated_per_step", "bits_per_step", "chosen_epoch", "exact_zeros"),
    *("data_fingerprint", "seconds"),
)


def as_json(target: str, results: Results, failed: Sequence[Ended]) -> dict[str, Any]:
    """All numbers of a target: of every cell over its seeds, differences, and the curves of its figure."""
    grid = results.grid
    cells = grid.cells(target)
    content: dict[str, Any] = {
        "kind": "rdh reproduce",
        "target": target,
        "command": grid.options.command(),
        "data": _data(results),
        "versions": _versions(results),
        "failed": [{"key": end.key, "error": end.error} for end in failed],
        "cells": [_cell(results, cell) for cell in cells],
        "differences": [
            {"method": cell.method, "bits": cell.bits, **_gain(results, cell)}
            for cell in cells
            if cell.variant == "rdh" and cell.tau is None and cell.eta is None
        ],
    }
    if target in figures.CURVES:
        content["curves"] = figures.CURVES[target](results)
    return content


def _cell(results: Results, cell: Cell) -> dict[str, Any]:
    maps, deads = results.values(cell, mean_ap), results.values(cell, dead)
    method = results.grid.method(cell)
    return {
        "label": method.label,
        "method": cell.method,
        "variant": cell.variant,
        "bits": cell.bits,
        "tau": method.tau,
        "eta": method.eta,
        "map": {**_numbers(Spread.of(maps.values())), "seeds": {str(seed): value for seed, value in maps.items()}},
        "dead_per_step": {**_numbers(Spread.of(deads.values())), "seeds": {str(s): v for s, v in deads.items()}},
    }


def _gain(results: Results, cell: Cell) -> dict[str, Any]:
    """With RDH less without, of the same seeds."""
    plain = Cell(cell.method, "plain", cell.bits)
    gains = {}
    for name, measure in (("map", mean_ap), ("dead_per_step", dead)):
        spread = Spread.of(paired(results.values(cell, measure), results.values(plain, measure)).values())
        low, high = (None, None)
        if spread.mean is not None and spread.half is not None:
            low, high = spread.mean - spread.half, spread.mean + spread.half
        gains[name] = {**_numbers(spread), "low_95": low, "high_95": high}
    return gains


def _numbers(spread: Spread) -> dict[str, Any]:
    return {"n": spread.n, "mean": spread.mean, "std": spread.std}


def _data(results: Results) -> dict[str, Any]:
    found = list(results.by_key.values())
    descriptions = sorted({each["data"]["description"] for each in found})
    return {"name": results.grid.dataset, "descriptions": descriptions, "items": found[0]["items"] if found else {}}


def _versions(results: Results) -> dict[str, list[str]]:
    """Several where the trainings were not all made by the same."""
    names = sorted({name for each in results.by_key.values() for name in each["versions"]}, key=str.lower)
    every = results.by_key.values()
    return {name: sorted({each["versions"][name] for each in every if name in each["versions"]}) for name in names}


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _titles(target: str, results: Results) -> str:
    where = "" if target == "fig3" else f": {results.grid.name}"
    return f"# {_TITLES[target]}{where}"


_TITLES = {
    "table1": "Table 1, mAP of methods without and with RDH",
    "table2": "Table 2, the two parts of RDH by themselves",
    "fig3": "Fig. 3, the gradient of the loss",
    "fig4": "Fig. 4, precision-recall curves without and with RDH",
    "fig5": "Fig. 5, dead bits during training without and with RDH",
    "fig6": "Fig. 6, sensitivity to tau and eta",
}
_CAPTIONS = {
    "fig4": "Interpolated precision at 101 levels of recall, mean over the queries. Lines are means over the seeds, "
    "bands one\nstandard deviation.",
    "fig5": "Dead bits per training step, mean of each epoch. Lines are means over the seeds, bands one standard "
    "deviation.",
    "fig6": "One value is varied, the other is the recipe's. Points are means over the seeds, bars one standard "
    "deviation; the\ngrey line and band is the method without RDH. In the tables dead bits are counted with the tau of "
    "their row.",
}
_FIG3 = """\
![The gradient of the loss](fig3.png)

The derivative of Eq. 2 with respect to the logit, for a similar pair of one-bit codes, computed by this package's ops.
It needs no data and no training."""


def _how_to_read(results: Results) -> str:
    seeds = results.grid.options.seeds
    over = "One training of each, with seed 0: no spread, and no intervals."
    if seeds > 1:
        over = f"""\
Mean ± standard deviation (of n - 1) over the seeds 0 to {seeds - 1}, which decide split, weights and batches. A
difference is the value with RDH minus that without, for each seed; in brackets is the 95 % confidence interval of its
mean by Student's t over the seeds. Of many such intervals one in twenty misses by chance."""
    return f"""\
{over}
Dead bits, which Eq. 3 amplifies or would amplify, are per step, mean of the last tenth of the epochs; their number
depends on the scale of the loss. The queries choose nothing: the epoch whose network is kept is chosen on items held
out of training, or is the last one, as the recipe says."""


def _what(target: str, results: Results) -> str:
    grid = results.grid
    runs = grid.runs([target])
    found = [results.by_key[run.key] for run in runs if run.key in results.by_key]
    if not found:
        return f"None of {len(runs)} trainings is done."
    data, recipe = found[0]["data"], found[0]["recipe"]
    items = ", ".join(f"{count:,} {name}" for name, count in found[0]["items"].items())
    schedule = recipe["training"]
    settings = [
        f"backbone {recipe['backbone']['name']}",
        f"{schedule['epochs']} epochs",
        f"batches of {schedule['batch_size']}",
        *(f"{name.replace('_', ' ')} {schedule[name]:g}" for name in ("lr", "momentum", "weight_decay")),
    ]
    if any(run.cell.method == ABLATED for run in runs):
        settings.append(f"tau {grid.own('tau'):g}, eta {grid.own('eta'):g} for {ABLATED} with RDH")
    versions = ", ".join(f"{name} {' and '.join(each)}" for name, each in _versions(results).items())
    return f"""\
## What was run

- Trainings: {len(found)} of {len(runs)}, of {fmean(each["seconds"] for each in found):.1f} s on average.
- Data: {data["description"]}; items: {items}.
- Recipe `{grid.options.dataset}`: {", ".join(settings)}; its file has the rest.
- Versions: {versions}; {platform.system()} {platform.machine()}."""


def _again(grid: Grid) -> str:
    return f"## Run it again\n\n```\n{grid.options.command()}\n```"
