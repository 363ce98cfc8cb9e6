"""Tables of documents from what ``rdh reproduce`` has left in results/: mAP and dead bits without and with RDH."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from _markdown import head, line

RESULTS = Path(__file__).parent / "results"


def table(regime: str) -> str:
    """mAP and, of the longest codes, dead bits of every method."""
    content = json.loads((RESULTS / regime / "table1.json").read_bytes())
    bits = sorted({cell["bits"] for cell in content["cells"]})
    titles = ["mAP", *(f"{each} bits" for each in bits), f"dead bits a step, {bits[-1]} bits"]
    lines = head(*titles)
    for method in dict.fromkeys(cell["method"] for cell in content["cells"]):
        for variant in ("plain", "rdh"):
            cells = {
                cell["bits"]: cell
                for cell in content["cells"]
                if (cell["method"], cell["variant"]) == (method, variant)
            }
            label = cells[bits[-1]]["label"] if variant == "plain" else "+ RDH"
            row = [_value(cells[each], _differs(content, method, each) if variant == "rdh" else "") for each in bits]
            lines.append(line(label, *row, f"{cells[bits[-1]]['dead_per_step']['mean']:,.0f}"))
    return "\n".join([*lines, "", _how(content)])


def _value(cell: dict[str, Any], mark: str) -> str:
    value = cell["map"]
    spread = "" if value["std"] is None else f" ± {value['std']:.3f}"
    return f"{value['mean']:.3f}{spread}{mark}"


def _differs(content: dict[str, Any], method: str, bits: int) -> str:
    """An arrow where the 95 % interval of the difference, seed by seed, does not hold 0."""
    [found] = [each for each in content["differences"] if (each["method"], each["bits"]) == (method, bits)]
    low, high = found["map"]["low_95"], found["map"]["high_95"]
    if low is None or low <= 0 <= high:
        return ""
    return " ▲" if low > 0 else " ▼"


def _how(content: dict[str, Any]) -> str:
    items, seeds = content["data"]["items"], max(cell["map"]["n"] for cell in content["cells"])
    counts = ", ".join(
        f"{items[role]:,} {words}" for role, words in (("query", "queries"), ("train", "training images"))
    )
    versions = content["versions"]
    return (
        f"Mean ± standard deviation over {seeds} seeds; {counts}, a gallery of {items['gallery']:,}. ▲ and ▼: with RDH "
        f"higher or lower,\nby a 95 % confidence interval of the difference seed by seed. torch "
        f"{' and '.join(versions['torch'])}, one CPU thread for each training:\n`{content['command']}`."
    )


def feature_scales() -> str:
    """mAP of embeddings by their length, as they are and standardized."""
    with (RESULTS / "feature_scales.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lengths = list(dict.fromkeys(row["length"] for row in rows))
    titles = ["mAP by the length of the embeddings", *lengths]
    lines = head(*titles)
    for standardize, words in (("false", "as they are"), ("true", "standardized")):
        cells = [words]
        for length in lengths:
            maps = [float(row["map"]) for row in rows if (row["length"], row["standardize"]) == (length, standardize)]
            cells.append(f"{fmean(maps):.3f} ± {stdev(maps):.3f}")
        lines.append(line(*cells))
    seeds = len({row["seed"] for row in rows})
    lines += [
        "",
        f"512 numbers of each of 1,797 digits, 64 bits, {seeds} seeds: `python benchmarks/feature_scales.py`.",
    ]
    return "\n".join(lines)


def parts() -> str:
    """mAP and dead bits of DPSH, DHN and DSDH with each part of RDH by itself."""
    with (RESULTS / "digits_parts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    regimes = {row["regime"]: (int(row["bits"]), int(row["bits_per_step"])) for row in rows}
    titles = [""]
    for regime, (bits, of) in regimes.items():
        titles += [f"mAP, {regime}, {bits} bits", f"dead of {of:,}"]
    lines = head(*titles)
    for method, variant in dict.fromkeys((row["method"], row["variant"]) for row in rows):
        cells = [f"{method.upper()}, {variant}"]
        for regime in regimes:
            mine = [row for row in rows if (row["regime"], row["method"], row["variant"]) == (regime, method, variant)]
            maps = [float(row["map"]) for row in mine]
            cells.append(f"{fmean(maps):.3f} ± {stdev(maps):.3f}")
            cells.append(f"{fmean(float(row['dead_per_step']) for row in mine):,.0f}")
        lines.append(line(*cells))
    seeds = len({row["seed"] for row in rows})
    lines += ["", f"{seeds} seeds; dead bits per step: `python benchmarks/digits_parts.py`."]
    return "\n".join(lines)
