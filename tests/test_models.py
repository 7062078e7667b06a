"""Networks by name and converted torch modules: as torchvision has them in float, and equal in every code as integers."""

import subprocess
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import training
from sim.checkpoint import load_checkpoint
from sim.network import Activation, Graph, Input, NetworkSpec, Precision
from sim.registry import load_file
from sim.testing import lowered
from tests.cli import assert_one_line, run
from tests.examples import in_turn
from tests.strategies import arrays_for
from tests.test_agreement import assert_equal_codes
from training.convert import ConvertError, convert, convert_published
from training.models import MODELS
from training.models.published import IMAGENET_MEAN, IMAGENET_STD, PUBLISHED
from training.network import QuantNetwork
from training.options import ConfigError
from training.torchvision_cpu import prepare_torchvision
from training.weights import WeightsError, float_network, read_state_dict

prepare_torchvision()
from torchvision import models as torchvision_models  # noqa: E402 - only after the preparation

RELATIVE = 2.0**-18
"""Largest difference of two float32 networks, as a part of the largest logit: their sums run in other orders, and batch norm
is one affine here and two operations there.  Found: less than 2^-19."""
SHARED = Path(__file__).parents[2] / "shared" / "data"
TORCHVISION: Mapping[str, tuple[str, int]] = {
    "resnet18": ("resnet18", 64), "mobilenetv2": ("mobilenet_v2", 64),
    "efficientnet_b0": ("efficientnet_b0", 64)}
"""Our name -> torchvision's, and the side of images."""
FULL = {"alexnet": ("alexnet", 224), "vgg16": ("vgg16", 224), "vgg16_bn": ("vgg16_bn", 224),
        **{name: (theirs, 224) for name, (theirs, _) in TORCHVISION.items()}, "resnet34": ("resnet34", 224),
        "resnet50": ("resnet50", 224)}


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and weights of batch norms as after some training, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                if part.affine:
                    part.weight.uniform_(0.5, 1.5, generator=generator)
                    part.bias.normal_(0.0, 0.2, generator=generator)
                part.running_mean.normal_(0.0, 0.2, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def pixels_of(shape: tuple[int, int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@torch.no_grad()
def assert_same_floats(spec: NetworkSpec, module: nn.Module, count: int = 2) -> None:
    """Equal logits for equal pixels, to float32 rounding."""
    image = spec.graph.input
    pixels = torch.from_numpy(pixels_of((image.height, image.width, image.channels), count)).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (image.mean, image.std))
    expected = module.eval()((pixels / 255.0 - mean) / std)
    found = QuantNetwork.from_spec(spec)(pixels)
    assert found.shape == expected.shape
    assert float(expected.std()) > 1e-6
    assert float((found - expected).abs().max()) <= RELATIVE * float(expected.abs().max())


def published(model: str, module: nn.Module, side: int, width: int = 0) -> NetworkSpec:
    """Our network with a module's weights."""
    known, state = PUBLISHED[model], module.state_dict()
    classes = list(state.values())[-1].shape[0]
    graph = MODELS[model](Input("image", "", side, side, 3, known.mean, known.std), classes, width or known.width)
    return float_network(graph, state, model)


@pytest.mark.parametrize("model", TORCHVISION)
def test_float__equals_torchvision_by_names_and_by_conversion(model):
    name, side = TORCHVISION[model]
    module = randomized(getattr(torchvision_models, name)(num_classes=11))
    assert_same_floats(published(model, module, side), module)
    assert_same_floats(convert(module, (side, side, 3), IMAGENET_MEAN, IMAGENET_STD), module)


@pytest.mark.exhaustive
@pytest.mark.parametrize("model", FULL)
def test_float__equals_torchvision_at_full_size(model):
    name, side = FULL[model]
    module = randomized(getattr(torchvision_models, name)())
    assert_same_floats(published(model, module, side), module, 1)
    assert_same_floats(convert(module, (side, side, 3), IMAGENET_MEAN, IMAGENET_STD), module, 1)


def small_form(name: str) -> nn.Module:
    """torchvision's features, and one layer behind them, as their users build them for CIFAR."""
    if name == "alexnet":
        convolutions = iter([
            (3, 64, 11, 4, 5), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)])
        features = nn.Sequential(*(part for pooled in (True, True, False, False, True) for part in (
            nn.Conv2d(*next(convolutions)), nn.ReLU(), *([nn.MaxPool2d(2)] if pooled else []))))
    else:
        vgg = torchvision_models.vgg
        features = vgg.make_layers(vgg.cfgs["D"], batch_norm=name.endswith("_bn"))
    classifier = nn.Linear(256 if name == "alexnet" else 512, 7)
    return nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))


