"""``rdh search``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .arguments import CommandError, byte_count, check_device, device_name, file_name, whole_number

if TYPE_CHECKING:
    import torch

    from ..retrieval import CodeSet
    from .progress import Bar
    from .search_answer import Answer
    from .search_faiss import Index
    from .search_pictures import Pictures

SHOWN = 5
"""Queries that are searched and shown if nothing is said."""
MOST_SHOWN = 20
"""Queries in a table at most."""
Rows = list[tuple[int, int]]
"""First and last."""


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "search",
        parents=[common],
        help="the nearest codes of queries in a gallery, as a table, JSON, CSV or pictures",
        description="""\
Finds the k codes of a gallery that are nearest to each query, exact, in the order of (distance, gallery index): code
sets as 'rdh encode' writes them. The gallery goes through memory block by block; the answer is that of
rdh_ext.hamming_topk, bit for bit. Prints a table of a few queries; writes all of them as JSON or CSV, draws them with
their pictures, and says how much of the answer a FAISS index finds.""",
        epilog="""\
examples:
  rdh search --gallery gallery --query query                     the 10 nearest of the first 5 queries
  rdh search --gallery gallery --query query --rows 0,5,10-20 -k 100
  rdh search --gallery gallery --query query -k 1000 --json answer.json      of all queries
  rdh search --gallery gallery --query query --csv - | head
  rdh search --gallery gallery --image cat.jpg --model runs/mine --pictures gallery.txt --out grid.png
  rdh search --gallery gallery --query query --pictures gallery.txt --query-pictures query.txt --out grid.png
  rdh search --gallery gallery --query query --faiss gallery.index --nprobe 8
  torchrun --nproc-per-node 4 -m rdh_ext search --gallery gallery --query query --json answer.json --device cuda

what is searched:
  The queries that --rows names. Without it all of them where --json, --csv or --faiss wants them, else the first 5.
  The table has 5 queries, or up to 20 that --rows names.

what comes out:
  --json has a line for each query: its row and label, and of its neighbours indices, distances, labels, and whether
  they share a label. --csv has a line for each neighbour. Multi-hot labels are the numbers of their classes.
  --pictures is a text file with the path of a picture for each item of the gallery, one a line, relative to the
  file; or a folder, whose pictures are taken in the order of their names, folder by folder. In the grid a green frame
  shares a label with the query, a red one does not; it has up to 20 queries and 20 neighbours of each.
  --faiss searches a second time, with a FAISS binary index of the gallery. Its recall is the part of the exact
  neighbours that it finds; many items have the same distance, so also the part that is as near. The answer in table,
  CSV and pictures stays the exact one; --json has both.

