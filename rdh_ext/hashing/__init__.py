"""The training harness: data with splits, hashing methods, an engine on Lightning, reports.

Nothing here is imported by ``import rdh_ext``. What is optional (Lightning, scikit-learn, matplotlib) is imported where
it is used, and its absence is one sentence with the pip command that helps.
"""

from .._extras import MissingExtra

__all__ = ["MissingExtra"]
