"""hamming_topk: the k nearest codes, against FAISS, plain torch, numpy and scikit-learn.

FAISS is IndexBinaryFlat, built before, in its two modes. ``eager`` sorts all distances, ``eager, best form`` is topk of
the product of +-1 codes; ``numpy`` is argpartition of the same. All distances have to be right; which of the items at
the last distance are taken is theirs to choose, rdh_ext takes the first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from _ceilings import scanning
from _codes import Codes
from _hamming_peers import faiss_searches
from _measure import at_level
from _op_codes import compiled, only_on_cpu
from _problem import OURS, Case, NotHere, Op, Problem, Provider, Step, Wrong, not_installed
from costs import hamming_topk
from torch import Tensor

import rdh_ext
from rdh_ext import _native

FLOATS = 1 << 31  # most bytes of distances in float32 at a time; queries go in blocks
SLOW_PAIRS = {"eager": 6_000_000, "numpy": 6_000_000, "scikit-learn": 600_000}


def faiss_on_gpu(x: Codes, k: int, check: Callable[[object], float]) -> Provider:
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise NotHere("this FAISS is built without CUDA")
    index = faiss.GpuIndexBinaryFlat(faiss.StandardGpuResources(), 8 * x.q.shape[1])
    index.add(x.g.numpy())
    q = x.q.numpy()
    return Provider(lambda: index.search(q, k)[0], check, "faiss")


def build(case: Case) -> Problem:
    x, k = Codes(case), min(int(case.sizes["k"]), int(case.sizes["gallery"]))
    q, g = x.q.to(case.device), x.g.to(case.device)
    cost = hamming_topk(x.queries, x.gallery, x.bits, k)
    true, _ = rdh_ext.hamming_topk(x.q, x.g, k)

    def distances_of(found: object) -> Tensor:
        first = found[0] if isinstance(found, tuple) else found
        return first.cpu() if isinstance(first, Tensor) else torch.from_numpy(np.asarray(first))

    def checked(part: int) -> Callable[[object], float]:
        def check(found: object) -> float:
            if not torch.equal(distances_of(found).to(torch.int16), true[::part]):
                raise Wrong("other distances")
            return 0.0

        return check

    def against_sort(found: object) -> float:
        """Of some queries, by a stable sort in numpy."""
        assert isinstance(found, tuple)
        for i in range(0, x.queries, max(1, x.queries // 3)):
            far = np.unpackbits(x.q[i].numpy() ^ x.g.numpy(), axis=1).sum(1, dtype=np.int64)
            order = np.argsort(far, kind="stable")[:k]
            if not (np.array_equal(found[1][i].cpu(), order) and np.array_equal(found[0][i].cpu(), far[order])):
                raise Wrong(f"top-{k} of query {i} is not that of a stable sort")
        return 0.0

    def ours() -> object:
        return rdh_ext.hamming_topk(q, g, k)

    problem = Problem(f"{x.title}, k = {k:,}", cost, {OURS: Provider(ours, against_sort, "rdh_ext", kind=OURS)})
    if case.device == "cpu":
        if "avx2" in _native.cpu_levels()[:-1]:
            slower = Provider(at_level("avx2", ours), against_sort, "rdh_ext", kind=OURS)
            problem.add(f"{OURS} avx2", lambda: slower)
        gallery = rdh_ext.retrieval.Gallery(x.g, bits=x.bits)
        prepared = Provider(lambda: gallery.topk(x.q, k), against_sort, "rdh_ext", kind=OURS)
        problem.add(f"{OURS}, gallery prepared", lambda: prepared)

    def by_faiss(mode: str) -> Provider:
        searches = faiss_searches(x, case.threads)
        if not searches:
            raise not_installed("faiss")
        return Provider(lambda: searches[mode](k), checked(1), "faiss")

    def in_torch(select: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], slow: bool) -> Provider:
        part = max(1, x.pairs // SLOW_PAIRS["eager"]) if slow else 1
        signs, columns = (torch.from_numpy(each).to(case.device) for each in (x.q_signs[::part], x.g_signs))
        blocks = signs.split(max(1, FLOATS // (4 * x.gallery)))

        def step() -> tuple[Tensor, Tensor]:
            found = [select(block, columns) for block in blocks]
            return torch.cat([d for d, _ in found]), torch.cat([i for _, i in found])

        return Provider(step, checked(part), parts=x.queries / len(signs))

    def sorting(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        distance, order = (0.5 * (x.bits - a @ b.T)).sort(1)
        return distance[:, :k], order[:, :k]

    def selecting(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        product, order = (a @ b.T).topk(k)
        return 0.5 * (x.bits - product), order

    def partition() -> Provider:
        part = max(1, x.pairs // SLOW_PAIRS["numpy"])
        signs, columns = x.q_signs[::part], x.g_signs

        def step() -> np.ndarray:
            distance = 0.5 * (x.bits - signs @ columns.T)
            nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
            return np.sort(np.take_along_axis(distance, nearest, 1), axis=1)

        return Provider(step, checked(part), "numpy", parts=x.queries / len(signs))

    def neighbours() -> Provider:
        from sklearn.neighbors import NearestNeighbors

        part = max(1, x.pairs // SLOW_PAIRS["scikit-learn"])
        signs = x.q_signs[::part] > 0
        index = NearestNeighbors(n_neighbors=k, metric="hamming", algorithm="brute").fit(x.g_signs > 0)
        step: Step = lambda: np.rint(x.bits * index.kneighbors(signs)[0])  # noqa: E731
        return Provider(step, checked(part), "scikit-learn", parts=x.queries / len(signs))

    peers: dict[str, Callable[[], Provider]] = {
        "FAISS, counting": lambda: only_on_cpu(case, by_faiss("FAISS counting")),
        "FAISS, heap": lambda: only_on_cpu(case, by_faiss("FAISS heap")),
        "eager": lambda: in_torch(sorting, True),
        "eager, best form": lambda: in_torch(selecting, False),
        "torch.compile": lambda: in_torch(compiled(selecting), False),
        "numpy": lambda: only_on_cpu(case, partition()),
        "scikit-learn": lambda: only_on_cpu(case, neighbours()),
    }
    if case.device == "cuda":
        peers["FAISS on the GPU"] = lambda: faiss_on_gpu(x, k, checked(1))
    for name, make in peers.items():
        problem.add(name, make, unless=case.quick and name == "torch.compile")
    problem.set_ceiling(lambda: scanning(case, x.q, x.g, cost))
    return problem


OPS = (
    Op(
        "hamming_topk",
        "the k nearest codes",
        "forward",
        build,
        default={"queries": 1000, "gallery": 59_000, "bits": 64, "k": 100},
        sweeps={
            "gallery": (1000, 10_000, 100_000, 1_000_000),
            "bits": (16, 32, 64, 128, 256),
            "k": (1, 10, 100, 1000, 10_000),
            "threads": (),
        },
        base={"gallery": {"queries": 100}},
        quick={"queries": 200},
        device_sizes={"cuda": {"queries": 10_000, "gallery": 1_000_000}},
        tests=("tests/ops/test_hamming_topk.py",),
    ),
)
