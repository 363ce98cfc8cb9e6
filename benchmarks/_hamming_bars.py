"""From the samples of the Hamming benchmark to its rows and its bars; how ratios are taken is in hamming.py."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from _bars import Bar, Run, mean, ratios
from _hamming_peers import Shape
from _measure import timing

OURS = "rdh_ext"
AGAINST_ARGSORT = 100.0
AGAINST_FAISS = 2.5
OF_THE_SCAN = 0.3
STABLE = 4.0  # with every tenth item relevant
TOPK_AGAINST_FAISS = {100: 6.0, 1000: 5.0, 5000: 12.0}
TWO_THREADS = 1.8


def middle(runs: list[Run], slow: str, fast: str) -> float | None:
    """The median over the processes of their ratios."""
    found = ratios(runs, slow, fast)
    return median(found) if found else None


def fastest(runs: list[Run], task: str, beginning: str, against: str = OURS) -> tuple[str, float | None]:
    """Of the providers of a task whose names begin so, on one thread, the fastest, and its multiple of ``against``."""
    prefix = f"{task}: {beginning}"
    names = [name for name in runs[0]["samples"] if name.startswith(prefix) and "threads" not in name]
    found = {name: middle(runs, name, f"{task}: {against}") for name in names}
    known = {name.removeprefix(f"{task}: "): ratio for name, ratio in found.items() if ratio is not None}
    name = min(known, key=lambda name: known[name], default="none")
    return name, known.get(name)


def _bars_of(shape: Shape, runs: list[Run]) -> Iterator[Bar]:
    def bar(what: str, relation: str, limit: float, figure: float | None) -> Bar:
        return Bar(shape.name, what, relation, limit, figure)

    argsort = middle(runs, "mAP: numpy argsort", "mAP: rdh_ext")
    yield bar("mAP: numpy argsort / rdh_ext", ">=", AGAINST_ARGSORT, argsort)
    peer, figure = fastest(runs, "mAP", "FAISS")
    yield bar(f"mAP: {peer} / rdh_ext", ">=", AGAINST_FAISS, figure)
    peer, figure = fastest(runs, "mAP", "scan")
    if not runs[0]["machine"]["level"].startswith("avx512"):
        figure = None
    yield bar(f"mAP: pairs per second of rdh_ext / of the {peer}", ">=", OF_THE_SCAN, figure)
    if not shape.multi_hot:
        stable = middle(runs, "mAP: rdh_ext stable", "mAP: rdh_ext")
        yield bar("mAP: stable / expected", "<=", STABLE, stable)
    yield bar(
        "mAP: one thread / two threads", ">=", TWO_THREADS, middle(runs, "mAP: rdh_ext", "mAP: rdh_ext 2 threads")
    )
    for k in shape.topk:
        peer, figure = fastest(runs, f"top-{k}", "FAISS")
        yield bar(f"top-{k}: {peer} / rdh_ext", ">=", TOPK_AGAINST_FAISS[k], figure)


def check(shapes: dict[str, Shape], runs: dict[str, list[Run]]) -> list[Bar]:
    """Every bar of what was measured."""
    return [bar for name, ones in runs.items() for bar in _bars_of(shapes[name], ones)]


OPS = {"mAP": "evaluate", "distance": "hamming_distance", "pack": "pack_codes", "unpack": "unpack_codes"}


def rows_of(shape: Shape, runs: list[Run]) -> list[dict[str, str]]:
    """One row per task and provider: the time of the middle process, the median of the ratios of all."""
    rows = []
    for name in runs[0]["samples"]:
        task, provider = name.split(": ")
        per_process = ratios(runs, name, f"{task}: {OURS}")
        by_time = sorted(runs, key=lambda run: median(run["samples"][name]))
        time = timing(by_time[(len(runs) - 1) // 2]["samples"][name])
        pairs = "" if "pack" in task else f"{shape.pairs / time.p50 / 1e9:.4g}"
        rows.append(
            {
                "op": OPS.get(task, "hamming_topk"),
                "task": task,
                "shape": shape.name,
                "queries": str(shape.queries),
                "items": str(shape.items),
                "bits": str(shape.bits),
                "labels": f"{shape.classes} multi-hot" if shape.multi_hot else f"{shape.classes} class ids",
                "provider": provider,
                "p20_us": f"{time.p20 * 1e6:.2f}",
                "p50_us": f"{time.p50 * 1e6:.2f}",
                "p80_us": f"{time.p80 * 1e6:.2f}",
                "gpairs_per_second": pairs,
                "times_rdh_ext": f"{median(per_process):.3f}",
                "times_rdh_ext_lowest": f"{min(per_process):.3f}",
                "times_rdh_ext_highest": f"{max(per_process):.3f}",
                "processes": str(len(runs)),
                "map": f"{mean(run['map'] for run in runs):.5f}",
                "relevant_share": f"{mean(run['relevant'] for run in runs):.3f}",
            }
        )
    return rows


def remarks(runs: list[Run]) -> list[str]:
    """About the machine, and what is missing."""
    lines = []
    if runs[0]["scan_missing"]:
        lines.append(f"no plain scan: {runs[0]['scan_missing']}")
    scan, _ = fastest(runs, "mAP", "scan")
    if two := middle(runs, f"mAP: {scan}", "mAP: scan 2 threads"):
        lines.append(f"the {scan} on two threads is {two:.2f} times as fast as on one")
    lines += [f"{name} is not installed" for name in runs[0]["not_installed"]]
    return lines
