"""docs/training.md: what needs no download runs as it stands (with fewer epochs), and what it names exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rdh_ext import cli
from rdh_ext.cli.train import recipe_of
from rdh_ext.hashing import recipe as recipes
from rdh_ext.hashing.backbones import BACKBONES
from rdh_ext.hashing.data import DATASETS, load_lists
from rdh_ext.hashing.data import known_lists as known
from rdh_ext.hashing.methods import METHODS
from rdh_ext.hashing.options import options_of

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs" / "training.md"
pytestmark = pytest.mark.skipif(not DOC.exists(), reason="needs the documents of the source tree")
NOT_RUN = "<!-- not run -->"
FEW_EPOCHS = ["--epochs", "2"]
FREE = ("pip", "cd", "cat", "python", "tensorboard")
"""Words that commands of others begin with."""


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    is_run: bool

    def commands(self) -> list[list[str]]:
        """The words of each command; ``torchrun ... -m rdh_ext`` counts as ``rdh``."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line, comments=True) for line in lines]
        return [_as_rdh(each) for each in words if each]


def _as_rdh(words: list[str]) -> list[str]:
    if words[0] != "torchrun":
        return words
    assert "rdh_ext" in words[: len(words) - 1]
    return ["torchrun", *words[words.index("rdh_ext") + 1 :]]


def blocks() -> list[Block]:
    found = re.findall(rf"^({NOT_RUN}\n)?```(\w*)\n(.*?)^```$", DOC.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(kind or "shell", text, not mark) for mark, kind, text in found]


def all_commands() -> list[list[str]]:
    """Of every command of this program the words behind ``rdh``, in blocks and in lines of text."""
    found = [words for block in blocks() if block.kind == "shell" for words in block.commands()]
    assert {words[0] for words in found} <= {"rdh", "torchrun", *FREE}
    in_text = re.findall(r"`rdh (train|encode|evaluate|search|reproduce) ([^`]*-[^`]*)`", without_blocks())
    whole = [["rdh", command, *shlex.split(rest.split(">")[0])] for command, rest in in_text if "--help" not in rest]
    return [words[1:] for words in [*found, *(w for w in whole if w[1] == "train")] if words[0] in ("rdh", "torchrun")]


def without_blocks() -> str:
    return re.sub(r"^```.*?^```$", "", DOC.read_text(), flags=re.MULTILINE | re.DOTALL)


def rows_below(head: str) -> list[list[str]]:
    """Cells of the table whose first line begins so."""
    lines = DOC.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(head))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.fixture
