"""Code sets on disk: what was written comes back, other programs read it, and whatever is wrong is said in one line."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_sets import error_of, make_problem, small_blocks, write_in_parts, write_problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from process_group import environment

from rdh_ext.retrieval import CodeSet, CodeSetWriter, DamagedShard, write_code_set
from rdh_ext.retrieval.sets.manifest import parse_manifest
from rdh_ext.retrieval.sets.npy import header_of

SUFFIXES = ("", ".npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("classes", [None, 1, 9, 80])
@pytest.mark.parametrize("bits", [1, 7, 24, 64, 4096])
def test_what_was_written_comes_back(tmp_path: Path, suffix: str, classes: int | None, bits: int) -> None:
    _, g, _, labels = make_problem(1, 50, bits, classes)
    written = write_code_set(tmp_path / f"set{suffix}", g, labels, bits=bits, made={"by": "a test"})
    found = CodeSet(written.path)
    codes, rows = found.load()
    assert (found.bits, len(found), found.manifest.made) == (bits, 50, {"by": "a test"})
    assert torch.equal(codes, g)
    assert rows is not None
    if classes is None:
        assert rows.dtype == torch.uint8  # the smallest that holds them
        assert torch.equal(rows.to(torch.int64), labels)
    else:
        assert np.array_equal(np.unpackbits(rows.numpy(), axis=1, count=classes, bitorder="little"), labels.numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"set{suffix}"]


@pytest.mark.parametrize(("largest", "dtype"), [(255, "uint8"), (256, "int16"), (32768, "int32"), (2**31, "int64")])
def test_class_ids_take_the_smallest_type(tmp_path: Path, largest: int, dtype: str) -> None:
    labels = torch.tensor([0, largest])
    found = write_code_set(tmp_path / "set", torch.zeros(2, 1, dtype=torch.uint8), labels)
    assert found.labels is not None
    assert found.labels.dtype == dtype
    assert found.load()[1].tolist() == [0, largest]


def test_other_programs_read_it(folder: Path) -> None:
    problem = make_problem(3, 10_000, 24, 9)
    _, g, _, labels = problem
    query, gallery = write_problem(folder, problem, 24, shard_items=4_000)
    shards = [np.load(gallery.path / f"codes-{i:05d}.npy", mmap_mode="r", allow_pickle=False) for i in range(3)]
    assert np.array_equal(np.concatenate(shards), g.numpy())
    packed = np.concatenate([np.load(gallery.path / f"labels-{i:05d}.npy", allow_pickle=False) for i in range(3)])
    assert np.array_equal(packed, np.packbits(labels.numpy(), axis=1, bitorder="little"))
    with np.load(query.path, allow_pickle=False) as archive:
        assert np.array_equal(archive["codes"], problem[0].numpy())
    assert json.loads((gallery.path / "manifest.json").read_text())["items"] == 10_000


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("items", [0, 1, 4095, 4096, 4097, 12_288])
def test_sizes_around_blocks_and_shards(folder: Path, suffix: str, items: int) -> None:
    _, g, _, labels = make_problem(1, items, 20)
    for shard_items in (1 if items < 2 else 4095, 4096, 8193):
        path = folder / f"set-{shard_items}{suffix}"
        found = write_code_set(path, g, labels, bits=20, shard_items=shard_items)
        blocks = list(found.blocks())
        assert [block.index for block in blocks] == list(range(len(blocks)))
        assert sum(block.items for block in blocks) == items
        parts = [found.read(block) for block in blocks]
        assert torch.equal(torch.cat([codes for codes, _ in parts] or [g]), g)
        assert torch.equal(found.load()[0], g)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 6000), min_size=1, max_size=5),
    shard_items=st.integers(1000, 9000),
    classes=st.sampled_from([None, 3]),
)
def test_parts_given_to_the_writer_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int],
    shard_items: int,
    classes: int | None,
) -> None:
    small_blocks(monkeypatch)
    folder = tmp_path_factory.mktemp("parts")
    problem = make_problem(1, sum(sizes), 16, classes)
    at_once = write_in_parts(folder / "a", problem, 16, [sum(sizes)], shard_items)
    in_parts = write_in_parts(folder / "b", problem, 16, sizes, shard_items)
    assert at_once.manifest == in_parts.manifest
    assert torch.equal(in_parts.load()[0], problem[1])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_items_are_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    _, g, _, labels = make_problem(1, 500, 24)
    contents = []
    for name in ("a", "b"):
        path = write_code_set(tmp_path / f"{name}{suffix}", g, labels, bits=24).path
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        contents.append([(file.name if path.is_dir() else "", file.read_bytes()) for file in files])
    assert contents[0] == contents[1]


class TestWhatIsNoCodeSet:
    def test_nothing_there(self, tmp_path: Path) -> None:
        assert "no such code set; name a folder or an .npz file" in error_of(CodeSet, tmp_path / "none")

    def test_a_folder_without_manifest(self, tmp_path: Path) -> None:
        assert "not written to its end" in error_of(CodeSet, tmp_path)

    def test_a_file_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"something else" * 100)
        assert "not a code set" in error_of(CodeSet, tmp_path / "file")
        with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
            archive.writestr("a.txt", "a")
        assert "no manifest.json" in error_of(CodeSet, tmp_path / "zip")

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"[]",
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"format": "another"}',
            b'{"format": "rdh_ext code set", "version": 2}',
            b'{"format": "rdh_ext code set", "version": 1}',
        ],
    )
    def test_a_manifest_that_is_none(self, text: bytes) -> None:
        assert "m.json" in error_of(parse_manifest, text, "m.json")

    def test_fields_that_cannot_be(self, tmp_path: Path) -> None:
        _, g, _, labels = make_problem(1, 5, 8)
        whole = write_code_set(tmp_path / "set", g, labels).manifest.to_dict()
        wrong: list[tuple[str, Any]] = [
            ("bits", 0),
            ("bits", 4097),
            ("bits", 8.0),
            ("bits", True),
            ("items", 6),
            ("items", None),
            ("block_items", 0),
            ("labels", {"kind": "names"}),
            ("labels", {"kind": "class_ids", "dtype": "object"}),
            ("labels", {"kind": "multi_hot", "classes": -1}),
            ("shards", {}),
            ("shards", [{}]),
            ("shards", [{"items": 5, "codes": None, "labels": None}]),
            ("made", []),
        ]
        for field, value in wrong:
            assert "m.json" in error_of(parse_manifest, json.dumps(whole | {field: value}).encode(), "m.json")
        for field in whole:
            rest = {name: value for name, value in whole.items() if name != field}
            error_of(parse_manifest, json.dumps(rest).encode(), "m.json")

    @pytest.mark.parametrize(
        "name", ["../codes.npy", "/etc/passwd", "", ".", "..", "a/b.npy", "manifest.json", "a\0b", 5]
    )
    def test_files_outside_of_the_folder_are_not_looked_at(self, tmp_path: Path, name: Any) -> None:
        _, g, _, labels = make_problem(1, 5, 8)
        fields = write_code_set(tmp_path / "set", g, labels).manifest.to_dict()
        fields["shards"][0]["codes"]["file"] = name
        (tmp_path / "set" / "manifest.json").write_text(json.dumps(fields))
        assert "must be a file beside the manifest" in error_of(CodeSet, tmp_path / "set")


class TestDamage:
    @pytest.fixture
    def gallery(self, folder: Path) -> CodeSet:
        return write_problem(folder, make_problem(1, 20_000, 24), 24)[1]

    @pytest.mark.parametrize("name", ["codes-00001.npy", "labels-00001.npy"])
    def test_a_flipped_byte(self, gallery: CodeSet, name: str) -> None:
        path = gallery.path / name
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        found = CodeSet(gallery.path)
        assert f"{path}: rows 8,192 to 9,000 are not those that were written" in error_of(found.load)
        with pytest.raises(DamagedShard, match=name):
            found.verify()

    @pytest.mark.parametrize("change", [-1, 1])
    def test_another_size(self, gallery: CodeSet, change: int) -> None:
        path = gallery.path / "codes-00002.npy"
        content = path.read_bytes()
        path.write_bytes(content[:change] if change < 0 else content + b"x")
        assert f"{path}: {len(content) + change:,} bytes, and it should be {len(content):,}" in error_of(
            CodeSet, gallery.path
        )

    def test_truncated_after_it_was_opened(self, gallery: CodeSet) -> None:
        path = gallery.path / "codes-00001.npy"
        path.write_bytes(path.read_bytes()[:5000])
        assert f"{path}: shorter than the manifest says" in error_of(gallery.load)

    def test_a_missing_file(self, gallery: CodeSet) -> None:
        path = gallery.path / "labels-00001.npy"
        path.unlink()
        assert f"{path}: the file is gone" in error_of(gallery.load)
        assert f"{path}: missing, the manifest names it" in error_of(CodeSet, gallery.path)

    def test_a_shard_of_another_set(self, gallery: CodeSet, tmp_path: Path) -> None:
        for bits, message in ((24, "are not those that were written"), (32, "the files are not of one set")):
            problem = make_problem(1, 20_000, bits, seed=1)
            other = write_in_parts(tmp_path / f"other{bits}", problem, bits, [20_000], 9_000)
            path = gallery.path / "codes-00001.npy"
            path.write_bytes((other.path / path.name).read_bytes())
            assert message in error_of(lambda: CodeSet(gallery.path).load())

    def test_objects_are_not_unpickled(self, gallery: CodeSet, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "ran"),)

        np.save(gallery.path / "codes-00000.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
        assert "would have to be unpickled" in error_of(CodeSet, gallery.path)
        (gallery.path / "codes-00000.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00__import__('os')")
        assert "not a .npy array" in error_of(CodeSet, gallery.path)
        assert not (tmp_path / "ran").exists()

    def test_an_archive(self, tmp_path: Path) -> None:
        _, g, _, labels = make_problem(1, 500, 24)
        path = write_code_set(tmp_path / "set.npz", g, labels, bits=24).path
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert f"{path}: not a code set, or a damaged one" in error_of(CodeSet, path)
        damaged = bytearray(content)
        damaged[600] ^= 255
        path.write_bytes(damaged)
        assert f"{path}, codes.npy: rows 0 to 500 are not those that were written" in error_of(CodeSet(path).load)
        with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in whole.namelist():
                archive.writestr(name, whole.read(name))
        assert "compressed or encrypted" in error_of(CodeSet, path)


class TestWriting:
    def test_something_is_there(self, tmp_path: Path) -> None:
        _, g, _, labels = make_problem(1, 10, 8)
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
        assert "exists already" in error_of(write_code_set, tmp_path / "thesis", g)
        assert "is no code set; it is not overwritten" in error_of(
            write_code_set, tmp_path / "thesis", g, overwrite=True
        )
        for suffix in SUFFIXES:
            path = tmp_path / f"set{suffix}"
            write_code_set(path, g)
            assert "exists already" in error_of(write_code_set, path, g, labels)
            assert write_code_set(path, g, labels, overwrite=True).labels is not None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.npz", "thesis"]

    def test_an_error_leaves_nothing(self, tmp_path: Path) -> None:
        _, g, _, labels = make_problem(1, 10, 8)

        def half() -> None:
            with CodeSetWriter(tmp_path / "set", bits=8) as writer:
                writer.add(g, labels)
                writer.add(g.float(), labels)

        with pytest.raises(TypeError):
            half()
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_seen_before_the_end(self, tmp_path: Path) -> None:
        _, g, _, labels = make_problem(1, 10, 8)
        for suffix in SUFFIXES:
            path = tmp_path / f"set{suffix}"
            with CodeSetWriter(path, bits=8) as writer:
                writer.add(g, labels)
                assert not path.exists()
                [hidden] = tmp_path.glob(".set*.tmp")
                assert "not written to its end" in error_of(CodeSet, hidden)
            assert len(CodeSet(path)) == 10

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """A limit on the size of files is the closest to it that needs no disk of its own."""
        script = """
