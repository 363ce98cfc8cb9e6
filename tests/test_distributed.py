"""Two processes: what they compute together is what one computes with the batch of both."""

from __future__ import annotations

import re
from typing import Any

import ddp_worker
import pytest
import torch
from ddp_worker import KINDS, ROWS, SPLITS, alone, make_net, whole
from process_group import SETUPS, run_setup

import rdh_ext
from rdh_ext.distributed import gather_batch
from rdh_ext.nn import BitCounter

needs_processes = pytest.mark.skipif(not torch.distributed.is_available(), reason="a PyTorch without torch.distributed")


@pytest.fixture(scope="module", params=SETUPS, ids=lambda setup: "-".join(setup[:2]))
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of both processes, which do all their jobs in one life."""
    return run_setup(request.param, tmp_path_factory.mktemp("ranks"))


def assert_close(got: Any, expected: Any) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


@needs_processes
class TestTwoProcesses:
    def test_data_parallel_in_two_processes(self, ranks: list[dict[str, Any]]) -> None:
        """Gradients are the mean over ranks, each rank counts its own bits, and their sum is everybody's."""
        results = [rank["count_bits"] for rank in ranks]
        grads, counts = [], torch.zeros(3, dtype=torch.int64)
        x, labels = ddp_worker.make_batch()
        for rank in range(2):
            counter = BitCounter("cpu")
            model = ddp_worker.make_model(counter)
            ddp_worker.loss_of(model, x.chunk(2)[rank], labels.chunk(2)[rank]).backward()
            grads.append(ddp_worker.gradients(model))
            assert results[rank]["counts"].tolist() == list(counter.read(reset=False))
            counts += torch.tensor(counter.read())
        assert counts[0] > 0
        mean = [(a + b) / 2 for a, b in zip(*grads, strict=True)]
        for result in results:
            assert torch.equal(result["everyone"], counts)
            torch.testing.assert_close(result["grads"], mean)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_step_equals_that_of_one_process(self, ranks: list[dict[str, Any]], kind: str) -> None:
        expected = ddp_worker.one_step(make_net(), whole, alone, kind)
        assert all(bool(grad.any()) for grad in expected["grads"])
        for split in SPLITS:
            for rank in ranks:
                assert_close(rank["train_jointly"][f"{kind}, {split}"], expected)

    def test_another_loss_on_every_rank(self, ranks: list[dict[str, Any]]) -> None:
        """Then it is the gradient of their mean."""
        net = make_net()
        x, labels, _ = ddp_worker.make_items("ids", ROWS)
        h = net(x)
        (sum(ddp_worker.part_of_the_loss(rank, h, labels) for rank in range(2)) / 2).backward()
        for rank in ranks:
            assert_close(rank["train_in_parts"]["grads"], ddp_worker.gradients(net))

    @pytest.mark.parametrize("kind", ["ids", "multi_hot"])
    def test_a_bank_equals_that_of_one_process(self, ranks: list[dict[str, Any]], kind: str) -> None:
        expected = ddp_worker.train_with_bank(make_net(), whole, alone, kind)
        assert bool(expected["bank"]["filled"].all())
        for rank in ranks:
            assert_close(rank["train_with_banks"][kind], expected)
        for name, buffer in ranks[0]["train_with_banks"][kind]["bank"].items():
            assert torch.equal(buffer, ranks[1]["train_with_banks"][kind]["bank"][name])

    def test_tensors_arrive_bit_for_bit(self, ranks: list[dict[str, Any]]) -> None:
        expected = [tensor.resolve_conj().contiguous() for tensor in ddp_worker.make_tensors()]
        for rank in ranks:
            results = rank["gather_tensors"]
            for split in SPLITS:
                for got, joint in zip(results[split], expected, strict=True):
                    assert (got.dtype, got.shape) == (joint.dtype, joint.shape)
                    assert got.is_contiguous()
                    assert got.flatten().view(torch.uint8).equal(joint.flatten().view(torch.uint8))
            assert [tuple(tensor.shape) for tensor in results["nothing"]] == [(0, ddp_worker.BITS)] * 3
            assert [tensor.tolist() for tensor in results["one row"]] == [[[1.0]], [[True]], [[1.0]]]

    def test_gradients_are_summed_over_ranks(self, ranks: list[dict[str, Any]]) -> None:
        for dtype in (torch.float64, torch.bfloat16, torch.float16):
            x = torch.linspace(-1, 1, ROWS * ddp_worker.BITS, dtype=torch.float64).reshape(ROWS, -1).to(dtype)
            b = torch.zeros_like(x)
            b[:, 0] = 1
            for rank in range(2):
                mine = [ddp_worker.share_of(rank)(grad) for grad in (4 * x, torch.full_like(x, 3), b)]
                for got, expected in zip(ranks[rank]["gather_gradients"][str(dtype)], mine, strict=True):
                    assert got.dtype == dtype
                    torch.testing.assert_close(got, expected)

    def test_groups(self, ranks: list[dict[str, Any]]) -> None:
        for rank in ranks:
            results = rank["gather_in_groups"]
            assert results["joint"].tolist() == [[0.0, 0.0], [1.0, 1.0]]
            assert results["labels"] is None
            assert results["used"] == [True] * 3  # sizes, rows, gradient
            assert results["gradient"] == (True, False)
        assert ranks[0]["gather_in_groups"]["only"] == "the very tensor"
        assert ranks[1]["gather_in_groups"]["only"].startswith("gather_batch: group must be one that this rank is in")

    def test_compiles_with_a_break(self, ranks: list[dict[str, Any]]) -> None:
        for rank in ranks:
            results = rank["compile_a_step"]
            assert_close(results["compiled"], results["eager"])

    @pytest.mark.parametrize(
        ("name", "argument", "first", "second"),
        [
            ("bits", "h", "float32 [B, 4] on", "float32 [B, 5] on"),
            ("dtype", "h", "float32 [B, 4] on", "float64 [B, 4] on"),
            ("gradient", "h", "float32 [B, 4] on", "float32 [B, 4] on with gradient"),
            ("kind of labels", "labels", "int64 [B] on", "bool [B, 4] on"),
            ("no labels", "labels", "int64 [B] on", "None"),
            ("columns", "others[0]", "float32 [B, 2] on", "float32 [B, 3] on"),
            ("dimensions of others", "others[0]", "float32 [B, 2] on", "float32 [B, 2, 1] on"),
            ("more", "others[1]", "nothing", "float32 [B] on"),
            ("fewer", "others[0]", "float32 [B, 2] on", "nothing"),
        ],
    )
    def test_every_rank_hears_of_a_difference(
        self, ranks: list[dict[str, Any]], name: str, argument: str, first: str, second: str
    ) -> None:
        told = [
            rank["gather_what_does_not_fit"][name].replace("on cuda", "on").replace("on cpu", "on") for rank in ranks
        ]
        assert told[0] == told[1]
        got = f"{first} (rank 0) and {second} (rank 1)"
        assert told[0] == f"ValueError: gather_batch: {argument} must be alike on all ranks, got {got}"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("dimensions", r"ValueError: gather_batch: h must be a tensor of 2 dimensions, got .* \(rank 1\)"),
            ("no tensor", r"TypeError: gather_batch: h must be a torch.Tensor, got list \[\[0.0\]\] \(rank 1\)"),
            ("meta", r"ValueError: gather_batch: h must be on a device that the process group serves \(.*, got .*1\)"),
            ("length of labels", r"ValueError: gather_batch: labels must be class ids \[3\] .*, got int64 \[2\] .*1\)"),
            ("dtype of labels", r"TypeError: gather_batch: labels must be class ids \[3\] .*, got float32 \[3\] .*1\)"),
            ("both", r"ValueError: gather_batch: h must be a tensor of 2 dimensions, got .* \(rank 0\)"),
        ],
    )
    def test_every_rank_hears_what_is_wrong_on_one(self, ranks: list[dict[str, Any]], name: str, message: str) -> None:
        told = [rank["gather_what_does_not_fit"][name] for rank in ranks]
        assert told[0] == told[1]
        assert re.fullmatch(message, told[0]), told[0]

    def test_nobody_is_left_waiting(self, ranks: list[dict[str, Any]]) -> None:
        """After all these errors the ranks are still in step."""
        for rank in ranks:
            results = rank["gather_what_does_not_fit"]
            assert list(results) == [*ddp_worker.BAD, "both", "after"]
            assert results["after"][:, 0].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


