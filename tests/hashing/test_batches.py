"""Batches follow from seed and epoch alone: not from processes, workers, batch sizes, or where a training began."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rdh_ext.hashing.batches import EpochBatches, generator_for, input_batches, training_loader
from rdh_ext.hashing.data import ImageFiles, Part, Preprocessing, TensorSource

ITEMS = 37


def part_of(items: int = ITEMS, shape: tuple[int, ...] = (3, 12, 10)) -> Part:
    """Items in another order than in their source, in which others are, too."""
    generator = torch.Generator().manual_seed(1)
    source = TensorSource(torch.randint(0, 256, (2 * items, *shape), generator=generator, dtype=torch.uint8))
    where = torch.randperm(2 * items, generator=generator)[:items]
    return Part(source, where, torch.arange(items) % 5)


def orders(batches: EpochBatches, epochs: int) -> list[list[list[int]]]:
    out = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        out.append(list(batches))
    return out


class TestOrder:
    def test_each_epoch_has_whole_batches_of_different_items(self) -> None:
        batches = EpochBatches(ITEMS, 8, seed=3)
        assert len(batches) == 4
        seen = orders(batches, 3)
        for epoch in seen:
            assert [len(batch) for batch in epoch] == [8] * 4
            flat = list(itertools.chain(*epoch))
            assert len(set(flat)) == 32
            assert set(flat) < set(range(ITEMS))
        assert seen[0] != seen[1] != seen[2] != seen[0]
        left_out = [set(range(ITEMS)) - set(itertools.chain(*epoch)) for epoch in seen]
        assert left_out[0] != left_out[1]  # the last batch, which is not whole, has other items each time

    def test_it_depends_on_seed_and_epoch_alone(self) -> None:
        first = orders(EpochBatches(ITEMS, 8, seed=3), 5)
        torch.manual_seed(99)
        torch.rand(7)
        assert orders(EpochBatches(ITEMS, 8, seed=3), 5) == first
        assert orders(EpochBatches(ITEMS, 8, seed=4), 5) != first
        generator = torch.Generator().manual_seed(3)
        for epoch in first:
            assert list(itertools.chain(*epoch)) == torch.randperm(ITEMS, generator=generator)[:32].tolist()

    def test_an_epoch_is_the_same_without_the_earlier_ones_and_again_and_backwards(self) -> None:
        first = orders(EpochBatches(ITEMS, 8, seed=3), 5)
        batches = EpochBatches(ITEMS, 8, seed=3)
        for epoch in (3, 3, 4, 1, 0, 4):
            batches.set_epoch(epoch)
            assert list(batches) == first[epoch]

    @pytest.mark.parametrize("batch_size", [8, 9, 37, 100])
    @pytest.mark.parametrize("ranks", [2, 3])
    def test_slices_of_ranks_are_the_batches_of_one_process(self, batch_size: int, ranks: int) -> None:
        alone = orders(EpochBatches(ITEMS, batch_size, seed=0), 2)
        of_ranks = [orders(EpochBatches(ITEMS, batch_size, seed=0, rank=rank, ranks=ranks), 2) for rank in range(ranks)]
        for epoch, batches in enumerate(alone):
            for number, batch in enumerate(batches):
                slices = [of_ranks[rank][epoch][number] for rank in range(ranks)]
                assert list(itertools.chain(*slices)) == batch
                assert max(map(len, slices)) - min(map(len, slices)) <= 1

    def test_fewer_items_than_a_batch_are_one_batch(self) -> None:
        batches = EpochBatches(5, 128, seed=0)
        assert len(batches) == 1
        [batch] = batches
        assert sorted(batch) == [0, 1, 2, 3, 4]


class TestLoader:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_inputs_labels_and_places_belong_together(self, workers: int) -> None:
        part, preprocessing = part_of(), Preprocessing(scale=1 / 255)
        loader = training_loader(part, preprocessing, 8, seed=1, workers=workers)
        assert len(loader) == 4
        for inputs, labels, where in loader:
            assert torch.equal(inputs, part.images[where] * torch.tensor(1 / 255))
            assert torch.equal(labels, part.labels[where])
            assert where.dtype == torch.int64

    def test_several_labels_and_features(self) -> None:
        labels = torch.rand(ITEMS, 4) < 0.5
        part = Part(TensorSource(torch.randn(ITEMS, 6)), torch.arange(ITEMS), labels)
        for inputs, own, where in training_loader(part, Preprocessing(), 10, seed=1):
            assert torch.equal(inputs, part.images[where])
            assert torch.equal(own, labels[where])

    @pytest.mark.parametrize("augment", ["flip", "crop_flip"])
    def test_augmentation_does_not_depend_on_workers_batches_or_ranks(self, augment: str) -> None:
        if augment == "crop_flip":
            pytest.importorskip("torchvision")
        part, preprocessing = part_of(), Preprocessing(scale=1 / 255, augment=augment)

        def views(
            epoch: int, batch_size: int = 8, workers: int = 0, rank: int = 0, ranks: int = 1
        ) -> dict[int, Tensor]:
            loader = training_loader(part, preprocessing, batch_size, seed=2, rank=rank, ranks=ranks, workers=workers)
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            return {place: view for batch in loader for view, place in zip(batch[0], batch[2].tolist(), strict=True)}

        def agree(first: dict[int, Tensor], second: dict[int, Tensor]) -> bool:
            common = first.keys() & second.keys()
            assert len(common) > 10
            return all(torch.equal(first[place], second[place]) for place in common)

        first = views(epoch=3)
        assert agree(first, views(epoch=3, workers=2))
        assert agree(first, views(epoch=3, batch_size=5))
        both = views(epoch=3, rank=0, ranks=2) | views(epoch=3, rank=1, ranks=2, workers=2)
        assert both.keys() == first.keys()
        assert agree(first, both)
        assert not agree(first, views(epoch=4))
        plain = {place: part.images[place] / 255 for place in first}
        assert not agree(first, plain)

    def test_each_epoch_of_a_loader_is_augmented_anew(self) -> None:
        loader = training_loader(part_of(), Preprocessing(augment="flip"), 37, seed=2, workers=2)
        views = []
        for epoch in (0, 1, 0):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            [(inputs, _, where)] = loader
            views.append(inputs[where.argsort()])
        assert not torch.equal(views[0], views[1])
        assert torch.equal(views[0], views[2])


class TestInputs:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_some_items_in_their_order_as_they_are(self, workers: int) -> None:
        part, preprocessing = part_of(), Preprocessing(scale=1 / 255, augment="flip")
        places = torch.arange(30, 4, -1)
        batches = list(input_batches(part, preprocessing, places, 8, workers))
        assert [len(batch) for batch in batches] == [8, 8, 8, 2]
        assert torch.equal(torch.cat(batches), part.images[places] * torch.tensor(1 / 255))

    def test_none(self) -> None:
        assert list(input_batches(part_of(), Preprocessing(), torch.arange(0), 8, 2)) == []

    def test_files(self, tmp_path: Path) -> None:
        image = pytest.importorskip("PIL.Image")
        pytest.importorskip("torchvision")
        for n in range(5):
            image.new("RGB", (20 + n, 15), (10 * n, 0, 0)).save(tmp_path / f"{n}.png")
        part = Part(ImageFiles([f"{n}.png" for n in range(5)], tmp_path), torch.tensor([4, 0, 2]), torch.arange(3))
        [inputs] = input_batches(part, Preprocessing(size=8), torch.arange(3), 8)
        assert inputs.shape == (3, 3, 8, 8)
        assert inputs[:, 0].mean(dim=(1, 2)).tolist() == [40, 0, 20]


class Broken(TensorSource):
    """Item 3 cannot be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(torch.zeros(8, 3))
        self.error = error

    def read(self, index: Tensor) -> Tensor:
        if 3 in index.tolist():
            raise self.error
        return super().read(index)


