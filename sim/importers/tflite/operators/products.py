"""Operators that multiply by weights, or activations by each other: their sums go through a register."""

import math
from typing import TYPE_CHECKING

import numpy as np

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.importers.builder import same_paddings
from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import WEIGHTS, Graph
from sim.ops.op import Window
from sim.requantizers import requantizer_named

if TYPE_CHECKING:
    from sim.profiles import Rule

MOST_ZERO = 1 << 8
"""No zero point of weights is farther from 0."""
SAME, VALID = 0, 1
"""Paddings by their number in the schema."""


def conv_2d(graph: Graph, node: Operator) -> None:
    """CONV_2D: weights [channels, rows, columns, in channels / groups]."""
    channels = graph.image_read(node)[2]
    weights = _weights(graph, node, 4, 0).transpose(1, 2, 3, 0)
    if channels % weights.shape[2]:
        raise ImporterError(f"{node}: {channels} channels are no groups of {weights.shape[2]}")
    groups = channels // weights.shape[2]
    _convolved(
        graph,
        node,
        "grouped" if groups > 1 and "grouped" in dict(graph.profile.rules) else "conv",
        graph.codes(node, 0),
        weights,
        groups,
        window_of(graph, node, weights.shape[:2]),
    )


def depthwise_conv_2d(graph: Graph, node: Operator) -> None:
    """DEPTHWISE_CONV_2D: weights [1, rows, columns, channels], of which every input channel has so many in a row."""
    channels = graph.image_read(node)[2]
    weights = _weights(graph, node, 4, 3)
    if weights.shape[0] != 1 or weights.shape[3] % channels:
        raise ImporterError(f"{node}: weights {list(weights.shape)} for {channels} channels")
    _convolved(
        graph,
        node,
        "depthwise",
        graph.codes(node, 0),
        weights.transpose(1, 2, 0, 3),
        channels,
        window_of(graph, node, weights.shape[1:3]),
    )


def fully_connected(graph: Graph, node: Operator) -> None:
    """FULLY_CONNECTED: weights [channels, in channels]; rows of so many numbers, whatever the shape of the input."""
    if graph.option(node, "WeightsFormat"):
        raise ImporterError(f"{node}: shuffled weights are not supported")
    weights = _weights(graph, node, 2, 0)
    source, result = graph.codes(node, 0), graph.tensor(node, 0)
    rows, rest = divmod(math.prod(result.shape), weights.shape[1])
    if rest:
        raise ImporterError(f"{node}: {list(result.shape)} numbers are no rows of {weights.shape[1]}")
    wanted = graph.image(graph.result(node))
    if math.prod(wanted) != rows * weights.shape[0]:
        raise ImporterError(
            f"{node}: {rows} rows of {weights.shape[0]} channels do not fill {list(graph.result(node).shape)}"
        )
    source = graph.reshaped(f"{graph.name(node)}_rows", source, (rows, 1, weights.shape[1]))
    made = _convolved(graph, node, "fully_connected", source, weights.T[None, None], 1, None)
    graph.put(node, graph.reshaped(f"{made}_shape", made, wanted))


def _convolved(
    graph: Graph,
    node: Operator,
    kind: str,
    source: str,
    weights: np.ndarray,
    groups: int,
    window: Window | None,
) -> str:
    """One convolution with the rule of its kind; it gives the node's output where the shape is that."""
    given, result = graph.tensor(node, 0), graph.result(node)
    form, rule, channels = graph.form(result), graph.rule(kind), weights.shape[3]
    bias = _bias(graph, node, channels)
    scales = np.broadcast_to(graph.tensor(node, 1).scales, (channels,)).astype(np.float32)
    register = register_of(graph, node, kind)
    may_overflow = _may_overflow(register, graph.build.format(source), weights, bias)
    is_first = rule.bias == "first" and may_overflow
    requant = requantizer_named(_requant(graph, node, rule)).from_scales(  # type: ignore[attr-defined]
        graph.scale(given), scales, graph.scale(result), np.zeros_like(bias) if is_first else bias
    )
    if rule.zero_point == "products" and may_overflow and graph.build.zero(source):
        source = _centered(graph, f"{graph.name(node)}_less_zero", source)
    name = graph.build.conv(
        graph.name(node),
        source,
        weights,
        requant,
        form,
        window=window,
        groups=groups,
        start=bias if is_first else None,
        zero=graph.zero(result),
        limits=graph.limits(node, result, graph.option(node, "FusedActivationFunction")),
        register=register,
        scale=float(graph.scale(result)),
        weight_bits=4 if graph.tensor(node, 1).type == "INT4" else 8,
    )
    if graph.build.shape(name) == graph.image(result):
        graph.put(node, name)
    elif kind != "fully_connected":
        raise ImporterError(f"{node}: gives {graph.build.shape(name)}, the file says {list(result.shape)}")
    return name


