"""CMSIS-NN's layers with weights as operations of a program: convolution, depthwise, fully connected, and their products."""

import math
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.conformance.case import UnsupportedError
from sim.conformance.cmsis_nn.entry import Entry
from sim.formats import IntFormat, Shape, unpacked
from sim.ops.codes_input import CodesInputOp
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp
from sim.ops.op import MAX_SIZE, Op, format_of
from sim.requantizers import Requantizer
from sim.requantizers.double import Double
from sim.requantizers.int16 import Int16

S4 = IntFormat(4, signed=True)
MOST_WEIGHTS = 1 << 26
"""Of a layer, zeros between its taps included."""
REGISTER = Accumulator(32, "wrap", 0)
"""What the library's int32 sums are."""


def signed(array: np.ndarray) -> IntFormat:
    """The format of a tensor of int8 or int16."""
    if array.dtype not in (np.int8, np.int16):
        raise UnsupportedError(f"codes of {array.dtype}")
    return IntFormat(8 * array.dtype.itemsize, signed=True)


def codes(name: str, shape: Shape, array: np.ndarray, zero: int = 0) -> CodesInputOp:
    """The input that an array [N, *shape] is handed to."""
    return CodesInputOp(name, "", shape, signed(array), zero_point=zero)


def convolution(entry: Entry, name: str, source: Op, out: IntFormat) -> ConvOp:
    """Weights [channels, rows, columns, depth], depthwise (CH_MULT) [rows, columns, channels]; sides say the paddings."""
    taps = entry.number("FILTER_Y"), entry.number("FILTER_X")
    channels, depth = entry.number("OUT_CH"), source.shape[2]
    if "CH_MULT" in entry.numbers or name.startswith("depthwise"):
        shape, order, groups = (1, *taps, channels), (1, 2, 0, 3), depth
    else:
        inner = entry.number("FILTER_CH", default=depth)
        shape, order, groups = (channels, *taps, inner), (1, 2, 3, 0), depth // inner
    weights, form = _weights(entry, shape)
    strides = entry.number("STRIDE_Y"), entry.number("STRIDE_X")
    if min(strides) < 1:
        raise UnsupportedError("a stride below 1")
    dilation = entry.number("DILATION_Y", default=1), entry.number("DILATION_X", default=1)
    weights = dilated(weights.transpose(order), dilation)
    sides = entry.number("OUTPUT_H"), entry.number("OUTPUT_W")
    paddings = _paddings(source.shape, weights.shape, strides, sides, (entry.number("PAD_Y"), entry.number("PAD_X")))
    return _conv(entry, name, source, (*sides, channels), out, weights, form, groups,
                 {"stride": strides[0], "stride_width": strides[1], "paddings": paddings})


def fully_connected(entry: Entry, name: str, source: Op, out: IntFormat) -> ConvOp:
    """Weights [channels, depth], to which FILTER_OFFSET is added: less their zero point."""
    depth = source.shape[2]
    bias = entry.maybe("biases", "bias", "input_bias")
    channels = len(bias) if bias is not None else entry.number("OUT_CH")
    weights, form = _weights(entry, (channels, depth))
    offset = entry.number("FILTER_OFFSET", default=0)
    if offset:
        weights, form = weights + np.int32(offset), IntFormat(form.bits + 1, signed=True)
    return _conv(entry, name, source, (1, 1, channels), out, weights.T[None, None], form, 1, {"stride": 1})


def matmul(entry: Entry, source: Op, other: Op, shape: Shape, transpose: bool, out: IntFormat) -> MatMulOp:
    """[heads, rows, depth] times the other, which is [heads, columns, depth] where `transpose`."""
    requant = _rule(format_of(source).bits == 16, entry, shape[2], np.zeros(shape[2], np.int64))
    return MatMulOp(
        "product", source.name, shape, out, other.name, format_of(source), format_of(other), source.shape[2], transpose,
        Accumulator(), requant, source.zero_point, other.zero_point, zero_point=entry.number("OUTPUT_OFFSET"),
        limits=(entry.number("ACTIVATION_MIN"), entry.number("ACTIVATION_MAX")))


