"""Recipes: those of the package, there and back through YAML, what replaces what, one sentence for what is wrong."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdh_ext.hashing.backbones import BACKBONES
from rdh_ext.hashing.data import DATASETS, Preprocessing
from rdh_ext.hashing.history import Schedule
from rdh_ext.hashing.methods import METHODS
from rdh_ext.hashing.options import choose, options_of
from rdh_ext.hashing.recipe import FOLDER, Recipe, RecipeError, Validation, names, parse_yaml, read, to_yaml

pytest.importorskip("yaml")


def message_of(text: str, folder: Path, method: str | None = None) -> str:
    """What is said about a file with this text, after its name."""
    path = folder / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read(path, method)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def read_text(text: str, folder: Path, method: str | None = None) -> Recipe:
    (folder / "mine.yml").write_text(text)
    return read(folder / "mine.yml", method)


class TestOfThePackage:
    def test_one_for_each_data_set(self) -> None:
        assert set(names()) >= set(DATASETS)
        assert names() == sorted(path.stem for path in FOLDER.iterdir())

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", names())
    def test_every_option_is_one(self, name: str, method: str) -> None:
        recipe = read(name, method)
        assert recipe.method["name"] == method
        assert recipe == read(FOLDER / f"{name}.yaml", method)
        kinds = {
            "data": options_of(choose("data", recipe.data["name"], DATASETS)),
            "backbone": options_of(choose("backbone", recipe.backbone["name"], BACKBONES)),
            "method": {**options_of(METHODS[method]), "rdh_eta": None},
        }
        for section, known in kinds.items():
            assert set(getattr(recipe, section)) - {"name"} <= set(known), section
        Preprocessing.from_dict({"size": 8, **recipe.preprocessing})

    @pytest.mark.parametrize("name", ["cifar10", "coco", "nuswide21", "imagenet100"])
    def test_the_schedule_of_the_paper(self, name: str) -> None:
        recipe = read(name)
        schedule = recipe.training
        assert (schedule.lr, schedule.momentum, schedule.weight_decay, schedule.batch_size) == (0.01, 0.9, 1e-5, 128)
        assert schedule.epochs >= 100
        assert (recipe.validation.select, recipe.precision, recipe.seed) == ("best", "32", 0)
        assert recipe.validation.items > 0
        assert (recipe.backbone, recipe.bits) == ({"name": "alexnet", "weights": "DEFAULT"}, 48)
        assert (recipe.method["tau"], recipe.method["rdh_eta"]) == (0.99, 1.0 if name == "cifar10" else 0.1)

    def test_lines_are_not_too_long(self) -> None:
        for path in FOLDER.glob("*.yaml"):
            assert max(map(len, path.read_text().splitlines())) <= 120, path.name


class TestThereAndBack:
    @pytest.mark.parametrize("name", names())
    def test_recipes_of_the_package(self, name: str, tmp_path: Path) -> None:
        recipe = read(name)
        assert read_text(to_yaml(recipe), tmp_path) == recipe
        assert Recipe.from_dict(recipe.to_dict()) == recipe

    @settings(max_examples=60, deadline=None)
    @given(
        text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
        | st.sampled_from(
            ["1e5", "1e-5", "-1E+3", "1.e3", "1_0e5", "nan", ".inf", "null", "yes", "32", "0x1f", "1:30"]
        ),
        number=st.floats(allow_nan=False) | st.integers(-(10**20), 10**20),
        lr=st.floats(0, 1e30) | st.integers(0, 5),
    )
    def test_any_values(self, text: str, number: float, lr: float) -> None:
        recipe = Recipe(
            data={"name": "digits", "root": text, "more": [text, [number, {"deep": text}], None, True]},
            preprocessing={"mean": [number, number]},
            training=Schedule(epochs=3, lr=lr),
        )
        again = Recipe.from_dict(parse_yaml(to_yaml(recipe)))
        assert again == recipe
        assert repr(again) == repr(recipe)  # 1 is not 1.0, True is not 1

    def test_paths_and_tuples_are_plain(self) -> None:
        recipe = Recipe(data={"name": "folders", "root": Path("a") / "b"}, backbone={"name": "mlp", "hidden": (4, 5)})
        assert recipe.data["root"] == "a/b"
        assert recipe.backbone["hidden"] == [4, 5]
        assert Recipe.from_dict(parse_yaml(to_yaml(recipe))) == recipe

    def test_the_same_values_twice_are_written_out(self) -> None:
        same = [0.5, 0.5]
        text = to_yaml(Recipe(preprocessing={"mean": same, "std": same}))
        assert "&" not in text
        assert text.count("[0.5, 0.5]") == 2


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-5", 1e-5), ("1E5", 1e5), ("-2e+3", -2000.0), ("1.5e-3", 0.0015), ("3.e2", 300.0), ("+1e2", 100.0),
            ("1e-5x", "1e-5x"), ("e5", "e5"), ("'1e-5'", "1e-5"), ('"1e5"', "1e5"), ("one", "one"), ("1", 1),
            ("0.1", 0.1), ("true", True), ("null", None), ("", None), ("[1e-1, 2]", [0.1, 2]), ("{a: 1e1}", {"a": 10}),
        ],
    )  # fmt: skip
    def test_as_people_write_them(self, text: str, value: Any) -> None:
        assert parse_yaml(text) == value
        assert type(parse_yaml(text)) is type(value)

    def test_in_a_recipe(self, tmp_path: Path) -> None:
        recipe = read_text("training: {epochs: 10, lr: 1e-2, weight_decay: 1e-5}", tmp_path)
        assert (recipe.training.lr, recipe.training.weight_decay) == (0.01, 1e-5)

    @pytest.mark.parametrize(
        "text", ["a: [", "a: b: c", "\t- x", "&a [*a", "2020-13-45", "!!python/object/apply:os.getcwd []", "[" * 600]
    )
    def test_what_is_no_yaml_is_one_line(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="not YAML: ") as caught:
            parse_yaml(text)
        assert "\n" not in str(caught.value)
        assert message_of(text, tmp_path).startswith("not YAML: ")

    def test_sections_that_contain_themselves(self, tmp_path: Path) -> None:
        for text in ("data: &a {name: digits, more: *a}", "data: {name: digits, more: &a [3, *a]}"):
            assert "without an end" in message_of(text, tmp_path)


class TestWrong:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("bit: 48", "no bit; did you mean 'bits'? there are bits, seed, data, "),
            ("training: {epoch: 3}", "no training.epoch; did you mean 'epochs'? there are epochs, lr, "),
            ("validation: {item: 3}", "no validation.item; did you mean 'items'? there are items, every, select"),
            ("xyz: 1", "no xyz; there are bits, "),
            ("1: 1", "no 1; there are bits, "),
            ("bits: many", "bits must be a whole number from 1 to 4096, got 'many'"),
            ("bits: 4.0", "bits must be a whole number from 1 to 4096, got 4.0"),
            ("bits: true", "bits must be a whole number from 1 to 4096, got True"),
            ("bits: 0", "bits must be a whole number from 1 to 4096, got 0"),
            ("seed: -1", "seed must be a whole number from 0 to 4294967295, got -1"),
            ("topk: 0", "topk must be a whole number from 1 to "),
            ("precision: 8", "precision must be one of 32, 16, bf16, 64, got '8'"),
            ("precision: [32]", "precision must be one of "),
            ("training: {epochs: 0}", "training.epochs must be a whole number from 1 to "),
            ("training: {batch_size: 1}", "training.batch_size must be a whole number from 2 to "),
            ("training: {lr: fast}", "training.lr must be a number >= 0, got 'fast'"),
            ("training: {lr: -1}", "training.lr must be a number >= 0, got -1"),
            ("training: {lr: .nan}", "training.lr must be a number >= 0, got nan"),
            ("training: {momentum: .inf}", "training.momentum must be a number >= 0, got inf"),
            ("training: {weight_decay: true}", "training.weight_decay must be a number >= 0, got True"),
            ("training: 3", "training must be a section with values, got 3"),
            ("training:", "training must be a section with values, got None"),
            ("training: [1]", "training must be a section with values, got [1]"),
            ("validation: {items: -1}", "validation.items must be a whole number from 0 to "),
            ("validation: {every: 0}", "validation.every must be a whole number from 1 to "),
            ("validation: {select: first}", "validation.select must be one of best, last, got 'first'"),
            ("data: {root: x}", "data.name must be the name of a data, got None"),
            ("method: {name: 3}", "method.name must be the name of a method, got 3"),
            ("backbone: 3", "backbone must be a section with values, got 3"),
            ("data: {1: 2}", "data must be a section with values, got {1: 2}"),
            ("data: {name: digits, when: 2020-01-01}", "data.when must be text, numbers, true, false, or lists"),
            ("methods: 3", "methods must be a section with values, got 3"),
            ("methods: {dpsh: 3}\nmethod: dpsh", "methods.dpsh must be a section with values, got 3"),
            ("methods: {hashnett: {bits: 3}}", "no methods.hashnett; did you mean 'hashnet'? there are dpsh, "),
            ("methods: {hashnet: {bit: 3}}", "no bit; did you mean 'bits'?"),
            ("methods: {hashnet: {training: {lr: no way}}}", "training.lr must be a number >= 0, got 'no way'"),
            ("- a", "must be sections with values"),
            ("", "must be sections with values"),
            ("text", "must be sections with values"),
        ],
    )
    def test_one_line_that_names_file_and_key(self, text: str, message: str, tmp_path: Path) -> None:
        assert message_of(text, tmp_path).startswith(message)

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_bytes(b"bits: \xff\xfe")
        with pytest.raises(RecipeError, match=r"mine\.yaml: .*utf-8"):
            read(tmp_path / "mine.yaml")

    def test_names_that_there_are_not(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"no recipe 'cifar'; did you mean 'cifar10'\? there are .*\.yaml"):
            read("cifar")
        with pytest.raises(RecipeError, match="no recipe 'zzz'; there are "):
            read("zzz")
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.yaml")
        with pytest.raises(RecipeError, match="no recipe"):
            read(tmp_path)

    def test_in_python(self) -> None:
        with pytest.raises(RecipeError, match="recipe: bits must be"):
            Recipe(bits=0)
        with pytest.raises(RecipeError, match="recipe: data must be a section"):
            Recipe(data=None)  # type: ignore[arg-type]
        with pytest.raises(RecipeError, match=r"recipe: validation\.every must be"):
            Recipe(validation=Validation(every=0))

    def test_without_pyyaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from rdh_ext.hashing import MissingExtra

        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(MissingExtra, match=r"pyyaml is not installed.*rdh_ext\[train\]"):
            parse_yaml("1")


class TestOverride:
    def test_values_by_their_names(self) -> None:
        recipe = Recipe().override(
            {"training.lr": 0.5, "bits": 7, "data.seed_of": "x", "preprocessing.size": 3, "topk": 9}
        )
        assert (recipe.training.lr, recipe.bits, recipe.topk) == (0.5, 7, 9)
        assert recipe.data == {"name": "digits", "seed_of": "x"}
        assert recipe.preprocessing == {"size": 3}
        assert recipe.training.epochs == Recipe().training.epochs

    def test_the_recipe_stays_as_it_is(self) -> None:
        recipe = Recipe()
        before = to_yaml(recipe)
        recipe.override({"data.root": "x", "method.name": "dpsh", "training.lr": 3.0})
        assert to_yaml(recipe) == before

    def test_another_name_begins_its_section_anew(self) -> None:
        recipe = Recipe(method={"name": "hashnet", "alpha": 0.1}, backbone={"name": "small_cnn", "width": 4})
        changed = recipe.override({"method.name": "dpsh", "method.rdh": True, "backbone.name": "small_cnn"})
        assert changed.method == {"name": "dpsh", "rdh": True}
        assert changed.backbone == {"name": "small_cnn", "width": 4}

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("training.epoch", "no training.epoch; did you mean 'epochs'"),
            ("lr", "no 'lr'; there are bits, seed, "),
            ("traning.lr", "no 'traning.lr'; there are bits, seed, "),
            ("bits.more", "no 'bits.more'; there are "),
            ("data.name.more", "no 'data.name.more'; there are "),
            ("methods.dpsh.bits", "no 'methods.dpsh.bits'; there are "),
            ("", "no ''; there are "),
            (".", "no '.'; there are "),
        ],
    )
    def test_names_that_there_are_not(self, key: str, message: str) -> None:
        with pytest.raises(RecipeError) as caught:
            Recipe().override({key: 3})
        assert str(caught.value).startswith(f"recipe: {message}")

    @pytest.mark.parametrize("value", ["fast", None, [1], math.nan, {"a": 1}])
    def test_values_are_checked(self, value: Any) -> None:
        with pytest.raises(RecipeError, match=r"training\.lr must be a number"):
            Recipe().override({"training.lr": value})


class TestMethods:
    TEXT = """
