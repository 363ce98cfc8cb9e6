"""The outputs of all training items, kept between steps: what a batch is compared with in DPSH and its relatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _checks as checks
from .._labels import check_label_pair, normalize_labels

_MODULE = "CodeBank"
_NO_CLASS = torch.iinfo(torch.int64).max
"""The class id of rows without a label: a class that no item has, so that they are similar to no item."""


class CodeBank(torch.nn.Module):
    """Latest outputs ``[N, K]`` of all ``N`` training items and their labels, for :func:`rdh_ext.pairwise_loss`.

    A training step computes the loss of its batch against the rows of the bank, and writes its own rows by the
    items' positions in the training set, before the loss (as DPSH does) or after it::

        h = model(x)
        bank.update(index, h)
        loss = criterion(h, labels, bank.outputs, bank.labels)

    Rows are constants: written detached, no graph is kept. Buffers of the module, they are saved in ``state_dict`` and
    follow ``.to()``. A row that was never written is zero: it selects no bit for the quantization and pulls ``h``
    nowhere, but it counts in the mean over pairs, each with ``log 2``. To leave such rows out until all have been
    seen: ``criterion(h, labels, bank.outputs[bank.filled], bank.labels[bank.filled])``.

    Args:
        length: ``N``, how many items there are.
        bits: ``K``, 1 to 4096.
        labels: of all items, where they are known: class ids ``[N]`` or multi-hot rows ``[N, C]``, as in
            :func:`rdh_ext.pairwise_loss`; copied, and the bank lives on their device. Without them every
            :meth:`update` brings its own.
        classes: ``C``, where updates bring multi-hot rows; None where they bring class ids. Only without ``labels``.
        dtype: of the rows: float32, float64, bfloat16 or float16.

    Attributes:
        outputs: ``[N, K]``, the rows.
        labels: int64 class ids ``[N]`` or bool rows ``[N, C]``. Items whose label is not known yet are similar to
            nothing: their id is 2^63 - 1, their row is empty.
        filled: bool ``[N]``, which rows have been written.

    Raises:
        TypeError, ValueError: an argument that does not fit, ``labels`` and ``classes`` both given.
        RuntimeError: in ``load_state_dict``, a checkpoint of another N, K, C, or kind of labels.

    Memory: ``N K`` values, and for each item 8 bytes of class id or ``C`` bytes, and 1 byte; all of it goes into a
    checkpoint. Source: Li, Wang, Kang, "Feature Learning based Deep Supervised Hashing with Pairwise Labels" (DPSH,
    IJCAI 2016).

    Under DDP keep the bank out of the wrapped model, which would send all of it from rank 0 to every rank in every
    forward pass (or set ``broadcast_buffers=False``), and update with the batch of all ranks, so that the banks stay
    equal: :func:`rdh_ext.distributed.gather_batch`.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8), rdh_ext.nn.AmplifiedTanh())
        >>> criterion = rdh_ext.nn.PairwiseLoss(eta=0.1)
        >>> x, labels = torch.randn(100, 16), torch.arange(100) % 10
        >>> bank = rdh_ext.nn.CodeBank(100, 8, labels=labels)
        >>> for index in torch.arange(100).split(20):
        ...     h = model(x[index])
        ...     bank.update(index, h)
        ...     criterion(h, labels[index], bank.outputs, bank.labels).backward()
        >>> bank
        CodeBank(length=100, bits=8, labels=class ids)
        >>> bool(bank.filled.all()), bank.outputs.requires_grad
        (True, False)
    """

    outputs: Tensor
    labels: Tensor
    filled: Tensor

    def __init__(
        self,
        length: int,
        bits: int,
        *,
        labels: Tensor | None = None,
        classes: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.length = checks.check_integer(_MODULE, "length", length, low=1, expected="a number of items >= 1")
        most = checks.MAX_BITS
        self.bits = checks.check_integer(_MODULE, "bits", bits, low=1, high=most, expected=f"an integer in [1, {most}]")
        if not isinstance(dtype, torch.dtype) or dtype not in checks.FLOATING:
            checks.fail_type(_MODULE, "dtype", "torch.float32, float64, bfloat16 or float16", dtype)
        self.labels_known = labels is not None
        kept = _initial_labels(self.length, labels, classes)
        self.register_buffer("outputs", torch.zeros(self.length, self.bits, dtype=dtype, device=kept.device))
        self.register_buffer("labels", kept)
        self.register_buffer("filled", torch.zeros(self.length, dtype=torch.bool, device=kept.device))
        self.register_load_state_dict_pre_hook(_explain_other_labels)

    def update(self, index: Tensor, h: Tensor, labels: Tensor | None = None) -> None:
        """Writes rows ``index`` in place: ``outputs[index] = h``, and the labels where they are given.

        Where an item is twice in ``index``, its last row counts, on every device and for any number of threads.

        Args:
            index: ``[B]``, integers in ``[0, N)``: positions in the training set, on the device of the bank.
            h: ``[B, K]`` of any floating dtype; rounded to the dtype of the bank.
            labels: class ids ``[B]`` or multi-hot rows ``[B, C]`` of the bank's kind. May be left out where the bank
                was made with the labels of all items.

        Raises:
            TypeError: not a tensor, or of a dtype or layout that does not fit.
            ValueError: a shape, device, or kind of labels that does not fit; no labels where the bank was made without
                them; on the CPU also an index outside of ``[0, N)``, negative ids, multi-hot values other than 0 and 1.
                (On CUDA, and while tracing, values are not looked at: PyTorch's own assertion ends the process.)

        Cost: O(B K + B log B) time and memory, whatever N; no synchronisation. Works under autocast and
        torch.compile(fullgraph). :func:`rdh_ext.pairwise_loss` has its gradient when it returns, so an update between
        loss and backward changes nothing; a loss of your own that saved ``outputs`` for its backward fails there with
        PyTorch's message about an inplace operation: update before that loss, or after its backward.

        Example:
            >>> bank = rdh_ext.nn.CodeBank(4, 2)
            >>> h, labels = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), torch.tensor([7, 8, 7])
            >>> bank.update(torch.tensor([3, 1, 3]), h, labels)
            >>> bank.outputs[3], int(bank.filled.sum())
            (tensor([0.5000, 0.6000]), 2)
        """
        index, labels = self._check_update(index, h, labels)
        # equal places side by side, in the order they came: every one of them writes the last one's row
        place, order = torch.sort(index, stable=True)
        last = order.index_select(0, torch.searchsorted(place, place, right=True) - 1)
        self.outputs.index_copy_(0, place, h.detach().index_select(0, last).to(self.outputs.dtype))
        self.filled.index_fill_(0, place, True)
        if labels is not None:
            self.labels.index_copy_(0, place, labels.index_select(0, last))

    def _check_update(self, index: Any, h: Any, labels: Any) -> tuple[Tensor, Tensor | None]:
        """Raises what :meth:`update` says; returns the index as int64 and the labels normalised."""
        here = self.outputs.device
        checks.check_tensor(_MODULE, "index", index, dtypes=checks.INTEGER, ndim=1)
        checks.check_tensor(_MODULE, "h", h, ndim=2)
        for argument, value in (("index", index), ("h", h)):
            if value.device != here:
                checks.fail_value(_MODULE, argument, f"on the device of the bank ({here})", value)
        if h.size(1) != self.bits:
            checks.fail_value(_MODULE, "h", f"of the bank's {self.bits} bits [B, {self.bits}]", h)
        if h.size(0) != index.size(0):
            checks.fail_value(_MODULE, "index", f"as long as h ({h.size(0)} rows)", index)
        look = checks.may_read_values(index)
        if look and index.numel():
            low, high = (int(bound) for bound in torch.aminmax(index))
            if low < 0 or high >= self.length:
                checks.fail_value(_MODULE, "index", f"in [0, {self.length})", low if low < 0 else high)
        if labels is None:
            if not self.labels_known:
                raise ValueError(f"{_MODULE}: labels must be given, as the bank was made without them, got None")
            return index.to(torch.int64), None
        labels = normalize_labels(_MODULE, "labels", labels, h.size(0), here, check_values=look)
        check_label_pair(_MODULE, "the bank", self.labels, "labels", labels)
        return index.to(torch.int64), labels

    def extra_repr(self) -> str:
        """Sizes for ``print(model)``."""
        dtype = self.outputs.dtype
        suffix = "" if dtype == torch.float32 else f", dtype={dtype}"
        return f"length={self.length}, bits={self.bits}, labels={_kind(self.labels)}{suffix}"


def _kind(labels: Tensor) -> str:
    return "class ids" if labels.dim() == 1 else f"multi-hot rows of {labels.size(-1)} classes"


def _initial_labels(length: int, labels: Any, classes: Any) -> Tensor:
    """A copy of ``labels``, or those of items of which nothing is known."""
    if labels is not None:
        if classes is not None:
            raise ValueError(f"{_MODULE}: classes must be None where labels are given, got both")
        device = labels.device if isinstance(labels, Tensor) else torch.device("cpu")
        look = isinstance(labels, Tensor) and checks.may_read_values(labels)
        return normalize_labels(_MODULE, "labels", labels, length, device, check_values=look).detach().clone()
    if classes is None:
        return torch.full((length,), _NO_CLASS, dtype=torch.int64)
    classes = checks.check_integer(_MODULE, "classes", classes, low=1, expected="a number of classes >= 1, or None")
    return torch.zeros(length, classes, dtype=torch.bool)


def _explain_other_labels(module: CodeBank, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Says what to do about a checkpoint whose labels are of another kind; other shapes PyTorch explains itself."""
    error_messages: list[str] = rest[-1]
    saved = state_dict.get(f"{prefix}labels")
    if isinstance(saved, Tensor) and saved.dim() != module.labels.dim():
        remedy = "without classes" if saved.dim() == 1 else f"with classes={saved.size(-1)}"
        error_messages.append(
            f"{_MODULE}: labels must be {_kind(module.labels)}, got {_kind(saved)} in the checkpoint; make the bank "
            f"{remedy}, or with the labels"
        )
