"""``rdh encode --model``: images of a folder or a list, features, parts of a data set; by a model of 'rdh train'."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
import torch
from command_line import Terminal, help_of, output, usage_error

import rdh_ext
from rdh_ext import cli
from rdh_ext.cli import encode_model
from rdh_ext.cli.picture_files import picture_files
from rdh_ext.hashing.backbones import make_backbone
from rdh_ext.hashing.data import DATASETS, ImageFiles, Preprocessing, RetrievalData, load_digits, open_data
from rdh_ext.hashing.model import HashingModel
from rdh_ext.hashing.recipe import Recipe
from rdh_ext.retrieval import CodeSet
from rdh_ext.retrieval.sets.code_set import unpack_labels

BITS = 12
SHAPES = {"a": 3, "b": 4, "c": 2}
"""Classes, and how many images there are of each."""
Printed = pytest.CaptureFixture[str]


def save_model(
    folder: str, shape: tuple[int, ...], preprocessing: Preprocessing, data: dict[str, Any], names: tuple[str, ...] = ()
) -> None:
    torch.manual_seed(0)
    network = make_backbone("linear", BITS, shape, {})
    recipe = Recipe(bits=BITS, backbone={"name": "linear"}, data=data)
    model = HashingModel(network, recipe, preprocessing, shape=shape, classes=len(names) or 10, class_names=names)
    model.save(Path(folder) / "model.pt")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of digits, features and photographs in the current folder."""
    monkeypatch.chdir(tmp_path)
    save_model("digits", (1, 8, 8), Preprocessing(), {"name": "digits", "query_per_class": 5, "train_per_class": 8})
    save_model("features", (6,), Preprocessing(), {"name": "features"})
    photos = Preprocessing(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), size=16)
    save_model("photos", (3, 16, 16), photos, {"name": "folders"}, ("c", "b", "a"))


