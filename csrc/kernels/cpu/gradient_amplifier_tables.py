"""Writes gradient_amplifier_tables.h: tanh, and e / (1 + e)^2, as 32 polynomials each, for lanes that can look up.

    python csrc/kernels/cpu/gradient_amplifier_tables.py            # writes the header
    python csrc/kernels/cpu/gradient_amplifier_tables.py --check    # exits 1 if the header does not hold these tables

tanh(z), z in [0, 9.25], four polynomials of degree 5 to an octave. An interval is found from the top bits of the float:
bits >> 21 counts quarters of octaves, and its low five bits are the index, so [2^-4, 2^4) fills the table. Everything
below 1.25 * 2^-4 belongs to the first interval, whose center is 0. tanh(z) = c0 + d (c1 + d (c2 + ... d c5)) with
d = z - center. Each center is a float near the middle of its interval at which tanh is almost exactly a float (Gal's
accurate tables), so that c0 adds no error of its own.

e / (1 + e)^2 with e = exp(-rate |x|) = 2^-n 2^f, f in [-1/2, 1/2]: 2^-n times one polynomial of degree 6 in f for each
n; from n = 31 on they are all 2^f. The index is -n modulo 32.

All coefficients are a minimax fit of the error in units in the last place (Lawson's iteration), rounded to float. Needs
numpy.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np

HEADER = Path(__file__).resolve().with_suffix(".h")
LARGEST = 9.25  # tanh rounds to 1 from 9.011 on
FIRST = (127 - 4) * 4  # bits >> 21 of 2^-4


def ulp(value: np.ndarray) -> np.ndarray:
    """Spacing of float32 at ``value``."""
    return np.exp2(np.floor(np.log2(value)) - 23)


def nodes(low: float, high: float) -> np.ndarray:
    """Chebyshev's nodes in ``[low, high]``."""
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(400) + 0.5) / 400)


def minimax(d: np.ndarray, value: np.ndarray, scale: np.ndarray, powers: list[int]) -> dict[int, float]:
    """Coefficients of ``powers`` of ``d`` that minimise the largest ``|error| / scale``, as floats."""
    basis = np.stack([d**p for p in powers], axis=1) / scale[:, None]
    target = value / scale
    unit = np.abs(basis).max(axis=0)
    weights = np.ones_like(d)
    for _ in range(60):
        root = np.sqrt(weights)[:, None]
        solution, *_ = np.linalg.lstsq(basis / unit * root, target * root[:, 0], rcond=None)
        weights = weights * (np.abs(basis / unit @ solution - target) + 1e-12)
        weights /= weights.max()
    return {power: float(np.float32(c)) for power, c in zip(powers, solution / unit, strict=True)}


def tanh_interval(quarter: int) -> tuple[float, float]:
    """``[low, high)`` of an index counted from FIRST."""
    octave, part = divmod(quarter, 4)
    low, high = (float(2.0 ** (octave - 4) * (1 + (part + i) / 4)) for i in (0, 1))
    return (0.0 if quarter == 0 else low), min(high, LARGEST)


def accurate_center(low: float, high: float) -> float:
    """A float32 near the middle where tanh is closest to a float32."""
    middle = np.array([(low + high) / 2], np.float32).view(np.int32)
    candidates = (middle + np.arange(-4096, 4096, dtype=np.int32)).view(np.float32)
    value = np.tanh(candidates.astype(np.float64))
    distance = np.abs(value - value.astype(np.float32)) / ulp(value)
    return float(candidates[np.argmin(distance)])


def tanh_table() -> np.ndarray:
    """``[7, 32]`` float32, column = bits >> 21 modulo 32: the center, then c0 to c5."""
    rows = np.zeros((7, 32), np.float32)
    for quarter in range(32):
        low, high = tanh_interval(quarter)
        if low >= high:
            continue  # beyond LARGEST: never looked up
        center = 0.0 if quarter == 0 else accurate_center(low, high)
        c0 = float(np.float32(np.tanh(center)))
        z = nodes(low, high)
        fitted = minimax(z - center, np.tanh(z) - c0, ulp(np.tanh(z)), [1, 3, 5] if quarter == 0 else [1, 2, 3, 4, 5])
        column = (FIRST + quarter) % 32
        rows[:2, column] = center, c0
        for power, c in fitted.items():
            rows[1 + power, column] = c
    return rows


def derivative_table() -> np.ndarray:
    """``[7, 32]`` float32, column = -n modulo 32: c0 to c6 of ``2^f / (1 + 2^(f - n))^2``."""
    rows = np.zeros((7, 32), np.float32)
    for n in range(32):
        f = nodes(-0.5, 0.0 if n == 0 else 0.5)
        power = 0.0 if n == 31 else np.exp2(f - n)
        value = np.exp2(f) / (1 + power) ** 2
        c0 = float(np.float32(1 / (1 + (0.0 if n == 31 else 2.0**-n)) ** 2))
        rows[0, -n % 32] = c0
        for degree, c in minimax(f, value - c0, value, [1, 2, 3, 4, 5, 6]).items():
            rows[degree, -n % 32] = c
    return rows


def literals(rows: np.ndarray) -> list[str]:
    """The rows as C++ hexadecimal floats, four to a line."""
    lines = []
    for row in rows:
        values = [f"{re.sub('0*p', 'p', float(v).hex())}f" if v else "0.0f" for v in row]
        lines += ["    {", *("     " + ", ".join(values[i : i + 4]) + "," for i in range(0, 32, 4)), "    },"]
    return lines


def render() -> str:
    """The header's text."""
    return "\n".join(
        [
            "// Written by gradient_amplifier_tables.py, which explains it; do not edit.",
            "#pragma once",
            "",
            "// clang-format off",
            "namespace rdh::tables {",
            "",
            f"constexpr float tanh_largest = {LARGEST}f;  // tanh is 1 beyond it",
            f"constexpr int tanh_first = {FIRST};  // bits >> 21 below this one belong to its interval",
            "",
            "// row 0: the center of an interval; rows 1 to 6: c0 to c5",
            "alignas(64) constexpr float tanh[7][32] = {",
            *literals(tanh_table()),
            "};",
            "",
            "// c0 to c6 of 2^f / (1 + 2^(f - n))^2; column -n modulo 32",
            "alignas(64) constexpr float derivative[7][32] = {",
            *literals(derivative_table()),
            "};",
            "",
            "}  // namespace rdh::tables",
            "// clang-format on",
            "",
        ]
    )


def agrees(text: str) -> bool:
    """The header holds these tables; the last digits of the fits depend on the machine's linear algebra."""
    numbers = [float.fromhex(word) for word in re.findall(r"(-?0x[0-9a-f.]+p[+-]\d+|(?<=[ ,])0\.0)f", text)]
    expected = np.concatenate([tanh_table().ravel(), derivative_table().ravel()])
    return len(numbers) == expected.size and np.allclose(numbers, expected, rtol=1e-3, atol=1e-9)


def main() -> None:
    """Writes or checks the header."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the header holds others")
    if parser.parse_args().check:
        sys.exit(not agrees(HEADER.read_text()))
    HEADER.write_text(render())
    print(f"written: {HEADER}")


if __name__ == "__main__":
    main()
