"""Compiles CUDA sources as the real build does, strictly, and reads what the compiler made of every kernel.

No GPU is needed: nvcc makes a cubin, ``cuobjdump`` reads it (with ``nvdisasm`` for the instructions).
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import ROOT, ToolMissing, build_script

CSRC = ROOT / "csrc"
CUBINS = ROOT / "build" / "simt" / "cubin"
ARCHS = (75, 80, 90, 120)


class CompileFailure(Exception):
    """nvcc refused a source, or a tool could not read what it made."""


@dataclass(frozen=True)
class Toolchain:
    """The programs, and which nvcc it is (``13.0.88``)."""

    nvcc: Path
    version: str
    cuobjdump: Path
    nvdisasm: Path
    cxxfilt: Path


@dataclass(frozen=True)
class Kernel:
    """One instance of a kernel for one architecture; ``stack`` and ``shared`` (static only) in bytes."""

    source: str
    name: str
    arch: int
    registers: int
    stack: int
    shared: int
    instructions: tuple[str, ...]  # without predicates: "LDG.E.128.CONSTANT R4, [R2.64]"


def find_nvcc() -> tuple[Path, str]:
    """The nvcc that the build uses, and its version."""
    setup = build_script()
    try:
        found: tuple[Path, str] | str = setup.find_toolkit()
    except SystemExit as error:  # RDH_EXT_CUDA=1, and none is here
        found = str(error)
    if isinstance(found, str):
        raise ToolMissing(f"nvcc: {found}")
    nvcc = found[0].resolve() / "bin" / "nvcc"
    version = re.search(r"release [\d.]+, V([\d.]+)", setup.ask_nvcc(nvcc, "--version"))
    return nvcc, version[1] if version else found[1]


def in_wheel(distribution: str, program: str) -> str | None:
    """The path of a program that a pip package brought, wherever in site-packages its wheel puts it."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == program), None)


def find_reader(program: str, toolkit: Path) -> Path:
    """``cuobjdump`` or ``nvdisasm``: PATH, CUDA_HOME, the toolkit of nvcc, the pip package, Triton's copy."""
    folders = [toolkit / "bin"]
    if os.environ.get("CUDA_HOME"):
        folders.insert(0, Path(os.environ["CUDA_HOME"]) / "bin")
    candidates = [shutil.which(program), *(shutil.which(program, path=str(folder)) for folder in folders)]
    candidates.append(in_wheel(f"nvidia-cuda-{program}", program))
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin:
        candidates.append(shutil.which(program, path=str(Path(triton.origin).parent / "backends" / "nvidia" / "bin")))
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise ToolMissing(f"{program} is not here; pip install nvidia-cuda-{program}")


@functools.cache
def toolchain() -> Toolchain:
    """Everything that the gates need; raises ToolMissing with the name of what is not here."""
    nvcc, version = find_nvcc()
    toolkit = nvcc.parents[1]
    cxxfilt = shutil.which("c++filt")  # not cu++filt, which spells template arguments differently
    if cxxfilt is None:
        raise ToolMissing("c++filt is not here; it comes with binutils")
    return Toolchain(nvcc, version, find_reader("cuobjdump", toolkit), find_reader("nvdisasm", toolkit), Path(cxxfilt))


