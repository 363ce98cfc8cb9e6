"""Data sets as query, training and gallery items, and the seeded splits that make them."""

from .digits import load_digits
from .preprocessing import Preprocessing
from .sources import ImageFiles, Source, TensorSource
from .splits import Part, RetrievalData, Split, hold_out, split_per_class

__all__ = [
    "ImageFiles",
    "Part",
    "Preprocessing",
    "RetrievalData",
    "Source",
    "Split",
    "TensorSource",
    "hold_out",
    "load_digits",
    "split_per_class",
]
