"""``HammingMAP`` in two processes: what one computes with the items of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hamming_map_cases import Case, evaluated, same_bits
from hamming_map_worker import BITS, KINDS, SPLITS, TIES, make_items
from process_group import SETUPS, run_setup

from rdh_ext.retrieval import EvaluationResult

WORKER = Path(__file__).parents[1] / "hamming_map_worker.py"


@pytest.fixture(scope="module", params=SETUPS, ids=lambda setup: "-".join(setup[:2]))
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes have computed, which do all their jobs in one life."""
    return run_setup(request.param, tmp_path_factory.mktemp("ranks"), WORKER)


def joint(kind: str, shares: Any) -> Case:
    """The items of both ranks, one rank behind the other."""
    (hq, q_labels), (hg, g_labels) = make_items(kind)
    (q_first, q_second), (g_first, g_second) = shares
    queries = (torch.cat((part[q_first], part[q_second])) for part in (hq, q_labels))
    gallery = (torch.cat((part[g_first], part[g_second])) for part in (hg, g_labels))
    (hq, q_labels), (hg, g_labels) = queries, gallery
    return hq, hg, q_labels, g_labels


def assert_computed(got: dict[str, Any], expected: EvaluationResult) -> None:
    assert same_bits(got["value"], torch.tensor(expected.map))
    assert same_bits(got["ap"], expected.ap)
    assert torch.equal(got["histogram"], expected.histogram)
    assert got["queries"] == expected.queries


class TestTwoProcesses:
    @pytest.mark.parametrize("split", SPLITS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_equal_one(self, ranks: list[dict[str, Any]], kind: str, split: str) -> None:
        """Bit for bit, with ranks that have no queries, no gallery, or nothing; and without update, or an empty one."""
        names = [name for name in ranks[0]["compute_jointly"] if name.startswith(f"{kind}, {split}, ")]
        assert len(names) == len(TIES) + 1
        for name in names:
            expected = evaluated(joint(kind, SPLITS[split]), ties=name.split(", ")[-2])
            for rank in ranks:
                assert_computed(rank["compute_jointly"][name], expected)

    def test_go_on_after_computing(self, ranks: list[dict[str, Any]]) -> None:
        (hq, q_labels), (hg, g_labels) = make_items("ids")
        for rank, results in enumerate(part["go_on_after_computing"] for part in ranks):
            for step, stop in enumerate((20, 45, 60)):
                expected = evaluated((hq, hg[:stop], q_labels, g_labels[:stop]), topk=20)
                assert same_bits(results[f"step {step}"]["value"], torch.tensor(expected.map))
                assert same_bits(results[f"step {step}"]["ap"].sort().values, expected.ap.sort().values)
            assert results["mine"] == (31, 29)[rank]
            both = evaluated((hg, hg, g_labels, g_labels), topk=20)
            assert same_bits(results["both"]["value"], torch.tensor(both.map))

    def test_collections(self, ranks: list[dict[str, Any]]) -> None:
        for results in (rank["compute_collections"] for rank in ranks):
            assert len(results) == 6
            for name, values in results.items():
                case = joint("multi_hot", SPLITS[name.rsplit(", ", 1)[0]])
                assert same_bits(values["all"], torch.tensor(evaluated(case).map))
                assert same_bits(values["first"], torch.tensor(evaluated(case, topk=5, denominator="min").map))

    def test_nothing_on_any_rank(self, ranks: list[dict[str, Any]]) -> None:
        for results in (rank["compute_nothing"] for rank in ranks):
            assert results["value"] == 0
            assert results["histogram"].shape == (0, BITS + 1, 2)

    def test_every_rank_hears_of_a_difference(self, ranks: list[dict[str, Any]]) -> None:
        """And goes on with what it has."""
        for results in (rank["compute_what_does_not_fit"] for rank in ranks):
            message = "HammingMAP: h and labels must be alike on all ranks, got 10 bits with class ids (rank 0) and "
            assert results["bits"] == f"{message}9 bits with class ids (rank 1)"
            assert results["kind of labels"] == f"{message}10 bits with multi-hot rows of 2 classes (rank 1)"
            assert "got 1 of 2 queries without one" in results["a query without relevant items"]
            assert results["mine"] == 2
            h, labels = torch.ones(6, 10), torch.tensor([0, 0, 1, 0, 0, 1])
            assert_computed(results["after"], evaluated((h[:2], h, torch.tensor([0, 1]), labels)))