@pytest.mark.parametrize("name", ["vgg16_bn", "vgg16", "alexnet"])
def test_float__equals_torchvisions_features_in_the_small_form(name):
    """torchvision's own classifiers want 224 pixels."""
    module = randomized(small_form(name))
    assert_same_floats(published(name, module, 32), module)
    assert_same_floats(convert(module, (32, 32, 3), IMAGENET_MEAN, IMAGENET_STD), module)


# Equal codes: small widths, hostile statistics.

PRECISIONS = (Precision(2), Precision(4), Precision(8), Precision(4, activations=8))


QUICK = ("resnet50", "efficientnet_b0", "alexnet", "vgg16_bn", "vgg_small")


@pytest.mark.parametrize(("model", "precision"), [*in_turn(QUICK, PRECISIONS), *(
    pytest.param(name, precision, id=f"{name}-{precision}", marks=pytest.mark.exhaustive)
    for name in PUBLISHED if name not in QUICK for precision in PRECISIONS)])
def test_codes__of_every_network_are_equal_in_torch_and_as_integers(model, precision):
    graph = MODELS[model](Input("image", "", 16, 16, 3, IMAGENET_MEAN, IMAGENET_STD), 5, 4)
    for wild in (False, True):
        arrays = arrays_for(graph, np.random.default_rng(0), wild)
        spec = NetworkSpec(graph, arrays, precision, "dorefa")
        assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((16, 16, 3)))


@pytest.mark.parametrize("model", ["mobilenetv2", pytest.param("efficientnet_b0", marks=pytest.mark.exhaustive),
                                   pytest.param("resnet18", marks=pytest.mark.exhaustive)])
def test_codes__after_some_training_are_equal(tmp_path, model):
    result = training.train("sqakd", model=model, width=8, bits=4, epochs=1, train_limit=96, batch=32, quantizer="lsq",
                            out=tmp_path / "run")
    spec = load_checkpoint(result.checkpoint).spec
    assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((8, 8, 1), 16))


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("model", sorted({*PUBLISHED} - {"vgg_small"}))
def test_codes__of_the_full_form_are_equal(model, precision):
    side = 224 if model in ("alexnet", "vgg16", "vgg16_bn") else 64
    graph = MODELS[model](Input("image", "", side, side, 3, IMAGENET_MEAN, IMAGENET_STD), 5, 4)
    spec = NetworkSpec(graph, arrays_for(graph, np.random.default_rng(1), wild=True), precision, "dorefa")
    assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((side, side, 3), 1))


@pytest.mark.parametrize("side", [(8, 8), (28, 28), (33, 50), (64, 72)])
@pytest.mark.parametrize("model", PUBLISHED)
def test_networks__are_built_for_images_of_any_shape(model, side):
    graph = MODELS[model](Input("image", "", *side, 1, (0.5,), (0.5,)), 7, 4)
    assert graph.classes == 7


def test_signed_rows__are_in_the_networks():
    """Guards the tests above."""
    graph = MODELS["mobilenetv2"](Input("image", "", 32, 32, 3, IMAGENET_MEAN, IMAGENET_STD), 5, 4)
    assert any(row.ends() == Activation("skip", 4.0, "none") and len(row.sources()) == 2 for row in graph.rows)


# Conversion of torch modules.

class Excite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.fc1, self.fc2 = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(self.squeeze(x)))))


