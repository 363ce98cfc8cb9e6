"""The GPU check without a GPU: with stand-ins for its tools it passes, fails by name, stops what hangs, and says so."""

from __future__ import annotations

import csv
import functools
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from gpu_stand_ins import FILES, HERE, Tree

STEPS = ("facts", "build", "cpp_build", "cpp_tests", "pytest", "memcheck", "racecheck", "synccheck", "initcheck")
SANITIZERS = STEPS[5:]
BENCHMARKS = ("facts", "build", "sass", "peaks", "bench", "ncu")

pytestmark = pytest.mark.skipif(not (HERE / FILES[0]).exists(), reason="the benchmarks are not here")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@functools.cache
def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gpu_check_test_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(HERE))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(HERE))
    return module


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "Z" in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return True


def test_everything_in_order(tree: Tree) -> None:
    tree.out.mkdir()
    (tree.out / "summary.json").write_text("of an earlier run")
    status, printed = tree.run()
    assert status == 0, printed
    summary = tree.summary()
    assert (summary["schema"], summary["passed"], summary["limit_seconds"]) == (1, True, 480)
    assert 0 < summary["seconds"] < 60
    assert time.strptime(summary["date"], "%Y-%m-%dT%H:%M:%SZ")
    assert [step["name"] for step in summary["steps"]] == list(STEPS)
    assert {step["status"] for step in summary["steps"]} == {"passed"}
    facts = summary["facts"]
    assert (facts["device"], facts["driver"], facts["compute_mode"]) == ("NVIDIA H200", "580.159.04", "Default")
    assert facts["compute_sanitizer"] == "2025.3.1"
    assert facts["commit"] == "unknown: the tree has no .git"
    assert str(tree.top) not in json.dumps(summary)
    counts = {step["name"]: step["counts"] for step in summary["steps"]}
    assert counts["cpp_tests"] == {"test_a": 4, "test_b": 4}
    assert counts["pytest"] == {"passed": 1, "failed": 0, "skipped": 1, "skipped_because": {"no faiss": 1}}
    assert "benchmarks/results/gpu_check_h200.json" in printed
    assert all(f"{name} " in printed for name in STEPS)
    files = {path.name for path in tree.out.iterdir()}
    assert files == {"summary.json", "pytest.xml", *(step["log"] for step in summary["steps"])}
    assert len(files) <= 8
    assert "RDH_EXT_CUDA=1" in (tree.out / "build.log").read_text()
    sanitized = (tree.out / "sanitizer.log").read_text()
    assert sanitized.count("--leak-check full") == 2  # two programs
    assert sanitized.count("--racecheck-report all") == 2
    assert sanitized.count("--error-exitcode 1") == 8