@pytest.fixture
def pictures() -> list[Path]:
    """Nine photographs in three folders, in the order of their names."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    paths = []
    for name, count in SHAPES.items():
        for n in range(count):
            path = Path("pictures") / name / f"{n}.{'png' if n else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(100 * ord(name) + n).integers(0, 256, (20 + n, 24, 3), dtype=np.uint8)
            image.fromarray(pixels).save(path)
            paths.append(path)
    Path("pictures/notes.txt").write_text("not a picture")
    return paths


def printed(capsys: Printed, *words: str) -> str:
    text = output(capsys, ["encode", *words])
    assert text.count("\n") == 1
    return text.rstrip("\n")


def failure(capsys: Printed, *words: str) -> str:
    """The one line of a command that fails, for a foreseen reason, and leaves no files."""
    before = sorted(os.listdir())
    line = command_line.failure(capsys, ["encode", *words])
    assert "--debug" not in line
    assert sorted(os.listdir()) == before
    return line.removeprefix("rdh encode: error: ").rstrip("\n")


class TestImages:
    def test_a_folder_in_the_order_of_search(self, pictures: list[Path], capsys: Printed) -> None:
        line = printed(capsys, "out", "--model", "photos", "--images", "pictures")
        assert line == "9 codes of 12 bits by hashnet, 0 exact zeros; no labels; in out"
        codes, labels = CodeSet("out").load()
        assert labels is None
        assert torch.equal(codes, rdh_ext.load("photos").encode(pictures))
        assert list(picture_files("--pictures", Path("pictures"))) == pictures  # what rdh search --pictures takes
        assert len(codes.unique(dim=0)) > 4

    def test_hidden_files_are_left_out(self, tmp_path: Path) -> None:
        for name in ("b/1.PNG", "b/.1.png", ".c/1.png", "a.jfif", "a.txt", ".png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert list(picture_files("--images", tmp_path)) == [tmp_path / "a.jfif", tmp_path / "b/1.PNG"]

    def test_a_list_with_labels(self, pictures: list[Path], capsys: Printed) -> None:
        chosen = [pictures[5], pictures[0], pictures[5], pictures[8].absolute()]
        Path("lists").mkdir()
        lines = [os.path.relpath(path, "lists") for path in chosen[:3]] + [str(chosen[3])]
        Path("lists/some.txt").write_text("\n".join(lines))
        np.save("y.npy", np.eye(5, dtype=bool)[[1, 2, 1, 3]])
        line = printed(
            capsys, "out.npz", "--model", "photos/model.pt", "--images", "lists/some.txt", "--labels", "y.npy"
        )
        assert line == "4 codes of 12 bits by hashnet, 0 exact zeros; 5 labels, multi-hot; in out.npz"
        codes, _ = CodeSet("out.npz").load()
        assert torch.equal(codes, rdh_ext.load("photos").encode(chosen))

    def test_class_folders(self, pictures: list[Path], capsys: Printed) -> None:
        """Numbers are those of the model where it knows names, and in the order of the names where it does not."""
        names = [path.parent.name for path in pictures]
        line = printed(capsys, "out", "--model", "photos", "--images", "pictures", "--class-folders")
        assert line.endswith("; class ids; in out")
        labels = CodeSet("out").load()[1]
        assert labels is not None
        assert labels.tolist() == ["cba".index(name) for name in names]
        save_model("nameless", (3, 16, 16), rdh_ext.load("photos").preprocessing, {"name": "folders"})
        printed(capsys, "again", "--model", "nameless", "--images", "pictures", "--class-folders")
        labels = CodeSet("again").load()[1]
        assert labels is not None
        assert labels.tolist() == ["abc".index(name) for name in names]
        os.rename("pictures/b", "pictures/dog")
        message = failure(capsys, "out2", "--model", "photos", "--images", "pictures", "--class-folders")
        assert message.startswith("--class-folders: 'dog' is no class of the model in photos, which has c, b, a; give")

    @pytest.mark.parametrize("workers", ["0", "2"])
    def test_workers(self, workers: str, pictures: list[Path], capsys: Printed) -> None:
        printed(capsys, "out", "--model", "photos", "--images", "pictures", "--workers", workers)
        assert torch.equal(CodeSet("out").load()[0], rdh_ext.load("photos").encode(pictures))

    def test_where_the_codes_come_from(self, pictures: list[Path], capsys: Printed) -> None:
        printed(capsys, "out", "--model", "photos", "--images", "pictures", "--shard-items", "4")
        made = CodeSet("out").manifest.made
        assert made["model"] == os.path.abspath("photos")
        assert Recipe.from_dict(made["recipe"]) == rdh_ext.load("photos").recipe
        assert (made["by"], made["exact_zeros"]) == ("rdh encode", 0)
        assert made["model_sha256"] == hashlib.sha256(Path("photos/model.pt").read_bytes()).hexdigest()
        assert len(CodeSet("out").manifest.shards) == 3
        assert "exists already" in failure(capsys, "out", "--model", "photos", "--images", "pictures")
        printed(capsys, "out", "--model", "photos", "--images", "pictures", "--force")
        assert len(CodeSet("out").manifest.shards) == 1

    def test_missing_ones_are_said_before_the_work(
        self, pictures: list[Path], capsys: Printed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise AssertionError("an image was read")

        monkeypatch.setattr(ImageFiles, "read", fail)
        lines = [str(path) for path in pictures] + [f"gone/{n}.png" for n in range(7)]
        Path("list.txt").write_text("\n".join(lines))
        message = failure(capsys, "out", "--model", "photos", "--images", "list.txt")
        assert message == (
            "--images list.txt: 7 of 16 images cannot be found: gone/0.png, gone/1.png, gone/2.png, ...; correct the "
            "list, relative paths begin where it is"
        )
        Path("list.txt").write_text(f"{pictures[0]}\npictures\n")
        assert "1 of 2 images cannot be used (not a file): pictures" in failure(
            capsys, "out", "--model", "photos", "--images", "list.txt"
        )

    @pytest.mark.parametrize("workers", ["0", "2"])
    def test_damaged_ones_are_named(self, workers: str, pictures: list[Path], capsys: Printed) -> None:
        pictures[4].write_bytes(pictures[4].read_bytes()[:100])
        message = failure(capsys, "out", "--model", "photos", "--images", "pictures", "--workers", workers)
        assert message.startswith(f"{pictures[4]}: not an image that can be read (")

    def test_none(self, capsys: Printed) -> None:
        Path("empty").mkdir()
        Path("empty.txt").touch()
        assert "--images empty: no images (.bmp, " in failure(capsys, "out", "--model", "photos", "--images", "empty")
        assert "--images empty.txt: no lines; " in failure(capsys, "out", "--model", "photos", "--images", "empty.txt")
        assert "none: No such file" in failure(capsys, "out", "--model", "photos", "--images", "none")


class TestFeatures:
    def test_rows_with_and_without_labels(self, capsys: Printed) -> None:
        x = np.random.default_rng(0).normal(size=(700, 6)).astype("f2")
        np.save("x.npy", x)
        np.save("y.npy", np.arange(700) % 7)
        line = printed(capsys, "out", "--model", "features", "--features", "x.npy", "--labels", "y.npy")
        assert line == "700 codes of 12 bits by hashnet, 0 exact zeros; class ids; in out"
        codes, labels = CodeSet("out").load()
        assert torch.equal(codes, rdh_ext.load("features").encode(x))
        assert labels is not None
        assert labels.tolist() == [n % 7 for n in range(700)]
        assert "no labels" in printed(capsys, "plain", "--model", "features", "--features", "x.npy")

    def test_exact_zeros_are_counted(self, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        model = rdh_ext.load("features")
        torch.nn.init.zeros_(model.backbone[1].bias)  # type: ignore[index]
        model.save("features/model.pt")
        np.save("x.npy", np.eye(6, dtype="f4") * 0)
        assert "72 exact zeros taken as +" in printed(capsys, "out", "--model", "features", "--features", "x.npy")

    def test_another_shape(self, capsys: Printed) -> None:
        np.save("x.npy", np.zeros((3, 5), "f4"))
        message = failure(capsys, "out", "--model", "features", "--features", "x.npy")
        assert message == "encode: items must give inputs of shape [6], as in training, got [5]"
        np.save("y.npy", np.zeros(4, "i8"))
        np.save("x.npy", np.zeros((3, 6), "f4"))
        message = failure(capsys, "out", "--model", "features", "--features", "x.npy", "--labels", "y.npy")
        assert message == "y.npy: labels int64 [4] for 3 codes of x.npy; give the labels that belong to the codes"

    def test_images_are_no_features(self, pictures: list[Path], capsys: Printed) -> None:
        message = failure(capsys, "out", "--model", "features", "--images", "pictures")  # read in other processes
        assert message.startswith("preprocessing: without a size all items must have one shape, got ")


class TestParts:
    @pytest.fixture
    def data(self) -> RetrievalData:
        pytest.importorskip("sklearn")
        return load_digits(0, query_per_class=5, train_per_class=8)

    @pytest.mark.parametrize("role", ["query", "gallery", "train"])
    def test_with_their_labels(self, role: str, data: RetrievalData, capsys: Printed) -> None:
        part = getattr(data, role)
        line = printed(capsys, "out", "--model", "digits", "--part", role)
        assert line.startswith(f"{len(part):,} codes of 12 bits by hashnet")
        codes, labels = CodeSet("out").load()
        assert torch.equal(codes, rdh_ext.load("digits").encode(part.images))
        assert labels is not None
        assert torch.equal(labels, part.labels)

    def test_several_labels(self, data: RetrievalData, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        hot = torch.nn.functional.one_hot(data.query.labels, 10).bool() | (torch.arange(10) == 3)
        many = replace(data, query=replace(data.query, labels=hot), train=replace(data.train, labels=hot[:80]))
        monkeypatch.setitem(DATASETS, "digits", lambda seed, *, query_per_class, train_per_class: many)
        assert "10 labels, multi-hot" in printed(capsys, "out", "--model", "digits", "--part", "query")
        labels = CodeSet("out").load()[1]
        assert labels is not None
        assert np.array_equal(unpack_labels(labels.numpy(), 10), hot.numpy())

    def test_a_root(self, capsys: Printed) -> None:
        assert "data digits has no option 'root'" in failure(
            capsys, "out", "--model", "digits", "--part", "query", "--root", "elsewhere"
        )
        message = failure(capsys, "out", "--model", "photos", "--part", "query", "--root", "elsewhere")
        assert message == (
            "elsewhere: no such folder; name the one with the folders of classes: root=... (here --root FOLDER)"
        )

    def test_where_features_are_now(self, capsys: Printed) -> None:
        x = np.random.default_rng(0).normal(size=(40, 6)).astype("f4")
        os.mkdir("moved")
        np.save("moved/x.npy", x)
        np.save("moved/y.npy", np.arange(40) % 4)
        old = {"name": "features", "features": "x.npy", "labels": "y.npy", "query_items": 2, "train_items": 5}
        save_model("features", (6,), Preprocessing(), old)
        of = ["--model", "features", "--part", "query"]
        assert "x.npy: No such file" in failure(capsys, "out", *of)
        printed(capsys, "out", *of, "--set", "data.features=moved/x.npy", "--set", "data.labels=moved/y.npy")
        there = {**old, "features": "moved/x.npy", "labels": "moved/y.npy"}
        query = open_data("features", 0, {name: value for name, value in there.items() if name != "name"}).query
        codes, labels = CodeSet("out").load()
        assert torch.equal(codes, rdh_ext.load("features").encode(query.images))
        assert labels is not None
        assert labels.tolist() == query.labels.tolist()
        message = failure(capsys, "out2", *of, "--set", "data.feature=3")
        assert message.startswith("data features has no option 'feature'; its options are features, ")


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--images", "x"], "--images and --features are encoded by a model; name it with --model"),
            (["--features", "x"], "--images and --features are encoded by a model; name it with --model"),
            (["--model", "m"], "--model makes codes of one of --images LIST, --features FILE.npy and --part; name one"),
            (["--model", "m", "--images", "x", "--part", "query"], "name one"),
            (["--model", "m", "--images", "x", "--features", "y"], "not allowed with"),
            (["--model", "m", "--codes", "x"], "--codes, --dump and --faiss have codes"),
            (["--model", "m", "--dump", "x", "--part", "query"], "--codes, --dump and --faiss have codes"),
            (["--model", "m", "--images", "x", "--bit-order", "big"], "a model has one form"),
            (["--model", "m", "--images", "x", "--values", "01"], "a model has one form"),
            (["--model", "m", "--part", "query", "--labels", "y"], "--part has its own"),
            (["--model", "m", "--part", "query", "--class-folders"], "--part has its own"),
            (["--model", "m", "--features", "x", "--class-folders"], "--class-folders goes with --images"),
            (["--model", "m", "--images", "x", "--labels", "y", "--class-folders"], "takes the place of --labels"),
            (["--model", "m", "--images", "x", "--root", "y"], "--root and --set are of the data set of --part"),
            (["--model", "m", "--images", "x", "--set", "data.root=y"], "--root and --set are of the data set of"),
            (["--model", "m", "--part", "query", "--set", "bits=3"], "--set bits: the model is as it was trained"),
            (["--codes", "x", "--set", "data.root=y"], "go with --model"),
            (["--model", "m", "--images", "x", "--workers", "-1"], "--workers: must be a whole number from 0"),
            (["--codes", "x", "--class-folders"], "--class-folders, --root, --set, --workers and --device go with"),
            (["--codes", "x", "--device", "cuda"], "go with --model"),
            (["--codes", "x", "--workers", "1"], "go with --model"),
        ],
    )
    def test_wrong_usage(self, words: list[str], expected: str, capsys: Printed) -> None:
        before = sorted(os.listdir())
        assert expected in usage_error(capsys, ["encode", "out", *words])
        assert sorted(os.listdir()) == before

    def test_models(self, capsys: Printed) -> None:
        np.save("x.npy", np.zeros((3, 6), "f4"))
        of = ["--features", "x.npy"]
        assert "none: No such file" in failure(capsys, "out", "--model", "none", *of)
        Path("folder").mkdir()
        assert "folder/model.pt: No such file" in failure(capsys, "out", "--model", "folder", *of)
        assert "x.npy: not a model of 'rdh train'" in failure(capsys, "out", "--model", "x.npy", *of)
        message = failure(capsys, "out", "--model", "features", *of, "--bits", "13")
        assert message == "--bits 13: the model in features has 12; leave --bits out"
        assert "none.npy: No such file" in failure(capsys, "out", "--model", "features", "--features", "none.npy")

    def test_interrupted_it_leaves_nothing(self, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: Any) -> Any:
            raise KeyboardInterrupt

        np.save("x.npy", np.zeros((3, 6), "f4"))
        before = sorted(os.listdir())
        monkeypatch.setattr(encode_model.Bar, "__call__", interrupt)
        assert cli.main(["encode", "out", "--model", "features", "--features", "x.npy"]) == 130
        assert capsys.readouterr() == ("", "rdh encode: error: interrupted\n")
        assert sorted(os.listdir()) == before


def test_a_bar_where_somebody_looks(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    np.save("x.npy", np.zeros((1000, 6), "f4"))
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        assert cli.main(["encode", "out", "--model", "features", "--features", "x.npy"]) == 0
    assert "encode: 100%" in terminal.getvalue()
    assert "1.00k/1.00k" in terminal.getvalue()


def test_every_example_of_the_help_runs(pictures: list[Path], capsys: Printed) -> None:
    lines = [line for line in help_of(capsys, ["encode"]).splitlines() if "--model runs/mine" in line]
    assert len(lines) == 5
    Path("list.txt").write_text("".join(f"{path}\n" for path in pictures))
    np.save("x.npy", np.zeros((9, 6), "f4"))
    np.save("y.npy", np.arange(9))
    os.mkdir("moved")
    np.save("moved/x.npy", np.zeros((40, 6), "f4"))
    np.save("moved/y.npy", np.arange(40) % 4)
    few = {"query_items": 2, "train_items": 5}
    save_model("moved", (6,), Preprocessing(), {"name": "features", "features": "x.npy", "labels": "y.npy", **few})
    models = {"--set": "moved", "--images": "photos", "--features": "features", "--part": "digits"}
    for line in lines:
        words = shlex.split(re.split(r"\s{2,}", line.strip())[0])[1:]
        model = next(model for option, model in models.items() if option in words)
        shutil.rmtree(words[1], ignore_errors=True)
        printed(capsys, *(model if word == "runs/mine" else word for word in words[1:]))