def register_of(graph: Graph, node: Operator, kind: str) -> Accumulator:
    """That of a kind of operation; sums of 16-bit activations have another."""
    rule = graph.rule(kind)
    return rule.accumulator_64 if graph.form(graph.tensor(node, 0)).bits > 8 else rule.accumulator


def _may_overflow(register: Accumulator, form: IntFormat, weights: np.ndarray, bias: np.ndarray) -> bool:
    """Whether a register could get a sum wrong: only then it matters what it sees of bias and zero point, and when."""
    most = np.abs(weights).sum((0, 1, 2), dtype=np.int64) * (form.max - form.min) + np.abs(bias)
    return register.narrowest is not None and int(most.max()) >= 1 << register.narrowest - 1


def _requant(graph: Graph, node: Operator, rule: "Rule") -> str:
    """The requantizer's name: of 16-bit activations, whose bias has 64 bits, another; of 4-bit weights perhaps, too."""
    is_wide = graph.form(graph.tensor(node, 0)).bits > 8
    bias = graph.tensor(node, 2).type if graph.has(node, 2) else "none"
    if is_wide != (bias == "INT64") and (is_wide or bias != "none"):
        raise ImporterError(
            f"{node}: reads {graph.tensor(node, 0).type} with a bias {bias}, supported are INT8 with INT32 or none and "
            "INT16 with INT64"
        )
    special = rule.requant_64 if is_wide else rule.requant_4 if graph.tensor(node, 1).type == "INT4" else ""
    return special or rule.requant


def _weights(graph: Graph, node: Operator, axes: int, sliced: int) -> np.ndarray:
    """Weights less their zero points, int32; scales along the axis of output channels, or one."""
    tensor = graph.tensor(node, 1)
    weights = graph.constant(node, 1, WEIGHTS)
    if weights.ndim != axes:
        raise ImporterError(f"{node}: weights of {weights.ndim} axes, {axes} are wanted")
    channels = weights.shape[sliced]
    if tensor.scales.size not in (1, channels) or (tensor.scales.size > 1 and tensor.axis != sliced):
        raise ImporterError(
            f"{node}: {tensor.scales.size} scales along axis {tensor.axis} of weights {list(weights.shape)}, one for "
            f"all or one for each slice of axis {sliced} is wanted"
        )
    zeros = tensor.zeros.reshape([-1 if axis == sliced and tensor.zeros.size > 1 else 1 for axis in range(axes)])
    if ((zeros < -MOST_ZERO) | (zeros > MOST_ZERO)).any():
        raise ImporterError(f"{node}: its weights have zero points that are no codes, from {zeros.min()} to {zeros.max()}")
    less: np.ndarray = weights.astype(np.int32) - zeros.astype(np.int32)
    return less


def _bias(graph: Graph, node: Operator, channels: int) -> np.ndarray:
    """int64 [channels]; 0 where there is none."""
    if not graph.has(node, 2):
        return np.zeros(channels, np.int64)
    bias = graph.constant(node, 2).astype(np.int64)
    if bias.shape != (channels,):
        raise ImporterError(f"{node}: a bias {list(bias.shape)} for {channels} channels")
    return bias


def window_of(graph: Graph, node: Operator, taps: tuple[int, ...]) -> Window:
    """Strides, dilation and paddings of a node whose windows have so many rows and columns."""
    rows, columns = taps
    strides = graph.option(node, "StrideH", 1), graph.option(node, "StrideW", 1)
    dilations = {graph.option(node, "DilationHFactor", 1), graph.option(node, "DilationWFactor", 1)}
    if len(dilations) > 1:
        raise ImporterError(f"{node}: two dilations {sorted(dilations)} are not supported, one for rows and columns is")
    if min(*strides, *dilations, rows, columns) < 1:
        raise ImporterError(f"{node}: strides {strides}, dilations {sorted(dilations)} and windows {taps} are 1 or more")
    (dilation,), padding = dilations, graph.option(node, "Padding")
    if padding not in (SAME, VALID):
        raise ImporterError(f"{node}: its padding {padding} is not supported: SAME and VALID are")
    height, width, _ = graph.image(graph.tensor(node, 0))
    around = (0, 0, 0, 0) if padding == VALID else same_paddings((height, width), (rows, columns), strides, dilation)
    return Window((rows, columns), strides, dilation, around)


def _centered(graph: Graph, name: str, source: str) -> str:
    """Codes less their zero point, for products of a register that sees them so: one bit wider, unless none is below it."""
    form, zero = graph.build.format(source), graph.build.zero(source)
    is_lowest = zero == form.min
    wide = IntFormat(form.bits if is_lowest else form.bits + 1, signed=not is_lowest)
    return graph.table(name, source, np.arange(form.min, form.max + 1) - zero, wide, graph.build.scale(source), 0)


OPERATORS = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
}
