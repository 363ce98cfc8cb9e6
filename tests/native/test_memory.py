"""CPU kernels read and write what they were given and nothing else: ASan and UBSan watch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
KERNELS = {
    "pairwise_loss": ("pairwise_loss",),
    "hamming": (
        *("bit_planes", "pack_codes", "unpack_codes"),
        *("hamming_distance", "hamming_histogram", "hamming_topk", "stable_ranks"),
    ),
}
CASES = {"pairwise_loss": "100", "hamming": "120"}
# checks as calls: written out in every one of the unrolled loops they take a compiler minutes
FLAGS = (
    *("-std=c++20", "-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    # of the Hamming kernels one level, for the compiler's sake; test_guard_pages.py watches all, as they are shipped
    *("--param", "asan-instrumentation-with-call-threshold=0", "-DRDH_LOWEST_LEVEL_ONLY", f"-I{CSRC}"),
)


def build(program: Path, *sources: Path) -> None:
    """Compiles the sources side by side, and links them."""
    objects = [program.with_name(f"{source.stem}.o") for source in sources]
    compilers = [
        subprocess.Popen(["g++", *FLAGS, "-c", source, "-o", to], stderr=subprocess.PIPE, text=True)
        for source, to in zip(sources, objects, strict=True)
    ]
    errors = [compiler.communicate()[1] for compiler in compilers]
    assert all(compiler.returncode == 0 for compiler in compilers), "".join(errors)[-3000:]
    done = subprocess.run(["g++", *FLAGS, *objects, "-o", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=sorted(KERNELS))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The program for some kernels, and its number of cases."""
    if shutil.which("g++") is None:
        pytest.skip("no g++, which this builds with; the package itself takes any compiler")
    folder = tmp_path_factory.mktemp("memory")
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}\n")
    linked = subprocess.run(["g++", *FLAGS, empty, "-o", folder / "empty"], capture_output=True, text=True, check=False)
    if linked.returncode:
        pytest.skip("this g++ has no libasan or libubsan, without which nobody watches")
    kernels = [CSRC / "kernels" / "cpu" / f"{stem}_kernel.cpp" for stem in KERNELS[request.param]]
    sources = (HERE / f"{request.param}_memory.cpp", *kernels, CSRC / "common" / "cpu_level.cpp")
    build(folder / "program", *sources)
    return folder / "program", CASES[request.param]


def test_nothing_else_is_touched(program: tuple[Path, str]) -> None:
    done = run(program[0], program[1], "1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{program[1]} cases at ")


def test_it_would_be_noticed(program: tuple[Path, str]) -> None:
    done = run(program[0], program[1], "1", "short")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
