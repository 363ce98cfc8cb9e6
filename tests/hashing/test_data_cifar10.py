"""CIFAR-10: files exactly as they are given out, with 70 images of each class in place of 6,000."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pickle
import socket
import tarfile
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_layouts import ROLES, error_of, sizes
from malicious import RAN, Evil

from rdh_ext.hashing import MissingExtra
from rdh_ext.hashing.data import Split, TensorSource, cifar10, load_cifar10
from rdh_ext.hashing.data.image_files import PIXELS

CIFAR10 = pytest.importorskip("torchvision.datasets").CIFAR10
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCH = 120
ITEMS = 6 * BATCH - 20
"""Five batches for training, and a test batch of 100."""
LABELS = (np.arange(ITEMS) * 7 + np.arange(ITEMS) // 10) % 10
PER_CLASS = (cifar10.QUERY_PER_CLASS, cifar10.TRAIN_PER_CLASS)


def pixels(item: int) -> np.ndarray[Any, Any]:
    """Rows of a batch: 1024 red, 1024 green, 1024 blue, and in the first three the number of the item."""
    row = np.repeat(np.array([10, 20, 30], np.uint8), 1024)
    row[:3] = item % 256, item // 256, 7
    return row


@pytest.fixture(scope="module")
def archive() -> bytes:
    """``cifar-10-python.tar.gz``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as file:
        batches = [(f"data_batch_{number + 1}", range(number * BATCH, (number + 1) * BATCH)) for number in range(5)]
        for name, items in [*batches, ("test_batch", range(5 * BATCH, ITEMS))]:
            data = np.stack([pixels(item) for item in items])
            _add(file, name, {"data": data, "labels": LABELS[items.start : items.stop].tolist(), "batch_label": name})
        _add(file, "batches.meta", {"label_names": NAMES, "num_cases_per_batch": BATCH, "num_vis": 3072})
    return buffer.getvalue()


def _add(file: tarfile.TarFile, name: str, content: dict[str, Any]) -> None:
    raw = pickle.dumps(content, protocol=2)
    member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
    member.size = len(raw)
    file.addfile(member, io.BytesIO(raw))


@pytest.fixture(autouse=True)
def _checksums(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the files here in place of the true ones; and no network."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        sums = {
            Path(member.name).name: hashlib.md5(file.extractfile(member).read()).hexdigest()  # type: ignore[union-attr]
            for member in file
        }
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[name, sums[name]] for name, _ in CIFAR10.test_list])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    monkeypatch.setattr("urllib.request.urlopen", fail(urllib.error.URLError("Name or service not known")))
    monkeypatch.setattr(cifar10, "QUERY_PER_CLASS", 10)
    monkeypatch.setattr(cifar10, "TRAIN_PER_CLASS", 50)
    RAN.clear()


def fail(error: Exception) -> Callable[..., Any]:
    def raise_it(*_: Any, **__: Any) -> Any:
        raise error

    return raise_it