bits: 16
method: {name: hashnet, rdh: true, tau: 0.9, rdh_eta: 0.5}
training: {epochs: 7, lr: 0.1}
methods:
  dpsh: {training: {lr: 5e-2}, method: {eta: 0.2}, bits: 24}
  hashnet: {method: {alpha: 0.1}}
"""

    def test_what_differs_with_a_method(self, tmp_path: Path) -> None:
        recipe = read_text(self.TEXT, tmp_path, "dpsh")
        assert recipe.method == {"name": "dpsh", "rdh": True, "tau": 0.9, "rdh_eta": 0.5, "eta": 0.2}
        assert (recipe.training.lr, recipe.training.epochs, recipe.bits) == (0.05, 7, 24)

    def test_the_method_of_the_file_has_its_own(self, tmp_path: Path) -> None:
        recipe = read_text(self.TEXT, tmp_path)
        assert recipe.method["alpha"] == 0.1
        assert (recipe.training.lr, recipe.bits) == (0.1, 16)

    def test_others_have_nothing(self, tmp_path: Path) -> None:
        recipe = read_text(self.TEXT, tmp_path, "dhn")
        assert recipe.method == {"name": "dhn", "rdh": True, "tau": 0.9, "rdh_eta": 0.5}
        assert (recipe.training.lr, recipe.bits) == (0.1, 16)

    def test_they_are_gone_afterwards(self, tmp_path: Path) -> None:
        """What is written with a run is one recipe."""
        assert "methods" not in to_yaml(read_text(self.TEXT, tmp_path, "dpsh"))
        assert read_text(to_yaml(read_text(self.TEXT, tmp_path, "dpsh")), tmp_path).training.lr == 0.05

    def test_a_name_is_a_section(self, tmp_path: Path) -> None:
        recipe = read_text("method: dpsh\ndata: digits\nbackbone: linear", tmp_path)
        assert (recipe.method, recipe.data, recipe.backbone) == (
            {"name": "dpsh"},
            {"name": "digits"},
            {"name": "linear"},
        )

    def test_empty_sections(self, tmp_path: Path) -> None:
        assert read_text("methods: {}\npreprocessing: {}\ntraining: {}", tmp_path) == Recipe()
