"""``rdh reproduce`` with trainings that take no time: processes, failures, interrupts, and going on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reproduce_training
from command_line import Terminal, failure
from reproduce_training import RECIPE

from rdh_ext import cli
from rdh_ext.hashing.reproduce import Grid, Options, folders, pool, worker
from rdh_ext.hashing.reproduce.pool import Ended

pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
TINY = ["--dataset", RECIPE, "--methods", "hashnet", "--bits", "16", "--seeds", "2"]
KEYS = [f"digits-hashnet{variant}-16bits-seed{seed}" for seed in (0, 1) for variant in ("", "-rdh")]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool without its processes."""

    def train_all(jobs: list[worker.Job], devices: list[str], on_end: object) -> list[Ended]:
        ends = []
        for job in jobs:
            ends.append(Ended(job.key, worker._train(job, "reproduce_training", devices[0]), 1.0))
            on_end(ends[-1])  # type: ignore[operator]
        return ends

    monkeypatch.setattr(pool, "train_all", train_all)
    monkeypatch.setattr(pool, "TRAINING", "reproduce_training")


def trained(out: Path) -> list[str]:
    """Keys in the order of their trainings."""
    path = out / "trained.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def numbers(out: Path, target: str) -> tuple[str, list[dict[str, object]]]:
    content = json.loads((out / f"{target}.json").read_text())
    return (out / f"{target}.csv").read_text(), content["cells"]


