"""A tree with a copy of the GPU check and stand-ins for everything that it calls, which misbehave when told to."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "benchmarks"
FILES = ("gpu_check.sh", "gpu_check.py", "_check_run.py", "_gpu_facts.py", "_gpu_benchmarks.py", "_ncu.py")
SIMT_FILES = ("cubins.py", "toolkit.py")

# Each behaves unless $FAKE holds its misbehaviour as a word.
BAD = 'bad() { case " $FAKE " in *" $1 "*) true;; *) false;; esac; }\n'
PYTHON = rf"""#!/usr/bin/env bash
{BAD}
case "$*" in
  *gpu_check.py*) exec {sys.executable} "$@" ;;
  *_gpu_facts.py)
    bad facts_crash && kill -SEGV $$
    echo "W1121 a warning"; cat "$TOP/facts.json" ;;
  "setup.py build_ext --inplace --force")
    echo "building for $TORCH_CUDA_ARCH_LIST, RDH_EXT_CUDA=$RDH_EXT_CUDA"
    bad build && echo "error: $PWD/csrc/a.cu: no space left" && exit 1
    true ;;
  "-c "*registry*) echo 'OPS ["pack_codes", "hamming_topk"]' ;;
  "-c "*)
    native=true; bad not_loaded && native=false
    info='"cpu_native": true, "cuda_native": '$native', "cuda_reason": "it is cut short", "cpu_level": "avx2"'
    echo "BUILD [{{$info}}, \"$TOP/rdh_ext/__init__.py\"]" ;;
  "-m pytest"*)
    bad hang && {{ (trap "" TERM; echo $BASHPID >> "$TOP/pids"; sleep 600) & echo $$ >> "$TOP/pids"; wait; }}
    for word in "$@"; do case $word in --junitxml=*) xml=${{word#*=}} ;; esac; done
    bad no_report && exit 4
    passed='<testcase classname="ops" name="good"/>'; bad all_skipped && passed=
    failed=; bad red && failed='<testcase classname="ops" name="bad[cuda]"><failure message="1 != 2"/></testcase>'
    skipped='<testcase classname="ops" name="other"><skipped message="no faiss"/></testcase>'
    echo "<testsuites><testsuite>$passed$failed$skipped</testsuite></testsuites>" > "$xml"
    bad half_report && echo "<testsuites><testsuite>" > "$xml"
    [ -z "$failed" ] ;;
  *_sass_facts.py*)
    bad no_disassembler && echo "nvdisasm is not here; pip install nvidia-cuda-nvdisasm" && exit 2
    [ "$2 $3" = "$PWD/rdh_ext/_ops_cuda.so 90" ] || exit 99
    echo "source,kernel,arch,registers" > "$4"
    bad spills && echo "SASS 2 kernels, 1 spill, at most 168 registers (mma_kernel<256>)" && exit 1
    echo "SASS 2 kernels, 0 spill, at most 168 registers (mma_kernel<256>)" ;;
  *"peaks.py --device cuda")
    [ -x "$CUDA_HOME/bin/nvcc" ] || exit 99
    bad no_peaks && echo "peaks.cu does not compile: error: no room" && exit 2
    report=peaks; bad odd_peaks && report=odd; bad no_sheet && report=no_sheet
    echo "PEAKS $(cat "$TOP/$report.json")"
    [ $report != odd ] ;;
  "-m rdh_ext bench --device cuda --no-verify --out build/bench/h200.csv")
    bad bench && echo "RuntimeError: CUDA error: out of memory" && exit 1
    file=bench.csv; bad half_bench && file=half.csv
    cp "$TOP/$file" build/bench/h200.csv
    bad slow_bench && sleep 600
    true ;;
  *_ncu_calls.py)
    bad lost && exit 1
    echo 'CALLS {{"amplified_tanh": ["forward_kernel<float"], "hamming_topk": ["count_kernel<0, ", "place_kernel"]}}' ;;
  *) echo "not expected: $*" >&2; exit 99 ;;
