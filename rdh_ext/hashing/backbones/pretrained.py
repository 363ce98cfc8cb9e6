"""Classification models of torchvision as backbones: their last layer replaced by one with an output per bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._extras import require
from ..data.preprocessing import Preprocessing
from .weights import load_weights, one_line, weights_from

CLASSES = 1000
"""What torchvision's models classify if they are not told otherwise: ImageNet."""


class TorchvisionBackbone(nn.Module):
    """A classification model of torchvision whose last layer is a new one: ``[B, 3, H, W]`` -> logits ``[B, bits]``.

    :func:`make_backbone` makes it by the name of the model. Auxiliary classifiers (GoogLeNet, Inception) are left out,
    and so is the ReLU that SqueezeNet has after its last layer: logits need both signs. The new layer has a bias.

    Options:
        ``weights`` ("DEFAULT"): "DEFAULT" and the other names that torchvision has for weights of the model are
        downloaded on first use, "none" is a random initialisation, and everything else is the file of a state_dict of
        the model, as torchvision publishes it or as it is trained elsewhere (``{"state_dict": ...}`` and the prefix
        ``module.`` are understood). Its last layer may have any number of classes, or be missing.

        ``frozen`` (False): train the last layer alone. The rest stays in evaluation mode, so that it is a fixed
        function: batch norm keeps its statistics, nothing is dropped out. With ``weights="none"``: of random features.

        ``init_std`` (None): weights of the new layer are drawn from N(0, init_std^2) and its bias is 0; None is
        PyTorch's default for the layer.

    Args:
        model: the model.
        head: name of its last layer in it, already the new one.
        frozen: as the option.

    Example:
        >>> from rdh_ext.hashing.backbones import make_backbone
        >>> backbone = make_backbone("squeezenet1_1", 16, (3, 32, 32), {"weights": "none", "frozen": True})
        >>> [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
        ['model.classifier.1.weight', 'model.classifier.1.bias']
    """

    def __init__(self, model: nn.Module, head: str, *, frozen: bool = False) -> None:
        super().__init__()
        self.model, self.frozen, self._head = model, frozen, head
        if frozen:
            model.requires_grad_(False)
            self.head.requires_grad_(True)
        self.train()

    @property
    def head(self) -> nn.Module:
        """The new layer, which has nothing of the pretraining."""
        return self.model.get_submodule(self._head)

    def train(self, mode: bool = True) -> TorchvisionBackbone:
        """As in every module, but what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
            self.head.train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` -> logits ``[B, bits]``."""
        logits: Tensor = self.model(images)
        return logits


def torchvision_backbone(
    name: str,
    bits: int,
    shape: tuple[int, ...],
    *,
    weights: str | Path | None = "DEFAULT",
    frozen: bool = False,
    init_std: float | None = None,
) -> TorchvisionBackbone:
    """The model ``name`` with ``bits`` outputs; see :class:`TorchvisionBackbone` for the options."""
    if len(shape) != 3 or shape[0] != 3:
        grey = "; a mean of 3 values in the preprocessing gives grey images 3 channels" if shape[0] == 1 else ""
        raise ValueError(f"backbone {name}: inputs must be images (3, height, width), got {shape}{grey}")
    if not isinstance(frozen, bool):
        raise ValueError(f"backbone {name}: frozen must be true or false, got {frozen!r}")
    if init_std is not None and not (isinstance(init_std, int | float) and init_std > 0):
        raise ValueError(f"backbone {name}: init_std must be a number above 0, got {init_std!r}")
    source = weights_from(name, weights)  # before the work of an initialisation
    try:
        model = require("torchvision.models", extra="train").get_model(name, **_arguments(name, shape, source))
    except (AssertionError, ValueError) as error:
        raise _refused(name, shape, error) from error
    head = replace_head(name, model, bits, init_std)
    if source is not None:
        load_weights(name, model, head, source)
    backbone = TorchvisionBackbone(model, head, frozen=frozen)
    _try(name, backbone, bits, shape)
    return backbone


def replace_head(name: str, model: nn.Module, bits: int, init_std: float | None = None) -> str:
    """Puts a new layer with ``bits`` outputs in the place of the last layer of a classifier; returns its name there.

    Raises:
        ValueError: the model has no linear layer or convolution by 1 with an output per class.
    """
    heads = [where for where, layer in model.named_modules() if _outputs(layer) == CLASSES]
    if not heads:
        raise ValueError(
            f"backbone {name}: the model has no linear layer with {CLASSES} outputs that could be replaced"
        )
    where: str = heads[-1]
    old = model.get_submodule(where)
    new: nn.Linear | nn.Conv2d
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, bits, kernel_size=1)
        _remove_relu_after(model, where)
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, bits)
    if init_std is not None:
        assert new.bias is not None
        nn.init.normal_(new.weight, std=init_std)
        nn.init.zeros_(new.bias)
    model.set_submodule(where, new)
    return where


def model_names() -> list[str]:
    """The classification models of torchvision."""
    models = require("torchvision.models", extra="train")
    names: list[str] = models.list_models(module=models)
    return names


def model_preprocessing(name: str, weights: str | Path | None) -> Preprocessing:
    """What the weights of a model were trained and evaluated with."""
    known = require("torchvision.models", extra="train").get_model_weights(name)
    expects = (known[weights] if weights in known.__members__ else known.DEFAULT).transforms()
    return Preprocessing(
        scale=1 / 255,
        mean=tuple(expects.mean),
        std=tuple(expects.std),
        resize=expects.resize_size[0],
        size=expects.crop_size[0],
    )


def _arguments(name: str, shape: tuple[int, ...], source: object) -> dict[str, Any]:
    """What some models must be told when they are built: nothing that makes them another function for other weights,
    since the weights of a trained model come out of its own file.
    """
    if name.startswith("vit_"):
        return {"image_size": shape[1]}
    if name.startswith("maxvit_"):
        return {"input_size": shape[1:]}
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": source is None, "transform_input": True}
    return {}


def _outputs(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
        return layer.out_channels
    return None


def _remove_relu_after(model: nn.Module, where: str) -> None:
    parent, _, place = where.rpartition(".")
    siblings = list(model.get_submodule(parent).named_children())
    for index in range([key for key, _ in siblings].index(place) + 1, len(siblings)):
        key, layer = siblings[index]
        if isinstance(layer, nn.ReLU):
            model.set_submodule(f"{parent}.{key}", nn.Identity())


def _try(name: str, backbone: nn.Module, bits: int, shape: tuple[int, ...]) -> None:
    """Finds out about inputs that the model does not take, by shapes alone: nothing is computed."""
    state = {key: value.to("meta") for key, value in (*backbone.named_parameters(), *backbone.named_buffers())}
    backbone.eval()
    try:
        with torch.no_grad():
            logits = torch.func.functional_call(backbone, state, torch.empty(1, *shape, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _refused(name, shape, error) from error
    finally:
        backbone.train()
    assert logits.shape == (1, bits), f"{name} gave {tuple(logits.shape)} for {bits} bits"


def _refused(name: str, shape: tuple[int, ...], error: Exception) -> ValueError:
    _, height, width = shape
    size = model_preprocessing(name, None).size
    return ValueError(
        f"backbone {name} takes no images of {height} x {width} ({one_line(error)}); its usual ones are "
        f"{size} x {size}: set size {size} in the preprocessing"
    )
