"""The loader: whatever is missing, damaged or wished for, the package imports, works, and says what it runs on."""

from __future__ import annotations

import _ctypes
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest
import torch

import rdh_ext
from rdh_ext import _native

Run = Callable[..., dict[str, Any]]
PACKAGE = Path(rdh_ext.__file__).parent
MODULE = next((path for suffix in EXTENSION_SUFFIXES if (path := PACKAGE / f"_C{suffix}").exists()), PACKAGE / "_C.so")
needs_native = pytest.mark.skipif(not _native.cpu_levels(), reason="native CPU library not loaded")

# Reads {"folder", "environment"} lines; for each a fork, which has torch and not yet rdh_ext, imports the package from
# the folder and calls every op once (what they return is the business of tests/ops). A fresh interpreter would do the
# same and take three seconds for importing torch.
SERVER = """
import json, os, sys, warnings
import torch

def answer(folder, environment):
    os.environ.update(environment)
    sys.path.insert(0, folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import rdh_ext
    x = torch.tensor([[12.0, -0.5], [0.0, 3.0]], requires_grad=True)
    counter = rdh_ext.nn.BitCounter("cpu")
    rdh_ext.amplified_tanh(x, counter=counter).sum().backward()
    rdh_ext.gradient_amplifier(rdh_ext.amplified_sigmoid(x)).sum().backward()
    h, labels = torch.tanh(x.detach()), torch.tensor([0, 1])
    rdh_ext.pairwise_loss(h, labels)
    q = rdh_ext.pack_codes(h)
    rdh_ext.unpack_codes(q, 2), rdh_ext.hamming_distance(q, q), rdh_ext.hamming_topk(q, q, 1)
    return {
        "info": rdh_ext.build_info(),
        "map": float(rdh_ext.evaluate(q, q, labels, labels).map),
        "dead": counter.read().dead,
        "warnings": [str(w.message) for w in caught],
        "file": rdh_ext.__file__,
    }

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            print(json.dumps(answer(**json.loads(line))), flush=True)
        except BaseException as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print(json.dumps({"error": f"the interpreter died, status {status}"}), flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RDH_EXT_")}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.communicate(timeout=60)


@pytest.fixture
def run(server: subprocess.Popen[str]) -> Run:
    """What an interpreter says that imports the package from a folder."""

    def ask(folder: Path, **environment: str) -> dict[str, Any]:
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps({"folder": str(folder), "environment": environment}), file=server.stdin, flush=True)
        ready, _, _ = select.select([server.stdout], [], [], 120)
        assert ready, "no answer"
        said: dict[str, Any] = json.loads(server.stdout.readline())
        assert "error" not in said, said["error"]
        assert Path(said["file"]).is_relative_to(folder)
        assert (said["dead"], said["map"]) == (2, 1.0)
        return said

    return ask


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package, compiled parts included."""
    ignore = shutil.ignore_patterns("__pycache__", "hashing")
    shutil.copytree(PACKAGE, tmp_path / "rdh_ext", ignore=ignore)
    return tmp_path


def test_works_with_nothing_compiled(run: Run, copy: Path) -> None:
    for path in (copy / "rdh_ext").glob("*.so"):
        path.unlink()
    said = run(copy)
    info = said["info"]
    assert (info["cpu_native"], info["cuda_native"], info["introspection"]) == (False, False, False)
    assert (info["cpu_level"], info["cpu_levels"]) == ("reference", [])
    for key in ("cpu_reason", "cuda_reason", "introspection_reason"):
        assert "not built" in info[key]
        assert "pip install" in info[key]
    assert said["warnings"] == []  # nothing is broken


@needs_native
def test_disabled_by_the_environment(run: Run) -> None:
    said = run(PACKAGE.parent, RDH_EXT_DISABLE_NATIVE="1")
    assert said["info"]["cpu_level"] == "reference"
    for key in ("cpu_reason", "cuda_reason", "introspection_reason"):
        assert said["info"][key] == "switched off by RDH_EXT_DISABLE_NATIVE"
    assert said["warnings"] == []
    assert run(PACKAGE.parent, RDH_EXT_DISABLE_NATIVE="0")["info"]["cpu_native"]


