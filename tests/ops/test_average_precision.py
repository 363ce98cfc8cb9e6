"""Average precision of whole rankings, on every backend: against every order of tied items, and against 50 digits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hamming_cases import poisoned_memory
from oracles import average_precision as oracle
from torch import Tensor

from rdh_ext.ops.average_precision import average_precision
from rdh_ext.reference.average_precision import average_precision as reference


def of_buckets(*buckets: tuple[int, int]) -> Tensor:
    return torch.tensor([buckets])


def test_every_order_of_ties(backend: str) -> None:
    sizes = [sizes for sizes in itertools.product(range(6), repeat=3) if sum(sizes) <= 6]
    cases = [
        tuple(zip(size, relevant, strict=True))
        for size in sizes
        for relevant in itertools.product(*(range(n + 1) for n in size))
    ]
    with poisoned_memory():
        ours = average_precision(torch.tensor(cases).to(backend))
    assert ours.dtype == torch.float64
    for case, value in zip(cases, ours.tolist(), strict=True):
        mean, _, _ = oracle.mean_and_bounds(case, max(1, sum(n for n, _ in case)), "found")
        assert value == pytest.approx(float(mean), rel=2e-15), case


@pytest.mark.parametrize("items", [10**3, 65_534, 65_535, 65_536, 65_537, 10**6, 10**8, 2**31, 2**32 + 1, 10**12])
def test_buckets_of_any_size(backend: str, items: int) -> None:
    """Harmonic numbers from the table, from behind it, and across its end."""
    cases = (
        ((items, items // 10), (items // 3, 5), (7, 7), (0, 0), (2 * items, items)),
        ((3, 0), (items, 1), (items, 0), (items, 1)),
        ((items, 0), (items, items), (1, 0), (1, 1)),
        ((1, 1), (65_534, 3), (2, 2), (items, 2)),
        ((items, items // 2), (items + 1, 1), (3, 1)),
    )
    for buckets in cases:
        exact, _, _ = oracle.whole_ranking(buckets)
        ours = average_precision(of_buckets(*buckets).to(backend)).item()
        assert ours == pytest.approx(float(exact), rel=1e-14), buckets


@pytest.mark.parametrize("bins", [2, 3, 65, 257, 4097])
@pytest.mark.parametrize("queries", [0, 1, 64, 65, 200])
def test_equals_the_reference(backend: str, queries: int, bins: int) -> None:
    rng = np.random.default_rng(queries)
    items = rng.multinomial(200_000, rng.dirichlet(np.ones(bins)), size=queries)
    histogram = torch.from_numpy(np.stack((items, rng.binomial(items, 0.1)), axis=-1))
    ours = average_precision(histogram.to(backend)).cpu()
    assert ours.shape == (queries,)
    np.testing.assert_allclose(ours, reference(histogram), rtol=1e-13, atol=0)
    alone = [average_precision(row[None].to(backend)).cpu() for row in histogram[:5]]
    assert torch.equal(ours[:5], torch.cat([*alone, ours[:0]]))


def test_nothing_relevant(backend: str) -> None:
    histogram = torch.tensor([[[5, 0], [3, 0]], [[0, 0], [0, 0]], [[0, 0], [1, 1]]])
    assert average_precision(histogram.to(backend)).tolist() == [0, 0, 1]
    assert average_precision(histogram[:, :0].to(backend)).tolist() == [0, 0, 0]


def test_awkward_memory(backend: str) -> None:
    histogram = torch.tensor([[[5, 2], [3, 1]], [[4, 4], [4, 0]], [[8, 1], [0, 0]]])
    expected = average_precision(histogram.to(backend))
    wide = histogram.new_zeros((6, 5, 2))
    wide[::2, 1::3] = histogram
    for view in (wide.to(backend)[::2, 1::3], histogram.to(backend).mT.contiguous().mT):
        assert not view.is_contiguous()
        assert torch.equal(average_precision(view), expected)


def test_opcheck(backend: str) -> None:
    for shape in ((3, 4, 2), (0, 4, 2), (2, 1, 2)):
        histogram = torch.ones(shape, dtype=torch.int64, device=backend)
        torch.library.opcheck(torch.ops.rdh_ext.average_precision.default, (histogram,))
