"""The paper's tables, and small ones beside its figures, as Markdown: what was measured, and the paper's value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import paper
from .grid import ABLATED, Cell
from .summary import Measure, Results, Spread, dead, late, mean_ap, mean_of, paired

NONE = "-"
"""Where no training is done."""
_PARTS = {"rdh-no-ga": "w.o. GA", "rdh-no-eaql": "w.o. EAQL"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source is aligned, too."""
    widths = [max(len(line[place]) for line in (header, *rows)) for place in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return f"| {' | '.join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), f"|{rule}|", *(line(row) for row in rows)])


def value_text(spread: Spread, seeds: int, form: str = ".4f", printed: float | None = None) -> str:
    """``0.7465 ± 0.0012; paper 0.7465``, with how many there are where it is not all seeds."""
    text = NONE
    if spread.mean is not None:
        text = format(spread.mean, form) + ("" if spread.std is None else f" ± {spread.std:{form}}")
        text += f", n = {spread.n}" if spread.n != seeds else ""
    return text if printed is None else f"{text}; paper {printed:{form}}"


def difference_text(spread: Spread, seeds: int, form: str = "+.4f", printed: float | None = None) -> str:
    """``+0.0021 (-0.0010 to +0.0052)``: a mean and its 95 % confidence interval."""
    text = NONE
    if spread.mean is not None:
        text = format(spread.mean, form)
        if spread.half is not None:
            text += f" ({spread.mean - spread.half:{form}} to {spread.mean + spread.half:{form}})"
        text += f", n = {spread.n}" if spread.n != seeds else ""
    return text if printed is None else f"{text}; paper {printed:{form}}"


def table1(results: Results) -> str:
    """mAP of all methods without and with RDH, their differences, and dead bits."""
    grid = results.grid
    bits, several = grid.bits, len(grid.bits) > 1
    dataset, seeds, form = paper.dataset_of(grid.dataset), grid.options.seeds, ".4f"
    header = [_map_name(results), *(f"{b} bits" for b in bits), *(["mean of lengths"] if several else [])]
    rows, gains, gains_printed = [], [], []
    for method in grid.options.methods:
        columns: dict[str, list[dict[int, float]]] = {}
        printed: dict[str, list[float | None]] = {}
        for variant in ("plain", "rdh"):
            cells = [Cell(method, variant, b) for b in bits]
            values = [results.values(cell, mean_ap) for cell in cells]
            numbers = [paper.table1_value(dataset, method, variant == "rdh", b) for b in bits]
            columns[variant] = [*values, *([mean_of(values)] if several else [])]
            printed[variant] = [*numbers, *([_mean(numbers)] if several else [])]
            texts = [
                value_text(Spread.of(c.values()), seeds, form, p)
                for c, p in zip(columns[variant], printed[variant], strict=True)
            ]
            rows.append([results.label(cells[0]), *texts])
        gain = [paired(a, b) for a, b in zip(columns["rdh"], columns["plain"], strict=True)]
        gains.append(gain)
        gain_printed = [_less(a, b) for a, b in zip(printed["rdh"], printed["plain"], strict=True)]
        gains_printed.append(gain_printed)
        rows.append(["difference", *_differences(gain, gain_printed, seeds)])
    if len(gains) > 1:
        joint = [mean_of(column) for column in zip(*gains, strict=True)]
        joint_printed = [_mean(column) for column in zip(*gains_printed, strict=True)]
        rows.append(["difference, mean of methods", *_differences(joint, joint_printed, seeds)])
    return f"{markdown(header, rows)}\n\n{dead_bits(results, grid.options.methods, ('plain', 'rdh'), bits)}"


def table2(results: Results) -> str:
    """The ablation: mAP of each variant, what it is above the method without any, and dead bits."""
    grid = results.grid
    dataset, seeds = paper.dataset_of(grid.dataset), grid.options.seeds
    header = [_map_name(results), *(f"{b} bits" for b in grid.bits)]
    rows, gains = [], []
    plain = [results.values(Cell(ABLATED, "plain", b), mean_ap) for b in grid.bits]
    for variant in paper.TABLE2:
        cells = [Cell(ABLATED, variant, b) for b in grid.bits]
        values = [results.values(cell, mean_ap) for cell in cells]
        printed = [paper.table2_value(dataset, ABLATED, variant, b) for b in grid.bits]
        name = _PARTS.get(variant) or results.label(cells[0])
        rows.append(
            [name, *(value_text(Spread.of(v.values()), seeds, printed=p) for v, p in zip(values, printed, strict=True))]
        )
        if variant != "plain":
            gain = [paired(a, b) for a, b in zip(values, plain, strict=True)]
            gains.append([name, *_differences(gain, [None] * len(gain), seeds)])
    title = f"above {results.label(Cell(ABLATED, 'plain', grid.bits[0]))}"
    above = markdown([title, *header[1:]], gains)
    return f"{markdown(header, rows)}\n\n{above}\n\n{dead_bits(results, (ABLATED,), tuple(paper.TABLE2), grid.bits)}"


def comparison(results: Results) -> str:
    """mAP and dead bits of all methods at the length of the figures."""
    grid = results.grid
    methods, bits = grid.options.methods, grid.longest
    rows = []
    for method in methods:
        cells = [Cell(method, variant, bits) for variant in ("plain", "rdh")]
        rows += [[results.label(cell), *(_spread(results, cell, m, f) for m, f in _MEASURES)] for cell in cells]
        gains = [paired(*(results.values(cell, measure) for cell in reversed(cells))) for measure, _ in _MEASURES]
        texts = (
            difference_text(Spread.of(gain.values()), grid.options.seeds, f"+{form}")
            for gain, (_, form) in zip(gains, _MEASURES, strict=True)
        )
        rows.append(["difference", *texts])
    return markdown([f"{bits} bits", _map_name(results), _dead_name(results, bits)], rows)


def sensitivity(results: Results) -> str:
    """mAP and dead bits for each value of tau and of eta."""
    grid = results.grid
    tables = []
    for name in ("tau", "eta"):
        own = grid.own(name)
        rows = [
            [
                f"{value:.12g}{' (recipe)' if value == own else ''}",
                *(_spread(results, cell, m, f) for m, f in _MEASURES),
            ]
            for value, cell in grid.sensitivity(name)
        ]
        plain = Cell(ABLATED, "plain", grid.longest)
        rows.append([results.label(plain), *(_spread(results, plain, m, f) for m, f in _MEASURES)])
        tables.append(markdown([name, _map_name(results), _dead_name(results, grid.longest)], rows))
    return "\n\n".join(tables)


_MEASURES: tuple[tuple[Measure, str], ...] = ((mean_ap, ".4f"), (dead, ".1f"))


def dead_bits(results: Results, methods: Sequence[str], variants: Sequence[str], bits: Sequence[int]) -> str:
    """Dead bits per step in the last tenth of training."""
    header = ["dead bits per step", *(_of_all(results, b) for b in bits)]
    rows = []
    for method in methods:
        for variant in variants:
            cells = [Cell(method, variant, b) for b in bits]
            name = results.label(cells[0])
            rows.append([name, *(_spread(results, cell, dead, ".1f") for cell in cells)])
        if tuple(variants) == ("plain", "rdh"):
            gain = [
                paired(*(results.values(Cell(method, variant, b), dead) for variant in ("rdh", "plain"))) for b in bits
            ]
            rows.append(["difference", *_differences(gain, [None] * len(gain), results.grid.options.seeds, "+.1f")])
    return markdown(header, rows)


def _spread(results: Results, cell: Cell, measure: Measure, form: str) -> str:
    return value_text(Spread.of(results.values(cell, measure).values()), results.grid.options.seeds, form)


def _differences(
    columns: Sequence[Mapping[int, float]], printed: Sequence[float | None], seeds: int, form: str = "+.4f"
) -> list[str]:
    return [
        difference_text(Spread.of(column.values()), seeds, form, value)
        for column, value in zip(columns, printed, strict=True)
    ]


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known and len(known) == len(numbers) else None


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _map_name(results: Results) -> str:
    depths = {each.get("topk") for each in results.by_key.values()}
    depth = depths.pop() if len(depths) == 1 else None
    return "mAP" if depth is None else f"mAP@{depth}"


def _of_all(results: Results, bits: int) -> str:
    """``32 bits, of 4,096``: how many bits a step has."""
    found = {round(late(r, "bits")) for r in results.by_key.values() if r["recipe"]["bits"] == bits and r["epochs"]}
    return f"{bits} bits, of {found.pop():,}" if len(found) == 1 else f"{bits} bits"


def _dead_name(results: Results, bits: int) -> str:
    text = _of_all(results, bits).partition(", ")[2]
    return f"dead bits per step{', ' + text if text else ''}"