class Everything(nn.Module):
    """Every kind of call that has a row, in unusual forms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, (3, 5), (2, 1), (1, 2)), nn.BatchNorm2d(8, eps=1e-3, affine=False), nn.ReLU6(inplace=True))
        self.pad = nn.ZeroPad2d((0, 1, 2, 0))
        self.dilated = nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=2)
        self.branch = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.largest, self.lone, self.excite = nn.MaxPool2d((3, 1), 1, 0), nn.BatchNorm2d(12), Excite(12)
        self.drop, self.linear, self.norm, self.head = nn.Dropout(0.5), nn.Linear(56, 6), nn.BatchNorm1d(6), nn.Linear(6, 5)
        self.functions = nn.ModuleList([
            nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.Tanh()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dilated(self.pad(self.stem(x)))
        x = F.relu(torch.add(x, F.silu(x)))  # an addition of two that are no layer's own
        left, right = self.branch(x), self.largest(F.pad(x, (0, 0, 1, 1)))
        x = self.excite(F.relu(self.lone(torch.cat([left, right], 1))))
        x = F.avg_pool2d(x, (2, 3), 2)
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        for function in self.functions:
            x = function(x) + x
        x = self.drop(x.reshape(x.size(0), -1))
        return self.head(torch.tanh(self.norm(self.linear(x))))


def test_convert__takes_every_call_that_has_a_row():
    module = randomized(Everything())
    spec = convert(module, (12, 9, 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert {row.kind for row in spec.graph.rows} == {
        "input", "conv", "requantize", "shortcut", "avgpool", "add", "multiply", "maxpool", "globalpool", "concat", "pad",
        "lookup"}
    assert_same_floats(spec, module)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_codes__of_every_converted_call_are_equal(precision):
    spec = convert(Everything(), (12, 9, 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    for seed in range(4):
        arrays = arrays_for(spec.graph, np.random.default_rng(seed), wild=seed > 0)
        spec = NetworkSpec(spec.graph, arrays, precision, "dorefa")
        assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((12, 9, 3)))


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_codes__of_converted_torchvision_networks_are_equal(name):
    module = torchvision_models.mobilenet_v2(width_mult=0.25) if name == "mobilenet_v2" else torchvision_models.resnet18()
    spec = convert(randomized(module), (32, 32, 3), IMAGENET_MEAN, IMAGENET_STD).at(Precision(4, activations=8))
    assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((32, 32, 3), 1))


def test_convert__gives_the_residual_path_its_role():
    spec = convert(torchvision_models.resnet18(), (32, 32, 3), IMAGENET_MEAN, IMAGENET_STD)
    rows = {row.name: row for row in spec.graph.rows}
    assert rows["layer1_0_conv2"].skip == "maxpool"
    assert rows["layer1_0_conv2"].activation == Activation("skip", 4.0)
    assert rows["layer2_0_downsample_0"].activation == Activation("skip", 4.0, "none")
    assert rows["layer1_1_conv1"].source == "layer1_0_conv2_in"
    assert (rows["conv1"].role, rows["layer1_0_conv1"].role, rows["fc"].role) == ("boundary", "inner", "boundary")
    assert rows["avgpool"].activation.role == "boundary"


class Calls(nn.Module):
    """A layer, and what a function makes of its results."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.conv(x))


REFUSED = {
    "softmax() has no row": lambda x: F.softmax(x, 1),
    "a number and a tensor": lambda x: x * 2.0,
    "permute() has no row": lambda x: x.permute(0, 2, 3, 1),
    "another axis than channels": lambda x: torch.cat([x, x], 2),
    "windows of several sizes": lambda x: F.adaptive_avg_pool2d(x, 4),
    "windows that stick out": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "divisor is not the whole window": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "only every n-th pixel": lambda x: x[:, :, 1:],
    "a mean over 1": lambda x: x.mean(1),
    "torch.fx cannot trace it": lambda x: x if x.sum() > 0 else -x,
    "one tensor is wanted": lambda x: (x, x),
    "chunk() gives several tensors": lambda x: x.chunk(2, 1)[0],
    "drops in eval mode": lambda x: F.dropout(x, 0.5),
    "only two tensors": lambda x: torch.add(x, x, alpha=2),
    "a reshaping to": lambda x: F.adaptive_avg_pool2d(x, 1).view(1, 2, 2),
    "of anything but 0": lambda x: F.pad(x, (1, 1, 1, 1), value=1.0)}


