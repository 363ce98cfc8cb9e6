"""What the README and the demo's report claim is what the committed results show."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_modules import load

from rdh_ext.hashing.report import regime
from rdh_ext.hashing.reproduce import folders

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="needs the benchmark results of the source tree")


def test_readme_shows_the_committed_results() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks" / "report.py"), "--check"], check=False)
    assert done.returncode == 0, "run python benchmarks/report.py"


def test_committed_reports_are_of_the_committed_rows() -> None:
    """Those of `rdh report`, pictures by their names: their bytes depend on the version of matplotlib."""
    (module,) = load("bench_report")
    reports = [path.parent for path in RESULTS.glob("*/.rdh-report")]
    assert "cpu" in {path.name for path in reports}
    for folder in reports:
        rows = module.rows_of(folder.with_suffix(".csv"))
        shown = [path.name for path in folder.glob("*.png")]
        assert shown
        text = module.document(module.named({folder: rows}), shown, levels=False)
        assert (folder / "report.md").read_text() == text, f"run rdh report {folder}.csv --out {folder} --force"


def test_numbers_of_record_say_where_they_come_from() -> None:
    """Every row of `rdh bench` that is committed names its device, versions and command, without paths of a machine."""
    (module,) = load("_rows")
    for folder in (path.parent for path in RESULTS.glob("*/.rdh-report")):
        for row in module.read(folder.with_suffix(".csv")):
            assert all(row[key] for key in ("device", "level", "torch", "rdh_ext", "command"))
            assert row["command"].startswith("rdh bench")
            assert "/tmp" not in row["command"]
            assert "home" not in row["command"]


def test_the_study_in_the_demos_report_is_the_committed_one() -> None:
    with (RESULTS / "demo_seeds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(regime.STUDY) == list(dict.fromkeys(row["run"] for row in rows))
    for label, seeds in regime.STUDY.items():
        committed = [(float(row["map"]), float(row["dead_per_step"])) for row in rows if row["run"] == label]
        assert [tuple(result) for result in seeds] == committed


def test_files_that_the_readme_links_to_exist() -> None:
    text = (ROOT / "README.md").read_text()
    links = [part.split(")", 1)[0] for part in text.split("](")[1:]]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_commands_of_committed_grids_run_in_a_clone() -> None:
    """Their folders are marked as what they are, and ``rdh reproduce`` goes on in such a folder alone."""
    grids = [path.parent for path in RESULTS.glob("*/table1.json")]
    assert {path.name for path in grids} == {"digits", "digits-raw", "digits-few"}
    for grid in grids:
        folders.claim(grid)
