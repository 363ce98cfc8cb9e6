"""``rdh search --image``: photographs as queries, encoded by the model of the gallery."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import command_line
import numpy as np
import pytest
import torch
from command_line import output, usage_error
from numpy.typing import NDArray
from search_command import rows_of_table

import rdh_ext
from rdh_ext import cli
from rdh_ext.hashing.backbones import make_backbone
from rdh_ext.hashing.data import Preprocessing
from rdh_ext.hashing.model import HashingModel
from rdh_ext.hashing.recipe import Recipe
from rdh_ext.retrieval import CodeSet, write_code_set

BITS, ITEMS = 32, 30
Printed = pytest.CaptureFixture[str]
SEARCH = ["search", "--gallery", "gallery"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    """Thirty photographs, a model, and the gallery that it makes of them."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Path("temporary").mkdir()
    torch.manual_seed(0)
    shape, preprocessing = (3, 8, 8), Preprocessing(scale=1 / 255, mean=(0.5,) * 3, std=(0.3,) * 3, size=8)
    network = make_backbone("linear", BITS, shape, {})
    recipe = Recipe(bits=BITS, backbone={"name": "linear"})
    HashingModel(network, recipe, preprocessing, shape=shape, classes=10).save("run/model.pt")
    Path("pictures").mkdir()
    for n in range(ITEMS):
        pixels = np.random.default_rng(n).integers(0, 256, (8 + n % 3, 9, 3), dtype=np.uint8)
        image.fromarray(pixels).save(f"pictures/{n:02d}.png")
    np.save("y.npy", np.arange(ITEMS) % 3)
    words = ["encode", "gallery", "--model", "run", "--images", "pictures", "--labels", "y.npy", "--workers", "0"]
    output(capsys, words)


def failure(capsys: Printed, *words: str) -> str:
    before = sorted(os.listdir())
    line = command_line.failure(capsys, [*SEARCH, *words])
    assert "--debug" not in line
    assert sorted(os.listdir()) == before
    assert os.listdir("temporary") == []
    return line.removeprefix("rdh search: error: ").rstrip("\n")


def pixels_of(path: str) -> NDArray[np.uint8]:
    return np.asarray(pytest.importorskip("PIL.Image").open(path).convert("RGB"))


def test_an_image_finds_itself(capsys: Printed) -> None:
    text = output(capsys, [*SEARCH, "--image", "pictures/07.png", "--model", "run", "-k", "3"])
    lines = text.splitlines()
    assert lines[0].startswith("gallery  gallery: 30 codes of 32 bits")
    assert lines[1] == "query    pictures/07.png: 1 code of 32 bits, no labels"
    rows = rows_of_table(text)
    assert rows[0] == ["0", "1", "7", "0", "1"]  # query, rank, index, distance, label
    assert [row[1] for row in rows] == ["1", "2", "3"]
    assert os.listdir("temporary") == []


