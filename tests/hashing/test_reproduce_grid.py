"""The paper's numbers, and which trainings each table and figure needs."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from reproduce_training import RECIPE

from rdh_ext.hashing import recipe as recipes
from rdh_ext.hashing.reproduce import TARGETS, Grid, GridError, Options, folders, paper
from rdh_ext.hashing.reproduce.grid import Cell


def grid_of(target: str, **options: object) -> Grid:
    return Grid(Options(target, **{"dataset": RECIPE, **options}))  # type: ignore[arg-type]


def test_numbers_of_the_paper() -> None:
    assert paper.table1_value("cifar10", "dpsh", False, 24) == 0.7465
    assert paper.table1_value("cifar10", "dsdh", True, 64) == 0.7887
    assert paper.table1_value("coco", "dagh", True, 32) == 0.7051
    assert paper.table1_value("nuswide", "hashnet", False, 48) == 0.8303
    assert paper.table1_value("cifar10", "dpsh", False, 16) is None
    assert paper.table1_value(None, "dpsh", False, 24) is None
    assert paper.table1_value("cifar10", "mine", True, 24) is None
    assert paper.table2_value("cifar10", "hashnet", "rdh-no-ga", 64) == 0.7601
    assert paper.table2_value("cifar10", "hashnet", "rdh-no-eaql", 24) == 0.7691
    assert paper.table2_value("coco", "hashnet", "rdh", 24) is None
    assert paper.table2_value("cifar10", "dpsh", "rdh", 24) is None


def test_both_tables_of_the_paper_agree_but_for_one_number() -> None:
    table1 = paper.TABLE1["cifar10"]
    assert paper.TABLE2["rdh"] == table1["hashnet", True]
    assert [a == b for a, b in zip(paper.TABLE2["plain"], table1["hashnet", False], strict=True)] == [
        True,
        False,
        True,
        True,
    ]
    assert (paper.TABLE2["plain"][1], table1["hashnet", False][1]) == (0.7573, 0.7568)


@pytest.mark.parametrize(
    ("dataset", "points", "percent"), [("cifar10", 2.4895, "3.3"), ("coco", 1.64, "2.3"), ("nuswide", 0.8625, "1.0")]
)
def test_gains_that_the_paper_speaks_of(dataset: str, points: float, percent: str) -> None:
    """One wrong digit anywhere in Table 1 changes a mean gain; the text has +3.29 % and +2.33 %, relative."""
    rows = paper.TABLE1[dataset]
    assert list(rows) == [(method, rdh) for method in paper.METHODS for rdh in (False, True)]
    without, with_rdh = ([v for (_, r), row in rows.items() if r is rdh for v in row] for rdh in (False, True))
    assert len(without) == len(with_rdh) == 20
    assert 100 * (fmean(with_rdh) - fmean(without)) == pytest.approx(points, abs=1e-9)
    assert f"{100 * (fmean(with_rdh) / fmean(without) - 1):.1f}" == percent


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cifar10", "cifar10"), ("CIFAR-10", "cifar10"), ("coco", "coco"), ("MS-COCO", "coco"), ("nuswide21", "nuswide")],
)
def test_names_of_data_sets(name: str, expected: str) -> None:
    assert paper.dataset_of(name) == expected
    assert paper.dataset_of(f"my {name}") is None


def test_how_many_trainings() -> None:
    methods = 5
    counts = {target: len(grid_of(target).runs()) for target in TARGETS}
    assert counts == {
        "table1": methods * 2 * 4 * 5,
        "table2": 4 * 4 * 5,
        "fig3": 0,
        "fig4": methods * 2 * 5,
        "fig5": methods * 2 * 5,
        "fig6": (1 + 6 + 4 - 1) * 5,  # none, tau, eta; the recipe's own values meet in one
    }
    every = grid_of("all").runs()
    # table 2 adds two variants; fig 6 the values that are not the recipe's
    assert len(every) == methods * 2 * 4 * 5 + 2 * 4 * 5 + (5 + 3) * 5
    assert len({run.key for run in every}) == len(every)


def test_a_key_is_a_training_and_a_training_a_key() -> None:
    every = grid_of("all", bits=(16, 32), seeds=2).runs()
    by_recipe = {recipes.to_yaml(run.recipe) for run in every}
    assert len(by_recipe) == len({run.key for run in every}) == len(every)
    keys = {run.key: run for run in every}
    alone = {run.key: run for target in TARGETS for run in grid_of(target, bits=(16, 32), seeds=2).runs()}
    assert keys == alone  # whoever asks for it


def test_keys_are_readable_and_stay() -> None:
    grid = grid_of("all", seeds=1)
    cells = {
        Cell("hashnet", "plain", 24): "digits-hashnet-24bits-seed3",
        Cell("hashnet", "rdh", 24): "digits-hashnet-rdh-24bits-seed3",
        Cell("dpsh", "rdh-no-ga", 64): "digits-dpsh-rdh-no-ga-64bits-seed3",
        Cell("hashnet", "rdh-no-eaql", 64): "digits-hashnet-rdh-no-eaql-64bits-seed3",
        Cell("hashnet", "rdh", 64, tau=0.999): "digits-hashnet-rdh-tau0.999-64bits-seed3",
        Cell("hashnet", "rdh", 64, eta=0.01): "digits-hashnet-rdh-eta0.01-64bits-seed3",
    }
    assert {cell: grid.key(cell, 3) for cell in cells} == cells
    assert Grid(Options("table2", "digits", settings={"training.epochs": 2}, seeds=1)).name == "digits"


def test_recipes_of_the_runs() -> None:
    grid = grid_of("all", bits=(16, 48), seeds=2, settings={"training.epochs": 7, "method.tau": 0.9})
    by_cell = {(run.cell, run.seed): run.recipe for run in grid.runs()}
    base = recipes.read(RECIPE)
    for (cell, seed), recipe in by_cell.items():
        assert (recipe.bits, recipe.seed, recipe.method["name"]) == (cell.bits, seed, cell.method)
        assert recipe.training.epochs == 7
        assert recipe.data == base.data
    shown = {
        variant: {
            k: v for k, v in by_cell[Cell("hashnet", variant, 16), 1].method.items() if k not in ("name", "rdh_eta")
        }
        for variant in ("plain", "rdh", "rdh-no-ga", "rdh-no-eaql")
    }
    assert shown == {
        "plain": {"tau": 0.9, "rdh": False},
        "rdh": {"tau": 0.9, "rdh": True},
        "rdh-no-ga": {"tau": 0.9, "rdh": True, "amplifier": False},
        "rdh-no-eaql": {"tau": 0.9, "rdh": True, "error_aware": False},
    }
    labels = [grid.method(Cell("hashnet", variant, 16)).label for variant in shown]
    assert labels == ["HashNet", "HashNet + RDH", "HashNet + RDH w.o. GA", "HashNet + RDH w.o. EAQL"]


def test_sensitivity_has_the_values_and_the_recipes_own() -> None:
    grid = grid_of("fig6", bits=(16, 48), taus=(0.5, 0.9), etas=(0.25, 1.0))
    own_tau, own_eta = grid.own("tau"), grid.own("eta")
    assert (own_tau, own_eta) == (0.99, 1.0)
    assert grid.sensitivity("tau") == [
        (0.5, Cell("hashnet", "rdh", 48, tau=0.5)),
        (0.9, Cell("hashnet", "rdh", 48, tau=0.9)),
        (0.99, Cell("hashnet", "rdh", 48)),
    ]
    assert grid.sensitivity("eta") == [(0.25, Cell("hashnet", "rdh", 48, eta=0.25)), (1.0, Cell("hashnet", "rdh", 48))]
    method = grid.method(Cell("hashnet", "rdh", 48, eta=0.25))
    assert (method.eta, method.tau) == (0.25, 0.99)
    assert grid.method(Cell("hashnet", "rdh", 48, tau=0.5)).tau == 0.5
    # an eta of the recipe itself, which is that of the method's own term too, does not stand in the way
    mine = grid_of("fig6", etas=(0.25,), settings={"method.eta": 0.5})
    assert mine.own("eta") == 0.5
    assert [mine.method(cell).eta for _, cell in mine.sensitivity("eta")] == [0.25, 0.5]


def test_switches_in_the_recipe_are_the_grids(tmp_path: Path) -> None:
    path = tmp_path / "My recipe.yaml"
    path.write_text("method: {name: hashnet, rdh: true, amplifier: false}\ntraining: {epochs: 3}\n")
    grid = grid_of("table2", dataset=str(path), bits=(16,), seeds=1)
    assert [run.key for run in grid.runs()] == [
        f"My-recipe-hashnet{variant}-16bits-seed0" for variant in ("-rdh", "-rdh-no-ga", "-rdh-no-eaql", "")
    ]
    assert [run.recipe.method.get("amplifier") for run in grid.runs()] == [None, False, None, None]


def test_what_differs_with_a_method_applies(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("training: {epochs: 3}\nmethods:\n  dpsh: {training: {lr: 0.5}, method: {eta: 0.2}}\n")
    grid = grid_of("table1", dataset=str(path), methods=("dpsh", "hashnet"), bits=(16,), seeds=1)
    assert {run.cell.method: run.recipe.training.lr for run in grid.runs()} == {"dpsh": 0.5, "hashnet": 0.01}
    assert grid.method(Cell("dpsh", "plain", 16)).eta == 0.2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"methods": ("hashnet", "dspsh")}, "--methods: method must be dpsh"),
        ({"settings": {"bits": 8}}, "--set bits: --bits says"),
        ({"settings": {"seed": 8}}, "--set seed: --seeds says"),
        ({"settings": {"method.name": "dpsh"}}, "--set method.name: --methods says"),
        ({"settings": {"method.rdh": True}}, "--set method.rdh: the target says"),
        ({"settings": {"method.taus": 0.5}}, "method hashnet has no option 'taus'"),
        ({"settings": {"method.tau": 1.5}}, "tau must be"),
    ],
)
def test_grids_that_cannot_be(options: dict[str, object], expected: str) -> None:
    with pytest.raises(GridError, match=expected):
        grid_of("table1", **{"methods": ("hashnet",), "seeds": 1, **options})


def test_recipes_that_cannot_be() -> None:
    with pytest.raises(recipes.RecipeError, match="did you mean 'digits'"):
        grid_of("table1", dataset="digit")
    with pytest.raises(recipes.RecipeError, match=r"training\.epoch"):
        grid_of("table1", settings={"training.epoch": 3})
    grid_of("fig3", dataset="there is none")  # needs no recipe


def test_command_gives_the_same_grid() -> None:
    settings = {"training.lr": 0.5, "data.root": "my data", "data.name": "true", "training.epochs": 3}
    options = Options(
        "fig6",
        "digits",
        (16,),
        2,
        ("dpsh", "hashnet"),
        (0.5,),
        (1.0, 1e-4),
        settings,
        Path("o u t"),
        ("cuda:0", "cuda:1"),
    )
    assert options.command() == (
        "rdh reproduce fig6 --dataset digits --bits 16 --seeds 2 --methods dpsh,hashnet --taus 0.5 --etas 1,0.0001 "
        "--set training.lr=0.5 --set 'data.root=\"my data\"' --set 'data.name=\"true\"' --set training.epochs=3 "
        "--device cuda:0,cuda:1 --out 'o u t'"
    )
    assert Options("fig3").command() == "rdh reproduce fig3 --out rdh-reproduce"


def test_folders(tmp_path: Path) -> None:
    assert str(folders.default("all", "x/my data.yaml")) == "rdh-reproduce-my-data"
    assert str(folders.default("fig3", "digits")) == "rdh-reproduce"
    folders.claim(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "more").write_text("")
    folders.claim(tmp_path / "a" / "b")
    with pytest.raises(folders.FolderInUse, match="--force"):
        folders.claim(tmp_path / "a")
    folders.claim(tmp_path / "a", force=True)
    with pytest.raises(folders.FolderInUse, match="is a file"):
        folders.claim(tmp_path / "a" / "b" / "more")


def test_one_grid_at_a_time(tmp_path: Path) -> None:
    folders.claim(tmp_path)
    with folders.lock(tmp_path), pytest.raises(folders.FolderInUse, match="at work"), folders.lock(tmp_path):
        pass
    with folders.lock(tmp_path):
        pass
