"""Data sets as query, training and gallery images, and the seeded splits that make them."""

from .digits import load_digits
from .splits import Part, RetrievalData, Split, split_per_class

__all__ = ["Part", "RetrievalData", "Split", "load_digits", "split_per_class"]
