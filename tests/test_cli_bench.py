"""`rdh bench` as somebody types it: help that teaches, one line for every error, and a run that measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_modules import HERE, load
from command_line import failure, help_of, usage_error

from rdh_ext import cli
from rdh_ext.cli import benchmark_folder
from rdh_ext.cli.arguments import CommandError

load("_problem")  # or these tests are skipped


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the program would be started with."""
    started: list[dict[str, Any]] = []

    def run_program(name: str, arguments: dict[str, Any]) -> None:
        assert name == "run.py"
        json.dumps(arguments)
        started.append(arguments)

    monkeypatch.setattr(benchmark_folder, "run_program", run_program)
    return started


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    told = help_of(capsys, ["bench"])
    for word in cli.bench.OPS:
        assert word in told
    for word in ("--quick", "--sweep", "--resume", "--compare", "--json", "--no-verify", "--list", "rdh-bench.csv"):
        assert word in told
    for word in ("pip install 'rdh_ext[bench]'", "rdh report results.csv", "against rdh_ext", "the limit", "Memory"):
        assert word in told
    assert max(map(len, told.splitlines())) <= 130
    assert "rdh bench --quick" in help_of(capsys, [])


def test_what_the_program_is_asked_for(asked: list[dict[str, Any]]) -> None:
    words = ["bench", "evaluate", "pack_codes", "evaluate", "--sweep", "bits", "gallery", "bits", "--threads", "2"]
    assert cli.main([*words, "--rounds", "7", "--processes", "3", "--out", "new/rows.csv", "--resume", "--json"]) == 0
    [told] = asked
    assert {name: value for name, value in told.items() if name != "command"} == {
        "ops": ["evaluate", "pack_codes"],
        "sweeps": ["bits", "gallery"],
        "device": "cpu",
        "threads": 2,
        "quick": False,
        "processes": 3,
        "rounds": 7,
        "out": "new/rows.csv",
        "resume": True,
        "as_json": True,
        "verify": True,
        "listing": False,
        "compare": None,
    }


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ([], "rdh-bench.csv"),
        (["--resume"], "rdh-bench.csv"),
        (["--quick"], None),
        (["--quick", "--out", "rows.csv", "--resume"], "rows.csv"),
        (["--list"], None),
        (["--compare", "HEAD~1"], None),
        (["--compare", "HEAD~1", "--out", "rows.csv"], "rows.csv"),
    ],
)
def test_which_file_is_written(words: list[str], out: str | None, asked: list[dict[str, Any]]) -> None:
    assert cli.main(["bench", *words]) == 0
    assert asked[0]["out"] == out


