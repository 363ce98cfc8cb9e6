"""Mean average precision in Hamming space for training loops. Importing this file imports torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn
from torchmetrics.utilities.distributed import gather_all_tensors

from .. import _checks as checks
from .._labels import check_label_pair, normalize_labels
from ..ops.pack_codes import check_activations, pack_checked
from ._ranking import LabelledCodes
from .average_precision import check_topk
from .evaluate import check_choices, evaluate_codes
from .result import EvaluationResult

_METRIC = "HammingMAP"
_ITEMS = ("q_codes", "q_labels", "g_codes", "g_labels")
ROLES = ("both", "query", "gallery")


class HammingMAP(Metric):
    """mAP of codes ranked by Hamming distance, collected batch by batch: :func:`rdh_ext.evaluate` for torchmetrics.

    ``AP@k = (1 / D) sum over relevant ranks i <= k of (relevant among the first i) / i``, averaged over the orders of
    tied items and over the queries. A Lightning module with two validation loaders, queries and gallery, has it as an
    attribute::

        def validation_step(self, batch, batch_idx, dataloader_idx):
            x, labels = batch
            self.map.update(self(x), labels, role=("query", "gallery")[dataloader_idx])

        def on_validation_epoch_end(self):
            self.log("map", self.map)  # Lightning computes and resets it

    Args:
        bits: K, 1 to 4096; None takes it from the first update. Needed where updates bring packed codes and K is no
            multiple of 8.
        topk, ties, denominator, empty: as for :func:`rdh_ext.evaluate`.
        kwargs: those of ``torchmetrics.Metric``, such as ``process_group``.

    Attributes:
        bits: K, None as long as nobody said it.
        result: the :class:`rdh_ext.retrieval.EvaluationResult` of the last :meth:`compute` (or of the last batch that
            was passed to the metric as a function), with ``precision_at(n)``, ``pr_curve()`` and more; a reset leaves
            it. None before there is one.

    Raises:
        ValueError, TypeError: ``bits`` or ``topk`` out of range, an unknown choice, an unknown keyword.

    Calling the metric as a function adds a batch too, and evaluates this batch alone, which says something only where
    it has queries and gallery: :meth:`update` is what a loop wants. In a ``MetricCollection`` metrics with other
    ``topk``, ``ties`` and so on share what was collected.

    Ranks of a process group, some of which may have nothing, get the value of one process that saw all items, each
    computing it: with ``ties="stable"`` in the order of ranks and in each rank that of its updates, else in any order
    and bit for bit. What differs between ranks (K, the kind of labels) is an error on every rank. An item that is on
    two ranks is there twice: ``DistributedSampler``, which Lightning inserts, repeats some where the ranks would get
    unequal numbers of items; ``Trainer(use_distributed_sampler=False)`` and a sampler of your own avoid that.

    Memory: per item ``ceil(K / 8)`` bytes of code and 8 of class id or C of multi-hot labels, on the device of the
    metric (with ``compute_on_cpu=True`` on the CPU), and the same again while computing. Nothing of it goes into a
    checkpoint. Deterministic.

    Example:
        >>> metric = rdh_ext.retrieval.HammingMAP(topk=2)
        >>> metric.update(torch.tensor([[0.3, -0.8]]), torch.tensor([7]), role="query")
        >>> h = torch.tensor([[0.9, 0.2], [-0.1, -0.4], [0.5, -0.5]])
        >>> metric.update(h, torch.tensor([7, 3, 7]), role="gallery")
        >>> metric.compute()
        tensor(1.)
        >>> metric.result.recall_at(2), metric.bits
        (0.75, 2)
    """

    is_differentiable: bool = False
    higher_is_better: bool = True
    full_state_update: bool = False
    __jit_unused_properties__: ClassVar[list[str]] = [*Metric.__jit_unused_properties__, "bits"]

    if TYPE_CHECKING:  # TorchScript, given a module that has a metric, cannot read them
        layout: list[Tensor]  # [0, K, C], C = 0 for class ids: shapes are read without waiting for a device
        q_codes: list[Tensor]
        q_labels: list[Tensor]
        g_codes: list[Tensor]
        g_labels: list[Tensor]

    def __init__(
        self,
        bits: int | None = None,
        *,
        topk: int | None = None,
        ties: str = "expected",
        denominator: str = "found",
        empty: str = "zero",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if bits is not None:
            expected = f"an integer in [1, {checks.MAX_BITS}], or None"
            bits = checks.check_integer(_METRIC, "bits", bits, low=1, high=checks.MAX_BITS, expected=expected)
        check_choices(_METRIC, ties, denominator, empty)
        self._bits = bits
        self.topk = check_topk(_METRIC, topk)
        self.ties, self.denominator, self.empty = ties, denominator, empty
        self.result: EvaluationResult | None = None
        for name in ("layout", *_ITEMS):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @property
    def bits(self) -> int | None:
        """K, as it was given or as the codes have it; None where it is not known yet."""
        return self.layout[0].shape[1] if self.layout else self._bits

    def update(self, h: Tensor, labels: Tensor, *, role: str = "both") -> None:
        """Adds a batch of queries, of gallery items, or of both.

        Args:
            h: outputs ``[B, K]`` of any floating dtype, whose signs become bits as in :func:`rdh_ext.pack_codes`
                (``h >= 0`` is 1), or packed codes, uint8 ``[B, ceil(K / 8)]``; on the device of the metric. B may be 0.
            labels: class ids ``[B]`` (integers >= 0) or multi-hot rows ``[B, C]`` (bool or 0-1), on the device of
                ``h``.
            role: "query", "gallery", or "both": every item is a query and an item of the gallery, where it finds itself
                at distance 0, relevant if it has a label: nothing is left out.

        Raises:
            TypeError: not a tensor, or of a dtype or layout that does not fit.
            ValueError: a shape or device that does not fit; another K, kind of labels or number of classes than before;
                on the CPU also NaN in ``h``, ones behind bit K, negative ids, multi-hot values other than 0 and 1. (On
                CUDA values are not looked at, NaN becomes a 0 bit.)

        Codes and labels are copied. Cost: O(B (K + C)); does not wait for the device. Autocast changes nothing.

        Example:
            >>> metric = rdh_ext.retrieval.HammingMAP()
            >>> metric.update(torch.tensor([[0.3, -0.8], [0.9, 0.2]]), torch.tensor([7, 3]))
            >>> metric.compute(), metric.result.queries, metric.result.gallery
            (tensor(1.), 2, 2)
        """
        checks.check_choice(_METRIC, "role", role, ROLES)
        codes, bits = self._packed(h)
        look = checks.may_read_values(codes)
        labels = normalize_labels(_METRIC, "labels", labels, codes.shape[0], codes.device, check_values=look)
        if self.layout:
            check_label_pair(_METRIC, "those before", (self.q_labels or self.g_labels)[0], "labels", labels)
        else:
            self.layout.append(codes.new_empty((0, bits, labels.shape[1] if labels.dim() == 2 else 0)))
        labels = labels.detach().clone(memory_format=torch.contiguous_format)
        if role != "gallery":
            self.q_codes.append(codes)
            self.q_labels.append(labels)
        if role != "query":
            self.g_codes.append(codes)
            self.g_labels.append(labels)

    def compute(self) -> Tensor:
        """The mAP of all that was collected, on all ranks where there are several; remembered until the next update.

        Returns:
            A scalar on the device of the metric: float32, or float64 after ``set_dtype(torch.float64)``. In full
            precision it is ``result.map``. 0, with a warning, where there are no queries or no gallery.

        Raises:
            ValueError: ``empty="error"`` and a query without relevant items; K, kind of labels or number of classes
                differ between ranks, or between states that were merged.

        Cost: that of :func:`rdh_ext.evaluate`; where there are several ranks, five gathers before it, after which every
        rank has all items. Waits for the device. Deterministic.

        Example:
            >>> metric = rdh_ext.retrieval.HammingMAP(bits=2)
            >>> metric.update(torch.tensor([[0b01]], dtype=torch.uint8), torch.tensor([7]), role="query")
            >>> codes = torch.tensor([[0b11], [0b00], [0b01]], dtype=torch.uint8)
            >>> metric.update(codes, torch.tensor([7, 3, 7]), role="gallery")
            >>> metric.compute()
            tensor(0.9167)
        """
        try:
            result = self._evaluate()
        except Exception:
            if self._is_synced:  # torchmetrics would leave the metric with the states of all ranks
                self.unsync()
            raise
        self.result = result
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        return torch.tensor(result.map, dtype=dtype, device=self.device)

    def _packed(self, h: Any) -> tuple[Tensor, int]:
        """Checked codes that nobody else has, and K."""
        checks.check_tensor(_METRIC, "h", h, dtypes=(*checks.FLOATING, torch.uint8), ndim=2)
        if h.device != self.device:
            checks.fail_value(_METRIC, "h", f"on the device of the metric ({self.device}), which .to() moves", h)
        bits = self.bits
        if h.dtype == torch.uint8:
            checks.check_codes(_METRIC, "h", h)
            if bits is not None and h.shape[1] != _bytes(bits):
                checks.fail_value(_METRIC, "h", f"codes of {bits} bits [B, {_bytes(bits)}]", h)
            bits = checks.check_bits(_METRIC, bits, h=h)
            return h.clone(memory_format=torch.contiguous_format), bits
        check_activations(_METRIC, h)
        if bits is not None and h.shape[1] != bits:
            checks.fail_value(_METRIC, "h", f"of {bits} bits [B, {bits}]", h)
        return pack_checked(_METRIC, h.detach()), h.shape[1]

    def _layouts(self) -> list[tuple[int, int]]:
        """``(K, C)`` of what was collected: one, none before the first update, more where states were merged."""
        return list(dict.fromkeys((part.shape[1], part.shape[2]) for part in self.layout))

    def _evaluate(self) -> EvaluationResult:
        layouts = self._layouts()
        if len(layouts) > 1:
            first, second = map(_describe, layouts[:2])
            raise ValueError(f"{_METRIC}: h and labels must be alike in all updates, got {first} and {second}")
        bits, classes = layouts[0] if layouts else (self._bits or 8, 0)
        device = self.layout[0].device if layouts else self.device
        q, q_labels, g, g_labels = (
            torch.cat([nothing, *getattr(self, name)])
            for name, nothing in zip(_ITEMS, 2 * _no_items(bits, classes, device), strict=True)
        )
        if layouts and not (len(q) and len(g)):  # torchmetrics itself warns where there was no update at all
            missing = " and no ".join(role for role, codes in (("queries", q), ("gallery", g)) if not len(codes))
            rank_zero_warn(f"{_METRIC}: got no {missing} (see role in update): the value is 0", UserWarning)
        return evaluate_codes(
            _METRIC,
            LabelledCodes(q, g, q_labels, g_labels, bits),
            topk=self.topk,
            ties=self.ties,
            denominator=self.denominator,
            empty=self.empty,
        )

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        """Replaces the states by those of all ranks.

        torchmetrics sends an empty float32 vector for a state without a tensor, which does not fit uint8 rows. So here
        the ranks first tell each other the shape of what they have; that is also where all of them notice differences.
        """
        group = process_group or self.process_group
        device = torch.device("cpu") if self.compute_on_cpu else self.device
        mine = torch.tensor(self._layouts(), dtype=torch.int64, device=device).reshape(-1, 2)
        ranks: dict[tuple[int, int], int] = {}
        for rank, layouts in enumerate(dist_sync_fn(mine, group=group)):
            for bits, classes in layouts.tolist():
                ranks.setdefault((bits, classes), rank)
        if not ranks:
            return
        if len(ranks) > 1:
            first, second = (f"{_describe(layout)} (rank {rank})" for layout, rank in list(ranks.items())[:2])
            raise ValueError(f"{_METRIC}: h and labels must be alike on all ranks, got {first} and {second}")
        ((bits, classes),) = ranks
        for name, nothing in zip(_ITEMS, 2 * _no_items(bits, classes, device), strict=True):
            setattr(self, name, list(dist_sync_fn(torch.cat([nothing, *getattr(self, name)]), group=group)))
        self.layout = [torch.empty((0, bits, classes), dtype=torch.uint8, device=device)]

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> torch.nn.Module:
        """Moves the states; ``set_dtype`` is about the value that is computed and leaves integers what they are."""
        return super()._apply(fn, tuple(self._defaults) if self._dtype_convert else exclude_state)


def _bytes(bits: int) -> int:
    return (bits + 7) // 8


def _describe(layout: tuple[int, int]) -> str:
    bits, classes = layout
    return f"{bits} bits with {f'multi-hot rows of {classes} classes' if classes else 'class ids'}"


def _no_items(bits: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The codes and the labels of no items."""
    codes = torch.empty((0, _bytes(bits)), dtype=torch.uint8, device=device)
    if classes:
        return codes, torch.empty((0, classes), dtype=torch.bool, device=device)
    return codes, torch.empty(0, dtype=torch.int64, device=device)
