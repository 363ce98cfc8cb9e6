"""What one fresh process of the Hamming benchmark does: ``python _hamming_run.py time '{"shape": ...}'``.

Prints one line of JSON; ends with an error where any result is wrong, before anything is timed. hamming.py starts it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from _hamming_peers import (
    PART,
    SHAPES,
    Inputs,
    Step,
    argsort_map,
    distances_of,
    expected_precision,
    faiss_searches,
    histogram_of,
    make_inputs,
    other_maps,
    stable_precision,
)
from _measure import at_level, cores, machine, sample, with_threads
from peaks import Memory, Unavailable, as_words
from torch import Tensor

import rdh_ext
from rdh_ext import _native

CHECKED = 5  # queries that are compared with numpy
RELATIVE = 1e-12
FEW_ROUNDS = 5  # for what takes half a second or more


class Wrong(Exception):
    """A result that is not what it has to be, in one sentence."""


def require(right: bool, what: str) -> None:
    if not right:
        raise Wrong(what)


def evaluate(x: Inputs, ties: str = "expected") -> rdh_ext.retrieval.EvaluationResult:
    return rdh_ext.evaluate(x.q, x.g, x.q_labels, x.g_labels, ties=ties, bits=x.g_signs.shape[1])


def histogram(x: Inputs) -> Tensor:
    return rdh_ext.hamming_histogram(x.q, x.g, x.q_labels, x.g_labels, bits=x.g_signs.shape[1])


def gallery_of(x: Inputs) -> rdh_ext.retrieval.Gallery:
    """The gallery, prepared."""
    return rdh_ext.retrieval.Gallery(x.g, x.g_labels, bits=x.g_signs.shape[1])


def forms() -> Iterator[tuple[str, Callable[[Step], Step]]]:
    """How else the same is measured: name -> what makes it of a step."""
    for level in _native.cpu_levels()[:-1]:
        yield f"rdh_ext {level}", lambda step, level=level: at_level(level, step)
    if cores() > 1:
        yield "rdh_ext 2 threads", lambda step: with_threads(2, step)


def everywhere(what: str, step: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The result of ``step``, after it came out alike, bit for bit, at every level and on two threads."""
    result = step()
    for name, form in forms():
        other = form(step)()
        assert isinstance(other, tuple)
        require(all(map(torch.equal, result, other)), f"{what}: {name} is not what the best level on one thread gives")
    return result


def check_map(x: Inputs, queries: range) -> float:
    """mAP, after the histograms, both APs, and the plain argsort between the bounds have turned out right."""
    counts, expected = everywhere("mAP", lambda: (histogram(x), evaluate(x).ap))
    (stable,) = everywhere("stable mAP", lambda: (evaluate(x, "stable").ap,))
    for i in queries:
        true = histogram_of(x, i)
        require(np.array_equal(counts[i].numpy(), true), f"the histogram of query {i} is wrong")
        for ties, found, right in (
            ("expected", expected[i].item(), expected_precision(true)),
            ("stable", stable[i].item(), stable_precision(x, i)),
        ):
            require(abs(found - right) <= RELATIVE * right, f"AP of query {i}, {ties}: {found}, and not {right}")
    bounds = [evaluate(x, ties).map for ties in ("pessimistic", "optimistic")]
    by_argsort = argsort_map(x)
    require(bounds[0] - 1e-6 <= by_argsort <= bounds[1] + 1e-6, f"argsort finds {by_argsort}, outside of {bounds}")
    gallery = gallery_of(x)
    for ties, ap in (("expected", expected), ("stable", stable)):
        prepared = gallery.evaluate(x.q, x.q_labels, ties=ties).ap
        require(torch.equal(prepared, ap), f"the prepared gallery gives another AP, {ties}")
    return float(expected.mean())