@needs_native
@pytest.mark.parametrize("damage", ["empty", "text", "half"])
def test_damaged_op_library(run: Run, copy: Path, damage: str) -> None:
    """Half a file would end the process with SIGBUS if it were mapped."""
    path = copy / "rdh_ext" / "_ops_cpu.so"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes({"empty": b"", "text": b"no library\n" * 100, "half": whole[: len(whole) // 2]}[damage])
    said = run(copy)
    info = said["info"]
    assert (info["cpu_native"], info["cuda_native"], info["cpu_level"]) == (False, False, "reference")
    assert info["cpu_reason"].startswith("_ops_cpu.so does not load: ")
    assert len(said["warnings"]) == 1
    assert info["cpu_reason"] in said["warnings"][0]
    assert "\n" not in said["warnings"][0]


@needs_native
@pytest.mark.parametrize("damage", ["text", "half", "other python", "missing"])
def test_damaged_introspection(run: Run, copy: Path, damage: str) -> None:
    """The ops are native all the same; only their level cannot be told."""
    path = copy / "rdh_ext" / MODULE.name
    whole = path.read_bytes()
    path.unlink()
    if damage == "other python":
        (copy / "rdh_ext" / "_C.cpython-26-x86_64-linux-gnu.so").write_bytes(whole)
    elif damage != "missing":
        path.write_bytes({"text": b"no library\n" * 100, "half": whole[: len(whole) // 2]}[damage])
    said = run(copy)
    info = said["info"]
    assert (info["cpu_native"], info["introspection"]) == (True, False)
    assert (info["cpu_level"], info["cpu_levels"]) == ("unknown", [])
    assert info["introspection_reason"]
    assert len(said["warnings"]) == (damage != "missing")
    if damage == "other python":
        assert "another version of Python" in info["introspection_reason"]


@needs_native
def test_op_library_that_is_not_ours(run: Run, copy: Path) -> None:
    """Any shared library in its place loads, and has no level to tell."""
    path = copy / "rdh_ext" / "_ops_cpu.so"
    path.unlink()
    shutil.copy(_ctypes.__file__, path)
    said = run(copy)
    assert "exports no CPU level" in said["info"]["introspection_reason"]
    assert said["info"]["cpu_level"] == "unknown"


@needs_native
@pytest.mark.parametrize("wish", ["scalar", "avx2", "avx512", "AVX2", ""])
def test_level_from_the_environment(run: Run, wish: str) -> None:
    said = run(PACKAGE.parent, RDH_EXT_CPU_LEVEL=wish)
    levels = said["info"]["cpu_levels"]
    assert levels == list(_native.cpu_levels())
    assert said["info"]["cpu_level"] == (wish if wish in levels else levels[-1])
    if wish in ("", *levels):
        assert said["warnings"] == []
    else:
        assert len(said["warnings"]) == 1
        assert wish in said["warnings"][0]


@needs_native
def test_forced_levels_nest() -> None:
    outside = _native.active_cpu_level()
    for outer in _native.cpu_levels():
        for inner in _native.cpu_levels():
            with _native.forced_cpu_level(outer):
                with _native.forced_cpu_level(inner):
                    assert _native.active_cpu_level() == inner
                assert _native.active_cpu_level() == outer
            assert _native.active_cpu_level() == outside


@needs_native
def test_forced_level_ends_with_an_error_in_the_block() -> None:
    outside = _native.active_cpu_level()
    with pytest.raises(KeyError), _native.forced_cpu_level("scalar"):
        raise KeyError
    assert _native.active_cpu_level() == outside


@needs_native
@pytest.mark.parametrize("level", ["", "sse2", "AVX2", "reference", None, 1])
def test_level_that_cannot_be_forced(level: Any) -> None:
    outside = _native.active_cpu_level()
    with _native.forced_cpu_level("scalar"):
        with (
            pytest.raises(ValueError, match=r"^forced_cpu_level: level must be one of scalar.*, got"),
            _native.forced_cpu_level(level),
        ):
            pass
        assert _native.active_cpu_level() == "scalar"
    assert _native.active_cpu_level() == outside


def test_level_without_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "CPU_LOADED", False)
    monkeypatch.setattr(_native, "CPU_MISSING", "not built")
    with pytest.raises(ValueError, match=r"level must be left alone \(not built\), got 'scalar'"):
        _native.forced_cpu_level("scalar").__enter__()


def test_build_info_is_plain_and_complete() -> None:
    info = rdh_ext.build_info()
    assert json.loads(json.dumps(info)) == info
    assert info["version"] == rdh_ext.__version__
    assert info["torch"] == torch.__version__
    for key, value in info.items():
        assert type(value) in (str, bool, list), key
        assert f"``{key}``" in (rdh_ext.build_info.__doc__ or ""), key
    for part, reason in (("cpu_native", "cpu_reason"), ("cuda_native", "cuda_reason")):
        assert info[part] == (info[reason] == "")
    assert info["introspection"] == (info["introspection_reason"] == "")
    if info["introspection"]:
        assert info["torch_target"] == "2.11"
        assert info["torch_built_with"]
        assert info["cpu_level"] in info["cpu_levels"]


def test_build_info_is_a_fresh_dictionary() -> None:
    rdh_ext.build_info().clear()
    assert rdh_ext.build_info()
