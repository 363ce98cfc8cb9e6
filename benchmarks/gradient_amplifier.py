"""Amplified tanh, forward + backward, one thread, against what people would use otherwise; and its accuracy.

    python benchmarks/gradient_amplifier.py                          # writes results/gradient_amplifier_cpu.csv
    python benchmarks/gradient_amplifier.py --out /tmp/mine.csv --threads 4

Peers: ``eager`` is torch.tanh with a hook that applies Eq. 3; ``compiled`` is torch.compile of an autograd.Function
that does the same from the saved h; ``native tanh`` is torch.tanh alone (no amplification); ``five passes`` is 2.5
copies of the tensor into mapped memory: read x, write h, read x, read g, write dx. ``rdh_ext avx2`` is this package on
a CPU without AVX-512. Every provider is timed in turn within each round: ratios survive a machine that others use too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from _measure import RESULTS, Timing, at_level, keep_memory_mapped, machine, take_turns, write_csv
from _op_amplified_tanh import ALPHA, TAU, by_function, hooked

import rdh_ext
from rdh_ext import _native

BARS = {  # shape -> (provider, ratio that has to hold, what the ratio is)
    (4096, 64): [("eager", 7.0, "at least"), ("compiled", 2.0, "at least")],
    (262144, 64): [("five passes", 1.5, "at most")],
    (1, 1): [("native tanh", 3.0, "at most")],
}


def providers(rows: int, bits: int) -> dict[str, Callable[[], object]]:
    """Name -> one forward and backward at ``[rows, bits]`` float32."""
    x = (torch.randn(rows, bits) * 2).requires_grad_()
    grad = torch.randn(rows, bits)
    amplified = by_function("amplified_tanh")
    compiled = torch.compile(lambda t: amplified(t), fullgraph=True, dynamic=False)

    def training_step(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(x), x, grad)

    ours = training_step(rdh_ext.amplified_tanh)
    slower = [level for level in ("avx2",) if level in _native.cpu_levels() and level != _native.cpu_levels()[-1]]
    source, target = x.detach(), torch.empty(rows, bits).fill_(0)
    return {
        "rdh_ext": ours,
        **{f"rdh_ext {level}": at_level(level, ours) for level in slower},
        "eager": training_step(hooked("amplified_tanh")),
        "compiled": training_step(compiled),
        "native tanh": training_step(torch.tanh),
        "one copy": lambda: target.copy_(source),
    }


def measure(rows: int, bits: int, rounds: int) -> dict[str, Timing]:
    """Timings of all providers, the five passes computed from the copy."""
    timings = take_turns(providers(rows, bits), rounds=rounds)
    copy = timings.pop("one copy")
    timings["five passes"] = Timing(2.5 * copy.p20, 2.5 * copy.p50, 2.5 * copy.p80)
    return timings


def _ulp(value: torch.Tensor) -> torch.Tensor:
    return torch.exp2(torch.floor(torch.log2(value.abs().clamp_min(2.0**-126)))) * 2.0**-23


def accuracy() -> tuple[float, float]:
    """Largest error of forward and gradient in ulp of float32 against float64: every float in [2^-20, 44], both signs,
    and a gradient of random size and sign."""
    first = int(torch.tensor(2.0**-20).view(torch.int32))
    last = int(torch.tensor(44.0).view(torch.int32))
    threshold = torch.atanh(torch.tensor(TAU, dtype=torch.float64))
    worst_forward = worst_gradient = 0.0
    for start in range(first, last, 1 << 22):
        magnitude = torch.arange(start, min(start + (1 << 22), last), dtype=torch.int32).view(torch.float32)
        for sign in (1, -1):
            x = (sign * magnitude).requires_grad_()
            g = torch.randn(magnitude.numel())
            h = rdh_ext.amplified_tanh(x, TAU)
            (gradient,) = torch.autograd.grad(h, x, g)
            wide = x.detach().double()
            true = torch.tanh(wide)
            dead = (wide.abs() >= threshold) & (torch.sign(g) == sign)
            true_gradient = torch.where(dead, ALPHA, 1.0) * g.double() / torch.cosh(wide).square()
            worst_forward = max(worst_forward, float(((h.detach().double() - true).abs() / _ulp(true)).max()))
            error = (gradient.double() - true_gradient).abs() / _ulp(true_gradient)
            worst_gradient = max(worst_gradient, float(error.max()))
    return worst_forward, worst_gradient


def report(shape: tuple[int, int], timings: dict[str, Timing]) -> list[dict[str, str]]:
    """Prints one shape and returns its rows."""
    ours = timings["rdh_ext"].p50
    print(f"\n{shape[0]} x {shape[1]} float32, forward + backward")
    rows = []
    for name, timing in timings.items():
        print(f"  {name:12s} {timing.p50 * 1e6:12.1f} us   {timing.p50 / ours:7.2f} x rdh_ext")
        rows.append(
            {
                "op": "amplified_tanh",
                "mode": "forward+backward",
                "shape": f"{shape[0]}x{shape[1]}",
                "dtype": "float32",
                "provider": name,
                "p20_us": f"{timing.p20 * 1e6:.2f}",
                "p50_us": f"{timing.p50 * 1e6:.2f}",
                "p80_us": f"{timing.p80 * 1e6:.2f}",
                "times_rdh_ext": f"{timing.p50 / ours:.3f}",
            }
        )
    for peer, bar, relation in BARS.get(shape, []):
        ratio = timings[peer].p50 / ours if relation == "at least" else ours / timings[peer].p50
        held = ratio >= bar if relation == "at least" else ratio <= bar
        print(f"  bar against {peer}: {ratio:.2f}, {relation} {bar}: {'holds' if held else 'MISSED'}")
    return rows


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "gradient_amplifier_cpu.csv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=31)
    arguments = parser.parse_args()
    keep_memory_mapped()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows = []
    for shape in ((1, 1), (128, 64), (4096, 64), (262144, 64)):
        rows += report(shape, measure(*shape, arguments.rounds if shape[0] < 100_000 else 11))
    print("\nlargest error over every float in [2^-20, 44], in ulp of float32")
    facts = machine()
    for level in _native.cpu_levels():
        if level != "scalar":
            with _native.forced_cpu_level(level):
                forward, gradient = accuracy()
            print(f"  {level:12s} forward {forward:.2f}   gradient {gradient:.2f}")
            facts |= {f"{level}_forward_ulp": f"{forward:.2f}", f"{level}_gradient_ulp": f"{gradient:.2f}"}
    write_csv(arguments.out, [{**row, **facts} for row in rows])
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
