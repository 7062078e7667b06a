"""Operators over axes: pools, sums and means, softmax and norms by their integer definitions."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sim.definitions import NORMS, SOFTMAXES, Definition
from sim.definitions.definition import number
from sim.formats import IntFormat
from sim.importers.builder import image_of
from sim.importers.deeploy.linear import CHANNELS_LAST, products, window_of
from sim.importers.deeploy.model import Node
from sim.importers.deeploy.pointwise import levels
from sim.importers.deeploy.requant import format_for
from sim.importers.deeploy.state import State, Value, scaled, shifted, spread
from sim.importers.deeploy.views import View
from sim.ops.defined import DefinedOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.reduce import ReduceOp


def max_pool(to: State, node: Node) -> Value:
    """Of one or two dimensions; padding is no part of a window."""
    view, taps = to.source(node, 0), node.numbers("kernel_shape", ())
    _check_pool(node, view, taps)
    window = window_of(node, taps)
    if window.dilation != 1:
        raise node.refuse("dilations of 1 are supported")
    rank = len(view.shape)
    view = to.laid(view, CHANNELS_LAST[rank])
    source = to.image(view)
    height, width, channels = to.build.shape(source)
    sides = window.sides(height, width)
    op = MaxPoolOp(to.build.name(node.outputs[0]), source, (*sides, channels), to.build.format(source), window.taps[0],
                   window.strides[0], 0, window.taps[1], stride_width=window.strides[1], paddings=window.paddings)
    return replace(view, op=to.build.add(op), shape=(*view.shape[:2], *sides[: rank - 2]))


def average_pool(to: State, node: Node) -> Value:
    """Sums of windows, over how many numbers a window has: what follows says how they are rounded."""
    view = to.source(node, 0)
    taps = node.numbers("kernel_shape", ()) if node.kind == "AveragePool" else view.shape[2:]
    _check_pool(node, view, taps)
    window = window_of(node, taps)
    if window.dilation != 1 or any(window.paddings):
        raise node.refuse("average pooling without padding and dilation is supported")
    source = to.image(view, CHANNELS_LAST[len(view.shape)])
    channels = view.shape[1]
    ones = np.ones((*window.taps, 1, channels), np.int64)
    shape = (*view.shape[:2], *window.sides(*to.build.shape(source)[:2])[: len(taps)])
    sums = products(to, source, ones, np.zeros(channels, np.int64), shape, CHANNELS_LAST[len(view.shape)],
                    kind="depthwise", window=window, groups=channels)
    return replace(sums, divisor=math.prod(taps))


def _check_pool(node: Node, view: View, taps: tuple[int, ...]) -> None:
    if len(view.shape) not in CHANNELS_LAST or len(taps) != len(view.shape) - 2 or view.shape[0] != 1:
        raise node.refuse(f"a window {list(taps)} on {list(view.shape)}: images [1, C, H, W] and signals [1, C, L] are "
                          "supported")
    if node.whole("ceil_mode", 0) or node.whole("storage_order", 0):
        raise node.refuse("ceil_mode and storage_order of 0 are supported")


def reduction(rule: str) -> Callable[[State, Node], Value]:
    """A sum, or a mean that is rounded half up, over `axes`."""

    def made(to: State, node: Node) -> Value:
        view = to.source(node, 0)
        rank = len(view.shape)
        given = to.constant(node, 1).ravel().tolist() if to.has(node, 1) else node.numbers("axes", tuple(range(rank)))
        axes = sorted({axis % rank for axis in given if -rank <= axis < rank})
        if len(axes) != len(given) or not axes:
            raise node.refuse(f"axes {list(given)[:8]} of a tensor of {rank}")
        return _reduced(to, node, view, axes, rule)

    return made


def _reduced(to: State, node: Node, view: View, axes: list[int], rule: str) -> View:
    """The axes side by side as rows of an image, the others as its columns and channels."""
    rest = [axis for axis in range(len(view.shape)) if axis not in axes]
    count, kept = math.prod(view.shape[axis] for axis in axes), [view.shape[axis] for axis in rest]
    shape = (count, math.prod(kept[:-1]), kept[-1]) if kept else (count, 1, 1)
    source = to.image(view, (*axes, *rest), shape)
    low, high = view.bounds
    bounds = (low, high) if rule == "mean" else (low * count, high * count)
    op = ReduceOp(to.build.name(node.outputs[0]), source, (1, *shape[1:]), format_for(*bounds), (0,), rule,
                  rounding="half_up")
    sides = [1 if axis in axes else side for axis, side in enumerate(view.shape)] if node.whole("keepdims", 1) else kept
    return View(to.build.add(op), tuple(sides), tuple(range(len(sides))), bounds)


def softmax(name: str, *constants: str) -> Callable[[State, Node], Value]:
    """Over the last axis, to unsigned codes of n_levels."""

    def made(to: State, node: Node) -> Value:
        _last_axis(to, node)
        form, limits = levels(node, signed=False)
        if limits[1] != form.max:
            raise node.refuse(f"{limits[1] + 1} levels, a power of 2 is supported")
        kind: Any = SOFTMAXES.known(name)
        return _defined(to, node, lambda source: kind(
            source, form, *(number(node.whole(constant)) for constant in constants)))

    return made


def norm(name: str, *arrays: str) -> Callable[[State, Node], Value]:
    """Over the last axis, to signed codes of n_levels; constants [C] are inputs."""

    def made(to: State, node: Node) -> Value:
        _last_axis(to, node)
        form, limits = levels(node, signed=True)
        if limits != (form.min, form.max):
            raise node.refuse(f"{limits[1] - limits[0] + 1} levels, a power of 2 is supported")
        constants = [to.constant(node, 1 + index).ravel() for index in range(len(arrays))]
        kind: Any = NORMS.known(name)
        return _defined(to, node, lambda source: kind(source, form, *constants, number(node.whole("D"))))

    return made


def no_norm(to: State, node: Node) -> Value:
    """clamp(floor((x weight + bias) mul / D)); weights [C], or for every number of the tensor."""
    affine = to.affine(node, 0)
    weight, bias = (spread(to.constant(node, index), affine.shape) for index in (1, 2))
    multiplier, divisor = node.whole("mul"), node.whole("D")
    if divisor < 1:
        raise node.refuse(f"its D is {divisor}, must be 1 or more")
    form, limits = levels(node, signed=True)
    affine = replace(scaled(shifted(scaled(affine, weight), bias), multiplier), divisor=divisor)
    return to.finish(node.outputs[0], affine, form, limits, "floor")


def _last_axis(to: State, node: Node) -> None:
    rank = len(to.value(node, 0).shape)
    if node.whole("axis", -1) not in (-1, rank - 1):
        raise node.refuse("the last axis is supported")


def _defined(to: State, node: Node, make: Callable[[IntFormat], Definition]) -> View:
    view = to.source(node, 0)
    view = to.laid(view, tuple(range(len(view.shape))))
    source = to.image(view)
    definition = make(to.build.format(source))
    op = DefinedOp(to.build.name(node.outputs[0]), source, image_of(view.sides), definition.target, definition,
                   zero_point=definition.zero)
    return replace(view, op=to.build.add(op), bounds=(definition.target.min, definition.target.max))


OPERATORS = {
    "IntegerMean": reduction("mean"), "MaxPool": max_pool, "ReduceMean": reduction("mean"), "ReduceSum": reduction("sum"),
    "ITAMax": softmax("itamax"), "ITAPartialMax": softmax("itapartialmax"),
    "iLayerNorm": norm("ibert", "weight", "bias"), "iNoNorm": no_norm, "iRMSNorm": norm("irmsnorm", "weight"),
    "iSoftmax": softmax("ibert", "coeffA", "coeffB", "coeffC", "log2"),
}
