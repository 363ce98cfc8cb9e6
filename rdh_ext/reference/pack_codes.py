"""Pure torch: signs of activations packed to bits."""

from __future__ import annotations

import torch
from torch import Tensor

NAN_FOUND = "pack_codes: h must be free of NaN"
"""What every backend of ``pack_codes_checked`` says."""


def pack_codes(h: Tensor) -> Tensor:
    """Byte ``k // 8``, place ``k % 8`` holds ``h[:, k] >= 0``. One place of all bytes at a time: pads stay 0."""
    codes = torch.zeros((h.shape[0], (h.shape[1] + 7) // 8), dtype=torch.uint8, device=h.device)
    for place in range(min(8, h.shape[1])):
        bit = (h[:, place::8] >= 0).to(torch.uint8)
        codes[:, : bit.shape[1]] |= bit << place
    return codes


def pack_codes_checked(h: Tensor) -> Tensor:
    """The same; NaN is an error."""
    if bool(h.isnan().any()):
        raise RuntimeError(NAN_FOUND)
    return pack_codes(h)
