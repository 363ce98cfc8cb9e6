"""A code set in one file with something wrong in the archive itself: one line, whatever zipfile makes of it."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rdh_ext.retrieval import CodeSet, CodeSetError, write_code_set
from rdh_ext.retrieval.sets.manifest import NAME

CODES, LABELS = torch.arange(9, dtype=torch.uint8).reshape(3, 3), torch.arange(3, dtype=torch.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_code_set(tmp_path / "set.npz", CODES, LABELS).path


def compress(path: Path, compressed: str, method: int) -> None:
    """The same archive with one member compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content, method if name == compressed else zipfile.ZIP_STORED)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("member", [NAME, "codes.npy", "labels.npy"])
def test_compressed(path: Path, member: str, method: int) -> None:
    compress(path, member, method)
    with pytest.raises(CodeSetError, match=f"{path}, {member}: compressed or encrypted; .* stored as it is$"):
        CodeSet(path)


def loaded(path: Path) -> tuple[Tensor, Tensor | None] | str:
    """Codes and labels, or what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, of two members of one name
            return CodeSet(path).load()
    except CodeSetError as error:
        return str(error)


def test_any_byte(path: Path) -> None:
    """The set says that it is damaged, or is the one that was written."""
    content = path.read_bytes()
    whole = 0
    for place, byte in enumerate(content):
        for other in {0, 255, byte ^ 1, byte ^ 32, byte ^ 64, byte ^ 128} - {byte}:
            path.write_bytes(content[:place] + bytes([other]) + content[place + 1 :])
            found = loaded(path)
            if isinstance(found, str):
                assert found.startswith(str(path))
                assert "\n" not in found
            else:
                whole += 1
                assert torch.equal(found[0], CODES)
                assert torch.equal(found[1], LABELS)
    assert 0 < whole < 3 * len(content)