def test_the_model_of_the_gallery_and_another_one(capsys: Printed) -> None:
    words = [*SEARCH, "--image", "pictures/07.png", "-k", "1", "--model"]
    first = output(capsys, [*words, "run"])  # says nothing else
    model = rdh_ext.load("run")
    torch.nn.init.normal_(model.backbone[1].weight)  # type: ignore[index]
    model.save("other/model.pt")
    assert cli.main([*words, "other"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("rdh search: warning: ")
    assert captured.err.endswith(
        " and gallery (of run) have codes of two models, between which distances mean little; encode both by one\n"
    )
    assert captured.err.count("\n") == 1
    assert captured.out != first


def test_several_images_are_queries_in_their_order(capsys: Printed) -> None:
    words = [*SEARCH, "--model", "run", "-k", "4", "--json", "-"]
    images = ["pictures/20.png", "pictures/03.png", "pictures/20.png"]
    for image in images:
        words += ["--image", image]
    answer = json.loads(output(capsys, words))
    assert answer["query_set"] == ", ".join(images)
    assert (answer["query_items"], answer["query_labels"], answer["k"]) == (3, None, 4)
    codes = rdh_ext.load("run").encode(images)
    distances, indices = rdh_ext.hamming_topk(codes, CodeSet("gallery").load()[0], 4)
    assert [each["indices"] for each in answer["results"]] == indices.tolist()
    assert [each["distances"] for each in answer["results"]] == distances.tolist()
    assert indices[:, 0].tolist() == [20, 3, 20]


def test_the_answer_is_that_of_a_code_set(capsys: Printed) -> None:
    write_code_set("query", rdh_ext.load("run").encode(["pictures/05.png"]), bits=BITS)
    words = [*SEARCH, "--csv", "-", "-k", "30"]
    expected = output(capsys, [*words, "--query", "query"])
    assert output(capsys, [*words, "--image", "pictures/05.png", "--model", "run/model.pt"]) == expected


def test_a_grid_has_the_image_and_its_neighbours(capsys: Printed) -> None:
    pytest.importorskip("matplotlib")
    words = [*SEARCH, "--model", "run", "-k", "3", "--pictures", "pictures"]
    assert output(capsys, [*words, "--image", "pictures/07.png", "--out", "one.png"]).endswith("\npictures: one.png\n")
    output(capsys, [*words, "--image", "pictures/07.png", "--image", "pictures/08.png", "--out", "two.png"])
    one, two = pixels_of("one.png"), pixels_of("two.png")
    assert two.shape[0] > 1.5 * one.shape[0]
    # the same codes and neighbours with another picture of the query: only its own picture differs
    write_code_set("query", rdh_ext.load("run").encode(["pictures/07.png"]), bits=BITS)
    for name, picture in (("same.png", "pictures/07.png"), ("other.png", "pictures/11.png")):
        Path("list.txt").write_text(picture)
        own = ["--query", "query", "--query-pictures", "list.txt", "--pictures", "pictures", "-k", "3", "--out", name]
        output(capsys, [*SEARCH, *own])
    assert np.array_equal(pixels_of("same.png"), one)
    assert not np.array_equal(pixels_of("other.png"), one)


def test_an_image_that_is_not_in_the_gallery(capsys: Printed) -> None:
    """Of another size, kind and mode, in a folder with an odd name."""
    image = pytest.importorskip("PIL.Image")
    Path("odd, name\n").mkdir()
    path = "odd, name\n/käse.gif"
    image.new("P", (50, 20), 3).save(path)
    text = output(capsys, [*SEARCH, "--image", path, "--model", "run", "-k", "2", "--json", "-"])
    assert json.loads(text)["query_set"] == path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "name the queries: --query SET, or --image FILE with --model RUN"),
        (["--query", "q", "--image", "a", "--model", "m"], "name the queries: "),
        (["--image", "a"], "--image FILE and --model RUN go together"),
        (["--query", "q", "--model", "m"], "--image FILE and --model RUN go together"),
        (["--image", "a", "--model", "m", "--rows", "0"], "--rows and --query-pictures go with --query"),
        (["--image", "a", "--model", "m", "--query-pictures", "b"], "--rows and --query-pictures go with --query"),
        (["--image", "", "--model", "m"], "--image: must be the name of a file"),
    ],
)
def test_wrong_usage(words: list[str], expected: str, capsys: Printed) -> None:
    assert expected in usage_error(capsys, [*SEARCH, *words])


def test_errors(capsys: Printed) -> None:
    one = ["--image", "pictures/00.png"]
    assert "none: No such file" in failure(capsys, *one, "--model", "none")
    assert "y.npy: not a model of 'rdh train'" in failure(capsys, *one, "--model", "y.npy")
    assert "none.png: No such file" in failure(capsys, "--image", "none.png", "--model", "run")
    assert failure(capsys, "--image", "y.npy", "--model", "run").startswith("y.npy: not an image that can be read (")
    write_code_set("gallery", torch.zeros(3, 2, dtype=torch.uint8), bits=13, overwrite=True)
    assert failure(capsys, *one, "--model", "run") == (
        "the model in run has codes of 32 bits, gallery of 13; name sets of one model"
    )
    network = make_backbone("linear", 13, (6,), {})
    recipe = Recipe(bits=13, backbone={"name": "linear"})
    HashingModel(network, recipe, Preprocessing(), shape=(6,), classes=3).save("features/model.pt")
    message = failure(capsys, *one, "--model", "features")
    assert message == "--image: encode: items must give inputs of shape [6], as in training, got [3, 8, 9]"
