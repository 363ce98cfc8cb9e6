"""Every op that is measured: its cases, its peers, its ceiling, and the tests that have to pass first.

An op has a file ``_op_<stem>.py``, which says who the peers are; ``costs.py`` has the bytes and operations, the
formulas of the kernels' headers. To add one: write that file, and name it here.
"""

from __future__ import annotations

from dataclasses import replace

import _op_amplified_tanh
import _op_codes
import _op_evaluate
import _op_hamming_topk
import _op_pairwise_loss
import _op_training_step
from _problem import DEFAULT, Case, Op

_MODULES = (
    _op_amplified_tanh,
    _op_pairwise_loss,
    _op_codes,
    _op_hamming_topk,
    _op_evaluate,
    _op_training_step,
)
OPS: dict[str, Op] = {op.name: op for module in _MODULES for op in module.OPS}


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all of them."""
    powers = [1 << k for k in range(cores.bit_length()) if 1 << k <= cores]
    return tuple(dict.fromkeys([*powers, cores]))


def sweeps_of(op: Op, cores: int) -> list[str]:
    """Those of an op that say something here: threads only where there are several cores."""
    return [name for name in op.sweeps if name != "threads" or cores > 1]


def cases_of(op: Op, sweeps: list[str], *, device: str, cores: int, threads: int, quick: bool = False) -> list[Case]:
    """The default case and those of the sweeps, in the order in which they are measured."""
    cases = [op.default_case(device, quick=quick)]
    for sweep in sweeps:
        if sweep != DEFAULT:
            cases += op.sweep_cases(sweep, device, thread_counts(cores))
    return [case if case.sweep == "threads" else replace(case, threads=threads) for case in cases]