def test_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Two at a time: one training fails, one takes its process with it, the others are done."""
    monkeypatch.setattr(pool, "TRAINING", "reproduce_training")
    monkeypatch.setenv("REPRODUCE_FAULTS", "fail:rdh-16bits-seed1,die:hashnet-16bits-seed0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    out = tmp_path / "out"
    words = ["reproduce", "table1", *TINY, "--out", str(out)]
    assert cli.main([*words, "--jobs", "2"]) == 1
    captured = capsys.readouterr()
    *lines, error = captured.err.splitlines()
    assert error.startswith("rdh reproduce: error: 2 of 4 trainings failed: ")
    assert "digits-hashnet-16bits-seed0: its process was ended by SIGKILL" in error
    assert "digits-hashnet-rdh-16bits-seed1: ValueError: no data for digits-hashnet-rdh-16bits-seed1" in error
    assert lines[0] == "4 of 4 trainings to do, 2 at a time"
    assert [line.split()[0] for line in lines[1:]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert sum("FAILED" in line for line in lines) == 2
    assert "training " not in captured.out  # what a training prints is in its log
    assert captured.out.count(", n = 1") >= 3
    log = (out / "logs" / f"{KEYS[3]}.log").read_text()
    assert "training digits" in log
    assert "Traceback" in log
    assert sorted(path.name for path in (out / "logs").iterdir()) == sorted(f"{KEYS[place]}.log" for place in (0, 3))
    facts = [line.split() for line in (out / "trained.txt").read_text().splitlines()]
    assert sorted(line[0] for line in facts) == sorted(KEYS)
    assert str(os.getpid()) not in {line[1] for line in facts}
    assert {tuple(line[2:]) for line in facts} == {("1", "cpu", "True", "False")}
    assert "OMP_NUM_THREADS" not in os.environ
    assert list((out / "runs").glob("*/results.json"))
    assert not list((out / "runs").glob("*/last.ckpt"))  # of what is done


def test_what_failed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None) -> None:
    monkeypatch.setenv("REPRODUCE_FAULTS", "fail:rdh-16bits-seed1,fail:hashnet-16bits-seed0")
    out = tmp_path / "out"
    words = ["reproduce", "table1", *TINY, "--out", str(out)]
    assert cli.main(words) == 1
    assert ", n = 1" in (out / "table1.md").read_text()
    monkeypatch.delenv("REPRODUCE_FAULTS")
    assert cli.main(words) == 0
    assert trained(out)[4:] == [KEYS[0], KEYS[3]]  # the others were done
    assert list((out / "logs").iterdir()) == []
    assert ", n = " not in (out / "table1.md").read_text()


def test_the_same_numbers_for_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None
) -> None:
    """Every result is read from its folder, in the order of the grid: who made it does not matter."""
    both = []
    for name, jobs, order in (("a", "1", 1), ("b", "3", -1)):
        out = tmp_path / name
        if order < 0:
            for key in reversed(KEYS):
                grid = Grid(Options("table1", RECIPE, (16,), 2, ("hashnet",), out=out))
                [run] = [run for run in grid.runs() if run.key == key]
                folders.claim(out)
                reproduce_training.run(run.recipe, reproduce_training.RunOptions(folders.folder_of(out, key)))
        assert cli.main(["reproduce", "table1", *TINY, "--out", str(out), "--jobs", jobs]) == 0
        both.append(numbers(out, "table1"))
    assert both[0] == both[1]
    assert len(both[0][0].splitlines()) == 5


def test_a_second_target_takes_what_is_there(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for target, new in (("table1", 4), ("fig5", 0), ("table2", 4), ("all", 8 * 2)):
        before = len(trained(out))
        assert cli.main(["reproduce", target, *TINY, "--out", str(out)]) == 0
        assert len(trained(out)) - before == new, target
    assert len(set(trained(out))) == len(trained(out))
    for target in ("table1", "table2", "fig3", "fig4", "fig5", "fig6"):
        assert (out / f"{target}.md").is_file()
    capsys.readouterr()
    assert cli.main(["reproduce", "table1", *TINY, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # nothing to do, nothing to say
    assert "| HashNet + RDH" in captured.out
    assert str(out / "table1.md") in captured.out


def test_a_bar_where_somebody_looks(tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("REPRODUCE_FAULTS", "fail:rdh-16bits-seed1")
    assert cli.main(["reproduce", "table1", *TINY, "--out", str(tmp_path / "out")]) == 1
    text = terminal.getvalue()
    assert "training: " in text
    assert re.search(r"4(\.00)?/4", text)
    assert "[1/4]" not in text
    assert text.splitlines()[-1].startswith("rdh reproduce: error: 1 of 4 trainings failed: digits-hashnet-rdh")


def test_dry_run(tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["reproduce", "table1", *TINY, "--out", str(out), "--jobs", "2"]
    assert cli.main([*words, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [f"to do    {key}" for key in KEYS]
    assert lines[5:] == [
        f"4 trainings for table1 in {out}: 0 done, 4 to do, 2 at a time",
        "time: unknown until one is done",
    ]
    assert not out.exists()
    assert cli.main([*words, "--bits", "8,16", "--seeds", "1"]) == 0
    capsys.readouterr()
    assert cli.main([*words, "--bits", "8,16", "--seeds", "21", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("done     digits-hashnet-rdh-16bits-seed0") == 1
    # 4 of 84 done, of 2 s each; 80 more, two at a time
    assert lines[-1] == "time: about 80 s"


def test_folders_of_other_recipes(tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["reproduce", "table1", *TINY, "--out", str(out)]
    assert cli.main([*words, "--seeds", "1"]) == 0
    capsys.readouterr()
    other = [*words, "--set", "training.lr=0.25"]
    message = failure(capsys, other)
    assert f"--out {out}: runs/digits-hashnet-16bits-seed0 is of another recipe" in message
    assert "its training.lr is 0.01, and not 0.25 (and 1 more); name another folder, or add --force" in message
    assert len(trained(out)) == 2
    assert cli.main([*other, "--dry-run"]) == 0
    assert "refused  digits-hashnet-16bits-seed0  (its training.lr is 0.01, and not 0.25)" in capsys.readouterr().out
    assert cli.main([*other, "--force"]) == 0
    lines = [line.split() for line in (out / "trained.txt").read_text().splitlines()][2:]
    assert [line[0] for line in lines] == KEYS
    assert [line[4:] for line in lines] == [["False", "True"]] * 2 + [["True", "False"]] * 2
    assert '"method": "hashnet"' in (out / "table1.json").read_text()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data.root=nowhere", "rdh reproduce: error: digits: not in nowhere; put them there\n"),
        ("backbone.width=-1", "rdh reproduce: error: backbone small_cnn: width must be positive\n"),
    ],
)
def test_what_fails_for_all_is_said_once(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str], setting: str, expected: str
) -> None:
    out = tmp_path / "out"
    assert failure(capsys, ["reproduce", "table1", *TINY, "--out", str(out), "--set", setting]) == expected
    assert [path.name for path in out.iterdir()] == [folders.MARKER]


def test_damaged_and_begun_folders(tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["reproduce", "table1", *TINY, "--out", str(out), "--seeds", "1"]
    assert cli.main(words) == 0
    capsys.readouterr()
    results = folders.folder_of(out, KEYS[0]) / "results.json"
    results.unlink()  # begun, by the same recipe
    folders.folder_of(out, KEYS[1]).joinpath("results.json").unlink()
    folders.folder_of(out, KEYS[1]).joinpath("recipe.yaml").unlink()  # ended before its recipe was written
    folders.folder_of(out, KEYS[1]).joinpath(".recipe.yaml.123.tmp").write_text("bi")
    assert cli.main(words) == 0
    assert trained(out) == KEYS[:2] * 2
    capsys.readouterr()
    for text in ("{", "[]", '{"kind": "rdh demo"}'):
        results.write_text(text)
        assert "its results.json is damaged" in failure(capsys, words)
    results.unlink()
    (results.parent / "recipe.yaml").write_text("bits: 8\n")
    assert "its bits is 8, and not 16" in failure(capsys, words)
    (results.parent / "recipe.yaml").write_text("bit: 8\n")
    assert "its recipe cannot be read" in failure(capsys, words)


def test_a_training_that_leaves_nothing(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce_training, "put", lambda folder, recipe, results: None)
    assert cli.main(["reproduce", "table1", *TINY, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "4 of 4 trainings failed: digits-hashnet-16bits-seed0: it left no results; " in error
    assert "; and 1 more; " in error
    assert KEYS[3] not in error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["table1", "--dataset", "digit"], "did you mean 'digits'?"),
        (["table1", "--methods", "hashnet,dspsh"], "--methods: method must be dpsh"),
        (["table1", "--methods", "hashnet", "--set", "bits=3"], "--set bits: --bits says"),
        (["table2", "--methods", "hashnet,dpsh"], "--methods hashnet,dpsh: table2 is of hashnet alone; leave it out"),
        (["fig6", "--methods", "dpsh"], "--methods dpsh: fig6 is of hashnet alone"),
        (["table1", "--taus", "0.5"], "--taus is of fig6, and not of table1"),
        (["fig5", "--etas", "0.5"], "--etas is of fig6, and not of fig5"),
        (["table1", "--methods", "hashnet", "--set", "training.epoch=3"], "no training.epoch; did you mean 'epochs'?"),
        (["table1", "--set", "training.epochs=[3"], "not YAML"),
        (["table1", "--device", "cuda:7"], "--device cuda:7"),
        (["table1", "--device", "cpu,cuda:0"], "either the CPU or GPUs"),
        (["table1", "--device", "cuda,cuda:0"], "cuda stands for all GPUs"),
        (["fig3", "--out", __file__], "is a file; name a folder"),
        (["fig3", "--out", str(Path(__file__).parent)], "was not made by 'rdh reproduce'"),
    ],
)
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    assert expected in failure(capsys, ["reproduce", *words])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "TARGET"),
        (["table3"], "invalid choice: 'table3'"),
        (["table1", "--bits", "24,0"], "whole number from 1 to 4096, got '0'"),
        (["table1", "--bits", "24,24"], "must not name anything twice"),
        (["table1", "--methods", "dpsh,"], "names with commas"),
        (["table1", "--set", "training.lr"], "must be like training.lr=0.1"),
        (["table1", "--taus", "0.5,2"], "got '2'"),
        (["table1", "--jobs", "0"], "got '0'"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["reproduce", *words])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_missing_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    out = tmp_path / "out"
    message = failure(capsys, ["reproduce", "table1", *TINY, "--out", str(out)])
    assert "lightning is not installed; get it with: pip install 'rdh_ext[train]'" in message
    assert not out.exists()


def test_places() -> None:
    assert pool.places(["cpu"], 3) == ["cpu"] * 3
    assert pool.places(["cpu"], None) == ["cpu"] * pool.cores()
    assert pool.places(["cuda:1", "cuda:0"], None) == ["cuda:1", "cuda:0"]
    assert pool.places(["cuda:1", "cuda:0"], 3) == ["cuda:1", "cuda:0", "cuda:1"]


def test_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert pool.places(["cuda"], None) == ["cuda:0", "cuda:1", "cuda:2"]


SCRIPT = """
import signal
import sys
from rdh_ext import cli
from rdh_ext.hashing.reproduce import pool
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background of a shell ignores it
    pool.TRAINING, pool.GRACE = "reproduce_training", 2.0
    sys.exit(cli.main(sys.argv[1:]))
