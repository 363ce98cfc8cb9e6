"""Models in files: there and back for every kind of network, images in whatever form they come, nothing that runs."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import malicious
import numpy as np
import pytest
import torch
from process_group import environment
from tiny_runs import options_of, recipe_of, with_forgetful
from torch import Tensor, nn

import rdh_ext
from rdh_ext.hashing.backbones import BACKBONES, linear, make_backbone
from rdh_ext.hashing.data import Preprocessing
from rdh_ext.hashing.model import HashingModel, ModelError, load
from rdh_ext.hashing.recipe import Recipe

__all__ = ["with_forgetful"]

BITS = 13
PHOTO = Preprocessing(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), resize=40, size=32)


def model_of(
    name: str, shape: tuple[int, ...], preprocessing: Preprocessing | None = None, **options: Any
) -> HashingModel:
    torch.manual_seed(0)
    network = make_backbone(name, BITS, shape, options)
    recipe = Recipe(bits=BITS, backbone={"name": name, **options})
    names = ("cat", "dog")
    return HashingModel(
        network, recipe, preprocessing or Preprocessing(), shape=shape, classes=2, class_names=names
    ).eval()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a model of features ``[16]``."""
    model_of("linear", (16,)).save(tmp_path / "model.pt")
    return tmp_path / "model.pt"


class TestThereAndBack:
    @pytest.mark.parametrize(
        ("name", "shape", "options"),
        [
            ("linear", (16,), {}),
            ("linear", (1, 4, 4), {}),
            ("mlp", (16,), {"hidden": [8, 6]}),
            ("small_cnn", (1, 8, 8), {"width": 4, "hidden": 16}),
            ("small_cnn", (3, 32, 32), {}),
            ("squeezenet1_1", (3, 32, 32), {"weights": "none"}),
            ("shufflenet_v2_x0_5", (3, 32, 32), {"weights": "none", "frozen": True}),  # has batch norm
        ],
    )
    def test_codes_stay(self, name: str, shape: tuple[int, ...], options: dict[str, Any], tmp_path: Path) -> None:
        if "weights" in options:
            pytest.importorskip("torchvision")
        model = model_of(name, shape, **options)
        for each in model.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.running_mean.normal_()  # type: ignore[union-attr]
        items = torch.randn(9, *shape)
        model.save(tmp_path / "model.pt")
        again = rdh_ext.load(tmp_path / "model.pt")
        assert not again.training
        assert torch.equal(again.encode(items), model.encode(items))
        with torch.no_grad():
            assert torch.equal(again(items), model(items))
            assert torch.equal(again.encode(items), rdh_ext.pack_codes(model(items)))
        assert (again.bits, again.shape, again.classes, again.class_names) == (BITS, shape, 2, ("cat", "dog"))
        assert (again.recipe, again.preprocessing) == (model.recipe, model.preprocessing)
        if "frozen" not in options:  # which is random here, and gives nearly the same for all
            assert len(model.encode(items).unique(dim=0)) > 1

    def test_weights_are_not_downloaded_for_a_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("torchvision")
        model = model_of("squeezenet1_1", (3, 32, 32), weights="none")
        model.recipe.backbone["weights"] = "DEFAULT"
        model.save(tmp_path / "model.pt")

        def fail(*_: Any, **__: Any) -> None:
            raise AssertionError("downloaded")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
        monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
        again = load(tmp_path)
        assert again.recipe.backbone["weights"] == "DEFAULT"
        items = torch.randn(2, 3, 32, 32)
        assert torch.equal(again.encode(items), model.encode(items))

    def test_a_folder_is_its_model(self, path: Path) -> None:
        assert load(path.parent).bits == load(path).bits == load(str(path)).bits == BITS

    def test_random_numbers_are_not_used_up(self, path: Path) -> None:
        state = torch.get_rng_state()
        rdh_ext.load(path)
        assert torch.equal(torch.get_rng_state(), state)

    def test_saving_leaves_the_model_as_it_is(self, tmp_path: Path) -> None:
        model = model_of("linear", (16,)).train()
        model.save(tmp_path / "deep" / "folder" / "model.pt")
        assert model.training
        assert [each.name for each in (tmp_path / "deep" / "folder").iterdir()] == ["model.pt"]

    def test_double_precision_is_rounded(self, tmp_path: Path) -> None:
        model = model_of("linear", (16,)).double()
        model.save(tmp_path / "model.pt")
        again = load(tmp_path)
        assert {each.dtype for each in again.parameters()} == {torch.float32}
        assert torch.equal(again.encode(torch.ones(3, 16)), model.encode(torch.ones(3, 16)))

    def test_it_says_what_it_is(self) -> None:
        assert "bits=13, shape=[16], classes=2" in repr(model_of("linear", (16,)))


