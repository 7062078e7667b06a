"""Networks by name: functions that describe a graph.  A new one is a file beside this and a row here, or a file of yours."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.network import Graph, NetworkError, Row
from sim.registry import Registry, RegistryError, where
from training.models import alexnet, efficientnet, encoder, mobilenetv2, resnet, vgg, vision

__all__ = ["MODELS", "Model"]

Model = Callable[[Any, int, int], Graph]
"""function(input row, classes, width) -> graph; the row is an Input, or the TokenInput of texts"""
FORM = "a function (image, classes, width) -> sim.network.Graph"


def _check(name: str, value: Any) -> Model:
    """The function, held to what the rest relies on: late errors would cost a training."""
    try:
        inspect.signature(value).bind(None, 10, 16)
    except TypeError:
        raise RegistryError(f"{name!r} is {value!r}, expected {FORM}") from None
    except ValueError:  # a callable without a signature, such as a builtin
        pass

    @functools.wraps(value)
    def build(image: Row, classes: int, width: int) -> Graph:
        try:
            graph = value(image, classes, width)
        except NetworkError as error:
            raise NetworkError(f"{name}: {error}") from None
        except (Exception, SystemExit) as error:
            code = getattr(inspect.unwrap(value), "__code__", None)
            raise RegistryError(f"{name!r}{where(error, Path(code.co_filename) if code else None)}") from error
        return _checked(name, graph, image, classes)

    return build


def _checked(name: str, graph: Any, image: Row, classes: int) -> Graph:
    if not isinstance(graph, Graph):
        raise RegistryError(f"{name!r} returns {type(graph).__name__}, expected {FORM}")
    if graph.rows[0] != image or graph.classes != classes:
        raise RegistryError(f"{name!r} returns a network that reads {graph.rows[0].name!r} and knows {graph.classes} "
                            f"classes: its first row must be the one it is given, its last have the {classes} channels "
                            "asked for")
    try:
        (graph.check_spans if image.gives_ids else graph.check_classifier)()
        plain = Graph.from_json(json.loads(json.dumps(graph.to_json())))  # a checkpoint holds plain numbers only
    except (NetworkError, TypeError, ValueError) as error:
        raise RegistryError(f"{name!r} returns a network that no checkpoint can hold: {error}") from None
    if plain != graph:
        raise RegistryError(f"{name!r} returns a network that is another one when read back from a checkpoint")
    return plain


BUILT_IN: dict[str, Model] = {
    **{f"resnet{depth}": functools.partial(resnet.cifar_resnet, depth=depth) for depth in (8, 14, 20, 32, 44, 56)},
    **{f"resnet{depth}": functools.partial(resnet.imagenet_resnet, depth=depth) for depth in resnet.BLOCKS},
    "mobilenetv2": mobilenetv2.mobilenetv2, "efficientnet_b0": efficientnet.efficientnet_b0,
    "efficientnet_lite0": efficientnet.efficientnet_lite0, "alexnet": alexnet.alexnet,
    "vgg16": functools.partial(vgg.vgg16, norm=False), "vgg16_bn": functools.partial(vgg.vgg16, norm=True),
    "vgg_small": vgg.vgg_small, "vit": functools.partial(vision.vision_transformer, layers=4, heads=4, patch=4),
    "minilm": functools.partial(encoder.bert, layers=6, depth=32),
    "bert_tiny": functools.partial(encoder.bert, layers=2, depth=64),
    "bert_mini": functools.partial(encoder.bert, layers=4, depth=64)}
MODELS: Registry[Model] = Registry("model", BUILT_IN, "bittrue.models", _check)
