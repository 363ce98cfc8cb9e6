"""The compile gates hold for the shipped kernels, and each of them can fail: needs nvcc, and no GPU."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path

import cubins
import gates
import pytest
from cubins import ARCHS, CompileFailure, Kernel, Toolchain
from gates import BudgetFailure, Key
from sass_rules import RULES, Rule
from toolkit import ROOT, ToolMissing

HERE = Path(__file__).parent
SOURCES = sorted({*gates.kernel_sources(), *gates.ruled_sources()})
JOBS = [pytest.param(s, arch, id=f"{s.name}-sm_{arch}") for s in SOURCES for arch in gates.archs_of(s)]
SHIPPED = [job for job in JOBS if job.values[0] in gates.kernel_sources()]


def without(reason: str) -> None:
    """Skips, or fails where the environment says that CUDA has to be there."""
    if os.environ.get("RDH_EXT_CUDA") == "1":
        pytest.fail(f"RDH_EXT_CUDA=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def tools() -> Toolchain:
    try:
        return cubins.toolchain()
    except ToolMissing as error:
        without(str(error))
        raise


# what is shipped


@pytest.mark.parametrize(("source", "arch"), JOBS)
def test_compiles_without_warnings_and_spills(source: Path, arch: int, tools: Toolchain) -> None:
    assert cubins.kernels_of(source, arch)


@pytest.mark.parametrize(("source", "arch"), SHIPPED)
def test_is_in_the_budget_and_the_budget_is_not_stale(source: Path, arch: int, tools: Toolchain) -> None:
    kernels, budget = cubins.kernels_of(source, arch), gates.read_budget()
    lines = [key for key in budget.lines if (key.source, key.arch) == (source.name, arch)]
    failures = gates.unbudgeted(kernels, budget) + gates.stale(kernels, lines)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("column", gates.COLUMNS)
@pytest.mark.parametrize(("source", "arch"), SHIPPED)
def test_stays_within_its_budget(source: Path, arch: int, column: str, tools: Toolchain) -> None:
    budget = gates.read_budget()
    skipped = gates.registers_skipped(budget, tools.version)
    if column == "registers" and skipped:
        pytest.skip(skipped)
    failures = gates.above_budget(cubins.kernels_of(source, arch), budget, [column])
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize(("source", "arch"), SHIPPED)
def test_uses_no_local_memory(source: Path, arch: int, tools: Toolchain) -> None:
    failures = gates.local_memory(cubins.kernels_of(source, arch), gates.read_budget())
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("rule", [pytest.param(r, id=f"{Path(r.source).stem}: {r.why}") for r in RULES])
def test_instructions(rule: Rule, tools: Toolchain) -> None:
    kernels = [kernel for arch in rule.archs for kernel in cubins.kernels_of(ROOT / rule.source, arch)]
    failures = gates.broken_rules(kernels, rule)
    assert not failures, "\n".join(failures)


def test_budget_knows_no_other_source_or_architecture() -> None:
    known = {(source.name, arch) for source in gates.kernel_sources() for arch in ARCHS}
    assert {(key.source, key.arch) for key in gates.read_budget().lines} == known


def test_budget_is_what_would_be_written() -> None:
    assert gates.read_budget().text() == gates.BUDGET.read_text()


# each gate can fail: what the compiler refuses

WARNS = """
__global__ void kernel(int* out) {
  int unused;
  out[threadIdx.x] = 1;
}
"""
WARNS_ON_THE_HOST = """
__global__ void kernel(int* out) { out[threadIdx.x] = 1; }
static int unused() { return 1; }
"""
SPILLS = """
__global__ void __launch_bounds__(1024, 2) kernel(const float* in, float* out) {
  float v[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) v[i] = in[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) out[i * 1024 + threadIdx.x] = v[i] * v[95 - i] + v[(i * 7) % 96];
}
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(WARNS, '"unused" was declared but never referenced', id="warning in a kernel"),
        pytest.param(WARNS_ON_THE_HOST, "unused", id="warning in host code"),
        pytest.param(SPILLS, "Registers are spilled", id="spilling"),
    ],
)
def test_compiler_refuses(text: str, complaint: str, tmp_path: Path, tools: Toolchain) -> None:
    source = tmp_path / "planted.cu"
    source.write_text(text)
    with pytest.raises(CompileFailure, match=complaint):
        cubins.compile_cubin(source, 80, tools, tmp_path)
    assert not list(tmp_path.glob("*.stamp"))  # nor is it taken for compiled the next time
    gentle = [flag for flag in cubins.nvcc_flags(80) if flag not in cubins.build_script().STRICT_NVCC_FLAGS]
    cubins.ask([tools.nvcc, *gentle, source, "-o", tmp_path / "gentle.cubin"])


