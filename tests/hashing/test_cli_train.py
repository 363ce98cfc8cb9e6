"""``rdh train``: recipes and options, what it says, its chain with the other commands, one line for every error."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
import torch
from command_line import Terminal, help_of, output, usage_error
from process_group import environment
from tiny_runs import assert_same_run, model_of, results_of, state_of

import rdh_ext
from rdh_ext import cli
from rdh_ext.hashing.recipe import Recipe, parse_yaml, read
from rdh_ext.retrieval import CodeSet

pytest.importorskip("lightning")
pytest.importorskip("yaml")

TINY = ["--set", "data.query_per_class=5", "--set", "data.train_per_class=8", "--set", "validation.items=60"]
TINY += ["--set", "data.input_scale=1.0", "--set", "backbone={name: mlp, hidden: 8}", "--set", "validation.every=1"]
TINY += ["--bits", "12", "--epochs", "2", "--batch-size", "32"]
Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run, by the command."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert cli.main(["train", *TINY, "--rdh", "--out", str(out), "--no-tensorboard"]) == 0
    return out


def failure(capsys: Printed, *words: str) -> str:
    line = command_line.failure(capsys, ["train", *words])
    assert "--debug" not in line
    return line.removeprefix("rdh train: error: ").rstrip("\n")


def recipe_of(capsys: Printed, *words: str) -> Recipe:
    """What --print-recipe prints, read back."""
    text = output(capsys, ["train", *words, "--print-recipe"])
    assert os.listdir() == []
    return Recipe.from_dict(parse_yaml(text))


class TestRecipe:
    def test_printed_it_is_the_same_again(self, tmp_path: Path, capsys: Printed) -> None:
        for words in (
            ["--recipe", "cifar10"],
            TINY,
            ["--recipe", "coco", "--method", "dpsh", "--set", "training.lr=1e-5"],
        ):
            text = output(capsys, ["train", *words, "--print-recipe"])
            Path("mine.yaml").write_text(text)
            assert output(capsys, ["train", "--recipe", "mine.yaml", "--print-recipe"]) == text
            again = read("mine.yaml")
            Path("mine.yaml").unlink()
            assert recipe_of(capsys, *words) == again

    def test_without_options_it_is_that_of_the_package(self, capsys: Printed) -> None:
        for name in ("digits", "cifar10"):
            assert recipe_of(capsys, "--recipe", name) == read(name)
        assert recipe_of(capsys) == read("digits")
        assert recipe_of(capsys, "--method", "dpsh") == read("digits", "dpsh")

    def test_every_option(self, capsys: Printed) -> None:
        words = "--recipe folders --method dhn --no-rdh --bits 7 --seed 9 --epochs 3 --batch-size 5 --lr 0.5 --tau 0.5"
        words += " --eta 0.25 --backbone linear --root my --precision bf16"
        recipe = recipe_of(capsys, *words.split())
        assert recipe.method == {"name": "dhn", "rdh": False, "tau": 0.5, "rdh_eta": 0.1, "eta": 0.25}
        assert (recipe.bits, recipe.seed, recipe.precision) == (7, 9, "bf16")
        assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.lr) == (3, 5, 0.5)
        assert recipe.backbone == {"name": "linear"}
        assert recipe.data == {"name": "folders", "root": "my"}
        assert recipe_of(capsys, "--rdh").method["rdh"] is True

    def test_features(self, capsys: Printed) -> None:
        recipe = recipe_of(capsys, "--features", "x.npy", "--labels", "y.npy", "--bits", "5")
        assert recipe == read("features").override({"data.features": "x.npy", "data.labels": "y.npy", "bits": 5})

    def test_values_are_yaml(self, capsys: Printed) -> None:
        settings = [
            "training.lr=1e-3",
            "preprocessing.mean=[0.1, 2e-1]",
            "data.root=a=b c",
            "topk=null",
            "method.rdh=no",
        ]
        recipe = recipe_of(capsys, *(word for text in settings for word in ("--set", text)))
        assert recipe.training.lr == 1e-3
        assert recipe.preprocessing == {"mean": [0.1, 0.2]}
        assert (recipe.data["root"], recipe.topk, recipe.method["rdh"]) == ("a=b c", None, False)

    def test_a_method_by_set_is_one_by_option(self, capsys: Printed) -> None:
        assert recipe_of(capsys, "--set", "method.name=dpsh") == read("digits", "dpsh")
        assert recipe_of(capsys, "--method", "dhn", "--set", "method.name=dpsh") == read("digits", "dpsh")

    def test_that_of_a_run(self, whole: Path, capsys: Printed) -> None:
        recipe = recipe_of(capsys, "--recipe", str(whole), "--seed", "7")
        assert recipe == read(whole / "recipe.yaml").override({"seed": 7})

    def test_set_is_last(self, capsys: Printed) -> None:
        assert recipe_of(capsys, "--lr", "3", "--set", "training.lr=4", "--set", "training.lr=5").training.lr == 5


class TestRun:
    def test_what_is_said(self, whole: Path, capsys: Printed) -> None:
        text = output(capsys, ["train", *TINY, "--rdh", "--out", str(whole), "--resume"])  # it is finished
        results = json.loads((whole / "results.json").read_text())
        lines = text.splitlines()
        assert lines[0].startswith("HashNet + RDH, 12 bits, scikit-learn's handwritten digits")
        assert lines[1] == f"mAP       {results['map']:.4f}  50 queries, 1,747 in the gallery"
        assert lines[2] == f"mAP@100   {results['map_at_100']:.4f}"
        assert lines[3] == f"P@H<=2    {results['precision_radius_2']:.4f}"
        chosen = results["validation"][results["epoch"]]["map"]
        assert lines[4] == f"epoch     {results['epoch'] + 1} of 2, mAP {chosen:.4f} of the held out items"
        assert lines[5].startswith("dead bits ")
        assert lines[5].endswith(" saturated")
        assert lines[6].startswith("time ")
        assert lines[7:] == ["", f"run: {whole}"]

    def test_the_last_epoch_and_a_depth(self, capsys: Printed) -> None:
        words = ["train", *TINY, "--out", "run", "--set", "validation.items=0", "--set", "topk=20", "--no-tensorboard"]
        text = output(capsys, words)
        assert "epoch     2 of 2, the last one\n" in text
        assert "\nmAP@20    " in text

    def test_the_chain(self, whole: Path, capsys: Printed) -> None:
        """train, evaluate, encode: each gives what the one before has."""
        sets = ["--query", str(whole / "codes" / "query"), "--gallery", str(whole / "codes" / "gallery")]
        assert cli.main(["evaluate", *sets, "--out", "report.json"]) == 0
        report, results = json.loads(Path("report.json").read_text()), results_of(whole)
        assert report["map"] == results["map"]
        capsys.readouterr()
        for role in ("query", "gallery"):
            output(capsys, ["encode", role, "--model", str(whole), "--part", role])
            for name in ("codes-00000.npy", "labels-00000.npy"):
                assert (Path(role) / name).read_bytes() == (whole / "codes" / role / name).read_bytes()
        output(capsys, ["search", "--query", "query", "--gallery", "gallery", "--csv", "answer.csv"])
        assert len(Path("answer.csv").read_text().splitlines()) == 1 + 50 * 10

    def test_the_model(self, whole: Path) -> None:
        model = rdh_ext.load(whole)
        from rdh_ext.hashing.data import load_digits

        data = load_digits(0, query_per_class=5, train_per_class=8)
        assert torch.equal(model.encode(data.query.images), CodeSet(whole / "codes" / "query").load()[0])
        assert model.class_names == tuple("0123456789")

    def test_embeddings_of_your_own(self, capsys: Printed) -> None:
        np.save("x.npy", np.random.default_rng(0).normal(size=(90, 6)).astype("f2"))
        np.save("y.npy", np.eye(3, dtype=np.uint8)[np.arange(90) % 3])
        words = ["train", "--features", "x.npy", "--labels", "y.npy", "--set", "data.query_items=5", "--bits", "8"]
        words += ["--set", "data.train_items=10", "--epochs", "2", "--batch-size", "8", "--out", "run"]
        words += ["--set", "validation.items=40"]
        assert "8 bits, features: 90 of 6 numbers, 3 classes" in output(capsys, [*words, "--no-tensorboard"])
        output(capsys, ["encode", "all", "--model", "run", "--features", "x.npy", "--labels", "y.npy"])
        codes, labels = CodeSet("all").load()
        assert torch.equal(codes, rdh_ext.load("run").encode(np.load("x.npy")))
        assert labels is not None

    def test_resume_after_an_interrupt(self, whole: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        from rdh_ext.hashing.engine import HashingModule, checkpoints

        words = ["train", *TINY, "--rdh", "--out", "run", "--no-tensorboard"]
        begin = HashingModule.on_train_batch_start

        def interrupt(self: HashingModule, batch: Any, batch_idx: int) -> None:
            if self.global_step == 3:
                raise KeyboardInterrupt
            begin(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "SAVE_SECONDS", 0.0)
            patch.setattr(HashingModule, "on_train_batch_start", interrupt)
            assert cli.main(words) == 130
        assert capsys.readouterr() == ("", "rdh train: error: interrupted\n")
        assert state_of(Path("run"))["steps"] == 2
        assert "this run, begun; add --resume to go on with it" in failure(capsys, *words[1:])
        output(capsys, [*words, "--resume"])
        assert_same_run(whole, Path("run"))

    def test_force(self, whole: Path, capsys: Printed) -> None:
        words = [*TINY, "--rdh", "--out", "run", "--no-tensorboard"]
        output(capsys, ["train", *words, "--seed", "4"])
        assert failure(capsys, *words).startswith("--out run holds another run; name another folder, or add --force")
        assert failure(capsys, *words, "--resume").startswith("--out run holds another run; name another folder")
        output(capsys, ["train", *words, "--force"])
        assert_same_run(whole, Path("run"))

    def test_other_ranks_say_nothing(self, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        from rdh_ext.cli import process_group

        @contextlib.contextmanager
        def second(device: str, timeout: int, *, gradients: bool = False) -> Iterator[tuple[int, str]]:
            assert (device, timeout, gradients) == ("cpu", 7, True)
            yield 1, device

        monkeypatch.setattr(process_group, "process_group", second)
        monkeypatch.setitem(sys.modules, "tensorboard", None)  # which is a warning
        assert output(capsys, ["train", *TINY, "--out", "run", "--timeout", "7"]) == ""
        assert Path("run/results.json").exists()

    def test_precision(self, capsys: Printed) -> None:
        for precision in ("bf16", "64"):
            output(capsys, ["train", *TINY, "--out", precision, "--precision", precision, "--no-tensorboard"])
        assert {value.dtype for value in model_of(Path("64"))["backbone"].values()} == {torch.float64}
        assert rdh_ext.load("64").backbone[1].weight.dtype == torch.float32  # type: ignore[index,union-attr]


class TestTensorBoard:
    def test_files_are_there_unless_not_wanted(self, capsys: Printed) -> None:
        pytest.importorskip("tensorboard")
        output(capsys, ["train", *TINY, "--out", "with"])
        assert [name[:26] for name in os.listdir("with/tensorboard")] == ["events.out.tfevents." + str(time.time())[:6]]
        output(capsys, ["train", *TINY, "--out", "without", "--no-tensorboard"])
        assert not Path("without/tensorboard").exists()

    def test_without_it_the_training_goes_on(self, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        assert cli.main(["train", *TINY, "--out", "run"]) == 0
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("rdh train: warning: tensorboard is not installed; get it with: pip install")
        assert captured.out.endswith("run: run\n")
        assert Path("run/results.json").exists()


class TestBar:
    def bar_of(self, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> str:
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            assert cli.main(words) == 0
        return terminal.getvalue()

    def test_on_a_terminal_alone(self, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        words = ["train", *TINY, "--out", "run", "--no-tensorboard", "--epochs", "20"]
        seen = self.bar_of(monkeypatch, words)
        assert "100%" in seen
        assert "HashNet" in seen
        assert "bits dead" in seen
        assert capsys.readouterr().err == ""
        output(capsys, [*words, "--force"])  # fails where anything is on standard error


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ([], "--out FOLDER is where the run goes; name it"),
            (["--out", ""], "--out: must be the name of a folder"),
            (["--out", "run", "--features", "x.npy"], "--features X.npy and --labels Y.npy go together"),
            (["--out", "run", "--labels", "x.npy"], "--features X.npy and --labels Y.npy go together"),
            (["--out", "run", "--recipe", "features"], "rows of an array: --features X.npy --labels Y.npy"),
            (["--out", "run", "--resume", "--force"], "--resume goes on with a run, --force begins it anew"),
            (["--out", "run", "--bits", "0"], "--bits: must be a whole number from 1 to 4096"),
            (["--out", "run", "--seed", "-1"], "--seed: must be a whole number from 0"),
            (["--out", "run", "--epochs", "0"], "--epochs: must be a whole number from 1"),
            (["--out", "run", "--batch-size", "1"], "--batch-size: must be a whole number from 2"),
            (["--out", "run", "--lr", "fast"], "--lr: must be a number from 0 on, got 'fast'"),
            (["--out", "run", "--lr", "nan"], "--lr: must be a number from 0 on"),
            (["--out", "run", "--tau", "2"], "--tau: must be a number from 0 to 1"),
            (["--out", "run", "--eta", "-1"], "--eta: must be a number from 0 on"),
            (["--out", "run", "--set", "training.lr"], "--set: must be like training.lr=0.1, got 'training.lr'"),
            (["--out", "run", "--set", "=3"], "--set: must be like training.lr=0.1"),
            (["--out", "run", "--precision", "8"], "--precision: invalid choice: '8'"),
            (["--out", "run", "--device", "gpu"], "--device: must be cpu, cuda or cuda:N"),
            (["--out", "run", "--workers", "-1"], "--workers: must be a whole number from 0"),
            (["--out", "run", "--timeout", "0"], "--timeout: must be a whole number from 1"),
            (
                ["--out", "run", "--epoch", "3"],
                "rdh train: error: unrecognized arguments: --epoch 3; did you mean --epochs?",
            ),
            (["--out", "run", "--epoch=3"], "unrecognized arguments: --epoch=3; did you mean --epochs?"),
            (["digits", "--out", "run"], "rdh train: error: unrecognized arguments: digits; see 'rdh train --help'"),
        ],
    )
    def test_wrong_usage(self, capsys: Printed, words: list[str], expected: str) -> None:
        message = usage_error(capsys, ["train", *words])
        assert expected in message
        assert "--help'" in message
        assert os.listdir() == []

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--recipe", "digit"], "no recipe 'digit'; did you mean 'digits'? there are "),
            (["--recipe", "mine.yaml"], "mine.yaml: No such file or directory"),
            (["--set", "training.epoch=3"], "recipe: no training.epoch; did you mean 'epochs'?"),
            (["--set", "training.lr=fast"], "recipe: training.lr must be a number >= 0, got 'fast'"),
            (["--set", "training.lr=["], "recipe: training.lr must be"),
            (["--set", "nothing=3"], "recipe: no 'nothing'; there are bits, "),
        ],
    )
    def test_recipes(self, capsys: Printed, words: list[str], expected: str) -> None:
        message = failure(capsys, *words, "--out", "run")
        if words[-1] == "training.lr=[":
            assert "not YAML" in message
        else:
            assert message.startswith(expected)
        assert os.listdir() == []

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--method", "dhm"], "method must be dhn, "),
            (["--set", "method.alfa=3"], "method hashnet has no option 'alfa'; its options are alpha, "),
            (["--tau", "1"], "HashNet: tau must be in [0, 1)"),
            (["--root", "x"], "data digits has no option 'root'; its options are "),
            (["--set", "data.name=digit"], "data must be digits, "),
            (["--set", "backbone=alexnett"], "backbone must be alexnet, "),
            (["--set", "backbone.width=3"], "backbone mlp has no option 'width'"),
            (["--set", "preprocessing.resize=4"], "preprocessing: resize goes with a size"),
            (["--recipe", "folders", "--root", "nowhere"], "nowhere: no such folder"),
            (["--recipe", "folders", "--root", "nowhere"], "classes: root=... (here --root FOLDER)"),
            (["--features", "x.npy", "--labels", "y.npy"], "x.npy: No such file or directory"),
        ],
    )
    def test_before_the_work(self, capsys: Printed, words: list[str], expected: str) -> None:
        tiny = [] if {"--recipe", "--features"} & set(words) else TINY
        assert expected in failure(capsys, *tiny, *words, "--out", "run")
        assert os.listdir() == []

    def test_options_in_advice_are_those_of_the_command(self, capsys: Printed) -> None:
        for role in ("query", "train", "gallery"):
            Path(f"{role}.txt").write_text("old/place/a.png 0\n")
        Path("a.png").touch()
        message = failure(capsys, "--recipe", "lists", "--root", ".", "--out", "run")
        assert message.endswith("strip='old/place' (here --set data.strip=...)")

    def test_folders_and_files(self, capsys: Printed) -> None:
        Path("thesis.tex").write_text("years of work")
        assert failure(capsys, *TINY, "--out", "thesis.tex") == "--out thesis.tex is a file; name a folder"
        assert "--out . is not empty and holds no run; name another folder" in failure(capsys, *TINY, "--out", ".")
        assert os.listdir() == ["thesis.tex"]

    def test_a_training_that_diverges(self, capsys: Printed) -> None:
        message = failure(capsys, *TINY, "--out", "run", "--lr", "1e38", "--no-tensorboard")
        assert message.startswith("the weights are not finite after epoch 1; a smaller learning rate helps")

    def test_no_cuda(self, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert "sees no CUDA device; use --device cpu" in failure(capsys, *TINY, "--out", "run", "--device", "cuda")
        assert os.listdir() == []

    def test_missing_packages(self, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        for module, package in (("lightning", "lightning"), ("yaml", "pyyaml")):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, module, None)
                message = failure(capsys, *TINY, "--out", "run")
            assert message == f"{package} is not installed; get it with: pip install 'rdh_ext[train]'"
            assert os.listdir() == []

    def test_help_names_what_there_is(self, capsys: Printed) -> None:
        from rdh_ext.hashing.methods import METHODS

        text = help_of(capsys, ["train"])
        for name in METHODS:
            assert name in text


def test_an_interrupt_as_a_user_gives_it() -> None:
    """Ctrl-C in a fresh interpreter, once there is a checkpoint: one line, status 130, and it goes on from there."""
    command = [
        sys.executable,
        "-m",
        "rdh_ext",
        "train",
        *TINY,
        "--out",
        "run",
        "--no-tensorboard",
        "--epochs",
        "1000000",
    ]
    process = subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what is started from the background of a shell ignores Ctrl-C, and so would this process
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    metrics, deadline = Path("run/metrics.csv"), time.monotonic() + 240
    while not (metrics.exists() and metrics.stat().st_size > 500) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out, err) == (130, "", "rdh train: error: interrupted\n")
    assert not Path("run/results.json").exists()
