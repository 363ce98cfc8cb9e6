"""What devices do at most: datasheets agree with themselves, CPU rates can be true, the GPU code does what it times."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from benchmark_modules import HERE, load

import rdh_ext

peaks, datasheets = load("peaks", "datasheets")
SHEETS = [pytest.param(sheet, id=sheet.name) for sheet in datasheets.DATASHEETS]
LEVELS = [level for level in rdh_ext.build_info()["cpu_levels"] if level in datasheets.LANES]


@pytest.mark.parametrize("sheet", SHEETS)
def test_datasheets_agree_with_themselves(sheet: Any) -> None:
    assert sheet.multiprocessors * sheet.lanes * 2 * sheet.clock == pytest.approx(sheet.fp32, rel=0.03)
    assert sheet.popc() == sheet.multiprocessors * 16 * sheet.clock
    assert [sheet.pairs(bits) for bits in (24, 32, 64, 128)] == [sheet.popc() / words for words in (1, 1, 2, 4)]
    assert 2e11 < sheet.bandwidth < 1e13
    assert (sheet.tf32 is None) == (sheet.bf16 is None)
    if sheet.bf16 is not None:
        assert sheet.bf16 == pytest.approx(2 * sheet.tf32, rel=0.03)
        assert sheet.fp32 <= sheet.tf32
    assert "GB/s" in sheet.source or "TB/s" in sheet.source


def test_the_floor_that_kernel_headers_name() -> None:
    """They count with 1.755 GHz, below the boost clock: 1.85e12 pairs of 64 bits, of 2.09e12."""
    h200 = datasheets.datasheet("NVIDIA H200")
    assert h200.pairs(64) * 1.755e9 / h200.clock == pytest.approx(1.85e12, rel=0.005)
    assert h200.pairs(64) == pytest.approx(2.09e12, rel=0.005)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
        ("Tesla T4", "T4"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 5090", "GeForce RTX 5090"),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA A100-PCIE-40GB", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("", None),
    ],
)
def test_datasheets_are_found_by_the_names_of_devices(device: str, name: str | None) -> None:
    found = datasheets.datasheet(device)
    assert (found and found.name) == name
    assert peaks.datasheet(device) is found


def measured(sheet: Any, bandwidth: float = 0.9, fp32: float = 0.9, pairs: float = 0.9) -> Any:
    rates = {bits: pairs * sheet.pairs(bits) for bits in (32, 64, 128)}
    return peaks.Ceilings(bandwidth * sheet.bandwidth, fp32 * sheet.fp32, rates)


@pytest.mark.parametrize("sheet", SHEETS)
def test_what_can_hardly_be_true_is_said(sheet: Any) -> None:
    assert peaks.sane(measured(sheet), sheet) == []
    assert peaks.sane(measured(sheet, 1.04, 0.51, 1.04), sheet) == []
    [line] = peaks.sane(measured(sheet, bandwidth=1.06), sheet)
    assert re.fullmatch(rf"copy, bytes/s: .* is above .*, the datasheet's for {sheet.name}", line)
    [line] = peaks.sane(measured(sheet, fp32=0.49), sheet)
    assert line.startswith("multiply-adds, FLOP/s: ")
    assert " is below half of " in line
    assert len(peaks.sane(measured(sheet, pairs=2), sheet)) == 3
    assert len(peaks.sane(measured(sheet, pairs=float("nan")), sheet)) == 3


# this CPU


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    return tmp_path_factory.getbasetemp() / "peaks"


@pytest.mark.parametrize("level", LEVELS)
def test_multiply_adds_are_below_the_bound_and_not_far(level: str, cache: Path) -> None:
    rate = max(peaks.Peaks(level, cache).fma(seconds=0.01) for _ in range(3))
    clock = max(peaks.core_clock(cache), datasheets.cpu_clock())
    assert 0.8e9 < clock < 8e9
    bound = peaks.cpu_peak_flops(level, clock)
    assert bound / 4 < rate < 1.1 * bound  # a tenth: the clock moves between two measurements
    assert peaks.cpu_peak_flops(level, clock, threads=3) == 3 * bound


def test_the_bound_takes_what_the_system_says_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(()))
    assert datasheets.cpu_clock() == 0


def test_copies(cache: Path) -> None:
    for nbytes in (1, 1 << 16, 1 << 25):
        assert 0 < peaks.copy_bandwidth(nbytes, 0.01) < 1e12
    assert 1e9 < peaks.copy_bandwidth(1 << 25, 0.05) < 1e12


def test_a_report_of_the_cpu(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "CACHE", cache)
    monkeypatch.setattr(peaks.Peaks.__init__, "__defaults__", (cache,))
    monkeypatch.setattr(peaks.Memory.__init__, "__defaults__", (cache,))
    monkeypatch.setattr(peaks.core_clock, "__defaults__", (cache, 0.01))
    monkeypatch.setattr(peaks, "copy_bandwidth", lambda nbytes, seconds: 1e10)
    report = peaks.cpu_report()
    assert all(rate > 0 for rate in report["measured"].values())
    assert set(report["datasheet"]) <= set(report["measured"])
    if LEVELS:
        assert set(report["datasheet"]) == {
            f"{level}: multiply-adds, FLOP/s" for level in LEVELS if level in ("avx2", "avx512")
        }


# a GPU


def test_without_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(peaks.Unavailable, match="no CUDA device is available to PyTorch"):
        peaks.CudaPeaks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(peaks.shutil, "which", lambda name, path=None: None)
    with pytest.raises(peaks.Unavailable, match="no nvcc was found; install the CUDA toolkit or set CUDA_HOME"):
        peaks.CudaPeaks(tmp_path)


class Library:
    """A stand-in for the compiled peaks.cu."""

    def __init__(self, rate: float) -> None:
        def function(*arguments: Any) -> float:
            self.asked.append(arguments)
            return rate

        self.asked: list[tuple[Any, ...]] = []
        self.peaks_problem = lambda rate: b"out of memory"
        self.copy_bytes_per_second = self.scan_pairs_per_second = self.fma_flops_per_second = function


def cuda_peaks(monkeypatch: pytest.MonkeyPatch, rate: float) -> tuple[Any, Library]:
    library = Library(rate)
    monkeypatch.setattr(peaks, "_capability", lambda: "90")
    monkeypatch.setattr(peaks, "compiled_cuda", lambda cache, capability: Path("none.so"))
    monkeypatch.setattr(peaks, "_loaded", lambda path: library)
    return peaks.CudaPeaks(), library


def test_what_the_library_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, library = cuda_peaks(monkeypatch, 3.0)
    assert gpu.ceilings(1 << 20, 0.5) == peaks.Ceilings(3.0, 3.0, {32: 3.0, 64: 3.0, 128: 3.0})
    assert library.asked == [(1, 0.5), (2, 0.5), (4, 0.5), (1 << 20, 0.5), (0.5,)]
    gpu.scan(33)
    assert library.asked[-1] == (2, 0.05)
    with pytest.raises(peaks.Unavailable, match="up to 128 bits, these have 129"):
        gpu.scan(129)


def test_what_the_device_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, _ = cuda_peaks(monkeypatch, -2.0)
    with pytest.raises(peaks.Unavailable, match="fma_flops_per_second: out of memory"):
        gpu.fma()


@pytest.mark.parametrize("share", [0.9, 1.2])
def test_a_report_of_a_gpu(share: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = datasheets.datasheet("NVIDIA H200")
    fake = type("Fake", (), {"ceilings": lambda self: measured(sheet, share)})
    monkeypatch.setattr(peaks, "CudaPeaks", fake)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(sys, "argv", ["peaks.py", "--device", "cuda"])
    assert peaks.main() == (1 if share > 1.05 else 0)
    printed = capsys.readouterr().out
    assert f"{100 * share:5.1f} % of at most 4.8e+12" in printed
    assert printed.count("above 4.8e+12, the datasheet's for H200 SXM") == (2 if share > 1.05 else 0)  # and as JSON
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H300")
    assert peaks.main() == 0
    assert '"datasheet": {}' in capsys.readouterr().out


@pytest.mark.cuda
def test_peaks_of_the_device_at_hand() -> None:
    try:
        gpu = peaks.CudaPeaks()
    except peaks.Unavailable as reason:
        pytest.skip(str(reason))
    ceilings = gpu.ceilings(1 << 28, 0.05)
    assert ceilings.pairs[32] > ceilings.pairs[64] > ceilings.pairs[128] > 0
    sheet = datasheets.datasheet(torch.cuda.get_device_name())
    assert sheet is None or peaks.sane(ceilings, sheet) == []


@pytest.fixture(scope="module")
def sass(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The kernels of peaks.cu as the compiler made them, by name."""
    simt = str(HERE.parent / "tests" / "simt")
    sys.path.insert(0, simt)
    try:
        cubins: ModuleType = importlib.import_module("cubins")
        toolkit: ModuleType = importlib.import_module("toolkit")
    finally:
        sys.path.remove(simt)
    try:
        tools = cubins.toolchain()
    except toolkit.ToolMissing as error:
        pytest.skip(str(error))
    cubin = tmp_path_factory.mktemp("peaks") / "peaks.cubin"
    options = [flag for flag in peaks.NVCC_FLAGS if flag not in ("-shared", "-Xcompiler=-fPIC")]
    strict = ["-Werror=all-warnings", "-Xptxas=--warn-on-spills", "-cubin", "-gencode=arch=compute_90,code=sm_90"]
    subprocess.run([tools.nvcc, *options, *strict, HERE / "peaks.cu", "-o", cubin], check=True)
    return {kernel.name: kernel for kernel in cubins.read_cubin(cubin, "peaks.cu", 90, tools)}