def _registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What snippets put into METHODS is gone afterwards."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.usefixtures("_registries")
def test_everything_that_needs_no_download_runs_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("lightning", "sklearn", "PIL", "torchvision", "matplotlib", "yaml"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    printed = ""
    for block in blocks():
        if not block.is_run:
            continue
        if block.kind == "python":
            exec(compile(block.text, "training.md", "exec", dont_inherit=True), {"__name__": "snippet"})
        elif block.kind == "yaml":
            Path(block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
        elif block.kind == "text":
            assert shape_of(printed) == shape_of(block.text)
        else:
            for words in block.commands():
                if words[0] == "rdh":
                    printed = _output(words[1:], capsys)
    assert {"x.npy", "pictures", "lists", "runs", "report.json", "grid.png", "nearest.png"} <= {
        each.name for each in tmp_path.iterdir()
    }
    assert {"tensorboard", "codes", "model.pt", "results.json"} <= {each.name for each in Path("runs/digits").iterdir()}


def _output(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    if words[0] == "train" and "--print-recipe" not in words:
        words = [*words, *FEW_EPOCHS]
    elif words[0] == "reproduce" and "--dry-run" not in words:
        words = [*words, "--dry-run"]
    capsys.readouterr()
    assert cli.main(words) == 0, f"{words}: {capsys.readouterr().err}"
    captured = capsys.readouterr()
    assert "warning" not in captured.err
    assert captured.out
    return captured.out


def shape_of(text: str) -> list[str]:
    """Its words without the numbers."""
    return re.sub(r"[\d.,]*\d", "#", text).split()


@pytest.mark.parametrize("words", all_commands() if DOC.exists() else [], ids=" ".join)
def test_commands_are_those_that_there_are(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks():
        if block.kind == "yaml":
            Path(block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
    arguments = cli._make_parser()[0].parse_args(words)
    if arguments.command == "train":
        check_recipe(recipe_of(arguments))


def check_recipe(recipe: recipes.Recipe) -> None:
    """Its names exist, and have these options."""
    tables: dict[str, dict[str, Any]] = {"data": DATASETS, "backbone": BACKBONES, "method": METHODS}
    for section, table in tables.items():
        content = dict(getattr(recipe, section))
        known_options = {*options_of(table[content.pop("name")]), *(["rdh_eta"] if section == "method" else [])}
        assert content.keys() <= known_options


def test_recipes_are_those_of_the_package() -> None:
    table = [name for row in rows_below("| recipe | data |") for name in quoted(row[0])]
    assert sorted(table) == recipes.names()
    named = {name.strip("`.,") for name in re.findall(r"--(?:recipe|dataset) (\S+)", DOC.read_text())}
    assert named - {"mine.yaml", "overlay.yaml"} <= set(recipes.names())


def test_options_of_recipes_exist() -> None:
    sections: dict[str, set[str]] = {
        "data": {"name"}.union(*map(options_of, DATASETS.values())),
        "backbone": {"name"}.union(*map(options_of, BACKBONES.values())),
        "method": {"name", "rdh_eta"}.union(*map(options_of, METHODS.values())),
    }
    full = recipes.Recipe().to_dict()
    sections |= {section: set(full[section]) for section in ("training", "validation")}
    sections["preprocessing"] = {"resize", "size", "augment", "scale", "mean", "std"}
    text = re.sub(r"^```python.*?^```$", "", DOC.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"\b(data|backbone|method|training|validation|preprocessing)\.(\w+)\b", text)
    assert len(named) > 30
    for section, option in named:
        assert option in sections[section] | {"fingerprint"}, f"{section}.{option}"
    for row in rows_below("| section | what it has |"):
        assert quoted(row[0])[0] in full


def test_options_of_commands_exist() -> None:
    text = without_blocks()
    known_options = set()
    for command in ("train", "encode", "evaluate", "search", "reproduce"):
        parser = cli._make_parser()[1][command]
        known_options |= {option for action in parser._actions for option in action.option_strings}
    assert set(re.findall(r"(?<![\w-])--[a-z-]+", " ".join(quoted(text)))) - {"--logdir"} <= known_options


def test_tables_of_methods_have_all_of_them() -> None:
    for head in ("| | theta | pairs |", "| | own options | source |"):
        assert sorted(quoted(row[0])[0] for row in rows_below(head)) == sorted(METHODS)
    shared = set(options_of(METHODS["dpsh"]))
    for name, options, _ in rows_below("| | own options | source |"):
        own = set(options_of(METHODS[name.strip("`")])) - shared
        values = {"none", "sqrt_step", "sqrt_epoch"}
        assert set(quoted(options)) - values == own


def test_sizes_are_those_that_loaders_expect() -> None:
    rows = {quoted(row[0])[0]: row[1:] for row in rows_below("| recipe | classes | queries |")}
    assert len(rows) == 3
    for each in (known.NUSWIDE21, known.COCO, known.IMAGENET100):
        assert each.sizes is not None
        assert each.topk is not None
        assert rows[each.name] == [f"{each.classes}", *(f"{size:,}" for size in each.sizes), f"@{each.topk}"]
    from rdh_ext.hashing.data.cifar10 import PROTOCOLS

    assert [quoted(row[0])[0] for row in rows_below("| `data.protocol` |")] == list(PROTOCOLS)
    for row in rows_below("| `data.protocol` |"):
        wanted = " +".join(row[1:4])
        assert re.search(rf'"{quoted(row[0])[0]}" +{wanted} ', DATASETS["cifar10"].__doc__ or "")


@pytest.mark.parametrize("row", rows_below("| layout |") if DOC.exists() else [], ids=lambda row: row[0])
def test_layouts_of_lists_are_read(row: list[str], tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    for name in ("q.jpg", "t.jpg", "g.jpg"):
        (tmp_path / name).write_bytes(b"an image")
    _, files, line = row
    roles = [quoted(each) for each in files.split(", ")]
    labels = [label for label in (example.removeprefix("<path>").strip() for example in quoted(line)) if label]
    if files.startswith("`img"):
        _check_pool(tmp_path, *roles[0][:2], labels[0])
        return
    for label in labels:
        for place in (0, -1):  # the first name of a role, and the last
            names = [role[place] for role in roles[:3]]
            for name, images in zip(names, (["t.jpg"], ["q.jpg"], ["g.jpg", "t.jpg"]), strict=True):
                _write(tmp_path / name, images, label, roles[3] if len(roles) > 3 else None)
            data = load_lists(root=str(tmp_path))
            assert (len(data.query), len(data.train), len(data.gallery)) == (1, 1, 2)
            for file in tmp_path.glob("*.txt"):
                file.unlink()


def _write(path: Path, images: list[str], label: str, labels_name: list[str] | None) -> None:
    if labels_name is None:
        path.write_text("".join(f"{image} {label}\n" for image in images))
        return
    role = path.name.partition("_")[0]
    path.write_text("".join(f"{image}\n" for image in images))
    labels = path.with_name(labels_name[0].replace("train", role))
    labels.write_text(f"{label}\n" * len(images))


def _check_pool(folder: Path, images: str, labels: str, label: str) -> None:
    (folder / images).write_text("q.jpg\nt.jpg\ng.jpg\n")
    (folder / labels).write_text(f"{label}\n" * 3)
    data = load_lists(root=str(folder), query_items=1, train_items=1)
    assert (len(data.query), len(data.train), len(data.gallery)) == (1, 1, 2)


def test_links_lead_somewhere() -> None:
    text = DOC.read_text()
    titles = {
        re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", without_blocks(), re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", re.sub(r"\s+", " ", text))
    assert len(links) > 10
    for link in links:
        if link.startswith("#"):
            assert link.removeprefix("#") in titles
        else:
            assert (DOC.parent / link).exists(), link


def test_lists_of_nus_wide_are_read_as_the_document_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    for number in range(60):
        Path(f"{number}.jpg").write_bytes(b"an image")
    for name, some in (("test", range(20)), ("database", range(20, 60))):
        Path(f"{name}_img.txt").write_text("".join(f"{number}.jpg\n" for number in some))
        rows = (f"{int(number % 2 == 0)} {int(number % 3 > 0)} 1\n" for number in some)
        Path(f"{name}_label_onehot.txt").write_text("".join(rows))
    with pytest.warns(UserWarning, match="not as usual"):
        data = DATASETS["nuswide21"](root=".", train_items=6)
    assert (len(data.query), len(data.train), len(data.gallery)) == (20, 18, 40)
