"""A tree with a copy of the GPU check and stand-ins for everything that it calls, which misbehave when told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "benchmarks"
FILES = ("gpu_check.sh", "gpu_check.py", "_check_run.py", "_gpu_facts.py")

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
        tools = {"nvcc": NVCC, "compute-sanitizer": SANITIZER, "nvidia-smi": SMI, "python": PYTHON}
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
