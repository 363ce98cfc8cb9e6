"""HashNet (Cao et al., ICCV 2017), without its continuation."""

from __future__ import annotations

from .base import HashingMethod


class HashNet(HashingMethod):
    """HashNet: ``theta = (10 / K) <h_i, h_j>`` over the pairs of a batch, similar and dissimilar ones in balance.

    A similar pair weighs |S| / |S1| and a dissimilar one |S| / |S0|, so both kinds have the same say however many
    classes there are. There is no quantization term; RDH adds the error-aware one. The published continuation (a
    steepness of tanh that grows with time) is left out, as the first author of RDH does in public code: beta is 1.

    Example:
        >>> from rdh_ext.hashing.methods import HashNet
        >>> method = HashNet(bits=32, rdh=True)
        >>> method.loss(method(torch.randn(4, 32)), torch.tensor([0, 0, 1, 1])).total.shape
        torch.Size([])
    """

    title = "HashNet"
    pair_weights = "balanced"

    @property
    def scale(self) -> float:
        """10 / K."""
        return 10.0 / self.bits
