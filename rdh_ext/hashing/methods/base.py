"""What hashing methods share: activation, pairwise loss, and the two things that RDH changes in them."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ... import _checks as checks
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
    """``torch.tanh`` as PyTorch has it; the identity after it only counts dead bits (an amplification by 1).

    ``beta`` is a plain attribute as in :class:`rdh_ext.nn.AmplifiedTanh`: ``tanh(beta x)``.
    """

    def __init__(self, tau: float, counter: BitCounter) -> None:
        super().__init__()
        self.tau, self.beta, self.counter = tau, 1.0, counter

    def forward(self, logits: Tensor) -> Tensor:
        steep = logits if self.beta == 1.0 else self.beta * logits
        return gradient_amplifier(torch.tanh(steep), self.tau, alpha=1.0, counter=self.counter)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}" + ("" if self.beta == 1.0 else f", beta={self.beta:g}")


class HashingMethod(nn.Module):
    """Turns logits ``[B, K]`` into relaxed codes ``h`` in [-1, 1] and a loss; class attributes say what is its own.

    ``rdh=True`` swaps in two things and nothing else: the activation becomes :class:`rdh_ext.nn.AmplifiedTanh`, and the
    quantization term the error-aware one of Eq. 4 with weight ``eta`` (added where the method has none). ``amplifier``
    and ``error_aware`` switch each of them by itself, as in the paper's Table 2. Dead and saturated bits are counted in
    the backward pass either way, by the same rule; read :attr:`counter` once per step.

    A training loop calls :meth:`begin` once, :meth:`begin_epoch` and :meth:`begin_step` as it goes, and in each step
    ``loss(method(logits), labels, index)`` with the positions of the batch in the training set; under
    torch.distributed with the joint batch of all ranks (:func:`rdh_ext.distributed.gather_batch`), so that every rank
    keeps the same state. What a method learns besides the network (a bank of outputs, discrete codes) are buffers: it
    goes into ``state_dict`` once :meth:`begin` has given it its size.

    Args:
        bits: K.
        rdh: with the gradient amplifier and the error-aware quantization loss, or the method as published.
        amplifier, error_aware: one of the two alone; None means as ``rdh`` says.
        tau: threshold of the amplifier and of the counts.
        eta: weight of the quantization term, whichever it is; None means :attr:`default_eta`.

    Raises:
        TypeError, ValueError: an option that does not fit; the message names method and option.

    Example:
        >>> from rdh_ext.hashing.methods import HashingMethod
        >>> class Plain(HashingMethod):
        ...     title = "Plain"
        >>> method = Plain(bits=8, rdh=True)
        >>> method.label, method.activation
        ('Plain + RDH', AmplifiedTanh(tau=0.99))
        >>> Plain(bits=8, rdh=True, amplifier=False).label
        'Plain + RDH w.o. GA'
    """

    title: ClassVar[str]
    """The name in tables and figures."""
    pair_weights: ClassVar[str] = "none"
    quantization: ClassVar[str] = "none"
    """The method's own term, without RDH."""
    default_eta: ClassVar[float] = 0.1

    def __init__(
        self,
        bits: int,
        *,
        rdh: bool = False,
        amplifier: bool | None = None,
        error_aware: bool | None = None,
        tau: float = 0.99,
        eta: float | None = None,
    ) -> None:
        super().__init__()
        name, most = type(self).__name__, checks.MAX_BITS
        self.bits = checks.check_integer(name, "bits", bits, low=1, high=most, expected=f"an integer in [1, {most}]")
        self.rdh = checks.check_bool(name, "rdh", rdh)
        self.amplifier = rdh if amplifier is None else checks.check_bool(name, "amplifier", amplifier)
        self.error_aware = rdh if error_aware is None else checks.check_bool(name, "error_aware", error_aware)
        self.tau = checks.check_real(name, "tau", tau, low=0.0, high=1.0, expected="in [0, 1)")
        eta = self.default_eta if eta is None else eta
        self.eta = checks.check_real(name, "eta", eta, low=0.0, high=math.inf, expected="finite and >= 0")
        self.counter = BitCounter()
        self.activation: AmplifiedTanh | _CountedTanh = (
            AmplifiedTanh(self.tau, counter=self.counter) if self.amplifier else _CountedTanh(self.tau, self.counter)
        )
        self.pairwise = PairwiseLoss(
            scale=self.scale,
            pair_weights=self.pair_weights,
            quantization="error_aware" if self.error_aware else self.quantization,
            eta=self.eta,
        )

    @property
    def scale(self) -> float:
        """What multiplies the inner product of two codes in theta: 1/2 in the paper's Eq. 1."""
        return 0.5

    @property
    def label(self) -> str:
        """``HashNet``, ``HashNet + RDH``, or with one of its two parts as in Table 2: ``HashNet + RDH w.o. GA``."""
        without = {(True, True): "", (False, True): " w.o. GA", (True, False): " w.o. EAQL"}
        kind = without.get((self.amplifier, self.error_aware))
        return self.title if kind is None else f"{self.title} + RDH{kind}"

    def begin(self, labels: Tensor, steps: int) -> None:
        """Before the first step, and before a state is loaded.

        Args:
            labels: of all training items, ``[N]`` or ``[N, C]``, in the order of their positions, where they are used.
            steps: how many optimisation steps there will be.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Before the first step of an epoch; they are counted from 0."""

    def begin_step(self, step: int) -> None:
        """Before a step; they are counted from 0 through all epochs."""

    def forward(self, logits: Tensor) -> Tensor:
        """Logits ``[B, K]`` -> relaxed codes ``[B, K]``."""
        if logits.size(-1) != self.bits:
            checks.fail_value(type(self).__name__, "logits", f"of {self.bits} bits [B, {self.bits}]", logits)
        h: Tensor = self.activation(logits)
        return h

    def loss(self, h: Tensor, labels: Tensor, index: Tensor | None = None) -> MethodLoss:
        """The loss over all pairs of the batch.

        Args:
            h: ``[B, K]``, what :meth:`forward` gave.
            labels: ``[B]`` or ``[B, C]``.
            index: int64 ``[B]``, positions in the training set; for methods that keep something of every item.
        """
        total = self.pairwise(h, labels)
        return MethodLoss(total, self.pairwise.last.similarity, self.pairwise.last.quantization)