def test_tells_what_was_checked(tree: Tree) -> None:
    """By a fingerprint of the sources, which does not look at what is built or run."""
    assert tree.run()[0] == 0
    before = tree.summary()["facts"]["sources_sha256"]
    command = [sys.executable, str(tree.top / "benchmarks" / "gpu_check.py"), "--sources"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == before
    (tree.top / "tests" / "simt" / "test_a.cpp").write_text("// changed\n")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() != before


@pytest.mark.parametrize(
    ("fake", "failed", "not_run"),
    [
        (
            "build nvcc",
            {
                "build": "python ended with exit status 1: error: csrc/a.cu: no space left",
                "cpp_build": "nvcc ended with exit status 1: test_b.cpp(3): error: expected a ;",
            },
            STEPS[3:],
        ),
        (
            "not_loaded wrong",
            {
                "build": "the cuda library is not loaded: it is cut short",
                "cpp_tests": "test_b: 1 of 4 tests failed",
                **dict.fromkeys(SANITIZERS, "test_b: 1 of 4 tests failed"),
            },
            ("pytest",),
        ),
        (
            "red memcheck racecheck",
            {
                "pytest": "1 passed, 1 failed, 1 skipped: ops::bad[cuda]",
                "memcheck": "test_a, test_b: 2 errors found",
                "racecheck": "test_a, test_b: 2 hazards found",
            },
            (),
        ),
        ("all_skipped", {"pytest": "no test ran on the device: 0 passed, 0 failed, 1 skipped"}, ()),
        (
            "no_report refuses",
            {
                "pytest": "pytest ended with 4 before any test",
                **dict.fromkeys(
                    SANITIZERS, "test_a, test_b: compute-sanitizer refuses this device (Device not supported)"
                ),
            },
            (),
        ),
        (
            "half_report no_tests",
            {
                "pytest": "pytest did not finish its report",
                **dict.fromkeys(("cpp_tests", *SANITIZERS), ": no test ran, exit status 0: "),
            },
            (),
        ),
        ("facts_crash", {"facts": "ended with -11 and told nothing"}, STEPS[1:]),
    ],
)
def test_what_goes_wrong_is_named_and_hides_nothing(
    tree: Tree, fake: str, failed: dict[str, str], not_run: tuple[str, ...]
) -> None:
    status, printed = tree.run(fake=fake)
    assert status == 1
    assert not tree.summary()["passed"]
    assert "FAILED" in printed
    steps = tree.steps()
    for name in STEPS:
        expected = "failed" if name in failed else "not run" if name in not_run else "passed"
        assert steps[name][0] == expected, (name, steps[name], printed)
        assert failed.get(name, "") in steps[name][1]
        assert failed.get(name, "") in printed.replace(f"{tree.top}/", "")
    assert all(steps[name][1].startswith("needs ") for name in not_run)


GOOD = "passed sums\n0 of 4 failed\n"
CLEAN = "========= ERROR SUMMARY: 0 errors\n"


@pytest.mark.parametrize(
    ("tool", "exit_code", "output", "complaint"),
    [
        ("memcheck", 0, f"{GOOD}========= LEAK SUMMARY: 0 bytes leaked in 0 allocations\n{CLEAN}", None),
        ("racecheck", 0, f"{GOOD}========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n", None),
        (
            "racecheck",
            0,
            f"{GOOD}========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)\n",
            "1 hazards found",
        ),
        ("racecheck", 0, f"{GOOD}{CLEAN}", "compute-sanitizer gave no summary"),
        ("memcheck", 0, f"{GOOD}========= LEAK SUMMARY: 64 bytes leaked in 1 allocations\n{CLEAN}", "64 bytes leaked"),
        ("initcheck", 1, f"{GOOD}========= ERROR SUMMARY: 1 error\n", "1 errors found"),
        ("synccheck", 0, CLEAN, f"no test ran, exit status 0: {CLEAN.strip()}"),  # seen: it had not started the program
        ("synccheck", 0, f"FAILED sums\n1 of 4 failed\n{CLEAN}", "1 of 4 tests failed"),
        ("synccheck", 0, f"0 of 0 failed\n{CLEAN}", f"no test ran, exit status 0: {CLEAN.strip()}"),
        ("synccheck", 1, f"{GOOD}{CLEAN}", "exit status 1 behind its tests"),
        ("synccheck", -11, "", "no test ran, exit status -11: no output"),
    ],
)
def test_no_silence_is_taken_for_a_clean_result(tool: str, exit_code: int, output: str, complaint: str | None) -> None:
    assert load("gpu_check").complaint_of(tool, load("_check_run").Done(exit_code, output)) == complaint


@pytest.mark.parametrize(
    ("usable", "problem", "passed"),
    [
        (["torch", "nvcc"], "no CUDA device: torch 2.11.0 (CUDA 13.0) sees none", ()),
        (["nvcc", "device"], "torch >= 2.11 is needed, found 2.10.1", ("cpp_build", "cpp_tests", *SANITIZERS)),
        (["torch", "device"], "no CUDA toolkit (nvcc, headers, libcudart_static) was found", ()),
        (["torch", "nvcc", "device"], "not installed: mpmath", STEPS[1:]),
    ],
)
def test_what_the_machine_lacks_is_said(tree: Tree, usable: list[str], problem: str, passed: tuple[str, ...]) -> None:
    tree.tell(problems=[problem], usable=usable)
    status, printed = tree.run()
    assert status == 1
    steps = tree.steps()
    assert steps["facts"] == ("failed", problem)
    assert problem in printed
    assert {name for name in STEPS if steps[name][0] == "passed"} == set(passed)


def test_without_compute_sanitizer(tree: Tree) -> None:
    (tree.top / "bin" / "compute-sanitizer").unlink()
    status, _ = tree.run()
    steps = tree.steps()
    if steps["facts"][0] == "passed" and tree.summary()["facts"].get("compute_sanitizer"):
        pytest.skip("this machine has a compute-sanitizer of its own")
    assert status == 1
    assert steps["memcheck"] == ("failed", "compute-sanitizer is neither on PATH nor with the toolkit")
    assert steps["pytest"][0] == "passed"


def test_what_hangs_is_stopped_and_the_rest_is_recorded(tree: Tree) -> None:
    """A child that ignores SIGTERM, too; all within the limit."""
    start = time.monotonic()
    status, printed = tree.run("--limit", "6", fake="hang")
    assert time.monotonic() - start < 6 + 2
    assert status == 1
    steps = tree.steps()
    assert steps["pytest"][0] == "failed", printed
    assert steps["pytest"][1].startswith("stopped: not done after ")
    assert [steps[name] for name in STEPS[5:]] == 4 * [("not run", "out of time")]
    assert len(tree.pids()) == 2
    assert all(is_gone(process) for process in tree.pids())


def test_a_killed_run_leaves_what_it_had(tree: Tree) -> None:
    process = tree.start(fake="hang")
    try:
        deadline = time.monotonic() + 30
        while not ((tree.top / "pids").exists() and len(tree.pids()) == 2):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert tree.summary()["steps"][3]["status"] == "passed"  # before it has come to an end
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 1
    finally:
        process.kill()
        process.communicate()
    steps = tree.steps()
    assert steps["pytest"] == ("failed", "interrupted")
    assert steps["initcheck"] == ("not run", "interrupted")
    assert all(is_gone(pid) for pid in tree.pids())


def test_a_step_has_a_limit_of_its_own(tmp_path: Path) -> None:
    run = load("_check_run")

    def sleep(shell: Any) -> str:
        shell.run(["sleep", "60"])
        return "slept"

    def mistake(shell: Any) -> str:
        raise KeyError("x")

    steps = [
        run.Step("long", sleep, "a.log", 0.3),
        run.Step("mistaken", mistake, "b.log", 5),
        run.Step("short", lambda shell: str(shell.run(["echo", "hello"]).output), "a.log", 5),
        run.Step("needy", sleep, "c.log", 5, ("long",)),
    ]
    check = run.Check(steps, tmp_path, tmp_path, 60)
    assert not check.run()
    assert [step.status for step in steps] == ["failed", "failed", "passed", "not run"]
    assert steps[0].detail == "stopped: not done after 0 s"
    assert steps[1].detail == "the check itself failed: KeyError: 'x'"
    assert steps[2].detail == "hello\n"
    assert steps[3].detail == "needs long"
    assert "$ sleep 60\n$ echo hello\nhello\n" in (tmp_path / "a.log").read_text()


def test_long_logs_lose_their_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load("_check_run")
    assert run.clipped(io.BytesIO(b"0123456789"), 2, 8) == b"23456789"
    assert run.clipped(io.BytesIO(b"0123456789"), 2, 4) == b"23\n[... 4 bytes left out ...]\n89"
    monkeypatch.setattr(run, "LOG_BYTES", 1000)
    step = run.Step("talkative", lambda shell: str(len(shell.run(["seq", "10000"]).output)), "a.log", 20)
    assert run.Check([step], tmp_path, tmp_path, 60).run()
    log = (tmp_path / "a.log").read_text()
    assert len(log) < 1100
    assert "bytes left out" in log
    assert log.endswith("9999\n10000\n")
    assert step.detail == "48894"  # the step itself sees all of it


def fake_torch(version: str, count: int, compute: Callable[[], Any]) -> Any:
    properties = SimpleNamespace(name="NVIDIA H200", total_memory=1 << 37, multi_processor_count=132)
    cuda = SimpleNamespace(
        is_available=lambda: count > 0,
        device_count=lambda: count,
        get_device_properties=lambda index: properties,
        get_device_capability=lambda index: (9, 0),
    )
    tensor = SimpleNamespace(sum=lambda: SimpleNamespace(item=compute))
    return SimpleNamespace(
        __version__=version, version=SimpleNamespace(cuda="13.0"), cuda=cuda, ones=lambda *args, **options: tensor
    )


def fail() -> Any:
    raise RuntimeError("CUDA error: no kernel image is available\nmore")


@pytest.mark.parametrize(
    ("torch", "complaint", "devices"),
    [
        (fake_torch("2.11.0+cu130", 1, lambda: 3), "", 1),
        (fake_torch("2.11.0+cu130", 0, lambda: 3), "", 0),
        (fake_torch("2.10.9", 1, lambda: 3), "torch >= 2.11 is needed, found 2.10.9", None),
        (
            fake_torch("2.11.0", 1, fail),
            "torch sees NVIDIA H200 and cannot use it: CUDA error: no kernel image is available",
            1,
        ),
        (fake_torch("3.0.0a0", 1, lambda: 0), "torch computes nonsense on NVIDIA H200", 1),
        (None, "torch cannot be imported: ModuleNotFoundError: import of torch halted; None in sys.modules", None),
    ],
)
def test_what_is_said_of_torch(
    monkeypatch: pytest.MonkeyPatch, torch: Any, complaint: str, devices: int | None
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    facts: dict[str, Any] = {}
    assert load("_gpu_facts").torch_and_devices(facts) == complaint
    assert facts.get("devices") == devices


def test_benchmarks_in_order(tree: Tree) -> None:
    tree.out.mkdir()
    (tree.out / "ncu.csv").write_text("of an earlier run")
    status, printed = tree.run("--benchmarks")
    assert status == 0, printed
    summary = tree.summary()
    assert [step["name"] for step in summary["steps"]] == list(BENCHMARKS)
    assert {step["status"] for step in summary["steps"]} == {"passed"}
    assert (summary["passed"], summary["limit_seconds"]) == (True, 570)
    assert str(tree.top) not in json.dumps(summary)
    assert summary["facts"]["peaks"]["measured"]["copy, bytes/s"] == 4.32e12
    steps = tree.steps()
    assert steps["sass"][1] == "2 kernels, 0 spill, at most 168 registers (mma_kernel<256>)"
    assert steps["peaks"][1] == "of the datasheet: copy 90%, float32 multiply-adds 90%"
    assert steps["bench"][1] == "4 rows of 2 ops"
    assert steps["ncu"][1] == "3 launches of 3 kernels"
    results = {"h200.csv", "ncu.csv", "sass.csv"}
    files = {path.name for path in tree.out.iterdir()}
    assert files == {"summary.json", *results, *(step["log"] for step in summary["steps"])}
    assert len(files) <= 8
    kept = {"h200.csv": "h200.csv", "ncu.csv": "h200_ncu.csv", "sass.csv": "h200_sass.csv"}
    for file, name in {**kept, "summary.json": "gpu_benchmarks_h200.json"}.items():
        assert f"cp {tree.out / file} benchmarks/results/{name}\n" in printed
    assert "gpu_check_h200.json" not in printed
    log = (tree.out / "ncu.log").read_text()
    assert "--profile-from-start off" in log
    assert "--clock-control none" in log
    assert (tree.out / "h200.csv").read_text() == (tree.top / "bench.csv").read_text()
    forward, count, place = csv.DictReader((tree.out / "ncu.csv").open())
    assert forward == {
        "kernel": "forward_kernel<float, true, 4, 256>",
        "grid": "65536x1x1",
        "block": "256x1x1",
        "time_us": "130.560",
        "dram_bytes_per_second": "4.12346e+12",
        "of_peak_dram": "0.8625",
        "of_peak_sm": "0.4150",
        "occupancy": "0.8812",
        "registers": "32",
        "shared": "0",
        "blocks_by_registers": "8",
        "blocks_by_shared": "32",
        "blocks_by_warps": "8",
        "blocks_by_blocks": "32",
    }
    assert (count["kernel"], count["time_us"], count["shared"]) == ("count_kernel<0, 2, 128>", "12345.678", "9216")
    assert (place["grid"], place["of_peak_dram"], place["occupancy"]) == ("1056x2x1", "", "0.2500")


@pytest.mark.parametrize(
    ("fake", "failed"),
    [
        (
            "counters",
            {
                "ncu": "ncu may not read the performance counters (ERR_NVGPUCTRPERM): run it as root, or load the"
                " driver with NVreg_RestrictProfilingToAdminUsers=0"
            },
        ),
        ("gvisor", {"ncu": "ncu: Failed to initialize the profiler: LibraryNotLoaded; exit status 9"}),
        ("nothing", {"ncu": "ncu has profiled no kernel"}),
        ("unseen", {"ncu": "ncu has not seen hamming_topk: place_kernel"}),
        ("lost", {"ncu": "3 launches, and then it did not finish"}),
        ("bench", {"bench": "rdh bench ended with 1: RuntimeError: CUDA error: out of memory"}),
        ("half_bench", {"bench": "not measured: hamming_topk"}),
        (
            "odd_peaks spills",
            {
                "peaks": "copy, bytes/s: 9e+12 is above 4.8e+12, the datasheet's for H200 SXM",
                "sass": "2 kernels, 1 spill, at most 168 registers",
            },
        ),
        (
            "no_peaks no_disassembler",
            {
                "peaks": "peaks.cu does not compile: error: no room",
                "sass": "nvdisasm is not here; pip install nvidia-cuda-nvdisasm",
            },
        ),
        ("build", {"build": "python ended with exit status 1"}),
    ],
)
def test_a_benchmark_that_fails_leaves_the_others(tree: Tree, fake: str, failed: dict[str, str]) -> None:
    status, printed = tree.run("--benchmarks", fake=fake)
    assert status == 1
    steps = tree.steps()
    for name in BENCHMARKS:
        expected = "failed" if name in failed else "not run" if "build" in failed and name != "facts" else "passed"
        assert steps[name][0] == expected, (name, steps[name], printed)
        assert failed.get(name, "") in steps[name][1]
    whole = [name for name in ("bench", "ncu") if steps[name][0] == "passed"]
    assert ("results/h200.csv" in printed) == ("bench" in whole)
    assert ("results/gpu_benchmarks_h200.json" in printed) == ("build" not in failed)


def test_a_device_without_a_datasheet_is_measured(tree: Tree) -> None:
    status, _ = tree.run("--benchmarks", fake="no_sheet")
    assert status == 0
    assert tree.steps()["peaks"] == ("passed", "measured; no datasheet of NVIDIA H200 is known")


def test_benchmarks_that_take_too_long(tree: Tree) -> None:
    """What there is of the result is in OUT, and not recommended."""
    status, printed = tree.run("--benchmarks", "--limit", "6", fake="slow_bench")
    assert status == 1
    steps = tree.steps()
    assert steps["bench"][1].startswith("stopped: not done after ")
    assert steps["ncu"] == ("not run", "out of time")
    assert (tree.out / "h200.csv").exists()
    assert "results/h200.csv" not in printed


def test_without_ncu(tree: Tree) -> None:
    (tree.top / "bin" / "ncu").unlink()
    _, _ = tree.run("--benchmarks")
    if tree.steps()["ncu"][0] == "passed" or load("_gpu_benchmarks").find_tool("ncu", None, "/usr/local/cuda/bin"):
        pytest.skip("this machine has an ncu of its own")
    assert tree.steps()["ncu"][1] == "ncu is neither on PATH nor with the toolkit; it comes with Nsight Compute"
    assert tree.steps()["bench"][0] == "passed"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("void rdh::cuda::(anonymous namespace)::f<float, true, 4>(float const*)", "f<float, true, 4>"),
        ("void rdh::cuda::<unnamed>::f<float, (bool)1, (int)4>(const T1 *, T1 *, long)", "f<float, true, 4>"),
        ("void rdh::cuda::<unnamed>::g<(unsigned int)3, (bool)0>(int)", "g<3, false>"),
    ],
)
def test_names_of_kernels(name: str, plain: str) -> None:
    assert load("_ncu").plain_name(name) == plain


