"""From the samples of the pairwise benchmark to its rows and its bars; how ratios are taken is in pairwise_loss.py."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from _bars import Bar, Run, mean, ratios
from _measure import timing
from _pairwise_peers import FASTEST, Shape

OURS = "rdh_ext"
PEERS = (
    "eager",
    "eager BCE",
    "compiled",
    "compiled BCE",
)  # forms of the closed form that get S; others are in the table
TIME_BARS = (  # shape, what, relation, limit
    ("128x5000", FASTEST, ">=", 3.5),
    ("128x5000", "floor", "<=", 1.3),
    ("128x5000", "literal", ">=", 600.0),
    ("128x5000", "avx2", ">=", 2.0),
    ("1024x10500", FASTEST, ">=", 4.5),
    ("1024x10500", "floor", "<=", 1.4),
    ("1024x10500", "2 threads", ">=", 1.8),
    ("128x128", FASTEST, ">=", 3.5),
    ("128x10000-multi-hot", FASTEST, ">=", 4.0),
    ("128x10000-multi-hot", "class ids", "<=", 1.2),
)
GRADIENT_ERROR = 1e-6
FLOATS = 4.0  # extra memory in (B + N) K floats
DOUBLING = 2.2  # extra memory at 2 N in that at N; less than 4 MiB count as 4, below which it is pages and chance


def with_floor(shape: Shape, run: Run) -> Run:
    """Adds the floor of every round: theta and P V at the rate of that round, and the elementwise part."""
    samples = run["samples"]
    if "fma" in samples and "elementwise" in samples:
        operations = 2 * 2 * shape.pairs * shape.bits
        parts = zip(samples["fma"], samples["elementwise"], strict=True)
        samples["floor"] = [operations / rate + shape.pairs * per_pair for rate, per_pair in parts]
    return run


def peers_of(runs: list[Run]) -> list[str]:
    return [name for name in PEERS if name in runs[0]["samples"]]


def best_process(runs: list[Run], provider: str) -> int:
    """Where it was fastest."""
    return min(range(len(runs)), key=lambda k: median(runs[k]["samples"][provider]))


def fastest(runs: list[Run], against: str = OURS) -> tuple[str, float | None]:
    """The fastest peer, and how many times as long as ``against`` it takes: each peer in its own best process."""
    best = {peer: ratios([runs[best_process(runs, peer)]], peer, against) for peer in peers_of(runs)}
    found = {peer: ratio[0] for peer, ratio in best.items() if ratio}
    name = min(found, key=lambda peer: found[peer], default="none")
    return name, found.get(name)


def _time_bar(shape: str, what: str, relation: str, limit: float, runs: list[Run]) -> Bar:
    def middle(slow: str, fast: str) -> float | None:
        found = ratios(runs, slow, fast)
        return median(found) if found else None

    if what in (FASTEST, "avx2"):
        provider = OURS if what == FASTEST else "rdh_ext avx2"
        peer, figure = fastest(runs, provider)
        return Bar(shape, f"fastest peer ({peer}) / {provider}", relation, limit, figure)
    if what == "literal":
        figure = ratios([runs[best_process(runs, "literal")]], "literal", OURS)[0]
        return Bar(shape, "Eq. 4 literal / rdh_ext", relation, limit, figure)
    if what == "floor":
        return Bar(shape, "rdh_ext / floor", relation, limit, middle(OURS, "floor"))
    if what == "2 threads":
        return Bar(shape, "one thread / two threads", relation, limit, middle(OURS, "rdh_ext 2 threads"))
    return Bar(shape, "multi-hot / class ids", relation, limit, middle(OURS, "rdh_ext class ids"))


def error(runs: list[Run], provider: str, kind: str) -> float | None:
    """Mean over the processes of a relative error; None where nobody has it."""
    found = [run["errors"][provider][kind] for run in runs if kind in run["errors"].get(provider, {})]
    return mean(found) if found else None


def _error_bars(shape: str, runs: list[Run]) -> Iterator[Bar]:
    for provider in (OURS, "rdh_ext avx2"):
        ours = error(runs, provider, "gradient")
        eager = max(error(runs, name, "gradient") or 0.0 for name in ("eager", "eager BCE"))
        if ours is not None:
            yield Bar(shape, f"gradient error of {provider}", "<=", GRADIENT_ERROR, ours)
            yield Bar(shape, f"gradient error of {provider} / of eager", "<=", 1.0, ours / eager)


def _memory_bars(memory: list[dict[str, str]]) -> Iterator[Bar]:
    for labels in dict.fromkeys(row["labels"] for row in memory):
        rows = [row for row in memory if row["labels"] == labels and row["provider"] == OURS]
        name = f"{rows[0]['rows']}x{rows[-1]['columns']}"
        floats = max(float(row["floats_per_code_element"]) for row in rows)
        yield Bar(name, f"extra memory in (B + N) K floats, {labels}", "<=", FLOATS, floats)
        sizes = [max(int(row["extra_bytes"]), 4 << 20) for row in rows]
        growth = max((b / a for a, b in pairwise(sizes)), default=1.0)
        yield Bar(name, f"extra memory at 2 N / at N, {labels}", "<=", DOUBLING, growth)


def check(runs: dict[str, list[Run]], memory: list[dict[str, str]]) -> list[Bar]:
    """Every bar of what was measured."""
    times = [_time_bar(*bar, runs[bar[0]]) for bar in TIME_BARS if bar[0] in runs]
    errors = [bar for shape, ones in runs.items() for bar in _error_bars(shape, ones)]
    return [*times, *errors, *_memory_bars(memory)]


def _form(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def rows_of(shape: Shape, runs: list[Run]) -> list[dict[str, str]]:
    """One row per provider: of a peer its best process, of rdh_ext and the floor the middle one."""
    rows = []
    for provider in runs[0]["samples"]:
        if provider in ("fma", "fma 2 threads", "elementwise"):
            continue
        per_process = ratios(runs, provider, OURS)
        by_time = sorted(range(len(runs)), key=lambda k: median(runs[k]["samples"][provider]))
        ours_or_floor = provider == "floor" or provider.startswith(OURS)
        chosen = by_time[(len(runs) - 1) // 2 if ours_or_floor else 0]
        time = timing(runs[chosen]["samples"][provider])
        shown = median(per_process) if ours_or_floor else per_process[chosen]
        rows.append(
            {
                "op": "pairwise_loss",
                "mode": "forward+backward",
                "shape": shape.name,
                "bits": str(shape.bits),
                "labels": "multi-hot" if shape.multi_hot and provider != "rdh_ext class ids" else "class ids",
                "dtype": "float32",
                "provider": provider,
                "p20_us": f"{time.p20 * 1e6:.2f}",
                "p50_us": f"{time.p50 * 1e6:.2f}",
                "p80_us": f"{time.p80 * 1e6:.2f}",
                "times_rdh_ext": f"{shown:.3f}",
                "times_rdh_ext_lowest": f"{min(per_process):.3f}",
                "times_rdh_ext_median": f"{median(per_process):.3f}",
                "times_rdh_ext_highest": f"{max(per_process):.3f}",
                "processes": str(len(runs)),
                **{
                    f"{kind}_error{suffix}": _form(error(runs, provider, f"{kind}{suffix}"), ".2e")
                    for kind, suffix in (
                        ("gradient", ""),
                        ("gradient", "_trained"),
                        ("loss", ""),
                        ("likelihood", ""),
                        ("quantization", ""),
                    )
                },
                "similar_share": f"{mean(run['similar'] for run in runs):.3f}",
            }
        )
    return rows


def remarks(runs: list[Run]) -> list[str]:
    """About the machine, and what is missing of the floor."""
    samples = [run["samples"] for run in runs]
    lines = []
    if "fma" in samples[0]:
        one = median(median(s["fma"]) for s in samples)
        lines.append(f"fused multiply-adds: {one / 1e9:.0f} Gflop/s on one thread")
        if "fma 2 threads" in samples[0]:
            two = median(median(a / b for a, b in zip(s["fma 2 threads"], s["fma"], strict=True)) for s in samples)
            lines[-1] += f", {two:.2f} times that on two"
    if runs[0]["floor_missing"]:
        lines.append(f"no floor: {runs[0]['floor_missing']}")
    return lines
