"""Preprocessing: what torchvision's own transforms give, item by item; augmentation that generators alone decide."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from rdh_ext.hashing import MissingExtra
from rdh_ext.hashing.data import Preprocessing

IMAGENET: dict[str, Any] = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIZES = ((40, 60), (61, 33), (20, 90), (32, 32), (25, 26))


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "side"), [(None, 32), (36, 32), (37, 24)])
def test_images_are_what_torchvision_makes_of_them(size: tuple[int, int], resize: int | None, side: int) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    theirs = v2.Compose(
        [
            v2.Resize(resize or side, antialias=True),
            v2.CenterCrop(side),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET["mean"], IMAGENET["std"]),
        ]
    )
    raw = image(3, *size)
    ours = Preprocessing(**IMAGENET, resize=resize, size=side)([raw])
    assert ours.shape == (1, 3, side, side)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs(raw), rtol=0, atol=1e-5)


def test_bytes_are_resized_as_pillow_does_and_floats_without_rounding() -> None:
    pytest.importorskip("torchvision")
    pillow = pytest.importorskip("PIL.Image")
    numpy = pytest.importorskip("numpy")
    raw = image(3, 50, 40)
    theirs = pillow.fromarray(raw.permute(1, 2, 0).numpy()).resize((16, 20), pillow.Resampling.BILINEAR)
    want = torch.from_numpy(numpy.array(theirs)).permute(2, 0, 1)[:, 2:18].float()
    preprocessing = Preprocessing(size=16)
    of_bytes, of_floats = preprocessing([raw]), preprocessing([raw.double()])
    assert (of_bytes[0] - want).abs().max() <= 1
    assert torch.equal(of_bytes, of_bytes.round())
    assert (of_floats[0] - want).abs().max() <= 1
    assert (of_floats - of_floats.round()).abs().max() > 0.2


@pytest.mark.parametrize("augment", ["none", "flip", "crop_flip"])
@pytest.mark.parametrize("size", [None, 24])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_item_is_the_same_alone_and_in_a_batch(augment: str, size: int | None, dtype: torch.dtype) -> None:
    pytest.importorskip("torchvision")
    raw = image(6, 3, 32, 36).to(dtype)
    before = raw.clone()
    preprocessing = Preprocessing(**IMAGENET, size=size, augment=augment)
    for seeds in (None, range(6)):
        together = preprocessing(raw, generators=seeds and seeded(*seeds))
        as_list = preprocessing(list(raw), generators=seeds and seeded(*seeds))
        assert torch.equal(together, as_list)
        for place in range(6):
            alone = preprocessing(raw[place : place + 1], generators=seeds and seeded(seeds[place]))
            assert torch.equal(alone[0], together[place])
    assert torch.equal(raw, before)


def test_lists_of_images_of_different_sizes() -> None:
    pytest.importorskip("torchvision")
    raw = [image(3, *size, seed=seed) for seed, size in enumerate(SIZES)]
    for augment in ("none", "crop_flip"):
        preprocessing = Preprocessing(**IMAGENET, size=16, augment=augment)
        together = preprocessing(raw, generators=seeded(*range(5)))
        assert together.shape == (5, 3, 16, 16)
        for place, each in enumerate(raw):
            assert torch.equal(preprocessing([each], generators=seeded(place))[0], together[place])


def test_plain_numbers() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert torch.equal(Preprocessing()(features), features)
    assert torch.equal(Preprocessing(scale=2.0)(features), 2 * features)
    of_each = Preprocessing(scale=2.0, mean=(2, 4), std=(0.5, 4))(features)
    assert torch.equal(of_each, torch.tensor([[0.0, 0.0], [8.0, 2.0]]))
    assert torch.equal(Preprocessing(mean=(1,))(list(features)), features - 1)
    assert torch.equal(Preprocessing(std=(2, 4))(features), features / torch.tensor([2.0, 4.0]))
    assert torch.equal(features, torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    # items of other dimensions pass, and keep their first one as channels
    assert Preprocessing(mean=(1, 2))(torch.ones(3, 2, 5))[0, 1].tolist() == [-1.0] * 5
    assert Preprocessing()(torch.ones(3)).tolist() == [1.0] * 3


def test_large_mean_does_not_cancel() -> None:
    raw = torch.tensor([[1e6, 1e6 + 1]])
    assert Preprocessing(mean=(1e6,), std=(1e-3,))(raw).tolist() == [[0.0, 1000.0]]


@pytest.mark.parametrize("size", [None, 16])
def test_grey_images_become_as_many_channels_as_the_mean_has(size: int | None) -> None:
    pytest.importorskip("torchvision")
    raw = image(2, 1, 20, 20)
    inputs = Preprocessing(**IMAGENET, size=size)(raw)
    coloured = Preprocessing(**IMAGENET, size=size)(raw.expand(2, 3, 20, 20))
    assert torch.equal(inputs, coloured)
    assert Preprocessing(size=size, mean=(0.5,))(raw).shape[1] == 1


@pytest.mark.parametrize("size", [None, 16])
def test_no_items(size: int | None) -> None:
    assert Preprocessing(**IMAGENET, size=size)(torch.zeros(0, 3, 8, 8)).shape == (0, 3, size or 8, size or 8)


def test_shapes() -> None:
    for raw in ((3, 8, 9), (1, 8, 9), (16,)):
        assert Preprocessing().shape_of(raw) == raw
    assert Preprocessing().shape_of(None) is None
    assert Preprocessing(size=16).shape_of(None) == (3, 16, 16)
    assert Preprocessing(size=16).shape_of((1, 8, 9)) == (1, 16, 16)
    assert Preprocessing(**IMAGENET, size=16).shape_of((1, 8, 9)) == (3, 16, 16)
    assert Preprocessing(**IMAGENET).shape_of((1, 8, 9)) == (3, 8, 9)
    assert Preprocessing(mean=(0,), std=(1, 2, 3)).shape_of((3,)) == (3,)


def test_flip_mirrors_half_of_the_images() -> None:
    raw = image(200, 1, 4, 5)
    preprocessing = Preprocessing(augment="flip")
    inputs = preprocessing(raw, generators=seeded(*range(200)))
    is_flipped = (inputs == raw.flip(-1)).flatten(1).all(1)
    assert ((inputs == raw).flatten(1).all(1) ^ is_flipped).all()
    assert 70 < is_flipped.sum() < 130
    assert torch.equal(preprocessing(raw), raw.float())  # nothing where nothing is drawn
    assert torch.equal(Preprocessing()(raw, generators=seeded(*range(200))), raw.float())


def test_flip_with_a_size_mirrors_before_the_middle_is_cut_out() -> None:
    pytest.importorskip("torchvision")
    raw = image(20, 3, 20, 30)
    plain, flipped = (Preprocessing(size=16)(images) for images in (raw, raw.flip(-1)))
    inputs = Preprocessing(size=16, augment="flip")(raw, generators=seeded(*range(20)))
    choices = [torch.equal(inputs[i], flipped[i]) for i in range(20)]
    assert 4 < sum(choices) < 16
    assert all(torch.equal(inputs[i], (flipped if choice else plain)[i]) for i, choice in enumerate(choices))


def parts_of(size: int | None, height: int, width: int, items: int) -> Tensor:
    """``[items, 5]``: top, left, height, width and mirroring of what was cut out, read off images of coordinates."""
    down, right = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    raw = torch.stack((down, right)).expand(items, 2, height, width)
    inputs = Preprocessing(size=size, augment="crop_flip")(raw, generators=seeded(*range(items))).double()
    rows, columns = inputs.shape[-2:]
    y, x = rows // 2, columns // 2
    per_row = inputs[:, 0, y, x] - inputs[:, 0, y - 1, x]
    per_column = inputs[:, 1, y, x] - inputs[:, 1, y, x - 1]
    high, wide = per_row * rows, per_column.abs() * columns
    middle_y, middle_x = (
        (inputs[:, 0, y, x] + inputs[:, 0, y - 1, x]) / 2,
        (inputs[:, 1, y, x] + inputs[:, 1, y, x - 1]) / 2,
    )
    return torch.stack((middle_y + 0.5 - high / 2, middle_x + 0.5 - wide / 2, high, wide, (per_column < 0).double()), 1)


@pytest.mark.parametrize(("size", "height", "width"), [(None, 64, 64), (96, 48, 64)])
def test_crop_flip_cuts_out_what_random_resized_crop_does(size: int | None, height: int, width: int) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    top, left, high, wide, flipped = parts_of(size, height, width, 2000).T
    for values in (top, left, high, wide):
        assert (values - values.round()).abs().max() < 1e-2  # whole pixels
    assert top.min() > -0.01
    assert left.min() > -0.01
    inner = (high < 0.9 * height) & (wide < 0.9 * width)
    for some in (inner, ~inner):  # up to the last row and column
        assert (top + high)[some].max() == pytest.approx(height, abs=0.01)
        assert (left + wide)[some].max() == pytest.approx(width, abs=0.01)
    assert 0.45 < flipped.mean() < 0.55
    places = torch.stack((top / (height - high), left / (width - wide), flipped, high * wide))[:, inner]
    assert (torch.corrcoef(places) - torch.eye(4)).abs().max() < 0.12  # each is drawn by itself
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        like = torch.zeros(1, height, width)
        draws = [transforms.RandomResizedCrop.get_params(like, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = torch.tensor(draws, dtype=torch.float64).T
    levels = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98], dtype=torch.float64)
    ours = (top / height, left / width, high * wide / (height * width), (wide / high).log())
    top, left, high, wide = theirs
    theirs = (top / height, left / width, high * wide / (height * width), (wide / high).log())
    for a, b, most in zip(ours, theirs, (0.06, 0.06, 0.06, 0.03), strict=True):
        torch.testing.assert_close(a.quantile(levels), b.quantile(levels), rtol=0, atol=most)


def test_crop_flip_resizes_what_it_cuts_out() -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    raw = image(1, 3, 48, 64).float()
    ours = Preprocessing(size=12, augment="crop_flip")(raw.expand(20, 3, 48, 64), generators=seeded(*range(20)))
    for inputs, part in zip(ours, parts_of(None, 48, 64, 20).round().int().tolist(), strict=True):
        *box, is_flipped = part
        theirs = v2.functional.resized_crop(raw[0], *box, [12, 12], antialias=True)
        torch.testing.assert_close(inputs, theirs.flip(-1) if is_flipped else theirs, rtol=0, atol=1e-3)


def test_crop_flip_of_very_long_images_takes_the_middle() -> None:
    pytest.importorskip("torchvision")
    for height, width in ((200, 4), (4, 200)):
        raw = torch.zeros(1, 1, height, width)
        raw[..., max(height // 2 - 3, 0) : height // 2 + 3, max(width // 2 - 3, 0) : width // 2 + 3] = 1
        inputs = torch.cat([Preprocessing(size=8, augment="crop_flip")(raw, generators=seeded(i)) for i in range(20)])
        assert inputs.min() > 0.5
    assert Preprocessing(size=2, augment="crop_flip")(image(1, 3, 1, 1), generators=seeded(0)).shape == (1, 3, 2, 2)


def test_augmentation_leaves_the_global_random_state_alone() -> None:
    pytest.importorskip("torchvision")
    before = torch.get_rng_state()
    for augment in Preprocessing.AUGMENTATIONS:
        first, again, other = (
            Preprocessing(size=8, augment=augment)(image(4, 3, 16, 16), generators=seeded(*seeds))
            for seeds in ((1, 2, 3, 4), (1, 2, 3, 4), (5, 6, 7, 8))
        )
        assert torch.equal(first, again)
        assert torch.equal(first, other) == (augment == "none")
    assert torch.equal(torch.get_rng_state(), before)


def test_there_and_back_as_json() -> None:
    for preprocessing in (Preprocessing(), Preprocessing(**IMAGENET, resize=256, size=224, augment="crop_flip")):
        text = json.dumps(preprocessing.to_dict())
        assert Preprocessing.from_dict(json.loads(text)) == preprocessing
    assert Preprocessing.from_dict({"size": 8, "mean": [1, 2]}) == Preprocessing(size=8, mean=(1.0, 2.0))
    assert hash(Preprocessing(mean=[1])) == hash(Preprocessing(mean=(1.0,)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sise": 8}, "a field of preprocessing must be size, scale, .*, got 'sise'"),
        ({3: 8}, "a field of preprocessing must be scale, .*, got '3'"),
        ([1], r"preprocessing must be a mapping with scale, mean, .*, got \[1\]"),
        ({"scale": 0}, "scale must be a number other than 0, got 0"),
        ({"scale": float("nan")}, "scale must be a number other than 0, got nan"),
        ({"scale": "1"}, "scale must be a number other than 0, got '1'"),
        ({"mean": 0.5}, "mean must be numbers, one per channel, got 0.5"),
        ({"mean": [0.5, float("inf")]}, r"mean must be numbers, one per channel, got \[0.5, inf\]"),
        ({"mean": "half"}, "mean must be numbers, one per channel, got 'half'"),
        ({"std": [True]}, r"std must be numbers, one per channel, got \[True\]"),
        ({"std": [1, 0]}, r"std must be above 0 in every channel, got \(1.0, 0.0\)"),
        ({"mean": [1, 2], "std": [1, 2, 3]}, "mean and std must have as many values"),
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"size": 8.0}, "size must be a whole number of at least 1, got 8.0"),
        ({"size": True}, "size must be a whole number of at least 1, got True"),
        ({"resize": -3, "size": 8}, "resize must be a whole number of at least 1, got -3"),
        ({"resize": 8}, "resize goes with a size that is not larger, got 8, None"),
        ({"resize": 8, "size": 9}, "resize goes with a size that is not larger, got 8, 9"),
        ({"augment": "flop"}, "preprocessing: augment must be flip, none, crop_flip, got 'flop'"),
    ],
)
def test_wrong_values(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Preprocessing.from_dict(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preprocessing", "items", "message"),
    [
        (
            Preprocessing(size=8),
            torch.zeros(2, 16),
            r"for images \(channels, height, width\), got items of shape \(16,\)",
        ),
        (Preprocessing(augment="flip"), torch.zeros(2, 16), "size and augment are for images"),
        (Preprocessing(mean=(1, 2, 3)), torch.zeros(2, 16), r"have 3 values, got items of shape \(16,\)"),
        (Preprocessing(mean=(1, 2, 3)), torch.zeros(2, 1), r"have 3 values, got items of shape \(1,\)"),
        (Preprocessing(mean=(1, 2, 3)), torch.zeros(2), r"have 3 values, got items of shape \(\)"),
        (Preprocessing(std=(1, 2, 3)), torch.zeros(2, 4, 8, 8), r"have 3 values, got items of shape \(4, 8, 8\)"),
        (
            Preprocessing(),
            [torch.zeros(3, 8, 9), torch.zeros(3, 8, 8)],
            r"without a size all items must have one shape, got \(3, 8, 8\) and \(3, 8, 9\)",
        ),
        (Preprocessing(), [], "all items must have one shape, got no items"),
    ],
)
def test_wrong_items(preprocessing: Preprocessing, items: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        preprocessing(items)
    assert "\n" not in str(caught.value)


def test_one_generator_for_each_item() -> None:
    with pytest.raises(ValueError, match="one generator for each of 3 items, got 2"):
        Preprocessing()(torch.zeros(3, 2), generators=seeded(1, 2))


def test_torchvision_is_needed_where_something_is_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2.functional", None)
    raw = image(1, 3, 8, 8)
    Preprocessing(augment="flip")(raw, generators=seeded(0))
    Preprocessing(augment="crop_flip")(raw)
    for preprocessing in (Preprocessing(size=4), Preprocessing(augment="crop_flip")):
        with pytest.raises(MissingExtra, match=r"torchvision is not installed.*rdh_ext\[train\]"):
            preprocessing(raw, generators=seeded(0))
