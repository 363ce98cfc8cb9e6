"""DSDH: Deep Supervised Discrete Hashing (Li, Sun, He, Tan, NeurIPS 2017; IJCV 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ... import _checks as checks
from .base import MethodLoss
from .discrete import compact_labels, coordinate_descent, objective, ridge_weights
from .dpsh import DPSH

UPDATES = ("epoch", "batch")


class DSDH(DPSH):
    r"""DSDH: the likelihood of DPSH, and discrete codes ``b`` of all training items, from which labels can be told.

    The network's loss, ``h = tanh(logits)`` ``[B, K]``, ``v`` ``[N, K]`` the bank of latest outputs:

    .. math:: L = \frac{1}{B N} \sum_{ij} \left( \log(1 + e^{\theta_{ij}}) - S_{ij} \theta_{ij} \right)
              + \frac{\mathrm{coupling}}{B K} \sum_{ik} (b_{ik} - h_{ik})^2 + \eta L_{EAQ}, \qquad
              \theta_{ij} = \frac{1}{2} \langle h_i, v_j \rangle

    The last term only where ``error_aware``: the codes reach the network through the coupling and nothing else, so RDH
    *adds* Eq. 4, over the pairs of batch and bank, and leaves the coupling where it is. **Without RDH** ``eta``
    **multiplies nothing; what the paper of DSDH calls eta is** ``coupling`` **here.**

    The discrete part, over the items that have a code, with ``Y`` ``[N, C]`` their labels and ``W`` ``[K, C]``:

    .. math:: \min_{B, W} \; \mu \|Y - B W\|^2 + \nu \|W\|^2 + \mathrm{coupling} \, \|B - V\|^2, \qquad
              b_{ik} \in \{-1, 1\}

    by a W-step, ridge regression, and a B-step, discrete cyclic coordinate descent (:mod:`.discrete`). Neither
    increases it. With ``update="epoch"`` both run before every epoch but the first, over the items seen so far:
    all of them, but for those that whole batches have left over. With ``"batch"`` both run in every step, as in the
    authors' code: ``W`` from all codes, then new codes for the items of the batch, before the coupling looks at them.
    An item's first code is the sign of its output (+1 for 0); items without one (in the first epoch: all) are left out
    of the coupling.

    **Scale.** The paper has sums where ``L`` has means, and the same weights in both parts. Multiplied by ``N K``,
    ``L`` and the discrete part fit together as they do there, but the likelihood weighs ``K / N`` of what it does
    there. The discrete part depends on ``nu / mu`` and ``coupling / mu`` alone. So the defaults, the published 0.01,
    0.01 and 1, give the published discrete part, next to a coupling ``N / K`` times as strong; for the published sum
    multiply all three by ``K / N``.

    Args:
        bits, rdh, amplifier, error_aware, tau: as in :class:`HashingMethod`. The published network has no activation;
            tanh is that of RDH.
        eta: weight of the error-aware term, without effect where there is none; 0.1 where it is None.
        coupling: weight of the distance to the codes, >= 0.
        mu: weight of the labels' fit in the discrete part, > 0.
        nu: weight of ``|W|^2``, > 0.
        sweeps: of coordinate descent in a B-step, at most; it ends when one changes nothing.
        update: "epoch" or "batch".

    Attributes:
        bank: as in :class:`DPSH`.
        codes: int8 ``[N, K]``, -1 and +1; rows of 0 for items without a code. Made by :meth:`begin`.
        weights: ``W``, float64 ``[K, C]``; for class ids, ``C`` is how many occur. Made by :meth:`begin`.
        coupling_error: mean of ``(b - h)^2`` in the last loss, before its weight, detached; 0 where no item had a code.

    Cost: that of DPSH; per update ``N K (K + C)`` multiply-adds for ``W`` and ``N K (C + K sweeps)`` for the items that
    get codes. In ``state_dict``: the bank, ``N K`` bytes of
    codes, and ``W``.

    Source: Li, Sun, He, Tan, "Deep Supervised Discrete Hashing" (NeurIPS 2017), Eq. 9 to 18; Li, Sun, Yang, He, Tan,
    "A General Framework for Deep Supervised Discrete Hashing" (IJCV 2020).

    Example:
        >>> from rdh_ext.hashing.methods import DSDH
        >>> features, labels = torch.randn(100, 64), torch.arange(100) % 10
        >>> network, method = torch.nn.Linear(64, 16), DSDH(bits=16, rdh=True)
        >>> method.begin(labels, steps=10)
        >>> for epoch in range(2):
        ...     method.begin_epoch(epoch)
        ...     for index in torch.randperm(100).split(20):
        ...         method.loss(method(network(features[index])), labels[index], index).total.backward()
        >>> method.codes.unique(), method.weights.shape
        (tensor([-1,  1], dtype=torch.int8), torch.Size([16, 10]))
    """

    title = "DSDH"
    quantization = "none"
    codes: Tensor
    weights: Tensor
    _targets: Tensor

    def __init__(
        self,
        bits: int,
        *,
        rdh: bool = False,
        amplifier: bool | None = None,
        error_aware: bool | None = None,
        tau: float = 0.99,
        eta: float | None = None,
        coupling: float = 0.01,
        mu: float = 0.01,
        nu: float = 1.0,
        sweeps: int = 10,
        update: str = "epoch",
    ) -> None:
        name = type(self).__name__
        coupling = checks.check_real(name, "coupling", coupling, low=0.0, high=math.inf, expected="finite and >= 0")
        mu, nu = checks.check_positive(name, "mu", mu), checks.check_positive(name, "nu", nu)
        sweeps = checks.check_integer(name, "sweeps", sweeps, low=1, expected="a number of sweeps >= 1")
        checks.check_choice(name, "update", update, UPDATES)
        super().__init__(bits, rdh=rdh, amplifier=amplifier, error_aware=error_aware, tau=tau, eta=eta)
        self.coupling, self.mu, self.nu, self.sweeps, self.update = coupling, mu, nu, sweeps, update
        self.coupling_error = torch.zeros(())

    def begin(self, labels: Tensor, steps: int) -> None:
        """Makes an empty bank for items with these labels, ``[N]`` or ``[N, C]``, on their device, and no codes yet."""
        super().begin(labels, steps)
        assert self.bank is not None
        targets, classes = compact_labels(self.bank.labels)
        self.register_buffer("codes", targets.new_zeros(self.bank.length, self.bits, dtype=torch.int8))
        self.register_buffer("weights", targets.new_zeros(self.bits, classes, dtype=torch.float64))
        self.register_buffer("_targets", targets, persistent=False)  # the bank's labels, which a checkpoint has

    def begin_epoch(self, epoch: int) -> None:
        """W-step and B-step over all items seen so far, unless they run in every step."""
        if self.bank is not None and self.update == "epoch":
            self._learn_codes(self.bank.filled.nonzero().squeeze(1))

    def loss(self, h: Tensor, labels: Tensor, index: Tensor | None = None) -> MethodLoss:
        """The loss over all pairs of batch and bank, after the batch has been written into the bank.

        Args:
            h: ``[B, K]``, what :meth:`forward` gave.
            labels: ``[B]`` or ``[B, C]``, those that :meth:`begin` got for these items.
            index: int64 ``[B]``, positions of the items in the training set.

        Returns:
            The loss, the likelihood, and the error-aware term (0 where there is none); the coupling, the rest of the
            loss, is in :attr:`coupling_error`.

        Raises:
            ValueError: no ``index``; :meth:`begin` was not called.
        """
        total, similarity, quantization = super().loss(h, labels, index)
        assert index is not None
        index = index.long()
        if self.update == "batch":
            self._learn_codes(index.unique())
        code = self.codes[index].to(total.dtype)
        coded = code != 0
        squares = (coded * (code - h.to(total.dtype))).square().sum()
        error = squares / coded.sum().clamp(min=1)
        self.coupling_error = error.detach()
        return MethodLoss(total + self.coupling * error, similarity, quantization)

    @torch.no_grad()
    def discrete_objective(self) -> Tensor:
        """What W-step and B-step decrease, over the items that have a code: float64 ``[]``. For watching, and tests."""
        if self.bank is None:
            raise ValueError(f"{type(self).__name__}: begin must be called before discrete_objective")
        rows = self.codes.any(1).nonzero().squeeze(1)
        outputs, codes = self.bank.outputs[rows], self.codes[rows]
        rest = {"ridge": self.nu / self.mu, "pull_weight": self.coupling / self.mu}
        fit = objective(codes, self.weights, self._targets[rows], outputs, **rest)
        return self.mu * fit + self.coupling * (outputs.double().square().sum() + codes.numel())

    @torch.no_grad()
    def _learn_codes(self, rows: Tensor) -> None:
        """First codes for those of the items ``rows`` that have none; then ``W`` from all, and their new codes."""
        assert self.bank is not None
        if not rows.numel():
            return
        outputs, codes, targets = self.bank.outputs[rows], self.codes[rows], self._targets[rows]
        codes = torch.where(codes == 0, torch.where(outputs >= 0, 1, -1).to(codes.dtype), codes)
        self.codes[rows] = codes
        classes = self.weights.size(1)
        weights = ridge_weights(self.codes, self._targets, classes, self.nu / self.mu).to(self.weights.dtype)
        self.weights.copy_(weights)
        pull_weight = self.coupling / self.mu
        self.codes[rows] = coordinate_descent(
            codes, weights, targets, outputs, pull_weight=pull_weight, sweeps=self.sweeps
        )