needs: pip install 'rdh_ext[cli]' for pictures, pip install 'rdh_ext[search]' for --faiss""",
    )
    parser.add_argument("--gallery", required=True, type=file_name, metavar="SET", help="code set to search in")
    parser.add_argument("--query", type=file_name, metavar="SET", help="code set of the queries")
    parser.add_argument(
        "--image",
        type=file_name,
        action="append",
        metavar="FILE",
        help="an image as query; needs --model; again for more",
    )
    parser.add_argument("--model", type=file_name, metavar="RUN", help="what made the gallery: folder of 'rdh train'")
    parser.add_argument("--rows", type=row_list, metavar="ROWS", help="of the queries, from 0 on, as 0,5,10-20")
    parser.add_argument("-k", type=whole_number(1, 2**31 - 1), default=10, help="neighbours of each query (10)")
    parser.add_argument("--device", type=device_name, default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument(
        "--memory", type=byte_count, metavar="SIZE", help="of the process in all, as 2GiB (what it needs)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - is standard output")
    parser.add_argument("--csv", metavar="FILE", help="write the neighbours as CSV; - is standard output")
    parser.add_argument("--pictures", type=file_name, metavar="LIST", help="pictures of the gallery: list or folder")
    parser.add_argument("--query-pictures", type=file_name, metavar="LIST", help="pictures of the queries (none)")
    parser.add_argument("--out", type=file_name, metavar="FILE.png", help="the grid of pictures")
    parser.add_argument("--faiss", type=file_name, metavar="FILE", help="FAISS binary index of the gallery")
    parser.add_argument("--nprobe", type=whole_number(1, 2**31 - 1), metavar="N", help="lists that FAISS searches")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    parser.add_argument(
        "--timeout", type=whole_number(1, 10**6), default=1800, metavar="SECONDS", help="to wait for other ranks (1800)"
    )
    parser.set_defaults(run=functools.partial(_run, parser))


def row_list(text: str) -> Rows:
    """An argparse type: rows and ranges of rows."""
    rows = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", part.strip(), re.ASCII)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise argparse.ArgumentTypeError(f"must be rows like 0,5,10-20, got {text!r}")
        rows.append((int(match[1]), int(match[2] or match[1])))
    return rows


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    _check_usage(parser, arguments)
    check_device(arguments.device)
    from ..retrieval import CodeSet
    from .one_model import say_if_two_models
    from .process_group import process_group
    from .progress import Bar

    with contextlib.ExitStack() as stack:
        rank, device = stack.enter_context(process_group(arguments.device, arguments.timeout))
        if arguments.image is not None:
            from .search_image import images_as_queries

            arguments.query = stack.enter_context(images_as_queries(arguments.image, arguments.model, device))
            arguments.query_pictures = None if arguments.pictures is None else arguments.image
        first = rank == 0
        query, gallery = CodeSet(arguments.query), CodeSet(arguments.gallery)
        if query.bits != gallery.bits:
            named = query.path if arguments.model is None else f"the model in {arguments.model}"
            raise CommandError(
                f"{named} has codes of {query.bits} bits, {gallery.path} of {gallery.bits}; name sets of one model"
            )
        rows = _rows(arguments, query)
        index = None
        if first:
            say_if_two_models("search", query, gallery)
            _check_files(arguments)
            if arguments.faiss is not None:
                from .search_faiss import open_index

                index = open_index(arguments.faiss, gallery, arguments.nprobe)
            if arguments.pictures is not None:
                _check_pictures(arguments, query, gallery)
        bar = Bar(" items", shown=first)
        try:
            answer = _search(arguments, query, gallery, rows, index, device, bar, first=first)
            if answer is not None:
                _give_out(answer, arguments, bar)
        finally:
            bar.close()


def _check_usage(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Options that do not go together."""
    if (arguments.query is None) == (arguments.image is None):
        parser.error("name the queries: --query SET, or --image FILE with --model RUN")
    if (arguments.image is None) != (arguments.model is None):
        parser.error("--image FILE and --model RUN go together; give both")
    if arguments.image is not None and (arguments.rows is not None or arguments.query_pictures is not None):
        parser.error("--rows and --query-pictures go with --query; --image has its own")
    if arguments.json == "-" and arguments.csv == "-":
        parser.error("--json - and --csv - would both be standard output; name a file for one of them")
    if "" in (arguments.json, arguments.csv):
        parser.error("--json and --csv take the name of a file, or - for standard output, got ''")
    if (arguments.pictures is None) != (arguments.out is None):
        parser.error("--pictures LIST and --out FILE.png go together; give both")
    if arguments.query_pictures is not None and arguments.pictures is None:
        parser.error("--query-pictures goes with --pictures, the pictures of the gallery; give both")
    if arguments.out is not None and arguments.out.suffix.lower() != ".png":
        parser.error(f"--out {arguments.out}: the grid is a PNG; name a file that ends in .png")
    if arguments.nprobe is not None and arguments.faiss is None:
        parser.error(f"--nprobe {arguments.nprobe} is of a FAISS index; name it with --faiss")


def _check_files(arguments: argparse.Namespace) -> None:
    """Fails before the work where its result could not be written after it."""
    outputs = [("--json", arguments.json), ("--csv", arguments.csv), ("--out", arguments.out)]
    named = [(option, Path(name)) for option, name in outputs if name not in (None, "-")]
    for option, path in named:
        if path.is_dir():
            raise CommandError(f"{option} {path} is a folder; name a file")
        if path.exists() and not arguments.force:
            raise CommandError(f"{option} {path} exists; name another file, or add --force to overwrite it")
    if len({path.absolute() for _, path in named}) < len(named):
        raise CommandError("--json, --csv and --out must be different files; name another one")


