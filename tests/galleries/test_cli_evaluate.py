"""``rdh evaluate``: the numbers of the functions, a report, errors of one line, and a kill in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from code_sets import make_problem, write_problem
from command_line import failure
from process_group import environment, torchrun

import rdh_ext
from rdh_ext import cli
from rdh_ext.retrieval import write_code_set

BITS = 24


@pytest.fixture
def words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for a small problem in the current folder."""
    write_problem(folder, make_problem(), BITS)
    monkeypatch.chdir(folder)
    return ["evaluate", "--query", "query.npz", "--gallery", "gallery"]


def expected(**options: Any) -> rdh_ext.retrieval.EvaluationResult:
    q, g, q_labels, g_labels = make_problem()
    return rdh_ext.evaluate(q, g, q_labels, g_labels, bits=BITS, **options)


@pytest.mark.parametrize("ties", ["expected", "stable", "optimistic"])
def test_report(words: list[str], capsys: pytest.CaptureFixture[str], ties: str) -> None:
    assert cli.main([*words, "--ties", ties, "--topk", "100", "--out", "a/report.json"]) == 0
    captured = capsys.readouterr()
    result = expected(ties=ties, topk=100)
    assert str(result) in captured.out
    assert captured.err.startswith("memory: ")
    report = json.loads(Path("a/report.json").read_text())
    assert report["map"] == result.map
    assert report["ap"] == result.ap.tolist()
    assert (report["queries"], report["gallery"], report["bits"]) == (20, 30_000, BITS)
    radius = result.pr_curve("radius").to_dict()
    assert report["curves"][0] == radius
    if ties == "expected":
        assert report["at"]["100"]["precision"] == result.precision_at(100)
        assert f"{result.precision_at(100):.4f}" in captured.out
        assert report["curves"][2] == result.pr_curve("recall").to_dict()
    picture = Path("a/report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert sorted(path.name for path in Path("a").iterdir()) == ["report.json", "report.png"]


def test_what_is_there_is_not_overwritten(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("report.json").write_text("years of work")
    words += ["--out", "report.json"]
    assert "--out report.json exists" in failure(capsys, words)
    assert Path("report.json").read_text() == "years of work"
    assert cli.main([*words, "--force"]) == 0
    assert json.loads(Path("report.json").read_text())["kind"] == "rdh evaluate"


@pytest.mark.parametrize(
    ("query", "gallery", "warned"),
    [("a", "b", True), ("a", "a", False), (None, "b", False), ("a", None, False), (None, None, False)],
)
def test_codes_of_two_models(
    query: str | None, gallery: str | None, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, model in (("query", query), ("gallery", gallery)):
        made = {} if model is None else {"model": f"/runs/{model}", "model_sha256": model}
        codes = torch.zeros(3, 2, dtype=torch.uint8)
        write_code_set(tmp_path / name, codes, torch.zeros(3, dtype=torch.int64), made=made)
    words = ["evaluate", "--query", str(tmp_path / "query"), "--gallery", str(tmp_path / "gallery")]
    assert cli.main(words) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("memory: ")]
    expected = (
        f"rdh evaluate: warning: {tmp_path}/query (of a) and {tmp_path}/gallery (of b) have codes of two models, "
        "between which distances mean little; encode both by one"
    )
    assert lines == [expected] * warned


def test_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "name a file that ends in .json" in failure(capsys, [*words, "--out", "report.txt"])
    assert "--resume goes on with a run that had --out" in failure(capsys, [*words, "--resume"])
    assert "nowhere: no such code set" in failure(capsys, [*words[:-1], "nowhere"])
    assert "is too little" in failure(capsys, [*words, "--memory", "1MiB"])
    Path("folder.json").mkdir()
    assert "is a folder" in failure(capsys, [*words, "--out", "folder.json"])
    path = Path("gallery/codes-00001.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert str(path) in failure(capsys, words)


def test_without_matplotlib(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main([*words, "--out", "report.json"]) == 0
    assert "pip install 'rdh_ext[cli]'" in capsys.readouterr().err
    assert Path("report.json").is_file()


def test_interrupted_and_resumed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A kill -9 of the real command, which says what to do when it is started again, and then goes on."""
    words += ["--out", "report.json", "--ties", "stable"]
    script = """
import faulthandler, sys, time
faulthandler.dump_traceback_later(120, exit=True)
from rdh_ext import cli
from rdh_ext.cli import progress
from rdh_ext.retrieval.streaming import state
state.SAVE_SECONDS = 0.0
class Slow:
    def __init__(self, *_, **__): pass
    def __call__(self, stage, done, total):
        print("at", stage, done, flush=True)
        time.sleep(0.05)
    def close(self): pass
progress.Bar = Slow
sys.exit(cli.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", script, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        for line in process.stdout:
            if line.startswith("at rank") and int(line.split()[2]) > 8_000:
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert not Path("report.json").exists()
    assert "add --resume" in failure(capsys, words)
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300, env=environment())
    assert again.returncode == 0, again.stderr
    steps = [line.split()[1:] for line in again.stdout.splitlines() if line.startswith("at ")]
    # nothing is counted again, and of the ranks no more than the block of the kill
    assert [step for step in steps if step[0] == "count"] == [["count", "30000"]]
    assert next(int(done) for stage, done in steps if stage == "rank") > 0
    assert json.loads(Path("report.json").read_text())["ap"] == expected(ties="stable").ap.tolist()
    assert not Path("report.json.partial").exists()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="a PyTorch without torch.distributed")
def test_started_by_torchrun(words: list[str]) -> None:
    done = torchrun([*words, "--out", "report.json"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(expected()))
    assert done.stdout.count("mAP") == 1
    assert json.loads(Path("report.json").read_text())["map"] == expected().map