class TestItems:
    def check(self, model: HashingModel, items: Any, inputs: Tensor) -> None:
        """Codes of the items are those of the inputs."""
        with torch.no_grad():
            expected = rdh_ext.pack_codes(model(inputs))
        codes = model.encode(items)
        assert codes.dtype == torch.uint8
        assert codes.shape == (len(inputs), 2)
        assert torch.equal(codes, expected)

    def test_features(self) -> None:
        model, x = model_of("linear", (16,)), torch.randn(7, 16)
        for items in (x, x.numpy(), list(x), tuple(x.numpy()), x.double(), x.numpy().astype(">f4")):
            self.check(model, items, x)
        for item in (x[0], x[0].numpy(), [x[0]]):
            self.check(model, item, x[:1])
        self.check(model, x.numpy()[::-1], x.flip(0))
        self.check(model, (8 * x).to(torch.int8), (8 * x).to(torch.int8).float())

    def test_arrays_that_are_mapped_are_read_without_a_word(self, tmp_path: Path) -> None:
        x = torch.randn(7, 16)
        np.save(tmp_path / "x.npy", x.numpy())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.check(model_of("linear", (16,)), np.load(tmp_path / "x.npy", mmap_mode="r"), x)

    def test_images_of_one_size(self) -> None:
        model = model_of("small_cnn", (3, 8, 8), Preprocessing(scale=1 / 255))
        images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
        for items in (images, images.numpy(), list(images), images.float()):
            self.check(model, items, images / 255)
        self.check(model, images[0], images[:1] / 255)

    def test_images_of_any_size_in_any_form(self, tmp_path: Path) -> None:
        image_module = pytest.importorskip("PIL.Image")
        pytest.importorskip("torchvision")
        model = model_of("small_cnn", (3, 32, 32), PHOTO, width=4)
        arrays = [np.random.default_rng(n).integers(0, 256, (40 + 9 * n, 64, 3), dtype=np.uint8) for n in range(3)]
        pictures = [image_module.fromarray(array) for array in arrays]
        paths = [tmp_path / f"{n}.png" for n in range(3)]
        for picture, path in zip(pictures, paths, strict=True):
            picture.save(path)
        tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
        inputs = torch.cat([PHOTO(tensor[None]) for tensor in tensors])
        for items in (
            tensors,
            [tensor.numpy() for tensor in tensors],
            pictures,
            paths,
            [str(path) for path in paths],
            [pictures[0], paths[1], tensors[2]],
        ):
            self.check(model, items, inputs)
        for item in (tensors[1], pictures[1], paths[1], str(paths[1]), [paths[1]]):
            self.check(model, item, inputs[1:2])
        grey = pictures[0].convert("L")
        self.check(model, grey, PHOTO(torch.from_numpy(np.array(grey)).expand(1, 3, -1, -1)))
        self.check(model, pictures[0].convert("RGBA"), inputs[:1])

    def test_batches_are_read_one_by_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A long list of files is not in memory at once."""
        from rdh_ext.hashing import model as module

        open_now, most = 0, 0

        def read(path: Path) -> Tensor:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            return torch.full((1, 8, 8), float(path.name))

        model = model_of("small_cnn", (1, 8, 8))
        forward = model.backbone.forward

        def forget(inputs: Tensor) -> Tensor:
            nonlocal open_now
            open_now -= len(inputs)
            logits: Tensor = forward(inputs)
            return logits

        monkeypatch.setattr(module, "read_image", read)
        monkeypatch.setattr(model.backbone, "forward", forget)
        codes = model.encode([str(n) for n in range(10)], batch_size=3)
        assert most == 3
        monkeypatch.undo()
        assert torch.equal(codes, model.encode(torch.arange(10.0).view(10, 1, 1, 1).expand(-1, 1, 8, 8)))

    def test_none(self) -> None:
        assert model_of("linear", (16,)).encode([]).shape == (0, 2)
        assert model_of("linear", (16,)).encode(torch.empty(0, 16)).shape == (0, 2)

    def test_exact_zeros_are_counted_and_are_plus(self) -> None:
        model = model_of("linear", (16,))
        nn.init.zeros_(model.backbone[1].bias)  # type: ignore[index]
        codes = model.codes_of(torch.zeros(2, 16))
        assert codes.exact_zeros == 2 * BITS
        assert torch.equal(codes.packed, rdh_ext.pack_codes(torch.ones(2, BITS)))

    def test_the_model_is_as_it_was_afterwards(self) -> None:
        model = model_of("linear", (16,)).train()
        assert not model.encode(torch.randn(2, 16)).requires_grad
        assert model.training

    @pytest.mark.parametrize(
        ("shape", "items", "message"),
        [
            ((16,), torch.zeros(3, 15), r"shape \[16\], as in training, got \[15\]"),
            ((16,), torch.zeros(3, 1, 4, 4), r"shape \[16\], as in training, got \[1, 4, 4\]"),
            ((16,), [torch.zeros(16), torch.zeros(15)], "one shape"),
            ((16,), torch.tensor(3.0), "shape"),
            ((3, 8, 8), torch.zeros(2, 1, 8, 8), r"shape \[3, 8, 8\], as in training, got \[1, 8, 8\]"),
            ((3, 8, 8), np.zeros((8, 8, 3)), r"shape \[3, 8, 8\], as in training, got \[8, 8, 3\]"),
            ((3, 8, 8), torch.zeros(8, 8), r"shape \[3, 8, 8\], as in training, got \[8\]"),
            ((3, 8, 8), torch.zeros(1, 2, 3, 8, 8), r"shape \[3, 8, 8\]"),
        ],
    )
    def test_another_shape(self, shape: tuple[int, ...], items: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            model_of("linear", shape).encode(items)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("items", [3, None, [3], {"a": 1}, [[torch.zeros(16)]], np.array(["a"]), b"bytes"])
    def test_another_kind(self, items: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            model_of("linear", (16,)).encode(items)

    def test_files_that_are_no_images(self, tmp_path: Path) -> None:
        pytest.importorskip("PIL")
        model = model_of("small_cnn", (3, 32, 32), PHOTO)
        with pytest.raises(FileNotFoundError, match="none"):
            model.encode(tmp_path / "none.png")
        (tmp_path / "text.png").write_text("years of work")
        with pytest.raises(OSError, match=r"text\.png: not an image"):
            model.encode([tmp_path / "text.png"])


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


class TestWrongFiles:
    @pytest.fixture(autouse=True)
    def _nothing_runs(self) -> Any:
        malicious.RAN.clear()
        yield
        assert malicious.RAN == []

    def message_of(self, path: Path) -> str:
        with pytest.raises(ModelError) as caught:
            rdh_ext.load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) < len(str(path)) + 300
        return message.removeprefix(f"{path}: ")

    @pytest.mark.parametrize("kind", ["empty", "text", "half", "last byte", "a byte"])
    def test_damaged(self, kind: str, path: Path) -> None:
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda each: each.file_size)
        middle = largest.header_offset + largest.file_size // 2 + 100
        kinds = {
            "empty": b"",
            "text": b"years of work",
            "half": content[: len(content) // 2],
            "last byte": content[:-1],
            "a byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        }
        path.write_bytes(kinds[kind])
        assert self.message_of(path).startswith("not a model of 'rdh train', or damaged (")

    def test_every_byte_of_the_weights_is_looked_at(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            [weights] = [each for each in archive.infolist() if each.file_size == 16 * BITS * 4]
        begin = content.index(torch.load(path, weights_only=True)["backbone"]["1.weight"].numpy().tobytes())
        assert begin > weights.header_offset
        for place in (begin, begin + 100, begin + 16 * BITS * 4 - 1):
            content[place] ^= 16
            path.write_bytes(content)
            assert "checksum" in self.message_of(path)
            content[place] ^= 16
        path.write_bytes(content)
        load(path)

    def test_code_is_not_run(self, path: Path) -> None:
        content = content_of(path)
        torch.save({**content, "chosen": malicious.Evil()}, path)
        assert "not a model of 'rdh train', or damaged" in self.message_of(path)
        torch.save(malicious.Evil(), path)
        assert "not a model of 'rdh train', or damaged" in self.message_of(path)
        torch.save(malicious.Evil(), path, _use_new_zipfile_serialization=False)
        assert "not a model of 'rdh train', or damaged" in self.message_of(path)

    @pytest.mark.parametrize(
        "content", [{}, {"state_dict": {}}, [1, 2], torch.zeros(3), 5, {"format": "other"}], ids=str
    )
    def test_files_of_others(self, content: Any, path: Path) -> None:
        torch.save(content, path)
        assert self.message_of(path).startswith("not a model of 'rdh train'; name its model.pt, or the folder")

    def test_a_checkpoint_is_no_model(self, tmp_path: Path) -> None:
        pytest.importorskip("lightning")
        from rdh_ext.hashing.run import run

        run(recipe_of(training__epochs=1), options_of(tmp_path / "run"))
        assert "name its model.pt, or the folder of the run" in self.message_of(tmp_path / "run" / "last.ckpt")

    def test_a_later_version(self, path: Path) -> None:
        torch.save({**content_of(path), "version": 2}, path)
        assert self.message_of(path) == "a model of version 2, this rdh_ext reads 1; install a newer one"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("recipe", None),
            ("recipe", {"bits": 0}),
            ("recipe", {"unknown": 3}),
            ("recipe", [1]),
            ("recipe", {"bits": 14, "backbone": {"name": "linear"}}),
            ("recipe", {"bits": BITS, "backbone": {"name": "linear", "width": 3}}),
            ("recipe", {"bits": BITS, "backbone": {"name": "mlp"}}),
            ("preprocessing", None),
            ("preprocessing", {"scale": 0}),
            ("preprocessing", {"sise": 0}),
            ("shape", None),
            ("shape", [15]),
            ("shape", ["a"]),
            ("shape", [1, 2]),
            ("backbone", None),
            ("backbone", []),
            ("backbone", {"1.weight": torch.zeros(3)}),
            ("backbone", {"1.weight": "text"}),
            ("class_names", 3),
            ("chosen", 3),
        ],
        ids=str,
    )
    def test_parts_that_do_not_fit(self, name: str, value: Any, path: Path) -> None:
        content = content_of(path)
        torch.save({**content, name: value}, path)
        assert self.message_of(path).startswith("a damaged model (")
        del content[name]
        torch.save(content, path)
        assert self.message_of(path).startswith("a damaged model (")

    def test_a_network_of_ones_own(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("torchvision")
        content = content_of(path)
        recipe = {**content["recipe"], "backbone": {"name": "mine"}}
        torch.save({**content, "recipe": recipe}, path)
        assert self.message_of(path) == (
            "its network 'mine' is neither of rdh_ext nor of torchvision; add it to "
            "rdh_ext.hashing.backbones.BACKBONES as for the training, then load"
        )
        monkeypatch.setitem(BACKBONES, "mine", lambda bits, shape: linear(bits, shape))
        assert torch.equal(load(path).state_dict()["backbone.1.weight"], content["backbone"]["1.weight"])

    def test_not_there(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.pt", tmp_path):
            with pytest.raises(FileNotFoundError):
                rdh_ext.load(path)

    @pytest.mark.parametrize("path", [None, 3, torch.zeros(2), object()], ids=lambda path: type(path).__name__)
    def test_no_path(self, path: Any) -> None:
        with pytest.raises(TypeError):
            rdh_ext.load(path)

    @pytest.mark.parametrize("device", [None, 3.5, "nonsense", "meta", "cuda:99"])
    def test_no_device(self, device: Any, path: Path) -> None:
        with pytest.raises(ValueError, match=r"^load: device must be a CPU or CUDA device that is here, got "):
            rdh_ext.load(path, device)


ALONE = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("lightning", "torchvision", "yaml", "sklearn", "tensorboard", "matplotlib", "tqdm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
import rdh_ext
assert not [name for name in sys.modules if name.startswith("rdh_ext.hashing")], "import rdh_ext imports the harness"
model = rdh_ext.load(sys.argv[1])
import torch
print(model.encode(torch.ones(3, 16)).tolist())
"""


def test_a_model_needs_torch_only(path: Path) -> None:
    """In a fresh interpreter where everything that training needs is hidden."""
    command = [sys.executable, "-c", ALONE, str(path)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(load(path).encode(torch.ones(3, 16)).tolist())
