"""The bank of outputs: what is written, what stays, what is saved, and how it meets the loss."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from backends import require
from hamming_cases import poisoned_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import rdh_ext
from rdh_ext.nn import CodeBank, PairwiseLoss

N, K, C = 9, 4, 5
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda":
        require("cuda")
    return str(request.param)


def make_labels(kind: str, rows: int) -> Tensor:
    return torch.randint(0, C, (rows,)) if kind == "ids" else torch.rand(rows, C) < 0.4


def make_bank(kind: str, **options: Any) -> CodeBank:
    return CodeBank(N, K, classes=None if kind == "ids" else C, **options)


def fill(bank: CodeBank, kind: str) -> CodeBank:
    bank.update(torch.randperm(N), torch.randn(N, K), make_labels(kind, N))
    return bank


every_kind = pytest.mark.parametrize("kind", ["ids", "multi_hot"])


class TestUpdate:
    @given(
        length=st.integers(1, 40),
        batches=st.lists(st.lists(st.integers(0, 39), max_size=80), min_size=1, max_size=3),
        kind=st.sampled_from(["ids", "multi_hot"]),
    )
    @settings(max_examples=60, deadline=None)
    def test_equals_a_loop_over_rows(self, length: int, batches: list[list[int]], kind: str) -> None:
        """Items twice in a batch among them: the last row counts."""
        bank = CodeBank(length, 3, classes=None if kind == "ids" else C)
        rows: dict[int, tuple[Tensor, Tensor]] = {}
        for batch in batches:
            index = torch.tensor([item % length for item in batch], dtype=torch.int64)
            h, labels = torch.randn(len(batch), 3), make_labels(kind, len(batch))
            bank.update(index, h, labels)
            rows.update({int(i): (h[b], labels[b]) for b, i in enumerate(index)})
        for item in range(length):
            assert bool(bank.filled[item]) is (item in rows)
            expected, label = rows.get(
                item, (torch.zeros(3), torch.tensor(2**63 - 1 if kind == "ids" else [False] * C))
            )
            assert torch.equal(bank.outputs[item], expected)
            assert torch.equal(bank.labels[item], label)

    @pytest.mark.parametrize("rows", [1, 63, 65, 1000, 5000])
    def test_the_last_row_of_an_item_counts(self, device: str, rows: int) -> None:
        bank = CodeBank(7, 2).to(device)
        index, labels = torch.randint(0, 7, (rows,), device=device), torch.arange(rows, device=device)
        bank.update(index, labels[:, None].expand(-1, 2).double(), labels)
        for item in index.unique().tolist():
            last = int((index == item).nonzero().max())
            assert bank.outputs[item].tolist() == [last, last]
            assert int(bank.labels[item]) == last

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("of_bank", DTYPES, ids=str)
    def test_rows_are_rounded_to_the_dtype_of_the_bank(
        self, device: str, dtype: torch.dtype, of_bank: torch.dtype
    ) -> None:
        bank = CodeBank(N, K, labels=torch.zeros(N, dtype=torch.int64), dtype=of_bank).to(device)
        h = torch.randn(3, K, dtype=torch.float64).to(dtype).to(device)
        bank.update(torch.tensor([2, 0, 5], device=device), h)
        assert bank.outputs.dtype == of_bank
        assert torch.equal(bank.outputs[[2, 0, 5]], h.to(of_bank))
        assert not bank.outputs[1].any()

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
    def test_any_integers_are_an_index(self, dtype: torch.dtype) -> None:
        bank = make_bank("ids")
        bank.update(torch.tensor([3, 1], dtype=dtype), torch.ones(2, K), torch.tensor([4, 5], dtype=dtype))
        assert bank.filled.nonzero().flatten().tolist() == [1, 3]
        assert bank.labels[[3, 1]].tolist() == [4, 5]

    def test_views_that_are_no_rows_in_memory(self) -> None:
        bank = make_bank("multi_hot")
        h, labels, index = torch.randn(K, 8).t()[::2], (torch.rand(C, 4) < 0.5).t(), torch.arange(8)[1::2]
        bank.update(index, h, labels)
        assert torch.equal(bank.outputs[index], h)
        assert torch.equal(bank.labels[index], labels)

    def test_nothing(self, device: str) -> None:
        bank = make_bank("ids").to(device)
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        bank.update(nothing, torch.empty(0, K, device=device), nothing)
        assert not bank.filled.any()

    def test_other_rows_and_memory_stay(self) -> None:
        bank = fill(make_bank("ids"), "ids")
        before, addresses = copy.deepcopy(bank), [buffer.data_ptr() for buffer in bank.buffers()]
        bank.update(torch.tensor([4]), torch.zeros(1, K), torch.tensor([77]))
        others = torch.arange(N) != 4
        assert torch.equal(bank.outputs[others], before.outputs[others])
        assert torch.equal(bank.labels[others], before.labels[others])
        assert int(bank.labels[4]) == 77
        assert [buffer.data_ptr() for buffer in bank.buffers()] == addresses

    def test_labels_may_be_left_out_where_all_are_known(self) -> None:
        labels = torch.arange(N)
        bank = CodeBank(N, K, labels=labels)
        bank.update(torch.tensor([2]), torch.ones(1, K))
        assert torch.equal(bank.labels, labels)
        bank.update(torch.tensor([2]), torch.ones(1, K), torch.tensor([5]))
        assert int(bank.labels[2]) == 5
        assert int(labels[2]) == 2  # the bank has a copy

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
    def test_without_gradients(self, mode: Any) -> None:
        bank, model = make_bank("ids"), nn.Linear(3, K)
        with mode():
            h = model(torch.ones(1, 3))
            bank.update(torch.tensor([0]), h, torch.tensor([0]))
        assert torch.equal(bank.outputs[:1], model(torch.ones(1, 3)).detach())
        bank.update(torch.tensor([1]), h, torch.tensor([0]))
        assert bool(bank.filled[1])

    def test_poisoned_buffers(self) -> None:
        """Fresh memory holds NaN here, and nondeterministic kernels are errors."""
        with poisoned_memory():
            bank = make_bank("ids")
            assert not bank.outputs.any()
            bank.update(torch.tensor([1, 1, 8]), torch.ones(3, K), torch.tensor([1, 2, 3]))
        assert bank.outputs.sum() == 2 * K
        assert bank.labels[[1, 8]].tolist() == [2, 3]


class TestGraphs:
    def test_rows_are_constants(self) -> None:
        bank = CodeBank(N, K, labels=torch.zeros(N, dtype=torch.int64))
        h = torch.randn(2, K, requires_grad=True)
        bank.update(torch.tensor([0, 1]), h)
        assert not bank.outputs.requires_grad
        assert bank.outputs.grad_fn is None
        h.sum().backward()
        before = bank.outputs.clone()
        with torch.no_grad():
            h.add_(1)  # the bank has a copy, not a view
        assert torch.equal(bank.outputs, before)

    @every_kind
    def test_an_update_between_loss_and_backward_changes_nothing(self, kind: str) -> None:
        bank, labels, index = fill(make_bank(kind), kind), make_labels(kind, 3), torch.arange(3)
        h = torch.randn(3, K, requires_grad=True)
        gradients = []
        for update in (False, True):
            h.grad = None
            loss = PairwiseLoss()(h, labels, bank.outputs, bank.labels)
            if update:
                bank.update(index, h, labels)
            loss.backward()
            gradients.append(h.grad)
        assert bool(gradients[0].any())
        assert torch.equal(*gradients)

    def test_a_loss_that_kept_the_rows_says_so(self) -> None:
        """And computes no wrong gradient in silence."""
        bank = fill(make_bank("ids"), "ids")
        h = torch.randn(2, K, requires_grad=True)
        loss = (h @ bank.outputs.T).square().sum()
        bank.update(torch.tensor([0]), torch.zeros(1, K), torch.tensor([0]))
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    @every_kind
    def test_steps_one_after_the_other(self, kind: str) -> None:
        """As training does it: every step writes into what the step before has read."""
        bank, labels = fill(make_bank(kind), kind), make_labels(kind, N)
        model, criterion = nn.Linear(6, K), PairwiseLoss()
        x = torch.randn(N, 6)
        for index in torch.arange(N).split(4):
            h = model(x[index])
            bank.update(index, h, labels[index])
            criterion(h, labels[index], bank.outputs, bank.labels).backward()
        torch.testing.assert_close(bank.outputs, model(x).detach())
        assert bool(model.weight.grad.any())


class TestLoss:
    @every_kind
    def test_a_row_without_outputs_pulls_nowhere(self, device: str, kind: str) -> None:
        """It adds log 2 to the likelihood, whatever its labels, and dilutes the mean."""
        bank = make_bank(kind).to(device)
        index, labels = torch.tensor([1, 4, 6], device=device), make_labels(kind, 3).to(device)
        h = torch.randn(3, K, device=device, requires_grad=True)
        bank.update(index, h, labels)
        criterion = PairwiseLoss(eta=0.3)
        results = []
        for outputs, of_rows in (
            (bank.outputs, bank.labels),
            (bank.outputs[bank.filled], bank.labels[bank.filled]),
        ):
            h.grad = None
            loss = criterion(h, labels, outputs, of_rows)
            loss.backward()
            results.append((loss.item(), h.grad))
        (whole, grad), (seen, grad_of_seen) = results
        assert whole == pytest.approx((3 * seen + (N - 3) * torch.tensor(2.0).log().item()) / N, rel=1e-5)
        torch.testing.assert_close(grad, grad_of_seen * 3 / N)

    def test_an_item_without_labels_is_similar_to_nothing(self, device: str) -> None:
        labels = torch.tensor([0, 2**62, 3], device=device)
        bank = CodeBank(2, K).to(device)
        got = rdh_ext.pairwise_loss(torch.ones(3, K, device=device), labels, bank.outputs + 1, bank.labels)
        none = torch.zeros(3, 2, device=device)
        assert torch.equal(
            got, rdh_ext.pairwise_loss(torch.ones(3, K, device=device), None, bank.outputs + 1, similarity=none)
        )

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast(self, device: str, dtype: torch.dtype) -> None:
        """Half precision from the model, float32 in the bank, the loss in float32."""
        bank = CodeBank(N, K, labels=torch.arange(N)).to(device)
        model, x, index = (
            nn.Linear(3, K).to(device),
            torch.randn(2, 3, device=device),
            torch.tensor([3, 4], device=device),
        )
        with torch.autocast(device, dtype=dtype):
            h = model(x)
            bank.update(index, h)
            loss = PairwiseLoss()(h, index, bank.outputs, bank.labels)
        assert h.dtype == dtype
        assert bank.outputs.dtype == loss.dtype == torch.float32
        assert torch.equal(bank.outputs[index], h.detach().float())
        loss.backward()
        assert bool(model.weight.grad.any())


class TestCompile:
    @pytest.fixture(autouse=True)
    def _fresh_compiler(self) -> None:
        torch.compiler.reset()

    @staticmethod
    def step(bank: CodeBank, criterion: PairwiseLoss, index: Tensor, h: Tensor, labels: Tensor) -> Tensor:
        bank.update(index, h, labels)
        loss: Tensor = criterion(2 * h, labels, bank.outputs, bank.labels)
        return loss

    @every_kind
    @pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
    def test_update_and_loss_are_one_graph(self, kind: str, compiler: str) -> None:
        criterion, results = PairwiseLoss(), []
        index, labels, h = torch.tensor([3, 8, 3, 0]), make_labels(kind, 4), torch.randn(4, K)
        for call in (self.step, torch.compile(self.step, fullgraph=True, backend=compiler)):
            bank, leaf = make_bank(kind), h.clone().requires_grad_()
            loss = call(bank, criterion, index, leaf, labels)
            loss.backward()
            results.append([loss.detach(), leaf.grad, *bank.buffers()])
        torch.testing.assert_close(results[1], results[0])
        assert bool(results[0][1].any())

    def test_another_batch_size_does_not_compile_again(self) -> None:
        counter = CompileCounter()
        compiled = torch.compile(self.step, fullgraph=True, dynamic=True, backend=counter)
        bank, criterion = make_bank("ids"), PairwiseLoss()
        for rows in (6, 7, 8):  # none of them equal to N, K or C
            compiled(bank, criterion, torch.arange(rows), torch.randn(rows, K), torch.arange(rows))
        assert counter.frame_count == 1


class TestModule:
    @every_kind
    def test_a_checkpoint_holds_all_of_it(self, kind: str) -> None:
        bank, file = fill(make_bank(kind), kind), io.BytesIO()
        model = nn.ModuleDict({"net": nn.Linear(2, 2), "bank": bank})
        torch.save(model.state_dict(), file)
        file.seek(0)
        twin = nn.ModuleDict({"net": nn.Linear(2, 2), "bank": make_bank(kind)})
        assert str(twin.load_state_dict(torch.load(file))) == "<All keys matched successfully>"
        assert sorted(name for name, _ in twin["bank"].named_buffers()) == ["filled", "labels", "outputs"]
        for mine, loaded in zip(bank.buffers(), twin["bank"].buffers(), strict=True):
            assert mine.dtype == loaded.dtype
            assert torch.equal(mine, loaded)

    def test_a_bank_made_with_labels_loads_into_one_made_without(self) -> None:
        bank = CodeBank(N, K, labels=make_labels("multi_hot", N))
        twin = make_bank("multi_hot")
        twin.load_state_dict(bank.state_dict())
        assert torch.equal(twin.labels, bank.labels)
        with pytest.raises(ValueError, match="labels must be given"):
            twin.update(torch.tensor([0]), torch.zeros(1, K))

    @pytest.mark.parametrize(
        ("saved", "made", "message"),
        [
            (CodeBank(N, K), CodeBank(N + 1, K), r"size mismatch for (0\.)?outputs: .*\[9, 4\].*\[10, 4\]"),
            (CodeBank(N, K), CodeBank(N, K + 1), r"size mismatch for (0\.)?outputs: .*\[9, 4\].*\[9, 5\]"),
            (
                CodeBank(N, K, classes=3),
                CodeBank(N, K, classes=4),
                r"size mismatch for (0\.)?labels: .*\[9, 3\].*\[9, 4\]",
            ),
            (
                CodeBank(N, K, classes=3),
                CodeBank(N, K),
                "CodeBank: labels must be class ids, got multi-hot rows of 3 classes in the checkpoint; make the bank "
                "with classes=3, or with the labels",
            ),
            (
                CodeBank(N, K),
                CodeBank(N, K, labels=torch.zeros(N, 3)),
                "CodeBank: labels must be multi-hot rows of 3 classes, got class ids in the checkpoint; make the bank "
                "without classes, or with the labels",
            ),
        ],
    )
    def test_checkpoints_of_another_shape(self, saved: CodeBank, made: CodeBank, message: str) -> None:
        with pytest.raises(RuntimeError, match=message):
            made.load_state_dict(saved.state_dict())
        with pytest.raises(RuntimeError, match=message):  # inside a model the keys have a prefix
            nn.Sequential(made).load_state_dict(nn.Sequential(saved).state_dict())
        nn.Sequential(made).load_state_dict({}, strict=False)

    def test_moves_and_casts(self) -> None:
        bank = fill(make_bank("ids"), "ids").to(torch.bfloat16)
        assert [buffer.dtype for buffer in bank.buffers()] == [torch.bfloat16, torch.int64, torch.bool]
        assert all(buffer.is_meta for buffer in bank.to("meta").buffers())
        with torch.device("meta"):
            assert all(buffer.is_meta for buffer in CodeBank(N, K).buffers())

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda bank: pickle.loads(pickle.dumps(bank))])
    def test_copies(self, copied: Any) -> None:
        bank = fill(make_bank("multi_hot"), "multi_hot")
        twin = copied(bank)
        assert repr(twin) == repr(bank) == f"CodeBank(length={N}, bits={K}, labels=multi-hot rows of {C} classes)"
        twin.outputs.zero_()
        assert bank.outputs.any()
        with pytest.raises(RuntimeError, match="make the bank without classes"):
            twin.load_state_dict(make_bank("ids").state_dict())

    def test_prints_its_sizes(self) -> None:
        assert repr(CodeBank(3, 2, dtype=torch.float16)) == (
            "CodeBank(length=3, bits=2, labels=class ids, dtype=torch.float16)"
        )

    def test_has_nothing_to_train(self) -> None:
        assert list(make_bank("ids").parameters()) == []


INDEX, H, IDS, ROWS = torch.tensor([0, 3]), torch.zeros(2, K), torch.tensor([0, 1]), torch.zeros(2, C, dtype=torch.bool)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("ids", (torch.tensor([0, N]), H, IDS), r"index must be in \[0, 9\), got 9"),
        ("ids", (torch.tensor([-1, 2]), H, IDS), r"index must be in \[0, 9\), got -1"),
        ("ids", (torch.arange(3), H, IDS), r"index must be as long as h \(2 rows\), got int64 \[3\]"),
        (
            "ids",
            (INDEX.to("meta"), H, IDS),
            r"index must be on the device of the bank \(cpu\), got int64 \[2\] on meta",
        ),
        ("ids", (INDEX, H.to("meta"), IDS), r"h must be on the device of the bank \(cpu\), got float32 .* on meta"),
        ("ids", (INDEX, H, IDS.to("meta")), r"labels must be on the device of what it labels \(cpu\), got int64"),
        ("ids", (INDEX, H[:, 1:], IDS), r"h must be of the bank's 4 bits \[B, 4\], got float32 \[2, 3\]"),
        ("ids", (INDEX, H, IDS[:1]), r"labels must be class ids \[2\] .*, got int64 \[1\]"),
        ("ids", (INDEX, H, IDS - 1), r"labels must be class ids \[2\] .*, got -1"),
        ("ids", (INDEX, H, ROWS), "labels must be class ids like the bank, got multi-hot rows"),
        ("ids", (INDEX, H), "labels must be given, as the bank was made without them, got None"),
        ("multi_hot", (INDEX, H, IDS), "labels must be multi-hot rows like the bank, got class ids"),
        ("multi_hot", (INDEX, H, ROWS[:, 1:]), "labels must have the 5 classes of the bank, got 4"),
        ("multi_hot", (INDEX, H, ROWS + 2), r"labels must be .* multi-hot rows \[2, C\] \(bool or 0/1\), got 2"),
    ],
)
def test_an_update_that_does_not_fit_changes_nothing(kind: str, arguments: tuple[Any, ...], message: str) -> None:
    bank = fill(make_bank(kind), kind)
    before = copy.deepcopy(bank)
    with pytest.raises(ValueError, match=f"^CodeBank: {message}"):
        bank.update(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(bank.buffers(), before.buffers(), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": torch.arange(N), "classes": 3}, "classes must be None where labels are given, got both"),
        ({"labels": torch.arange(N - 1)}, r"labels must be class ids \[9\] .*, got int64 \[8\]"),
        ({"labels": torch.arange(N) - 1}, r"labels must be class ids \[9\] .*, got -1"),
        ({"labels": torch.full((N, 2), 0.5)}, r"labels must be class ids \[9\] .*, got 0.5"),
        ({"bits": 4097}, r"bits must be an integer in \[1, 4096\], got 4097"),
    ],
)
def test_a_bank_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^CodeBank: {message}"):
        CodeBank(**{"length": N, "bits": K, **options})