import resource, signal, sys, torch
from rdh_ext.retrieval import write_code_set
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_code_set(sys.argv[1], torch.zeros(1 << 21, 8, dtype=torch.uint8))
except OSError as error:
    print(error.strerror)
"""
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "set")],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout == "File too large\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_two_writers(self, tmp_path: Path, suffix: str) -> None:
        """One wins, and its set is whole; the other says so."""
        path = tmp_path / f"set{suffix}"
        first, second = (CodeSetWriter(path, bits=8) for _ in range(2))
        first.add(torch.zeros(5, 1, dtype=torch.uint8))
        second.add(torch.ones(7, 1, dtype=torch.uint8))
        second.close()
        assert "another process has written it meanwhile; nothing was changed" in error_of(first.close)
        assert CodeSet(path).load()[0].tolist() == [[1]] * 7
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    def test_a_killed_writer_leaves_no_set(self, tmp_path: Path) -> None:
        def write() -> None:
            writer = CodeSetWriter(tmp_path / "set", bits=8)
            writer.add(torch.zeros(5, 1, dtype=torch.uint8))
            os.kill(os.getpid(), signal.SIGKILL)

        process = multiprocessing.get_context("fork").Process(target=write)
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert "no such code set" in error_of(CodeSet, tmp_path / "set")
        assert len(write_code_set(tmp_path / "set", torch.zeros(3, 1, dtype=torch.uint8))) == 3

    def test_names_of_any_kind(self, tmp_path: Path) -> None:
        codes = torch.zeros(3, 1, dtype=torch.uint8)
        for name in ("Kataloge für Bilder", "画像" * 30, "a" * 255, "x" * 251 + ".npz"):
            assert len(write_code_set(tmp_path / name, codes)) == 3
        deep = tmp_path.joinpath(*["d" * 200] * 15)
        assert len(write_code_set(deep, codes)) == 3

    @pytest.mark.parametrize(
        ("codes", "labels", "options", "message"),
        [
            (torch.zeros(3, 2), None, {}, "packed codes"),
            (torch.zeros(3, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), {}, "class ids [3]"),
            (torch.zeros(3, 2, dtype=torch.uint8), torch.tensor([0, -1, 2]), {}, "integers >= 0"),
            (torch.zeros(3, 2, dtype=torch.uint8), torch.tensor([[0, 2]] * 3), {}, "0/1"),
            (torch.full((3, 2), 255, dtype=torch.uint8), None, {"bits": 12}, "zeros behind its 12 bits"),
            (torch.zeros(3, 2, dtype=torch.uint8), None, {"bits": 17}, "bits"),
            (torch.zeros(3, 2, dtype=torch.uint8), None, {"shard_items": 0}, "shard_items"),
            (torch.zeros(3, 2, dtype=torch.uint8), "a", {}, "labels"),
        ],
    )
    def test_wrong_arguments(
        self, tmp_path: Path, codes: Any, labels: Any, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            write_code_set(tmp_path / "set", codes, labels, **options)
        assert message in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_labels_in_some_calls_only(self, tmp_path: Path) -> None:
        codes, labels = torch.zeros(3, 1, dtype=torch.uint8), torch.tensor([1, 256, 3])
        with CodeSetWriter(tmp_path / "s", bits=8) as writer:
            writer.add(codes, labels)
            with pytest.raises(ValueError, match="with all codes or with none"):
                writer.add(codes)
        with (
            CodeSetWriter(tmp_path / "t", bits=8, label_dtype="uint8") as writer,
            pytest.raises(ValueError, match="class ids up to 255"),
        ):
            writer.add(codes, labels)


def test_memory_of_opening_does_not_depend_on_the_size(tmp_path: Path) -> None:
    """A sparse file of 64 GiB is opened, its first block is read and found to be another one."""
    _, g, _, _ = make_problem(1, 10, 64)
    found = write_code_set(tmp_path / "set", g)
    fields = found.manifest.to_dict()
    items = 8 << 30
    blocks = -(-items // fields["block_items"])
    fields |= {
        "items": items,
        "shards": [{"items": items, "codes": {"file": "huge.npy", "sha256": ["0" * 64] * blocks}, "labels": None}],
    }
    with open(found.path / "huge.npy", "wb") as file:
        header = header_of(np.dtype(np.uint8), (items, 8))
        file.write(header)
        file.truncate(len(header) + 8 * items)
    (found.path / "manifest.json").write_text(json.dumps(fields))
    script = """
import resource, sys
from rdh_ext.retrieval import CodeSet, DamagedShard
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
huge = CodeSet(sys.argv[1])
try:
    huge.read(next(huge.blocks()))
except DamagedShard as error:
    print(len(huge), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""  # a process of its own, whose peak nothing has raised before
    command = [sys.executable, "-c", script, str(found.path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    count, grown, message = done.stdout.split(maxsplit=2)
    assert int(count) == items
    assert "rows 0 to" in message
    assert int(grown) < 200 << 10
