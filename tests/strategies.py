"""What hypothesis draws: codes with extremes, integer programs, float networks, hardware."""

import numpy as np
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.ops.add import AddOp
from sim.ops.concat import ConcatOp
from sim.ops.matmul import MatMulOp, product_reach
from sim.ops.maxpool import MaxPoolOp
from sim.ops.move import MoveOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import reach_of
from sim.ops.pad import PadOp
from sim.ops.select import SelectOp
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
    """The code that stands for 0: mostly 0, else any."""
    return draw(st.sampled_from([0, 0, 0, form.min, form.max, draw(st.integers(form.min, form.max))]))


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
    stride, padding, unusual = draw(st.integers(1, 3)), draw(st.integers(0, 2)), {}
    paddings = (padding,) * 4
    if draw(st.integers(0, 2)) == 0:
        paddings = tuple(draw(st.integers(0, 2)) for _ in range(4))
        unusual = {"paddings": paddings, "stride_width": draw(st.integers(1, 3)), "dilation": draw(st.integers(1, 2))}
        padding = 0
    height, width = height + sum(paddings[:2]), width + sum(paddings[2:])
    dilation = unusual.get("dilation", 1)
    rows, columns = min(rows, (height - 1) // dilation + 1), min(columns, (width - 1) // dilation + 1)
    groups = draw(st.sampled_from([g for g in range(1, depth + 1) if depth % g == 0]))
    channels = groups * draw(st.integers(1, 5))
    form = IntFormat(draw(st.integers(2, 17)), signed=True)
    weights = codes(draw, (rows, columns, depth // groups, channels), form).astype(np.int32)
    reach_down, reach_across = (rows - 1) * dilation + 1, (columns - 1) * dilation + 1
    shape = (output_side(height, reach_down, stride, 0),
             output_side(width, reach_across, unusual.get("stride_width", stride), 0), channels)
    reach = 2 * int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max()) * (source.format.max + 1)
    residuals = [op.name for op in before if op.shape == shape and op.format is not None and not op.zero_point]
    skip = draw(st.sampled_from(["", *residuals])) if not last else ""
    target = None if last else draw(formats())
    return ConvOp(name, source.name, shape, target, skip=skip, weights=weights, stride=stride, padding=padding,
                  groups=groups, operand=source.format, weight_format=form, weight_bits=form.bits,
                  accumulator=draw(accumulators()), requant=draw(requantizers(channels, reach)),
                  operand_zero=source.zero_point, **unusual)


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
def matmul_ops(draw, name: str, source: Op, before: list[Op]):
    """A product with itself, or with any tensor that fits, of any format and zero point."""
    heads, tokens, depth = source.shape
    fitting = [(op, transpose) for op in before for transpose in (True, False)
               if (op.shape[0], op.shape[2 if transpose else 1]) == (heads, depth) and op.format is not None]
    other, transpose = draw(st.sampled_from(fitting or [(source, True)]))
    columns = other.shape[1 if transpose else 2]
    reach = product_reach(source.format, other.format, depth, source.zero_point, other.zero_point)
    target = draw(formats())
    return MatMulOp(name, source.name, (heads, tokens, columns), target, other.name, source.format, other.format,
                    depth, transpose, draw(accumulators()), draw(requantizers(columns, reach)), source.zero_point,
                    other.zero_point, zero_point=draw(zero_points(target)))


@st.composite
def move_ops(draw, name: str, source: Op, before: list[Op]):
    """Any sides that the numbers of an image fill, in any order."""
    split, rest = [], int(np.prod(source.shape))
    while rest > 1 and len(split) < 4:
        split.append(draw(st.sampled_from([side for side in range(1, rest + 1) if rest % side == 0])))
        rest //= split[-1]
    split.append(rest)
    order = draw(st.permutations(range(len(split))))
    height = draw(st.sampled_from([split[order[0]], 1, source.shape[0]]))
    width = draw(st.sampled_from([side for side in range(1, 9) if int(np.prod(split)) // height % side == 0]))
    shape = height, width, int(np.prod(split)) // height // width
    return MoveOp(name, source.name, shape, source.format, tuple(split), tuple(order), zero_point=source.zero_point)


@st.composite
def select_ops(draw, name: str, source: Op, before: list[Op]):
    """Any row."""
    index = draw(st.integers(0, source.shape[0] - 1))
    return SelectOp(name, source.name, (1, *source.shape[1:]), source.format, index, zero_point=source.zero_point)


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
             "multiply": multiply_ops, "maxpool": maxpool_ops, "concat": concat_ops, "pad": pad_ops,
             "matmul": matmul_ops, "matmul2": matmul_ops, "move": move_ops, "select": select_ops}
"""How `programs` draws an operation of each kind: its name, the operation that it reads, all before it."""


@st.composite
def programs(draw):
    """Integer programs of every operation, with constants that no lowering would choose."""
    form = draw(formats())
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    table = codes(draw, (shape[2], 256), form).astype(form.dtype)
    ops: list[Op] = [InputOp("image", "", shape, form, table, zero_point=draw(zero_points(form)))]
    for index in range(draw(st.integers(0, 4))):
        source, kind = draw(st.sampled_from(ops)), draw(st.sampled_from(sorted(DRAWN_OPS)))
        ops.append(draw(DRAWN_OPS[kind](f"op{index}", source, ops)))
    ops.append(draw(conv_ops("logits", draw(st.sampled_from(ops)), ops, last=True)))
    return Program(tuple(ops))