def dilated(weights: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    """[rows, columns, depth, channels] with zeros between the taps: a program's dilation is the same down and across."""
    rows, columns, *rest = weights.shape
    down, across = dilation
    sides = (rows - 1) * down + 1, (columns - 1) * across + 1
    if min(dilation) < 1 or max(sides) > MAX_SIZE or math.prod((*sides, *rest)) > MOST_WEIGHTS:
        raise UnsupportedError(f"windows of {sides} and {rest}")
    spread = np.zeros((*sides, *rest), weights.dtype)
    spread[::down, ::across] = weights
    return spread


def _weights(entry: Entry, shape: tuple[int, ...]) -> tuple[np.ndarray, IntFormat]:
    """int32 of a shape, from int8 or from half as many bytes."""
    stored, count = entry.array("weights", "input_weights"), int(np.prod(shape, dtype=np.int64))
    if stored.dtype != np.int8 or stored.size not in (count, -(-count // 2)):
        raise UnsupportedError(f"{stored.size} weights of {stored.dtype}, {count} are wanted")
    if stored.size == count and (count > 1 or entry.numbers.get("W_TYPE") != "INT4"):
        return stored.astype(np.int32).reshape(shape), IntFormat(8, signed=True)
    return unpacked(stored, count).astype(np.int32).reshape(shape), S4


def _paddings(sides: Shape, weights: tuple[int, ...], strides: tuple[int, int], out: tuple[int, int],
              before: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right, if the library says the first of each and how many positions there are."""
    behind = [max((out[axis] - 1) * strides[axis] + weights[axis] - sides[axis] - before[axis], 0) for axis in (0, 1)]
    return before[0], behind[0], before[1], behind[1]


def _conv(entry: Entry, name: str, source: Op, shape: Shape, out: IntFormat, weights: np.ndarray, form: IntFormat,
          groups: int, window: dict[str, Any]) -> ConvOp:
    """The operation around weights [rows, columns, depth, channels]."""
    stored = entry.maybe("biases", "bias", "input_bias")
    bias = np.zeros(shape[2], np.int64) if stored is None else stored.astype(np.int64)
    kind = entry.arrays.get("biases", entry.arrays.get("bias", entry.arrays.get("input_bias")))
    is_wide = format_of(source).bits == 16 and kind is not None and kind.dtype == np.int64
    requant = _rule(is_wide, entry, shape[2], bias)
    limits = entry.number("OUT_ACTIVATION_MIN"), entry.number("OUT_ACTIVATION_MAX")
    zero = entry.number("OUTPUT_OFFSET")
    if not out.min <= zero <= out.max:  # the library takes any number: codes of one bit more hold it
        out = IntFormat(out.bits + 1, signed=True)
    return ConvOp(
        name, source.name, shape, out, skip="", weights=np.ascontiguousarray(weights), padding=0, groups=groups,
        operand=format_of(source), weight_format=form, weight_bits=form.bits,
        accumulator=Accumulator() if is_wide else REGISTER, requant=requant, operand_zero=source.zero_point,
        zero_point=zero, limits=limits, **window)


def _rule(is_wide: bool, entry: Entry, channels: int, bias: np.ndarray) -> Requantizer:
    """`int16` where sums are wide, else `double`; multipliers and shifts for each channel, or one for all."""
    if "output_mult" in entry.arrays or "output_multiplier" in entry.arrays:
        multiplier = entry.array("output_mult", "output_multiplier").astype(np.int64)
        shift = entry.array("output_shift").astype(np.int64)
    else:
        multiplier = np.full(channels, entry.number("OUTPUT_MULTIPLIER", "OUTPUT_MULT"), np.int64)
        shift = np.full(channels, entry.number("OUTPUT_SHIFT"), np.int64)
    return Int16.reduced(bias, multiplier, shift) if is_wide else Double(bias, multiplier, shift)
