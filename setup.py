"""Builds the three compiled parts of rdh_ext; everything declarative is in pyproject.toml.

``_ops_cpu``   CPU kernels on the LibTorch Stable ABI: one build runs on every torch from 2.11 on.
``_ops_cuda``  CUDA kernels, built whenever an nvcc is there (no GPU needed), loaded only where torch has CUDA.
``_C``         pybind11, without torch: build information and the CPU level.

Environment:
  RDH_EXT_CUDA=auto|0|1   build the CUDA part if nvcc is found (default), never, or fail without it
  CUDA_HOME               where to look for the toolkit first
  TORCH_CUDA_ARCH_LIST    architectures, default below
  MAX_JOBS                parallel compilations
  RDH_EXT_STRICT=0|1      1: a warning about our own C++ and CUDA code, or a kernel that spills, is an error
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py

try:
    import pybind11
    import torch
    from torch.utils import cpp_extension
except ImportError as error:
    sys.exit(
        f"rdh_ext: {error.name or error} is needed to build and is not installed; install it, or leave out"
        " --no-build-isolation"
    )

ROOT = Path(__file__).resolve().parent
TARGET = (2, 11)
TARGET_MACRO = f"-DTORCH_TARGET_VERSION=0x{TARGET[0]:02X}{TARGET[1]:02X}000000000000ULL"
DEFAULT_ARCHS = "7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX"


def check_torch() -> None:
    """Stops with one sentence where torch is too old to have the stable ABI that the sources use."""
    match = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if match is None or (int(match[1]), int(match[2])) < TARGET:
        sys.exit(
            f"rdh_ext: torch >= {TARGET[0]}.{TARGET[1]} is needed to build, found {torch.__version__}; upgrade torch"
        )


def ask_nvcc(nvcc: str | Path, *question: str) -> str:
    """What it answers; "" where it is missing or does not work."""
    try:
        done = subprocess.run([str(nvcc), *question], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr


def toolkit_candidates() -> list[Path]:
    """Folders that may be a CUDA toolkit, best first; nvcc on PATH may be a wrapper: it is asked where it lives."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    nvcc = shutil.which("nvcc")
    if nvcc:
        homes.append(str(Path(nvcc).resolve().parents[1]))
        top = re.search(r"^#\$ TOP=(.+)$", ask_nvcc(nvcc, "--dryrun", "-x", "cu", os.devnull), re.MULTILINE)
        if top:
            homes.append(top[1].strip())
    homes += ["/usr/local/cuda", "/opt/cuda"]
    return [Path(home) for home in homes if home]


def find_toolkit() -> tuple[Path, str] | str:
    """The toolkit and its release, or the reason why the CUDA part is not built."""
    wish = os.environ.get("RDH_EXT_CUDA", "auto")
    if wish not in ("auto", "0", "1"):
        sys.exit(f"rdh_ext: RDH_EXT_CUDA must be auto, 0 or 1, got {wish!r}")
    if wish == "0":
        return "switched off by RDH_EXT_CUDA=0"
    looked: list[str] = []
    for home in toolkit_candidates():
        if str(home) in looked:
            continue
        release = re.search(r"release (\d+\.\d+)", ask_nvcc(home / "bin" / "nvcc", "--version"))
        runtime = any(
            (home / lib / "libcudart_static.a").exists() for lib in ("lib64", "lib", "targets/x86_64-linux/lib")
        )
        if release and runtime and (home / "include" / "cuda_runtime.h").exists():
            return home, release[1]
        looked.append(str(home))
    reason = f"no CUDA toolkit (nvcc, headers, libcudart_static) was found in {', '.join(looked)}"
    if wish == "1":
        sys.exit(f"rdh_ext: RDH_EXT_CUDA=1, but {reason}; set CUDA_HOME")
    return reason


