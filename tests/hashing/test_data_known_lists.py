"""MS-COCO, NUS-WIDE and ImageNet by lists: what is usual, and what is said where it is not so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from data_layouts import error_of, make_images, sizes, warnings_of, write_list
from listed_images import IDS, NAMES, check, many_hot, write_lists

from rdh_ext.hashing.data import known_lists, load_coco, load_imagenet100, load_nuswide21
from rdh_ext.hashing.data.image_files import PHOTOS

pytest.importorskip("PIL")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_images(tmp_path, NAMES)
    return tmp_path


@pytest.mark.parametrize(
    ("loader", "name", "classes", "topk", "usual", "numbers"),
    [
        (load_coco, "coco", 80, 5000, ("5,000", "10,000", "117,218"), (5000, 10_000)),
        (load_nuswide21, "nuswide21", 21, 5000, ("2,100", "10,500", "193,734"), (100, 500)),
        (load_imagenet100, "imagenet100", 100, 1000, ("5,000", "13,000", "128,503"), (50, 130)),
    ],
)
def test_known_sets(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    loader: Any,
    name: str,
    classes: int,
    topk: int,
    usual: tuple[str, ...],
    numbers: tuple[int, int],
) -> None:
    write_lists(root)
    options = {"root": str(root)}
    (message,) = warnings_of(loader, **options)
    assert message == (
        f"{name}: not as usual: 4 classes instead of {classes}, 2 query images instead of {usual[0]}, 3 train images "
        f"instead of {usual[1]}, 8 gallery images instead of {usual[2]}"
    )
    write_lists(root, labels=lambda place: str(IDS[place]))
    with pytest.warns(UserWarning, match="not as usual: 2 query"):  # ids below the number of classes tell nothing
        data = loader(**options)
    check(data, root)
    assert (data.name, data.classes, data.topk, data.preprocessing) == (name, classes, topk, PHOTOS)
    defaults = loader.__kwdefaults__
    assert (defaults["query_items"], defaults["train_items"]) == numbers
    # one list is split as the paper says
    write_list(root / "pool.txt", [f"{NAMES[place]} {IDS[place]}" for place in range(10)])
    with pytest.warns(UserWarning, match="not as usual"):
        data = loader(**options, pool="pool.txt", query_items=1, train_items=2)
    assert sizes(data) == ((1, 2, 9) if name == "coco" else (3, 6, 7))


def test_usual_sizes_are_not_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_lists.Known("coco", "MS-COCO", 4, 5000, (2, 3, 8))
    monkeypatch.setattr(known_lists, "COCO", known)
    write_lists(root)
    assert warnings_of(load_coco, root=str(root)) == []


def test_training_images_of_the_gallery_as_the_archive_of_nus_wide_has_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, places in (("test", [9, 0]), ("database", range(1, 9))):
        write_list(root / f"{name}_img.txt", [NAMES[place] for place in places])
        write_list(root / f"{name}_label_onehot.txt", [many_hot(place) for place in places])
    known = known_lists.Known("nuswide21", "NUS-WIDE", 4, 5000, (2, 4, 8))
    monkeypatch.setattr(known_lists, "NUSWIDE21", known)
    options: dict[str, Any] = {"root": str(root), "train_items": 1}
    assert warnings_of(load_nuswide21, 3, **options) == []
    data = load_nuswide21(3, **options)
    assert sizes(data) == (2, 4, 8)
    assert torch.isin(data.train.indices, data.gallery.indices).all()
    assert data.train.labels.any(dim=0).all()
    message = error_of(load_nuswide21, root=str(root))  # 500 of each class
    assert message.startswith(f"{root}: no list for train, and split_per_class: class ")
    assert message.endswith("; train_items=... says how many of the gallery are drawn")
