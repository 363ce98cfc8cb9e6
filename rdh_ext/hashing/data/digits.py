"""The handwritten digits that come with scikit-learn: 1,797 real 8 x 8 images, ten classes, no download."""

from __future__ import annotations

import torch

from ..._extras import require
from .protocols import split_per_class
from .sources import TensorSource
from .splits import RetrievalData, cut

QUERY_PER_CLASS = 30
TRAIN_PER_CLASS = 50


def load_digits(
    seed: int = 0,
    *,
    query_per_class: int = QUERY_PER_CLASS,
    train_per_class: int = TRAIN_PER_CLASS,
    input_scale: float = 1.0,
) -> RetrievalData:
    """The digits, split like the paper's CIFAR-10: queries of each class, the rest gallery, training images inside it.

    Args:
        seed: of the split.
        query_per_class, train_per_class: images per class; 30 and 50 give 300 queries, 500 training and 1,497 gallery
            images.
        input_scale: largest possible pixel value. The files hold 0 .. 16, so 16 is the raw data and 1 the usual
            normalisation.

    Returns:
        Images ``[n, 1, 8, 8]`` float32 in ``[0, input_scale]``; labels are the digits.

    Raises:
        MissingExtra: scikit-learn is not installed.
        ValueError: a class has too few images.

    Example:
        >>> from rdh_ext.hashing.data import load_digits
        >>> data = load_digits(seed=0)
        >>> len(data.query), len(data.train), len(data.gallery)
        (300, 500, 1497)

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    datasets = require("sklearn.datasets", package="scikit-learn")
    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).to(torch.float32).unsqueeze(1) * (input_scale / 16.0)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    split = split_per_class(labels, query_per_class, train_per_class, seed)
    query, train, gallery = cut(TensorSource(images), labels, split)
    return RetrievalData(
        name="digits",
        description=f"scikit-learn's handwritten digits: {len(labels):,} images of 8 x 8 pixels, 10 classes",
        classes=10,
        query=query,
        train=train,
        gallery=gallery,
        class_names=tuple(map(str, range(10))),
        made_by=split,
    )