# contraction off: error terms such as fma(a, b, -(a * b)) must not be folded into the product they correct;
# -g0: Python's own flags ask for debug information, a third of the compiler's time, which -s then throws away
CXX_FLAGS = [
    "-O3",
    "-g0",
    "-std=c++20",
    "-fvisibility=hidden",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
]
NVCC_FLAGS = [
    "-O3",
    "-std=c++20",
    "--expt-relaxed-constexpr",
    "--fmad=false",
    "--threads=4",  # architectures side by side
    "-Xcompiler=-fvisibility=hidden,-Wall,-Wextra",
    TARGET_MACRO,
]
# what RDH_EXT_STRICT=1 adds; off by default, because a compiler that is newer than this file knows more warnings;
# nvcc hands all-warnings on to ptxas, which then refuses to spill, and to the host's compiler
STRICT_CXX_FLAGS = ["-Werror"]
STRICT_NVCC_FLAGS = ["-Werror=all-warnings", "-Xptxas=--warn-on-spills"]
# distributions link with --as-needed, which drops -ltorch; it is what brings libtorch_cuda's symbols into scope
LINK_FLAGS = ["-Wl,--exclude-libs,ALL", "-s", "-Wl,--push-state,--no-as-needed", "-ltorch", "-Wl,--pop-state"]


def sources(*patterns: str) -> list[str]:
    """Sorted paths relative to the root: the order of a build must not depend on the file system."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def benchmark_files() -> list[str]:
    """What `rdh bench` and `rdh report` need of the sources, results left out."""
    programs = [f"benchmarks/*.{suffix}" for suffix in ("py", "cpp", "h", "inl", "cu", "cuh")]
    headers = [
        f"csrc/{folder}/*.{suffix}" for folder in ("common", "kernels", "kernels/cpu") for suffix in ("h", "inl")
    ]
    return sources(*programs, *headers)


def strictness() -> bool:
    """Whether RDH_EXT_STRICT asks for errors instead of warnings."""
    wish = os.environ.get("RDH_EXT_STRICT", "0")
    if wish not in ("0", "1"):
        sys.exit(f"rdh_ext: RDH_EXT_STRICT must be 0 or 1, got {wish!r}")
    return wish == "1"


def make_strict(extension: Extension) -> Extension:
    """Warnings about our sources as errors. Headers of others count as the system's: they may warn, unheard."""
    if not strictness():
        return extension
    # not /usr/include, where a toolkit may be: named here it would come too early for #include_next
    foreign = [path for path in extension.include_dirs if path not in (str(ROOT / "csrc"), "/usr/include")]
    system = [word for path in foreign for word in ("-isystem", path)]
    for compiler, flags in (("cxx", STRICT_CXX_FLAGS), ("nvcc", STRICT_NVCC_FLAGS)):
        extension.extra_compile_args[compiler] = [*extension.extra_compile_args.get(compiler, []), *system, *flags]
    return extension


def ops_extension(name: str, files: list[str], **options: Any) -> Extension:
    """A stable-ABI op library. CppExtension also for CUDA: CUDAExtension refuses to build with a CPU-only torch."""
    return cpp_extension.CppExtension(
        name,
        files,
        py_limited_api=True,  # which only means: do not link libtorch_python
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args={"cxx": [*CXX_FLAGS, TARGET_MACRO], "nvcc": [*NVCC_FLAGS]},
        extra_link_args=LINK_FLAGS,
        **options,
    )


def cuda_extension(home: Path) -> Extension:
    """``_ops_cuda``, with the runtime linked statically so that it binds to no CUDA release of torch."""
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHS)
    os.environ["CUDA_HOME"] = str(home)
    cpp_extension.CUDA_HOME = str(home)
    # a stable-ABI library may be built by another CUDA major than torch's own
    cpp_extension._check_cuda_version = lambda *args, **kwargs: None
    libraries = [str(home / lib) for lib in ("lib64", "lib", "targets/x86_64-linux/lib") if (home / lib).is_dir()]
    extension = ops_extension(
        "rdh_ext._ops_cuda",
        sources("csrc/bindings/cuda/*.cpp", "csrc/kernels/cuda/*.cu"),
        library_dirs=libraries,
        libraries=["cudart_static", "rt", "dl", "pthread"],
    )
    extension.include_dirs.append(str(home / "include"))
    return extension