class Strange(Exception):
    """Cannot be sent to another process."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@pytest.mark.parametrize("workers", [0, 2])
class TestErrors:
    @pytest.mark.parametrize(
        "error", [FileNotFoundError(2, "No such file", "a.png"), OSError("a.png: not an image"), ValueError("one line")]
    )
    def test_they_are_those_of_the_source(self, error: Exception, workers: int) -> None:
        part = Part(Broken(error), torch.arange(8), torch.arange(8))
        for loader in (
            training_loader(part, Preprocessing(), 2, seed=0, workers=workers),
            input_batches(part, Preprocessing(), torch.arange(8), 2, workers),
        ):
            with pytest.raises(type(error)) as caught:
                list(loader)
            assert str(caught.value) == str(error)
            assert "in read" in str(caught.value.__cause__)

    def test_one_that_cannot_travel(self, workers: int) -> None:
        part = Part(Broken(Strange("a", "b")), torch.arange(8), torch.arange(8))
        with pytest.raises(RuntimeError, match="Strange: a b"):
            list(input_batches(part, Preprocessing(), torch.arange(8), 2, workers))


def test_random_numbers_of_neighbours_are_unlike() -> None:
    """Of items, epochs, seeds and ranks (which count down from -1)."""
    seeds = [
        generator_for(seed, epoch, item).initial_seed()
        for seed in (0, 1, 2**32 - 1)
        for epoch in range(20)
        for item in range(-4, 200)
    ]
    assert len(set(seeds)) == len(seeds) == 3 * 20 * 204
    # the generator has 32 bits of its seed
    assert len({seed % 2**32 for seed in seeds}) > 0.999 * len(seeds)
    first = torch.stack([torch.rand(2, generator=generator_for(0, 0, item)) for item in range(2000)])
    assert first.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert abs(torch.corrcoef(torch.stack((first[1:, 0], first[:-1, 0])))[0, 1]) < 0.08
    assert abs(torch.corrcoef(first.T)[0, 1]) < 0.08