@pytest.mark.parametrize(
    ("text", "unit", "column", "value"),
    [
        ("1,234.5", "nsecond", "time_us", "1.234"),
        ("1.5", "ms", "time_us", "1500.000"),
        ("2", "us", "time_us", "2.000"),
        ("250", "ns", "time_us", "0.250"),
        ("4.1", "Tbyte/second", "dram_bytes_per_second", "4.1e+12"),
        ("4,100", "Gbyte/s", "dram_bytes_per_second", "4.1e+12"),
        ("85.5", "%", "of_peak_dram", "0.8550"),
        ("9.2", "Kbyte/block", "shared", "9200"),
        ("32", "register/thread", "registers", "32"),
        ("n/a", "%", "of_peak_dram", ""),
        ("", "", "shared", ""),
    ],
)
def test_numbers_of_ncu(text: str, unit: str, column: str, value: str) -> None:
    assert load("_ncu").number(text, unit, column) == value


def test_kernels_that_several_calls_launch_are_counted() -> None:
    rows = [{"kernel": name} for name in ("exact_kernel<float, 2>", "mma_kernel<1>")]
    missing = load("_ncu").missing
    assert missing(rows, {"a": ["exact_kernel<float"], "b": ["mma_kernel"]}) == []
    assert missing(rows, {"a": ["exact_kernel<float"], "b": ["exact_kernel"]}) == ["b: exact_kernel"]


