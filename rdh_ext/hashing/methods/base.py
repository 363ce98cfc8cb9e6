"""What hashing methods share: activation, pairwise loss, and the two things that RDH changes in them."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ... import gradient_amplifier
from ...nn import AmplifiedTanh, BitCounter, PairwiseLoss


class MethodLoss(NamedTuple):
    """The loss of one batch, and the two terms it is made of, detached (quantization before its weight eta).

    Example:
        >>> from rdh_ext.hashing.methods import HashNet
        >>> parts = HashNet(bits=8).loss(torch.tanh(torch.randn(4, 8)), torch.tensor([0, 0, 1, 1]))
        >>> bool(parts.total == parts.similarity), float(parts.quantization)  # HashNet has no quantization term
        (True, 0.0)
    """

    total: Tensor
    similarity: Tensor
    quantization: Tensor


class _CountedTanh(nn.Module):
    """``torch.tanh`` as PyTorch has it; the identity after it only counts dead bits (an amplification by 1)."""

    def __init__(self, tau: float, counter: BitCounter) -> None:
        super().__init__()
        self.tau, self.counter = tau, counter

    def forward(self, logits: Tensor) -> Tensor:
        return gradient_amplifier(torch.tanh(logits), self.tau, alpha=1.0, counter=self.counter)


class HashingMethod(nn.Module):
    """Turns logits ``[B, K]`` into relaxed codes ``h`` in [-1, 1] and a loss; class attributes say what is its own.

    ``rdh=True`` swaps in two things and nothing else: the activation becomes :class:`rdh_ext.nn.AmplifiedTanh`, and the
    quantization term the error-aware one of Eq. 4 with weight ``eta`` (added where the method has none). Dead and
    saturated bits are counted in the backward pass either way, by the same rule; read :attr:`counter` once per step.

    Args:
        bits: K.
        rdh: with the gradient amplifier and the error-aware quantization loss, or the method as published.
        tau: threshold of the amplifier and of the counts.
        eta: weight of the quantization term.

    Example:
        >>> from rdh_ext.hashing.methods import HashingMethod
        >>> class Plain(HashingMethod):
        ...     title = "Plain"
        >>> method = Plain(bits=8, rdh=True)
        >>> method.label, method.activation
        ('Plain + RDH', AmplifiedTanh(tau=0.99))
    """

    title: ClassVar[str]
    """The name in tables and figures."""
    pair_weights: ClassVar[str] = "none"
    quantization: ClassVar[str] = "none"
    """The method's own term, without RDH."""

    def __init__(self, bits: int, *, rdh: bool = False, tau: float = 0.99, eta: float = 0.1) -> None:
        super().__init__()
        self.bits, self.rdh, self.tau, self.eta = bits, rdh, tau, eta
        self.counter = BitCounter()
        self.activation: nn.Module = (
            AmplifiedTanh(tau, counter=self.counter) if rdh else _CountedTanh(tau, self.counter)
        )
        self.pairwise = PairwiseLoss(
            scale=self.scale,
            pair_weights=self.pair_weights,
            quantization="error_aware" if rdh else self.quantization,
            eta=eta,
        )

    @property
    def scale(self) -> float:
        """What multiplies the inner product of two codes in theta: 1/2 in the paper's Eq. 1."""
        return 0.5

    @property
    def label(self) -> str:
        """``HashNet`` or ``HashNet + RDH``."""
        return f"{self.title} + RDH" if self.rdh else self.title

    def forward(self, logits: Tensor) -> Tensor:
        """Logits ``[B, K]`` -> relaxed codes ``[B, K]``."""
        h: Tensor = self.activation(logits)
        return h

    def loss(self, h: Tensor, labels: Tensor) -> MethodLoss:
        """The loss over all pairs of the batch; labels ``[B]`` or ``[B, C]``."""
        total = self.pairwise(h, labels)
        return MethodLoss(total, self.pairwise.last.similarity, self.pairwise.last.quantization)