def test_strict_build_refuses_what_only_the_host_compiler_warns_about(tmp_path: Path, tools: Toolchain) -> None:
    setup, source = cubins.build_script(), tmp_path / "planted.cu"
    source.write_text("int host(int unused_parameter) { return 1; }\n")
    command = [tools.nvcc, *setup.NVCC_FLAGS, "-c", source, "-o", tmp_path / "planted.o"]
    cubins.ask(command)
    with pytest.raises(CompileFailure, match="unused_parameter"):
        cubins.ask([*command, *setup.STRICT_NVCC_FLAGS])


def test_strict_build_refuses_a_warning_of_ours_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = cubins.build_script()
    theirs, ours, source = tmp_path / "theirs", tmp_path / "ours", tmp_path / "planted.cpp"
    for folder in (theirs, ours):
        folder.mkdir()
        (folder / f"{folder.name}.h").write_text(f"inline void f() {{ int unused_of_{folder.name}; }}\n")

    def complaint_about(header: str, strict: str) -> str:
        monkeypatch.setenv("RDH_EXT_STRICT", strict)
        extension = setup.Extension("planted", [], include_dirs=[str(theirs)], extra_compile_args={"cxx": ["-Wall"]})
        flags = setup.make_strict(extension).extra_compile_args["cxx"]
        source.write_text(f'#include "{header}"\n')
        command = ["c++", "-fsyntax-only", f"-I{ours}", f"-I{theirs}", *flags, str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stderr if done.returncode else ""

    assert "unused_of_ours" in complaint_about("ours.h", "1")
    assert complaint_about("ours.h", "0") == ""
    assert complaint_about("theirs.h", "1") == ""


def test_strictness_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = cubins.build_script()
    monkeypatch.delenv("RDH_EXT_STRICT", raising=False)
    assert not setup.strictness()
    monkeypatch.setenv("RDH_EXT_STRICT", "yes")
    with pytest.raises(SystemExit, match="RDH_EXT_STRICT must be 0 or 1, got 'yes'"):
        setup.strictness()


# each gate can fail: what is read from the cubin

SAMPLE = """
namespace rdh::cuda {
namespace {
template <class T, bool Flag, int Threads>
__global__ void __launch_bounds__(Threads) sample_kernel(const T* in, T* out, unsigned place) {
  __shared__ T tile[Threads];
  T local[64];
  for (unsigned i = 0; i < 64; ++i) local[(place * i) % 64] = in[i];  // an unknown index keeps the array in memory
  tile[threadIdx.x] = local[threadIdx.x % 64];
  __syncthreads();
  out[threadIdx.x] = Flag ? tile[Threads - 1 - threadIdx.x] : tile[0];
}
}  // namespace
void launch(const float* in, float* out) { sample_kernel<float, true, 64><<<1, 64>>>(in, out, 1); }
}  // namespace rdh::cuda
__global__ void wide_kernel(const float4* in, float4* out) { out[threadIdx.x] = in[threadIdx.x]; }
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, tools: Toolchain) -> list[Kernel]:
    source = tmp_path_factory.mktemp("sample") / "sample_kernel.cu"
    source.write_text(SAMPLE)
    return list(cubins.kernels_of(source, 80, source.parent))


def test_reads_names_and_resources(sample: list[Kernel]) -> None:
    named = {kernel.name: kernel for kernel in sample}
    assert list(named) == ["sample_kernel<float, true, 64>", "wide_kernel"]
    assert named["sample_kernel<float, true, 64>"].shared == 64 * 4
    assert named["sample_kernel<float, true, 64>"].stack == 64 * 4
    assert named["wide_kernel"].stack == named["wide_kernel"].shared == 0
    assert all(8 <= kernel.registers <= 64 for kernel in sample)


def test_compiles_anew_what_has_changed_and_nothing_else(tmp_path: Path, tools: Toolchain) -> None:
    source, header = tmp_path / "small.cu", tmp_path / "small.h"
    header.write_text("constexpr int value = 1;\n")
    source.write_text('#include "small.h"\n__global__ void kernel(int* out) { *out = value; }\n')
    cubin = cubins.compile_cubin(source, 80, tools, tmp_path / "out")
    first, when = cubin.read_bytes(), cubin.stat().st_mtime_ns
    assert cubins.compile_cubin(source, 80, tools, tmp_path / "out").stat().st_mtime_ns == when
    header.write_text("constexpr int value = 2;\n")
    assert cubins.compile_cubin(source, 80, tools, tmp_path / "out").read_bytes() != first


@pytest.mark.parametrize("column", gates.COLUMNS)
def test_above_and_below_the_budget(sample: list[Kernel], column: str) -> None:
    budget = gates.budget_of(sample, "13.0.88")
    assert gates.above_budget(sample, budget) == gates.below_budget(sample, budget) == []
    key = Key("sample_kernel.cu", "sample_kernel<float, true, 64>", 80)
    used = budget.lines[key][column]
    budget.lines[key] = {**budget.lines[key], column: used - 1}
    [line] = gates.above_budget(sample, budget)
    assert line.startswith(f"sample_kernel.cu: {key.kernel} on sm_80: {column} {used}, budget {used - 1};")
    assert "gates.py --write" in line
    budget.lines[key] = {**budget.lines[key], column: used + 1}
    assert gates.above_budget(sample, budget) == []
    [line] = gates.below_budget(sample, budget)
    assert f"{column} {used}, budget {used + 1}; could be tightened" in line


def test_missing_and_stale_lines(sample: list[Kernel]) -> None:
    budget = gates.budget_of(sample, "13.0.88")
    [line] = gates.stale(sample[:1], budget.lines)
    assert line.startswith("sample_kernel.cu: wide_kernel on sm_80: is in the budget and not in the sources")
    del budget.lines[gates.key_of(sample[0])]
    [line] = gates.unbudgeted(sample, budget)
    assert line.startswith("sample_kernel.cu: sample_kernel<float, true, 64> on sm_80: is not in the budget")


def test_local_memory_needs_the_leave_of_the_budget(sample: list[Kernel]) -> None:
    budget = gates.budget_of(sample, "13.0.88")
    assert gates.local_memory(sample, budget) == []
    budget.lines[gates.key_of(sample[0])]["stack"] = 0
    [line] = gates.local_memory(sample, budget)
    assert "sample_kernel<float, true, 64> on sm_80: local memory of 256 bytes (" in line
    assert "LDL" in line
    assert "STL" in line
    unseen = dataclasses.replace(sample[0], stack=0)  # instructions alone suffice, and so does the stack alone
    assert len(gates.local_memory([unseen], budget)) == 1
    assert len(gates.local_memory([dataclasses.replace(sample[0], instructions=())], budget)) == 1


@pytest.mark.parametrize(
    ("kernel", "must", "never", "complaint"),
    [
        ("wide_kernel", r"LDG\.E\.128\b", r"BAR\b", None),
        ("sample_kernel<.*", r"BAR\.SYNC\b", r"HMMA\b", None),
        ("wide_kernel", r"HMMA\b", r"BAR\b", r"no instruction HMMA"),
        ("wide_kernel", r"DG\.E\.128\b", r"BAR\b", r"no instruction DG"),  # not somewhere inside a name
        ("sample_kernel<.*", r"LDG\b", r"BAR\b", r"1 times BAR"),
        ("wide", r"LDG\b", r"BAR\b", r"no kernel matches wide of the rule"),
    ],
)
def test_rules_are_met_or_broken(
    sample: list[Kernel], kernel: str, must: str, never: str, complaint: str | None
) -> None:
    rule = Rule("what it is for", "sample_kernel.cu", kernel, must=(must,), never=(never,), archs=(80,))
    failures = gates.broken_rules(sample, rule)
    assert len(failures) == (complaint is not None)
    if complaint:
        assert complaint in failures[0]
        assert "what it is for" in failures[0]
    other = dataclasses.replace(rule, archs=(90,))
    assert "no kernel matches" in gates.broken_rules(sample, other)[0]


def test_instructions_are_read_without_predicates_and_encodings() -> None:
    lines = [
        "        /*0070*/              @!P0 EXIT ;                             /* 0x000000000000094d */",
        "                                                                      /* 0x000fea0003800000 */",
        "        /*00a0*/         @UP2 UIADD3 UR4, UR4, 0x1, URZ ;             /* 0x0000000104047890 */",
        "        /*1230*/              LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;  /* 0x0000000402047981 */",
        ".L_x_0:",
    ]
    found = cubins.instructions_of("\n".join(lines))
    assert found == ("EXIT", "UIADD3 UR4, UR4, 0x1, URZ", "LDG.E.128.CONSTANT R4, desc[UR4][R2.64]")


@pytest.mark.parametrize(
    ("demangled", "name"),
    [
        ("void rdh::cuda::(anonymous namespace)::f<float, true, 4>(float const*, long)", "f<float, true, 4>"),
        ("void rdh::cuda::f<rdh::Pack<float, 2>, (rdh::Kind)1>(int (*)(int))", "f<rdh::Pack<float, 2>, (rdh::Kind)1>"),
        ("rdh::cuda::detail::f(unsigned int)", "detail::f"),
        ("plain_c_name", "plain_c_name"),
    ],
)
def test_names(demangled: str, name: str) -> None:
    assert cubins.short_name(demangled) == name


# the file, the command, the tools


def test_another_nvcc_counts_no_registers() -> None:
    budget = gates.Budget("13.0.88")
    assert gates.registers_skipped(budget, "13.0.88") is None
    assert gates.registers_skipped(budget, "13.2.1") == (
        "registers are not compared: the budget was made with nvcc 13.0.88, this is 13.2.1"
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("# nvcc", "nvcc", "does not begin with the release of nvcc"),
        ("registers,stack", "stack,registers", "does not begin with the release of nvcc"),
        ("sm_75,", "sm_75,few", r"budget.csv:3: .* invalid literal for int\(\) with base 10: .few\d+."),
        (",sm_80", ",sm_75", r"budget.csv:4: .* on sm_75 is there twice"),
        (",0\n", "\n", r"budget.csv:\d+: .*zip"),
    ],
)
def test_budget_file_that_is_not_one(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "budget.csv"
    text = gates.BUDGET.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BudgetFailure, match=complaint):
        gates.read_budget(path)


def test_command_checks_and_writes(tmp_path: Path, tools: Toolchain, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "budget.csv"
    assert gates.main(["--budget", str(path)]) == 1
    assert "gates.py --write makes it" in capsys.readouterr().err
    budget = gates.read_budget()
    key = next(iter(budget.lines))
    tight = {**budget.lines[key], "shared": -1, "registers": 1}
    path.write_text(gates.Budget("1.0", {**budget.lines, key: tight}).text())
    assert gates.main(["--budget", str(path)]) == 1
    printed = capsys.readouterr().out
    assert f"{key}: shared {budget.lines[key]['shared']}, budget -1; if that is meant" in printed
    assert "registers are not compared: the budget was made with nvcc 1.0" in printed
    assert f"{key}: registers" not in printed
    assert gates.main(["--budget", str(path), "--write"]) == 0
    assert gates.main(["--budget", str(path)]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["budget.csv"]
    if budget.nvcc == tools.version:
        assert path.read_text() == gates.BUDGET.read_text() or gates.below_budget(
            [kernel for job in SHIPPED for kernel in cubins.kernels_of(*job.values)], budget
        )


def test_command_explains_itself() -> None:
    done = subprocess.run([sys.executable, HERE / "gates.py", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "--write" in done.stdout
    assert "budget.csv" in done.stdout


def test_readers_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: tmp_path / name / "cuobjdump" for name in ("path", "cuda_home/bin", "toolkit/bin", "wheel")}
    places["triton"] = tmp_path / "triton" / "backends" / "nvidia" / "bin" / "cuobjdump"
    for place in places.values():
        place.parent.mkdir(parents=True)
        place.touch()
        place.chmod(place.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "triton" / "__init__.py").touch()
    monkeypatch.setenv("PATH", str(places["path"].parent))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda_home"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    monkeypatch.setattr(cubins, "in_wheel", lambda *_: str(places["wheel"]) if places["wheel"].exists() else None)
    for name, place in places.items():
        assert cubins.find_reader("cuobjdump", tmp_path / "toolkit") == place, name
        place.unlink()
    with pytest.raises(ToolMissing, match="cuobjdump is not here; pip install nvidia-cuda-cuobjdump"):
        cubins.find_reader("cuobjdump", tmp_path / "toolkit")


def test_what_is_missing_is_a_skip_here_and_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDH_EXT_CUDA", "1")
    with pytest.raises(pytest.fail.Exception, match="RDH_EXT_CUDA=1, but nvdisasm is not here"):
        without("nvdisasm is not here")
    monkeypatch.setenv("RDH_EXT_CUDA", "auto")
    with pytest.raises(pytest.skip.Exception, match="nvdisasm is not here"):
        without("nvdisasm is not here")
    monkeypatch.setenv("RDH_EXT_CUDA", "0")
    with pytest.raises(ToolMissing, match="nvcc: switched off by RDH_EXT_CUDA=0"):
        cubins.find_nvcc()