@pytest.mark.parametrize("reason", REFUSED)
def test_convert__names_what_has_no_row_with_its_source_line(reason):
    with pytest.raises(ConvertError) as caught:
        convert(Calls(REFUSED[reason]), (8, 8, 3), (0.5,) * 3, (0.5,) * 3)
    assert reason in str(caught.value)
    assert f"{Path(__file__).name}, line " in str(caught.value) or "one tensor" in reason


def test_convert__names_the_path_of_a_module():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(4, 4, 2)))
    with pytest.raises(ConvertError, match=r"1\.1.*ConvTranspose2d has no row"):
        convert(module, (8, 8, 3), (0.5,) * 3, (0.5,) * 3)


# Weights of others.

def test_weights__that_do_not_fit_are_all_named():
    module = torchvision_models.resnet18(num_classes=5)
    state = module.state_dict()
    del state["layer1.0.bn1.running_var"]
    state["surplus"] = torch.zeros(2)
    graph = MODELS["resnet18"](Input("image", "", 64, 64, 3, IMAGENET_MEAN, IMAGENET_STD), 6, 64)
    with pytest.raises(WeightsError) as caught:
        float_network(graph, state, "resnet18")
    for part in ("layer1.0.bn1.running_var is missing", "surplus belongs to no row of resnet18",
                 "fc.weight is 5x512, classifier of resnet18 has 6x512x1x1 here", "fc.bias is 5"):
        assert part in str(caught.value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public checkpoint is not here")
def test_public_resnet20__is_converted_by_command_and_reads_images(tmp_path):
    run = command("--model", "resnet20", "--float-weights", SHARED / "resnet20-cifar10.th", "--out", tmp_path / "float.pt")
    assert run.returncode == 0, run.stderr
    spec = load_checkpoint(tmp_path / "float.pt").spec
    assert spec.graph.input.mean == IMAGENET_MEAN
    assert spec.graph.classes == 10
    assert accuracy(spec, 500) > 0.89


@pytest.mark.exhaustive
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public checkpoint is not here")
def test_public_resnet20__reaches_its_published_accuracy():
    spec = convert_published("resnet20", SHARED / "resnet20-cifar10.th")
    assert accuracy(spec, 10_000) == 0.9173


def state_dict_of(model: str, graph: Graph) -> dict[str, torch.Tensor]:
    """Random weights by the names that others give them."""
    state, rows = {}, [row.name for row in graph.rows]
    for name, array in arrays_for(graph, np.random.default_rng(0), wild=False).items():
        row, _, part = name.partition(".")
        layer, norm = PUBLISHED[model].names(row, rows)
        owner = norm if part.startswith("norm.") else layer
        state[f"{owner}.{part.removeprefix('norm.')}"] = torch.tensor(array)
    return state


SMALL = {"model": "resnet8", "width": 4, "train_limit": 64, "bits": 4}


@pytest.fixture(name="weights")
def _weights(tmp_path):
    graph = MODELS["resnet8"](Input("image", "", 8, 8, 1, (0.3,), (0.4,)), 10, 4)
    file = tmp_path / "weights.th"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state_dict_of("resnet8", graph).items()}}, file)
    return file


def test_run__starts_from_float_weights_and_reads_their_pixels(tmp_path, weights):
    result = training.train("ptq", float_weights=weights, mean=(0.3,), std=0.4, out=tmp_path / "run", **SMALL)
    assert result.record["steps"]["32bit"]["from"] == str(weights)
    assert result.record["digests"]["float_weights"].startswith("sha256:")
    first, last = (load_checkpoint(tmp_path / "run" / name).spec for name in ("32bit.pt", "ckpt.pt"))
    assert last.graph.input.mean == (0.3,)
    expected = float_network(first.graph, read_state_dict(weights), "resnet8")
    assert all((first.arrays[name] == array).all() for name, array in expected.arrays.items())