def check_topk(x: Inputs, k: int, queries: range) -> None:
    """Against a stable sort of some queries, ids and distances; against FAISS all distances, and all ids but those at
    the last distance of a query, of which FAISS takes any."""
    distances, ids = everywhere(f"top-{k}", lambda: rdh_ext.hamming_topk(x.q, x.g, k))
    prepared = gallery_of(x).topk(x.q, k)
    require(all(map(torch.equal, prepared, (distances, ids))), f"top-{k}: the prepared gallery gives another")
    for i in queries:
        true = distances_of(x, i)
        order = np.argsort(true, kind="stable")[:k]
        same = np.array_equal(ids[i].numpy(), order) and np.array_equal(distances[i].numpy(), true[order])
        require(same, f"top-{k} of query {i} is not that of a stable sort")
    nearer = distances < distances[:, -1:]
    ours = torch.where(nearer, ids, -1).sort(1).values
    for name, search in faiss_searches(x).items():
        theirs = [torch.from_numpy(part) for part in search(k)]
        require(torch.equal(theirs[0].to(torch.int16), distances), f"top-{k}: {name} has other distances")
        kept = torch.where(nearer, theirs[1], -1).sort(1).values
        require(torch.equal(kept, ours), f"top-{k}: {name} has other items nearer than the last")


def check_codes(x: Inputs, queries: range) -> None:
    """Distances, packing, unpacking."""
    (distances,) = everywhere("distances", lambda: (rdh_ext.hamming_distance(x.q, x.g),))
    require(torch.equal(gallery_of(x).distance(x.q), distances), "the prepared gallery gives other distances")
    for i in queries:
        require(np.array_equal(distances[i].numpy(), distances_of(x, i)), f"the distances of query {i} are wrong")
    signs = torch.from_numpy(x.g_signs)
    packed, unpacked = everywhere(
        "codes", lambda: (rdh_ext.pack_codes(signs), rdh_ext.unpack_codes(x.g, signs.size(1)))
    )
    require(torch.equal(packed, x.g), "pack_codes is not numpy's packbits")
    require(torch.equal(unpacked, signs), "unpack_codes does not give the signs back")


def scan_steps(x: Inputs) -> tuple[dict[str, Callable[[], int]], str]:
    """Level -> plain scan, and why there is none."""
    try:
        memory = Memory()
        q, g = as_words(x.q.numpy()), as_words(x.g.numpy())
    except Unavailable as reason:
        return {}, str(reason)
    names = memory.scans()
    steps = {f"scan {name}": lambda name=name: memory.scan(name, q, g) for name in names}
    if names and cores() > 1:
        steps["scan 2 threads"] = lambda: memory.scan(names[-1], q, g, threads=2)
    return steps, "" if names else "this CPU has no level of it"


def check_scans(x: Inputs, scans: dict[str, Callable[[], int]]) -> None:
    """Their sums are those of the histograms."""
    counts = histogram(x)[..., 0].sum(0)
    total = int((counts * torch.arange(len(counts))).sum())
    for name, scan in scans.items():
        require(scan() == total, f"{name} finds another sum of distances than the histograms have")


def map_steps(x: Inputs) -> dict[str, Step]:
    """Everything that computes mAP, and the search for the nearest item by FAISS."""

    def ours() -> object:
        return evaluate(x)

    def nearest(search: Callable[[int], object]) -> Step:
        return lambda: search(1)

    steps: dict[str, Step] = {
        "rdh_ext": ours,
        **{name: form(ours) for name, form in forms()},
        "rdh_ext stable": lambda: evaluate(x, "stable"),
        "rdh_ext histogram": lambda: histogram(x),
    }
    gallery = gallery_of(x)
    steps["rdh_ext gallery"] = lambda: gallery.evaluate(x.q, x.q_labels)
    steps["rdh_ext gallery stable"] = lambda: gallery.evaluate(x.q, x.q_labels, ties="stable")
    if cores() > 1:
        more = ("rdh_ext stable", "rdh_ext gallery")
        steps |= {f"{name} 2 threads": with_threads(2, steps[name]) for name in more if name in steps}
    searches = {f"{name} k=1": nearest(search) for name, search in faiss_searches(x).items()}
    return steps | {"numpy argsort": lambda: argsort_map(x)} | searches | other_maps(x)