@pytest.mark.parametrize(
    ("name", "instruction", "count"),
    [
        ("copy_kernel", r"LDG\.E\.128\b", 4),
        ("copy_kernel", r"STG\.E\.128\b", 4),
        ("fma_kernel", r"FFMA\b", 16 * 16),
        ("scan_kernel<1", r"POPC\b", 8),
        ("scan_kernel<2", r"POPC\b", 2 * 8),
        ("scan_kernel<4", r"POPC\b", 4 * 8),
        ("scan_kernel<2", r"LDS(\.U)?\.(64|128)\b", 1),
    ],
)
def test_what_is_measured_is_in_the_loops(sass: dict[str, Any], name: str, instruction: str, count: int) -> None:
    [kernel] = [kernel for known, kernel in sass.items() if known.removeprefix("peaks::").startswith(name)]
    assert kernel.stack == 0
    assert not [line for line in kernel.instructions if re.match(r"(LDL|STL)\b", line)]
    assert len([line for line in kernel.instructions if re.match(instruction, line)]) >= count
    branches = [line for line in kernel.instructions if line.startswith("BRA")]
    assert len(branches) > 1  # loops were not unrolled altogether


def test_a_library_is_built_once(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc here")
    first = peaks.compiled_cuda(tmp_path, "90")
    when = first.stat().st_mtime_ns
    assert peaks.compiled_cuda(tmp_path, "90") == first
    assert first.stat().st_mtime_ns == when
    library = peaks._loaded(first)
    assert all(hasattr(library, name) for name in ("copy_bytes_per_second", "peaks_problem"))
