"""Commands of ``rdh`` called in this process, which takes no fresh interpreter: what they print, and a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from rdh_ext import cli


class Terminal(io.StringIO):
    """Takes the place of standard error where somebody looks at it."""

    def isatty(self) -> bool:
        return True


def output(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    """What a command that succeeds prints."""
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def failure(capsys: pytest.CaptureFixture[str], words: Sequence[str], status: int = 1) -> str:
    """The one line of a command that fails; ``rdh evaluate`` may have said what memory it takes before."""
    assert cli.main(words) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines(keepends=True)
    if words[0] == "evaluate" and lines[0].startswith("memory: "):
        del lines[0]
    [line] = lines
    assert line.startswith(f"rdh {words[0]}: error: ")
    assert line.endswith("\n")
    return line


def usage_error(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    """The one line of a command that argparse refuses."""
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "--help'" in captured.err
    return captured.err


def help_of(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    """What the words and --help print."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*words, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out
