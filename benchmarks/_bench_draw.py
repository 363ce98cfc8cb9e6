"""How the pictures of `rdh bench` look: curves on two log axes, named at their right ends, and bars.

Colours are those of Okabe and Ito, which are told apart with any colour vision; curves differ in their markers too.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

DPI = 110
SMALL = 58_000  # bytes of a picture, if it can be
WIDTH = 7.5  # inches; 825 pixels
OURS = "#0072B2"
LIMIT = "#444444"
FAINT = "#777777"
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288")
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">")
_LINE = 0.15  # inches of height of a line of small text


@dataclass(frozen=True)
class Curve:
    """A line of a picture; ``label`` stands at its right end, ``lows`` and ``highs`` are its band."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    colour: str = OURS
    marker: str = "o"
    bold: bool = False
    dashed: bool = False
    shaded: bool = False


@dataclass(frozen=True)
class Plot:
    """A picture of curves: what it says around them."""

    title: str
    subtitle: str
    xlabel: str
    ylabel: str
    footer: str
    x_words: Callable[[float], str]
    y_words: Callable[[float], str]
    y_base: int = 10


def new_figure(height: float) -> Any:
    """A figure drawn without a display, and without matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """The same bytes for the same figure; fewer shades, then fewer pixels, where the file would not be small."""
    small = b""
    for dpi, shades in ((DPI, 4), (DPI, 3), (DPI, 2), (100, 3), (90, 3), (80, 2)):
        small = _rendered(figure, dpi, shades)
        if len(small) < SMALL:
            break
    return small


def _rendered(figure: Any, dpi: int, shades: int) -> bytes:
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have letters that the font lacks
        figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None})
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * part) for colour in _colours(shades) for part in colour])
    picture = Image.open(drawn).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def _colours(shades: int) -> list[tuple[float, ...]]:
    """What is drawn with, and its shades towards white, which the edges of letters and lines have."""
    from matplotlib.colors import to_rgb

    drawn = [to_rgb(colour) for colour in (OURS, *COLOURS)]
    greys = [(level / 16,) * 3 for level in range(17)]
    darker = [dark(colour) for colour in (OURS, *COLOURS)]
    levels = [i / shades for i in range(1, shades + 1)]
    mixed = [tuple(1 - x * (1 - part) for part in colour) for colour in drawn + darker for x in levels]
    bands = [tuple(1 - 0.18 * (1 - part) for part in colour) for colour in drawn]
    return list(dict.fromkeys(greys + mixed + bands))


def dark(colour: str) -> tuple[float, float, float]:
    """The same colour, readable as text on white."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    factor = min(1.0, 0.42 / luminance) if luminance else 1.0
    return red * factor, green * factor, blue * factor


def wrapped(text: str, width: int = 25) -> str:
    """On three lines at most."""
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, width)] or [""]
    return "\n".join(lines if len(lines) < 4 else [*lines[:2], f"{lines[2][: width - 2]} …"])


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Middles of labels as near as can be to where they are wanted, none above another, all between low and high.

    With all labels below it taken away, the bottom of a label may be no lower than that of the label below: what comes
    nearest to the wishes then is the mean of those that would fall, in blocks.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    below, blocks = 0.0, list[tuple[float, int]]()  # mean bottom, labels
    for i in order:
        mean, labels = wanted[i] - heights[i] / 2 - below, 1
        while blocks and blocks[-1][0] > mean:
            other, others = blocks.pop()
            mean, labels = (mean * labels + other * others) / (labels + others), labels + others
        blocks.append((mean, labels))
        below += heights[i]
    bottoms = [max(low, min(mean, high - below)) for mean, labels in blocks for _ in range(labels)]
    places, below = [0.0] * len(wanted), 0.0
    for i, bottom in zip(order, bottoms, strict=True):
        places[i] = bottom + below + heights[i] / 2
        below += heights[i]
    return places


def ticks(low: float, high: float, base: int) -> list[float]:
    """Round values on a log axis, four to eight of them where that can be."""
    if base == 2:
        first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
        step = next((step for step in (1, 2, 5, 10) if (last - first) / step <= 7), 10)
        return [2.0**power for power in range(first, last + 1) if power % step == 0]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1,), (1, 3), (1, 2, 5)):
        found = [part * 10.0**power for power in decades for part in parts if low <= part * 10.0**power <= high]
        if len(found) >= 4:
            break
    while len(found) > 8:
        found = found[::2]
    return found


def sparse(values: Sequence[float], words: Callable[[float], str], inches: float) -> list[float]:
    """Of the values of a log axis that is so long those whose words fit beside one another, the last among them."""
    span = math.log(values[-1] / values[0]) or 1.0
    kept: list[float] = []
    edge = math.inf
    for value in reversed(values):
        place, half = inches * math.log(value / values[0]) / span, 0.042 * len(words(value)) + 0.05
        if place + half <= edge:
            kept.append(value)
            edge = place - half
    return kept[::-1]


