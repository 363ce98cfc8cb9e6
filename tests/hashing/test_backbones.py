"""Backbones: K logits of every family of networks, a last layer of their own, frozen ones, and the inputs they want."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Any

import pytest
import torch
from torch import nn

from rdh_ext.hashing import MissingExtra
from rdh_ext.hashing.backbones import BACKBONES, TorchvisionBackbone, input_hint, make_backbone, pretrained, small_cnn
from rdh_ext.hashing.data import Preprocessing
from rdh_ext.hashing.options import options_of

needs_torchvision = pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="needs torchvision")
NONE = {"weights": "none"}
SMALL = "squeezenet1_1"


def families() -> list[str]:
    """The smallest model of each family of torchvision."""
    from torchvision import models

    smallest: dict[str, tuple[int, str]] = {}
    for name in models.list_models(module=models):
        builder = models.get_model_builder(name)
        size = models.get_model_weights(name).DEFAULT.meta["num_params"]
        family = f"{builder.__module__} {re.match('wide|regnet_.|swin_v2|efficientnet_v2|[a-z]+', name)}"
        smallest[family] = min(smallest.get(family, (size, name)), (size, name))
    return sorted(name for _, name in smallest.values())


def torchvision_model(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    model: nn.Module = models.get_model(name, **options)
    return model


@pytest.mark.parametrize("bits", [1, 12, 48])
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("linear", (5,), {}),
        ("linear", (2, 3, 4), {}),
        ("mlp", (5,), {"hidden": [7, 6]}),
        ("mlp", (2, 3, 4), {"hidden": 3}),
        ("mlp", (5,), {"hidden": []}),
        ("small_cnn", (1, 8, 8), {}),
        ("small_cnn", (3, 16, 12), {"width": 2, "hidden": 5}),
        pytest.param(SMALL, (3, 32, 32), NONE, marks=needs_torchvision),
    ],
)
def test_logits(name: str, shape: tuple[int, ...], options: dict[str, Any], bits: int) -> None:
    backbone = make_backbone(name, bits, shape, options)
    assert backbone.training
    assert backbone(torch.randn(2, *shape)).shape == (2, bits)
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(make_backbone(name, bits, shape, options).state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_small_networks_have_the_widths_that_are_asked_for() -> None:
    def widths(backbone: nn.Module) -> list[int]:
        return [layer.out_features for layer in backbone.modules() if isinstance(layer, nn.Linear)]

    assert widths(make_backbone("mlp", 8, (5,), {"hidden": (7, 6)})) == [7, 6, 8]
    assert widths(make_backbone("mlp", 8, (5,))) == [512, 8]
    assert widths(make_backbone("linear", 8, (5,))) == [8]
    assert widths(make_backbone("small_cnn", 8, (3, 32, 32), {"hidden": 9})) == [9, 8]
    assert sum(p.numel() for p in small_cnn(32).parameters()) == 55_840  # as its docstring says


@needs_torchvision
def test_alexnet_is_the_papers() -> None:
    backbone = make_backbone("alexnet", 16, (3, 64, 64), NONE)
    assert isinstance(backbone, TorchvisionBackbone)
    assert backbone.training
    assert backbone(torch.randn(2, 3, 64, 64)).shape == (2, 16)
    whole = torchvision_model("alexnet").state_dict()
    ours = {key.removeprefix("model."): value.shape for key, value in backbone.state_dict().items()}
    assert ours.pop("classifier.6.weight") == (16, 4096)
    assert ours.pop("classifier.6.bias") == (16,)
    assert ours == {key: value.shape for key, value in whole.items() if not key.startswith("classifier.6.")}
    assert options_of(BACKBONES["alexnet"]) == {"weights": "DEFAULT", "frozen": False, "init_std": None}


@needs_torchvision
def test_last_layer_of_every_family() -> None:
    names = families()
    assert {"alexnet", "squeezenet1_1", "inception_v3", "maxvit_t", "vit_b_16", "swin_v2_t"} <= set(names)
    for name in names:
        check_last_layer(name)


def check_last_layer(name: str) -> None:
    hint = input_hint(name)
    assert hint is not None
    assert hint.size is not None
    # regnets compute their widths with tensors, and so must be on a device that computes
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        backbone = make_backbone(name, 11, (3, hint.size, hint.size), NONE)
    assert isinstance(backbone, TorchvisionBackbone), name
    last = [layer for layer in backbone.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    assert backbone.head is last, name
    outputs = {layer.out_features for layer in backbone.modules() if isinstance(layer, nn.Linear)}
    assert 1000 not in outputs, name


@needs_torchvision
@pytest.mark.parametrize("name", ["squeezenet1_0", "shufflenet_v2_x0_5", "googlenet"])
def test_logits_are_linear_in_the_last_layer(name: str) -> None:
    backbone = make_backbone(name, 6, (3, 32, 32), NONE).eval()
    assert isinstance(backbone, TorchvisionBackbone)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = backbone(images)
        for parameter in backbone.head.parameters():
            parameter.neg_()
        assert torch.equal(backbone(images), -before)


@needs_torchvision
def test_init_std_of_the_last_layer() -> None:
    backbone = make_backbone(SMALL, 64, (3, 32, 32), {**NONE, "init_std": 0.01})
    assert isinstance(backbone, TorchvisionBackbone)
    weight, bias = (parameter.detach() for parameter in backbone.head.parameters())
    assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
    assert not bias.any()


@needs_torchvision
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", SMALL])
def test_frozen_networks_train_their_last_layer_alone(name: str) -> None:
    backbone = make_backbone(name, 8, (3, 64, 64), {**NONE, "frozen": True})
    assert isinstance(backbone, TorchvisionBackbone)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, weight_decay=0.1)
    images = torch.randn(4, 3, 64, 64)
    for mode in (backbone.eval, backbone.train):
        mode()
        assert backbone.head.training == backbone.training
    assert torch.equal(backbone(images), backbone(images))  # nothing is dropped out
    backbone(images).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    head = "fc" if name == "shufflenet_v2_x0_5" else "classifier.1"
    assert changed == {f"model.{head}.weight", f"model.{head}.bias"}


@needs_torchvision
def test_networks_that_are_not_frozen_train_all_over() -> None:
    backbone = make_backbone("shufflenet_v2_x0_5", 8, (3, 64, 64), NONE)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(4, 3, 64, 64)).square().sum().backward()
    torch.optim.SGD(backbone.parameters(), lr=0.1).step()
    same = {key for key, value in backbone.state_dict().items() if torch.equal(value, before[key])}
    assert not same


@needs_torchvision
def test_vision_transformers_have_the_size_of_the_images() -> None:
    with torch.device("meta"):
        backbone = make_backbone("vit_b_32", 8, (3, 64, 64), NONE)
        assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, 8)
        assert make_backbone("maxvit_t", 8, (3, 448, 448), NONE)(torch.zeros(1, 3, 448, 448)).shape == (1, 8)


@needs_torchvision
def test_input_hint() -> None:
    from torchvision import models

    assert input_hint("alexnet") == Preprocessing(
        scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize=256, size=224
    )
    newer, older = input_hint("resnet50"), input_hint("resnet50", "IMAGENET1K_V1")
    assert newer is not None
    assert older is not None
    assert (newer.resize, older.resize) == (232, 256)
    assert input_hint("resnet50", "none") == input_hint("resnet50", "some.pth") == newer
    assert all(input_hint(name) is None for name in ("linear", "mlp", "small_cnn"))
    # what torchvision itself makes of an image for AlexNet
    pillow = pytest.importorskip("PIL.Image")
    raw = torch.randint(0, 256, (3, 300, 280), dtype=torch.uint8)
    theirs = models.get_model_weights("alexnet").DEFAULT.transforms()(pillow.fromarray(raw.permute(1, 2, 0).numpy()))
    hint = input_hint("alexnet")
    assert hint is not None
    torch.testing.assert_close(hint([raw])[0], theirs, rtol=0, atol=1.01 / 255 / 0.224)


def test_unknown_names() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(
        ValueError, match=r"backbone must be alexnet, .*small_cnn.* model of torchvision, got 'alexnte'"
    ):
        make_backbone("alexnte", 8, (3, 64, 64))
    with pytest.raises(ValueError, match=r"backbone must be resnet50, .*got 'resnet5'"):
        input_hint("resnet5")


def test_what_needs_torchvision_and_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    make_backbone("mlp", 8, (4,))
    assert input_hint("small_cnn") is None
    for name in ("alexnet", "resnet50"):
        with pytest.raises(MissingExtra, match=r"torchvision is not installed.*rdh_ext\[train\]"):
            make_backbone(name, 8, (3, 64, 64))


def test_the_last_of_several_layers_with_an_output_per_class_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(4, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.Linear(1000, 1000), nn.ReLU())
    assert pretrained.replace_head("odd", model, 8) == "3"
    assert model(torch.zeros(2, 4)).shape == (2, 8)


def test_models_without_a_last_layer() -> None:
    with pytest.raises(ValueError, match="odd: the model has no linear layer with 1000 outputs"):
        pretrained.replace_head("odd", nn.Sequential(nn.Linear(4, 999), nn.Conv2d(1, 1000, 3)), 8)


@pytest.mark.parametrize(
    ("name", "bits", "shape", "options", "message"),
    [
        ("linear", 0, (4,), {}, "backbone linear: bits must be a whole number of at least 1, got 0"),
        ("linear", 8.0, (4,), {}, "bits must be a whole number of at least 1, got 8.0"),
        ("linear", 8, (4, 4), {}, r"inputs must be \(channels, height, width\) or \(features,\), got \(4, 4\)"),
        ("linear", 8, (0,), {}, "inputs must be"),
        ("linear", 8, None, {}, "all inputs must have one shape, which a size in the preprocessing gives them"),
        ("linear", 8, (4,), {"hidden": 3}, "backbone linear has no option 'hidden'; its options are none"),
        ("mlp", 8, (4,), {"hiden": 3}, "backbone mlp has no option 'hiden'; its options are hidden"),
        ("mlp", 8, (4,), {"hidden": [3, 0]}, "mlp: hidden must be whole numbers of at least 1, got 0"),
        ("mlp", 8, (4,), {"hidden": "12"}, "mlp: hidden must be whole numbers of at least 1, got '1'"),
        ("mlp", 8, (4,), {"hidden": True}, "mlp: hidden must be whole numbers of at least 1, got True"),
        ("small_cnn", 8, (4,), {}, "small_cnn: inputs must be images"),
        ("small_cnn", 8, (1, 8, 6), {}, r"sides are positive multiples of 4, got \(1, 8, 6\)"),
        ("small_cnn", 8, (1, 2, 8), {}, "sides are positive multiples of 4"),
        ("small_cnn", 8, (1, 8, 8), {"width": 0}, "small_cnn: width must be whole numbers of at least 1, got 0"),
        ("small_cnn", 8, (1, 8, 8), {"hidden": 0.5}, "small_cnn: hidden must be whole numbers of at least 1, got 0.5"),
        (SMALL, 8, (4,), NONE, r"squeezenet1_1: inputs must be images \(3, height, width\), got \(4,\)$"),
        (SMALL, 8, (1, 32, 32), NONE, "a mean of 3 values in the preprocessing gives grey images 3 channels"),
        (SMALL, 8, (3, 8, 8), NONE, "squeezenet1_1 takes no images of 8 x 8 .*: set size 224 in the preprocessing"),
        (
            "vit_b_32",
            8,
            (3, 40, 40),
            NONE,
            r"takes no images of 40 x 40 \(Input shape indivisible by patch",
        ),
        ("vit_b_32", 8, (3, 64, 32), NONE, r"takes no images of 64 x 32 \(Wrong image width"),
        (SMALL, 8, (3, 32, 32), {"weights": 3}, "weights must be DEFAULT, .* or a file, got '3'"),
        (SMALL, 8, (3, 32, 32), {**NONE, "frozen": "no"}, "frozen must be true or false, got 'no'"),
        (SMALL, 8, (3, 32, 32), {**NONE, "init_std": 0}, "init_std must be a number above 0, got 0"),
        (SMALL, 8, (3, 32, 32), {**NONE, "init_std": "a"}, "init_std must be a number above 0, got 'a'"),
    ],
)
def test_wrong_values(name: str, bits: Any, shape: Any, options: dict[str, Any], message: str) -> None:
    if name not in ("linear", "mlp", "small_cnn"):
        pytest.importorskip("torchvision")
    with torch.device("meta"), pytest.raises(ValueError, match=message) as caught:
        make_backbone(name, bits, shape, options)
    assert "\n" not in str(caught.value)
