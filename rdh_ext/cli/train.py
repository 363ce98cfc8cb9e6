"""``rdh train``."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING, Any

from .arguments import (
    CommandError,
    check_device,
    device_name,
    file_name,
    folder_name,
    number,
    setting,
    warnings_in_a_line,
    whole_number,
)
from .data_options import data_errors

if TYPE_CHECKING:
    from ..hashing.recipe import Recipe


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "train",
        parents=[common],
        help="train a hashing model by a recipe: DPSH, DHN, HashNet, DAGH, DSDH, each with or without RDH",
        description="""\
Trains a network to give images (or features) binary codes, encodes queries and gallery, and evaluates them. A recipe
says everything: data, preprocessing, network, method, schedule; options here replace what is in it. The folder then
has the model, its codes, the loss and the dead bits of every step, and results.json. The epoch that is kept is chosen
on items held out of training, never on the queries. Needs: pip install 'rdh_ext[train]'""",
        epilog="""\
examples:
  rdh train --recipe digits --rdh --out runs/digits              offline, half a minute
  rdh train --recipe cifar10 --method dpsh --rdh --bits 48 --out runs/dpsh --device cuda
  rdh train --features x.npy --labels y.npy --bits 64 --out runs/mine        hash your own embeddings
  rdh train --recipe nuswide21 --set data.root=/data/nus --set training.epochs=100 --out runs/nus
  rdh train --recipe cifar10 --print-recipe > mine.yaml          then edit it, and --recipe mine.yaml
  rdh train ... --out runs/dpsh --resume                         after an interrupt, bit for bit on a CPU
  torchrun --nproc-per-node 4 -m rdh_ext train --recipe coco --out runs/coco --device cuda
  tensorboard --logdir runs