def curves_figure(plot: Plot, curves: Sequence[Curve]) -> Any:
    """Curves on two log axes."""
    from matplotlib.ticker import NullLocator

    height = 4.6
    figure = new_figure(height)
    labels = [wrapped(curve.label) for curve in curves]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    left, right, bottom, top = 0.8, 0.4 + 0.07 * longest, 0.72, 0.7
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=plot.y_base)
    xs = sorted({x for curve in curves for x in curve.xs})
    values = [y for curve in curves for y in (*curve.ys, *curve.lows, *curve.highs)]
    wide = (xs[-1] / xs[0]) ** 0.03
    margin = max((max(values) / min(values)) ** 0.05, 1.12)
    limits = min(values) / margin, max(values) * margin
    axes.set_xlim(xs[0] / wide, xs[-1] * wide)
    axes.set_ylim(*limits)
    for z, curve in enumerate(curves):
        _draw(axes, curve, limits[0], z)
    shown = sparse(xs, plot.x_words, WIDTH - left - right)
    axes.set_xticks(xs, [plot.x_words(x) if x in shown else "" for x in xs])
    levels = ticks(*limits, plot.y_base)
    axes.set_yticks(levels, [plot.y_words(y) for y in levels])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    dress(axes)
    axes.set_xlabel(_cut(plot.xlabel, 60), fontsize=9.5, parse_math=False)
    _ends(axes, curves, labels, (height - bottom - top))
    _around(figure, plot.title, f"{plot.ylabel}; {plot.subtitle}" if plot.subtitle else plot.ylabel, plot.footer)
    return figure


def _draw(axes: Any, curve: Curve, floor: float, z: int) -> None:
    if curve.shaded:
        axes.fill_between(curve.xs, curve.ys, floor, color="#bbbbbb", alpha=0.35, linewidth=0, zorder=1)
    if curve.lows:
        axes.fill_between(curve.xs, curve.lows, curve.highs, color=curve.colour, alpha=0.18, linewidth=0, zorder=2)
    axes.plot(
        curve.xs,
        curve.ys,
        color=curve.colour,
        marker=None if curve.dashed and len(curve.xs) > 1 else curve.marker,
        markersize=6.5 if curve.bold else 5,
        linewidth=2.8 if curve.bold else 1.5,
        linestyle=(0, (5, 3)) if curve.dashed else "-",
        zorder=30 if curve.bold else 10 - 0.1 * z,
    )


def _ends(axes: Any, curves: Sequence[Curve], labels: Sequence[str], inches: float) -> None:
    """Each label beside the right edge, as high as its curve ends, and a hair to where that is."""
    bottom, top = map(math.log, axes.get_ylim())
    left, right = map(math.log, axes.get_xlim())
    named = [(curve, label) for curve, label in zip(curves, labels, strict=True) if label]
    curves, labels = [curve for curve, _ in named], [label for _, label in named]
    ends = [
        ((math.log(c.xs[-1]) - left) / (right - left), (math.log(c.ys[-1]) - bottom) / (top - bottom)) for c in curves
    ]
    heights = [(label.count("\n") + 1) * _LINE / inches + 0.02 for label in labels]
    places = spread([y for _, y in ends], heights, -0.06, 1.06)
    for curve, label, (x, y), place in zip(curves, labels, ends, places, strict=True):
        colour = dark(curve.colour)
        axes.plot(
            (x + 0.012, 1.012, 1.03),
            (y, y, place) if x > 0.9 else (y, place, place),
            transform=axes.transAxes,
            color=curve.colour,
            linewidth=0.7,
            linestyle=(0, (1, 1)),
            clip_on=False,
            zorder=5,
        )
        axes.text(
            1.037,
            place,
            label,
            transform=axes.transAxes,
            color=colour,
            fontsize=9,
            fontweight="bold" if curve.bold else "normal",
            fontstyle="italic" if curve.shaded else "normal",
            va="center",
            linespacing=1.05,
            parse_math=False,
        )


