"""What hypothesis draws: codes with extremes, integer programs, float networks, hardware."""

import numpy as np
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.ops.add import AddOp
from sim.ops.concat import ConcatOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import reach_of
from sim.ops.pad import PadOp
from sim.program import ConvOp, InputOp, Op, PoolOp, Program, ShortcutOp, TableOp, output_side
from sim.requantizers.fp32 import Fp32
from sim.requantizers.tflite_single import TfliteSingle
from sim.testing import BITS, arrays_for, codes, generators, graphs, networks, pixels_for

__all__ = ["BITS", "accumulators", "arrays_for", "codes", "generators", "graphs", "networks", "pixels_for", "programs"]

@st.composite
def accumulators(draw):
    bits = draw(st.one_of(st.none(), st.integers(4, 32)))
    return Accumulator(bits, draw(st.sampled_from(["wrap", "saturate"])), draw(st.sampled_from([0, 1, 2, 3, 5, 16])))


@st.composite
def formats(draw):
    """Of codes: any width and sign, narrow or not."""
    bits, signed = draw(BITS), draw(st.booleans())
    return IntFormat(bits, signed, narrow=signed and bits > 1 and draw(st.booleans()))


@st.composite
def zero_points(draw, form: IntFormat):
    """Codes that stand for 0: that of training, or any."""
    return draw(st.one_of(st.just(0), st.integers(form.min, form.max)))


@st.composite
def requantizers(draw, channels: int, reach: int):
    """Constants anywhere in the range that a program may hold, near what sums of `reach` need, and far from it."""
    rng = draw(generators)
    if draw(st.booleans()):
        gain = rng.choice([0.0, 1.0, -1.0, 1e-30, 1e6, *rng.normal(size=3) / max(reach, 1)], channels)
        gain = np.where(rng.random(channels) < 0.6, rng.normal(size=channels) * 100 / max(reach, 1), gain)
        offset = rng.normal(size=channels) * draw(st.sampled_from([0.0, 1.0, 100.0, 1e9]))
        order = draw(st.sampled_from([1, -1]))  # a view that runs backwards holds the same numbers
        return Fp32(gain.astype(np.float32)[::order], offset.astype(np.float32)[::order],
                    np.array([rng.choice([1.0, 0.5, 0.0, -3.0, 1e-9])], np.float32))
    most = min(62 - 1 - int(reach).bit_length(), 62)
    pre_shift = np.where(rng.random(channels) < 0.7, 0, rng.integers(-62, most + 1, channels))
    bias = rng.integers(-(2**61), 2**61, channels) >> rng.integers(0, 61, channels)
    multiplier = rng.choice([0, 1, -1, 2**30, 2**31 - 1, 1 - 2**31, *rng.integers(1 - 2**31, 2**31, 5)], channels)
    shift = np.where(rng.random(channels) < 0.6, rng.integers(28, 46, channels), rng.integers(1, 63, channels))
    skip = np.array([rng.integers(0, 2**31)]), np.array([rng.integers(1, 63)])
    return TfliteSingle(*(np.asarray(a, np.int64) for a in (pre_shift, bias, multiplier, shift, *skip)))


