"""The demo's table, for the terminal and for Markdown, and the text of ``report.md``."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from ..results import DemoResult, RunResult
from .regime import paragraph

Row = tuple[str, str, str]


def rows_of(result: DemoResult) -> list[Row]:
    """``(measure, without RDH, with RDH)`` for every row of the table."""
    step = f"per step (of {round(result.runs[0].epochs[0].bits):,})"

    def row(name: str, form: str, value: Callable[[RunResult], float]) -> Row:
        without, with_rdh = result.runs
        return name, format(value(without), form), format(value(with_rdh), form)

    return [
        row("mAP, whole gallery", ".4f", lambda run: run.evaluation.map),
        row("mAP@100", ".4f", lambda run: run.evaluation.map_at_100),
        row("precision within Hamming radius 2", ".4f", lambda run: run.evaluation.precision_radius_2),
        row("queries with nothing within radius 2", "d", lambda run: run.evaluation.empty_radius_2),
        row(f"dead bits {step}, mean of all epochs", ".1f", lambda run: fmean(e.dead for e in run.epochs)),
        row(f"dead bits {step}, last epoch", ".1f", lambda run: run.epochs[-1].dead),
        row(f"saturated bits {step}, last epoch", ".1f", lambda run: run.epochs[-1].saturated),
        row("exact zeros at code time", "d", lambda run: run.exact_zeros),
        row("training, seconds", ".1f", lambda run: run.seconds),
    ]


def terminal_table(result: DemoResult) -> str:
    """The table in aligned columns."""
    table = [("", *(run.label for run in result.runs)), *rows_of(result)]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in table)


def markdown_table(result: DemoResult) -> str:
    """The table as Markdown."""
    lines = [f"| | {result.runs[0].label} | {result.runs[1].label} |", "|---|---:|---:|"]
    lines += [f"| {a} | {b} | {c} |" for a, b, c in rows_of(result)]
    return "\n".join(lines)


def render(result: DemoResult) -> str:
    """All of ``report.md``."""
    return "\n\n".join(
        (
            "# HashNet without and with RDH on handwritten digits",
            f"One training of each, seed {result.settings['seed']}. A pair of runs is an observation and not a proof;\n"
            "what is shown is what was measured.",
            markdown_table(result),
            _how_to_read(result),
            "## What was run",
            _what_was_run(result),
            "## Why this regime, and what other seeds show",
            paragraph(result.settings),
            _figures(result.settings["bits"]),
            _FILES,
            "## Run it again",
            f"```\n{result.settings['command']}\n```",
            _reproducibility(result),
        )
    )


def _how_to_read(result: DemoResult) -> str:
    data, s = result.data, result.settings
    batch = min(result.schedule.batch_size, len(data.train))
    images = len(data.query) + len(data.gallery)
    return f"""\
mAP is the exact expectation over all orders of items at the same Hamming distance, so it does not depend on
the order of the gallery; mAP@100 is divided by the relevant items among the first 100. A query with nothing
within radius 2 counts 0. A dead bit is one that the paper's Eq. 3 amplifies: |h| >= {s["tau"]:g} while the loss wants
it on the other side. Both runs count them in the backward pass by the same rule. Their number depends on the
scale of the loss: here it is the mean over the {batch} x {batch} pairs of a batch, with balanced weights. Exact
zeros are activations with neither sign, among the {images:,} x {s["bits"]} bits that were encoded; such a bit is
stored as 1."""


def _what_was_run(result: DemoResult) -> str:
    data, schedule, s = result.data, result.schedule, result.settings
    batch = min(schedule.batch_size, len(data.train))
    return f"""\
- Data: {data.description}. {len(data.query)} queries, {len(data.gallery):,} gallery
  images, {len(data.train)} of which are the training images; drawn per class by the seed. Pixels from 0 to
  {s["input_scale"]:g}.
- Network: two convolutions and two fully connected layers, {s["bits"]} linear outputs; the same initial weights
  and the same batches in both runs.
- HashNet: pairwise likelihood with `theta = (10 / K) <h_i, h_j>`, balanced pair weights, no quantization term,
  `torch.tanh`; the continuation of the published HashNet, a tanh that grows steeper, is left out.
- HashNet + RDH: the same with `rdh_ext.amplified_tanh` (tau {s["tau"]:g}) in the place of tanh, and with the
  error-aware quantization loss, eta {s["eta"]:g}. Nothing else differs.
- SGD: learning rate {schedule.lr:g} falling to 0 along a cosine, momentum {schedule.momentum:g}, weight decay
  {schedule.weight_decay:g}, batches of {batch}, {schedule.epochs} epochs. The codes are those of the last epoch;
  nothing was chosen on the queries."""


def _figures(bits: int) -> str:
    return f"""\
## Dead bits over training

The paper's Fig. 5. The right panel counts every saturated bit, on the right side or the wrong one.

![Dead and saturated bits per epoch](figures/dead_bits.png)

## Precision and recall

One point for each Hamming radius from 0 to {bits}: precision is the mean over the queries that have anything
within the radius, recall the mean over all.

![Precision-recall curves](figures/pr_curves.png)

## Nearest images

Queries and their ten nearest gallery images with Hamming distances; ties are in gallery order. Green and a tick:
the same digit. Red and a cross: another one. Above, the first query of each digit; below, the queries with the
lowest average precision, mean of both runs: where both do badly.

![Queries and their ten nearest images](figures/neighbours.png)

## The gradient, without and with amplification

The paper's Fig. 3: one bit of a similar pair, h_j = 0.9, eta = 1, computed by the package's operators; it does
not depend on the training above. Left: just left of 0, L2 quantization pushes the bit away from its partner; the
error-aware term leaves such a bit to the similarity loss. Right: deep on the wrong side tanh lets almost nothing
of the gradient through; from |h| >= 0.99 on, the amplifier multiplies what is left by 50.25.

![Gradient of the loss of one pair](figures/gradient.png)"""


_FILES = """\
## Files

- `results.json`: all numbers of this page, the curves, and the means of every epoch.
- `metrics/*.csv`: loss, its two parts, dead and saturated bits and learning rate of every step.
- `codes/*.npy`: packed codes (uint8; bit k is in byte k // 8 at place k % 8), labels, and positions in the data
  set. `numpy.load(path, allow_pickle=False)` reads them."""


def _reproducibility(result: DemoResult) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return f"""\
{versions}; device {result.settings["device"]}. On a CPU the training takes one thread, and the same command with
the same versions gives the same numbers.
"""
