"""What GPUs do at most by the documents of their maker, and whether what was measured can be true.

A number stands here with the document that has it; what documents do not agree on is left out. Rates are dense: what
NVIDIA prints for tensor cores with sparsity is halved. ``clock`` is the boost clock at which the float32 rate holds;
under load a card may run below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

POPC_PER_CLOCK = 16
"""32-bit population counts per clock and multiprocessor, compute capability 7.5 to 12.0: CUDA C++ Programming Guide,
"Throughput of Native Arithmetic Instructions"."""
TOO_HIGH, TOO_LOW = 1.05, 0.5
CODE_BITS = (32, 64, 128)


@dataclass(frozen=True)
class Datasheet:
    """A GPU; rates per second. ``tf32`` and ``bf16`` are the tensor cores', None where they have no such thing."""

    name: str
    pattern: str  # of the name that torch gives the device
    bandwidth: float
    fp32: float
    tf32: float | None
    bf16: float | None
    multiprocessors: int
    lanes: int  # float32 multiply-adds per clock and multiprocessor
    clock: float
    source: str

    def popc(self) -> float:
        """32-bit population counts per second."""
        return self.multiprocessors * POPC_PER_CLOCK * self.clock

    def pairs(self, bits: int) -> float:
        """Pairs of codes whose distance can be counted per second, a population count for every 32 bits."""
        return self.popc() / -(-bits // 32)


@dataclass(frozen=True)
class Ceilings:
    """What was measured on a device; ``pairs`` by the bits of a code. Bytes are read plus written."""

    bandwidth: float
    fp32: float
    pairs: Mapping[int, float]


HOPPER = "NVIDIA H100 Tensor Core GPU Architecture (whitepaper)"
AMPERE = "NVIDIA A100 Tensor Core GPU Architecture (whitepaper)"
ADA = "NVIDIA Ada GPU Architecture (whitepaper)"
TURING = "NVIDIA Turing GPU Architecture (whitepaper)"
BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture (whitepaper)"

DATASHEETS = (
    Datasheet(
        "H200 SXM",
        r"NVIDIA H200",
        *(4.8e12, 67e12, 494.5e12, 989.5e12),
        *(132, 128, 1.98e9),
        f"NVIDIA H200 Tensor Core GPU (datasheet): 4.8 TB/s, 67, 989 and 1,979 TFLOPS, the last two sparse; {HOPPER}: "
        "multiprocessors and clock of the same chip",
    ),
    Datasheet(
        "H100 SXM",
        r"NVIDIA H100 80GB HBM3",
        *(3.35e12, 67e12, 494.5e12, 989.5e12),
        *(132, 128, 1.98e9),
        f"NVIDIA H100 Tensor Core GPU (datasheet): 3.35 TB/s, 67, 989 and 1,979 TFLOPS, the last two sparse; {HOPPER}",
    ),
    Datasheet(
        "A100 80GB SXM",
        r"NVIDIA A100-SXM4-80GB",
        *(2.039e12, 19.5e12, 156e12, 312e12),
        *(108, 64, 1.41e9),
        f"NVIDIA A100 Tensor Core GPU (datasheet): 2,039 GB/s, 19.5, 156 and 312 TFLOPS; {AMPERE}",
    ),
    Datasheet(
        "L40S",
        r"NVIDIA L40S",
        *(864e9, 91.6e12, 183e12, 362.05e12),
        *(142, 128, 2.52e9),
        f"NVIDIA L40S (datasheet): 864 GB/s, 91.6, 183 and 362.05 TFLOPS; {ADA}: multiprocessors of 128 lanes",
    ),
    Datasheet(
        "L4",
        r"NVIDIA L4",
        *(300e9, 30.3e12, 60e12, 121e12),
        *(58, 128, 2.04e9),
        f"NVIDIA L4 (datasheet): 300 GB/s, 30.3, 120 and 242 TFLOPS, the last two sparse; {ADA}: 128 lanes",
    ),
    Datasheet(
        "T4",
        r"(Tesla|NVIDIA) T4",
        *(320e9, 8.1e12, None, None),
        *(40, 64, 1.59e9),
        f"NVIDIA T4 (datasheet): 320 GB/s, 8.1 TFLOPS; {TURING}: 40 multiprocessors of 64 lanes, 1,590 MHz",
    ),
    Datasheet(
        "GeForce RTX 4090",
        r"NVIDIA GeForce RTX 4090",
        *(1.008e12, 82.6e12, 82.6e12, 165.2e12),
        *(128, 128, 2.52e9),
        f"{ADA}: 1,008 GB/s, 82.6 TFLOPS, 128 multiprocessors, 2,520 MHz; tensor rates with float32 accumulation",
    ),
    Datasheet(
        "GeForce RTX 5090",
        r"NVIDIA GeForce RTX 5090",
        *(1.792e12, 104.8e12, 104.8e12, 209.5e12),
        *(170, 128, 2.407e9),
        f"{BLACKWELL}: 1,792 GB/s, 104.8 TFLOPS, 170 multiprocessors, 2,407 MHz; tensor rates with float32 "
        "accumulation",
    ),
)


def datasheet(device: str) -> Datasheet | None:
    """Of a device by the name that torch has for it ("NVIDIA H200"); None where there is none of exactly this one."""
    return next((sheet for sheet in DATASHEETS if re.fullmatch(sheet.pattern, device.strip())), None)


def sane(measured: Ceilings, sheet: Datasheet) -> list[str]:
    """What of the measured ceilings can hardly be true, in sentences: more than a twentieth above the datasheet, or
    below half of it."""
    compared = {
        "copy, bytes/s": (measured.bandwidth, sheet.bandwidth),
        "multiply-adds, FLOP/s": (measured.fp32, sheet.fp32),
        **{f"scan of {bits} bits, pairs/s": (rate, sheet.pairs(bits)) for bits, rate in measured.pairs.items()},
    }
    complaints = []
    for what, (rate, peak) in compared.items():
        if not TOO_LOW * peak <= rate <= TOO_HIGH * peak:
            where = "above" if rate > peak else "below half of"
            complaints.append(f"{what}: {rate:.3g} is {where} {peak:.3g}, the datasheet's for {sheet.name}")
    return complaints


LANES = {"avx2": 8, "avx512": 16, "avx512vpopcntdq": 16}


def cpu_clock() -> float:
    """The highest clock that the system says this CPU has, per second; 0 where it says nothing. What a virtual machine
    says may be the nominal clock, which its CPU exceeds."""
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    found = [0.0, *(float(path.read_text()) * 1e3 for path in files)]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found += [float(mhz) * 1e6 for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo.read_text(), re.MULTILINE)]
    return max(found)


def cpu_peak_flops(level: str, clock: float, threads: int = 1) -> float:
    """An upper bound, not a peak: float32 operations per second of threads with a core each, at most two multiply-adds
    on whole registers per clock. CPUs with these registers have one unit for that, or two."""
    return threads * clock * 2 * LANES[level] * 2