@st.composite
def conv_ops(draw, name: str, source: Op, before: list[Op], last: bool = False):
    """A convolution on `source`: any kernel, stride, padding, groups, width and signedness that fits."""
    height, width, depth = source.shape
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, 2))
    rows, columns = min(rows, height + 2 * padding), min(columns, width + 2 * padding)
    stride = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([g for g in range(1, depth + 1) if depth % g == 0]))
    channels = groups * draw(st.integers(1, 5))
    form = IntFormat(draw(st.integers(2, 17)), signed=True)
    weights = codes(draw, (rows, columns, depth // groups, channels), form).astype(np.int32)
    shape = output_side(height, rows, stride, padding), output_side(width, columns, stride, padding), channels
    reach = int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max()) * (source.format.max + 1)
    # until convolutions know zero points, their sources have none
    residuals = [op.name for op in before if op.shape == shape and op.format is not None and not op.zero_point]
    skip = draw(st.sampled_from(["", *residuals])) if not last else ""
    target = None if last else draw(formats())
    return ConvOp(name, source.name, shape, target, skip=skip, weights=weights, stride=stride, padding=padding,
                  groups=groups, operand=source.format, weight_format=form, weight_bits=form.bits,
                  accumulator=draw(accumulators()), requant=draw(requantizers(channels, reach)))


@st.composite
def table_ops(draw, name: str, source: Op, before: list[Op]):
    """A table over all codes of `source`, to codes of any format."""
    target = draw(formats())
    size = source.format.max - source.format.min + 1
    return TableOp(name, source.name, source.shape, target, codes(draw, (size,), target).astype(target.dtype),
                   source.format.min, zero_point=draw(zero_points(target)))


@st.composite
def shortcut_ops(draw, name: str, source: Op, before: list[Op]):
    """Any stride, any number of added channels."""
    height, width, channels = source.shape
    stride, added = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    small = -(-height // stride), -(-width // stride), channels + added
    return ShortcutOp(name, source.name, small, source.format, stride, zero_point=source.zero_point)


@st.composite
def pool_ops(draw, name: str, source: Op, before: list[Op]):
    """Any window that fits."""
    height, width, channels = source.shape
    padding, stride = draw(st.integers(0, 1)), draw(st.integers(1, 3))
    rows, columns = (draw(st.integers(1, min(3, side + 2 * padding))) for side in (height, width))
    sides = output_side(height, rows, stride, padding), output_side(width, columns, stride, padding)
    target = draw(formats())
    requant = draw(requantizers(channels, rows * columns * reach_of(source)))
    return PoolOp(name, source.name, (*sides, channels), target, rows, stride, padding, requant, columns, source.zero_point,
                  zero_point=draw(zero_points(target)))


@st.composite
def add_ops(draw, name: str, source: Op, before: list[Op]):
    """Any two of one shape."""
    other, target = draw(st.sampled_from([op for op in before if op.shape == source.shape])), draw(formats())
    return AddOp(name, source.name, source.shape, target, other.name, draw(requantizers(source.shape[2], reach_of(source))),
                 source.zero_point, other.zero_point, zero_point=draw(zero_points(target)))


@st.composite
def multiply_ops(draw, name: str, source: Op, before: list[Op]):
    """Any two of one shape, or by one pixel."""
    target, channels = draw(formats()), source.shape[2]
    other = draw(st.sampled_from([op for op in before if op.shape in (source.shape, (1, 1, channels))]))
    return MultiplyOp(name, source.name, source.shape, target, other.name,
                      draw(requantizers(channels, reach_of(source) * reach_of(other))), source.zero_point, other.zero_point,
                      zero_point=draw(zero_points(target)))


@st.composite
def maxpool_ops(draw, name: str, source: Op, before: list[Op]):
    """Any window with a code in it at every position."""
    height, width, channels = source.shape
    rows, columns = draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width)))
    padding, stride = draw(st.integers(0, min(rows, columns) - 1)), draw(st.integers(1, 3))
    sides = output_side(height, rows, stride, padding), output_side(width, columns, stride, padding)
    return MaxPoolOp(name, source.name, (*sides, channels), source.format, rows, stride, padding, columns,
                     zero_point=source.zero_point)


@st.composite
def concat_ops(draw, name: str, source: Op, before: list[Op]):
    """Up to three of one height and width, with any tables."""
    fitting, target = [op for op in before if op.shape[:2] == source.shape[:2]], draw(formats())
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))
    sources = [source, *others]
    lengths = tuple(op.format.max - op.format.min + 1 for op in sources)
    return ConcatOp(name, source.name, (*source.shape[:2], sum(op.shape[2] for op in sources)), target,
                    tuple(op.name for op in others), codes(draw, (sum(lengths),), target).astype(target.dtype),
                    tuple(op.format.min for op in sources), lengths, zero_point=draw(zero_points(target)))


@st.composite
def pad_ops(draw, name: str, source: Op, before: list[Op]):
    """Any paddings."""
    (height, width, channels), sides = source.shape, [draw(st.integers(0, 2)) for _ in range(4)]
    return PadOp(name, source.name, (height + sum(sides[:2]), width + sum(sides[2:]), channels), source.format, tuple(sides),
                 zero_point=source.zero_point)


DRAWN_OPS = {"conv": conv_ops, "table": table_ops, "shortcut": shortcut_ops, "pool": pool_ops, "add": add_ops,
             "multiply": multiply_ops, "maxpool": maxpool_ops, "concat": concat_ops, "pad": pad_ops}
"""How `programs` draws an operation of each kind: its name, the operation that it reads, all before it."""


@st.composite
def programs(draw):
    """Integer programs of every operation, with constants that no lowering would choose."""
    form = draw(formats())
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    table = codes(draw, (shape[2], 256), form).astype(form.dtype)
    ops: list[Op] = [InputOp("image", "", shape, form, table, zero_point=draw(zero_points(form)))]
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(sorted(DRAWN_OPS)))
        # until convolutions know zero points, their sources have none: then any operation may be one
        sources = [op for op in ops if kind != "conv" or not op.zero_point]
        if sources:
            ops.append(draw(DRAWN_OPS[kind](f"op{index}", draw(st.sampled_from(sources)), ops)))
    if all(op.zero_point for op in ops):
        size = form.max - form.min + 1
        ops.append(TableOp("plain", "image", shape, form, codes(draw, (size,), form).astype(form.dtype), form.min))
    ops.append(draw(conv_ops("logits", draw(st.sampled_from([op for op in ops if not op.zero_point])), ops, last=True)))
    return Program(tuple(ops))
