"""Networks by name and converted torch modules: as torchvision has them in float, and equal in every code as integers."""

import subprocess
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sim.checkpoint import load_checkpoint
from sim.network import Activation, Input, NetworkSpec, Precision
from sim.registry import load_file
from sim.testing import lowered
from tests.cli import run
from tests.strategies import arrays_for
from tests.test_agreement import assert_equal_codes
from training.convert import ConvertError, convert, convert_published
from training.models import MODELS
from training.models.published import IMAGENET_MEAN, IMAGENET_STD, PUBLISHED
from training.network import QuantNetwork
from training.torchvision_cpu import prepare_torchvision
from training.weights import WeightsError, float_network

prepare_torchvision()
from torchvision import models as torchvision_models  # noqa: E402 - only after the preparation

RELATIVE = 2.0**-18
"""Largest difference of two float32 networks, as a part of the largest logit: their sums run in other orders, and batch norm
is one affine here and two operations there.  Found here: 2^-20 at most."""
SHARED = Path(__file__).parents[2] / "shared" / "data"
SHARED = SHARED if SHARED.is_dir() else Path("/work/shared/data")
NETWORKS = sorted(MODELS)
TORCHVISION: Mapping[str, tuple[str, int]] = {
    "resnet18": ("resnet18", 64), "mobilenetv2": ("mobilenet_v2", 64),
    "efficientnet_b0": ("efficientnet_b0", 64)}
"""Our name -> torchvision's, and the side of images."""
FULL = {"alexnet": ("alexnet", 224), "vgg16": ("vgg16", 224), "vgg16_bn": ("vgg16_bn", 224),
        **{name: (theirs, 224) for name, (theirs, _) in TORCHVISION.items()}, "resnet34": ("resnet34", 224), "resnet50": ("resnet50", 224)}


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and weights of batch norms as after some training, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
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
        convolutions = iter([(3, 64, 11, 4, 5), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)])
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


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("resnet32", "resnet44", "resnet56")])
def test_codes__of_every_network_are_equal_in_torch_and_as_integers(model, precision):
    graph = MODELS[model](Input("image", "", 32, 32, 3, IMAGENET_MEAN, IMAGENET_STD), 5, 4)
    for wild in (False, True):
        arrays = arrays_for(graph, np.random.default_rng(0), wild)
        spec = NetworkSpec(graph, arrays, precision, "dorefa")
        assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((32, 32, 3)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("model", sorted({*PUBLISHED} - {"vgg_small"}))
def test_codes__of_the_full_form_are_equal(model, precision):
    side = 224 if model in ("alexnet", "vgg16", "vgg16_bn") else 64
    graph = MODELS[model](Input("image", "", side, side, 3, IMAGENET_MEAN, IMAGENET_STD), 5, 4)
    spec = NetworkSpec(graph, arrays_for(graph, np.random.default_rng(1), wild=True), precision, "dorefa")
    assert_equal_codes(spec, lowered(spec, "fp32"), pixels_of((side, side, 3), 1))


@pytest.mark.parametrize("side", [(8, 8), (28, 28), (33, 50), (64, 72)])
@pytest.mark.parametrize("model", MODELS)
def test_networks__are_built_for_images_of_any_shape(model, side):
    graph = MODELS[model](Input("image", "", *side, 1, (0.5,), (0.5,)), 7, 4)
    assert graph.classes == 7


def test_signed_rows__are_in_the_networks():
    """Guards the tests above."""
    graph = MODELS["mobilenetv2"](Input("image", "", 32, 32, 3, IMAGENET_MEAN, IMAGENET_STD), 5, 4)
    assert any(row.ends() == Activation("skip", 4.0, "none") and len(row.sources()) == 2 for row in graph.rows)


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