esac
"""
NVCC = rf"""#!/usr/bin/env bash
{BAD}
bad nvcc && echo "test_b.cpp(3): error: expected a ;" && exit 1
out=${{*: -1}}
cat > "$out" <<'END'
#!/usr/bin/env bash
{BAD}
bad no_tests && exit 0
bad wrong && [[ $0 == *_b ]] && echo "FAILED sums" && echo "1 of 4 failed" && exit 1
echo "passed sums"; echo "0 of 4 failed"
END
chmod +x "$out"
"""
SANITIZER = rf"""#!/usr/bin/env bash
{BAD}
[ "$1" = --version ] && echo "Version 2025.3.1" && exit 0
tool=$2; program=${{*: -1}}
bad refuses && echo "========= Error: Device not supported" && exit 1
echo "========= COMPUTE-SANITIZER"
"$program"
found=0; bad $tool && found=2
if [ $tool = racecheck ]; then echo "========= RACECHECK SUMMARY: $found hazards displayed (0 errors, $found warnings)"
else echo "========= ERROR SUMMARY: $found errors"; [ $found = 0 ]; fi
"""
# As it prints on a pipe: its own lines among those of the program, then the page as CSV, units in a line of their own.
NCU = rf"""#!/usr/bin/env bash
{BAD}
for word in "$@"; do [ "$word" = "${{PYTHON:-python}}" ] && break; shift; done
echo "==PROF== Connected to process 4242 ($1)"
if bad counters; then
  echo "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on" \
    "the target device 0. For instructions on enabling permissions and to get more information see" \
    "https://developer.nvidia.com/ERR_NVGPUCTRPERM"
  echo "==PROF== Disconnected from process 4242"; echo "==WARNING== No kernels were profiled."; exit 1
