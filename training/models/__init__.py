"""Networks by name: functions that describe a graph.  A new one is a file beside this and a row here."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from sim.network import Graph, Input
from training.models.resnet import cifar_resnet

MODELS: Mapping[str, Callable[[Input, int, int], Graph]] = MappingProxyType({
    f"resnet{depth}": partial(cifar_resnet, depth=depth) for depth in (8, 14, 20, 32, 44, 56)})
"""name -> function(input row, classes, width) -> graph"""
