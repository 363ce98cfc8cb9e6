"""DHN: Deep Hashing Network for Efficient Similarity Retrieval (Zhu et al., AAAI 2016)."""

from __future__ import annotations

from ... import _checks as checks
from .base import HashingMethod


class DHN(HashingMethod):
    r"""DHN: the likelihood of the pairs of a batch, and a quantization term that is smooth around +-1.

    .. math:: L = \frac{1}{B^2} \sum_{ij} \left( \log(1 + e^{\theta_{ij}}) - S_{ij} \theta_{ij} \right)
              + \frac{\eta}{B K} \sum_{ik} \log \cosh(|h_{ik}| - 1), \qquad
              \theta_{ij} = \mathrm{scale} \, \langle h_i, h_j \rangle

    with ``h = tanh(logits)`` ``[B, K]`` and ``S_ij = 1`` where two items share a label, over all pairs of the batch,
    (i, i) among them; both roles carry gradient. With ``rdh`` the error-aware term of Eq. 4 takes the place of
    ``log cosh``. Nothing is kept between steps.

    Args:
        bits, rdh, amplifier, error_aware, tau: as in :class:`HashingMethod`.
        eta: weight of the quantization term; None means 0.1. Public code has 0.1 or 1.
        scale: factor of the inner product, finite and > 0. 0.5 as in RDH's Eq. 1 and in most public code; the paper of
            DHN has ``theta = <h_i, h_j>``, which is 1.

    Source: Zhu, Long, Wang, Cao, "Deep Hashing Network for Efficient Similarity Retrieval" (AAAI 2016).

    Example:
        >>> from rdh_ext.hashing.methods import DHN
        >>> method = DHN(bits=16, rdh=True)
        >>> logits, labels = torch.randn(4, 16, requires_grad=True), torch.tensor([0, 0, 1, 1])
        >>> method.loss(method(logits), labels).total.backward()
        >>> logits.grad.shape, method.counter.read().total
        (torch.Size([4, 16]), 64)
    """

    title = "DHN"
    quantization = "log_cosh"

    def __init__(
        self,
        bits: int,
        *,
        rdh: bool = False,
        amplifier: bool | None = None,
        error_aware: bool | None = None,
        tau: float = 0.99,
        eta: float | None = None,
        scale: float = 0.5,
    ) -> None:
        self._scale = checks.check_positive(type(self).__name__, "scale", scale)
        super().__init__(bits, rdh=rdh, amplifier=amplifier, error_aware=error_aware, tau=tau, eta=eta)

    @property
    def scale(self) -> float:
        """Factor of the inner product in theta."""
        return self._scale
