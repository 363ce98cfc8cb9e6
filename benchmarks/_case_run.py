"""What one fresh process of `rdh bench` does: ``python _case_run.py '{"cases": [...], "rounds": 11, ...}'``.

Prints one line of JSON per case, as soon as it has it; run.py starts it. Everybody computes once and is compared, then
all take turns, round by round, the ceiling among them; then memory is measured, one after the other.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch._dynamo
from _ceilings import settle
from _measure import die_with_parent, host_threads, machine, mean_seconds, take_rounds
from _pairwise_run import peak_growth
from _problem import OURS, Case, NotHere, Problem, Provider, Wrong
from registry import OPS

CEILING = "ceiling"
PATIENCE = 5.0  # how much more time a patient provider has for its rounds
MEMORY_SECONDS = 5.0  # a call that takes longer is not made again for its memory
COMPILES = ("torch.compile", "KeOps")  # their first call is not like the others


@dataclass(frozen=True)
class Plan:
    """How much is measured: ``limit`` is the longest call that is waited for, ``share`` the seconds that a provider
    has for all its rounds; a single call that takes longer is all there is of it. ``only`` one provider is measured
    where it is given."""

    rounds: int
    seconds: float
    limit: float
    share: float
    seed: int = 0
    memory: bool = True
    only: str | None = None


@dataclass
class Measured:
    """Of one provider of one case; ``samples`` are seconds per call, round by round."""

    kind: str = "peer"
    status: str = "measured"
    reason: str = ""
    samples: list[float] = field(default_factory=list)
    error: float | None = None
    extra_bytes: int | None = None
    version: str = ""


@dataclass(frozen=True)
class Seen:
    """Of a provider in an earlier case of the sweep: what tells how long the next one will take."""

    work: float
    seconds: float
    extra_bytes: int


Before = dict[str, Seen]


def work_of(problem: Problem) -> float:
    """In one number, for comparing cases of one op."""
    cost = problem.cost
    return float(cost.flops or cost.pairs or cost.bytes)


def foreseen(name: str, problem: Problem, before: Before, plan: Plan) -> str:
    """Why it is not worth while to try somebody, or ""."""
    if name not in before or name == OURS:
        return ""
    seen = before[name]
    growth = work_of(problem) / seen.work
    seconds = seen.seconds * growth
    if seconds > plan.limit:
        return f"a call would take about {seconds:,.0f} s, more than {plan.limit:g} s"
    extra = seen.extra_bytes * growth
    if extra > 0.5 * available_bytes():
        return f"it would take about {extra / 2**30:,.0f} GiB of memory"
    return ""


def available_bytes() -> int:
    """What the system would give."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def first_call(name: str, provider: Provider, device: str) -> tuple[float, float | None]:
    """Seconds of the call that is compared, and its error."""
    start = time.perf_counter()
    result = provider.step()
    settle(device)()
    seconds = time.perf_counter() - start
    error = None if provider.check is None else provider.check(result)
    del result
    return seconds, error


def extra_bytes(provider: Provider, device: str) -> int:
    """By which memory grows at most during a call, its result included."""
    if device == "cpu":
        return peak_growth(provider.step)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = provider.step()
    torch.cuda.synchronize()
    del kept
    return torch.cuda.max_memory_allocated() - before


def measure(case: Case, plan: Plan, before: Before) -> dict[str, Any]:
    """What came of everybody."""
    torch.set_num_threads(host_threads(case.threads, case.device))
    torch.manual_seed(plan.seed)
    torch._dynamo.reset()  # a function that is compiled for every size counts as compiled too often
    problem = OPS[case.op].build(case)
    found = {name: Measured(status=reason.status, reason=str(reason)) for name, reason in problem.absent.items()}
    calls: dict[str, int] = {}
    fewer: dict[str, int] = {}
    single: dict[str, float] = {}
    for name, provider in problem.providers.items():
        if plan.only not in (None, name):
            continue
        one = found[name] = Measured(provider.kind, version=provider.version)
        if provider.parts > 1:
            one.reason = f"a part of the work, its time counted {provider.parts:.3g} times"
        if not provider.patient and (reason := foreseen(name, problem, before, plan)):
            one.status, one.reason = "left out", reason
            continue
        try:
            seconds, one.error = first_call(name, provider, case.device)
        except Exception as error:  # whatever somebody else's code raises is his failure and not the case's
            if name == OURS:
                raise
            one.status, one.reason = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            continue
        share = plan.share * (PATIENCE if provider.patient else 1)
        if seconds > share and name != OURS and not name.startswith(COMPILES):
            single[name] = seconds
            continue
        again = mean_seconds(provider.step, 1, settle(case.device))
        if again < plan.seconds:
            again = mean_seconds(provider.step, 3, settle(case.device))
        if again > share and name != OURS:
            single[name] = again
            continue
        calls[name] = max(1, int(plan.seconds / max(again, 1e-7)))
        fewer[name] = max(2, min(plan.rounds, int(share / (again * calls[name]))))
    steps = {name: problem.providers[name].step for name in calls}
    probes = {CEILING: problem.ceiling.probe} if problem.ceiling and plan.only is None else {}
    samples = take_rounds(
        steps, calls, plan.rounds, probes=probes, fewer=fewer, settle=settle(case.device), order=Random(plan.seed)
    )
    for name, values in samples.items():
        if name == CEILING:
            found[CEILING] = Measured("ceiling", samples=values)
        else:
            found[name].samples = [value * problem.providers[name].parts for value in values]
    for name, seconds in single.items():
        found[name].samples = [seconds * problem.providers[name].parts]
    if plan.memory:
        pages_as_touched()
        for name in calls:
            if min(samples[name]) <= MEMORY_SECONDS:
                found[name].extra_bytes = extra_bytes(problem.providers[name], case.device)
    for name in problem.providers:
        if seconds_of := samples.get(name, []) or [each for each in [single.get(name)] if each]:
            before[name] = Seen(work_of(problem), min(seconds_of), found[name].extra_bytes or 0)
    return {
        "title": problem.title,
        "cost": vars(problem.cost),
        "ceiling": problem.ceiling.name if problem.ceiling else "",
        "providers": {name: vars(one) for name, one in found.items()},
        "machine": facts(case.device),
    }


def pages_as_touched() -> None:
    """A page counts when it is touched, and not the 2 MB around it."""
    pr_set_thp_disable = 41
    ctypes.CDLL(None).prctl(pr_set_thp_disable, 1, 0, 0, 0)


def pages_as_they_were() -> None:
    pr_set_thp_disable = 41
    ctypes.CDLL(None).prctl(pr_set_thp_disable, 0, 0, 0, 0)


def facts(device: str) -> dict[str, str]:
    if device == "cuda":
        return {**machine(), "device": torch.cuda.get_device_name(), "level": "cuda"}
    return machine()


def main() -> None:
    die_with_parent()
    arguments = json.loads(sys.argv[1])
    plan = Plan(**arguments["plan"])
    sweeps: dict[str, Before] = {}
    for each in arguments["cases"]:
        case = Case(**each)
        try:
            result = measure(case, plan, sweeps.setdefault(f"{case.op} {case.sweep}", {}))
        except Wrong as error:
            result = {"failed": str(error), "status": "failed"}
        except NotHere as error:
            result = {"failed": str(error), "status": error.status}
        pages_as_they_were()
        if case.device == "cuda":
            torch.cuda.empty_cache()
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