def topk_steps(x: Inputs, k: int) -> dict[str, Step]:
    """The k nearest of every query."""
    gallery = gallery_of(x)

    def ours() -> object:
        return rdh_ext.hamming_topk(x.q, x.g, k)

    def searching(search: Callable[[int], object]) -> Step:
        return lambda: search(k)

    return {
        "rdh_ext": ours,
        **{name: form(ours) for name, form in forms()},
        "rdh_ext gallery": lambda: gallery.topk(x.q, k),
        **{name: searching(search) for name, search in faiss_searches(x).items()},
    }


def code_steps(x: Inputs) -> dict[str, Step]:
    """Distances, packing and unpacking, by task, each beside the memory it has to touch."""
    signs, bits = torch.from_numpy(x.g_signs), x.g_signs.shape[1]
    unpacked = torch.zeros_like(signs)
    source, target = torch.zeros(2, len(x.q), len(x.g), dtype=torch.int16)

    def distance() -> object:
        return rdh_ext.hamming_distance(x.q, x.g)

    steps: dict[str, Step] = {
        "distance: rdh_ext": distance,
        **{f"distance: {name}": form(distance) for name, form in forms()},
        "distance: a copy": lambda: target.copy_(source),
        "unpack: rdh_ext": lambda: rdh_ext.unpack_codes(x.g, bits),
        "unpack: filling it": lambda: unpacked.fill_(1.0),
        "pack: rdh_ext": lambda: rdh_ext.pack_codes(signs),
    }
    with contextlib.suppress(Unavailable):
        memory = Memory()
        steps["pack: reading it"] = lambda: memory.read(x.g_signs)
    return steps


def not_installed(samples: dict[str, list[float]]) -> list[str]:
    """Peers that did not take part."""
    peers = ("FAISS", "torchmetrics", "scikit-learn")
    return [peer for peer in peers if not any(peer in name for name in samples)]


def slow(name: str) -> bool:
    """Whether a provider takes part in a few rounds only."""
    task, provider = name.split(": ")
    many = provider == "FAISS heap" and task != "top-100"
    return many or provider in ("numpy argsort", "torchmetrics", "scikit-learn", "rdh_ext scalar")


def measure_time(shape: str, queries: int, items: int, rounds: int, seconds: float, seed: int) -> dict[str, Any]:
    """Seconds per round of every provider, under "task: provider", after the checks; and facts of the machine."""
    torch.set_num_threads(1)
    problem = replace(SHAPES[shape], queries=queries, items=items)
    x = make_inputs(problem, seed)
    checked = range(0, queries, max(1, queries // CHECKED))
    scans, missing = scan_steps(x)
    value = check_map(x, checked)
    check_scans(x, scans)
    steps = {f"mAP: {name}": step for name, step in (map_steps(x) | scans).items()}
    for k in problem.topk:
        check_topk(x, k, checked)
        steps |= {f"top-{k}: {name}": step for name, step in topk_steps(x, k).items()}
    if not (problem.multi_hot or problem.trained):
        check_codes(x, checked)
        steps |= code_steps(x)
    fewer = {name: min(FEW_ROUNDS, rounds) for name in steps if slow(name)}
    samples = sample(steps, rounds=rounds, seconds=seconds, fewer=fewer)
    for name in ("mAP: torchmetrics", "mAP: scikit-learn"):
        if name in samples:
            samples[name] = [queries / len(x.q[::PART]) * value for value in samples[name]]
    return {
        "samples": samples,
        "map": value,
        "relevant": float(np.mean([histogram_of(x, i)[:, 1].sum() for i in checked]) / items),
        "different_codes": len(torch.unique(x.g, dim=0)),
        "scan_missing": missing,
        "not_installed": not_installed(samples),
        "machine": machine(),
    }


def main() -> None:
    what, arguments = sys.argv[1], json.loads(sys.argv[2])
    try:
        print(json.dumps({"time": measure_time}[what](**arguments)))
    except Wrong as reason:
        sys.exit(f"wrong: {reason}")


if __name__ == "__main__":
    main()
