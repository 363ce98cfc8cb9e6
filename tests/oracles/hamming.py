"""Brute force in numpy: packing, distances, neighbours, histograms. Small sizes only: everything is Q x G x K."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pack(h: NDArray) -> NDArray:
    """Bits ``h >= 0``, least significant first."""
    return np.packbits(np.asarray(h) >= 0, axis=1, bitorder="little")


def unpack(codes: NDArray, bits: int) -> NDArray:
    """Signs as float64."""
    return 2.0 * np.unpackbits(codes, axis=1, count=bits, bitorder="little") - 1.0


def bit_planes(codes: NDArray, bits: int) -> NDArray:
    """Bit k of item i at the word and the place that csrc/kernels/hamming.h gives."""
    chunks = -(-len(codes) // 4096)
    words = np.zeros(8 * chunks * bits * 8, dtype=np.uint64)
    k = np.arange(bits)
    for i, row in enumerate(np.unpackbits(codes, axis=1, count=bits, bitorder="little")):
        word = ((8 * (i // 4096) + i // 64 % 8) * bits + k) * 8 + i // 512 % 8
        words[word] |= row.astype(np.uint64) << np.uint64(i % 64)
    return words.view(np.int64).reshape(8 * chunks, bits, 8)


def distances(q: NDArray, g: NDArray) -> NDArray:
    """Differing bits of every pair, int64."""
    out = np.zeros((q.shape[0], g.shape[0]), dtype=np.int64)
    for i, row in enumerate(q):
        out[i] = np.unpackbits(row ^ g, axis=1).sum(1)
    return out


def relevance(q_labels: NDArray, g_labels: NDArray) -> NDArray:
    """Whether two items share a label, from ids or multi-hot rows."""
    if q_labels.ndim == 1:
        return q_labels[:, None] == g_labels[None, :]
    return np.array([[bool(np.any(a & b)) for b in g_labels] for a in q_labels], dtype=bool).reshape(
        len(q_labels), len(g_labels)
    )


def topk(q: NDArray, g: NDArray, k: int) -> tuple[NDArray, NDArray]:
    """A stable sort of everything, cut at k."""
    d = distances(q, g)
    order = np.argsort(d, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(d, order, axis=1), order


def histogram(q: NDArray, g: NDArray, q_labels: NDArray, g_labels: NDArray, bits: int) -> NDArray:
    """Items and relevant items per distance."""
    d, relevant = distances(q, g), relevance(q_labels, g_labels)
    out = np.zeros((q.shape[0], bits + 1, 2), dtype=np.int64)
    for distance in range(bits + 1):
        out[:, distance, 0] = (d == distance).sum(1)
        out[:, distance, 1] = ((d == distance) & relevant).sum(1)
    return out


def stable_ranks(q: NDArray, g: NDArray, q_labels: NDArray, g_labels: NDArray) -> list[NDArray]:
    """Per query, the ranks from 1 of its relevant items in a stable sort of the distances."""
    order = np.argsort(distances(q, g), axis=1, kind="stable")
    sorted_relevance = np.take_along_axis(relevance(q_labels, g_labels), order, axis=1)
    return [np.flatnonzero(row) + 1 for row in sorted_relevance]
