"""What each op has to move and to compute at least: the formulas in the kernels' headers, ``csrc/kernels/*.h``.

tests/test_costs.py compiles those headers and compares. Bytes count every input read once and every result written
once; what a kernel reads again, or keeps between, is its own affair and shows as a lower share of the ceiling.
"""

from __future__ import annotations

from _problem import Cost


def amplified(rows: int, bits: int, element: int) -> Cost:
    """Forward reads x and writes h, backward reads x and dL/dh and writes dL/dx."""
    return Cost(bytes=5 * rows * bits * element)


def gradient_amplifier(rows: int, bits: int, element: int) -> Cost:
    """The identity forward, which moves nothing; backward reads h and dL/dh and writes dL/dx."""
    return Cost(bytes=3 * rows * bits * element)


def pairwise_loss(rows: int, columns: int, bits: int, element: int, with_itself: bool = False) -> Cost:
    """Two products, theta and the gradient, of 2 K operations a pair each; h and v read, the gradient written."""
    read = rows if with_itself else rows + columns
    return Cost(bytes=(read + rows) * bits * element, flops=4 * rows * columns * bits, pairs=rows * columns)


def pack_codes(rows: int, bits: int, element: int) -> Cost:
    """Activations read, a bit each written."""
    return Cost(bytes=rows * (bits * element + code_bytes(bits)))


def unpack_codes(rows: int, bits: int) -> Cost:
    """A bit each read, four bytes each written."""
    return Cost(bytes=rows * (4 * bits + code_bytes(bits)))


def hamming_distance(queries: int, gallery: int, bits: int) -> Cost:
    """Codes read, two bytes a pair written."""
    codes = (queries + gallery) * code_bytes(bits)
    return Cost(bytes=codes + 2 * queries * gallery, pairs=queries * gallery)


def hamming_histogram(queries: int, gallery: int, bits: int) -> Cost:
    """Codes read, two counts of eight bytes per query and distance written; labels do not count."""
    codes = (queries + gallery) * code_bytes(bits)
    return Cost(bytes=codes + 16 * queries * (bits + 1), pairs=queries * gallery)


def hamming_topk(queries: int, gallery: int, bits: int, k: int) -> Cost:
    """Codes read, a distance of two and an index of eight bytes per neighbour written."""
    codes = (queries + gallery) * code_bytes(bits)
    return Cost(bytes=codes + 10 * queries * k, pairs=queries * gallery)


def code_bytes(bits: int) -> int:
    """Of a packed code."""
    return (bits + 7) // 8