def test_the_command_is_what_was_typed(asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["bench", "--quick", "--out", "two words.csv"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/rdh", *words])
    assert cli.main() == 0
    assert asked[0]["command"] == "rdh bench --quick --out 'two words.csv'"
    monkeypatch.setattr(sys, "argv", ["python"])
    assert cli.main(words) == 0
    assert asked[1]["command"] == "rdh bench"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--quick", "--resume"], "--resume goes on with a file; --quick writes one with --out alone"),
        (["--quick", "--sweep", "bits"], "--quick has no sweeps; leave one of the two out"),
        (["--compare", "HEAD", "--sweep", "bits"], "--compare measures every op at one size; leave --sweep out"),
    ],
)
def test_options_that_exclude_each_other(
    words: list[str], expected: str, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failure(capsys, ["bench", *words]) == f"rdh bench: error: {expected}\n"
    assert asked == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--threads", "0"], "'0'"),
        (["--rounds", "1"], "from 2"),
        (["--processes", "none"], "'none'"),
        (["--device", "gpu"], "'gpu'"),
        (["--out", ""], "name of a file"),
        (["--sweep"], "--sweep"),
        (["--compare"], "--compare"),
        (["--quik"], "did you mean --quick?"),
    ],
)
def test_wrong_usage(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in usage_error(capsys, ["bench", *words])


def test_a_real_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """One op through all processes, with torch.compile switched off, which takes seconds to begin."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    monkeypatch.chdir(tmp_path)
    words = ["bench", "gradient_amplifier", "--quick", "--rounds", "2", "--no-verify", "--json"]
    monkeypatch.setattr(sys, "argv", ["rdh", *words])
    status = cli.main()
    printed, said = capfd.readouterr()
    assert status == 0, said
    told = json.loads(printed)
    assert told["command"] == " ".join(["rdh", *words])
    rows = {row["provider"]: row for row in told["rows"]}
    assert {"rdh_ext", "eager", "eager, best form", "torch.compile", "ceiling"} <= set(rows)
    assert {(row["op"], row["status"], row["case"]) for row in rows.values()} == {
        ("gradient_amplifier", "measured", "4,096 x 64, float32")
    }
    mine = rows["rdh_ext"]
    assert 0 < float(mine["p20_us"]) <= float(mine["p50_us"]) <= float(mine["p80_us"])
    assert (mine["times_rdh_ext"], mine["rounds"]) == ("1", "2")
    assert float(mine["of_ceiling"]) > 0
    assert float(mine["error"]) < 1e-5
    assert (mine["bytes"], mine["threads"], mine["device"] != "") == (str(3 * 4096 * 64 * 4), "1", True)
    assert "1 of 1  gradient_amplifier" in said
    assert list(tmp_path.iterdir()) == []  # --quick writes no file


def test_errors_of_the_program_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Through all processes that the command has."""
    assert cli.main(["bench", "evaluat", "--quick", "--no-verify"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("rdh bench: error: there is no op 'evaluat'; there are amplified_tanh, ")
    assert err.count("\n") == 1


def test_the_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--list"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == [*load("registry")[0].OPS]
    assert "--sweep paper: CIFAR-10, NUS-WIDE, COCO" in out
    assert "--sweep k: 1, 10, 100, 1000, 10000" in out


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for run.py."""
    monkeypatch.setattr(benchmark_folder, "PLACES", (tmp_path / "nowhere", tmp_path))
    path = tmp_path / "run.py"
    path.write_text("")
    return path


def test_progress_passes_through(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program.write_text("""
import json, sys
print("first", file=sys.stderr)
print(json.loads(sys.argv[1])["what"])
print("  second ", file=sys.stderr)
""")
    benchmark_folder.run_program("run.py", {"what": "a result"})
    assert capfd.readouterr() == ("a result\n", "first\n  second \n")


def test_progress_is_said_while_the_program_runs(program: Path) -> None:
    """Each line when the next one comes, and the program waits for nobody."""
    program.write_text("""
import sys
print("first", file=sys.stderr, flush=True)
print("second", file=sys.stderr, flush=True)
sys.stdin.readline()
""")
    script = (
        "from pathlib import Path\nfrom rdh_ext.cli import benchmark_folder as b\n"
        f"b.PLACES = (Path({str(program.parent)!r}),)\nb.run_program('run.py', {{}})\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    pipe: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", script], env=variables, text=True, **pipe) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "first\n"
        assert process.poll() is None
        _, rest = process.communicate("\n", timeout=300)
    assert (process.returncode, rest) == (0, "second\n")


@pytest.mark.parametrize(
    ("end", "expected", "before"),
    [
        ("sys.exit('the last  line')", "the last line", "one\ntwo\n"),
        ("sys.exit(3)", "two", "one\n"),
        ("raise ValueError('what is wrong')", "ValueError: what is wrong", "one\ntwo\n"),
    ],
)
def test_the_last_line_is_the_error(
    end: str, expected: str, before: str, program: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program.write_text(f"import sys\nprint('one', file=sys.stderr)\nprint('two', file=sys.stderr)\n{end}\n")
    with pytest.raises(CommandError) as caught:
        benchmark_folder.run_program("run.py", {})
    assert str(caught.value) == expected
    assert capfd.readouterr().err.startswith(before)


def test_a_program_that_says_nothing(program: Path) -> None:
    program.write_text("import os\nos._exit(9)\n")
    with pytest.raises(CommandError, match=r"^run\.py ended with 9 and said nothing$"):
        benchmark_folder.run_program("run.py", {})
    program.write_text("import os\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(CommandError, match=r"^run\.py ended with -9 and said nothing$"):
        benchmark_folder.run_program("run.py", {})


@pytest.mark.parametrize("end", ["sys.exit(130)", f"signal.raise_signal({int(signal.SIGINT)})"])
def test_a_program_that_is_interrupted(end: str, program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program.write_text(f"import signal, sys\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n{end}\n")
    assert cli.main(["bench", "--quick"]) == 130
    assert capfd.readouterr().err == "rdh bench: error: interrupted\n"


def test_the_program_imports_the_package_of_the_command(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program.write_text("from importlib.util import find_spec\nprint(find_spec('rdh_ext').origin)\n")
    benchmark_folder.run_program("run.py", {})
    assert Path(capfd.readouterr().out.strip()) == Path(cli.__file__).parents[1] / "__init__.py"


def test_no_benchmarks_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark_folder.folder() == HERE
    places = (tmp_path / "one", tmp_path / "two")
    monkeypatch.setattr(benchmark_folder, "PLACES", places)
    expected = f"the benchmarks are neither in {places[0]} nor in {places[1]}; reinstall rdh_ext"
    assert failure(capsys, ["bench", "--quick"]) == f"rdh bench: error: {expected}\n"