def _pictures(arguments: argparse.Namespace, query: CodeSet, gallery: CodeSet) -> tuple[Pictures, Pictures | None]:
    from .search_pictures import Pictures

    ours = None
    if arguments.query_pictures is not None:
        ours = Pictures("--query-pictures", arguments.query_pictures, len(query))
    return Pictures("--pictures", arguments.pictures, len(gallery)), ours


def _check_pictures(arguments: argparse.Namespace, query: CodeSet, gallery: CodeSet) -> None:
    from .._extras import require

    require("matplotlib", extra="cli")
    for pictures in _pictures(arguments, query, gallery):
        if pictures is not None:
            pictures.check()


def _rows(arguments: argparse.Namespace, query: CodeSet) -> torch.Tensor:
    """The queries that are searched, int64."""
    import torch

    if arguments.rows is None:
        wants_all = (arguments.json, arguments.csv, arguments.faiss) != (None, None, None)
        return torch.arange(len(query) if wants_all else min(SHOWN, len(query)))
    for _, last in arguments.rows:
        if last >= len(query):
            there = f"its rows are 0 to {len(query) - 1:,}" if len(query) else "it is empty"
            raise CommandError(f"--rows {last}: not in {query.path}; {there}")
    return torch.cat([torch.arange(low, high + 1) for low, high in arguments.rows])


def _search(
    arguments: argparse.Namespace,
    query: CodeSet,
    gallery: CodeSet,
    rows: torch.Tensor,
    index: Index | None,
    device: str,
    bar: Bar,
    *,
    first: bool,
) -> Answer | None:
    """The answer; None on all ranks but the first."""
    import torch

    from ..retrieval import search_sets
    from .search_answer import Answer, Labels, read_items, read_labels

    items, place = rows.unique(return_inverse=True)
    codes = torch.empty((len(items), query.manifest.code_bytes), dtype=torch.uint8)
    labels = []
    for part, some, theirs in read_items(query, items, lambda done, of: bar("queries", done, of)):
        codes[part] = some
        labels += [] if theirs is None else [theirs]
    codes = codes[place]
    classes = None if query.labels is None else query.labels.classes
    begin = time.perf_counter()
    distances, indices = search_sets(
        codes,
        gallery,
        arguments.k,
        device=device,
        memory=arguments.memory,
        progress=lambda done, of: bar("search", done, of),
    )
    seconds = time.perf_counter() - begin
    if not first:
        return None
    approximate = None
    if index is not None:
        from .search_faiss import search

        found = (distances, indices)
        approximate = search(index, gallery, codes, found, lambda done, of: bar("FAISS", done, of))
    return Answer(
        query=query,
        gallery=gallery,
        rows=rows,
        distances=distances,
        indices=indices,
        query_labels=Labels(items, torch.cat(labels), classes) if labels else None,
        gallery_labels=read_labels(gallery, indices, lambda done, of: bar("labels", done, of)),
        seconds=seconds,
        approximate=approximate,
        name=None if arguments.image is None else ", ".join(map(str, arguments.image)),
    )


def _give_out(answer: Answer, arguments: argparse.Namespace, bar: Bar) -> None:
    from .search_answer import table, write_csv, write_json

    told = []
    for name, write in ((arguments.json, write_json), (arguments.csv, write_csv)):
        if name is not None:
            with _file(name) as file:
                write(answer, file, lambda done, of: bar("write", done, of))
            told += [] if name == "-" else [f"written: {name}"]
    if arguments.out is not None:
        _draw(answer, arguments)
        told.append(f"pictures: {arguments.out}")
    bar.close()
    if "-" in (arguments.json, arguments.csv):  # standard output is for a program
        return
    for line in table(answer, SHOWN if arguments.rows is None else MOST_SHOWN):
        print(line)
    if told:
        print("", *told, sep="\n")


def _draw(answer: Answer, arguments: argparse.Namespace) -> None:
    from ..hashing.report.files import write_figure
    from .search_pictures import grid

    write_figure(arguments.out, grid(answer, *_pictures(arguments, answer.query, answer.gallery)))


@contextlib.contextmanager
def _file(name: str) -> Iterator[TextIO]:
    """A file to write to that is there when all of it is, or not at all; - is standard output."""
    if name == "-":
        yield sys.stdout
        return
    from .._files import sync_folder, temporary_beside

    path = Path(name)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # it may name no file, or the temporary one
        raise CommandError(f"{path}: {error.strerror or error}; make room or name another file") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