def test_what_ncu_is_shown_runs() -> None:
    """Every call, at a small part of its size and on the CPU; its kernels are those of the budget."""
    calls = load("_ncu_calls")
    precision = calls.torch.get_float32_matmul_precision()
    try:
        every = calls.calls(scale=2000, device="cpu")
        for call, _ in every.values():
            call()
    finally:
        calls.torch.set_float32_matmul_precision(precision)
    with (HERE.parent / "csrc" / "kernels" / "cuda" / "budget.csv").open() as file:
        names = [row[1] for row in csv.reader(file) if len(row) > 1]
    expected = [*calls.TENSOR_CORE_KERNELS, *(kernel for _, kernels in every.values() for kernel in kernels)]
    assert [kernel for kernel in expected if not any(name.startswith(kernel) for name in names)] == []


def test_what_the_compiler_made_is_written(tmp_path: Path) -> None:
    """Of a library with two kernels, one of which keeps an array in local memory."""
    facts = load("_sass_facts")
    try:
        tools = facts.cubins.toolchain()
    except facts.ToolMissing as error:
        pytest.skip(str(error))
    source, library = tmp_path / "small_kernel.cu", tmp_path / "_ops_cuda.so"
    source.write_text(
        "namespace rdh::cuda { namespace {\n"
        "template <int N> __global__ void copy_kernel(const float4* in, float4* out) {"
        " out[threadIdx.x] = in[threadIdx.x + N]; }\n"
        "__global__ void spill_kernel(const float* in, float* out, unsigned place) {"
        " float a[64]; for (unsigned i = 0; i < 64; ++i) a[(place * i) % 64] = in[i]; out[0] = a[threadIdx.x % 64]; }\n"
        "} void launch(float4* x) { copy_kernel<1><<<1, 1>>>(x, x); spill_kernel<<<1, 1>>>(&x->x, &x->y, 1); } }\n"
    )
    target = "-gencode=arch=compute_90,code=sm_90"
    subprocess.run([tools.nvcc, "-shared", "-Xcompiler=-fPIC", target, source, "-o", library], check=True)
    out = tmp_path / "sass.csv"
    assert facts.main([str(library), "90", str(out)]) == 1  # it says so
    with out.open() as file:
        copy, spill = csv.DictReader(file)
    assert (copy["source"], copy["kernel"], copy["arch"]) == ("small_kernel.cu", "copy_kernel<1>", "sm_90")
    assert (copy["LDG"], copy["LDG_128"], copy["STG_128"], copy["FFMA"], copy["stack"]) == ("1", "1", "1", "0", "0")
    assert (spill["kernel"], spill["stack"]) == ("spill_kernel", "256")
    assert int(spill["STL"]) > 0
    assert facts.main([str(library), "80", str(out)]) == 2


