"""Embeddings in .npy files: one set that is split, or given queries; from memory and from the disk."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_layouts import ROLES, error_of, sizes, warnings_of
from numpy.typing import NDArray

from rdh_ext.hashing.data import FeatureFile, Preprocessing, Split, TensorSource, features, hold_out, load_features

IDS = np.arange(40) % 4


def rows(items: int = 40, width: int = 6, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((items, width)).astype(np.float32)


def save(path: Path, array: Any) -> str:
    np.save(path, array)
    return str(path)


@pytest.fixture
def one(tmp_path: Path) -> dict[str, Any]:
    """One set, and numbers that fit it."""
    return {
        "features": save(tmp_path / "x.npy", rows()),
        "labels": save(tmp_path / "y.npy", IDS),
        "query_items": 2,
        "train_items": 3,
    }


@pytest.fixture
def two(one: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A gallery and queries."""
    return {
        **one,
        "query_features": save(tmp_path / "qx.npy", rows(7, seed=1)),
        "query_labels": save(tmp_path / "qy.npy", IDS[:7]),
    }


@pytest.fixture(params=["in memory", "on the disk"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "on the disk":
        monkeypatch.setattr(features, "IN_MEMORY", 10)
    return str(request.param)


class TestOneSet:
    """Split by seed."""

    def test_parts(self, one: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(features, "PIECE_BYTES", 6 * 4 * 7)
        data = load_features(5, **one, topk=8)
        assert sizes(data) == (8, 12, 32)
        assert isinstance(data.query.source, TensorSource if where == "in memory" else FeatureFile)
        for role in ROLES:
            part = getattr(data, role)
            assert part.source.shape == (6,)
            assert np.array_equal(part.source.read(part.indices).numpy(), rows()[part.indices])
            assert part.labels.tolist() == IDS[part.indices].tolist()
            assert part.labels.dtype == torch.int64
            assert part.source.name(3) == "3"
        assert (data.name, data.classes, data.topk) == ("features", 4, 8)
        assert data.description == "features: 40 of 6 numbers, 4 classes, split per class: 2 query, 3 train"
        assert data.split().seed == 5

    def test_standardized(self, one: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the training items alone, whatever pieces they are read in."""
        monkeypatch.setattr(features, "_PIECE", 5)
        x = rows() * np.array([1e-4, 1, 100, 1, 1, 1], "f4") + np.array([0, 0, 0, 1000, 0, 0], "f4")
        x[:, 4] = 7.25
        one["features"] = save(Path(one["features"]), x)
        data = load_features(5, **one)
        train = x[data.train.indices].astype("f8")
        inputs = data.preprocessing(data.train.source.read(data.train.indices)).double().numpy()
        expected = (train - train.mean(axis=0)) / np.where(np.arange(6) == 4, 1, train.std(axis=0))
        np.testing.assert_allclose(inputs, expected, rtol=0, atol=3e-4)
        np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(inputs.std(axis=0), [1, 1, 1, 1, 0, 1], atol=1e-5)
        np.testing.assert_allclose(data.preprocessing.mean, train.mean(axis=0), rtol=1e-12, atol=1e-18)
        assert data.preprocessing.shape_of((6,)) == (6,)
        assert Preprocessing.from_dict(data.preprocessing.to_dict()) == data.preprocessing
        assert load_features(5, **one, standardize=False).preprocessing == Preprocessing()
        assert load_features(6, **one).preprocessing != data.preprocessing  # other training items

    def test_standardized_by_some_of_many(self, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        whole = load_features(5, **one)
        monkeypatch.setattr(features, "_LOOKED_AT", 5)
        some = rows()[whole.train.indices[::3]].astype("f8")  # 4 of 12 items
        found = load_features(5, **one).preprocessing
        np.testing.assert_allclose(found.mean, some.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.std, some.std(axis=0), rtol=1e-9)

    @pytest.mark.parametrize("dtype", ["f2", "f8", "u1", "i1"])
    def test_standardized_of_every_dtype(self, dtype: str, one: dict[str, Any], where: str) -> None:
        x = np.random.default_rng(0).integers(0, 100, (40, 6)).astype(dtype)
        one["features"] = save(Path(one["features"]), x)
        data = load_features(5, **one)
        train = x[data.train.indices].astype("f8")
        np.testing.assert_allclose(data.preprocessing.mean, train.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(data.preprocessing.std, train.std(axis=0), rtol=1e-9)

    def test_one_training_item_has_no_deviation(self, one: dict[str, Any]) -> None:
        data = load_features(5, **{**one, "per_class": False, "train_items": 1})
        assert data.preprocessing.std == (1.0,) * 6
        assert data.preprocessing(data.train.images).abs().max() == 0

    def test_what_hardly_varies_stays_finite(self, one: dict[str, Any]) -> None:
        x = rows()
        x[:, 0] *= 1e-40
        x[:, 1] *= 1e-30
        x[:, 2] = 3 + 1e-7 * x[:, 2]
        one["features"] = save(Path(one["features"]), x)
        data = load_features(5, **one)
        inputs = data.preprocessing(data.train.images)
        assert bool(inputs.isfinite().all())
        np.testing.assert_allclose(inputs.std(dim=0, correction=0)[[1, 3, 4, 5]], 1, atol=1e-5)
        assert inputs[:, [0, 2]].abs().max() < 1e-6

    @pytest.mark.parametrize("value", ["no", 1, None])
    def test_standardize_is_true_or_false(self, value: Any, one: dict[str, Any]) -> None:
        message = error_of(load_features, **one, standardize=value)
        assert message == f"features: standardize must be true or false, got {value!r}"

    def test_memory_and_disk_are_the_same_data(self, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_features(**one).fingerprint()
        monkeypatch.setattr(features, "IN_MEMORY", 10)
        assert load_features(**one).fingerprint() == first
        save(Path(one["features"]), rows(seed=3))
        assert load_features(**one).fingerprint() != first

    def test_limit_of_memory(self, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        for limit, kind in ((40 * 6 * 4, TensorSource), (40 * 6 * 4 - 1, FeatureFile)):
            monkeypatch.setattr(features, "IN_MEMORY", limit)
            assert isinstance(load_features(**one).query.source, kind)

    def test_at_random(self, one: dict[str, Any]) -> None:
        assert sizes(load_features(**one, per_class=False)) == (2, 3, 38)
        assert sizes(load_features(**{**one, "train_items": None})) == (8, 32, 32)

    def test_saved_split(self, one: dict[str, Any], tmp_path: Path) -> None:
        data = load_features(5, **one)
        data.split().save(tmp_path / "split.npz")
        again = load_features(6, **one, split=str(tmp_path / "split.npz"))
        assert again.fingerprint() == data.fingerprint()
        save(Path(one["labels"]), IDS[::-1])
        assert "other labels" in error_of(load_features, **one, split=str(tmp_path / "split.npz"))

    @pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "|u1", "|i1"])
    def test_types(self, one: dict[str, Any], where: str, dtype: str) -> None:
        values = (rows() * 20 + 100).astype(dtype)
        save(Path(one["features"]), values)
        source = load_features(**one).gallery.source
        read = source.read(torch.tensor([39, 0, 7, 7]))
        assert isinstance(read, torch.Tensor)
        assert np.array_equal(read.numpy(), values[[39, 0, 7, 7]])
        assert read.numpy().dtype == values.dtype.newbyteorder("=")

    def test_columns_one_behind_the_other(self, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        save(Path(one["features"]), np.asfortranarray(rows()))
        assert np.array_equal(load_features(**one).query.source.read(torch.arange(40)), rows())
        monkeypatch.setattr(features, "IN_MEMORY", 10)
        assert "Fortran order; save numpy.ascontiguousarray" in error_of(load_features, **one)

    @pytest.mark.parametrize(
        ("labels", "is_multilabel"),
        [
            (IDS[:, None], False),
            (IDS.astype(np.uint8), False),
            (IDS.astype(np.float64), False),
            (np.eye(4)[IDS], False),
            (np.eye(4, dtype=bool)[IDS], False),
            (np.maximum(np.eye(4)[IDS], np.eye(4)[(IDS + (np.arange(40) < 20)) % 4]), True),
        ],
    )
    def test_labels(self, one: dict[str, Any], labels: Any, is_multilabel: bool) -> None:
        save(Path(one["labels"]), labels)
        data = load_features(**one)
        assert (data.is_multilabel, data.classes) == (is_multilabel, 4)
        assert data.gallery.labels.dtype == (torch.bool if is_multilabel else torch.int64)
        expected = labels if is_multilabel else IDS
        assert np.array_equal(
            data.gallery.labels, expected[data.gallery.indices].astype(data.gallery.labels.numpy().dtype)
        )

    def test_images_without_label_are_said(self, one: dict[str, Any]) -> None:
        labels = np.eye(4, dtype=bool)[IDS]
        labels[:3] = False
        save(Path(one["labels"]), labels)
        (message,) = warnings_of(load_features, **one)
        assert message.startswith(
            "features: without any label: 0 of 8 query items, 0 of 12 train items, 3 of 32 gallery"
        )

    def test_home(self, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(Path(one["features"]).parent))
        assert sizes(load_features(**{**one, "features": "~/x.npy", "labels": "~/y.npy"})) == (8, 12, 32)


class TestGivenQueries:
    """Queries, and perhaps training items, in files of their own."""

    def test_training_items_of_the_gallery(self, two: dict[str, Any], where: str) -> None:
        data = load_features(5, **two)
        assert sizes(data) == (7, 12, 40)
        assert np.array_equal(data.query.source.read(data.query.indices), rows(7, seed=1))
        assert np.array_equal(data.gallery.source.read(data.gallery.indices), rows())
        assert data.gallery.indices.tolist() == list(range(40))
        assert torch.bincount(data.train.labels).tolist() == [3, 3, 3, 3]
        assert data.train.source is data.gallery.source
        assert data.train.labels.tolist() != data.train.labels.sort().values.tolist()
        assert torch.equal(data.train.indices, load_features(5, **two).train.indices)
        assert not torch.equal(data.train.indices, load_features(6, **two).train.indices)
        assert data.split().protocol == "queries given, 12 training items of the gallery"
        assert data.description.startswith("features: 47 of 6 numbers, 4 classes, split queries given")
        _, validation = hold_out(data, 28, seed=0)
        assert validation is not None
        assert not torch.isin(validation.indices, data.train.indices).any()

    @pytest.mark.parametrize(("options", "items"), [({"per_class": False}, 3), ({"train_items": None}, 40)])
    def test_other_choices_of_training_items(self, two: dict[str, Any], options: dict[str, Any], items: int) -> None:
        data = load_features(**{**two, **options})
        assert sizes(data) == (7, items, 40)
        assert len(data.train.indices.unique()) == items

    def test_several_labels(self, two: dict[str, Any]) -> None:
        hot = np.maximum(np.eye(4)[IDS], np.eye(4)[(IDS + 1) % 4])
        save(Path(two["labels"]), hot)
        save(Path(two["query_labels"]), hot[:7])
        data = load_features(**two)
        assert sizes(data) == (7, 12, 40)
        assert data.query.labels.int().tolist() == hot[:7].tolist()
        save(Path(two["query_labels"]), np.eye(4)[IDS[:7]])  # one label each here, and several in the gallery
        assert load_features(**two).query.labels.dim() == 2

    def test_training_items_in_a_file(self, two: dict[str, Any], tmp_path: Path) -> None:
        two["train_features"] = save(tmp_path / "tx.npy", rows(9, seed=2))
        two["train_labels"] = save(tmp_path / "ty.npy", IDS[:9])
        data = load_features(**two)
        assert sizes(data) == (7, 9, 40)
        assert np.array_equal(data.train.source.read(data.train.indices), rows(9, seed=2))
        split = data.split()
        assert (split.protocol, split.seed, split.items) == ("as the files say", None, 56)
        assert split.train.tolist() == list(range(40, 49))
        split.save(tmp_path / "split.npz")
        assert Split.load(tmp_path / "split.npz").query.tolist() == list(range(49, 56))

    def test_training_items_in_the_file_of_the_gallery_are_the_same_items(self, two: dict[str, Any]) -> None:
        os.symlink(two["features"], Path(two["features"]).with_name("again.npy"))
        for name in (two["features"], str(Path(two["features"]).with_name("again.npy"))):
            data = load_features(**two, train_features=name, train_labels=two["labels"])
            assert data.train.source is data.gallery.source

    @pytest.mark.parametrize("name", ["features", "train_features"])
    def test_queries_that_are_searched_or_trained_on(self, two: dict[str, Any], tmp_path: Path, name: str) -> None:
        two["train_features"] = save(tmp_path / "tx.npy", rows(9, seed=2))
        two["train_labels"] = save(tmp_path / "ty.npy", IDS[:9])
        os.symlink(two[name], tmp_path / "linked.npy")
        message = error_of(load_features, **{**two, "query_features": str(tmp_path / "linked.npy")})
        assert message == (
            f"{tmp_path}/linked.npy: queries must be neither searched nor trained on; give them a file of their own"
        )

    def test_what_goes_together(self, two: dict[str, Any], one: dict[str, Any]) -> None:
        for name in ("query_features", "query_labels"):
            message = error_of(load_features, **{**two, name: None})
            assert message == f"features: {name} must be given, too: features and labels go together"
        message = error_of(load_features, **one, train_features=one["features"], train_labels=one["labels"])
        assert message == "features: train_features come without query_features; give both, or features alone"
        message = error_of(load_features, **two, split="split.npz")
        assert message == "features: query_features say what the queries are; leave out split='split.npz'"

    def test_other_width_and_other_labels(self, two: dict[str, Any]) -> None:
        save(Path(two["query_labels"]), np.ones((7, 3)))
        message = error_of(load_features, **two)
        assert message == (
            f"{two['query_labels']}: not the kind of labels that {two['labels']} has; save both in one way"
        )
        save(Path(two["query_features"]), rows(7, 5))
        message = error_of(load_features, **two)
        assert message == (
            f"{two['query_features']}: 5 numbers in a row, and 6 in {two['features']}; all must come from one network"
        )

    def test_too_few_training_items(self, two: dict[str, Any]) -> None:
        assert "class 0 must have at least 11 images (0 query + 11 train), got 10" in error_of(
            load_features, **{**two, "train_items": 11}
        )
        message = error_of(load_features, **{**two, "train_items": 41, "per_class": False})
        assert message == "train_items: at most the 40 items of the gallery, got 41"
        message = error_of(load_features, **{**two, "train_items": 0})
        assert "train_items" in message
        assert "at least 1, got 0" in message


class TestRefused:
    """Files that are no features."""

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros(40), "features must be [items, D] of float16, float32, float64, uint8 or int8, got float64 [40]"),
            (np.zeros((40, 0)), "features must be [items, D]"),
            (np.zeros((0, 6)), "features must be [items, D]"),
            (
                np.zeros((40, 6), np.int64),
                "features must be [items, D] of float16, float32, float64, uint8 or int8, got int64",
            ),
            (np.zeros((40, 6), np.complex64), "features must be [items, D]"),
            (np.zeros((40, 6), np.longdouble), "features must be [items, D]"),
            (np.zeros((40, 6), bool), "features must be [items, D]"),
            (np.zeros((40, 2, 3)), "save it with one row per item"),
            (np.array([[{}]], dtype=object), "Python objects"),
        ],
    )
    def test_arrays(self, one: dict[str, Any], array: Any, words: str) -> None:
        save(Path(one["features"]), array)
        message = error_of(load_features, **one)
        assert message.startswith(one["features"])
        assert words in message

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
    def test_values_that_are_not_finite(
        self, one: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch, value: float
    ) -> None:
        monkeypatch.setattr(features, "PIECE_BYTES", 6 * 8 * 7)
        array = rows().astype(np.float64)
        array[[23, 30], [2, 1]] = value
        save(Path(one["features"]), array)
        message = error_of(load_features, **one)
        assert message == (
            f"{one['features']}: row 23 holds {value}, no finite float32; leave such rows out, or make them again"
        )

    def test_labels_of_other_items(self, one: dict[str, Any]) -> None:
        save(Path(one["labels"]), IDS[:39])
        message = error_of(load_features, **one)
        assert message == (
            f"{one['labels']}: 39 labels for 40 rows of {one['features']}; give those that belong to them"
        )
        for wrong, words in (
            (IDS - 1, "row 0 is -1; class ids must be whole"),
            (IDS.astype(str), "names, not numbers"),
        ):
            save(Path(one["labels"]), wrong)
            assert words in error_of(load_features, **one)
        save(Path(one["labels"]), IDS + (1 << 20))
        assert "features: class id 1048579 is not below" in error_of(load_features, **one)

    def test_files_that_are_not_there_or_no_arrays(self, one: dict[str, Any], tmp_path: Path) -> None:
        assert "no.npy" in error_of(
            load_features, **{**one, "features": str(tmp_path / "no.npy")}, kind=FileNotFoundError
        )
        (tmp_path / "x.txt").write_text("1 2 3")
        assert "not a .npy array" in error_of(load_features, **{**one, "features": str(tmp_path / "x.txt")})
        content = Path(one["features"]).read_bytes()
        Path(one["features"]).write_bytes(content[:-1])
        assert "bring back the whole file" in error_of(load_features, **one)


class TestFeatureFile:
    """Rows from the disk."""

    def test_reads_rows(self, tmp_path: Path) -> None:
        source = FeatureFile(save(tmp_path / "x.npy", rows()))
        assert (len(source), source.shape) == (40, (6,))
        assert np.array_equal(source.read(torch.tensor([5, 5, 0])), rows()[[5, 5, 0]])
        assert source.read(torch.tensor([], dtype=torch.int64)).shape == (0, 6)

    def test_goes_to_other_processes(self, tmp_path: Path) -> None:
        source = FeatureFile(save(tmp_path / "x.npy", rows()))
        source.read(torch.tensor([1]))
        assert np.array_equal(pickle.loads(pickle.dumps(source)).read(torch.tensor([3])), rows()[[3]])
        assert len(pickle.dumps(source)) < 600
        with multiprocessing.get_context("fork").Pool(2) as pool:
            read = pool.map(_row, [(source, place) for place in range(40)])
        assert np.array_equal(np.stack(read), rows())

    def test_file_that_becomes_shorter(self, tmp_path: Path) -> None:
        path = Path(save(tmp_path / "x.npy", rows()))
        source = FeatureFile(path)
        os.truncate(path, path.stat().st_size - 4)
        assert np.array_equal(source.read(torch.tensor([38])), rows()[[38]])
        assert error_of(source.read, torch.tensor([39])) == (
            f"{path}: has become shorter meanwhile; bring back the whole file"
        )

    def test_file_is_closed(self, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        source = FeatureFile(save(tmp_path / "x.npy", rows()))
        source.read(torch.tensor([1]))
        assert len(os.listdir("/proc/self/fd")) == before + 1
        del source
        assert len(os.listdir("/proc/self/fd")) == before


def _row(asked: tuple[FeatureFile, int]) -> NDArray[np.float32]:
    source, place = asked
    return np.asarray(source.read(torch.tensor([place]))[0])
