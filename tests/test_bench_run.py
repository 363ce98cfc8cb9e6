"""`rdh bench` as a program: who fails is named and the others go on, and nothing that was measured is lost.

Ops are stand-ins: one that everybody computes, and one whose process dies.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from benchmark_modules import HERE, load

run, case_run, registry, problems, rows = load("run", "_case_run", "registry", "_problem", "_rows")
OURS: str = problems.OURS
STAND_INS = """
import os
import sys
from _problem import Case, Ceiling, Cost, NotHere, Op, OURS, Problem, Provider, Wrong


def build(case: Case) -> Problem:
    if case.sizes["how"] == "dies":
        print("Traceback: what is said before", file=sys.stderr)
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(7)
    if case.sizes["how"] == "absent":
        raise NotHere("lightning is not installed")
    print("what a library prints")  # between the results

    def check(found: object) -> float:
        if found != 42:
            raise Wrong(f"{found} is not 42")
        return 0.0

    ours = Provider(lambda: 41 if case.sizes["how"] == "wrong" else 42, check, "rdh_ext", kind=OURS)
    problem = Problem("6 x 7", Cost(bytes=8), {OURS: ours})
    problem.add("eager", lambda: Provider(lambda: 42, check))
    problem.add("wrong", lambda: Provider(lambda: 43, check))
    problem.set_ceiling(lambda: Ceiling("copy", lambda: 1e-7))
    return problem


def op(name: str, **more: object) -> Op:
    return Op(name, f"it {name}", "forward", build, default={"how": name, "n": 1}, **more)


OPS = {each.name: each for each in (
    op("works", sweeps={"n": (1, 2, 3)}, quick={}), op("dies", quick={}), op("absent"), op("wrong"),
)}
"""
CASE_RUN = f"""
import runpy
import sys
sys.path.append({str(HERE)!r})
runpy.run_path({str(HERE / "_case_run.py")!r}, run_name="__main__")
"""
PLAN = case_run.Plan(rounds=3, seconds=1e-6, limit=10.0, share=5.0, memory=False)


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a registry of stand-ins, which this process knows, too."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "registry.py").write_text(STAND_INS)
    (folder / "_case_run.py").write_text(CASE_RUN)
    spec = importlib.util.spec_from_file_location("stand_ins", folder / "registry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(run, "HERE", folder)
    monkeypatch.setattr(run, "OPS", module.OPS)
    monkeypatch.setattr(run, "cores", lambda: 1)
    return tmp_path


def options(*ops: str, **more: Any) -> Any:
    return run.Options(**{"command": "rdh bench", "ops": list(ops), "verify": False, "rounds": 2, **more})


def outcome(capsys: pytest.CaptureFixture[str], what: Any) -> tuple[int, str, list[str]]:
    """Exit status, standard output, and lines of standard error, of the program as it is started."""
    words = [str(HERE / "run.py"), json.dumps(vars(what))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            run.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err.splitlines()


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[str]:
    """Processes answer that, case by case; returns which cases they were asked for."""
    asked: list[str] = []
    left = list(answers)

    def results_of(group: list[Any], plan: dict[str, Any], package: Path | None = None) -> Iterator[dict[str, Any]]:
        for case in group:
            asked.append(case.label)
            answer = left.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    monkeypatch.setattr(run, "results_of", results_of)
    return asked


def good(microseconds: float = 10.0) -> dict[str, Any]:
    """What a process prints of a case."""
    one = {"status": "measured", "reason": "", "error": 0.0, "extra_bytes": 0, "version": "rdh_ext 1"}
    samples = [microseconds * 1e-6] * 2
    return {
        "title": "6 x 7",
        "cost": {"bytes": 8, "flops": 0, "pairs": 0},
        "ceiling": "",
        "providers": {OURS: {**one, "kind": OURS, "samples": samples}},
        "machine": run.machine(),
    }


FAILED = {"failed": "its process ended with -9: it said nothing", "status": "failed"}


def test_a_process(stand_ins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of four cases: one that works, with one who is wrong; one that lacks a library, which is no failure; one in which
    rdh_ext itself is wrong; and one of which the process dies. JSON is all there is to read."""
    path = stand_ins / "new" / "rows.csv"
    what = options("works", "absent", "wrong", "dies", quick=True, as_json=True, out=str(path))
    status, printed, said = outcome(capsys, what)
    assert (status, said[-1]) == (1, "2 of the cases failed; their rows say why")
    told = json.loads(printed)
    assert told["command"] == "rdh bench"
    assert told["tests"] == "tests were not run (--no-verify); results are compared before each measurement"
    found = {(row["op"], row["provider"]): row for row in told["rows"]}
    assert {name: (row["status"], row["reason"]) for name, row in found.items()} == {
        ("works", "rdh_ext"): ("measured", ""),
        ("works", "eager"): ("measured", ""),
        ("works", "wrong"): ("failed", "Wrong: 43 is not 42"),
        ("works", "ceiling"): ("measured", ""),
        ("absent", "rdh_ext"): ("missing", "lightning is not installed"),
        ("wrong", "rdh_ext"): ("failed", "41 is not 42"),
        ("dies", "rdh_ext"): ("failed", "its process ended with 7: out of memory"),
    }
    assert all((row["p50_us"] == "") == (row["status"] != "measured") for row in told["rows"])
    mine = found["works", "rdh_ext"]
    assert (mine["rounds"], mine["times_rdh_ext"], mine["case"], mine["threads"]) == ("2", "1", "6 x 7", "1")
    assert float(mine["p50_us"]) > 0
    assert mine["extra_bytes"].isdigit()
    assert rows.read(path) == told["rows"]
    assert any(line.endswith("4 of 4  dies") for line in said)


