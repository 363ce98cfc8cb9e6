"""A gallery that is prepared once and asked many times."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from .._labels import check_labels, normalize_labels
from ..ops.bit_planes import CHUNK_ITEMS, bit_planes, planes_shape
from ..ops.hamming_distance import hamming_distance_op
from ..ops.hamming_topk import hamming_topk_op
from ._ranking import LabelledCodes
from .average_precision import check_topk
from .evaluate import check_choices, evaluate_codes
from .result import EvaluationResult
from .sets.manifest import codes_in_words

_LOOKUP = 1 << 20
"""Class ids below it are found in a table, others by sorting."""
_ROWS = 4 * CHUNK_ITEMS
"""Rows of multi-hot labels that are packed at a time."""
_NOTHING = -1
"""A class id that no item of a gallery has."""


class Gallery:
    r"""Codes and labels of a gallery in the forms that the ops read, made once and used for any number of query sets.

    A call of :func:`rdh_ext.evaluate` checks the gallery's codes and labels, and on a CPU transposes them into bit
    planes. A gallery has done that: what remains is the work that depends on the queries. Results are those of the
    functions, bit for bit.

    Args:
        codes: packed codes, uint8 ``[G, ceil(K / 8)]`` as from :func:`rdh_ext.pack_codes`, K up to 4096, CPU or CUDA.
            They are kept and not copied where they are contiguous: do not write to them afterwards. Writes through
            PyTorch are noticed, and an error.
        labels: class ids ``[G]`` (integers >= 0) or multi-hot ``[G, C]`` (bool or 0-1); None for a gallery that is
            searched and not evaluated.
        bits: K; None means every place of the bytes.
        planes: keep bit planes of the codes, for the CPU, which would make them again in every call: with a few queries
            that is most of its work, with hundreds little. They take as much memory as the codes. On CUDA none are
            made.

    Memory: nothing of the caller's labels is kept. Per item, where planes of whole chunks of 4,096 items are full:

    - codes: ``ceil(K / 8)`` bytes, those of the caller where they are contiguous;
    - planes: ``K / 8`` bytes;
    - class ids: 1 byte up to 256 classes, 2 up to 32,768, else 4; and 8 for every class that occurs;
    - multi-hot labels: ``C / 8`` bytes.

    So 64 bits with class ids of CIFAR-10 take 17 bytes, with the 81 labels of NUS-WIDE 26.1; :attr:`nbytes` is what is
    really there. Building it needs some MiB, 8 bytes per item where class ids are not int64, and about 24 where they go
    beyond a million.

    Raises:
        TypeError, ValueError: codes, labels and bits as for :func:`rdh_ext.hamming_histogram`; ``planes`` neither True
            nor False.

    Cost: O(G(K + C)), about that of a few queries; waits for the device. Deterministic. A gallery does not change and
    may be used by several threads.

    Example:
        >>> codes = torch.tensor([[0b11], [0b00], [0b01]], dtype=torch.uint8)
        >>> gallery = rdh_ext.retrieval.Gallery(codes, torch.tensor([7, 3, 7]), bits=2)
        >>> q = torch.tensor([[0b01]], dtype=torch.uint8)
        >>> gallery.topk(q, 2)
        (tensor([[0, 1]], dtype=torch.int16), tensor([[2, 0]]))
        >>> round(gallery.evaluate(q, torch.tensor([7])).map, 4)
        0.9167
        >>> gallery
        Gallery(3 codes of 2 bits, 2 classes, bit planes, on cpu)
    """

    __slots__ = ("_bits", "_classes", "_codes", "_labels", "_planes", "_version")

    def __init__(
        self, codes: Tensor, labels: Tensor | None = None, *, bits: int | None = None, planes: bool = True
    ) -> None:
        op = "Gallery"
        checks.check_codes(op, "codes", codes)
        checks.check_has_values(op, "codes", codes)
        self._bits = checks.check_bits(op, bits, codes=codes)
        checks.check_bool(op, "planes", planes)
        self._codes = codes.detach().contiguous()
        self._version = _version(self._codes)
        self._classes: Tensor | None = None
        self._labels: Tensor | None = None
        if labels is not None:
            check_labels(op, "labels", labels, codes.shape[0], codes.device, check_values=True)
            if labels.dim() == 1:
                self._labels, self._classes = _dense_ids(labels.to(torch.int64))
            else:
                self._labels = _label_planes(labels)
        self._planes = bit_planes(self._codes, self._bits) if planes and self._codes.is_cpu else None

    @property
    def bits(self) -> int:
        """K."""
        return self._bits

    @property
    def device(self) -> torch.device:
        """Where codes and labels are, and queries have to be."""
        return self._codes.device

    @property
    def classes(self) -> int | None:
        """The number of classes that occur, or C of multi-hot labels; None without labels."""
        if self._labels is None:
            return None
        return self._labels.shape[1] if self._classes is None else self._classes.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept."""
        return sum(part.nbytes for part in (self._codes, self._planes, self._labels, self._classes) if part is not None)

    @property
    def nbytes_per_item(self) -> float:
        """:attr:`nbytes` divided by the number of items; 0 for an empty gallery."""
        return self.nbytes / len(self) if len(self) else 0.0

    def __len__(self) -> int:
        return self._codes.shape[0]

    def __repr__(self) -> str:
        codes = codes_in_words(len(self), self._bits)
        labels = "no labels" if self.classes is None else f"{self.classes:,} class{'' if self.classes == 1 else 'es'}"
        planes = "bit planes, " if self._planes is not None else ""
        return f"Gallery({codes}, {labels}, {planes}on {self.device})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._version = _version(self._codes)

    def distance(self, q: Tensor) -> Tensor:
        """:func:`rdh_ext.hamming_distance` of queries and the gallery, int16 ``[Q, G]``.

        Args:
            q: packed query codes, uint8 ``[Q, ceil(K / 8)]``, on the device of the gallery.

        Raises:
            TypeError, ValueError: ``q`` is no tensor of such codes, or (looked at on CPU only) has ones behind bit K.
            RuntimeError: the gallery's codes have been written to.
        """
        self._check_queries("Gallery.distance", q)
        out: Tensor = hamming_distance_op(q, self._codes, self._planes)
        return out

    def topk(self, q: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """:func:`rdh_ext.hamming_topk`: distances and indices of the ``min(k, G)`` nearest, by (distance, index).

        Args:
            q: as for :meth:`distance`.
            k: at least 1.

        Raises:
            TypeError, ValueError, RuntimeError: as :meth:`distance`; ``k`` below 1.
        """
        op = "Gallery.topk"
        self._check_queries(op, q)
        k = checks.check_integer(op, "k", k, low=1, expected="an integer >= 1")
        distances, indices = hamming_topk_op(q, self._codes, min(k, sys.maxsize), self._planes)
        return distances, indices

    def histogram(self, q: Tensor, q_labels: Tensor) -> Tensor:
        """:func:`rdh_ext.hamming_histogram`: items and relevant items per distance, int64 ``[Q, K + 1, 2]``.

        Args:
            q: as for :meth:`distance`.
            q_labels: class ids ``[Q]`` or multi-hot ``[Q, C]``, as the gallery has them. A class that the gallery does
                not have is relevant to nothing.

        Raises:
            TypeError, ValueError, RuntimeError: as :meth:`distance`; labels of another kind or number of classes; a
                gallery without labels.
        """
        return self._labelled("Gallery.histogram", q, q_labels).histogram()

    def evaluate(
        self,
        q: Tensor,
        q_labels: Tensor,
        topk: int | None = None,
        ties: str = "expected",
        denominator: str = "found",
        empty: str = "zero",
    ) -> EvaluationResult:
        """:func:`rdh_ext.evaluate`: mean average precision and everything else.

        Args:
            q, q_labels: as for :meth:`histogram`.
            topk, ties, denominator, empty: as for :func:`rdh_ext.evaluate`.

        Raises:
            TypeError, ValueError, RuntimeError: as :meth:`histogram` and :func:`rdh_ext.evaluate`.
        """
        op = "Gallery.evaluate"
        check_choices(op, ties, denominator, empty)
        topk = check_topk(op, topk)
        codes = self._labelled(op, q, q_labels)
        return evaluate_codes(op, codes, topk=topk, ties=ties, denominator=denominator, empty=empty)

    def to(self, device: torch.device | str) -> Gallery:
        """The gallery on another device; itself where it is there already.

        The labels are as they were. Bit planes are left behind on the way to CUDA and made on the way back to a CPU.
        """
        codes = self._unchanged().to(device)
        if codes.device == self.device:
            return self
        moved = Gallery(codes, bits=self._bits)
        moved._labels = None if self._labels is None else self._labels.to(codes.device)
        moved._classes = None if self._classes is None else self._classes.to(codes.device)
        return moved

    def _unchanged(self) -> Tensor:
        """The codes; an error where something was written to them, which the planes would not know."""
        if _version(self._codes) != self._version:
            raise RuntimeError("Gallery: codes must stay as they are while a gallery uses them, got codes written to")
        return self._codes

    def _check_queries(self, op: str, q: Any) -> None:
        codes = self._unchanged()
        checks.check_codes(op, "q", q)
        if q.device != codes.device:
            checks.fail_value(op, "q", f"on the device of the gallery ({codes.device})", q)
        if q.shape[1] != codes.shape[1]:
            checks.fail_value(op, "q", f"codes as wide as the gallery's ({codes.shape[1]} bytes)", q)
        checks.check_bits(op, self._bits, q=q)

    def _labelled(self, op: str, q: Any, q_labels: Any) -> LabelledCodes:
        """Checked queries and the gallery, with the queries' class ids as the gallery counts them."""
        self._check_queries(op, q)
        if self._labels is None:
            raise ValueError(f"{op}: labels must be given to Gallery(codes, labels) for this, got None")
        check = checks.may_read_values(q)
        q_labels = normalize_labels(op, "q_labels", q_labels, q.shape[0], q.device, check_values=check)
        if (q_labels.dim() == 1) != (self._classes is not None):
            kinds = ("multi-hot rows", "class ids")
            ours, theirs = (kinds[value] for value in (self._classes is not None, q_labels.dim() == 1))
            raise ValueError(f"{op}: q_labels must be {ours} like the gallery's, got {theirs}")
        if self._classes is not None:
            q_labels = _positions(self._classes, q_labels)
        elif q_labels.shape[1] != self._labels.shape[1]:
            raise ValueError(
                f"{op}: q_labels must have the {self._labels.shape[1]} classes of the gallery, got {q_labels.shape[1]}"
            )
        return LabelledCodes(q, self._codes, q_labels, self._labels, self._bits, self._planes)


def _version(codes: Tensor) -> int:
    """Counts writes; tensors made in inference mode do not."""
    return -1 if codes.is_inference() else codes._version


def _smallest_type(classes: int) -> torch.dtype:
    for dtype in (torch.uint8, torch.int16, torch.int32):
        if classes <= torch.iinfo(dtype).max + 1:
            return dtype
    return torch.int64


def _dense_ids(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Every id's place among those that occur, in the smallest type, and these, int64, ascending."""
    if ids.shape[0] == 0 or int(ids.max()) >= _LOOKUP:
        classes, places = torch.unique(ids, return_inverse=True)
        return places.to(_smallest_type(classes.shape[0])), classes
    occurs = torch.zeros(int(ids.max()) + 1, dtype=torch.bool, device=ids.device)
    occurs[ids] = True
    classes = occurs.nonzero().squeeze(1)
    return (occurs.cumsum(0) - 1).to(_smallest_type(classes.shape[0]))[ids], classes


def _positions(classes: Tensor, ids: Tensor) -> Tensor:
    """Where ``ids`` stand in ``classes``; ``_NOTHING`` for those that do not."""
    if classes.shape[0] == 0:
        return torch.full_like(ids, _NOTHING)
    places = torch.searchsorted(classes, ids.contiguous()).clamp(max=classes.shape[0] - 1)
    return torch.where(classes[places] == ids, places, _NOTHING)


def _label_planes(labels: Tensor) -> Tensor:
    """Bit planes of multi-hot rows, some chunks at a time."""
    planes = torch.empty(planes_shape(*labels.shape), dtype=torch.int64, device=labels.device)
    for start in range(0, labels.shape[0], _ROWS):
        rows = labels[start : start + _ROWS]
        block = bit_planes(_pack(rows if rows.dtype == torch.bool else rows != 0), labels.shape[1])
        planes[8 * start // CHUNK_ITEMS :][: block.shape[0]] = block
    return planes


def _pack(rows: Tensor) -> Tensor:
    """Bool rows as packed bits, as :func:`rdh_ext.pack_codes` has them, which reads signs of floats.

    Eight bytes of 0 and 1 are a word, and 2^7 + 2^14 + ... + 2^56 times it has them side by side in its upper byte.
    """
    bytes_per_row = (rows.shape[1] + 7) // 8
    padded = torch.zeros((rows.shape[0], 8 * bytes_per_row), dtype=torch.uint8, device=rows.device)
    padded[:, : rows.shape[1]] = rows
    return ((padded.view(torch.int64) * 0x0102040810204080) >> 56).to(torch.uint8)
