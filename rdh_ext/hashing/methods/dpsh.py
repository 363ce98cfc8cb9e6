"""DPSH: Feature Learning based Deep Supervised Hashing with Pairwise Labels (Li, Wang, Kang, IJCAI 2016)."""

from __future__ import annotations

from torch import Tensor

from ...nn import CodeBank
from .base import HashingMethod, MethodLoss


class DPSH(HashingMethod):
    r"""DPSH: the likelihood of the pairs of a batch with *all* training items, by the outputs these had last.

    .. math:: L = \frac{1}{B N} \sum_{i=1}^{B} \sum_{j=1}^{N} \left( \log(1 + e^{\theta_{ij}}) - S_{ij} \theta_{ij}
              \right) + \frac{\eta}{B K} \sum_{ik} (h_{ik} - \mathrm{sign}\, h_{ik})^2, \qquad
              \theta_{ij} = \frac{1}{2} \langle h_i, v_j \rangle

    with ``h = tanh(logits)`` ``[B, K]``, the bank ``v`` ``[N, K]``, and ``S_ij = 1`` where two items share a label.
    The rows of the batch are written into the bank, detached, *before* the loss, which therefore pairs the batch with
    its own fresh outputs, too; bank rows carry no gradient. With ``rdh`` the error-aware term of Eq. 4, over the pairs
    of batch and bank, takes the place of the quadratic one.

    Rows of items that have not been seen yet are zero and stay in the mean, as in the published algorithm: each pair
    with one counts ``log 2``, pulls ``h`` nowhere and selects no bit for Eq. 4. So during the first epoch the pairwise
    term grows with the part of the bank that is filled, next to a quantization term at full strength; a mean over the
    filled rows alone would weigh the pairs of the first batch ``N / B`` times as much as published.

    The published network has no activation; tanh is that of RDH's Eq. 1. The published weight lambda of a sum over
    pairs and bits is ``eta = lambda K / N`` here: 10 is 0.096 for K = 48, N = 5000.

    Args: as in :class:`HashingMethod`; ``eta`` is 0.1 where it is None.

    Attributes:
        bank: :class:`rdh_ext.nn.CodeBank` of all training items, made by :meth:`begin`; None before. Its buffers
            (``N K`` float32 values, the labels, ``N`` flags) are in ``state_dict`` and follow ``.to()``.

    Source: Li, Wang, Kang, "Feature Learning based Deep Supervised Hashing with Pairwise Labels" (DPSH, IJCAI 2016).

    Example:
        >>> from rdh_ext.hashing.methods import DPSH
        >>> features, labels = torch.randn(100, 64), torch.arange(100) % 10
        >>> network, method = torch.nn.Linear(64, 16), DPSH(bits=16, rdh=True)
        >>> method.begin(labels, steps=5)
        >>> for step, index in enumerate(torch.randperm(100).split(20)):
        ...     method.begin_step(step)
        ...     method.loss(method(network(features[index])), labels[index], index).total.backward()
        >>> method.bank
        CodeBank(length=100, bits=16, labels=class ids)
        >>> bool(method.bank.filled.all())
        True
    """

    title = "DPSH"
    quantization = "l2"
    bank: CodeBank | None

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
        super().__init__(bits, rdh=rdh, amplifier=amplifier, error_aware=error_aware, tau=tau, eta=eta)
        self.register_module("bank", None)

    def begin(self, labels: Tensor, steps: int) -> None:
        """Makes an empty bank for items with these labels, ``[N]`` or ``[N, C]``, on their device."""
        self.bank = CodeBank(len(labels), self.bits, labels=labels)

    def loss(self, h: Tensor, labels: Tensor, index: Tensor | None = None) -> MethodLoss:
        """The loss over all pairs of batch and bank, after the batch has been written into the bank.

        Args:
            h: ``[B, K]``, what :meth:`forward` gave.
            labels: ``[B]`` or ``[B, C]``, those that :meth:`begin` got for these items.
            index: int64 ``[B]``, positions of the items in the training set.

        Raises:
            ValueError: no ``index``; :meth:`begin` was not called.
        """
        if self.bank is None:
            raise ValueError(f"{type(self).__name__}: begin must be called with the labels of all items before loss")
        if index is None:
            raise ValueError(f"{type(self).__name__}: index must be the positions [B] in the training set, got None")
        self.bank.update(index, h)
        total = self.pairwise(h, labels, self.bank.outputs, self.bank.labels)
        return MethodLoss(total, self.pairwise.last.similarity, self.pairwise.last.quantization)
