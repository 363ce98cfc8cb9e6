"""What can be wrong with files of codes."""

from __future__ import annotations


class CodeSetError(ValueError):
    """Files that are no code set, or not whole, or do not fit each other; one line that names the file and the way out.

    Example:
        >>> try:
        ...     rdh_ext.retrieval.CodeSet("no/such/folder")
        ... except rdh_ext.retrieval.CodeSetError as error:
        ...     print(error)
        no/such/folder: no such code set; name a folder or an .npz file that 'rdh encode' wrote
    """


class DamagedShard(CodeSetError):
    """A file of a code set is missing, shorter than it was written, or holds other bytes."""
