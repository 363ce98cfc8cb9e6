"""A run on image files: what it says of them, and what their size comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_layouts import make_images

from rdh_ext.hashing.recipe import Recipe
from rdh_ext.hashing.run import RunOptions, prepare, run
from rdh_ext.retrieval import CodeSet

pytest.importorskip("lightning")
pytest.importorskip("torchvision")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    make_images(tmp_path, [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(12)])
    return Recipe(
        bits=8,
        data={"name": "folders", "root": str(tmp_path), "query_items": 2, "train_items": 6},
        preprocessing={"size": 8},
        backbone={"name": "linear"},
        method={"name": "hashnet"},
    ).override({"training.epochs": 1, "training.batch_size": 4, "validation.items": 0})


def test_images_of_a_size_of_its_own(recipe: Recipe) -> None:
    """Not the middle of images that were resized for another size."""
    assert prepare(recipe).preprocessing.resize is None
    assert prepare(recipe).shape == (3, 8, 8)
    assert prepare(recipe.override({"preprocessing.resize": 9})).preprocessing.resize == 9
    assert prepare(recipe.override({"preprocessing": {}})).preprocessing.resize == 256


def test_files_of_codes(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("run")
    run(recipe, RunOptions(out, progress=False, workers=0))
    for role, items in (("query", 4), ("gallery", 20)):
        _, labels = CodeSet(out / "codes" / role).load()
        assert labels is not None
        files = [Path(line) for line in (out / "codes" / f"{role}.txt").read_text().splitlines()]
        assert len(files) == len(set(files)) == items
        assert all(file.is_file() for file in files)
        assert [file.parent.name for file in files] == [("cat", "dog")[label] for label in labels.tolist()]
