"""A run: what is in its folder, in which folder it may begin, what its options change and what they do not."""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import (
    STEPS,
    assert_same,
    assert_same_run,
    forgetful,
    model_of,
    options_of,
    recipe_of,
    results_of,
    with_forgetful,
)

import rdh_ext
from rdh_ext.hashing import run as run_module
from rdh_ext.hashing.backbones import BACKBONES
from rdh_ext.hashing.data import DATASETS, Split
from rdh_ext.hashing.history import Schedule
from rdh_ext.hashing.logs import read_epochs, read_steps
from rdh_ext.hashing.recipe import Recipe, read
from rdh_ext.hashing.run import RunError, RunOptions, prepare, run
from rdh_ext.retrieval import CodeSet, evaluate_sets

pytest.importorskip("lightning")

__all__ = ["with_forgetful"]

FILES = [
    *(f"codes/{role}/{name}" for role in ("gallery", "query") for name in ("codes-00000.npy", "labels-00000.npy")),
    *(f"codes/{role}/manifest.json" for role in ("gallery", "query")),
    *("last.ckpt", "metrics.csv", "model.pt", "recipe.yaml", "results.json", "split.npz"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe, run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "forgetful", forgetful)
        run(recipe_of(), options_of(out))
    return out


def files_of(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


class TestFolder:
    def test_every_file_and_no_other(self, whole: Path) -> None:
        assert files_of(whole) == sorted(FILES)

    def test_the_recipe_that_made_it(self, whole: Path) -> None:
        assert read(whole / "recipe.yaml") == recipe_of()
        assert Recipe.from_dict(results_of(whole)["recipe"]) == recipe_of()
        assert Recipe.from_dict(model_of(whole)["recipe"]) == recipe_of()

    def test_the_split_that_it_was_made_of(self, whole: Path) -> None:
        data = prepare(recipe_of()).data
        split = Split.load(whole / "split.npz")
        for role in ("query", "train", "gallery"):
            assert torch.equal(getattr(split, role), getattr(data, role).indices)
        assert results_of(whole)["data"]["fingerprint"] == data.fingerprint()

    def test_a_line_for_every_step(self, whole: Path) -> None:
        records = read_steps(whole)
        assert [record.step for record in records] == list(range(STEPS))
        assert [record.epoch for record in records] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert {record.bits for record in records} == {32 * 12}
        assert [record.lr for record in records] == pytest.approx(
            [0.05 * (1 + np.cos(np.pi * step / STEPS)) for step in range(STEPS)]
        )
        assert results_of(whole)["epochs"] == [record._asdict() for record in read_epochs(whole)]

    def test_codes_are_those_of_the_model_with_the_labels_of_the_data(self, whole: Path) -> None:
        model, data = rdh_ext.load(whole), prepare(recipe_of()).data
        for role in ("query", "gallery"):
            codes, labels = CodeSet(whole / "codes" / role).load()
            part = getattr(data, role)
            assert torch.equal(codes, model.encode(part.images))
            assert labels is not None
            assert torch.equal(labels, part.labels)
            made = CodeSet(whole / "codes" / role).manifest.made
            assert (made["part"], made["method"], made["seed"]) == (role, recipe_of().method, 0)

    def test_numbers_are_those_of_the_codes(self, whole: Path) -> None:
        results = results_of(whole)
        result = evaluate_sets(whole / "codes" / "query", whole / "codes" / "gallery")
        assert (results["map"], results["ap"]) == (result.map, result.ap.tolist())
        at_100 = evaluate_sets(whole / "codes" / "query", whole / "codes" / "gallery", 100)
        assert results["map_at_100"] == at_100.map
        assert results["precision_radius_2"] == result.precision_within_radius(2)
        assert results["items"] == {"query": 50, "train": 80, "gallery": 1747}
        assert results["label"] == "HashNet + RDH"
        assert [curve["by"] for curve in results["curves"]] == ["radius", "rank", "recall"]
        assert set(results["versions"]) >= {"Python", "torch", "lightning", "rdh_ext", "numpy"}
        assert 0.1 < results["map"] < 1

    def test_json_is_strict(self, whole: Path) -> None:
        def refuse(name: str) -> None:
            raise AssertionError(name)

        json.loads((whole / "results.json").read_text(), parse_constant=refuse)


class TestBegin:
    def test_it_returns_what_it_has_written(self, whole: Path, tmp_path: Path) -> None:
        results = run(recipe_of(), options_of(tmp_path / "a" / "run"))
        assert json.loads((tmp_path / "a" / "run" / "results.json").read_text()) == results
        assert_same_run(whole, tmp_path / "a" / "run")

    def test_an_empty_folder_is_as_none(self, tmp_path: Path) -> None:
        run(recipe_of(training__epochs=1), options_of(tmp_path))
        assert files_of(tmp_path) == sorted(FILES)

    def test_resume_of_nothing_begins(self, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(recipe_of(training__epochs=1), options_of(tmp_path / "run", resume=True))
        assert files_of(tmp_path / "run") == sorted(FILES)

    @pytest.mark.parametrize(
        ("recipe", "resume", "message"),
        [
            ({}, False, "holds this run, finished; add --resume to go on with it, name another folder, or add --force"),
            ({"seed": 1}, False, "holds another run; name another folder, or add --force to begin anew"),
            ({"seed": 1}, True, "holds another run; name another folder, or add --force to begin anew"),
            ({"training__epochs": 5}, True, "holds another run"),
            ({"method__tau": 0.5}, True, "holds another run"),
        ],
    )
    def test_a_run_is_not_overwritten(self, whole: Path, recipe: Any, resume: bool, message: str) -> None:
        before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
        with pytest.raises(RunError) as caught:
            run(recipe_of(**recipe), options_of(whole, resume=resume))
        assert str(caught.value).startswith(f"{whole} {message}")
        assert "\n" not in str(caught.value)
        assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before

    def test_one_that_was_interrupted_is_not_begun_anew(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "_outcome", lambda *_: {})
            run(recipe_of(), options_of(tmp_path))
        with pytest.raises(RunError, match="holds this run, begun; add --resume to go on with it"):
            run(recipe_of(), options_of(tmp_path))

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "thesis").write_text("years of work")
        for force in (False, True):
            with pytest.raises(RunError, match="thesis is a file; name a folder"):
                run(recipe_of(), options_of(tmp_path / "thesis", force=force))

    def test_a_folder_of_somebody_is_not_written_into(self, tmp_path: Path) -> None:
        (tmp_path / "codes" / "query").mkdir(parents=True)
        (tmp_path / "codes" / "query" / "thesis.tex").write_text("years of work")
        with pytest.raises(RunError, match="is not empty and holds no run"):
            run(recipe_of(), options_of(tmp_path))
        with pytest.raises(rdh_ext.retrieval.CodeSetError, match="query"):
            run(recipe_of(training__epochs=1), options_of(tmp_path, force=True))
        assert (tmp_path / "codes" / "query" / "thesis.tex").read_text() == "years of work"

    def test_a_recipe_that_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text("bits: [")
        with pytest.raises(ValueError, match=r"recipe\.yaml: not YAML"):
            run(recipe_of(), options_of(tmp_path))
        run(recipe_of(training__epochs=1), options_of(tmp_path, force=True))
        assert read(tmp_path / "recipe.yaml") == recipe_of(training__epochs=1)

    def test_force_begins_anew_and_leaves_nothing_of_before(self, whole: Path, tmp_path: Path) -> None:
        run(recipe_of(seed=5), options_of(tmp_path / "run", tensorboard=True))
        (tmp_path / "run" / "notes.txt").write_text("mine")
        run(recipe_of(), options_of(tmp_path / "run", force=True))
        assert files_of(tmp_path / "run") == sorted([*FILES, "notes.txt"])
        assert_same_run(whole, tmp_path / "run")

    def test_force_that_is_interrupted_has_nothing_of_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise OSError("interrupted")

        run(recipe_of(seed=5), options_of(tmp_path / "run"))
        monkeypatch.setattr(run_module, "_train", fail)
        with pytest.raises(OSError, match="interrupted"):
            run(recipe_of(), options_of(tmp_path / "run", force=True))
        assert files_of(tmp_path / "run") == ["recipe.yaml", "split.npz"]

    def test_a_recipe_with_paths_and_tuples_is_the_one_that_is_read(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 6)).astype("f4"))
        np.save(tmp_path / "y.npy", np.arange(60) % 3)
        data = {"name": "features", "features": tmp_path / "x.npy", "labels": tmp_path / "y.npy"}
        recipe = Recipe(
            bits=8,
            data={**data, "query_items": 5, "train_items": 8},
            backbone={"name": "mlp", "hidden": (5, 4)},
            training=Schedule(epochs=1, lr=1, batch_size=8),
        )
        first = run(recipe, options_of(tmp_path / "run"))
        assert run(recipe, options_of(tmp_path / "run", resume=True)) == first
        assert first["items"] == {"query": 15, "train": 22, "gallery": 45}  # a tenth of 24 is held out

    def test_what_is_wrong_leaves_no_folder(self, tmp_path: Path) -> None:
        for recipe, message in (
            (recipe_of(data={"name": "digit"}), "data must be digits, .*got 'digit'"),
            (recipe_of(data__classes=3), "data digits has no option 'classes'"),
            (recipe_of(method={"name": "hashnett"}), "method must be hashnet, .*got 'hashnett'"),
            (recipe_of(method__alfa=3), "method hashnet has no option 'alfa'; its options are alpha"),
            (recipe_of(method__tau=1.5), "tau"),
            (recipe_of(preprocessing={"sise": 3}), "sise"),
            (recipe_of(backbone={"name": "mlpp"}), "backbone must be mlp, .*got 'mlpp'"),
            (recipe_of(backbone={"name": "mlp", "width": 3}), "backbone mlp has no option 'width'"),
        ):
            for force in (False, True):
                with pytest.raises(ValueError, match=message):
                    run(recipe, options_of(tmp_path / "run", force=force))
            assert not (tmp_path / "run").exists()

    def test_what_is_wrong_leaves_another_run_as_it_is(self, whole: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
        with pytest.raises(ValueError, match="tau"):
            run(recipe_of(method__tau=1.5), options_of(whole, force=True))
        assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


class TestOptions:
    def test_defaults_travel_to_other_processes(self) -> None:
        options = RunOptions(Path("run"))
        assert pickle.loads(pickle.dumps(options)) == options

    def test_eta_of_rdh_is_not_that_of_the_method(self) -> None:
        def eta_of(**method: Any) -> float:
            return prepare(recipe_of(method={"name": "dpsh", "rdh_eta": 0.7, **method})).method.eta

        assert eta_of(rdh=True) == 0.7
        assert eta_of(rdh=False) == 0.1
        assert eta_of(rdh=False, eta=0.3) == 0.3
        assert eta_of(rdh=True, eta=0.3) == 0.3
        assert eta_of(rdh=True, error_aware=False) == 0.1
        assert eta_of(error_aware=True) == 0.7

    def test_workers_follow_where_items_are(self, tmp_path: Path) -> None:
        setting = prepare(recipe_of())
        assert run_module._workers(options_of(tmp_path), setting) == 0
        assert run_module._workers(options_of(tmp_path, workers=3), setting) == 3
        large = replace(setting, preprocessing=replace(setting.preprocessing, size=224))
        assert 1 <= run_module._workers(options_of(tmp_path), large) <= 8

    @pytest.mark.parametrize("precision", ["bf16", "64"])
    def test_precision(self, precision: str, whole: Path, tmp_path: Path) -> None:
        recipe = recipe_of(precision=precision, backbone={"name": "small_cnn", "width": 4, "hidden": 16})
        results = run(recipe, options_of(tmp_path / "run"))
        plain = run(replace(recipe, precision="32"), options_of(tmp_path / "plain"))
        losses, others = ([record.loss for record in read_steps(tmp_path / name)] for name in ("run", "plain"))
        assert losses != others
        assert losses == pytest.approx(others, rel=1e-6 if precision == "64" else 0.05)
        kinds = {value.dtype for value in model_of(tmp_path / "run")["backbone"].values()}
        assert kinds == {torch.float64 if precision == "64" else torch.float32}
        assert results["map"] == pytest.approx(plain["map"], abs=0.05)

    def test_topk_of_the_data_is_the_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        load = DATASETS["digits"]

        def deep(seed: int = 0, *, query_per_class: int = 5, train_per_class: int = 8) -> Any:
            return replace(load(seed, query_per_class=query_per_class, train_per_class=train_per_class), topk=30)

        monkeypatch.setitem(DATASETS, "digits", deep)
        assert run(recipe_of(training__epochs=1), options_of(tmp_path / "a"))["topk"] == 30
        assert run(recipe_of(training__epochs=1, topk=7), options_of(tmp_path / "b"))["topk"] == 7

    def test_fewer_items_than_a_batch(self, tmp_path: Path) -> None:
        run(recipe_of(training__batch_size=4096), options_of(tmp_path))
        assert [record.bits for record in read_steps(tmp_path)] == [80 * 12] * 4

    @pytest.mark.parametrize(
        ("lr", "every", "message"),
        [
            (1e20, 10, r"the loss is not a number since step \d+ in epoch \d"),
            (1e38, 1, "the weights are not finite after epoch 1"),
        ],
    )
    def test_a_training_that_diverges_says_so(self, lr: float, every: int, message: str, tmp_path: Path) -> None:
        network = {"name": "small_cnn", "width": 4, "hidden": 16}
        with pytest.raises(ValueError, match=f"{message}; a smaller learning rate helps"):
            run(recipe_of(training__lr=lr, backbone=network, validation__every=every), options_of(tmp_path))
        assert not (tmp_path / "results.json").exists()
        assert len(read_steps(tmp_path)) >= 2  # what has been measured is there

    def test_it_leaves_no_trace(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        state, filters = torch.get_rng_state(), list(warnings.filters)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(recipe_of(training__epochs=1), options_of(tmp_path / "run"))
        assert torch.equal(torch.get_rng_state(), state)
        assert list(warnings.filters) == filters
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert capfd.readouterr() == ("", "")

    def test_random_numbers_of_the_caller_do_not_count(self, whole: Path, tmp_path: Path) -> None:
        torch.manual_seed(77)
        np.random.seed(3)  # noqa: NPY002  # that somebody else's code may draw from
        run(recipe_of(), options_of(tmp_path / "run"))
        assert_same(model_of(whole), model_of(tmp_path / "run"))
