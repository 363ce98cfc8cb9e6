"""Means, spreads and intervals against numbers worked out by hand; tables, CSV, JSON and figures that show them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from reproduce_training import RECIPE, content

from rdh_ext.hashing.reproduce import Grid, Options, documents, figures, paper, tables
from rdh_ext.hashing.reproduce.grid import Cell
from rdh_ext.hashing.reproduce.pool import Ended
from rdh_ext.hashing.reproduce.summary import Results, Spread, dead, mean_of, paired, t_quantile

pytest.importorskip("matplotlib")


def results_of(
    target: str, values: Mapping[Cell, list[float | None]], topk: int | None = None, **options: Any
) -> Results:
    """Results with these mAP for seed 0, 1, ...; dead bits are a thousandth of the bits times mAP."""
    seeds = max(len(each) for each in values.values())
    grid = Grid(Options(target, RECIPE, **{"seeds": seeds, **options}))
    by_key = {}
    for cell, maps in values.items():
        for seed, value in enumerate(maps):
            if value is not None:
                run = grid.run(cell, seed)
                by_key[run.key] = content(run.recipe, value, 1000 * value, topk=topk)
    return Results(grid, by_key)


PLAIN, RDH = [0.70, 0.72, 0.74], [0.75, 0.74, 0.79]
# means 0.72 and 0.76, deviations 0.02 and 0.0265; of the differences 0.05, 0.02, 0.05: 0.04 and 0.01732, and
# 4.3027 * 0.01732 / sqrt(3) is 0.0430
PAIR = {Cell("hashnet", "plain", 24): PLAIN, Cell("hashnet", "rdh", 24): RDH}
ONE = {"methods": ("hashnet",), "bits": (24,)}


def test_spread_by_hand() -> None:
    assert Spread.of([]) == Spread(0, None, None)
    assert Spread.of([0.5]) == Spread(1, 0.5, None)
    assert Spread.of([0.5]).half is None
    spread = Spread.of([1.0, 2.0, 4.0])
    assert spread.mean == pytest.approx(7 / 3)
    assert spread.std == pytest.approx((7 / 3) ** 0.5)
    assert spread.half == pytest.approx(4.3027 * (7 / 9) ** 0.5)


def test_t_quantiles_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in [*range(1, 60), 100, 1000]:
        assert t_quantile(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), abs=1e-4)


def test_pairs_are_of_the_same_seed() -> None:
    assert paired({0: 1.0, 2: 5.0, 1: 3.0}, {2: 1.0, 1: 1.0, 3: 9.0}) == {1: 2.0, 2: 4.0}
    assert mean_of([{0: 1.0, 1: 2.0}, {1: 4.0, 2: 8.0}]) == {1: 3.0}
    assert mean_of([]) == {}


@pytest.mark.parametrize(("epochs", "late"), [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (150, 15)])
def test_dead_bits_of_the_last_tenth(epochs: int, late: int) -> None:
    found = {"epochs": [{"dead": 1000.0 if e < epochs - late else 10.0 + (e - epochs)} for e in range(epochs)]}
    assert dead(found) == pytest.approx(10 - (late + 1) / 2)


def rows_of(text: str) -> dict[str, list[str]]:
    """First column -> the others, of the first table."""
    lines = [line for line in text.split("\n\n")[0].splitlines() if not line.startswith("|-")]
    cells = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_table1_by_hand() -> None:
    text = tables.table1(results_of("table1", PAIR, **ONE))
    assert rows_of(text) == {
        "mAP": ["24 bits"],
        "HashNet": ["0.7200 ± 0.0200"],
        "HashNet + RDH": ["0.7600 ± 0.0265"],
        "difference": ["+0.0400 (-0.0030 to +0.0830)"],
    }
    assert rows_of(text.split("\n\n")[1]) == {
        "dead bits per step": ["24 bits, of 3,072"],
        "HashNet": ["720.0 ± 20.0"],
        "HashNet + RDH": ["760.0 ± 26.5"],
        "difference": ["+40.0 (-3.0 to +83.0)"],
    }
    widths = {len(line) for line in text.split("\n\n")[0].splitlines()}
    assert len(widths) == 1


def test_table1_beside_the_paper() -> None:
    """Lengths and methods have means of their own; a length that the paper does not have has no number."""
    values = {
        Cell(method, variant, bits): [base + 0.01 * seed + 0.1 * (variant == "rdh") for seed in (0, 1)]
        for method, base in (("dpsh", 0.5), ("hashnet", 0.6))
        for variant in ("plain", "rdh")
        for bits in (24, 32)
    }
    both = {"methods": ("dpsh", "hashnet"), "bits": (24, 32), "settings": {"data.name": "nuswide21"}}
    rows = rows_of(tables.table1(results_of("table1", values, 5000, **both)))
    assert rows["mAP@5000"] == ["24 bits", "32 bits", "mean of lengths"]
    assert rows["DPSH"] == [
        "0.5050 ± 0.0071; paper 0.8075",
        "0.5050 ± 0.0071; paper 0.8137",
        "0.5050 ± 0.0071; paper 0.8106",
    ]
    assert rows["HashNet + RDH"][0] == "0.7050 ± 0.0071; paper 0.8256"
    # 0.8256 - 0.8176, 0.8311 - 0.8209, their mean; every pair differs by 0.1: an interval of no width
    assert [text.rpartition("; ")[2] for text in rows["difference"]] == [
        "paper +0.0080",
        "paper +0.0102",
        "paper +0.0091",
    ]
    assert rows["difference"][0].startswith("+0.1000 (+0.1000 to +0.1000)")
    *_, last = rows.values()
    # of DPSH 0.0175 and 0.0195
    printed = [float(text.removeprefix("+0.1000 (+0.1000 to +0.1000); paper +")) for text in last]
    assert printed == pytest.approx([0.01275, 0.01485, 0.0138], abs=6e-5)
    assert list(rows)[-1] == "difference, mean of methods"
    other = {cell: maps for cell, maps in values.items() if cell.bits == 24}
    other |= {Cell(c.method, c.variant, 16): maps for c, maps in other.items()}
    rows = rows_of(tables.table1(results_of("table1", other, 5000, **{**both, "bits": (16, 24)})))
    assert rows["DPSH"] == ["0.5050 ± 0.0071", "0.5050 ± 0.0071; paper 0.8075", "0.5050 ± 0.0071"]


def test_missing_seeds_are_said() -> None:
    values = {Cell("hashnet", "plain", 24): [0.7, 0.8, 0.9], Cell("hashnet", "rdh", 24): [0.75, None, None]}
    rows = rows_of(tables.table1(results_of("table1", values, **ONE)))
    assert rows["HashNet + RDH"] == ["0.7500, n = 1"]
    assert rows["difference"] == ["+0.0500, n = 1"]
    values[Cell("hashnet", "rdh", 24)] = [None, None, None]
    rows = rows_of(tables.table1(results_of("table1", values, **ONE)))
    assert rows["HashNet + RDH"] == rows["difference"] == ["-"]


def test_one_seed_has_no_spread() -> None:
    results = results_of("table1", {cell: maps[:1] for cell, maps in PAIR.items()}, **ONE)
    assert rows_of(tables.table1(results))["difference"] == ["+0.0500"]
    assert "no spread" in documents.render("table1", results, "", [])


def test_table2_by_hand() -> None:
    values = dict(PAIR)
    values[Cell("hashnet", "rdh-no-ga", 24)] = [0.70, 0.73, 0.72]
    values[Cell("hashnet", "rdh-no-eaql", 24)] = [0.71, 0.73, 0.75]
    text = tables.table2(results_of("table2", values, bits=(24,), settings={"data.name": "cifar10"}))
    assert list(rows_of(text).items()) == [
        ("mAP", ["24 bits"]),
        ("HashNet + RDH", ["0.7600 ± 0.0265; paper 0.7737"]),
        ("w.o. GA", ["0.7167 ± 0.0153; paper 0.7612"]),
        ("w.o. EAQL", ["0.7300 ± 0.0200; paper 0.7691"]),
        ("HashNet", ["0.7200 ± 0.0200; paper 0.7477"]),
    ]
    above = rows_of(text.split("\n\n")[1])
    assert above["above HashNet"] == ["24 bits"]
    assert above["w.o. EAQL"] == ["+0.0100 (+0.0100 to +0.0100)"]
    assert set(rows_of(text.split("\n\n")[2])) >= {"HashNet + RDH w.o. GA", "HashNet + RDH w.o. EAQL"}


def sweep() -> Results:
    grid = Grid(Options("fig6", RECIPE, bits=(24,), seeds=3))
    maps = {cell: [0.5 + place / 100, 0.52 + place / 100, 0.54] for place, cell in enumerate(grid.cells("fig6"))}
    return results_of("fig6", maps, bits=(24,))


def test_sensitivity_by_hand() -> None:
    results = sweep()
    text = tables.sensitivity(results)
    tau, eta = (rows_of(part) for part in text.split("\n\n"))
    assert list(tau) == ["tau", "0.5", "0.7", "0.9", "0.95", "0.99 (recipe)", "0.999", "HashNet"]
    assert list(eta) == ["eta", "0.01", "0.1", "1 (recipe)", "10", "HashNet"]
    assert tau["tau"] == ["mAP", "dead bits per step, of 3,072"]
    assert tau["HashNet"] == eta["HashNet"] == ["0.5200 ± 0.0200", "520.0 ± 20.0"]
    assert tau["0.5"][0] == "0.5267 ± 0.0153"
    assert tau["0.99 (recipe)"] == eta["1 (recipe)"]
    curve = figures.sensitivity_curve(results, "eta")
    assert curve["x"] == [0.01, 0.1, 1.0, 10.0]
    assert curve["mean"][2] == pytest.approx((0.55 + 0.57 + 0.54) / 3)


def test_curves_are_means_over_seeds() -> None:
    results = results_of("fig4", PAIR, **ONE)
    curves = figures.pr_curves(results)
    plain = curves[Cell("hashnet", "plain", 24)]
    assert plain["x"] == [level / 100 for level in range(101)]
    assert plain["mean"][0] == 1.0
    assert plain["mean"][50] == pytest.approx(0.86)  # 1 - (1 - mAP) / 2, mean of 0.85, 0.86, 0.87
    assert plain["std"][50] == pytest.approx(0.01)
    dead_bits = figures.dead_curves(results)[Cell("hashnet", "plain", 24)]
    assert dead_bits["x"] == list(range(1, 21))
    assert dead_bits["mean"][17:] == pytest.approx([2160, 720, 720])
    assert dead_bits["std"][19] == pytest.approx(20)


def test_curves_have_the_points_of_every_seed() -> None:
    results = results_of("fig5", PAIR, **ONE)
    run = results.grid.run(Cell("hashnet", "plain", 24), 1)
    shorter = Results(results.grid, {**results.by_key, run.key: content(run.recipe, 0.5, 100.0, epochs=3)})
    assert figures.dead_curves(shorter)[run.cell]["x"] == [1, 2, 3]


def test_csv_has_a_line_for_each_training() -> None:
    results = results_of("table1", PAIR, **ONE)
    rows = list(csv.DictReader(io.StringIO(documents.to_csv(results.grid, "table1", results))))
    assert [(row["key"], float(row["map"])) for row in rows] == [
        (f"digits-hashnet{variant}-24bits-seed{seed}", maps[seed])
        for seed in range(3)
        for variant, maps in (("", PLAIN), ("-rdh", RDH))
    ]
    first = rows[0]
    assert (first["label"], first["variant"], first["method"], first["tau"]) == ("HashNet", "plain", "hashnet", "0.99")
    assert (first["bits"], first["seed"], first["topk"], first["seconds"]) == ("24", "0", "", "2.0")
    assert (float(first["dead_per_step"]), float(first["saturated_per_step"])) == (700.0, 1400.0)
    assert (first["bits_per_step"], first["data_fingerprint"], first["chosen_epoch"]) == ("3072.0", "split 0", "19")
    assert rows[1]["eta"] == "1.0"


def test_json_has_all_numbers() -> None:
    results = results_of("fig5", PAIR, **ONE)
    found = json.loads(json.dumps(documents.as_json("fig5", results, [Ended("x", "no data", 1.0)]), allow_nan=False))
    assert found["command"].startswith(f"rdh reproduce fig5 --dataset {RECIPE} --bits 24 --seeds 3")
    assert found["failed"] == [{"key": "x", "error": "no data"}]
    assert found["versions"] == {"Python": ["3.11"], "torch": ["2.11"]}
    plain, rdh = found["cells"]
    assert plain["map"] == {
        "n": 3,
        "mean": pytest.approx(0.72),
        "std": pytest.approx(0.02),
        "seeds": dict(zip("012", PLAIN, strict=True)),
    }
    assert (rdh["label"], rdh["eta"], rdh["dead_per_step"]["mean"]) == ("HashNet + RDH", 1.0, pytest.approx(760))
    [difference] = found["differences"]
    assert difference["map"]["mean"] == pytest.approx(0.04)
    assert difference["map"]["low_95"] == pytest.approx(-0.0030, abs=5e-5)
    assert difference["map"]["high_95"] == pytest.approx(0.0830, abs=5e-5)
    assert [curve["variant"] for curve in found["curves"]] == ["plain", "rdh"]
    assert len(found["curves"][0]["epoch"]) == len(found["curves"][0]["mean"]) == 20


@pytest.mark.parametrize("target", ["table1", "table2", "fig3", "fig4", "fig5", "fig6"])
def test_files_of_a_target(tmp_path: Path, target: str) -> None:
    results = sweep() if target == "fig6" else results_of(target, PAIR, **ONE)
    failed = [Ended("digits-hashnet-24bits-seed0", "ValueError: no data", 1.0), Ended("other", "x", 1.0)]
    documents.write(tmp_path, target, results, failed)
    names = {path.suffix for path in tmp_path.iterdir()}
    text = (tmp_path / f"{target}.md").read_text()
    picture = {".png"} if target.startswith("fig") else set()
    assert names == {".md", *picture, *(() if target == "fig3" else (".csv", ".json"))}
    assert f"rdh reproduce {target}" in text
    assert (f"]({target}.png)" in text) is bool(picture)
    if target != "fig3":
        assert "torch 2.11" in text
        assert "handwritten digits; items: 300 query, 500 train, 1,497 gallery" in text
        assert "- `digits-hashnet-24bits-seed0`: ValueError: no data" in text
        assert "- `other`" not in text
    if picture:
        image = pytest.importorskip("matplotlib.image").imread(tmp_path / f"{target}.png")
        assert min(image.shape[:2]) > 300
        assert image[..., :3].std() > 0.02


def test_figures_without_a_training(tmp_path: Path) -> None:
    """Where all have failed there is still a report that says so."""
    for target in ("table1", "table2", "fig4", "fig5", "fig6"):
        documents.write(tmp_path, target, Results(Grid(Options(target, RECIPE, **ONE)), {}), [])  # type: ignore[arg-type]
        assert "trainings is done" in (tmp_path / f"{target}.md").read_text()


def test_panels_for_every_number_of_methods() -> None:
    for count in range(1, 6):
        methods = ("hashnet", "dpsh", "dhn", "dagh", "dsdh")[:count]
        values = {Cell(method, "plain", 24): [0.7, 0.8] for method in methods}
        figure = figures.dead_figure(results_of("fig5", values, methods=methods, bits=(24,)))
        assert [axes.get_title(loc="left") for axes in figure.axes][:count] == [
            f"{title}, 24 bits" for title in ("HashNet", "DPSH", "DHN", "DAGH", "DSDH")[:count]
        ]


def test_paper_lengths_are_the_default() -> None:
    assert Options("table1").bits == paper.BITS
    assert Options("table1").seeds == 5
