"""The ops: one file each, holding schema, fake, autograd, autocast and the public function."""

from .gradient_amplifier import amplified_sigmoid, amplified_tanh, gradient_amplifier
from .hamming_distance import hamming_distance
from .hamming_histogram import hamming_histogram
from .hamming_topk import hamming_topk
from .pack_codes import pack_codes
from .pairwise_loss import pairwise_loss
from .unpack_codes import unpack_codes

# after the schemas: the native libraries add their kernels to them
from .. import _native as _native  # isort: skip

__all__ = [
    "amplified_sigmoid",
    "amplified_tanh",
    "gradient_amplifier",
    "hamming_distance",
    "hamming_histogram",
    "hamming_topk",
    "pack_codes",
    "pairwise_loss",
    "unpack_codes",
]
