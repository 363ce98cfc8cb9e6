"""``rdh export``."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from .arguments import file_name, whole_number


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "export",
        parents=[common],
        help="write a code set as a binary index of FAISS, or as .npy",
        description="""\
Writes the codes of a code set in a file that other programs read: complete, or not at all.""",
        epilog="""\
examples:
  rdh export gallery --npy codes.npy                   packed bytes, and codes_labels.npy with the labels
  rdh export gallery --faiss gallery.faiss             IndexBinaryFlat, which searches everything
  rdh export gallery --faiss gallery.faiss --ivf 1000  IndexBinaryIVF of 1,000 lists (pip install 'rdh_ext[search]')

and then, in Python:
  index = faiss.read_index_binary("gallery.faiss")
  distances, ids = index.search(packed_queries, 10)    ids are places in the set; codes are padded to whole bytes
  bits = numpy.unpackbits(numpy.load("codes.npy"), axis=1, count=K, bitorder="little")""",
    )
    parser.add_argument("set", type=file_name, metavar="SET", help="code set, as 'rdh encode' writes it")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--faiss", type=file_name, metavar="FILE", help="binary index")
    target.add_argument("--npy", type=file_name, metavar="FILE.npy", help="codes; labels go to FILE_labels.npy")
    parser.add_argument(
        "--ivf", type=whole_number(1, 2**24), metavar="NLIST", help="IndexBinaryIVF with so many lists, for --faiss"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    parser.set_defaults(run=functools.partial(_run, parser))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.ivf is not None and arguments.faiss is None:
        parser.error("--ivf goes with --faiss")
    from ..retrieval import CodeSet, export_faiss, export_npy
    from ..retrieval.sets.manifest import codes_in_words
    from .progress import Bar

    source = CodeSet(arguments.set)
    bar = Bar(" codes")
    tell = functools.partial(bar, "export")
    try:
        if arguments.npy is not None:
            path, labels = export_npy(source, arguments.npy, overwrite=arguments.force, progress=tell)
            kind = "packed bytes"
            where = f"{path}" if labels is None else f"{path}; {source.labels} in {labels}"
        else:
            path = export_faiss(source, arguments.faiss, nlist=arguments.ivf, overwrite=arguments.force, progress=tell)
            kind = "IndexBinaryFlat" if arguments.ivf is None else f"IndexBinaryIVF of {arguments.ivf:,} lists"
            where = f"{path}; labels have no place there" if source.labels is not None else f"{path}"
    finally:
        bar.close()
    print(f"{codes_in_words(len(source), source.bits)} as {kind} in {where}")
