"""``rdh encode`` and ``rdh export``: from the files that people have to code sets, and back."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import command_line
import numpy as np
import pytest
import torch
from code_sets import small_blocks
from command_line import Terminal, help_of, output, usage_error

import rdh_ext
from rdh_ext import cli
from rdh_ext.retrieval import CodeSet
from rdh_ext.retrieval.sets import dumps

ITEMS, BITS = 1000, 48


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Files of all kinds in the current folder, made of these outputs; none is 0 but [3, 4]."""
    monkeypatch.chdir(tmp_path)
    h, ids = torch.randn(ITEMS, BITS), torch.arange(ITEMS) % 10
    h[3, 4] = 0.0
    signs = torch.where(h >= 0, 1.0, -1.0).numpy()
    np.save("outputs.npy", h.numpy())
    np.save("labels.npy", ids.numpy())
    np.save("packed.npy", np.packbits(h.numpy() >= 0, axis=1))
    for name in ("tst", "trn"):
        np.save(f"{name}_binary.npy", signs)
        np.save(f"{name}_label.npy", np.eye(10)[ids])
    torch.save({"qB": h, "qL": ids, "rB": torch.from_numpy(signs), "rL": torch.eye(10)[ids]}, "codes.pt")
    rdh_ext.retrieval.export_faiss(rdh_ext.retrieval.open_npy("outputs.npy").write("x.npz"), "gallery.faiss")
    os.unlink("x.npz")
    return h


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a command prints."""
    text = output(capsys, words)
    assert text.count("\n") == 1
    return text.rstrip("\n")


def failure(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that fails, for a foreseen reason, and leaves no files."""
    before = sorted(os.listdir())
    line = command_line.failure(capsys, words)
    assert "--debug" not in line
    assert sorted(os.listdir()) == before
    return line


def test_every_example_of_the_help_runs(outputs: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss")
    lines = [line for command in ("encode", "export") for line in help_of(capsys, [command]).splitlines()]
    lines = [line for line in lines if "--model" not in line]  # those have tests of their own
    examples = [re.split(r"\s{2,}", line.strip())[0] for line in lines if line.startswith("  rdh e")]
    assert len(examples) == 10
    for example in examples:
        words = shlex.split(example)[1:]
        if words[0] == "encode" and "--force" not in words:
            shutil.rmtree(words[1], ignore_errors=True)
        extra = ["--force"] if words[0] == "export" else []
        words = ["30" if word == "1000" else word for word in words]  # lists of 1,000 items
        assert f"1,000 codes of {BITS} bits" in printed(capsys, *words, *extra)
        if words[0] == "encode":
            assert torch.equal(CodeSet(words[1]).load()[0], rdh_ext.pack_codes(outputs))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--codes", "outputs.npy", "--labels", "labels.npy"],
            "1,000 codes of 48 bits from signs, 1 exact zero taken as +; class ids; in out",
        ),
        (
            ["--codes", "tst_binary.npy", "--labels", "tst_label.npy", "--bits", "48", "--values", "signs"],
            "1,000 codes of 48 bits from signs, 0 exact zeros; 10 labels, multi-hot; in out",
        ),
        (
            ["--codes", "packed.npy", "--bit-order", "big"],
            "1,000 codes of 48 bits from packed bytes; no labels; in out",
        ),
        (
            ["--dump", "codes.pt", "--part", "query"],
            "1,000 codes of 48 bits from signs, 1 exact zero taken as +; class ids; in out",
        ),
        (
            ["--faiss", "gallery.faiss", "--labels", "labels.npy", "--shard-items", "300"],
            "1,000 codes of 48 bits from packed bytes; class ids; in out",
        ),
    ],
)
def test_what_is_said_and_written(
    outputs: torch.Tensor, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert printed(capsys, "encode", "out", *words) == line
    made = CodeSet("out")
    codes, labels = made.load()
    assert torch.equal(codes, rdh_ext.pack_codes(outputs))
    assert len(made.manifest.shards) == (4 if "--shard-items" in words else 1)
    if labels is not None and made.labels is not None and made.labels.classes is None:
        assert labels.tolist() == [item % 10 for item in range(ITEMS)]
    assert "exists already; choose another name" in failure(capsys, "encode", "out", *words)
    assert printed(capsys, "encode", "out", *words, "--force") == line


def test_singular_and_zeros_and_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([[True]]))
    assert printed(capsys, "encode", "a.npz", "--codes", "a.npy") == (
        "1 code of 1 bit from 0-1 values; no labels; in a.npz"
    )
    assert printed(capsys, "export", "a.npz", "--npy", "b.npy") == "1 code of 1 bit as packed bytes in b.npy"
    np.save("z.npy", np.array([[0.0, 0.0, -1.0]]))
    assert "2 exact zeros taken as +" in printed(capsys, "encode", "z", "--codes", "z.npy")