def dress(axes: Any) -> None:
    """A light grid, no box."""
    axes.tick_params(labelsize=9, color="#999999")
    axes.grid(True, color="#e2e2e2", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")


def _around(figure: Any, title: str, subtitle: str, footer: str) -> None:
    """Title and subtitle above, where it was measured below."""
    width, height = figure.get_size_inches()
    x = 0.12 / width
    text = {"ha": "left", "parse_math": False}
    figure.text(x, 1 - 0.1 / height, _cut(title, 72), fontsize=11.5, fontweight="bold", va="top", **text)
    figure.text(x, 1 - 0.35 / height, _cut(subtitle, 112), fontsize=9, color="#444444", va="top", **text)
    figure.text(x, 0.08 / height, _cut(footer, 122), fontsize=8, color=FAINT, va="bottom", **text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


@dataclass(frozen=True)
class BarLine:
    """A line of a panel of bars: a bar to ``value``, 1 being ours; without one ``note`` says why, in grey."""

    name: str
    value: float | None
    note: str
    colour: str = "#9a9a9a"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """The bars of an op."""

    title: str
    subtitle: str
    bars: Sequence[BarLine]


_BAR, _HEAD, _GAP = 0.2, 0.4, 0.14  # inches of height: of a bar, above a panel, below it
_NAME, _SUBTITLE = 26, 64  # letters of a name, and above a panel


def bars_figure(title: str, subtitle: str, footer: str, panels: Sequence[Panel]) -> Any:
    """A panel for each op in two columns, all on one log axis."""
    sizes = [_HEAD + _BAR * len(panel.bars) + _GAP for panel in panels]
    split = min(range(1, len(panels) + 1), key=lambda i: max(sum(sizes[:i]), sum(sizes[i:])))
    columns = [panels[:split], panels[split:]]
    heights = [sum(sizes[:split]), sum(sizes[split:])]
    alone = not columns[1]
    top, bottom = 0.6, 0.36
    height = top + max(heights) + bottom
    figure = new_figure(height)
    values = [v for panel in panels for bar in panel.bars for v in (bar.value, bar.low, bar.high) if v]
    low, high = min((*values, 0.5)), max((*values, 2.0))
    span = math.log(high / low)
    for number, column in enumerate(columns):
        width = (WIDTH - 0.2) / (1 if alone else 2)
        edge, y = 0.1 + number * width, top
        left = 0.2 + 0.066 * max((len(_cut(bar.name, _NAME)) for panel in column for bar in panel.bars), default=0)
        for panel in column:
            y += _HEAD
            inside = _BAR * len(panel.bars)
            place = ((edge + left) / WIDTH, 1 - (y + inside) / height, (width - left - 0.62) / WIDTH, inside / height)
            axes = figure.add_axes(place)
            _panel(axes, panel, (low / math.exp(0.04 * span), high), named=panel is column[-1])
            x = (edge + 0.02) / WIDTH
            text = {"va": "bottom", "ha": "left", "parse_math": False}
            figure.text(x, 1 - (y - 0.19) / height, _cut(panel.title, 44), fontsize=9.5, fontweight="bold", **text)
            figure.text(
                x, 1 - (y - 0.035) / height, _cut(panel.subtitle, _SUBTITLE), fontsize=8, color="#555555", **text
            )
            y += inside + _GAP
    _around(figure, title, subtitle, footer)
    return figure


def _panel(axes: Any, panel: Panel, limits: tuple[float, float], *, named: bool) -> None:
    """The bars; ``named``: its powers of ten are said below it."""
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(len(panel.bars) - 0.5, -0.5)
    axes.axis("off")
    powers = range(math.ceil(math.log10(limits[0])), math.floor(math.log10(limits[1])) + 1)
    for power in powers:
        is_ours = power == 0
        axes.axvline(
            10.0**power, color="#999999" if is_ours else "#e2e2e2", linewidth=0.9 if is_ours else 0.6, zorder=0
        )
        if named:
            told = {"ha": "center", "va": "top", "fontsize": 7.5, "color": FAINT}
            axes.annotate(f"{10.0**power:,g} x", (10.0**power, len(panel.bars) - 0.5), annotation_clip=False, **told)
    text = {"va": "center", "fontsize": 8.5, "parse_math": False}
    from matplotlib.transforms import blended_transform_factory

    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for place, bar in enumerate(panel.bars):
        ours = bar.colour == OURS
        colour = FAINT if bar.value is None else dark(bar.colour)
        weight = "bold" if ours else "normal"
        axes.text(
            -0.03, place, _cut(bar.name, _NAME), transform=beside, ha="right", color=colour, fontweight=weight, **text
        )
        if bar.value is None:
            _note(axes, bar.note, 1.0, place, color=FAINT, fontstyle="italic", **text)
            continue
        axes.barh(place, bar.value - 1, left=1, height=0.66, color=bar.colour, linewidth=0, zorder=2)
        if ours:
            axes.plot([1], [place], marker="o", markersize=6, color=OURS, zorder=4, clip_on=False)
        if bar.low and bar.high:
            axes.plot([bar.low, bar.high], [place, place], color="#222222", linewidth=0.9, zorder=3)
        end = max(1.0, bar.value, bar.high or 0)
        _note(axes, bar.note, end, place, color=colour, fontweight=weight, **text)


def _note(axes: Any, note: str, x: float, y: float, **style: Any) -> None:
    axes.annotate(note, (x, y), (6, 0), textcoords="offset points", annotation_clip=False, **style)
