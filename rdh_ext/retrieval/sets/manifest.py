"""What a code set says of itself: ``manifest.json``, checked field by field when it is read."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from ..._checks import MAX_BITS
from .errors import CodeSetError

NAME = "manifest.json"
FORMAT = "rdh_ext code set"
VERSION = 1
ID_TYPES = {"uint8": 1, "int16": 2, "int32": 4, "int64": 8}
"""Class ids that the ops read, and their bytes."""
MAX_CLASSES = 1 << 20
"""Most columns of multi-hot labels."""
BLOCK_BYTES = 32 << 20
_FILE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def codes_in_words(items: int, bits: int) -> str:
    """As "1,000 codes of 48 bits"."""
    return f"{items:,} code{'' if items == 1 else 's'} of {bits} bit{'' if bits == 1 else 's'}"


@dataclass(frozen=True)
class LabelFormat:
    """How labels are kept: class ids of a dtype, or multi-hot rows of so many classes, packed like codes."""

    kind: str
    dtype: str = "uint8"
    classes: int | None = None

    @property
    def width(self) -> int:
        """Bytes per item."""
        return ID_TYPES[self.dtype] if self.classes is None else (self.classes + 7) // 8

    def __str__(self) -> str:
        return "class ids" if self.classes is None else f"{self.classes} labels, multi-hot"


@dataclass(frozen=True)
class File:
    """A file of a shard: its name, and a checksum (SHA-256) for the rows of each block."""

    name: str
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """Some items of a code set that lie in files of their own."""

    items: int
    codes: File
    labels: File | None


@dataclass(frozen=True)
class Manifest:
    """All that is known of a code set but the codes and labels themselves."""

    bits: int
    labels: LabelFormat | None
    block_items: int
    shards: tuple[Shard, ...]
    made: dict[str, Any]

    @property
    def items(self) -> int:
        """G."""
        return sum(shard.items for shard in self.shards)

    @property
    def code_bytes(self) -> int:
        """Bytes per code."""
        return (self.bits + 7) // 8

    @property
    def item_bytes(self) -> int:
        """Bytes per item with its labels."""
        return self.code_bytes + (self.labels.width if self.labels is not None else 0)

    def __str__(self) -> str:
        shards = f", {len(self.shards)} shards" if len(self.shards) != 1 else ""
        return f"{codes_in_words(self.items, self.bits)}, {self.labels or 'no labels'}{shards}"

    def digest(self) -> str:
        """SHA-256 of what codes and labels depend on: two sets with the same digest hold the same items in the same
        pieces, wherever they lie and however they were made."""
        fields = self.to_dict()
        del fields["made"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        labels: dict[str, Any] | None = None
        if self.labels is not None:
            labels = {"kind": self.labels.kind}
            labels |= {"dtype": self.labels.dtype} if self.labels.classes is None else {"classes": self.labels.classes}
        return {
            "format": FORMAT,
            "version": VERSION,
            "bits": self.bits,
            "items": self.items,
            "labels": labels,
            "block_items": self.block_items,
            "shards": [
                {
                    "items": shard.items,
                    "codes": _file_to_dict(shard.codes),
                    "labels": None if shard.labels is None else _file_to_dict(shard.labels),
                }
                for shard in self.shards
            ],
            "made": self.made,
        }


def block_items_for(bits: int, label_width: int) -> int:
    """Items of a block, the unit that is read, checked and counted: 4,096 or more, about 32 MiB."""
    return max(4096, BLOCK_BYTES // ((bits + 7) // 8 + label_width) // 4096 * 4096)


def _file_to_dict(file: File) -> dict[str, Any]:
    return {"file": file.name, "sha256": list(file.sha256)}


class _Reader:
    """Fields of JSON, with one line for what is wrong with them."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, what: str) -> CodeSetError:
        return CodeSetError(f"{self.where}: {what}; write the set again with 'rdh encode'")

    def field(self, fields: Any, name: str) -> Any:
        if not isinstance(fields, dict) or name not in fields:
            raise self.fail(f"no field {name!r} where one must be")
        return fields[name]

    def integer(self, fields: Any, name: str, low: int, high: int) -> int:
        value = self.field(fields, name)
        if type(value) is not int or not low <= value <= high:
            raise self.fail(f"{name!r} must be a whole number from {low} to {high}, got {str(value)[:40]}")
        return value

    def labels(self, fields: Any) -> LabelFormat | None:
        value = self.field(fields, "labels")
        if value is None:
            return None
        kind = self.field(value, "kind")
        if kind == "multi_hot":
            return LabelFormat(kind, classes=self.integer(value, "classes", 1, MAX_CLASSES))
        dtype = self.field(value, "dtype") if kind == "class_ids" else None
        if not isinstance(dtype, str) or dtype not in ID_TYPES:
            raise self.fail(f"labels must be multi-hot, or class ids of {', '.join(ID_TYPES)}, got {str(value)[:60]}")
        return LabelFormat(kind, dtype)

    def file(self, fields: Any, blocks: int) -> File:
        name, digests = self.field(fields, "file"), self.field(fields, "sha256")
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or name in (".", "..", NAME):
            raise self.fail(f"a shard must be a file beside the manifest, got the name {str(name)[:60]!r}")
        if not isinstance(digests, list) or len(digests) != blocks:
            raise self.fail(f"{name} must have {blocks} checksums, one for each block")
        if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests):
            raise self.fail(f"{name} has a checksum that is none")
        return File(name, tuple(digests))

    def shard(self, fields: Any, block_items: int, labels: LabelFormat | None) -> Shard:
        items = self.integer(fields, "items", 0, 1 << 50)
        blocks = -(-items // block_items)
        return Shard(
            items,
            self.file(self.field(fields, "codes"), blocks),
            None if labels is None else self.file(self.field(fields, "labels"), blocks),
        )


def parse_manifest(text: bytes, where: str) -> Manifest:
    """The manifest in ``text``; ``where`` names it in errors.

    Raises:
        CodeSetError: it is none, or of a later version.
    """
    read = _Reader(where)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise read.fail("not the manifest of a code set") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise read.fail("not the manifest of a code set")
    if fields.get("version") != VERSION:
        version = str(fields.get("version"))[:20]
        raise CodeSetError(
            f"{where}: version {version} of the format, this rdh_ext reads {VERSION}; get a newer rdh_ext"
        )
    block_items = read.integer(fields, "block_items", 1, 1 << 40)
    labels, shards, made = read.labels(fields), read.field(fields, "shards"), read.field(fields, "made")
    if not isinstance(shards, list) or not isinstance(made, dict):
        raise read.fail("'shards' must be a list and 'made' a mapping")
    manifest = Manifest(
        bits=read.integer(fields, "bits", 1, MAX_BITS),
        labels=labels,
        block_items=block_items,
        shards=tuple(read.shard(shard, block_items, labels) for shard in shards),
        made=made,
    )
    if manifest.items != read.integer(fields, "items", 0, 1 << 50):
        raise read.fail(f"the shards have {manifest.items} items together, not {fields['items']}")
    return manifest
