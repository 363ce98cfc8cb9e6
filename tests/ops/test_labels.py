"""Labels, wherever they are taken: class ids or multi-hot rows, of any dtype, and what is refused, by one rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hamming_cases import nested, random_codes, random_multi_hot
from torch import Tensor

import rdh_ext
from rdh_ext import _labels

ROWS, COLUMNS, BITS = 4, 6, 8
H, BANK = torch.randn(ROWS + COLUMNS, BITS, generator=torch.Generator().manual_seed(0)).split((ROWS, COLUMNS))
Q, G = random_codes(ROWS, BITS, 1), random_codes(COLUMNS, BITS, 2)


class Taker(NamedTuple):
    """A public function that takes labels of rows and of columns; ``call`` gives what follows from them."""

    op: str
    rows: str
    columns: str
    call: Callable[[Any, Any], Tensor]


TAKERS = (
    Taker("pairwise_loss", "labels", "bank_labels", lambda a, b: rdh_ext.pairwise_loss(H, a, BANK, b)),
    Taker("hamming_histogram", "q_labels", "g_labels", lambda a, b: rdh_ext.hamming_histogram(Q, G, a, b)),
    Taker("evaluate", "q_labels", "g_labels", lambda a, b: rdh_ext.evaluate(Q, G, a, b, ties="stable").ap),
)
every_taker = pytest.mark.parametrize("taker", TAKERS, ids=lambda taker: taker.op)

IDS = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 2, 1, 0])
HOT = random_multi_hot(ROWS, 5, 3, share=0.4), random_multi_hot(COLUMNS, 5, 4, share=0.4)


@every_taker
def test_cases_tell_labels_apart(taker: Taker) -> None:
    """What the tests below compare with does depend on labels."""
    for a, b in (IDS, HOT):
        assert not torch.equal(taker.call(a, b), taker.call(a, b.roll(1, 0)))


@every_taker
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8], ids=str)
def test_dtypes_of_class_ids(taker: Taker, dtype: torch.dtype) -> None:
    expected = taker.call(*IDS)
    assert torch.equal(taker.call(IDS[0].to(dtype), IDS[1].to(dtype)), expected)
    assert torch.equal(taker.call(IDS[0], IDS[1].to(dtype)), expected)


@every_taker
@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.int8,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    ],
    ids=str,
)
def test_dtypes_of_multi_hot_rows(taker: Taker, dtype: torch.dtype) -> None:
    expected = taker.call(*HOT)
    assert torch.equal(taker.call(HOT[0].to(dtype), HOT[1].to(dtype)), expected)
    assert torch.equal(taker.call(HOT[0].to(dtype), HOT[1]), expected)


@every_taker
def test_ids_equal_their_one_hot_rows(taker: Taker) -> None:
    one_hot = [torch.nn.functional.one_hot(ids, 3) for ids in IDS]
    assert torch.equal(taker.call(*IDS), taker.call(*one_hot))
    assert torch.equal(taker.call(*IDS), taker.call(*(rows * -0.0 + rows for rows in one_hot)))  # -0.0 is a 0


@every_taker
@pytest.mark.parametrize("offset", [2**24, 2**31, 2**53, 2**63 - 4])
def test_ids_are_compared_as_integers(taker: Taker, offset: int) -> None:
    """Neighbours that are one number in float32, int32 or float64."""
    assert torch.equal(taker.call(*(ids + offset for ids in IDS)), taker.call(*IDS))


@every_taker
@pytest.mark.parametrize("classes", [0, 1, 63, 64, 65, 1000])
def test_any_number_of_classes(taker: Taker, classes: int) -> None:
    """Classes that nobody has change nothing; the ones somebody has may stand anywhere."""
    rows = [torch.zeros(n, classes + 5, dtype=torch.bool) for n in (ROWS, COLUMNS)]
    for wide, narrow in zip(rows, HOT, strict=True):
        wide[:, classes:] = narrow
    assert torch.equal(taker.call(*rows), taker.call(*HOT))


@every_taker
def test_items_without_any_class_are_similar_to_nothing(taker: Taker) -> None:
    nothing = taker.call(torch.zeros(ROWS, 7), torch.zeros(COLUMNS, 7))
    assert torch.equal(nothing, taker.call(torch.zeros(ROWS, dtype=torch.int64), torch.arange(1, COLUMNS + 1)))
    some = [rows.clone() for rows in HOT]
    some[0][2] = False
    if taker.op == "hamming_histogram":
        assert not taker.call(*some)[2, :, 1].any()
    assert not torch.equal(taker.call(*some), taker.call(*HOT))


@every_taker
def test_rows_of_no_classes_are_an_error(taker: Taker) -> None:
    with pytest.raises(ValueError, match=rf"must be multi-hot rows \[{ROWS}, C\] of at least one class, got"):
        taker.call(torch.zeros(ROWS, 0), torch.zeros(COLUMNS, 0))


@every_taker
def test_any_strides(taker: Taker) -> None:
    expected = taker.call(*HOT)
    assert torch.equal(taker.call(*(rows.T.contiguous().T for rows in HOT)), expected)
    assert torch.equal(taker.call(*(rows.repeat_interleave(2, 1)[:, ::2] for rows in HOT)), expected)
    expanded = torch.ones(1, dtype=torch.int64).expand(ROWS), torch.ones(1, dtype=torch.int64).expand(COLUMNS)
    assert torch.equal(taker.call(*expanded), taker.call(expanded[0].clone(), expanded[1].clone()))


@every_taker
def test_labels_are_left_alone(taker: Taker) -> None:
    before = [part.clone() for part in (*IDS, *HOT)]
    taker.call(*IDS)
    taker.call(*HOT)
    assert all(torch.equal(a, b) for a, b in zip(before, (*IDS, *HOT), strict=True))
    rows = HOT[0].float().requires_grad_()
    assert not taker.call(rows, HOT[1]).requires_grad


NAN = float("nan")
WRONG_TYPES = {
    "a list": [0, 1, 0, 1, 0, 1],
    "an array": np.zeros(COLUMNS, dtype=np.int64),
    "strings": ["cat"] * COLUMNS,
    "ids of float": torch.zeros(COLUMNS),
    "ids that are NaN": torch.full((COLUMNS,), NAN),
    "ids of bool": torch.zeros(COLUMNS, dtype=torch.bool),
    "ids of uint16": torch.zeros(COLUMNS, dtype=torch.uint16),
    "complex ids": torch.zeros(COLUMNS, dtype=torch.complex64),
    "complex rows": torch.zeros(COLUMNS, 5, dtype=torch.complex64),
    "sparse rows": torch.zeros(COLUMNS, 5).to_sparse(),
    "nested rows": nested(torch.zeros(COLUMNS, 5)),
}
WRONG_VALUES = {
    "a number": (torch.tensor(3), r"int64 \[\]"),
    "three dimensions": (torch.zeros(COLUMNS, 1, 5), r"float32 \[6, 1, 5\]"),
    "an id too few": (torch.zeros(COLUMNS - 1, dtype=torch.int64), r"int64 \[5\]"),
    "a row too many": (torch.zeros(COLUMNS + 1, 5), r"float32 \[7, 5\]"),
    "no ids": (torch.zeros(0, dtype=torch.int64), r"int64 \[0\]"),
    "a negative id": (torch.tensor([0, 1, 0, 1, -7, 1]), "-7"),
    "a negative id of int8": (torch.tensor([0, 1, 0, 1, -7, 1], dtype=torch.int8), "-7"),
    "NaN in a row": (torch.tensor([[0, 1, 0, 0, NAN]] * COLUMNS), "nan"),
    "infinity in a row": (torch.tensor([[0, 1, 0, 0, -torch.inf]] * COLUMNS), "-inf"),
    "a half": (torch.tensor([[0, 1, 0, 0.5, 0]] * COLUMNS), "0.5"),
    "less than float32 holds": (torch.full((COLUMNS, 5), 1e-300, dtype=torch.float64), "1e-300"),
    "counts": (torch.tensor([[0, 1, 2, 0, 0]] * COLUMNS), "2"),
    "signs": (torch.tensor([[1, -1, -1, -1, -1]] * COLUMNS), "-1"),
    "256, which is 0 as a byte": (torch.tensor([[0, 1, 256, 0, 0]] * COLUMNS), "256"),
    "another device": (torch.zeros(COLUMNS, dtype=torch.int64, device="meta"), r"int64 \[6\] on meta"),
}


@every_taker
@pytest.mark.parametrize("labels", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_wrong_types(taker: Taker, labels: Any) -> None:
    expected = rf"^{taker.op}: {taker.columns} must be (class ids \[6\]|a dense).*, got [^\n]+$"
    with pytest.raises(TypeError, match=expected):
        taker.call(IDS[0], labels)
    if isinstance(labels, Tensor) and labels.layout == torch.strided and not labels.is_nested:
        labels = labels[:ROWS]
    with pytest.raises(TypeError, match=rf"^{taker.op}: {taker.rows} must be "):
        taker.call(labels, IDS[1])


@every_taker
@pytest.mark.parametrize(("labels", "got"), WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_wrong_values(taker: Taker, labels: Tensor, got: str) -> None:
    with pytest.raises(ValueError, match=rf"^{taker.op}: {taker.columns} must be [^\n]+, got {got}[^\n]*$"):
        taker.call(IDS[0], labels)


@every_taker
def test_both_sides_are_of_one_kind(taker: Taker) -> None:
    start = f"^{taker.op}: {taker.columns} must"
    with pytest.raises(ValueError, match=f"{start} be class ids like {taker.rows}, got multi-hot rows$"):
        taker.call(IDS[0], HOT[1])
    with pytest.raises(ValueError, match=f"{start} be multi-hot rows like {taker.rows}, got class ids$"):
        taker.call(HOT[0], IDS[1])
    with pytest.raises(ValueError, match=f"{start} have the 5 classes of {taker.rows}, got 4$"):
        taker.call(HOT[0], HOT[1][:, :4])


def test_a_wrong_value_is_found_in_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_labels, "_VALUES_AT_A_TIME", 12)
    values = torch.zeros(7, 5)
    assert _labels.find_not_binary(values) is None
    values[6, 4] = 3.0
    assert _labels.find_not_binary(values) == 3.0
    assert _labels.find_not_binary(torch.zeros(0, 5)) is None
    assert _labels.find_not_binary(torch.zeros(5, 0)) is None


def test_values_are_not_looked_at_where_that_would_wait() -> None:
    """As on CUDA and while tracing: then all but 0 counts as 1, NaN too."""
    rows = torch.tensor([[0.0, 2.0, NAN], [-1.0, 0.0, 0.0]])
    device = torch.device("cpu")
    looked_away = _labels.normalize_labels("op", "labels", rows, 2, device, check_values=False)
    assert looked_away.tolist() == [[False, True, True], [True, False, False]]
    ids = _labels.normalize_labels("op", "labels", torch.tensor([-1, 5]), 2, device, check_values=False)
    assert ids.tolist() == [-1, 5]
    compiled = torch.compile(rdh_ext.hamming_histogram, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(Q, G, 2 * HOT[0].int(), HOT[1].int()), rdh_ext.hamming_histogram(Q, G, *HOT))
