"""HashNet: Deep Learning to Hash by Continuation (Cao et al., ICCV 2017)."""

from __future__ import annotations

import math

from ... import _checks as checks
from .base import HashingMethod

CONTINUATIONS = ("none", "sqrt_step", "sqrt_epoch")


class HashNet(HashingMethod):
    r"""HashNet: the likelihood of the pairs of a batch, similar and dissimilar ones in balance.

    .. math:: L = \frac{1}{B^2} \sum_{ij} w_{ij} \left( \log(1 + e^{\theta_{ij}}) - S_{ij} \theta_{ij} \right), \qquad
              \theta_{ij} = \alpha \langle h_i, h_j \rangle, \qquad h = \tanh(\beta \, \mathrm{logits})

    A similar pair weighs :math:`w = |S| / |S_1|` and a dissimilar one :math:`|S| / |S_0|`, counted over the pairs of
    the batch, so both kinds have the same say however many classes there are. (For multi-hot labels the paper has one
    more factor, the overlap of both sets of labels; public code and this one leave it out. For class ids it is 1.)
    There is no quantization term; ``rdh`` adds the error-aware one of Eq. 4. Nothing is kept between steps.

    **Continuation.** The paper makes tanh steeper as training goes on, in place of a quantization term. ``beta`` is

    - ``"none"``: 1, always. The default, as in public code by the first author of RDH.
    - ``"sqrt_step"``: ``sqrt(1 + 0.005 step)``, the published schedule; after 10,000 steps 7.1.
    - ``"sqrt_epoch"``: ``sqrt(floor(epoch / 20) + 1)``, that of a popular port; after 150 epochs 2.8.

    :meth:`begin_step` and :meth:`begin_epoch` set it. It follows from step and epoch alone, so it is not in
    ``state_dict``: whoever goes on from a checkpoint calls both. The sign of ``h`` does not depend on it. Plain and
    amplified tanh have the same ``beta``, and a bit is saturated where ``|tanh(beta x)| >= tau``.

    Args:
        bits, rdh, amplifier, error_aware, tau: as in :class:`HashingMethod`.
        eta: weight of the error-aware term; None means 0.1. No matter without one.
        alpha: factor of the inner product, finite and > 0; None means ``10 / K``. Public code also has 0.1 and 1.
        continuation: "none", "sqrt_step" or "sqrt_epoch".

    Source: Cao, Long, Wang, Yu, "HashNet: Deep Learning to Hash by Continuation" (ICCV 2017).

    Example:
        >>> from rdh_ext.hashing.methods import HashNet
        >>> method = HashNet(bits=32, rdh=True, continuation="sqrt_step")
        >>> method.loss(method(torch.randn(4, 32)), torch.tensor([0, 0, 1, 1])).total.shape
        torch.Size([])
        >>> method.begin_step(600)
        >>> method.beta
        2.0
    """

    title = "HashNet"
    pair_weights = "balanced"

    def __init__(
        self,
        bits: int,
        *,
        rdh: bool = False,
        amplifier: bool | None = None,
        error_aware: bool | None = None,
        tau: float = 0.99,
        eta: float | None = None,
        alpha: float | None = None,
        continuation: str = "none",
    ) -> None:
        name = type(self).__name__
        self.alpha = None if alpha is None else checks.check_positive(name, "alpha", alpha)
        checks.check_choice(name, "continuation", continuation, CONTINUATIONS)
        self.continuation = continuation
        super().__init__(bits, rdh=rdh, amplifier=amplifier, error_aware=error_aware, tau=tau, eta=eta)

    @property
    def scale(self) -> float:
        """Alpha, or 10 / K."""
        return 10.0 / self.bits if self.alpha is None else self.alpha

    @property
    def beta(self) -> float:
        """The steepness of tanh now."""
        return self.activation.beta

    def begin_epoch(self, epoch: int) -> None:
        """Sets ``beta`` where it follows the epoch."""
        if self.continuation == "sqrt_epoch":
            self.activation.beta = math.sqrt(epoch // 20 + 1)

    def begin_step(self, step: int) -> None:
        """Sets ``beta`` where it follows the step."""
        if self.continuation == "sqrt_step":
            self.activation.beta = math.sqrt(1 + 0.005 * step)
