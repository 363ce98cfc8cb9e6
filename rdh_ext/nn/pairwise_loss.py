"""The pairwise loss as a module."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..ops.pairwise_loss import pairwise_loss_with_parts


class LossParts(NamedTuple):
    """The two terms of a loss, detached scalars on the device of ``h``; the quantization before its factor eta.

    Example:
        >>> criterion = rdh_ext.nn.PairwiseLoss(quantization="l2")
        >>> loss = criterion(torch.tensor([[0.5, -1.0]]), torch.tensor([0]))
        >>> similarity, quantization = criterion.last
        >>> quantization
        tensor(0.1250)
    """

    similarity: Tensor
    quantization: Tensor


class PairwiseLoss(torch.nn.Module):
    """:func:`rdh_ext.pairwise_loss` with its options kept, for a model with tanh or :class:`AmplifiedTanh` at its end.

    Args: the options of :func:`rdh_ext.pairwise_loss`, which also has a table of those of DPSH, DHN, HashNet and RDH.

    Attributes:
        last: :class:`LossParts` of the last call, for logging; it keeps no graph alive. Zeros before the first call.

    Raises:
        TypeError, ValueError: an option that does not fit, here; a tensor that does not fit, in the call.

    Example:
        >>> criterion = rdh_ext.nn.PairwiseLoss(quantization="error_aware", eta=0.1)
        >>> loss = criterion(torch.tanh(torch.randn(4, 8)), torch.tensor([0, 0, 1, 1]))
        >>> bool(torch.isclose(loss, criterion.last.similarity + 0.1 * criterion.last.quantization))
        True
    """

    def __init__(
        self,
        scale: float = 0.5,
        pair_weights: str = "none",
        quantization: str = "error_aware",
        eta: float = 0.1,
        include_diagonal: bool = True,
        reduction: str = "mean",
        check_finite: bool = False,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "scale": scale,
            "pair_weights": pair_weights,
            "quantization": quantization,
            "eta": eta,
            "include_diagonal": include_diagonal,
            "reduction": reduction,
            "check_finite": check_finite,
        }
        # a call without items checks every option now and not in the first step
        nothing = torch.empty(0, 1, device="cpu")
        _, parts = pairwise_loss_with_parts(nothing, similarity=nothing[:, :0], **self.options)
        self.last = LossParts(parts[0], parts[1])

    def forward(
        self,
        h: Tensor,
        labels: Tensor | None = None,
        bank: Tensor | None = None,
        bank_labels: Tensor | None = None,
        *,
        similarity: Tensor | None = None,
    ) -> Tensor:
        """The loss of ``h`` ``[B, K]``; arguments as in :func:`rdh_ext.pairwise_loss`."""
        loss, parts = pairwise_loss_with_parts(h, labels, bank, bank_labels, similarity=similarity, **self.options)
        self.last = LossParts(parts[0], parts[1])
        return loss

    def extra_repr(self) -> str:
        """Options for ``print(model)``."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())
