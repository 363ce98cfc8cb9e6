"""Code sets as files that other programs read: binary indexes of FAISS, and plain ``.npy`` arrays."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ... import _checks as checks
from ..._extras import require
from ..._files import sync_folder, temporary_beside
from .code_set import Block, CodeSet, Progress, unpack_labels
from .errors import CodeSetError
from .faiss_files import FLAT, FLAT_HEADER, METRIC_L2
from .npy import header_of

MAX_LISTS = 1 << 24
_SAMPLE_PER_LIST = 256
"""As many items train a centroid, FAISS takes no more."""
_SEED = 1234


def _check_free(path: Path, overwrite: bool) -> None:
    try:
        is_folder = os.path.isdir(path) if os.lstat(path) else False
    except FileNotFoundError:
        return
    if is_folder:
        raise CodeSetError(f"{path}: a folder; name a file")
    if not overwrite:
        raise CodeSetError(f"{path}: exists already; choose another name, or overwrite it on purpose (--force)")


@contextlib.contextmanager
def _new_files(paths: Sequence[Path], overwrite: bool) -> Iterator[list[BinaryIO]]:
    """Files to be written, which take their places at the end, all of them or none; the last one is the last."""
    for path in paths:
        _check_free(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
    temporaries = [temporary_beside(path) for path in paths]
    placed: list[Path] = []
    try:
        with contextlib.ExitStack() as stack:
            files: list[BinaryIO] = [stack.enter_context(open(name, "xb")) for name in temporaries]
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in zip(temporaries, paths, strict=True):
            _check_free(path, overwrite)
            if not path.exists():
                placed.append(path)
            os.replace(temporary, path)
    except BaseException:
        for path in placed:
            path.unlink(missing_ok=True)
        raise
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
    sync_folder(paths[-1].parent)


def _opened(source: CodeSet | str | os.PathLike[str]) -> CodeSet:
    return source if isinstance(source, CodeSet) else CodeSet(source)


def _no_progress(_done: int, _total: int) -> None:
    """Nobody looks."""


def export_npy(
    source: CodeSet | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, Path | None]:
    """Writes the codes of a set as one ``.npy`` file, and its labels as another one beside it.

    ``codes.npy`` gets packed bytes uint8 ``[G, ceil(K / 8)]``, for ``numpy.unpackbits(..., axis=1, count=K,
    bitorder="little")``; ``codes_labels.npy`` class ids ``[G]``, or multi-hot rows bool ``[G, C]``.

    Args:
        source: a code set, or where it is.
        path: the file of the codes, which ends in ``.npy``.
        overwrite: take the place of earlier files.
        progress: called with (items done, items in all) after every block.

    Returns:
        The files of codes and labels; None where the set has no labels. After an error neither is there.

    Raises:
        CodeSetError: the set is damaged; ``path`` is another kind of file; a file exists already.
        TypeError: ``overwrite`` is not a bool.
        OSError: something cannot be read or written.

    Cost: every byte is read, checked and written once. Memory: a block of about 32 MiB, its labels unpacked.

    Example:
        >>> import numpy, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> codes = torch.tensor([[0b11], [0b01]], dtype=torch.uint8)
        >>> gallery = rdh_ext.retrieval.write_code_set(folder + "/gallery", codes, torch.tensor([7, 3]), bits=2)
        >>> files = rdh_ext.retrieval.export_npy(gallery, folder + "/codes.npy")
        >>> [file.name for file in files]
        ['codes.npy', 'codes_labels.npy']
        >>> numpy.unpackbits(numpy.load(files[0]), axis=1, count=2, bitorder="little").tolist()
        [[1, 1], [1, 0]]
    """
    overwrite = checks.check_bool("export_npy", "overwrite", overwrite)
    source, path, tell = _opened(source), Path(path), progress or _no_progress
    if path.suffix != ".npy":
        raise CodeSetError(f"{path}: must end in .npy, so that the labels have a name beside it; name it so")
    labels = source.labels
    classes = None if labels is None else labels.classes
    labels_path = None if labels is None else path.with_name(f"{path.stem}_labels.npy")
    with _new_files([file for file in (labels_path, path) if file is not None], overwrite) as files:
        files[-1].write(header_of(np.dtype(np.uint8), (len(source), source.manifest.code_bytes)))
        if classes is not None:
            files[0].write(header_of(np.dtype(np.bool_), (len(source), classes)))
        elif labels is not None:
            files[0].write(header_of(np.dtype(labels.dtype).newbyteorder("<"), (len(source),)))
        for block in source.blocks():
            codes, rows = _bytes_of(source, block)
            if rows is not None and classes is not None:
                rows = unpack_labels(rows, classes)
            if rows is not None:
                files[0].write(rows.data)
            files[-1].write(codes.data)
            tell(block.first + block.items, len(source))
    return path, labels_path


def _bytes_of(source: CodeSet, block: Block) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Codes and labels of a block as they lie on the disk."""
    codes = np.empty((block.items, source.manifest.code_bytes), np.uint8)
    labels = None if source.labels is None else np.empty((block.items, source.labels.width), np.uint8)
    source.read_into(block, codes, labels)
    return codes, labels


