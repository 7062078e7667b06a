"""Operators that leave fewer numbers: means and maxima over axes.

MEAN is another arithmetic in each runtime; what is here was measured, and equals them in every code:

    double     R((sum of x - z), M', s'), M' = (M 2^h) // n and s' = s - h with real = s_x / s_y and h = min(bits of n - 1,
               32, 31 + s): the reference kernel and tflite-micro
    ruy_blocks R(sum of x, s_x / (n s_y)) + z_y - half away(z s_x / s_y), blocks of 16 channels: the optimized kernel, over
               both sides of images that keep their axes, with one thread (of several each has blocks and a rest)
    xnnpack    rint(f32(f32(sum of x) k) + (z_y - f32(z n) k)), k = f32(f32(s_x / s_y) / n), the zero point inside
"""

from collections.abc import Callable, Mapping

import numpy as np

from sim.formats import IntFormat
from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import Graph, from_front, half_away
from sim.ops.maxpool import MaxPoolOp
from sim.ops.reduce import ReduceOp
from sim.requantizers import Requantizer, requantizer_named
from sim.requantizers.fp32 import Fp32
from sim.requantizers.multiplier import multiplier_of
from sim.requantizers.ruy_blocks import MEAN, RuyBlocks

SPATIAL = (0, 1)
WIDE = IntFormat(16, signed=True)


def mean(graph: Graph, node: Operator) -> None:
    """MEAN over axes of an image."""
    axes = _axes(graph, node)
    name = graph.rule("mean").requant
    if name not in MEANS:
        raise ImporterError(f"{node}: a profile whose means are {name!r} is not supported, choose of {', '.join(MEANS)}")
    source = graph.codes(node, 0)
    shape = graph.build.shape(source)
    count = int(np.prod([shape[axis] for axis in axes]))
    made = MEANS[name](graph, node, source, axes, count)
    graph.put(node, graph.reshaped(f"{made}_shape", made, graph.image(graph.result(node))))


def _reference(graph: Graph, node: Operator, source: str, axes: tuple[int, ...], count: int) -> str:
    real = float(graph.scale(graph.tensor(node, 0))) / float(graph.scale(graph.result(node)))
    multiplier, exponent = multiplier_of(real, "mean")
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    requant = requantizer_named("double")(
        *(np.array([number], np.int64) for number in (0, (multiplier << shift) // count, exponent - shift))
    )
    return _reduced(graph, node, source, axes, requant, graph.zero(graph.result(node)))


def _optimized(graph: Graph, node: Operator, source: str, axes: tuple[int, ...], count: int) -> str:
    if axes != SPATIAL or len(graph.tensor(node, 0).shape) != 4 or not graph.option(node, "KeepDims"):
        return _reference(graph, node, source, axes, count)
    given, result = graph.tensor(node, 0), graph.result(node)
    scale, target, zero = graph.scale(given), graph.scale(result), graph.zero(result)
    offset = zero - half_away(float(np.float32(np.float32(graph.zero(given)) * scale / target)))
    channels = graph.build.shape(source)[2]
    requant = RuyBlocks.from_real(
        np.full(channels, float(scale / (np.float32(count) * target))), np.zeros(channels, np.int64), MEAN
    )
    raw, form = graph.relabeled(f"{graph.name(node)}_codes", source, 0), graph.form(result)
    if form.min <= offset <= form.max:
        return graph.relabeled(f"{graph.name(node)}_zero", _reduced(graph, node, raw, axes, requant, offset), zero)
    name = _reduced(graph, node, raw, axes, requant, offset, WIDE)
    codes = np.arange(WIDE.min, WIDE.max + 1).clip(form.min, form.max)
    return graph.table(f"{graph.name(node)}_zero", name, codes, form, float(target), zero)


def _xnnpack(graph: Graph, node: Operator, source: str, axes: tuple[int, ...], count: int) -> str:
    given, result = graph.tensor(node, 0), graph.result(node)
    factor = np.float32(graph.scale(given) / graph.scale(result)) / np.float32(count)
    offset = np.float32(graph.zero(result)) - np.float32(graph.zero(given) * count) * factor
    channels = 1 if 2 in axes else graph.build.shape(source)[2]
    requant = Fp32(np.full(channels, factor, np.float32), np.full(channels, offset, np.float32), np.zeros(1, np.float32))
    raw = graph.relabeled(f"{graph.name(node)}_codes", source, 0)
    return graph.relabeled(f"{graph.name(node)}_zero", _reduced(graph, node, raw, axes, requant, 0), graph.zero(result))


MEANS: Mapping[str, Callable[[Graph, Operator, str, tuple[int, ...], int], str]] = {
    "double": _reference,
    "ruy_blocks": _optimized,
    "xnnpack": _xnnpack,
}


def _reduced(
    graph: Graph,
    node: Operator,
    source: str,
    axes: tuple[int, ...],
    requant: Requantizer,
    zero: int,
    form: IntFormat | None = None,
) -> str:
    result = graph.result(node)
    height, width, channels = (1 if axis in axes else side for axis, side in enumerate(graph.build.shape(source)))
    return graph.build.add(
        ReduceOp(
            graph.build.name(graph.name(node)),
            source,
            (height, width, channels),
            form or graph.form(result),
            axes,
            "sum",
            requant=requant,
            source_zero=graph.build.zero(source),
            zero_point=zero,
        ),
        float(graph.scale(result)),
    )


def reduce_max(graph: Graph, node: Operator) -> None:
    """REDUCE_MAX over both sides of an image."""
    axes, source, result = _axes(graph, node), graph.codes(node, 0), graph.result(node)
    graph.same(node, graph.tensor(node, 0), result)
    if axes != SPATIAL:
        raise ImporterError(
            f"{node}: supported are maxima over rows and columns, not over the axes {axes} of (row, column, channel)"
        )
    height, width, channels = graph.build.shape(source)
    made = graph.build.add(
        MaxPoolOp(
            graph.build.name(graph.name(node)),
            source,
            (1, 1, channels),
            graph.form(result),
            height,
            1,
            0,
            width,
            zero_point=graph.zero(result),
        ),
        float(graph.scale(result)),
    )
    graph.put(node, graph.reshaped(f"{made}_shape", made, graph.image(result)))


def _axes(graph: Graph, node: Operator) -> tuple[int, ...]:
    """Axes of (height, width, channels) that a constant of axes of the tensor names."""
    tensor = graph.tensor(node, 0)
    count = len(tensor.shape)
    given = {from_front(int(axis), count) for axis in graph.constant(node, 1).reshape(-1)}
    if not given or min(given) < 0 or max(given) >= count:
        raise ImporterError(f"{node}: the axes {sorted(given)} are none of {list(tensor.shape)}")
    places = {4: {1: 0, 2: 1, 3: 2}, 3: {1: 0, 2: 2}, 2: {1: 2}}.get(count, {})
    if tensor.shape[0] != 1 or not given <= places.keys():
        raise ImporterError(
            f"{node}: the axes {sorted(given)} of {list(tensor.shape)} are not supported, a batch of 1 and axes behind "
            "it of at most 4 are"
        )
    return tuple(sorted(places[axis] for axis in given))


OPERATORS = {"MEAN": mean, "REDUCE_MAX": reduce_max}