class TestOneProcess:
    def test_returns_what_came(self) -> None:
        h, labels, index = torch.randn(3, 2, requires_grad=True), torch.arange(3), torch.arange(3)
        for got, given in zip(gather_batch(h, labels, index), (h, labels, index), strict=True):
            assert got is given
        assert gather_batch(h, None) == (h, None)

    def test_compiles_to_one_graph(self) -> None:
        """What was written for many ranks stays one graph on one."""
        torch.compiler.reset()

        @torch.compile(fullgraph=True, backend="aot_eager")
        def loss_of(h: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return rdh_ext.pairwise_loss(*gather_batch(2 * h, labels))

        h, labels = torch.randn(3, 2), torch.arange(3)
        assert torch.equal(loss_of(h, labels), rdh_ext.pairwise_loss(2 * h, labels))

    @pytest.mark.parametrize(
        ("group", "error", "message"),
        [
            ("gloo", TypeError, "group must be a torch.distributed.ProcessGroup or None, got str 'gloo'"),
            (0, TypeError, "group must be a torch.distributed.ProcessGroup or None, got int 0"),
            pytest.param(
                getattr(getattr(torch.distributed, "GroupMember", None), "NON_GROUP_MEMBER", None),
                ValueError,
                "group must be one that this rank is in",
                marks=needs_processes,
            ),
        ],
    )
    def test_no_group(self, group: Any, error: type, message: str) -> None:
        with pytest.raises(error, match=f"^gather_batch: {message}"):
            gather_batch(torch.zeros(1, 1), None, group=group)

    @pytest.mark.parametrize(
        ("others", "error", "message"),
        [
            (
                [torch.zeros(3)],
                ValueError,
                r"others\[0\] must be a tensor with a row for each of the 2 of h, got float32",
            ),
            (
                [torch.zeros(())],
                ValueError,
                r"others\[0\] must be a tensor with a row for each of the 2 of h, got float32",
            ),
            ([torch.zeros(2), [1, 2]], TypeError, r"others\[1\] must be a torch.Tensor, got list"),
            ([torch.zeros(2), None], TypeError, r"others\[1\] must be a torch.Tensor, got NoneType"),
            ([torch.zeros(2, 2).to_sparse()], TypeError, r"others\[0\] must be a dense \(strided\) tensor"),
            (
                [torch.zeros(2, device="meta")],
                ValueError,
                r"others\[0\] must be on the device of h \(cpu\), got float32",
            ),
        ],
    )
    def test_others_that_do_not_fit(self, others: list[Any], error: type, message: str) -> None:
        with pytest.raises(error, match=f"^gather_batch: {message}"):
            gather_batch(torch.zeros(2, 1), None, *others)