"""


def wait_for(condition: object, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_interrupted_grids_go_on(tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Death of the process, and Ctrl-C: no training goes on without it, and what is done is not done again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = ["reproduce", "table1", *TINY, "--out", str(out)]
    ends = ((signal.SIGKILL, -9, "hang", KEYS[1], 1), (signal.SIGINT, 130, "wait", KEYS[2], 2))
    for number, status, fault, hanging, done in ends:
        environment["REPRODUCE_FAULTS"] = f"{fault}:{hanging}"
        with subprocess.Popen(
            [sys.executable, str(script), *words, "--jobs", "1"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                wait_for(lambda wanted=hanging: wanted in trained(out) or process.poll() is not None)
                assert "another 'rdh reproduce' is at work in it" in failure(capsys, words)
                os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
                _, error = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == status, error
        assert "Traceback" not in error
        children = {int(line.split()[1]) for line in (out / "trained.txt").read_text().splitlines()}
        wait_for(lambda some=children: not any(alive(child) for child in some), 20)
        assert [folders.read_results(out, key) is not None for key in KEYS] == [place < done for place in range(4)]
        trained_then = trained(out)
    assert error.splitlines()[-1] == "rdh reproduce: error: interrupted"
    assert trained_then == [KEYS[0], KEYS[1], KEYS[1], KEYS[2]]
    assert cli.main(words) == 0
    assert trained(out) == [*trained_then, KEYS[2], KEYS[3]]
