"""Which kernels must contain which instructions, and must not contain which: the promises that source cannot show.

A rule is about every instance of a source whose name matches ``kernel`` (``python tests/simt/gates.py --show forward``
lists names and instructions). Its regular expressions are matched against the beginning of an instruction, such as
``LDG.E.128.CONSTANT R4, [R2.64]``: some instruction must match each of ``must``, none may match one of ``never``.
Local memory (LDL, STL) is forbidden everywhere and needs no rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from cubins import ARCHS


@dataclass(frozen=True)
class Rule:
    """``why`` is what a person reads when it is broken; ``source`` is relative to the top of the repository."""

    why: str
    source: str
    kernel: str
    must: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    archs: tuple[int, ...] = ARCHS


AMPLIFIER = "csrc/kernels/cuda/gradient_amplifier_kernel.cu"

RULES = (
    Rule(
        "packed instances move 16 bytes at a time",
        AMPLIFIER,
        r"(forward|backward)_kernel<.*, (?!1,)\d+, \d+>",
        must=(r"LDG\.E\.128\b", r"STG\.E\.128\b"),
    ),
    Rule(
        "elements narrower than double are computed in float; double is for the counts' atomics alone",
        AMPLIFIER,
        r"\w+<(float|__half|__nv_bfloat16), .*",
        never=(r"D(ADD|MUL|FMA|SETP|MNMX)\b", r"MUFU\.\w*64"),
    ),
    Rule(
        "counting is a warp reduction and atomics without a return value",
        AMPLIFIER,
        r"backward_kernel<\w+, \w+, true, .*",
        must=(r"SHFL\.DOWN\b", r"REDG?\.E\.ADD\.F64\b"),
        never=(r"ATOM",),
    ),
    Rule(
        "who does not count pays nothing for it",
        AMPLIFIER,
        r"(forward_kernel<.*|backward_kernel<\w+, \w+, false, .*)",
        never=(r"SHFL", r"RED", r"ATOM", r"I2F\.F64"),
    ),
)
