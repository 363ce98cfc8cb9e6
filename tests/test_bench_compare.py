"""`rdh bench --compare`: ratios and verdicts of made-up runs, turns, and one clear line for every error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmark_modules import load, write_rows

run, compare, problems = load("run", "compare", "_problem")
CASE = problems.Case("scan", {"items": 10})
OTHER = problems.Case("walk", {"items": 10})
FACTS = {"device": "a CPU", "level": "avx2", "torch": "2.15"}
FAILED = {"failed": "its process ended with 1: no such op", "status": "failed"}
Pair = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def told(*microseconds: float, title: str = "10 items") -> dict[str, Any]:
    """What a process prints of a case."""
    return {"title": title, "providers": {problems.OURS: {"samples": [each * 1e-6 for each in microseconds]}}}


def pairs(*times: tuple[float, float]) -> list[Pair]:
    """Of one case: before and now."""
    return [([told(before)], [told(now)]) for before, now in times]


def row(*times: tuple[float, float]) -> dict[str, str]:
    [found] = compare.rows_of([CASE], pairs(*times), FACTS)
    return found


def test_a_ratio_is_that_of_a_pair() -> None:
    """A machine that is half as fast later on: now is always 1.25 times before."""
    found = row((10, 12.5), (20, 25), (20, 25), (40, 50), (10, 12.5))
    assert found == {
        "op": "scan",
        "case": "10 items",
        "status": "measured",
        "reason": "",
        "before_us": "20",
        "now_us": "25",
        "ratio": "1.25",
        "lowest": "1.25",
        "highest": "1.25",
        "pairs": "5",
        **FACTS,
    }
    of_medians = [([told(1, 2, 90)], [told(3, 4, 5, 90)])]
    assert compare.rows_of([CASE], of_medians, FACTS)[0]["ratio"] == "2.25"
    spread = row((10, 11), (10, 9), (10, 12), (10, 13), (10, 10))
    assert (spread["lowest"], spread["ratio"], spread["highest"]) == ("0.9", "1.1", "1.3")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(10, 12)] * 5, "slower"),
        ([(10, 8)] * 5, "faster"),
        ([(10, 10)] * 5, "no difference seen"),
        ([(10, 10.2)] * 5, "no difference seen"),  # all agree, on little
        ([(10, 10.4)] * 5, "slower"),
        ([(10, 9.8)] * 5, "no difference seen"),
        ([(10, 20)] * 4 + [(10, 9.9)], "no difference seen"),  # one pair does not agree
        ([(10, 20)] * 4 + [(10, 10)], "no difference seen"),
        ([(10, 20)] * 4, "too few pairs to tell"),
    ],
)
def test_verdicts(times: list[tuple[float, float]], expected: str) -> None:
    assert compare.verdict(row(*times)) == expected


def test_pairs_without_a_result_do_not_count() -> None:
    found = compare.rows_of([CASE], [*pairs((10, 20)), ([FAILED], [told(10)]), ([told(10)], [FAILED])], FACTS)[0]
    assert (found["status"], found["pairs"], found["ratio"], found["case"]) == ("measured", "1", "2", "10 items")
    none = compare.rows_of([CASE], [([FAILED], [told(10)]), ([told(10)], [FAILED])], FACTS)[0]
    assert (none["status"], none["pairs"], none["ratio"], none["case"]) == ("failed", "0", "", "scan")
    assert none["reason"] == FAILED["failed"]
    assert compare.verdict(none) == "failed: its process ended with 1: no such op"
    assert list(none) == list(found)  # rows of one file


def test_text() -> None:
    both = [([told(1000), FAILED], [told(1250), FAILED])] * 5
    lines = compare.text_of(compare.rows_of([CASE, OTHER], both, FACTS), "0123456789ab").splitlines()
    assert [line.split() for line in lines] == [
        ["0123456789ab", "this", "tree", "ratio", "lowest", "..", "highest"],
        ["scan", "1", "ms", "1.25", "ms", "1.250", "1.250", "..", "1.250", "slower"],
        ["walk", "failed:", "its", "process", "ended", "with", "1:", "no", "such", "op"],
        ["a", "CPU,", "avx2,", "torch", "2.15;", "ratio:", "this", "tree", "/", "0123456789ab"],
    ]


class Repository:
    """One with a commit; its setup.py says what a build does."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = top
        monkeypatch.setattr(compare, "ROOT", top)
        monkeypatch.setattr(compare, "BUILDS", top / "build" / "compare")
        (top / "rdh_ext").mkdir()
        (top / "rdh_ext" / "__init__.py").write_text("")
        monkeypatch.setattr(compare, "rdh_ext", SimpleNamespace(__file__=str(top / "rdh_ext" / "__init__.py")))
        self.git("init")
        self.commit = self.add(
            "import os\nfrom pathlib import Path\nPath('it').write_text(os.environ['RDH_EXT_CUDA'])\n"
        )

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "init.defaultBranch=main")
        done = subprocess.run(["git", "-C", str(self.top), *who, *words], capture_output=True, check=True, text=True)
        return done.stdout.strip()

    def add(self, setup: str) -> str:
        (self.top / "setup.py").write_text(setup)
        self.git("add", "setup.py")
        self.git("commit", "-m", "change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    return Repository(tmp_path, monkeypatch)


def test_a_commit_by_its_names(repository: Repository) -> None:
    for name in ("HEAD", "main", repository.commit, repository.commit[:8]):
        assert compare.commit_of(name) == repository.commit


@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        ("no-such-branch", "'no-such-branch' is no commit of this repository"),
        ("HEAD~1", "'HEAD~1' is no commit of this repository"),
        ("HEAD:setup.py", "'HEAD:setup.py' is no commit of this repository"),
        ("", "'' is no commit of this repository"),
        ("--all", "'--all' is no commit"),
        ("-1", "'-1' is no commit"),
    ],
)
def test_what_is_no_commit(revision: str, expected: str, repository: Repository) -> None:
    with pytest.raises(run.Stop) as stopped:
        compare.commit_of(revision)
    assert str(stopped.value) == expected


