"""pack_codes, unpack_codes and hamming_distance, against numpy, plain torch and scikit-learn.

``eager`` packs by a sum of powers of two, ``eager, best form`` by shifts, ``torch.compile`` by a product of floats,
each the fastest of the three in its way. Unpacking is by masks. ``numpy`` has packbits and unpackbits. Distances:
``eager`` is torch.cdist with p = 0, ``eager, best form`` the product of +-1 codes, ``numpy`` xor and bitwise_count.
Peers get +-1 codes in float32 for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from _ceilings import copying
from _codes import Codes
from _measure import at_level
from _problem import OURS, Case, NotHere, Op, Problem, Provider, Step, Wrong
from costs import Cost, hamming_distance, pack_codes, unpack_codes
from torch import Tensor

import rdh_ext
from rdh_ext import _native

POWERS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
SLOW_PAIRS = 20_000_000  # beyond which the slow ways take a part of the queries


def equals(true: Tensor, what: str) -> Callable[[object], float]:
    """0 where the result is that, else an error."""

    def check(found: object) -> float:
        result = found if isinstance(found, Tensor) else torch.from_numpy(np.asarray(found))
        if not torch.equal(result.to(true.dtype), true.to(result.device)):
            raise Wrong(f"other {what}")
        return 0.0

    return check


def problem_of(case: Case, title: str, cost: Cost, ours: Step, check: Callable[[object], float]) -> Problem:
    """With rdh_ext in it, at its lower level too, and the copy."""
    problem = Problem(title, cost, {OURS: Provider(ours, check, "rdh_ext", kind=OURS)})
    if case.device == "cpu" and "avx2" in _native.cpu_levels()[:-1]:
        problem.add(f"{OURS} avx2", lambda: Provider(at_level("avx2", ours), check, "rdh_ext", kind=OURS))
    problem.set_ceiling(lambda: copying(case, cost))
    return problem


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, fullgraph=True, dynamic=False)


def only_on_cpu(case: Case, provider: Provider) -> Provider:
    if case.device != "cpu":
        raise NotHere("runs on the CPU alone")
    return provider


def build_pack(case: Case) -> Problem:
    rows, bits = int(case.sizes["rows"]), int(case.sizes["bits"])
    h = torch.tanh(torch.randn(rows, bits))
    true = torch.from_numpy(np.packbits(h.numpy() >= 0, axis=1, bitorder="little"))
    check = equals(true, "codes than numpy's packbits")
    moved, powers = h.to(case.device), POWERS.to(case.device)

    def by_sum(x: Tensor) -> Tensor:
        return ((x >= 0).view(rows, bits // 8, 8) * powers).sum(2, dtype=torch.uint8)

    def by_places(x: Tensor) -> Tensor:
        first, *others = (x >= 0).view(rows, bits // 8, 8).to(torch.uint8).unbind(2)
        for k, place in enumerate(others, start=1):
            first = first | (place << k)
        return first

    def by_product(x: Tensor) -> Tensor:
        return ((x >= 0).view(-1, 8).float() @ powers.float()).to(torch.uint8).view(rows, bits // 8)

    def ours() -> Tensor:
        return rdh_ext.pack_codes(moved)

    problem = problem_of(case, f"{rows:,} x {bits}, float32", pack_codes(rows, bits, 4), ours, check)
    form = compiled(by_product)
    problem.add("eager", lambda: Provider(lambda: by_sum(moved), check))
    problem.add("eager, best form", lambda: Provider(lambda: by_places(moved), check))
    problem.add("torch.compile", lambda: Provider(lambda: form(moved), check))
    by_numpy = Provider(lambda: np.packbits(h.numpy() >= 0, axis=1, bitorder="little"), check, "numpy")
    problem.add("numpy", lambda: only_on_cpu(case, by_numpy))
    return problem


def build_unpack(case: Case) -> Problem:
    rows, bits = int(case.sizes["rows"]), int(case.sizes["bits"])
    codes = torch.randint(0, 256, (rows, bits // 8), dtype=torch.uint8)

    def with_numpy() -> np.ndarray:
        return np.unpackbits(codes.numpy(), axis=1, bitorder="little").astype(np.float32) * 2 - 1

    check = equals(torch.from_numpy(with_numpy()), "signs than numpy's unpackbits")
    moved, powers = codes.to(case.device), POWERS.to(case.device)

    def by_shifts(x: Tensor) -> Tensor:
        return ((x[:, :, None] & powers) != 0).view(rows, bits).float() * 2 - 1

    def ours() -> Tensor:
        return rdh_ext.unpack_codes(moved, bits)

    problem = problem_of(case, f"{rows:,} x {bits}, to float32", unpack_codes(rows, bits), ours, check)
    form = compiled(by_shifts)
    problem.add("eager", lambda: Provider(lambda: by_shifts(moved), check))
    problem.add("torch.compile", lambda: Provider(lambda: form(moved), check))
    problem.add("numpy", lambda: only_on_cpu(case, Provider(with_numpy, check, "numpy")))
    return problem


def build_distance(case: Case) -> Problem:
    x = Codes(case)
    q, g = x.q.to(case.device), x.g.to(case.device)
    q_signs, g_signs = (torch.from_numpy(signs).to(case.device) for signs in (x.q_signs, x.g_signs))

    def by_product(a: Tensor, b: Tensor) -> Tensor:
        return (0.5 * (x.bits - a @ b.T)).to(torch.int16)

    true = by_product(torch.from_numpy(x.q_signs), torch.from_numpy(x.g_signs))
    check = equals(true, "distances than the product of +-1 codes")

    def ours() -> Tensor:
        return rdh_ext.hamming_distance(q, g)

    cost = hamming_distance(x.queries, x.gallery, x.bits)
    problem = problem_of(case, x.title, cost, ours, check)
    form = compiled(by_product)
    part = max(1, x.pairs // SLOW_PAIRS)
    some = q_signs[::part]

    def check_part(found: object) -> float:
        return equals(true[::part], "distances than the product of +-1 codes")(found)

    def slow(step: Step, library: str) -> Provider:
        return Provider(step, check_part, library, parts=x.queries / len(some))

    def by_scikit() -> Provider:
        from sklearn.metrics import pairwise_distances

        rows, columns = some.cpu().numpy() > 0, x.g_signs > 0
        return slow(lambda: np.rint(x.bits * pairwise_distances(rows, columns, metric="hamming")), "scikit-learn")

    def by_numpy() -> Provider:
        if not hasattr(np, "bitwise_count"):
            raise NotHere("numpy has bitwise_count from 2.0 on")
        words = [np.ascontiguousarray(codes.numpy()) for codes in (x.q, x.g)]
        width = next((size for size in (8, 4, 2) if words[0].shape[1] % size == 0), 1)
        a, b = (codes.view(f"u{width}") for codes in words)

        def step() -> np.ndarray:
            out = np.zeros((len(a), len(b)), dtype=np.int16)
            for word in range(a.shape[1]):
                out += np.bitwise_count(a[:, None, word] ^ b[None, :, word])
            return out

        return Provider(step, check, "numpy")

    problem.add("eager", lambda: slow(lambda: torch.cdist(some, g_signs, p=0), "torch"))
    problem.add("eager, best form", lambda: Provider(lambda: by_product(q_signs, g_signs), check))
    problem.add("torch.compile", lambda: Provider(lambda: form(q_signs, g_signs), check), unless=case.quick)
    problem.add("numpy", lambda: only_on_cpu(case, by_numpy()))
    problem.add("scikit-learn", lambda: only_on_cpu(case, by_scikit()))
    return problem


ROWS = (1, 64, 1024, 16_384, 262_144)
OPS = (
    Op(
        "pack_codes",
        "signs to packed bits",
        "forward",
        build_pack,
        default={"rows": 59_000, "bits": 64},
        sweeps={"rows": ROWS, "bits": (16, 64, 256, 1024)},
        quick={},
        device_sizes={"cuda": {"rows": 4_194_304}},
        tests=("tests/ops/test_pack_codes.py",),
    ),
    Op(
        "unpack_codes",
        "packed bits to signs",
        "forward",
        build_unpack,
        default={"rows": 59_000, "bits": 64},
        sweeps={"rows": ROWS},
        device_sizes={"cuda": {"rows": 4_194_304}},
        tests=("tests/ops/test_unpack_codes.py",),
    ),
    Op(
        "hamming_distance",
        "all Hamming distances",
        "forward",
        build_distance,
        default={"queries": 1000, "gallery": 59_000, "bits": 64},
        sweeps={"gallery": (100, 1000, 10_000, 100_000), "bits": (16, 32, 64, 128, 256, 512), "threads": ()},
        base={"bits": {"queries": 100}},
        quick={"queries": 100},
        device_sizes={"cuda": {"gallery": 1_000_000}},
        tests=("tests/ops/test_hamming_distance.py",),
    ),
)
