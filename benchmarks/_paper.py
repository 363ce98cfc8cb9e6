"""Sizes of the paper's three data sets: queries, gallery, training items, labels, and what mAP is taken at."""

from __future__ import annotations

from _problem import Value

DATA: dict[str, dict[str, Value]] = {
    "CIFAR-10": {
        "queries": 1000, "gallery": 59_000, "bank": 5000, "classes": 10, "labels": "class ids", "topk": 0,
    },
    "NUS-WIDE": {
        "queries": 2100, "gallery": 193_734, "bank": 10_500, "classes": 21, "labels": "multi-hot, NUS-WIDE",
        "topk": 5000,
    },
    "COCO": {
        "queries": 5000, "gallery": 117_218, "bank": 10_000, "classes": 80, "labels": "multi-hot", "topk": 5000,
    },
}  # fmt: skip
EVALUATION = {name: {**sizes, "codes": "trained"} for name, sizes in DATA.items()}
TRAINING = {name: {key: sizes[key] for key in ("bank", "classes", "labels")} for name, sizes in DATA.items()}