def test_there_and_back(outputs: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss")
    printed(capsys, "encode", "set", "--codes", "outputs.npy", "--labels", "labels.npy")
    assert printed(capsys, "export", "set", "--npy", "e.npy") == (
        "1,000 codes of 48 bits as packed bytes in e.npy; class ids in e_labels.npy"
    )
    assert printed(capsys, "export", "set", "--faiss", "e.faiss") == (
        "1,000 codes of 48 bits as IndexBinaryFlat in e.faiss; labels have no place there"
    )
    assert printed(capsys, "export", "set", "--faiss", "e.ivf", "--ivf", "9") == (
        "1,000 codes of 48 bits as IndexBinaryIVF of 9 lists in e.ivf; labels have no place there"
    )
    digest = CodeSet("set").manifest.digest()
    for number, source in enumerate((["--codes", "e.npy"], ["--faiss", "e.faiss"], ["--faiss", "e.ivf"])):
        printed(capsys, "encode", f"again{number}", *source, "--labels", "e_labels.npy")
        assert CodeSet(f"again{number}").manifest.digest() == digest
    for target in (["--npy", "e.npy"], ["--faiss", "e.faiss"], ["--faiss", "e.ivf", "--ivf", "9"]):
        content = Path(target[1]).read_bytes()
        assert "exists already" in failure(capsys, "export", "set", *target)
        printed(capsys, "export", "set", *target, "--force")
        assert Path(target[1]).read_bytes() == content


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["encode"], "OUT"),
        (["encode", "out"], "name what to encode: --codes, --dump or --faiss, or --model with --images"),
        (["encode", "out", "--codes", "a.npy", "--faiss", "b"], "not allowed with"),
        (["encode", "", "--codes", "a.npy"], "name of a file or folder"),
        (["encode", "out", "--dump", "a.pt"], "--dump holds two sets: add --part query or --part gallery"),
        (["encode", "out", "--dump", "a.pt", "--part", "train"], "--part"),
        (["encode", "out", "--codes", "a.npy", "--part", "query"], "--part goes with --dump"),
        (["encode", "out", "--dump", "a", "--part", "query", "--labels", "l"], "--labels goes with --codes or --faiss"),
        (["encode", "out", "--faiss", "a", "--bit-order", "big"], "go with --codes or --dump"),
        (["encode", "out", "--faiss", "a", "--values", "01"], "go with --codes or --dump"),
        (["encode", "out", "--codes", "a.npy", "--bits", "0"], "whole number from 1 to 4096"),
        (["encode", "out", "--codes", "a.npy", "--bits", "4097"], "whole number from 1 to 4096"),
        (["encode", "out", "--codes", "a.npy", "--shard-items", "0"], "--shard-items"),
        (["export", "set"], "one of the arguments --faiss --npy is required"),
        (["export", "set", "--npy", "a.npy", "--ivf", "3"], "--ivf goes with --faiss"),
        (["export", "set", "--faiss", "a", "--ivf", "0"], "--ivf"),
        (["export", "set", "--faiss", "a", "--npy", "b.npy"], "not allowed with"),
    ],
)
def test_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    message = usage_error(capsys, words)
    assert expected in message
    assert f"see 'rdh {words[0]} --help'" in message
    assert os.listdir() == []


