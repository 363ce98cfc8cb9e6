"""Weights of backbones: a download, or a file that may be of another model, of another year, or malicious."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from rdh_ext.hashing.backbones import TorchvisionBackbone, make_backbone

models = pytest.importorskip("torchvision.models")
NONE = {"weights": "none"}
SMALL = "squeezenet1_1"


def torchvision_model(name: str, **options: Any) -> nn.Module:
    model: nn.Module = models.get_model(name, **options)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    """Saves something and returns its path."""

    def save(content: Any) -> Path:
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return save


@pytest.mark.parametrize("form", ["plain", "prefix", "wrapped", "classes", "headless", "bare"])
def test_weights_of_a_file(saved: Callable[[Any], Path], form: str) -> None:
    model = torchvision_model(SMALL, num_classes=7 if form == "classes" else 1000).eval()
    state: Any = model.state_dict()
    if form == "prefix":
        state = nn.DataParallel(model).state_dict()
    elif form == "wrapped":
        state = {"state_dict": state, "epoch": 3}
    elif form == "headless":
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    elif form == "bare":
        state = dict(state)
    path = saved(state)
    backbone = make_backbone(SMALL, 8, (3, 48, 48), {"weights": path if form == "plain" else str(path)}).eval()
    assert isinstance(backbone, TorchvisionBackbone)
    images = torch.randn(2, 3, 48, 48)
    features = model.get_submodule("features")(images)
    assert torch.equal(backbone(images), backbone.head(features).mean((2, 3)))


@pytest.mark.parametrize("form", ["torch", "prefix", "dict"])
def test_weights_of_models_that_want_a_version(saved: Callable[[Any], Path], form: str) -> None:
    model = torchvision_model("mnasnet0_5")
    state = nn.DataParallel(model).state_dict() if form == "prefix" else model.state_dict()
    path = saved(dict(state) if form == "dict" else state)
    loaded = make_backbone("mnasnet0_5", 8, (3, 32, 32), {"weights": path}).state_dict()
    assert all(
        torch.equal(loaded[f"model.{key}"], value) for key, value in model.state_dict().items() if "fier" not in key
    )


def test_versions_in_a_file_are_those_of_the_file(saved: Callable[[Any], Path]) -> None:
    state = torchvision_model("mnasnet0_5").state_dict()
    state._metadata[""]["version"] = 3
    with pytest.raises(ValueError, match=r"weights.pth: not weights of this mnasnet0_5: .* instead of 3"):
        make_backbone("mnasnet0_5", 8, (3, 32, 32), {"weights": saved(state)})


def test_weights_as_they_were_published_long_ago(saved: Callable[[Any], Path]) -> None:
    model = torchvision_model("densenet121")
    own = model.state_dict()
    # names with a point, no counts of batches, no versions
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in own.items() if "batches" not in key}
    assert old.keys() != own.keys()
    loaded = make_backbone("densenet121", 8, (3, 32, 32), {"weights": saved(OrderedDict(old))}).state_dict()
    for key, value in own.items():
        assert key.startswith("classifier") or torch.equal(loaded[f"model.{key}"], value)


def test_auxiliary_classifiers_are_left_out(saved: Callable[[Any], Path]) -> None:
    model = torchvision_model("googlenet", aux_logits=True, init_weights=False, transform_input=True).eval()
    assert any(key.startswith("aux2.") for key in model.state_dict())
    path = saved(model.state_dict())
    backbone = make_backbone("googlenet", 8, (3, 32, 32), {"weights": path, "frozen": True})
    assert isinstance(backbone, TorchvisionBackbone)
    features: list[Tensor] = []
    images = torch.randn(2, 3, 32, 32)
    model.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    model(images)
    logits = backbone(images)  # in training mode, in which GoogLeNet has three outputs
    assert torch.equal(logits, backbone.head(features[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.0.bias"), "a state_dict without features.0.bias$"),
        (lambda state: state.update({"a.b": torch.zeros(1)}), "a state_dict with a.b$"),
        (lambda state: state.update({"features.0.bias": torch.zeros(3)}), "size mismatch for features.0.bias"),
        (lambda state: state["features.3.squeeze.bias"].fill_(torch.nan), "NaN in features.3.squeeze.bias"),
        (lambda state: state.update({"features.0.bias": 3}), "must hold a state_dict.*got 'features.0.bias': int"),
        (lambda state: state.clear(), "must hold a state_dict"),
    ],
)
def test_weights_that_do_not_fit(saved: Callable[[Any], Path], change: Callable[[Any], Any], message: str) -> None:
    state = torchvision_model(SMALL).state_dict()
    change(state)
    path = saved(state)
    with pytest.raises(ValueError, match=message) as caught:
        make_backbone(SMALL, 8, (3, 32, 32), {"weights": path})
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_and_other_things(saved: Callable[[Any], Path], tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            make_backbone(SMALL, 8, (3, 32, 32), {"weights": path})
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    refused(
        saved(torchvision_model("shufflenet_v2_x0_5").state_dict()),
        r"not weights of squeezenet1_1: a state_dict without features.0.weight, features.0.bias, features.3.\S+ and 47 "
        r"more and with conv1.0.weight, conv1.1.weight, conv1.1.bias and \d+ more",
    )
    refused(saved(torch.zeros(3)), "must hold a state_dict, names with their tensors, got Tensor")
    refused(saved([1]), "got list")
    refused(tmp_path, "weights must be DEFAULT, IMAGENET1K_V1, none or a file, got '.*', which is none")
    refused(tmp_path / "default", "or a file, got '.*default', which is none")
    path = saved(torchvision_model(SMALL).state_dict())
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"not a pickle at all", content[:-1000]):
        path.write_bytes(broken)
        refused(path, "not a file of weights that is safe to read")


class Stranger:
    """Nothing bad, but no tensor."""


class Malice:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["Malice", "Stranger"])
def test_files_of_weights_run_no_code(tmp_path: Path, zipped: bool, kind: str) -> None:
    thing = Malice(tmp_path / "made") if kind == "Malice" else Stranger()
    state = {**torchvision_model(SMALL).state_dict(), "thing": thing}
    torch.save(state, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"not a file of weights that is safe to read .*(mkdir|Stranger)") as caught:
        make_backbone(SMALL, 8, (3, 32, 32), {"weights": tmp_path / "weights.pth"})
    assert "\n" not in str(caught.value)
    assert "safe_globals" not in str(caught.value)  # no advice to trust it
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(url: str, **_: Any) -> Any:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fails)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(OSError, match=r"alexnet: its weights could not be fetched from https://") as caught:
        make_backbone("alexnet", 8, (3, 64, 64))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "alexnet-owt-7be5be79.pth",
        f"{tmp_path}/checkpoints/",
        "weights=FOLDER/",
        "weights=none",
        "not known",
    ):
        assert part in message


def test_download(monkeypatch: pytest.MonkeyPatch) -> None:
    state, calls = torchvision_model(SMALL).state_dict(), []

    def load(url: str, **options: Any) -> Any:
        calls.append((url, options["weights_only"], options["check_hash"], options["map_location"]))
        return state

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    for options in ({}, {"weights": "DEFAULT"}, {"weights": "IMAGENET1K_V1"}):
        loaded = make_backbone(SMALL, 8, (3, 32, 32), options).state_dict()
        assert torch.equal(loaded["model.features.0.weight"], state["features.0.weight"])
    assert calls == [(models.SqueezeNet1_1_Weights.DEFAULT.url, True, True, "cpu")] * 3
    make_backbone(SMALL, 8, (3, 32, 32), NONE)
    make_backbone(SMALL, 8, (3, 32, 32), {"weights": None})
    assert len(calls) == 3


def test_a_trained_model_is_the_same_function_without_the_download(saved: Callable[[Any], Path]) -> None:
    path = saved(torchvision_model("googlenet", aux_logits=False, init_weights=False).state_dict())
    trained = make_backbone("googlenet", 8, (3, 32, 32), {"weights": path}).eval()
    again = make_backbone("googlenet", 8, (3, 32, 32), NONE).eval()
    again.load_state_dict(trained.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(trained(images), again(images))