def test_groups_of_cases(stand_ins: Path) -> None:
    found = run.cases(options("works", "dies", sweeps=["n"], threads=2))
    assert [case.label for case in found] == ["works", "works, n 1", "works, n 2", "works, n 3", "dies"]
    assert {case.threads for case in found} == {2}
    assert [len(group) for group in run.groups(found, quick=False)] == [1, 3, 1]
    assert [len(group) for group in run.groups(found, quick=True)] == [5]
    assert [case.label for case in run.cases(options(quick=True))] == ["works", "dies"]
    assert len(run.cases(options("works", sweeps=["all"]))) == 4


def test_the_environment_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    variables = run.environment(3, tmp_path)
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["PYTHONPATH"] == f"{tmp_path}{os.pathsep}elsewhere"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({"ops": ["workz"]}, "there is no op 'workz'; there are works, dies, absent, wrong"),
        ({"ops": ["dies"], "sweeps": ["n"]}, "none of these ops has a sweep 'n'; they have all"),
        ({"ops": ["works", "dies"], "sweeps": ["n", "m"]}, "none of these ops has a sweep 'm'; they have all, n"),
        ({"device": "cuda"}, "no CUDA device is available to PyTorch; `rdh info` says what is compiled in"),
    ],
)
def test_what_there_is_not(
    what: dict[str, Any],
    expected: str,
    stand_ins: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = answering(monkeypatch)
    assert outcome(capsys, options(**what)) == (1, "", [expected])
    assert asked == []


def test_what_there_is(stand_ins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, said = outcome(capsys, options("works", "dies", listing=True))
    assert (status, said) == (0, [])
    assert [line.split() for line in printed.splitlines()] == [
        ["works", "it", "works", "(forward)"],
        ["--sweep", "n:", "1,", "2,", "3"],
        ["dies", "it", "dies", "(forward)"],
    ]


def test_a_file_that_is_there(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stand_ins / "rows.csv"
    path.write_text("keep me")
    asked = answering(monkeypatch)
    refused = f"{path} is there already; --resume goes on with it, --out names another"
    assert outcome(capsys, options("works", out=str(path))) == (1, "", [refused])
    header = ",".join(rows.COLUMNS)
    for text in ("keep me", "op,milliseconds\nworks,3\n", f"{header}\nworks\n", f"{header}\n{',' * 99}\n"):
        path.write_text(text)
        status, printed, said = outcome(capsys, options("works", out=str(path), resume=True))
        assert (status, printed, len(said)) == (1, "", 1)
        assert said[0].startswith(f"{path}: no result of rdh bench: ")
        assert path.read_text() == text
    assert asked == []
    path.write_text("")  # nothing that could be lost
    answering(monkeypatch, good())
    assert outcome(capsys, options("works", out=str(path), resume=True))[0] == 0
    assert len(rows.read(path)) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is refused to root")
def test_a_folder_that_cannot_be_written(stand_ins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stand_ins / "locked"
    folder.mkdir(0o500)
    status, printed, said = outcome(capsys, options("works", out=str(folder / "rows.csv")))
    assert (status, printed, said) == (1, "", [f"--out {folder / 'rows.csv'}: Permission denied"])


def test_a_folder_that_is_a_file(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stand_ins / "file").write_text("")
    path = stand_ins / "file" / "rows.csv"
    assert outcome(capsys, options("works", out=str(path))) == (1, "", [f"--out {path}: File exists"])


def test_resume_measures_what_is_not_there(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stand_ins / "rows.csv"
    what = {"sweeps": ["n"], "out": str(path)}
    first = answering(monkeypatch, good(1), good(2), FAILED, good(4))
    status, printed, said = outcome(capsys, options("works", **what))
    assert first == ["works", "works, n 1", "works, n 2", "works, n 3"]
    assert (status, said[-1]) == (1, "1 of the cases failed; their rows say why")
    assert f"written: {path}; `rdh report {path}` makes tables and pictures of it" in said
    assert "rdh_ext: failed, its process ended with -9: it said nothing" in printed
    again = answering(monkeypatch, good(3))
    status, printed, _ = outcome(capsys, options("works", resume=True, **what))
    assert (status, again) == (0, ["works, n 2"])  # what has failed is measured again, and nothing else
    found = {(row["sweep"], row["x"]): row["p50_us"] for row in rows.read(path)}
    assert found == {("default", ""): "1", ("n", "1"): "2", ("n", "3"): "4", ("n", "2"): "3"}
    for word in ("1 us", "2 us", "3 us", "4 us"):  # text has all of them, of both runs
        assert word in printed
    nothing = answering(monkeypatch)
    assert outcome(capsys, options("works", resume=True, **what))[0] == 0
    assert nothing == []


@pytest.mark.parametrize("changed", ["torch", "rdh_ext", "level"])
def test_resume_measures_again_what_was_measured_with_another(
    changed: str, stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stand_ins / "rows.csv"
    old = good(1)
    old["machine"] = {**old["machine"], changed: "another"}
    answering(monkeypatch, old, good(2))
    assert outcome(capsys, options("works", "dies", out=str(path)))[0] == 0
    asked = answering(monkeypatch, good(3))
    assert outcome(capsys, options("works", "dies", out=str(path), resume=True))[0] == 0
    assert asked == ["works"]
    assert {row["op"]: row["p50_us"] for row in rows.read(path)} == {"dies": "2", "works": "3"}


def test_an_interrupted_run_keeps_what_it_had(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stand_ins / "rows.csv"
    answering(monkeypatch, good(1), good(2), KeyboardInterrupt())
    status, printed, _ = outcome(capsys, options("works", sweeps=["n"], out=str(path)))
    assert (status, printed) == (130, "")
    assert [(row["sweep"], row["x"], row["p50_us"]) for row in rows.read(path)] == [
        ("default", "", "1"),
        ("n", "1", "2"),
    ]


def test_several_processes_for_a_case(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answering(monkeypatch, good(3), FAILED, good(5))
    status, printed, said = outcome(capsys, options("works", processes=3, as_json=True))
    assert (status, asked) == (0, ["works"] * 3)
    assert [row["p50_us"] for row in json.loads(printed)["rows"]] == ["3"]
    assert [line.split()[2:] for line in said if " of 1 " in line] == [
        ["0", "of", "1", "works"], ["0", "of", "1", "works"], ["1", "of", "1", "works"],
    ]  # fmt: skip


def test_failing_tests_stop_everything(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answering(monkeypatch, good())
    [verify] = load("verify")
    path = stand_ins / "rows.csv"
    seen: list[Any] = []

    def verdict(ops: list[str], **how: Any) -> Any:
        seen.append((ops, how))
        return verify.Verdict(False, "tests of works fail: FAILED tests/a.py::test_b")

    monkeypatch.setattr(run, "verify", verdict)
    status, printed, said = outcome(capsys, options("works", quick=True, verify=True, out=str(path)))
    assert (status, printed) == (1, "")
    assert said[-1] == "tests of works fail: FAILED tests/a.py::test_b; nothing was timed"
    assert asked == []
    assert not path.exists()
    assert seen == [(["works"], {"quick": True, "device": "cpu"})]
    monkeypatch.setattr(run, "verify", lambda *_, **__: verify.Verdict(True, "3 tests of works passed"))
    _, printed, _ = outcome(capsys, options("works", verify=True, as_json=True))
    assert json.loads(printed)["tests"] == "3 tests of works passed"


def test_plans() -> None:
    assert options("works", rounds=None).plan == run.PLANS[False]
    assert options("works", quick=True).plan == {**run.PLANS[True], "rounds": 2}
    for plan in run.PLANS.values():
        assert case_run.Plan(**plan).rounds > 1


class Tree:
    """A source tree with tests of two ops, and no more."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top, self.asked = top, []
        for folder in ("rdh_ext", "tests"):
            (top / folder).mkdir()
        (top / "rdh_ext" / "__init__.py").write_text("")
        (top / "pytest.ini").write_text("[pytest]\n")
        self.write("works")
        self.write("dies")
        [self.program] = load("verify")
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(self.program, "ROOT", top)
        monkeypatch.setattr(self.program, "MEMORY", top / "build" / "verified.json")
        monkeypatch.setattr(self.program, "rdh_ext", SimpleNamespace(__file__=str(top / "rdh_ext" / "__init__.py")))
        ops = {name: SimpleNamespace(tests=(f"tests/test_{name}.py",)) for name in ("works", "dies")}
        monkeypatch.setattr(self.program, "OPS", ops)
        monkeypatch.setattr(self.program, "fingerprint", self.program.fingerprint.__wrapped__)  # asked anew every time
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})  # no workers

    def write(self, op: str, text: str = "assert True") -> None:
        (self.top / "tests" / f"test_{op}.py").write_text(f"def test_equals():\n    {text}\n")

    def answer(self, output: str, code: int = 0) -> None:
        """What pytest will say; kept is what it is asked."""

        def run_pytest(files: list[str], quick: bool, device: str) -> tuple[int, str]:
            self.asked.append([Path(name).stem for name in files] + ["quick"] * quick + [device] * (device != "cpu"))
            return code, output

        self.monkeypatch.setattr(self.program, "run_pytest", run_pytest)

    def verdict(self, *ops: str, **how: Any) -> tuple[bool, str]:
        found = self.program.verify(ops, **how)
        return found.passed, found.sentence


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, monkeypatch)


def test_tests_that_run(tree: Tree) -> None:
    assert tree.verdict("works", "dies") == (True, "2 tests of works, dies passed")
    tree.write("dies", "assert 6 * 7 == 41")
    passed, sentence = tree.verdict("works", "dies")
    assert not passed
    assert sentence.startswith("tests of works, dies fail: FAILED tests/test_dies.py::test_equals")
    assert "\n" not in sentence


def test_what_has_passed_is_remembered(tree: Tree) -> None:
    tree.answer("2 passed in 1 s")
    before = (True, "tests of works, dies have passed before, with these very files")
    assert tree.verdict("works", "dies") == (True, "2 tests of works, dies passed")
    assert tree.verdict("works", "dies") == before
    assert tree.verdict("dies", quick=True) == (
        True, "tests against the oracles of dies have passed before, with these very files",
    )  # fmt: skip
    assert len(tree.asked) == 1
    for changed in ("tests/test_dies.py", "rdh_ext/ops.py", "rdh_ext/_ops.so"):
        (tree.top / changed).write_text("# changed")
        assert tree.verdict("works", "dies")[1] == "2 tests of works, dies passed"
        assert tree.verdict("works", "dies") == before
    assert tree.asked == [["test_works", "test_dies"]] * 4
    tree.program.MEMORY.write_text("[1]")
    assert tree.verdict("works")[1] == "2 tests of works passed"
    assert tree.verdict("works", "dies")[1] == "2 tests of works, dies passed"
    assert tree.asked[4:] == [["test_works"], ["test_dies"]]


def test_quick_tests_are_not_all_tests(tree: Tree) -> None:
    tree.answer("1 passed")
    assert tree.verdict("works", quick=True)[1] == "1 tests against the oracles of works passed"
    assert tree.verdict("works", quick=True)[1].endswith("have passed before, with these very files")
    tree.verdict("works")
    tree.verdict("works", device="cuda")
    tree.verdict("works", device="cuda")
    assert tree.asked == [["test_works", "quick"], ["test_works"], ["test_works", "cuda"]]


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        ("FAILED tests/a.py::b - assert 1\nERROR tests/c.py\n1 failed", 1, "ERROR tests/c.py"),
        ("1 deselected", 5, "1 deselected"),
        ("no tests ran", 0, "no tests ran"),  # nothing passed is not enough
        ("", 2, "no output"),
    ],
)
def test_what_has_not_passed(tree: Tree, output: str, code: int, said: str) -> None:
    tree.answer(output, code)
    assert tree.verdict("works") == (False, f"tests of works fail: {said}")
    assert tree.verdict("works")[0] is False  # nor is it remembered
    assert len(tree.asked) == 2


def test_where_there_are_no_tests(tree: Tree) -> None:
    tree.answer("1 passed")
    (tree.top / "tests" / "test_dies.py").unlink()
    passed, sentence = tree.verdict("works", "dies")
    assert passed
    assert sentence == "the tests are not here (tests/test_dies.py); results are compared before each measurement"
    other = SimpleNamespace(__file__=str(tree.top / "site-packages" / "rdh_ext" / "__init__.py"))
    tree.monkeypatch.setattr(tree.program, "rdh_ext", other)
    assert tree.verdict("works") == (
        True, "another rdh_ext is installed than the tests here are of; results are compared",
    )  # fmt: skip
    assert tree.asked == []


def test_without_pytest(tree: Tree) -> None:
    tree.monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert tree.verdict("works") == (True, "pytest is not installed, tests were not run; results are compared")


def test_a_tree_that_cannot_be_written(tree: Tree) -> None:
    (tree.top / "build").write_text("a file")
    tree.answer("1 passed")
    for _ in range(2):
        assert tree.verdict("works") == (True, "1 tests of works passed")
    assert len(tree.asked) == 2


class Op:
    """Stands for one whose problem a test makes."""

    def __init__(self, problem: Any) -> None:
        self.problem = problem

    def build(self, case: Any) -> Any:
        return self.problem


class Calls:
    """A step that counts how often it is made."""

    def __init__(self, answer: object = 42) -> None:
        self.answer, self.count = answer, 0

    def __call__(self) -> object:
        self.count += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def check(found: object) -> float:
    if found != 42:
        raise problems.Wrong(f"{found} is not 42")
    return 0.25


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, Any]]]:
    """What a process does with providers, name -> Provider or step."""

    def measured(
        providers: dict[str, Any], *, work: int = 8, plan: Any = PLAN, before: Any = None, **more: Any
    ) -> dict[str, Any]:
        made = {
            name: problems.Provider(each, check) if isinstance(each, Calls) else each
            for name, each in providers.items()
        }
        problem = problems.Problem("6 x 7", problems.Cost(bytes=work), made, **more)
        monkeypatch.setattr(case_run, "OPS", {"op": Op(problem)})
        told: dict[str, Any] = case_run.measure(problems.Case("op", {}), plan, {} if before is None else before)
        json.dumps(told)
        return told["providers"]

    threads = torch.get_num_threads()
    yield measured
    torch.set_num_threads(threads)


def test_who_fails_is_no_hindrance(measure: Callable[..., dict[str, Any]]) -> None:
    raising, wrong, right = Calls(RuntimeError("first\nsecond")), Calls(43), Calls()
    absent = {"KeOps": problems.not_installed("KeOps"), "later": problems.NotHere("no time", "left out")}
    found = measure({OURS: Calls(), "raising": raising, "wrong": wrong, "right": right}, absent=absent)
    assert (found["raising"]["status"], found["raising"]["reason"]) == ("failed", "RuntimeError: first second")
    assert (found["wrong"]["status"], found["wrong"]["reason"]) == ("failed", "Wrong: 43 is not 42")
    assert (raising.count, wrong.count) == (1, 1)  # not called again, and so not timed
    assert found["raising"]["samples"] == found["wrong"]["samples"] == []
    assert (found["right"]["status"], found["right"]["error"], len(found["right"]["samples"])) == ("measured", 0.25, 3)
    assert (found["KeOps"]["status"], found["later"]["status"]) == ("missing", "left out")
    assert found["KeOps"]["reason"].startswith("KeOps is not installed; pip install")


def test_rdh_ext_has_to_be_right(measure: Callable[..., dict[str, Any]]) -> None:
    for answer, error in ((43, problems.Wrong), (RuntimeError("broken"), RuntimeError)):
        ours, peer = Calls(answer), Calls()
        with pytest.raises(error):
            measure({OURS: ours, "peer": peer})
        assert (ours.count, peer.count) == (1, 0)


def test_what_takes_long_is_called_once(measure: Callable[..., dict[str, Any]]) -> None:
    """With no time for anybody: of rdh_ext there are rounds all the same."""
    plan = case_run.Plan(rounds=3, seconds=1e-9, limit=10.0, share=0.0, memory=False)
    slow, compiled = Calls(), Calls()
    found = measure({OURS: Calls(), "slow": slow, "torch.compile": compiled}, plan=plan)
    assert (slow.count, len(found["slow"]["samples"])) == (1, 1)
    assert (compiled.count > 1, len(found["torch.compile"]["samples"])) == (True, 1)  # the first call was another
    assert len(found[OURS]["samples"]) == 2


def test_what_would_take_too_long_is_left_out(
    measure: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_run, "available_bytes", lambda: 8 << 30)
    seen = {
        "slow": case_run.Seen(work=8, seconds=2.0, extra_bytes=0),
        "large": case_run.Seen(work=8, seconds=1e-6, extra_bytes=1 << 30),
        "fine": case_run.Seen(work=8, seconds=1e-6, extra_bytes=1 << 20),
        "patient": case_run.Seen(work=8, seconds=2.0, extra_bytes=0),
        OURS: case_run.Seen(work=8, seconds=2.0, extra_bytes=0),
    }
    steps = {name: Calls() for name in (OURS, "slow", "large", "fine", "patient")}
    providers = {**steps, "patient": problems.Provider(steps["patient"], check, patient=True)}
    found = measure(providers, work=48, before=seen)
    assert found["slow"]["reason"] == "a call would take about 12 s, more than 10 s"
    assert found["large"]["reason"] == "it would take about 6 GiB of memory"
    assert {name: one["status"] for name, one in found.items()} == {
        OURS: "measured", "slow": "left out", "large": "left out", "fine": "measured", "patient": "measured",
    }  # fmt: skip
    assert (steps["slow"].count, steps["large"].count) == (0, 0)
    assert seen["slow"].work == 8  # what was seen is kept for the next case
    assert seen["fine"].work == 48
    found = measure({OURS: Calls(), "slow": Calls()}, work=24, before=seen)
    assert found["slow"]["status"] == "measured"  # three times as much work is not too much


def test_parts_and_the_limit(measure: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def two_seconds(steps: Any, *_: Any, probes: Any, **__: Any) -> dict[str, list[float]]:
        return {name: [2.0] for name in (*steps, *probes)}

    monkeypatch.setattr(case_run, "take_rounds", two_seconds)
    part = problems.Provider(Calls(), check, parts=20.0)
    found = measure({OURS: Calls(), "part": part}, ceiling=problems.Ceiling("copy", lambda: 1.0))
    assert found[OURS]["samples"] == [2.0]
    assert found["part"]["samples"] == [40.0]
    assert found["part"]["reason"] == "a part of the work, its time counted 20 times"
    assert (found["ceiling"]["kind"], found["ceiling"]["samples"]) == ("ceiling", [2.0])
    only = case_run.Plan(rounds=3, seconds=1e-6, limit=10.0, share=5.0, memory=False, only=OURS)
    other = Calls()
    found = measure({OURS: Calls(), "other": other}, plan=only, ceiling=problems.Ceiling("copy", lambda: 1.0))
    assert (list(found), other.count) == ([OURS], 0)


def test_the_registry_of_a_process_is_that_of_the_program() -> None:
    assert isinstance(registry, ModuleType)
    assert case_run.OPS is run.OPS is registry.OPS