@pytest.fixture(scope="module")
def unpacked(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cifar")
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(root)
    return root


def numbers(part: Any) -> list[int]:
    return (part.images[:, 0, 0, 0].int() + 256 * part.images[:, 0, 0, 1].int()).tolist()


class TestProtocols:
    """Three of them, from files that are there."""

    @pytest.mark.parametrize(
        ("protocol", "expected"),
        [("paper", (100, 500, 600)), ("disjoint", (100, 500, 100)), ("full", (100, 600, 600))],
    )
    def test_sizes_and_content(self, unpacked: Path, protocol: str, expected: tuple[int, int, int]) -> None:
        data = load_cifar10(3, root=str(unpacked), protocol=protocol)
        assert sizes(data) == expected
        for role in ROLES:
            part = getattr(data, role)
            assert isinstance(part.source, TensorSource)
            assert part.source.shape == (3, 32, 32)
            assert numbers(part) == part.indices.tolist()
            assert part.labels.tolist() == LABELS[part.indices].tolist()
        assert data.query.images.dtype == torch.uint8
        assert data.query.images[:, :, 5, 5].unique(dim=0).tolist() == [[10, 20, 30]]
        assert (data.name, data.classes, data.topk, data.class_names) == ("cifar10", 10, None, tuple(NAMES))
        assert data.preprocessing == PIXELS
        assert data.preprocessing.size is None
        assert data.preprocessing.scale == 1 / 255
        query, train, gallery = (set(numbers(getattr(data, role))) for role in ROLES)
        assert not query & (train | gallery)
        assert {"paper": train < gallery, "disjoint": not train & gallery, "full": train == gallery}[protocol]
        assert query | train | gallery == set(range(ITEMS))

    def test_paper_is_the_default_and_disjoint_has_its_queries(self, unpacked: Path) -> None:
        paper, disjoint = (load_cifar10(3, root=str(unpacked), **options) for options in ({}, {"protocol": "disjoint"}))
        assert PER_CLASS == (100, 500)
        assert len(paper.gallery) == ITEMS - 100
        assert torch.bincount(paper.query.labels).tolist() == [10] * 10
        assert torch.bincount(paper.train.labels).tolist() == [50] * 10
        for role in ("query", "train"):
            assert torch.equal(getattr(paper, role).indices, getattr(disjoint, role).indices)
        assert paper.split().protocol == "paper: per class: 10 query, 50 train"
        assert disjoint.split().protocol == "disjoint: per class: 10 query, 50 train"

    def test_seed(self, unpacked: Path) -> None:
        root = str(unpacked)
        assert load_cifar10(3, root=root).fingerprint() == load_cifar10(3, root=root).fingerprint()
        assert load_cifar10(3, root=root).fingerprint() != load_cifar10(4, root=root).fingerprint()
        full = [load_cifar10(seed, root=root, protocol="full") for seed in (3, 4)]
        assert full[0].fingerprint() == full[1].fingerprint()
        assert full[0].split().seed is None
        assert min(numbers(full[0].query)) == 5 * BATCH  # the test set

    def test_saved_split(self, unpacked: Path, tmp_path: Path) -> None:
        data = load_cifar10(3, root=str(unpacked))
        data.split().save(tmp_path / "split.npz")
        again = load_cifar10(4, root=str(unpacked), split=str(tmp_path / "split.npz"))
        assert again.fingerprint() == data.fingerprint()
        Split(torch.tensor([0]), torch.tensor([1]), torch.tensor([1]), items=60_000).save(tmp_path / "other.npz")
        message = error_of(load_cifar10, root=str(unpacked), split=str(tmp_path / "other.npz"))
        assert "a split of 60,000 items, and these are 700" in message

    def test_unknown_protocol(self, unpacked: Path) -> None:
        message = error_of(load_cifar10, root=str(unpacked), protocol="dpsh")
        assert message == "cifar10: protocol must be paper, disjoint, full, got 'dpsh'"


class TestFiles:
    """Where the files come from, and what is said where there are none."""

    ADVICE = "; put cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz into {root}"

    @pytest.mark.parametrize("download", [True, False])
    def test_archive_in_the_folder_is_unpacked(self, archive: bytes, tmp_path: Path, download: bool) -> None:
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(archive)
        assert sizes(load_cifar10(root=str(tmp_path), download=download)) == (100, 500, 600)
        assert (tmp_path / "cifar-10-batches-py/test_batch").is_file()

    def test_home(self, unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(unpacked.parent))
        assert sizes(load_cifar10(root=f"~/{unpacked.name}", download=False)) == (100, 500, 600)

    def test_download(self, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As torchvision does it, from a server that is none."""
        root, asked = tmp_path / "new" / "data", []

        class Response(io.BytesIO):
            url = CIFAR10.url
            length = len(archive)

        def answer(request: Any, **_: Any) -> Response:
            asked.append(socket.getdefaulttimeout())
            assert request.full_url == CIFAR10.url
            return Response(archive)

        monkeypatch.setattr("urllib.request.urlopen", answer)
        assert sizes(load_cifar10(root=str(root))) == (100, 500, 600)
        assert set(asked) == {30.0}  # and no server can keep us waiting for ever
        assert socket.getdefaulttimeout() is None
        asked.clear()
        assert load_cifar10(root=str(root))
        assert not asked

    def test_one_of_many_processes_downloads(
        self, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        class Response(io.BytesIO):
            url, length = CIFAR10.url, 100

        def answer(*_: Any, **__: Any) -> Response:
            asked.append(True)
            time.sleep(0.2)
            return Response(archive)

        monkeypatch.setattr("urllib.request.urlopen", answer)
        with ThreadPoolExecutor(3) as pool:  # as many locks as processes would have
            found = list(pool.map(lambda seed: load_cifar10(seed, root=str(tmp_path)), range(3)))
        assert [sizes(data) for data in found] == [(100, 500, 600)] * 3
        assert len(asked) == 2  # where it is, and itself

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (urllib.error.URLError("Name or service not known"), "<urlopen error Name or service not known>"),
            (TimeoutError("timed out"), "timed out"),
            (http.client.IncompleteRead(b"abc"), "IncompleteRead(3 bytes read)"),
            (ConnectionResetError(), "ConnectionResetError"),
        ],
    )
    def test_no_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
        monkeypatch.setattr("urllib.request.urlopen", fail(error))
        message = error_of(load_cifar10, root=str(tmp_path), kind=OSError)
        advice = self.ADVICE.format(root=tmp_path)
        assert message == f"cifar10: not in {tmp_path}, and downloading it failed ({reason}){advice}"
        error_of(load_cifar10, root=str(tmp_path / "new"), kind=OSError)
        assert not (tmp_path / "new").exists()  # nothing is left of a folder that was made for it
        assert tmp_path.exists()

    def test_download_that_is_damaged(self, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Response(io.BytesIO):
            url, length = CIFAR10.url, 100

        monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Response(archive[:-10]))
        message = error_of(load_cifar10, root=str(tmp_path), kind=OSError)
        assert "and downloading it failed (File not found or corrupted.); put" in message
        assert not (tmp_path / "cifar-10-batches-py").exists()

    def test_no_download_wanted(self, tmp_path: Path) -> None:
        message = error_of(load_cifar10, root=str(tmp_path / "no"), download=False, kind=OSError)
        assert message == f"cifar10: not in {tmp_path}/no, or damaged{self.ADVICE.format(root=tmp_path / 'no')}"
        assert not (tmp_path / "no").exists()

    def test_archive_that_cannot_be_unpacked(
        self, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(archive)
        monkeypatch.setattr("tarfile.TarFile.extractall", fail(OSError(28, "No space left on device")))
        message = error_of(load_cifar10, root=str(tmp_path), kind=OSError)
        assert "and unpacking it failed ([Errno 28] No space left on device); put" in message

    def test_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        message = error_of(load_cifar10, root=str(tmp_path / "file"), kind=OSError)
        assert message.startswith(f"cifar10: not in {tmp_path}/file, and downloading it failed (")

    @pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
    def test_nothing_is_unpickled_before_its_checksum_is_right(self, unpacked: Path, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        for each in (unpacked / "cifar-10-batches-py").iterdir():
            if each.name != name:
                os.symlink(each, folder / each.name)
        (folder / name).write_bytes(pickle.dumps(Evil()))
        for download in (True, False):
            message = error_of(load_cifar10, root=str(tmp_path), download=download, kind=OSError)
            assert message.startswith(f"cifar10: not in {tmp_path}, ")
        assert RAN == []

    def test_torchvision_that_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "torchvision.datasets", None)
        monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
        message = error_of(load_cifar10, kind=MissingExtra)
        assert message == "torchvision is not installed; get it with: pip install 'rdh_ext[train]'"

    def test_timeout_that_is_set_stays(self) -> None:
        socket.setdefaulttimeout(3)
        try:
            with cifar10._patience():
                assert socket.getdefaulttimeout() == 3
            assert socket.getdefaulttimeout() == 3
        finally:
            socket.setdefaulttimeout(None)
