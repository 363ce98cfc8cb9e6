"""``rdh encode``."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING, Any

from .arguments import CommandError, device_name, file_name, setting, warnings_in_a_line, whole_number

if TYPE_CHECKING:
    from ..retrieval import CodeSet, Dump


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "encode",
        parents=[common],
        help="make a code set: of images by a trained model, or of codes in .npy, .pt or FAISS files",
        description="""\
Makes a code set, what 'rdh evaluate' and 'rdh search' read: with --model of images or features, by a model of 'rdh
train'; without it of the codes that you have. OUT is a folder, or one file if it ends in .npz. Files of any size are
read piece by piece. OUT is there when all of it is on the disk, or not at all. Nothing is unpickled.""",
        epilog="""\
examples:
  rdh encode gallery --model runs/mine --images pictures                every image in a folder and its subfolders
  rdh encode gallery --model runs/mine --images list.txt --labels y.npy      those of a list, one path a line
  rdh encode gallery --model runs/mine --features x.npy --labels y.npy       rows of features
  rdh encode query --model runs/mine --part query                       of the data set it was trained on
  rdh encode query --model runs/mine --part query --set data.features=moved/x.npy --set data.labels=moved/y.npy
  rdh encode query --codes tst_binary.npy --labels tst_label.npy        the pairs that many projects write
  rdh encode gallery --codes trn_binary.npy --labels trn_label.npy
  rdh encode query --dump codes.pt --part query                         qB, qL of a dictionary with qB, rB, qL, rL
  rdh encode gallery --dump codes.pt --part gallery                     rB, rL of it
  rdh encode gallery --codes packed.npy --bits 48 --bit-order big       what numpy.packbits(bits, axis=1) made
  rdh encode gallery --faiss gallery.faiss --labels labels.npy          a binary index of FAISS
  rdh encode gallery.npz --codes outputs.npy --force                    one file, in place of an earlier one

what a file may hold:
  Codes [G, K]: outputs, +-1 or -1-0-1 (bit = value >= 0, exact zeros are counted), bools or 0-1 (bit = value > 0); or
  packed bytes uint8 [G, K/8]. Outputs of a sigmoid: save outputs > 0.5. What could be two things is an error that says
  so, and --values decides.
  Labels: class ids [G] or [G, 1], also as floats; or multi-hot [G, C] of 0 and 1, which one-hot is, too.
  FAISS: IndexBinaryFlat, IndexBinaryIVF, IndexBinaryIDMap with ids 0 to G-1 (all but the first need: pip install
  'rdh_ext[search]').""",
    )
    parser.add_argument("out", type=file_name, metavar="OUT", help="the code set")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--codes", type=file_name, metavar="FILE.npy", help="codes or outputs, one row per item")
    source.add_argument(
        "--dump", type=file_name, metavar="FILE.pt", help="dictionary with qB, rB, qL, rL; needs --part"
    )
    source.add_argument("--faiss", type=file_name, metavar="FILE", help="binary index")
    source.add_argument("--images", type=file_name, metavar="LIST", help="list of images, or a folder; needs --model")
    source.add_argument("--features", type=file_name, metavar="FILE.npy", help="features, one row each; needs --model")
    parser.add_argument("--model", type=file_name, metavar="RUN", help="folder of 'rdh train', or its model.pt")
    parser.add_argument("--labels", type=file_name, metavar="FILE.npy", help="labels of the items (none)")
    parser.add_argument("--class-folders", action="store_true", help="the folder that an image is in is its class")
    parser.add_argument(
        "--part", choices=("query", "gallery", "train"), help="of --dump, or of the data set of --model"
    )
    parser.add_argument("--root", type=file_name, metavar="FOLDER", help="where the data set of --model is now")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="data.KEY=VALUE", help="another option of --part"
    )
    parser.add_argument("--device", type=device_name, default="cpu", help="of --model: cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--workers", type=whole_number(0, 1024), metavar="N", help="processes that read images")
    parser.add_argument("--bits", type=whole_number(1, 4096), metavar="K", help="code length (what the file says)")
    parser.add_argument(
        "--bit-order", choices=("little", "big"), default="little", help="of packed bytes: FAISS's, or NumPy's (little)"
    )
    parser.add_argument(
        "--values", choices=("auto", "packed", "signs", "01"), default="auto", help="what numbers mean (what they are)"
    )
    parser.add_argument(
        "--shard-items", type=whole_number(1, 2**40), metavar="N", help="items per file (about a GiB of codes)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an earlier code set, and nothing else")
    parser.set_defaults(run=functools.partial(_run, parser))


def _check_usage(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Options that say nothing about what was named."""
    a = arguments
    if a.model is not None:
        _check_model_usage(parser, a)
        return
    if a.codes is None and a.dump is None and a.faiss is None:
        if a.images is None and a.features is None:
            parser.error(
                "name what to encode: --codes, --dump or --faiss, or --model with --images, --features or --part"
            )
        parser.error("--images and --features are encoded by a model; name it with --model")
    if a.dump is not None and a.part is None:
        parser.error("--dump holds two sets: add --part query or --part gallery")
    if a.dump is not None and a.part == "train":
        parser.error("--dump has no --part train; add --part query or --part gallery")
    if a.dump is None and a.part is not None:
        parser.error("--part goes with --dump or --model")
    if a.dump is not None and a.labels is not None:
        parser.error("--labels goes with --codes or --faiss; --dump has its own")
    if a.faiss is not None and (a.bit_order, a.values) != ("little", "auto"):
        parser.error("--bit-order and --values go with --codes or --dump; an index has one form")
    if a.class_folders or a.root is not None or a.set or a.workers is not None or a.device != "cpu":
        parser.error("--class-folders, --root, --set, --workers and --device go with --model; name it")