def test_run__takes_a_converted_teacher_with_its_pixels(tmp_path, weights):
    made = command("--model", "resnet8", "--width", 4, "--image", "8x8x1", "--mean", 0.3, "--std", 0.4,
                   "--float-weights", weights, "--out", tmp_path / "float.pt")
    assert made.returncode == 0, made.stderr
    result = training.train("ptq", teacher=tmp_path / "float.pt", out=tmp_path / "run", **SMALL)
    assert load_checkpoint(result.checkpoint).spec.graph.input.mean == (0.3,)


OWN_NETWORK = """
from torch import nn
from training.convert import convert

def build(classes=10):
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(36, classes))

def network(image, classes, width):
    return convert(build(classes), (image.height, image.width, image.channels), image.mean, image.std).graph
"""


def test_run__quantizes_a_converted_module(tmp_path):
    """As training/README.md says: one file holds the module, and the function that describes its network."""
    (tmp_path / "models_net.py").write_text(OWN_NETWORK)
    made = command(f"{tmp_path}/models_net.py:build", "--image", "8x8x1", "--mean", 0.3, "--std", 0.4,
                   "--out", tmp_path / "float.pt")
    assert made.returncode == 0, made.stderr
    result = training.train("ptq", model=f"{tmp_path}/models_net.py:network",
                            teacher=tmp_path / "float.pt", bits=4, train_limit=64,
                            out=tmp_path / "run")
    spec = load_checkpoint(result.checkpoint).spec
    assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((8, 8, 1)))


@pytest.mark.parametrize(("options", "words"), [
    ({"scheme": "individual"}, "scheme individual has no float network before its student"),
    ({"width": 8}, "conv1.weight is 4x1x3x3, stem of resnet8 has 8x1x3x3 here"),
    ({"mean": (0.3,)}, "mean, std: give both"), ({"teacher": "other.pt"}, "float-weights: teacher gives the first weights"),
    ({"float_weights": "missing.th"}, "missing.th")])
def test_run__refuses_float_weights_that_do_not_fit(tmp_path, weights, options, words):
    given = {"scheme": "ptq", "float_weights": weights, "out": tmp_path / "run", **SMALL, **options}
    with pytest.raises((ConfigError, OSError), match=words):
        training.train(**given)


def test_command__converts_a_module_of_a_file(tmp_path):
    (tmp_path / "models_net.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))\n")
    module = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    torch.save(module.state_dict(), tmp_path / "state.pt")
    made = command(f"{tmp_path}/models_net.py:build", "--image", "8x8x3", "--float-weights", tmp_path / "state.pt",
                   "--out", tmp_path / "net.pt")
    assert made.returncode == 0, made.stderr
    assert_same_floats(load_checkpoint(tmp_path / "net.pt").spec, module)


@pytest.mark.parametrize(("options", "words"), [
    ([], "name a module of yours"), (["--model", "resnet8"], "float-weights: name the state dict"),
    (["--model", "resnet8", "--image", "32"], "image: '32' is not allowed"),
    (["--model", "resnet8", "--mean", "a"], "mean: 'a' is not a list of numbers"),
    (["nothing.py:build"], "no such file")])
def test_command__refuses_in_one_line(tmp_path, options, words):
    assert_one_line(command(*options, "--out", tmp_path / "out.pt"), words, status=2)


@torch.no_grad()
def accuracy(spec: NetworkSpec, count: int) -> float:
    """Of the float network on the first lossless CIFAR-10 test images."""
    images, labels = load_file(SHARED / "unpack.py").strips(SHARED / "cifar10-lossless-test.npz")
    network = QuantNetwork.from_spec(spec)
    pixels = torch.from_numpy(images[:count]).permute(0, 3, 1, 2)
    found = torch.cat([network(part).argmax(1) for part in pixels.split(500)]).numpy()
    return float((found == labels[:count]).mean())


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return run("training.convert", *arguments)