def test_names_of_results() -> None:
    result_name = load("gpu_check").result_name
    assert result_name("NVIDIA H200", "benchmarks") == "gpu_benchmarks_h200.json"
    assert result_name("NVIDIA H200") == "gpu_check_h200.json"
    assert result_name("NVIDIA GeForce RTX 5090") == "gpu_check_geforce_rtx_5090.json"


def test_help_and_a_missing_argument() -> None:
    command = [str(HERE / "gpu_check.sh")]
    environment = {**os.environ, "PYTHON": sys.executable}
    told = subprocess.run([*command, "--help"], env=environment, capture_output=True, text=True, check=True).stdout
    assert "compute-sanitizer" in told
    assert "--benchmarks" in told
    missing = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "OUT is missing" in missing.stderr
    environment["PYTHON"] = "no-such-python"
    missing = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "no-such-python was not found; set PYTHON" in missing.stderr


def test_without_a_device_it_ends_at_once(tmp_path: Path) -> None:
    """The real thing, on this machine, all devices hidden."""
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = [str(HERE / "gpu_check.sh"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    first, *rest = summary["steps"]
    assert first["status"] == "failed"
    assert "no CUDA device: torch " in first["detail"]
    assert {step["status"] for step in rest} == {"not run"}
    assert len(summary["facts"]["sources_sha256"]) == 64
    assert "no CUDA device" in done.stdout
