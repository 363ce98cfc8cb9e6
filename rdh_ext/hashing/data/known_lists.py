"""MS-COCO, NUS-WIDE and ImageNet by the list files that go round, with what the field has agreed on about them."""

from __future__ import annotations

from .lists import Known, Place, load_known
from .protocols import Pool
from .splits import RetrievalData

COCO = Known("coco", "MS-COCO", 80, 5000, (5_000, 10_000, 117_218))
NUSWIDE21 = Known("nuswide21", "NUS-WIDE, the 21 most frequent classes", 21, 5000, (2_100, 10_500, 193_734))
IMAGENET100 = Known("imagenet100", "ImageNet, 100 classes", 100, 1000, (5_000, 13_000, 128_503))


def load_coco(
    seed: int = 0,
    *,
    root: str = "data/coco",
    lists: str | None = None,
    strip: str = "",
    train: str | None = None,
    query: str | None = None,
    gallery: str | None = None,
    pool: str | None = None,
    query_items: int = 5000,
    train_items: int | None = 10_000,
    split: str | None = None,
) -> RetrievalData:
    """MS-COCO by its list files: 80 classes, several labels each, mAP@5000.

    The paper's protocol: 5,000 queries at random, the other 117,218 images are gallery, and 10,000 of them are trained
    on. Three lists are taken as they are; other sizes than these are said. Without a list of training images they
    are drawn from the gallery by seed; one list of all images is split by seed.

    Args:
        seed, root, lists, strip, train, query, gallery, pool, query_items, train_items, split: as :func:`load_lists`,
            with ``per_class=False``.

    Raises:
        ValueError, OSError, MissingExtra: as :func:`load_lists`.

    Warns:
        UserWarning: as :func:`load_lists`; numbers of images or classes are not those of the paper.

    Example:
        >>> from rdh_ext.hashing.data import load_coco
        >>> try:
        ...     load_coco(root="no/such/folder")
        ... except OSError as error:
        ...     print(error)
        no/such/folder: no such folder; name the one with the lists: lists=...

    Source: T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
    """
    place = Place(root, lists, strip, {"train": train, "query": query, "gallery": gallery, "pool": pool})
    return load_known(COCO, seed, place, Pool(query_items, train_items, False, split))


def load_nuswide21(
    seed: int = 0,
    *,
    root: str = "data/nuswide21",
    lists: str | None = None,
    strip: str = "",
    train: str | None = None,
    query: str | None = None,
    gallery: str | None = None,
    pool: str | None = None,
    query_items: int = 100,
    train_items: int | None = 500,
    split: str | None = None,
) -> RetrievalData:
    """NUS-WIDE with its 21 most frequent classes by its list files: several labels each, mAP@5000.

    The paper's protocol: 100 queries of each class, the other 193,734 images are gallery, and 500 of each class are
    trained on. Three lists are taken as they are; other sizes than these are said. Without a list of
    training images, as in the archive that goes round, they are drawn from the gallery by seed; one list of all images,
    as ``img_tc21.txt`` with ``targets_onehot_tc21.txt``, is split by seed.

    Args:
        seed, root, lists, strip, train, query, gallery, pool, query_items, train_items, split: as :func:`load_lists`,
            with ``per_class=True``.

    Raises:
        ValueError, OSError, MissingExtra: as :func:`load_lists`.

    Warns:
        UserWarning: as :func:`load_lists`; numbers of images or classes are not those of the paper.

    Example:
        >>> from rdh_ext.hashing.data import load_nuswide21
        >>> try:
        ...     load_nuswide21(root="no/such/folder")
        ... except OSError as error:
        ...     print(error)
        no/such/folder: no such folder; name the one with the lists: lists=...

    Source: T.-S. Chua et al., NUS-WIDE: A Real-World Web Image Database from National University of Singapore, 2009.
    """
    place = Place(root, lists, strip, {"train": train, "query": query, "gallery": gallery, "pool": pool})
    return load_known(NUSWIDE21, seed, place, Pool(query_items, train_items, True, split))


def load_imagenet100(
    seed: int = 0,
    *,
    root: str = "data/imagenet100",
    lists: str | None = None,
    strip: str = "",
    train: str | None = None,
    query: str | None = None,
    gallery: str | None = None,
    pool: str | None = None,
    query_items: int = 50,
    train_items: int | None = 130,
    split: str | None = None,
) -> RetrievalData:
    """100 classes of ImageNet by the list files that go round: one label each, mAP@1000.

    5,000 queries (50 of each class), 128,503 gallery images, of which 13,000 (130 of each class) are trained on. Three
    lists are taken as they are; other sizes than these are said. Without a list of training images they are drawn from
    the gallery by seed; one list of all images is split by seed.

    Args:
        seed, root, lists, strip, train, query, gallery, pool, query_items, train_items, split: as :func:`load_lists`,
            with ``per_class=True``.

    Raises:
        ValueError, OSError, MissingExtra: as :func:`load_lists`.

    Warns:
        UserWarning: as :func:`load_lists`; numbers of images or classes are not those.

    Example:
        >>> from rdh_ext.hashing.data import load_imagenet100
        >>> try:
        ...     load_imagenet100(root="no/such/folder")
        ... except OSError as error:
        ...     print(error)
        no/such/folder: no such folder; name the one with the lists: lists=...

    Source: Z. Cao et al., HashNet: Deep Learning to Hash by Continuation, ICCV 2017.
    """
    place = Place(root, lists, strip, {"train": train, "query": query, "gallery": gallery, "pool": pool})
    return load_known(IMAGENET100, seed, place, Pool(query_items, train_items, True, split))