def _check_model_usage(parser: argparse.ArgumentParser, a: argparse.Namespace) -> None:
    if a.codes is not None or a.dump is not None or a.faiss is not None:
        parser.error("--model makes codes of --images, --features or --part; --codes, --dump and --faiss have codes")
    if [a.images, a.features, a.part].count(None) != 2:
        parser.error("--model makes codes of one of --images LIST, --features FILE.npy and --part; name one")
    if (a.bit_order, a.values) != ("little", "auto"):
        parser.error("--bit-order and --values go with --codes or --dump; a model has one form")
    if a.part is not None and (a.labels is not None or a.class_folders):
        parser.error("--labels and --class-folders go with --images or --features; --part has its own")
    if a.class_folders and (a.images is None or a.labels is not None):
        parser.error("--class-folders goes with --images, and takes the place of --labels")
    if a.part is None and (a.root is not None or a.set):
        parser.error("--root and --set are of the data set of --part; name a part")
    strange = next((key for key, _ in a.set if not key.startswith("data.")), None)
    if strange is not None:
        parser.error(f"--set {strange}: the model is as it was trained; only data.* can be set, as data.root")


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    _check_usage(parser, arguments)
    if arguments.model is not None:
        from .encode_model import write

        try:
            with warnings_in_a_line("encode"):
                said = write(arguments)
        except ValueError as error:  # items that the model does not take, or data that cannot be used
            raise CommandError(str(error)) from error
        print(said)
        return
    from .progress import Bar

    dump = _opened(arguments)
    bar = Bar(" codes")
    try:
        made = dump.write(
            arguments.out,
            shard_items=arguments.shard_items,
            overwrite=arguments.force,
            progress=functools.partial(bar, "encode"),
        )
    finally:
        bar.close()
    print(_summary(dump, made))


def _opened(arguments: argparse.Namespace) -> Dump:
    from ..retrieval import open_faiss, open_npy, open_pt

    if arguments.faiss is not None:
        return open_faiss(arguments.faiss, arguments.labels, bits=arguments.bits)
    options = {"bits": arguments.bits, "bit_order": arguments.bit_order, "values": arguments.values}
    if arguments.dump is not None:
        return open_pt(arguments.dump, arguments.part, **options)
    return open_npy(arguments.codes, arguments.labels, **options)


def _summary(dump: Dump, made: CodeSet) -> str:
    """One line: items, bits, where they come from, labels, place."""
    from ..retrieval.sets.manifest import codes_in_words

    source = {"packed": "from packed bytes", "01": "from 0-1 values"}.get(dump.values)
    if source is None:
        zeros = dump.exact_zeros
        source = f"from signs, {zeros:,} exact zero{'s' if zeros != 1 else ''}{' taken as +' if zeros else ''}"
    return f"{codes_in_words(len(made), made.bits)} {source}; {made.labels or 'no labels'}; in {made.path}"