def ask(command: Sequence[str | Path], **options: Any) -> str:
    """What a program prints; raises CompileFailure with its complaint where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, **options)
    output: str = done.stdout
    if done.returncode != 0:
        raise CompileFailure(f"{' '.join(words)}\n{output}{done.stderr}".strip())
    return output


def nvcc_flags(arch: int) -> list[str]:
    """The flags of the build and its strictness, for one architecture and no host code."""
    setup = build_script()
    return [
        *setup.cpp_extension.COMMON_NVCC_FLAGS,
        *setup.NVCC_FLAGS,
        *setup.STRICT_NVCC_FLAGS,
        *("-cubin", "-x", "cu", f"-gencode=arch=compute_{arch},code=sm_{arch}"),
        *("-I", str(CSRC), "-I", str(Path(__file__).parent)),
    ]


def fingerprint(source: Path, arch: int, tools: Toolchain) -> str:
    """Of everything that a cubin depends on: compiler, flags, the source, and every file it could include."""
    digest = hashlib.sha256(repr((str(source), tools.nvcc, tools.version, nvcc_flags(arch))).encode())
    folders = {CSRC / "common", CSRC / "kernels", CSRC / "kernels" / "cuda", source.parent}
    headers = {path for folder in folders for path in folder.iterdir() if path.suffix in (".h", ".cuh", ".inl", ".cu")}
    for path in [source, *sorted(headers)]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def compile_cubin(source: Path, arch: int, tools: Toolchain, folder: Path = CUBINS) -> Path:
    """The cubin of a source, made anew where anything it depends on has changed; a warning or a spill is a failure."""
    cubin = folder / f"{source.stem}.sm_{arch}.cubin"
    stamp = cubin.with_suffix(".stamp")
    if not source.is_file():
        raise CompileFailure(f"{source}: there is no such file")
    wanted = fingerprint(source, arch, tools)
    folder.mkdir(parents=True, exist_ok=True)
    with cubin.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second finds it made
        if not (cubin.exists() and stamp.exists() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            ask([tools.nvcc, *nvcc_flags(arch), source, "-o", cubin])
            stamp.write_text(wanted)
    return cubin


def short_name(demangled: str) -> str:
    """``forward_kernel<float, true, 4, 256>`` of a demangled name: no return type, arguments, or own namespaces."""
    text = re.sub(r"\(anonymous namespace\)::", "", demangled)
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if depth == 0 and letter == " ":
            start = place + 1
        elif depth == 0 and letter == "(":
            text = text[:place]
            break
    return re.sub(r"^rdh::(cuda::)?", "", text[start:])


def read_cubin(cubin: Path, source: str, arch: int, tools: Toolchain) -> list[Kernel]:
    """Every kernel instance in a cubin, sorted by name."""
    usage = {
        found["name"]: found
        for found in re.finditer(
            r"^ Function (?P<name>\S+):\n +REG:(?P<registers>\d+) STACK:(?P<stack>\d+) SHARED:(?P<shared>\d+)"
            r" LOCAL:(?P<local>\d+)",
            ask([tools.cuobjdump, "-res-usage", cubin]),
            re.MULTILINE,
        )
    }
    path = os.pathsep.join((str(tools.nvdisasm.parent), os.environ.get("PATH", os.defpath)))
    sass = ask([tools.cuobjdump, "-sass", cubin], env={**os.environ, "PATH": path})
    code = {part.split(None, 1)[0]: instructions_of(part) for part in sass.split("Function : ")[1:]}
    empty = [name for name in code if not code[name]]
    if not usage or set(usage) != set(code) or empty:
        raise CompileFailure(
            f"{tools.cuobjdump} and {tools.nvdisasm} were not understood for {cubin.name}:"
            f" resources of {len(usage)} kernels, instructions of {len(code)}, {len(empty)} of them without any"
        )
    names = ask([tools.cxxfilt], input="".join(f"{name}\n" for name in usage)).splitlines()
    kernels = [
        Kernel(
            source,
            short_name(name),
            arch,
            int(found["registers"]),
            int(found["stack"]) + int(found["local"]),
            int(found["shared"]),
            code[found["name"]],
        )
        for name, found in zip(names, usage.values(), strict=True)
    ]
    return sorted(kernels, key=lambda kernel: kernel.name)


def instructions_of(sass: str) -> tuple[str, ...]:
    """The instructions of a disassembly, predicates and encodings removed."""
    lines = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+([^;]*?)\s*;", sass, re.MULTILINE)
    return tuple(re.sub(r"^@!?U?P\w+\s+", "", line) for line in lines)


@functools.cache
def kernels_of(source: Path, arch: int, folder: Path = CUBINS) -> tuple[Kernel, ...]:
    """What the compiler makes of the kernels of a source for ``sm_<arch>``."""
    tools = toolchain()
    return tuple(read_cubin(compile_cubin(source, arch, tools, folder), source.name, arch, tools))
