"""The command line: every error is one clear line and the right exit status, whatever the cause."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import failure, help_of, usage_error

from rdh_ext import __version__, cli


def assert_one_line(result: subprocess.CompletedProcess[str], status: int, *parts: str) -> None:
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("rdh")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["frobnicate"], ["'frobnicate'", "commands: bench, "]),
        (["dmo"], ["'dmo'", "did you mean 'demo'?"]),
        (["--debug", "serve"], ["'serve'"]),
        (["evaluate", "--query", "q"], ["--gallery"]),
        (["evaluate", "--query", "q", "--gallery", "g", "--memory", "much"], ["--memory", "512MiB", "'much'"]),
        (["evaluate", "--query", "q", "--gallery", "g", "--topk", "-1"], ["--topk", "'-1'"]),
        (["demo", "--epochs", "many"], ["--epochs", "whole number from 1", "'many'"]),
        (["demo", "--epochs", "0"], ["--epochs", "'0'"]),
        (["demo", "--bits", "2.5"], ["--bits", "'2.5'"]),
        (["demo", "--bits", "4096"], ["--bits", "to 1024"]),
        (["demo", "--seed", "-1"], ["--seed", "'-1'"]),
        (["demo", "--device", "gpu"], ["--device", "cpu, cuda or cuda:N", "'gpu'"]),
        (["demo", "--out", ""], ["--out", "name of a folder"]),
        (["demo", "--out"], ["--out", "expected one argument"]),
        (["demo", "--epoch", "3"], ["unrecognized arguments", "--epoch"]),
        (["demo", "surplus"], ["surplus"]),
        (["info", "--xml"], ["--xml"]),
        (["--frobnicate"], ["--frobnicate"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: list[str]
) -> None:
    message = usage_error(capsys, words)
    for part in expected:
        assert part in message


def test_errors_as_a_user_sees_them(tmp_path: Path) -> None:
    """The real command in a fresh interpreter: wrong usage, a failure, a missing package, a reader that goes away."""
    module = [sys.executable, "-m", "rdh_ext"]
    result = subprocess.run([*module, "frobnicate"], capture_output=True, text=True, timeout=300)
    assert_one_line(result, 2, "unknown command 'frobnicate'", "rdh --help")
    (tmp_path / "thesis.tex").write_text("years of work")
    result = subprocess.run([*module, "demo", "--out", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert_one_line(result, 1, f"--out {tmp_path}", "--force")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_missing_lightning_in_a_fresh_interpreter(tmp_path: Path) -> None:
    script = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lightning":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
from rdh_ext.cli import main
sys.exit(main(sys.argv[1:]))
"""
    words = ["demo", "--out", str(tmp_path / "out")]
    result = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=300)
    assert_one_line(result, 1, "lightning is not installed", "pip install 'rdh_ext[demo]'")
    assert not (tmp_path / "out").exists()


def test_reader_that_goes_away() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rdh_ext", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=300) == 1


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    overview = capsys.readouterr().out
    assert help_of(capsys, []) == overview
    for words in ([], ["demo"], ["info"]):
        text = help_of(capsys, words)
        assert "rdh demo" in text or "rdh info" in text
    assert all(f"    {name} " in overview for name in cli.COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"rdh_ext {__version__}\n"


def test_out_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report"
    file.write_text("keep me")
    assert f"--out {file} is a file" in failure(capsys, ["demo", "--out", str(file)])
    assert file.read_text() == "keep me"


def test_out_below_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "report"
    assert f"{out}: Not a directory" in failure(capsys, ["demo", "--out", str(out)])


@pytest.mark.parametrize(("module", "package"), [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")])
def test_missing_extra_names_package_and_pip_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = failure(capsys, ["demo", "--out", str(tmp_path / "out")])
    assert f"{package} is not installed; get it with: pip install 'rdh_ext[demo]'" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("count", "device", "expected"),
    [(0, "cuda", "sees no CUDA device; use --device cpu"), (2, "cuda:2", "there are 2 CUDA devices, numbered from 0")],
)
def test_device_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, device: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    message = failure(capsys, ["demo", "--device", device])
    assert f"--device {device}" in message
    assert expected in message


def test_unforeseen_error_is_one_line_unless_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(cli.info, "build_info", broken)
    assert "RuntimeError: first second (add --debug for the traceback)" in failure(capsys, ["info"])
    for words in (["info", "--debug"], ["--debug", "info"]):
        with pytest.raises(RuntimeError, match="first"):
            cli.main(words)


def test_interrupt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.info, "build_info", interrupted)
    assert failure(capsys, ["info"], 130) == "rdh info: error: interrupted\n"


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for key in info:
        assert any(line.startswith(f"{key}:") for line in lines), key


def test_readable_lines() -> None:
    value = {"a": None, "b": True, "c": [1, 2], "d": {"e": "x", "f": {}}, "g": [], "h": False}
    lines = ["a: none", "b: yes", "c: 1, 2", "d:", "  e: x", "  f: none", "g: none", "h: no"]
    assert cli.info._readable(value) == lines
