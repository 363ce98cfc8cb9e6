"""The CPU kernel of the pairwise loss reads and writes what it was given and nothing else: ASan and UBSan watch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
SOURCES = (
    HERE / "pairwise_loss_memory.cpp",
    CSRC / "kernels" / "cpu" / "pairwise_loss_kernel.cpp",
    CSRC / "common" / "cpu_level.cpp",
)
FLAGS = ("-std=c++20", "-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{CSRC}")


def compiled(folder: Path, *arguments: str) -> Path:
    program = folder / "program"
    done = subprocess.run(["g++", *FLAGS, *arguments, "-o", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++, which this builds with; the package itself takes any compiler")
    folder = tmp_path_factory.mktemp("memory")
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}\n")
    linked = subprocess.run(["g++", *FLAGS, empty, "-o", folder / "empty"], capture_output=True, text=True, check=False)
    if linked.returncode:
        pytest.skip("this g++ has no libasan or libubsan, without which nobody watches")
    return compiled(folder, *map(str, SOURCES))


def test_nothing_else_is_touched(program: Path) -> None:
    done = subprocess.run([program, "150", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("150 cases at ")


def test_it_would_be_noticed(program: Path) -> None:
    done = subprocess.run([program, "150", "1", "short"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
