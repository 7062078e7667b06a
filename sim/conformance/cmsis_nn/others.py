"""CMSIS-NN's operations without weights as operations of a program: pools, sums and products, copies, softmax."""

from dataclasses import replace

import numpy as np

from sim.conformance.case import UnsupportedError
from sim.conformance.cmsis_nn.entry import Entry
from sim.definitions import Definition
from sim.definitions.definition import number
from sim.definitions.gemmlowp import GemmlowpSoftmax
from sim.definitions.softmax16 import TableSoftmax
from sim.formats import IntFormat
from sim.ops.add import AddOp
from sim.ops.average import AverageOp
from sim.ops.defined import DefinedOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import Op, format_of
from sim.ops.requantize import TableOp
from sim.requantizers.double import Double
from sim.requantizers.tflite_add import TfliteAdd


def average(entry: Entry, name: str, source: Op) -> AverageOp:
    """Codes as they are, zero points stay; valid positions count, half away from zero."""
    taps, strides, paddings, sides = _window(entry, source)
    return AverageOp(name, source.name, (*sides, source.shape[2]), source.format, taps, strides, paddings, "valid",
                     "half_away", limits=_limits(entry))


def read_as(name: str, source: Op, zero: int) -> TableOp:
    """The same codes of 8 bits with another zero point: the library's pools know none."""
    form = format_of(source)
    return TableOp(name, source.name, source.shape, form, np.arange(form.min, form.max + 1).astype(form.dtype), form.min,
                   zero_point=zero)


def largest(entry: Entry, name: str, source: Op) -> list[Op]:
    """The largest code of the valid positions; then a table, where results are clamped."""
    taps, strides, paddings, sides = _window(entry, source)
    form = format_of(source)
    pool = MaxPoolOp(name, source.name, (*sides, source.shape[2]), form, taps[0], strides[0], 0, taps[1],
                     stride_width=strides[1], paddings=paddings)
    low, high = _limits(entry)
    if (low, high) == (form.min, form.max):
        return [pool]
    table = np.arange(form.min, form.max + 1).clip(low, high).astype(form.dtype)
    return [pool, TableOp(f"{name} clamp", name, pool.shape, form, table, form.min)]


def add(entry: Entry, a: Op, b: Op, zero: int) -> AddOp:
    """Both to a common scale of LEFT_SHIFT more bits, their sum to the output's: each rounded as `double`."""
    keys = ["LEFT_SHIFT", *(f"{tensor}_{key}" for tensor in ("INPUT1", "INPUT2", "OUTPUT") for key in ("MULT", "SHIFT"))]
    rule = TfliteAdd(*(np.full(a.shape[2], value, np.int64) for value in (*map(entry.number, keys), 1)))
    return AddOp("sum", a.name, a.shape, a.format, b.name, rule, a.zero_point, b.zero_point, zero_point=zero,
                 limits=_limits(entry))


def multiply(entry: Entry, a: Op, b: Op, zero: int) -> MultiplyOp:
    """The product of both less their zero points."""
    rule = Double(*(np.full(a.shape[2], value, np.int64)
                    for value in (0, entry.number("OUTPUT_MULT"), entry.number("OUTPUT_SHIFT"))))
    return MultiplyOp("product", a.name, a.shape, a.format, b.name, rule, a.zero_point, b.zero_point, zero_point=zero,
                      limits=_limits(entry))


def softmax(entry: Entry, name: str, source: Op, out: IntFormat) -> DefinedOp:
    """Of every pixel's channels; the tables of 16-bit codes are made as the library's own tools make them."""
    form = format_of(source)
    multiplier, shift = (number(entry.number(*names)) for names in (("INPUT_MULT", "MULT"), ("INPUT_LEFT_SHIFT", "SHIFT")))
    definition: Definition
    if form.bits == 16:
        definition = replace(TableSoftmax.build(1.0, form, out), multiplier=multiplier, shift=shift)
    else:
        definition = GemmlowpSoftmax(form, out, multiplier, shift, number(entry.number("DIFF_MIN")))
    return DefinedOp(name, source.name, source.shape, out, definition, zero_point=definition.zero)


def _window(entry: Entry, source: Op) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
    """Taps, strides, paddings, positions; paddings below and behind follow from the positions."""
    taps, strides, sides = (
        (entry.number(f"{key}_H"), entry.number(f"{key}_W")) for key in ("FILTER", "STRIDE", "OUTPUT"))
    before = entry.number("PADDING_H", "PAD_H"), entry.number("PADDING_W", "PAD_W")
    if min(strides) < 1:
        raise UnsupportedError("a stride below 1")
    behind = [max((sides[axis] - 1) * strides[axis] + taps[axis] - source.shape[axis] - before[axis], 0) for axis in (0, 1)]
    return taps, strides, (before[0], behind[0], before[1], behind[1]), sides


def _limits(entry: Entry) -> tuple[int, int]:
    return (entry.number("OUT_ACTIVATION_MIN", "ACTIVATION_MIN"), entry.number("OUT_ACTIVATION_MAX", "ACTIVATION_MAX"))
