"""``rdh demo`` from end to end, with tiny trainings: every file of the report and what is in it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import rdh_ext
from rdh_ext import cli
from rdh_ext.hashing.data import load_digits

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

FILES = [
    ".rdh-demo",
    *(f"codes/{name}.npy" for name in ("gallery_indices", "gallery_labels", "hashnet_gallery", "hashnet_query")),
    *(f"codes/{name}.npy" for name in ("hashnet_rdh_gallery", "hashnet_rdh_query", "query_indices", "query_labels")),
    *(f"figures/{name}.png" for name in ("dead_bits", "gradient", "neighbours", "pr_curves")),
    *(f"metrics/{name}.csv" for name in ("hashnet", "hashnet_rdh")),
    "report.md",
    "results.json",
]


def files_of(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "report"
    assert cli.main(["demo", "--out", str(out), "--epochs", "2", "--bits", "12", "--seed", "3"]) == 0
    return out


def test_every_file_and_no_other(report: Path) -> None:
    assert files_of(report) == sorted(FILES)


def test_json_holds_all_numbers(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    assert results["settings"]["bits"] == 12
    assert results["data"] == {"name": "digits", "query": 300, "train": 500, "gallery": 1497}
    assert set(results["runs"]) == {"hashnet", "hashnet_rdh"} == set(results["seconds"])
    for key, run in results["runs"].items():
        assert run["rdh"] is (key == "hashnet_rdh")
        for name in ("map", "map_at_100", "precision_within_radius_2"):
            assert 0 < run[name] <= 1
        assert [len(values) for values in run["pr_curve_by_radius"].values()] == [13, 13, 13]
        assert run["pr_curve_by_radius"]["recall"][-1] == pytest.approx(1)
        assert [epoch["epoch"] for epoch in run["epochs"]] == [0, 1]
        assert all(epoch["bits"] == 128 * 12 for epoch in run["epochs"])
    assert set(results["versions"]) >= {"Python", "torch", "lightning", "rdh_ext"}


def test_codes_give_back_the_reported_numbers(report: Path) -> None:
    def load(name: str) -> torch.Tensor:
        return torch.from_numpy(np.load(report / "codes" / f"{name}.npy", allow_pickle=False))

    results = json.loads((report / "results.json").read_text())
    data = load_digits(3)
    assert torch.equal(load("query_labels"), data.query.labels)
    assert torch.equal(load("gallery_labels"), data.gallery.labels)
    assert torch.equal(load("query_indices"), data.query.indices)
    assert torch.equal(load("gallery_indices"), data.gallery.indices)
    for key, run in results["runs"].items():
        query, gallery = load(f"{key}_query"), load(f"{key}_gallery")
        assert query.shape == (300, 2)
        assert gallery.shape == (1497, 2)
        assert query.dtype == torch.uint8
        again = rdh_ext.evaluate(query, gallery, load("query_labels"), load("gallery_labels"), bits=12)
        assert float(again.map) == pytest.approx(run["map"], abs=1e-12)
        distance = rdh_ext.hamming_distance(query, gallery)
        assert run["queries_with_nothing_within_radius_2"] == int((distance > 2).all(dim=1).sum())
        correct = (load("query_labels")[:, None] == load("gallery_labels")[None, :])[..., None]
        within = distance[..., None] <= torch.arange(13)
        hits, found = (within & correct).sum(dim=1).double(), within.sum(dim=1).double()
        precision = [float((hits / found)[found[:, r] > 0, r].mean()) for r in range(13)]
        assert run["pr_curve_by_radius"]["precision"] == pytest.approx(precision, abs=1e-9)
        assert run["pr_curve_by_radius"]["queries"] == (found > 0).sum(dim=0).tolist()
        recall = (hits / correct.sum(dim=1)).mean(dim=0).tolist()
        assert run["pr_curve_by_radius"]["recall"] == pytest.approx(recall, abs=1e-9)
        expected = (hits[:, 2] / found[:, 2].clamp(min=1)).mean()
        assert run["precision_within_radius_2"] == pytest.approx(float(expected), abs=1e-9)


def test_markdown_shows_the_json(report: Path) -> None:
    text = (report / "report.md").read_text()
    results = json.loads((report / "results.json").read_text())
    without, with_rdh = results["runs"]["hashnet"], results["runs"]["hashnet_rdh"]
    assert f"| mAP, whole gallery | {without['map']:.4f} | {with_rdh['map']:.4f} |" in text
    assert f"| mAP@100 | {without['map_at_100']:.4f} | {with_rdh['map_at_100']:.4f} |" in text
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert sorted(pictures) == [name for name in sorted(FILES) if name.endswith(".png")]
    assert results["settings"]["command"] in text
    assert "--seed 3 --epochs 2 --bits 12" in text


def test_csv_has_every_step(report: Path) -> None:
    for key in ("hashnet", "hashnet_rdh"):
        with open(report / "metrics" / f"{key}.csv") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["step"]) for row in rows] == list(range(6))  # 500 images: three whole batches, two epochs
        assert all(float(row["loss"]) > 0 for row in rows)
        epochs = json.loads((report / "results.json").read_text())["runs"][key]["epochs"]
        assert sum(float(row["loss"]) for row in rows[:3]) / 3 == pytest.approx(epochs[0]["loss"])


def test_pictures_are_pictures(report: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    for name in FILES:
        if name.endswith(".png"):
            pixels = image.imread(report / name)
            assert pixels.shape[0] > 400
            assert pixels.shape[1] > 600
            assert pixels[..., :3].std() > 0.05  # something is drawn


def test_same_seed_same_report_over_an_earlier_one(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = {name: (report / name).read_bytes() for name in FILES}
    words = ["demo", "--out", str(report), "--epochs", "2", "--bits", "12", "--seed", "3"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "HashNet + RDH" in printed
    assert "mAP@100" in printed
    assert str(report / "report.md") in printed
    again = {name: (report / name).read_bytes() for name in FILES}
    a, b = (json.loads(files["results.json"]) for files in (first, again))
    assert a.pop("seconds").keys() == b.pop("seconds").keys()
    assert a == b
    for name in FILES:
        if name not in ("results.json", "report.md"):
            assert first[name] == again[name], name


def test_one_bit_one_epoch_another_seed(tmp_path: Path) -> None:
    assert cli.main(["demo", "--out", str(tmp_path), "--epochs", "1", "--bits", "1", "--seed", "4294967295"]) == 0
    assert files_of(tmp_path) == sorted(FILES)
