"""Report files: atomic, and never over somebody else's work; the gradient picture against Eq. 2 and Eq. 3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rdh_ext.hashing.report import files, folder
from rdh_ext.hashing.report.figure3 import gradient_of_pair


def test_claim(tmp_path: Path) -> None:
    new = tmp_path / "a" / "b"
    folder.claim(new)
    assert (new / folder.MARKER).is_file()
    (new / "report.md").write_text("old")
    folder.claim(new)  # an earlier report
    empty = tmp_path / "empty"
    empty.mkdir()
    folder.claim(empty)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("work")
    with pytest.raises(folder.FolderInUse, match="--force"):
        folder.claim(foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    folder.claim(foreign, force=True)
    assert (foreign / "thesis.tex").read_text() == "work"
    with pytest.raises(folder.FolderInUse, match="is a file"):
        folder.claim(foreign / "thesis.tex")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    files.write_json(path, {"a": 1})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_json(path, {"a": 2})
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, float("nan"))


def test_npy_is_readable_without_pickle(tmp_path: Path) -> None:
    codes = torch.arange(12, dtype=torch.uint8).view(3, 4)
    files.write_npy(tmp_path / "x" / "codes.npy", codes)
    assert np.load(tmp_path / "x" / "codes.npy", allow_pickle=False).tolist() == codes.tolist()


def eq2(h: torch.Tensor, eta: float, quantization: str) -> torch.Tensor:
    """dL/dh of Eq. 1 for h_j = 0.9, S = 1, one bit; the error-aware term only where both signs agree."""
    similarity = (torch.sigmoid(0.45 * h) - 1) * 0.45
    selected = (h > 0).double() if quantization == "error_aware" else 1.0
    return similarity + selected * 2 * eta * (h - h.sign())


@pytest.mark.parametrize("quantization", ["l2", "error_aware"])
@pytest.mark.parametrize("eta", [1.0, 0.1])
def test_gradient_of_the_picture(quantization: str, eta: float) -> None:
    logits = torch.linspace(-6, 6, 400, dtype=torch.float64)
    h = torch.tanh(logits)
    g = eq2(h, eta, quantization)
    plain = g * (1 - h**2)
    gradient = gradient_of_pair(logits, amplified=False, quantization=quantization, eta=eta)
    torch.testing.assert_close(gradient, plain, rtol=1e-6, atol=1e-12)
    dead = (h.abs() >= 0.99) & (g.sign() == h.sign())
    assert dead.any()
    amplified = gradient_of_pair(logits, amplified=True, quantization=quantization, eta=eta)
    torch.testing.assert_close(amplified, torch.where(dead, plain / (1 - 0.99**2), plain), rtol=1e-6, atol=1e-12)