afterwards:
  rdh evaluate --query runs/digits/codes/query --gallery runs/digits/codes/gallery
  rdh encode new --model runs/digits --images folder-of-images
  python: rdh_ext.load("runs/digits").encode(images)""",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="of the package, a .yaml file, or the folder of a run (digits; with --features: features)",
    )
    parser.add_argument("--out", type=folder_name, metavar="FOLDER", help="of the run")
    parser.add_argument("--method", metavar="NAME", help="dpsh, dhn, hashnet, dagh or dsdh")
    parser.add_argument("--rdh", action=argparse.BooleanOptionalAction, help="with or without RDH")
    parser.add_argument("--bits", type=whole_number(1, 4096), metavar="K", help="code length")
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), help="of split, weights, batches (0)")
    parser.add_argument("--epochs", type=whole_number(1, 10**6))
    parser.add_argument("--batch-size", type=whole_number(2, 10**6), metavar="B", help="of all processes together")
    parser.add_argument("--lr", type=number(0.0), help="learning rate at the beginning; it falls along a cosine")
    parser.add_argument("--tau", type=number(0.0, 1.0), help="threshold of the gradient amplifier")
    parser.add_argument("--eta", type=number(0.0), help="weight of the quantization term")
    parser.add_argument("--backbone", metavar="NAME", help="small_cnn, linear, mlp, alexnet, or a model of torchvision")
    parser.add_argument("--root", type=file_name, metavar="FOLDER", help="where the data are")
    parser.add_argument("--features", type=file_name, metavar="FILE.npy", help="train on these rows")
    parser.add_argument("--labels", type=file_name, metavar="FILE.npy", help="of --features")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="KEY=VALUE", help="anything else in the recipe"
    )
    parser.add_argument("--device", type=device_name, default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--precision", choices=("32", "16", "bf16", "64"), help="mixed with 16 or bf16 (32)")
    parser.add_argument("--workers", type=whole_number(0, 1024), metavar="N", help="processes that read images")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--force", action="store_true", help="begin anew in a folder that holds a run")
    parser.add_argument("--no-tensorboard", action="store_true", help="write metrics.csv only")
    parser.add_argument("--print-recipe", action="store_true", help="print the whole recipe as YAML, and end")
    parser.add_argument(
        "--timeout", type=whole_number(1, 10**6), default=1800, metavar="SECONDS", help="to wait for other ranks (1800)"
    )
    parser.set_defaults(run=functools.partial(_run, parser))


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe with the options of the command line in it."""
    from ..hashing import recipe as recipes

    default = "digits" if arguments.features is None else "features"
    values = {key: recipes.parse_yaml(text) for key, text in arguments.set}
    method = values.pop("method.name", arguments.method)  # with what the recipe has for it
    recipe = recipes.read(arguments.recipe or default, method)
    given: dict[str, Any] = {
        "method.rdh": arguments.rdh,
        "method.tau": arguments.tau,
        "method.eta": arguments.eta,
        "bits": arguments.bits,
        "seed": arguments.seed,
        "training.epochs": arguments.epochs,
        "training.batch_size": arguments.batch_size,
        "training.lr": arguments.lr,
        "backbone.name": arguments.backbone,
        "data.root": None if arguments.root is None else str(arguments.root),
        "precision": arguments.precision,
    }
    if arguments.features is not None:
        given |= {
            "data.name": "features",
            "data.features": str(arguments.features),
            "data.labels": str(arguments.labels),
        }
    return recipe.override({name: value for name, value in given.items() if value is not None} | values)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if (arguments.features is None) != (arguments.labels is None):
        parser.error("--features X.npy and --labels Y.npy go together; give both")
    if arguments.out is None and not arguments.print_recipe:
        parser.error("--out FOLDER is where the run goes; name it")
    if arguments.resume and arguments.force:
        parser.error("--resume goes on with a run, --force begins it anew; leave one out")
    from ..hashing import recipe as recipes

    recipe = recipe_of(arguments)
    if recipe.data["name"] == "features" and "features" not in recipe.data and not arguments.print_recipe:
        parser.error("the recipe trains on rows of an array: --features X.npy --labels Y.npy")
    if arguments.print_recipe:
        print(recipes.to_yaml(recipe), end="")
        return
    check_device(arguments.device)
    from ..hashing.run import RunError, RunOptions, run
    from .process_group import process_group

    with process_group(arguments.device, arguments.timeout, gradients=True) as (rank, device):
        options = RunOptions(
            arguments.out,
            device=device,
            resume=arguments.resume,
            force=arguments.force,
            progress=rank == 0,
            tensorboard=not arguments.no_tensorboard,
            workers=arguments.workers,
        )
        try:
            with data_errors(recipe.data), warnings_in_a_line("train", shown=rank == 0):
                results = run(recipe, options)
        except RunError as error:
            raise CommandError(f"--out {error}") from error
    if rank == 0:
        print(summary(results, arguments))


def summary(results: dict[str, Any], arguments: argparse.Namespace) -> str:
    """What came out, for people."""
    recipe, items, epochs = results["recipe"], results["items"], results["epochs"]
    depth = "" if results["topk"] is None else f"@{results['topk']}"
    validation = {each["epoch"]: each["map"] for each in results["validation"]}
    chosen = validation.get(results["epoch"])
    why = "the last one" if chosen is None else f"mAP {chosen:.4f} of the held out items"
    lines = [
        f"{results['label']}, {recipe['bits']} bits, {results['data']['description']}",
        f"mAP{depth:<6} {results['map']:.4f}  {items['query']:,} queries, {items['gallery']:,} in the gallery",
        f"mAP@100   {results['map_at_100']:.4f}",
        f"P@H<=2    {results['precision_radius_2']:.4f}",
        f"epoch     {results['epoch'] + 1} of {recipe['training']['epochs']}, {why}",
    ]
    if epochs:
        last = epochs[-1]
        lines.append(
            f"dead bits {last['dead']:,.0f} of {last['bits']:,.0f} a step in the last epoch, "
            f"{last['saturated']:,.0f} saturated"
        )
    lines += [f"time      {results['seconds']:.0f} s of training", "", f"run: {arguments.out}"]
    return "\n".join(lines)