def test_failures_are_one_line_and_leave_nothing(
    outputs: torch.Tensor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = outputs.numpy().copy()
    nan[-1, -1] = np.nan
    np.save("nan.npy", nan)
    np.save("few.npy", np.arange(3))
    np.save("sigmoid.npy", 1 / (1 + np.exp(-outputs.numpy())))
    torch.save({"qB": outputs.numpy()}, "numpy.pt")
    Path("cut.npy").write_bytes(Path("outputs.npy").read_bytes()[:-1])
    Path("file").write_text("years of work")
    os.mkdir("folder")
    encode = ("encode", "out", "--codes")
    assert "missing.npy: No such file" in failure(capsys, *encode, "missing.npy")
    assert "nan.npy: row 999 holds NaN" in failure(capsys, *encode, "nan.npy")
    assert "cut.npy: " in failure(capsys, *encode, "cut.npy")
    assert "sigmoid.npy: no value is below 0" in failure(capsys, *encode, "sigmoid.npy")
    assert "outputs.npy: float32 [1000, 48] does not hold codes of 32" in failure(
        capsys, *encode, "outputs.npy", "--bits", "32"
    )
    assert "few.npy: labels int64 [3] for 1,000 codes of outputs.npy" in failure(
        capsys, *encode, "outputs.npy", "--labels", "few.npy"
    )
    assert "numpy.pt: holds NumPy arrays" in failure(capsys, "encode", "out", "--dump", "numpy.pt", "--part", "query")
    assert "labels.npy: not an IndexBinaryFlat" in failure(capsys, "encode", "out", "--faiss", "labels.npy")
    for name in ("file", "folder"):
        for force in ([], ["--force"]):
            failure(capsys, "encode", name, "--codes", "outputs.npy", *force)
    assert "file: File exists" in failure(capsys, "encode", "file/out", "--codes", "outputs.npy")
    assert Path("file").read_text() == "years of work"
    assert "no such code set" in failure(capsys, "export", "missing", "--npy", "a.npy")
    assert "no manifest.json" in failure(capsys, "export", "folder", "--npy", "a.npy")
    printed(capsys, "encode", "set", "--codes", "outputs.npy")
    assert "must end in .npy" in failure(capsys, "export", "set", "--npy", "a")
    assert "1,000 items for 1,001 lists" in failure(capsys, "export", "set", "--faiss", "a", "--ivf", "1001")
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "pip install 'rdh_ext[search]'" in failure(capsys, "export", "set", "--faiss", "a", "--ivf", "10")


def test_a_bar_where_somebody_looks(
    outputs: torch.Tensor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    small_blocks(monkeypatch)
    monkeypatch.setattr(dumps, "PIECE_BYTES", 50_000)
    for words in (["encode", "set", "--codes", "outputs.npy"], ["export", "set", "--faiss", "a"]):
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            assert cli.main(words) == 0
        assert words[0] in terminal.getvalue()
        assert "1.00k/1.00k" in terminal.getvalue()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main(["encode", "again", "--codes", "outputs.npy"]) == 0
    assert terminal.getvalue() == ""


def test_names_that_a_terminal_cannot_show(tmp_path: Path) -> None:
    """In a fresh interpreter that prints ASCII only."""
    path = tmp_path / (os.fsdecode(b"\xff ") + "код")
    np.save(f"{path}.npy", np.eye(8, dtype=np.bool_))
    command = [sys.executable, "-m", "rdh_ext", "encode", str(path), "--codes", f"{path}.npy"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    first, second = (
        subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment) for _ in range(2)
    )
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("8 codes of 8 bits from 0-1 values; no labels; in ")
    assert first.stdout.endswith("\\udcff \\u043a\\u043e\\u0434\n")
    assert second.returncode == 1
    assert "exists already" in second.stderr
    assert len(CodeSet(path)) == 8