def export_faiss(
    source: CodeSet | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    nlist: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes the codes of a set as a binary index for FAISS: IndexBinaryFlat, or IndexBinaryIVF with ``nlist`` lists.

    ``faiss.read_index_binary`` reads it. The ids are the places in the set. FAISS has lengths in whole bytes: codes of
    12 bits become 16, the last four always 0, and distances remain the same. Labels have no place in such a file.

    Args:
        source: a code set, or where it is.
        path: the file.
        nlist: lists of an IndexBinaryIVF, whose centroids are trained on up to 256 items for each, drawn with a fixed
            seed; about the square root of G is usual. None means IndexBinaryFlat, which searches everything.
        overwrite: take the place of an earlier file.
        progress: called with (items done, items in all) after every block; an IndexBinaryIVF reads the set twice.

    Returns:
        ``path``. After an error nothing is there.

    Raises:
        CodeSetError: the set is damaged; there are fewer items than lists; a file exists already.
        MissingExtra: with ``nlist`` FAISS is needed: ``pip install 'rdh_ext[search]'``.
        TypeError, ValueError: ``nlist`` or ``overwrite`` cannot be.
        OSError: something cannot be read or written.

    Cost: IndexBinaryFlat: every byte is read, checked and written once; memory of a block, and FAISS is not needed.
    IndexBinaryIVF: reads twice; memory of all codes and 8 bytes per item. The same file every time on one machine.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> gallery = rdh_ext.retrieval.write_code_set(folder + "/gallery", rdh_ext.pack_codes(torch.randn(100, 48)))
        >>> rdh_ext.retrieval.export_faiss(gallery, folder + "/gallery.faiss").stat().st_size
        633
    """
    overwrite = checks.check_bool("export_faiss", "overwrite", overwrite)
    if nlist is not None:
        expected = f"an integer from 1 to {MAX_LISTS}, or None"
        nlist = checks.check_integer("export_faiss", "nlist", nlist, low=1, high=MAX_LISTS, expected=expected)
    source, path, tell = _opened(source), Path(path), progress or _no_progress
    _check_free(path, overwrite)  # before the training
    if nlist is None:
        _write_flat(source, path, overwrite, tell)
        return path
    if len(source) < nlist:
        raise CodeSetError(f"{source.path}: {len(source):,} items for {nlist:,} lists; take fewer lists (--ivf)")
    faiss = require("faiss", package="faiss-cpu", extra="search")
    index = _trained(faiss, source, nlist, tell)
    for block in source.blocks():
        index.add(_bytes_of(source, block)[0])
        tell(len(source) + block.first + block.items, 2 * len(source))
    with _new_files([path], overwrite) as (file,):
        faiss.write_index_binary(index, faiss.PyCallbackIOWriter(file.write))
    return path


def _write_flat(source: CodeSet, path: Path, overwrite: bool, tell: Callable[[int, int], None]) -> None:
    width = source.manifest.code_bytes
    with _new_files([path], overwrite) as (file,):
        file.write(FLAT_HEADER.pack(FLAT, 8 * width, width, len(source), 1, METRIC_L2, len(source) * width))
        for block in source.blocks():
            file.write(_bytes_of(source, block)[0].data)
            tell(block.first + block.items, len(source))


def _trained(faiss: Any, source: CodeSet, nlist: int, tell: Callable[[int, int], None]) -> Any:
    """An empty IndexBinaryIVF, trained on a sample of the set."""
    items, width = len(source), source.manifest.code_bytes
    size = min(items, _SAMPLE_PER_LIST * nlist)
    chosen = np.sort(np.random.default_rng(_SEED).choice(items, size, replace=False, shuffle=False))
    sample = np.empty((size, width), np.uint8)
    for block in source.blocks():
        start, stop = np.searchsorted(chosen, (block.first, block.first + block.items))
        sample[start:stop] = _bytes_of(source, block)[0][chosen[start:stop] - block.first]
        tell(block.first + block.items, 2 * items)
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(8 * width), 8 * width, nlist)
    index.cp.seed = _SEED
    index.cp.min_points_per_centroid = 1  # or FAISS says on standard error that they are few
    index.train(sample)
    return index
