"""What is read of an image file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_layouts import error_of

from rdh_ext.hashing.data import sources

image = pytest.importorskip("PIL.Image")


def test_is_rgb_and_upright_whatever_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for mode, colour, expected in (
        ("L", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("LA", (9, 3), (9, 9, 9)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),
        ("I;16", 300, (1, 1, 1)),
        ("I;16", 65535, (255, 255, 255)),
    ):
        image.new(mode, (3, 2), colour).save(path)
        pixels = sources.read_image(path)
        assert (pixels.shape, pixels.dtype) == ((3, 2, 3), torch.uint8)
        assert pixels[:, 1, 2].tolist() == list(expected), mode
        assert pixels.is_contiguous()
    turned = image.new("RGB", (3, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "x.jpg", exif=exif)
    assert sources.read_image(tmp_path / "x.jpg").shape == (3, 3, 2)


def test_pixels_of_unknown_range_are_refused(tmp_path: Path) -> None:
    for mode in ("I", "F"):
        image.new(mode, (3, 2), 7).save(tmp_path / "x.tiff")
        message = error_of(sources.read_image, tmp_path / "x.tiff", kind=OSError)
        assert message == (
            f"{tmp_path}/x.tiff: not an image that can be read (pixels of 32 bits, mode {mode}; save it with 8 bits)"
        )