fi
bad gvisor && echo "==ERROR== Failed to initialize the profiler: LibraryNotLoaded" && exit 9
bad nothing && "$@" && echo "==WARNING== No kernels were profiled." && exit 0
echo '==PROF== Profiling "forward_kernel": 0%....50%....100% - 6 passes'
"$@" || status=1
echo "==PROF== Disconnected from process 4242"
table=ncu.txt; bad unseen && table=unseen.txt
cat "$TOP/$table"; exit ${{status:-0}}
"""
NCU_HEAD = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size")
NCU_HEAD += ("Grid Size", "Device", "CC", "dram__bytes.sum.per_second")
NCU_HEAD += ("dram__throughput.avg.pct_of_peak_sustained_elapsed", "gpu__time_duration.sum")
NCU_HEAD += tuple(f"launch__occupancy_limit_{name}" for name in ("blocks", "registers", "shared_mem", "warps"))
NCU_HEAD += ("launch__registers_per_thread", "launch__shared_mem_per_block")
NCU_HEAD += ("sm__throughput.avg.pct_of_peak_sustained_elapsed", "sm__warps_active.avg.pct_of_peak_sustained_active")
NCU_UNITS = (*11 * [""], "byte/second", "%", "nsecond", *4 * ["block"], "register/thread", "byte/block", "%", "%")
_AMPLIFIER = "_ZN3rdh4cuda61_GLOBAL__N__1aea4190_28_gradient_amplifier_kernel_cu_f587ef6414"
_TOPK = "_ZN3rdh4cuda55_GLOBAL__N__df79f299_22_hamming_topk_kernel_cu_84e3cf8f12"
LAUNCHES = (  # mangled name, block, grid, and what is measured: thousands have commas
    (
        f"{_AMPLIFIER}forward_kernelIfLb1ELi4ELi256EEEvPKT_PS3_l",
        *("(256, 1, 1)", "(65536, 1, 1)"),
        ("4,123,456,789,012.5", "86.25", "130,560", "32", "8", "32", "8", "32", "0", "41.5", "88.125"),
    ),
    (
        f"{_TOPK}count_kernelILi0ELi2ELi128EEEvNS1_4ScanENS1_6CountsE",
        *("(128, 1, 1)", "(1056, 1, 1)"),
        ("81,000,000.25", "1.5", "12,345,678", "32", "12", "16", "16", "40", "9,216", "71", "37.5"),
    ),
    (
        f"{_TOPK}place_kernelILi2ELi128EEEvNS1_4ScanENS1_6CountsEPKilPsPl",
        *("(128, 1, 1)", "(1056, 2, 1)"),
        ("n/a", "n/a", "1,024", "32", "10", "16", "16", "48", "9,216", "0.5", "25"),
    ),
)


def ncu_table(launches: int = 3) -> str:
    """What ncu prints of the first so many launches."""
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows((NCU_HEAD, NCU_UNITS))
    for number, (name, block, grid, values) in enumerate(LAUNCHES[:launches]):
        writer.writerow((number, 4242, "python3.12", "host", name, 1, 7, block, grid, 0, "9.0", *values))
    return stream.getvalue()


def peaks_reports() -> dict[str, dict[str, Any]]:
    """What peaks.py says of a device: as it should be, with a rate that cannot be true, of one without a datasheet."""
    copy, fma = "copy, bytes/s", "float32 multiply-adds, FLOP/s"
    sheet = {copy: 4.8e12, fma: 67e12}
    report = {"device": "NVIDIA H200", "measured": {copy: 4.32e12, fma: 60.3e12}, "datasheet": sheet, "complaints": []}
    complaint = "copy, bytes/s: 9e+12 is above 4.8e+12, the datasheet's for H200 SXM"
    return {"peaks": report, "odd": report | {"complaints": [complaint]}, "no_sheet": report | {"datasheet": {}}}


def bench_table(*ops: str) -> str:
    """Of what `rdh bench` writes, the columns that count here: every op by rdh_ext and by somebody who is not here."""
    rows = [f"{op},{kind}\n" for op in ops for kind in ("rdh_ext,measured", "peer,missing", "rdh_ext,measured")]
    return f"op,kind,status\n{''.join(rows)}unpack_codes,rdh_ext,failed\n"


SMI = "#!/usr/bin/env bash\necho '580.159.04, Default'\n"
FACTS = {
    "device": "NVIDIA H200",
    "devices": 1,
    "compute_capability": "9.0",
    "torch": "2.11.0+cu130",
    "nvcc": "13.0",
    "packages": {"pytest-xdist": "3.8.0"},
}


class Tree:
    """A copy of the check in a tree of its own, with stand-ins for everything that it calls."""

    def __init__(self, top: Path) -> None:
        self.top, self.out = top, top / "out"
        for folder in ("benchmarks", "tests/simt", "rdh_ext", "bin"):
            (top / folder).mkdir(parents=True)
        for name in FILES:
            text = (HERE / name).read_text().replace("PATIENCE = 2.0", "PATIENCE = 0.5")
            (top / "benchmarks" / name).write_text(text)
            (top / "benchmarks" / name).chmod(0o755)
        for name in ("test_a.cpp", "test_b.cpp", "faults.cpp"):
            (top / "tests" / "simt" / name).write_text("")
        for name in SIMT_FILES:
            (top / "tests" / "simt" / name).write_text((HERE.parent / "tests" / "simt" / name).read_text())
        (top / "rdh_ext" / "_ops_cuda.so").touch()
        (top / "ncu.txt").write_text(ncu_table())
        (top / "unseen.txt").write_text(ncu_table(2))
        for name, report in peaks_reports().items():
            (top / f"{name}.json").write_text(json.dumps(report))
        (top / "bench.csv").write_text(bench_table("pack_codes", "hamming_topk"))
        (top / "half.csv").write_text(bench_table("pack_codes"))
        tools = {"nvcc": NVCC, "compute-sanitizer": SANITIZER, "nvidia-smi": SMI, "python": PYTHON, "ncu": NCU}
        for name, text in tools.items():
            (top / "bin" / name).write_text(text)
            (top / "bin" / name).chmod(0o755)
        self.tell(problems=[], usable=["torch", "nvcc", "device"])

    def tell(self, **said: Any) -> None:
        """What is found out about the machine."""
        tools = {"nvcc": str(self.top / "bin" / "nvcc"), "nvcc_flags": ["-O3"]}
        facts = {"facts": FACTS, "tools": tools} | said
        (self.top / "facts.json").write_text(f"FACTS {json.dumps(facts)}\n")

    def start(self, *options: str, fake: str = "") -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PATH": f"{self.top / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHON": str(self.top / "bin" / "python"),
            "TOP": str(self.top),
            "FAKE": fake,
            "RDH_EXT_DISABLE_NATIVE": "1",
        }
        command = [str(self.top / "benchmarks" / "gpu_check.sh"), str(self.out), *options]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *options: str, fake: str = "") -> tuple[int, str]:
        process = self.start(*options, fake=fake)
        printed, _ = process.communicate(timeout=60)
        return process.returncode, printed

    def summary(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.out / "summary.json").read_text())
        return told

    def steps(self) -> dict[str, tuple[str, str]]:
        """Status and detail by name."""
        return {step["name"]: (step["status"], step["detail"]) for step in self.summary()["steps"]}

    def pids(self) -> list[int]:
        return [int(line) for line in (self.top / "pids").read_text().split()]
