"""Codes and labels of the Hamming cases, and the forms that peers want them in, made when somebody asks.

Codes are random, or "trained": the signs of the sum of the centres of an item's labels and of some noise. Labels are
class ids, or multi-hot rows like those of MS-COCO (_pairwise_peers.py) or of NUS-WIDE.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from _hamming_peers import Floats
from _pairwise_peers import coco_like_labels
from _problem import Case
from torch import Tensor

NOISE = 0.6  # of trained codes, beside centres of +-1


def nuswide_like_labels(items: int, classes: int = 21) -> Tensor:
    """Multi-hot rows like those of the 21 most frequent concepts of NUS-WIDE: shares from 38 % falling geometrically
    to 2.7 %, independent of each other, at least one."""
    share = 0.38 * (0.027 / 0.38) ** (torch.arange(classes) / max(classes - 1, 1))
    rows = torch.rand(items, classes) < share
    empty = ~rows.any(1)
    rows[empty, torch.multinomial(share, items, replacement=True)[empty]] = True
    return rows


class Codes:
    """Queries and a gallery; the attributes are those of ``_hamming_peers.Inputs``."""

    def __init__(self, case: Case) -> None:
        sizes = case.sizes
        self.queries, self.gallery, self.bits = (int(sizes[name]) for name in ("queries", "gallery", "bits"))
        self.labels, self.classes = str(sizes.get("labels", "class ids")), int(sizes.get("classes", 10))
        self.kind = str(sizes.get("codes", "random"))
        self._centers = torch.randint(2, (self.classes, self.bits)) * 2.0 - 1
        self.q_labels, self.g_labels = self._labels_of(self.queries), self._labels_of(self.gallery)
        self.q, self.g = self._codes_of(self.q_labels), self._codes_of(self.g_labels)

    def _labels_of(self, items: int) -> Tensor:
        if self.labels == "multi-hot":
            return coco_like_labels(items, self.classes)
        if self.labels == "multi-hot, NUS-WIDE":
            return nuswide_like_labels(items, self.classes)
        return torch.randint(0, self.classes, (items,))

    def _codes_of(self, labels: Tensor) -> Tensor:
        if self.kind == "trained":
            pieces = [self._trained(part) for part in labels.split(1 << 16)]
            return torch.cat(pieces) if pieces else torch.zeros(0, (self.bits + 7) // 8, dtype=torch.uint8)
        codes = torch.randint(0, 256, (len(labels), (self.bits + 7) // 8), dtype=torch.uint8)
        if self.bits % 8:
            codes[:, -1] &= (1 << self.bits % 8) - 1
        return codes

    def _trained(self, labels: Tensor) -> Tensor:
        sums = self._hot(labels) @ self._centers
        signs = sums + NOISE * torch.randn_like(sums) >= 0
        return torch.from_numpy(np.packbits(signs.numpy(), axis=1, bitorder="little"))

    def _hot(self, labels: Tensor) -> Tensor:
        return labels.float() if labels.dim() == 2 else torch.nn.functional.one_hot(labels, self.classes).float()

    def _signs(self, codes: Tensor) -> Floats:
        bits = np.unpackbits(codes.numpy(), axis=1, bitorder="little")[:, : self.bits]
        return bits.astype(np.float32) * 2 - 1

    @cached_property
    def q_signs(self) -> Floats:
        return self._signs(self.q)

    @cached_property
    def g_signs(self) -> Floats:
        return self._signs(self.g)

    @cached_property
    def q_hot(self) -> Floats:
        return self._hot(self.q_labels).numpy()

    @cached_property
    def g_hot(self) -> Floats:
        return self._hot(self.g_labels).numpy()

    @property
    def pairs(self) -> int:
        return self.queries * self.gallery

    @property
    def title(self) -> str:
        return f"{self.queries:,} x {self.gallery:,}, {self.bits} bits"

    @property
    def title_with_labels(self) -> str:
        kind = f"{self.classes} classes" if self.q_labels.dim() == 1 else f"{self.classes} labels, multi-hot"
        return f"{self.title}, {kind}, {self.kind} codes"
