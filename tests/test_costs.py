"""What benchmarks say that an op has to move and to compute is what its kernel header says."""

from __future__ import annotations

import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest
from benchmark_modules import load

(costs,) = load("costs")

CSRC = Path(__file__).resolve().parents[1] / "csrc"
SIZES = list(product((0, 1, 1_000, 59_000), (1, 59_000, 400_000_000), (1, 12, 64, 4096), (2, 4, 8)))
"""Rows or queries, columns or gallery, bits, and bytes of an element or neighbours."""
HEADERS = (
    *("gradient_amplifier", "pairwise_loss", "pack_codes", "unpack_codes"),
    *("hamming_distance", "hamming_histogram", "hamming_topk"),
)
FORMULAS = (
    "n * bits * (cpu::gradient_amplifier_forward_bytes(e) + cpu::gradient_amplifier_backward_bytes(e))",
    "n * bits * cpu::gradient_amplifier_backward_bytes(e)",
    "pairwise_loss_bytes(n, m, bits, e)",
    "pairwise_loss_bytes(n, 0, bits, e)",
    "pairwise_loss_flops(n, m, bits)",
    "pack_codes_bytes(n, bits, e)",
    "unpack_codes_bytes(n, bits)",
    "hamming_distance_bytes(n, m, bits)",
    "hamming_histogram_bytes(n, m, bits)",
    "hamming_topk_bytes(n, m, bits, e)",
)

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not here")


def program() -> str:
    """Prints a line for every one of SIZES."""
    includes = "".join(f'#include "kernels/{name}.h"\n' for name in HEADERS)
    sizes = ", ".join(f"{{{', '.join(map(str, size))}}}" for size in SIZES)
    values = ", ".join(FORMULAS)
    return f"""#include <cstdio>
{includes}
using namespace rdh;
int main() {{
  constexpr int64_t sizes[][4] = {{{sizes}}};
  for (const auto& [n, m, bits, e] : sizes) {{
    for (const int64_t value : {{{values}}}) std::printf("%lld ", static_cast<long long>(value));
    std::puts("");
  }}
}}
"""


def expected(n: int, m: int, bits: int, e: int) -> list[int]:
    """In the order of FORMULAS; ``e`` are bytes of an element, and neighbours."""
    loss = costs.pairwise_loss(n, m, bits, e)
    return [
        costs.amplified(n, bits, e).bytes,
        costs.gradient_amplifier(n, bits, e).bytes,
        loss.bytes,
        costs.pairwise_loss(n, n, bits, e, with_itself=True).bytes,
        loss.flops,
        costs.pack_codes(n, bits, e).bytes,
        costs.unpack_codes(n, bits).bytes,
        costs.hamming_distance(n, m, bits).bytes,
        costs.hamming_histogram(n, m, bits).bytes,
        costs.hamming_topk(n, m, bits, e).bytes,
    ]


def test_headers_say_the_same(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++, which this builds with; the package itself takes any compiler")
    source = tmp_path / "costs.cpp"
    source.write_text(program())
    command = ["g++", "-std=c++20", "-I", str(CSRC), str(source), "-o", str(tmp_path / "costs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = subprocess.run([tmp_path / "costs"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [[int(value) for value in line.split()] for line in lines] == [expected(*size) for size in SIZES]


def test_pairs_are_all_of_them() -> None:
    for cost in (
        costs.pairwise_loss(3, 5, 8, 4),
        costs.hamming_distance(3, 5, 8),
        costs.hamming_histogram(3, 5, 8),
        costs.hamming_topk(3, 5, 8, 2),
    ):
        assert cost.pairs == 15
