"""The walls of the house: which layer may know which. ``csrc/README.md`` has them as a table, here they hold."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rdh_ext"
CSRC = ROOT / "csrc"
NATIVE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".inl"}
STEMS = sorted(path.stem for path in (PACKAGE / "ops").glob("*.py") if not path.stem.startswith("_"))
CORE = ("ops", "reference", "nn", "retrieval")

# what a file of the folder may include beside its own standard library; quoted and bracketed names alike
STANDARD = r"[a-z_]+|(immintrin|unistd|sys/[a-z]+)\.h"
CUDA_RUNTIME = r"cuda_(runtime|bf16|fp16)\.h"
STABLE_ABI = r"torch/csrc/(stable/.+|inductor/aoti_torch/c/shim\.h)|torch/headeronly/.+"
ALLOWED = {
    "common": rf"{STANDARD}|common/.+",
    "kernels": rf"{STANDARD}|common/.+|kernels/[^/]+\.h",
    "kernels/cpu": rf"{STANDARD}|common/.+|kernels/[^/]+\.(h|inl)|kernels/cpu/.+",
    "kernels/cuda": rf"{STANDARD}|common/.+|kernels/[^/]+\.(h|inl)|kernels/cuda/.+|{CUDA_RUNTIME}",
    "bindings": rf"{STANDARD}|common/.+|kernels/[^/]+\.h|{STABLE_ABI}|bindings/[^/]+\.h",
    "bindings/cpu": rf"{STANDARD}|common/.+|kernels/[^/]+\.h|{STABLE_ABI}|bindings/.+",
    "bindings/cuda": rf"{STANDARD}|common/.+|kernels/[^/]+\.h|{STABLE_ABI}|bindings/.+|{CUDA_RUNTIME}",
}
MODULE = rf"{STANDARD}|common/.+|pybind11/.+|dlfcn\.h"

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not here")


def native_files() -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.suffix in NATIVE_SUFFIXES)


def without_comments(path: Path) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)


def python_files(*folders: str) -> list[Path]:
    """The Python files below folders of the package; of the whole package without a folder."""
    roots = [PACKAGE / folder for folder in folders] or [PACKAGE]
    return sorted(path for root in roots for path in root.rglob("*.py"))


def imports_of(path: Path, top: Path = ROOT) -> Iterator[str]:
    """Absolute dotted names of everything that a Python file imports, at any depth, relative imports resolved."""
    here = path.relative_to(top).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def test_the_lists_are_not_empty() -> None:
    assert len(STEMS) >= 7
    assert len(native_files()) >= 10


@pytest.mark.parametrize("stem", STEMS)
def test_op_is_in_every_python_layer(stem: str) -> None:
    for folder in (PACKAGE / "ops", PACKAGE / "reference"):
        assert (folder / f"{stem}.py").is_file()
    assert (ROOT / "tests" / "ops" / f"test_{stem}.py").is_file()


def test_reference_has_no_orphans() -> None:
    references = {path.stem for path in (PACKAGE / "reference").glob("*.py") if not path.stem.startswith("_")}
    assert references == set(STEMS)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_native_op_is_in_every_native_layer(device: str) -> None:
    suffix = {"cpu": ".cpp", "cuda": ".cu"}[device]
    kernels = {p.name.removesuffix(f"_kernel{suffix}") for p in (CSRC / "kernels" / device).glob(f"*_kernel{suffix}")}
    bindings = {p.name.removesuffix("_op.cpp") for p in (CSRC / "bindings" / device).glob("*_op.cpp")}
    headers = {path.stem for path in (CSRC / "kernels").glob("*.h")}
    assert kernels
    assert kernels == bindings
    assert kernels <= headers
    assert kernels <= set(STEMS)


@pytest.mark.parametrize("path", native_files(), ids=lambda path: str(path.relative_to(CSRC)))
def test_native_file_includes_only_what_its_layer_may(path: Path) -> None:
    folder = str(path.parent.relative_to(CSRC))
    allowed = MODULE if path.name == "module.cpp" else ALLOWED[folder]
    included = re.findall(r"^\s*#\s*include\s*[<\"]([^>\"]+)[>\"]", without_comments(path), re.MULTILINE)
    assert [name for name in included if not re.fullmatch(allowed, name)] == []


@pytest.mark.parametrize("path", native_files(), ids=lambda path: str(path.relative_to(CSRC)))
def test_native_file_names_only_what_its_layer_may(path: Path) -> None:
    text = without_comments(path)
    layer = path.relative_to(CSRC).parts[0]
    # of the stable ABI these came after torch 2.11, whose headers must suffice to build
    words = [r"\bat::", r"\bc10::", r"\bSTABLE_TORCH_ERROR_CODE_CHECK\b"]
    if layer in ("common", "kernels") or path.name == "module.cpp":
        words += [r"\btorch::", r"\bTORCH_", r"\baoti_torch_"]
    if path.name not in ("cuda_kernel.h", "ptx.cuh"):  # the contract that lets g++ compile a kernel, and its two homes
        words += [r"\basm\b", r"__shared__", r"<<<"]
    if layer == "bindings":
        words += [r"__global__", r"\b_mm(256|512)?_"]
    if path.name != "module.cpp":
        words += [r"\bpybind11\b", r"\bPy[A-Z]\w+_"]
    assert [word for word in words if re.search(word, text)] == []


@pytest.mark.parametrize("path", sorted((CSRC / "kernels" / "cuda").glob("*.cu*")), ids=lambda path: path.name)
def test_cuda_kernels_can_run_without_a_device(path: Path) -> None:
    """Small blocks in tests need the block size as a template parameter; the simulator needs a test and a backend."""
    kernels = re.findall(r"__global__[^(]*\(([^)]*)\)\s*(\w+)\(", without_comments(path))
    assert len(kernels) == len(re.findall(r"__global__", without_comments(path)))
    assert [name for bounds, name in kernels if not re.fullmatch(r"Threads(, \w+)*", bounds)] == []
    simt = ROOT / "tests" / "simt"
    stems = [kernel.name.removesuffix("_kernel.cu") for kernel in (CSRC / "kernels" / "cuda").glob("*_kernel.cu")]
    own = [stem for stem in stems if path.name.startswith(f"{stem}_")]  # a .cuh is a part of the stem's kernel,
    sharing = [stem for stem in stems if f'/{path.name}"' in (path.parent / f"{stem}_kernel.cu").read_text()]
    assert own or len(sharing) >= 2  # or of several
    for stem in own or sharing:
        for file in (f"test_{stem}.cpp", f"simt_ops/{stem}.cpp", f"simt_ops/{stem}.py"):
            assert (simt / file).is_file(), file


@pytest.mark.parametrize("folder", CORE)
def test_core_knows_nothing_of_the_harness(folder: str) -> None:
    for path in python_files(folder):
        upward = [name for name in imports_of(path) if re.match(r"rdh_ext\.(hashing|cli|__main__)\b", name)]
        assert upward == [], path


def test_reference_knows_no_op_and_no_dispatcher() -> None:
    for path in python_files("reference"):
        wrong = [name for name in imports_of(path) if re.match(r"rdh_ext\.(ops|nn|retrieval|_native)\b", name)]
        assert wrong == [], path
        assert "torch.ops" not in path.read_text(), path


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "oracles").glob("*.py")), ids=lambda path: path.stem)
def test_oracle_imports_nothing_from_the_package(path: Path) -> None:
    assert [name for name in imports_of(path) if name.split(".")[0] == "rdh_ext"] == []
    assert "rdh_ext" not in re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(), flags=re.DOTALL)


def test_only_the_loader_asks_what_is_native() -> None:
    """Who imports the loader: ``ops`` to have it run, ``build_info`` to tell. Nobody branches on what it found."""
    importers = {
        str(path.relative_to(PACKAGE))
        for path in python_files()
        if any(re.fullmatch(r"rdh_ext\._native(\..+)?", name) for name in imports_of(path))
    }
    assert importers <= {"ops/__init__.py", "_build_info.py"}
    for path in python_files():
        if path.name == "_native.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.If, ast.IfExp, ast.While)):
                assert not re.search(r"native|_LOADED|DISABLE|has_cuda_ops", ast.unparse(node.test)), (
                    path,
                    node.lineno,
                )


def test_importing_the_package_imports_torch_numpy_and_the_standard_library_only() -> None:
    script = """
import json, sys
import numpy, torch
before = set(sys.modules)
import rdh_ext
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    new = json.loads(done.stdout)
    top = {name.split(".")[0] for name in new} - set(sys.stdlib_module_names) - {"torch", "numpy", "rdh_ext"}
    assert top == set()
    assert not [name for name in new if re.match(r"rdh_ext\.(hashing|cli)\b", name)]
    assert not [name for name in new if name.startswith("torch._inductor")]  # compilers cost seconds to import
