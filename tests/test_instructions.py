"""The check of instruction counts: with stand-ins for valgrind and g++, and the real program without valgrind."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_modules import HERE, load

instructions, counts, rows = load("instructions", "_instruction_counts", "_instruction_rows")

ROOT = HERE.parent
CASES: tuple[str, ...] = counts.CASES
GXX = """#!/bin/sh
case "$*" in *--version) echo "g++ (Debian {VERSION}-14) {VERSION}"; exit;; esac
for word; do [ "$last" = -o ] && : > "$word"; last=$word; done
"""
VALGRIND = """#!/bin/sh
[ "$1" = --version ] && { echo valgrind-3.19.0; exit; }
for word; do case $word in --callgrind-out-file=*) out=${word#*=};; esac; done
read -r number checksum < "{TOP}/$word"
echo "totals: $number" > "$out"
echo "$word level avx2 checksum $checksum"
"""


class Tree:
    """A source tree with nothing in it but what the check reads, and machines that count what they are told."""

    def __init__(self, top: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.top, self.capsys = top, capsys
        self.file = top / rows.FILE
        for folder in ("bin", "benchmarks", "csrc"):
            (top / folder).mkdir()
        (top / "setup.py").write_text('CXX_FLAGS = ["-O3"]\n')
        self.use_compiler("12.2.0")
        self.program("valgrind", VALGRIND.replace("{TOP}", str(top)))
        self.count(**dict.fromkeys(CASES, 1000))
        self.commit(**dict.fromkeys(CASES, 1000))

    def program(self, name: str, text: str) -> None:
        (self.top / "bin" / name).write_text(text)
        (self.top / "bin" / name).chmod(0o755)

    def use_compiler(self, version: str) -> None:
        self.program("g++", GXX.replace("{VERSION}", version))

    def count(self, checksum: str = "77", /, **numbers: int) -> None:
        """What valgrind will say."""
        for case, number in numbers.items():
            (self.top / case).write_text(f"{number} {checksum}\n")

    def commit(self, why: str = "first count", checksum: str = "77", /, **numbers: int) -> None:
        """What the file says; of the cases that are not named, what it said."""
        said = rows.read(self.top)
        for case, number in numbers.items():
            said[case] = rows.Row(case, number, why, checksum, "g++ 12.2.0", "3.19.0", "avx2")
        rows.write(said, self.top)

    def read(self) -> dict[str, tuple[int, str]]:
        return {case: (row.instructions, row.why) for case, row in rows.read(self.top).items()}

    def run(self, *arguments: str) -> tuple[int, str, list[str]]:
        """The status, what is printed, and the lines of what has failed."""
        status = instructions.main(arguments, self.top)
        out, err = self.capsys.readouterr()
        return status, out, err.splitlines()

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "init.defaultBranch=main")
        subprocess.run(["git", "-C", str(self.top), *who, *arguments], capture_output=True, check=True)

    def git_commit(self) -> None:
        self.git("add", rows.FILE)
        self.git("commit", "--allow-empty", "-m", "change")


@pytest.fixture
def tree(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tree:
    git = shutil.which("git")
    made = Tree(tmp_path, capsys)
    if git:
        (tmp_path / "bin" / "git").symlink_to(git)
    for name in ("CXX", "MAX_JOBS", *(name for name in os.environ if name.startswith("GIT_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return made


@pytest.fixture
def repository(tree: Tree) -> Tree:
    """With a commit that has the file."""
    if not (tree.top / "bin" / "git").exists():
        pytest.skip("no git")
    tree.git("init")
    tree.git_commit()
    return tree


@pytest.mark.parametrize(("number", "status"), [(1110, 1), (1101, 1), (1100, 0), (1090, 0), (1000, 0), (910, 0)])
def test_a_rise_of_more_than_ten_percent_fails(tree: Tree, number: int, status: int) -> None:
    tree.count(pairwise_loss=number)
    done, printed, failures = tree.run("--check")
    assert done == status
    assert f"{number:,}" in printed
    assert "note" not in printed
    assert len(failures) == status
    if status:
        assert failures[0].startswith(f"FAILED pairwise_loss: {number:,} instructions, committed 1,000: ")
        assert 'python benchmarks/instructions.py --state "why"' in failures[0]


def test_every_case_has_its_line(tree: Tree) -> None:
    tree.count(amplified_tanh=1110, hamming_histogram=2500)
    status, _, failures = tree.run("--check")
    assert status == 1
    assert [line.split()[1] for line in failures] == ["amplified_tanh:", "hamming_histogram:"]
    assert "150.0 % more" in failures[1]


def test_a_fall_is_said(tree: Tree) -> None:
    tree.count(hamming_histogram=890)
    status, printed, failures = tree.run("--check")
    assert (status, failures) == (0, [])
    assert "note: hamming_histogram: 890 instructions, committed 1,000: 11.0 % less; state it" in printed


def test_a_table_without_options(tree: Tree) -> None:
    tree.count(pairwise_loss=1500)
    tree.file.write_text(tree.file.read_text().replace("hamming_histogram", "#").partition("#")[0])
    status, printed, failures = tree.run()
    assert (status, failures) == (0, [])
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["g++", "12.2.0,", "valgrind", "3.19.0,", "level", "avx2"]
    assert lines[3] == ["pairwise_loss", "1,000", "1,500", "+50.00", "%"]
    assert lines[4] == ["hamming_histogram", "-", "1,000", "-"]
    status, _, failures = tree.run("--check")
    assert status == 1
    assert any(line.startswith("FAILED hamming_histogram: no count is committed") for line in failures)


@pytest.mark.parametrize(
    ("committed", "counted", "same"),
    [
        ("77", "77", True),
        ("77", "78", False),
        ("9007199254740993", "9007199254740992", False),  # the same as floats
        ("8.928618908e+01", "8.928618900e+01", True),
        ("8.928618908e+01", "8.928718908e+01", False),
        ("8.928618908e+01", "nan", False),
        ("nan", "8.928618908e+01", False),
        ("77", "7.700000000e+01", False),
        ("77", "seventy-seven", False),
    ],
)
def test_the_checksum_tells_other_work(tree: Tree, committed: str, counted: str, same: bool) -> None:
    tree.commit("first count", committed, pairwise_loss=1000)
    tree.count(counted, pairwise_loss=1000)
    status, _, failures = tree.run("--check")
    assert status == (0 if same else 1)
    assert [f"checksum {counted}, committed {committed}" in line for line in failures] == ([] if same else [True])


def test_a_statement_is_for_what_has_moved(tree: Tree) -> None:
    tree.count(amplified_tanh=1200, pairwise_loss=1090, hamming_histogram=800)
    status, _, failures = tree.run("--state", "  one more\n  pass ")
    assert (status, failures) == (0, [])
    assert tree.read() == {
        "amplified_tanh": (1200, "one more pass"),
        "pairwise_loss": (1000, "first count"),  # stays: else many small rises would pass as none
        "hamming_histogram": (800, "one more pass"),
    }
    assert [path.name for path in tree.file.parent.iterdir()] == ["instructions.csv"]
    assert tree.run("--check")[0] == 0
    tree.count(pairwise_loss=1110)
    assert tree.run("--check")[0] == 1


def test_other_work_takes_a_reason(tree: Tree) -> None:
    tree.count("78", pairwise_loss=1010)
    assert tree.run("--state", "other inputs")[0] == 0
    assert tree.read()["pairwise_loss"] == (1010, "other inputs")
    assert tree.read()["amplified_tanh"] == (1000, "first count")
    assert tree.run("--check")[0] == 0


def test_the_first_statement_is_for_all(tree: Tree) -> None:
    tree.file.unlink()
    status, _, failures = tree.run("--check")
    assert (status, len(failures)) == (1, 3)
    assert tree.run("--state", "first count, of three")[0] == 0
    assert tree.read() == dict.fromkeys(CASES, (1000, "first count, of three"))


def test_nothing_is_stated_without_need_or_reason(tree: Tree) -> None:
    before = tree.file.read_bytes()
    tree.count(pairwise_loss=1050)
    status, printed, _ = tree.run("--state", "why not")
    assert status == 0
    assert "nothing is written" in printed
    tree.count(pairwise_loss=1500)
    status, _, failures = tree.run("--state", "first count")
    assert (status, failures) == (1, ["pairwise_loss: this reason is already there; say what is new"])
    for wrong in (("--state", " \n"), ("--state",), ("--state", "x", "--check")):
        with pytest.raises(SystemExit) as stopped:
            tree.run(*wrong)
        assert stopped.value.code == 2
    assert tree.file.read_bytes() == before


def test_a_number_is_not_edited_without_a_reason(repository: Tree) -> None:
    repository.count(pairwise_loss=1500)
    repository.commit(pairwise_loss=1500)
    expected = "FAILED pairwise_loss: the committed count rose from 1,000 in {} to 1,500 and its reason is the old one"
    status, _, failures = repository.run("--check")  # before it is committed
    assert status == 1
    assert [line.partition(";")[0] for line in failures] == [expected.format("HEAD")]
    repository.git_commit()
    status, _, failures = repository.run("--check")
    assert status == 1
    assert [line.partition(";")[0] for line in failures] == [expected.format("HEAD~1")]
    repository.commit("balanced weights", pairwise_loss=1500)
    assert repository.run("--check")[0] == 0
    repository.git_commit()
    assert repository.run("--check")[0] == 0


def test_a_branch_is_compared_with_where_it_began(repository: Tree) -> None:
    repository.git("checkout", "-b", "branch")
    repository.count(pairwise_loss=1150)
    repository.commit(pairwise_loss=1080)
    repository.git_commit()
    assert repository.run("--check")[0] == 0
    repository.commit(pairwise_loss=1150)
    repository.git_commit()
    repository.git_commit()
    status, _, failures = repository.run("--check")
    assert status == 1
    assert [line.partition(" to ")[0] for line in failures] == [
        "FAILED pairwise_loss: the committed count rose from 1,000 in the merge base with main"
    ]
    repository.commit("balanced weights", pairwise_loss=1150)
    assert repository.run("--check")[0] == 0


def test_what_git_does_not_have_is_no_failure(repository: Tree, tmp_path: Path) -> None:
    """A first commit, a file that was not there or was another, a repository that cannot be read, none at all."""
    assert repository.run("--check")[0] == 0
    repository.file.write_text("of another time\n")
    repository.git_commit()
    repository.file.unlink()
    repository.commit(**dict.fromkeys(CASES, 1000))
    repository.git_commit()
    status, printed, _ = repository.run("--check")
    assert status == 0
    assert "note" not in printed
    shutil.rmtree(repository.top / ".git" / "refs")
    status, printed, _ = repository.run("--check")
    assert status == 0
    assert "note: not compared with earlier commits, git says: " in printed
    shutil.rmtree(repository.top / ".git")
    assert repository.run("--check")[0] == 0
    (repository.top / "bin" / "git").unlink()
    assert repository.run("--check")[0] == 0


def test_another_major_version_of_the_compiler(tree: Tree) -> None:
    tree.use_compiler("12.9.1")
    assert tree.run("--check")[0] == 0
    tree.use_compiler("13.1.0")
    status, printed, failures = tree.run("--check")
    assert (status, printed) == (1, "")
    assert len(failures) == 1
    assert "the committed counts are of g++ 12.2.0, this is g++ 13.1.0" in failures[0]
    assert "--state" in failures[0]
    assert "--other-compiler" in failures[0]
    assert tree.run("--check", "--other-compiler")[0] == 0
    tree.count(pairwise_loss=1050, amplified_tanh=1300)
    status, printed, _ = tree.run("--check", "--other-compiler")
    assert status == 1
    assert "they do not compare" in printed
    assert tree.run("--state", "GCC 13 unrolls less")[0] == 0
    assert {row.compiler for row in rows.read(tree.top).values()} == {"g++ 13.1.0"}
    assert tree.read() == {
        "amplified_tanh": (1300, "GCC 13 unrolls less"),
        "pairwise_loss": (1050, "first count"),
        "hamming_histogram": (1000, "first count"),
    }
    assert tree.run("--check")[0] == 0


def test_another_compiler(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.program("clang++-12", GXX.replace("{VERSION}", "12.2.0").replace("g++ (Debian", "clang version ("))
    monkeypatch.setenv("CXX", "clang++-12 -stdlib=libc++")
    assert "this is clang++ 12.2.0" in tree.run("--check")[2][0]


@pytest.mark.parametrize("tool", ["valgrind", "g++"])
@pytest.mark.parametrize("arguments", [(), ("--check",), ("--state", "why")])
def test_a_missing_tool(tree: Tree, tool: str, arguments: tuple[str, ...]) -> None:
    (tree.top / "bin" / tool).unlink()
    status, printed, failures = tree.run(*arguments)
    assert (status, printed) == (2, "")
    assert len(failures) == 1
    assert tool in failures[0]
    assert "was found" in failures[0]


def test_what_cannot_be_counted_is_no_count(tree: Tree) -> None:
    tree.count(pairwise_loss=0)
    status, _, failures = tree.run("--check")
    assert status == 2
    assert "pairwise_loss: valgrind counted nothing in the function `counted`" in failures[0]
    tree.program("valgrind", VALGRIND.replace("{TOP}", str(tree.top)) + "echo no AVX2 >&2; exit 2\n")
    assert tree.run("--check")[::2] == (2, ["instructions.py: valgrind ended with 2: no AVX2"])
    tree.program("valgrind", VALGRIND.replace("{TOP}", str(tree.top)).replace("level", ""))
    assert "prints no checksum" in tree.run("--check")[2][0]
    shutil.rmtree(tree.top / "build")
    tree.program("g++", GXX.replace("{VERSION}", "12.2.0") + "echo 'a.cpp(1): error' >&2; exit 1\n")
    assert tree.run("--check")[::2] == (2, ["instructions.py: g++ ended with 1: a.cpp(1): error"])


def test_elsewhere_than_on_x86(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (tree.top / "bin" / "valgrind").unlink()
    status, printed, failures = tree.run("--check")
    assert (status, failures) == (0, [])
    assert "not available on aarch64" in printed


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("why", "reason", "the columns are not"),
        ("pairwise_loss", "pairwise", "line 3 is no case"),
        ("pairwise_loss", "amplified_tanh", "or one that was there before"),
        (",avx2", "", "is no case"),
        ("1000", "-1000", "has no count or no reason"),
        ("first count", "", "has no count or no reason"),
    ],
)
def test_a_damaged_file(tree: Tree, old: str, new: str, complaint: str) -> None:
    tree.file.write_text(tree.file.read_text().replace(old, new))
    for arguments in ("--check",), ("--state", "why"):
        status, _, failures = tree.run(*arguments)
        assert (status, len(failures)) == (1, 1)
        assert complaint in failures[0]


def test_a_program_is_kept_while_nothing_changes(tree: Tree) -> None:
    def programs() -> set[str]:
        return {path.name for path in (tree.top / "build" / "instructions").iterdir()}

    tree.run()
    first = programs()
    tree.run()
    assert programs() == first
    assert len(first) == 1
    (tree.top / "csrc" / "common").mkdir()
    for number, (path, text) in enumerate(
        {
            "csrc/common/a.h": "",
            "benchmarks/instructions.cpp": "",
            "benchmarks/instructions_level.h": "",
            "setup.py": "CXX_FLAGS = ['-O2']\n",
        }.items()
    ):
        (tree.top / path).write_text(text)
        tree.run()
        assert len(programs()) == number + 2


def test_the_flags_are_those_of_the_library() -> None:
    spec = importlib.util.spec_from_file_location("rdh_ext_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    setup: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    flags = setup.ops_extension("rdh_ext._ops_cpu", []).extra_compile_args["cxx"]
    assert [flag for flag in flags if flag != setup.TARGET_MACRO] == counts.cxx_flags(ROOT)


def test_flags_that_cannot_be_read(tree: Tree) -> None:
    (tree.top / "setup.py").write_text("FLAGS = []\n")
    assert tree.run("--check")[::2] == (2, ["instructions.py: setup.py has no list CXX_FLAGS"])


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        instructions.main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    for word in ("--state", "--check", "--other-compiler", "10 %", "valgrind", "results/instructions.csv"):
        assert word in told


def test_the_committed_counts() -> None:
    committed = rows.read(ROOT)
    assert tuple(committed) == CASES
    assert {row.level for row in committed.values()} == {"avx2"}
    assert rows.compare(committed, {case: replace(row, why="") for case, row in committed.items()}) == ([], [])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="counted is what AVX2 does")
def test_the_cases_do_their_work() -> None:
    """Without valgrind: what they print is what is committed."""
    try:
        compiler = counts.find_compiler()
    except counts.Unavailable as error:
        pytest.skip(str(error))
    program = counts.build(compiler, ROOT)
    for case, row in rows.read(ROOT).items():
        try:
            level, checksum = counts.run_case(program, case)
        except counts.Unavailable as error:
            if "no AVX2" not in str(error):
                raise
            pytest.skip(str(error))
        assert level == row.level
        assert rows.same_checksum(row.checksum, checksum), (case, checksum)
    wrong = subprocess.run([program, "another"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert all(case in wrong.stderr for case in CASES)