def build_facts(toolkit: tuple[Path, str] | str) -> dict[str, str]:
    """What ``build_info()`` will say about this build; goes into ``_C`` as JSON."""
    built = not isinstance(toolkit, str)
    return {
        "torch_built_with": torch.__version__,
        "torch_target": f"{TARGET[0]}.{TARGET[1]}",
        "cuda_release": toolkit[1] if built else "",
        "cuda_archs": os.environ["TORCH_CUDA_ARCH_LIST"] if built else "",
        "cuda_missing": "" if built else f"{toolkit} when it was built",
    }


def extensions(toolkit: tuple[Path, str] | str) -> list[Extension]:
    """Everything to compile on this machine."""
    cpu = sources("csrc/bindings/cpu/*.cpp", "csrc/kernels/cpu/*.cpp", "csrc/common/*.cpp")
    compiled = [ops_extension("rdh_ext._ops_cpu", cpu)]
    if not isinstance(toolkit, str):
        compiled.append(cuda_extension(toolkit[0]))
    facts = json.dumps(json.dumps(build_facts(toolkit)))  # a JSON text as a C string literal
    compiled.append(
        Extension(
            "rdh_ext._C",
            sources("csrc/bindings/module.cpp", "csrc/common/*.cpp"),
            language="c++",
            include_dirs=[pybind11.get_include(), str(ROOT / "csrc")],
            extra_compile_args={"cxx": ["-O2", "-g0", "-std=c++17", "-fvisibility=hidden", "-Wall", "-Wextra"]},
            define_macros=[("RDH_EXT_BUILD_FACTS", facts)],
            extra_link_args=["-s", "-ldl"],
        )
    )
    return [make_strict(extension) for extension in compiled]


class Build(build):
    """``build`` from an empty folder: what an earlier one left there would be installed, too."""

    def run(self) -> None:
        """Objects are elsewhere (``build_temp``) and stay, so that only what changed is compiled."""
        folder = Path(self.build_lib).resolve()
        if folder.parent == Path(self.build_base).resolve() and folder.name.startswith("lib"):  # not one named by hand
            shutil.rmtree(folder, ignore_errors=True)
        super().run()


class BuildPy(build_py):
    """The package, and for `rdh bench` the benchmarks with the headers that their ceilings are compiled with."""

    def run(self) -> None:
        """In a tree that is used as it is, they are beside the package already."""
        super().run()
        if self.editable_mode:
            return
        top = Path(self.build_lib) / "rdh_ext" / "_bench"
        for name in benchmark_files():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(ROOT / name), str(top / name))


class BuildExtension(cpp_extension.BuildExtension):
    """PyTorch's, with libraries named without a Python version (they run on any), and words for what is missing."""

    cuda_missing = ""

    def run(self) -> None:
        """Says what is not built and why, once: pip runs this file several times before it builds."""
        compiler = (os.environ.get("CXX") or "c++").split()[0]
        if shutil.which(compiler) is None:
            sys.exit(f"rdh_ext: no C++ compiler ({compiler}) was found; install one, such as g++, or set CXX")
        if self.cuda_missing:
            print(f"rdh_ext: CPU-ONLY BUILD: {self.cuda_missing}", file=sys.stderr)
            if self.inplace or self.editable_mode:  # what an earlier build left would be loaded
                (ROOT / "rdh_ext" / "_ops_cuda.so").unlink(missing_ok=True)
        super().run()

    def get_ext_filename(self, name: str) -> str:
        """``_ops_cpu.so`` instead of ``_ops_cpu.cpython-311-x86_64-linux-gnu.so``."""
        return re.sub(r"(_ops_\w+)\..*\.so$", r"\1.so", str(super().get_ext_filename(name)))


if __name__ == "__main__":
    check_torch()
    # where an environment is used without being activated, its ninja is beside its Python and not on PATH
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")))
    found = find_toolkit()
    BuildExtension.cuda_missing = found if isinstance(found, str) else ""
    commands = {"build": Build, "build_py": BuildPy, "build_ext": BuildExtension}
    setup(ext_modules=extensions(found), cmdclass=commands, zip_safe=False)