def test_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    with pytest.raises(run.Stop) as stopped:
        compare.commit_of("HEAD")
    assert str(stopped.value) == (
        f"--compare needs the git repository of rdh_ext, and {tmp_path} is none; clone it, and install from there"
    )


def test_no_git(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository.top / "nowhere"))
    with pytest.raises(run.Stop, match=r"^git does not start: No such file or directory; --compare needs it$"):
        compare.git("archive", "HEAD")


def test_git_that_fails(repository: Repository) -> None:
    with pytest.raises(run.Stop, match=r"^git archive: .*no-such-branch"):
        compare.git("archive", "no-such-branch")


def test_another_package_is_imported(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare.this_tree() == repository.top
    monkeypatch.setattr(compare, "rdh_ext", SimpleNamespace(__file__="/elsewhere/rdh_ext/__init__.py"))
    with pytest.raises(run.Stop) as stopped:
        compare.this_tree()
    assert str(stopped.value) == (
        "rdh_ext comes from /elsewhere/rdh_ext, and not from this tree; "
        f"install it with pip install -e {repository.top}"
    )


def test_a_commit_is_built_once(repository: Repository) -> None:
    tree = compare.built(repository.commit, "cpu")
    assert (tree.parent, (tree / "it").read_text()) == (repository.top / "build" / "compare", "0")
    (tree / "it").write_text("kept")
    assert compare.built(repository.commit, "cpu") == tree
    assert (tree / "it").read_text() == "kept"
    of_cuda = compare.built(repository.commit, "cuda")
    assert of_cuda != tree
    assert (of_cuda / "it").read_text() == "1"


def test_a_commit_that_does_not_build(repository: Repository) -> None:
    commit = repository.add("import sys\nprint('compiling')\nsys.exit('error: no such header')\n")
    for _ in range(2):  # it is not taken for built the next time
        with pytest.raises(run.Stop, match=f"^{commit[:12]} does not build: error: no such header$"):
            compare.built(commit, "cpu")


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Two trees without a build between them; says who was measured, and how. This one takes twice as long."""
    here, there = tmp_path / "here", tmp_path / "there"
    taken: list[tuple[str, dict[str, Any]]] = []

    def measured(cases: list[Any], plan: dict[str, Any], tree: Path) -> list[dict[str, Any]]:
        taken.append((tree.name, plan))
        return [told(20) if tree == here else told(10) for _ in cases]

    monkeypatch.setattr(compare, "commit_of", lambda revision: "0123456789abcdef")
    monkeypatch.setattr(compare, "this_tree", lambda: here)
    monkeypatch.setattr(compare, "built", lambda commit, device: there)
    monkeypatch.setattr(compare, "measured", measured)
    return taken


def options(*ops: str, **more: Any) -> Any:
    return run.Options("rdh bench", list(ops), compare="HEAD~1", **more)


def test_trees_take_turns(turns: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "compared.csv"
    assert run.run(options("evaluate", "pack_codes", as_json=True, out=str(path))) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["command"], found["before"]) == ("rdh bench", "0123456789abcdef")
    assert [(each["op"], each["ratio"], each["pairs"]) for each in found["rows"]] == [
        ("evaluate", "2", "5"),
        ("pack_codes", "2", "5"),
    ]
    names = [name for name, _ in turns]
    assert names == ["there", "here", "here", "there", "there", "here", "here", "there", "there", "here"]
    assert [plan["seed"] for _, plan in turns] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert {(plan["only"], plan["memory"]) for _, plan in turns} == {(problems.OURS, False)}
    assert len(path.read_text().splitlines()) == 3
    assert f"written: {path}" in err
    assert run.run(options("evaluate", processes=1)) == 0
    assert "too few pairs to tell" in capsys.readouterr().out


def test_a_file_that_is_there_is_kept(turns: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "compared.csv"
    write_rows(path, [{"keep": "me"}])
    with pytest.raises(run.Stop, match=r"compared\.csv is there already; --out names another"):
        run.run(options("evaluate", out=str(path)))
    assert turns == []


def test_an_op_that_there_is_not(turns: list[Any]) -> None:
    with pytest.raises(run.Stop, match="there is no op 'scan'; there are amplified_tanh, "):
        run.run(options("scan"))
    assert turns == []


def test_an_op_that_fails(
    turns: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "measured", lambda cases, plan, tree: [told(1), FAILED])
    with pytest.raises(run.Stop, match=r"^not measured: pack_codes$"):
        run.run(options("evaluate", "pack_codes"))
    assert "failed: its process ended with 1: no such op" in capsys.readouterr().out
