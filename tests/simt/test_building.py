"""What is said where the simulator cannot be built, and that a source which does not compile is not passed over."""

from __future__ import annotations

from pathlib import Path

import building
import pytest
import simt_ops


def test_missing_headers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "include_candidates", list)
    monkeypatch.setattr(building, "cuda_include", building.cuda_include.__wrapped__)
    monkeypatch.setenv("RDH_EXT_CUDA", "auto")
    assert building.missing() == "no headers of the CUDA toolkit (cuda_runtime.h); set CUDA_HOME"
    assert simt_ops.missing() in (building.missing(), "switched off by RDH_EXT_DISABLE_NATIVE")
    monkeypatch.setenv("RDH_EXT_CUDA", "1")
    with pytest.raises(RuntimeError, match=r"no headers of the CUDA toolkit .*; RDH_EXT_CUDA=1 wants them"):
        building.missing()


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "cuda_include", lambda: Path())
    monkeypatch.setenv("RDH_EXT_CUDA", "auto")
    monkeypatch.setenv("PATH", "")
    assert building.missing() == "no g++"


@pytest.mark.usefixtures("binaries")
def test_source_that_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a header that is none in the toolkit's place."""
    (tmp_path / "cuda_runtime.h").write_text("#error this is no toolkit\n")
    monkeypatch.setattr(building, "cuda_include", lambda: tmp_path)
    monkeypatch.setattr(building, "OUT", tmp_path / "out")
    with pytest.raises(RuntimeError, match="this is no toolkit"):
        building.make(str(tmp_path / "out" / "o2" / "simt.o"))
