"""What hypothesis draws: codes with extremes, integer programs, float networks, hardware."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from sim.accumulator import Accumulator, Stage
from sim.definitions.integer_norms import IntegerRmsNorm
from sim.formats import IntFormat
from sim.ops.add import AddOp
from sim.ops.average import DIVISORS, AverageOp
from sim.ops.codes_input import CodesInputOp
from sim.ops.compare import MinMaxOp
from sim.ops.concat import ConcatOp
from sim.ops.defined import DefinedOp
from sim.ops.divide import DivideOp
from sim.ops.float_average import FloatAverageOp
from sim.ops.matmul import MatMulOp, product_reach
from sim.ops.maxpool import MaxPoolOp
from sim.ops.move import MoveOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import MAX_FLOAT_BITS, ROUNDINGS, Window, reach_of
from sim.ops.pad import PadOp
from sim.ops.positions import ConstantOp
from sim.ops.reduce import ReduceOp
from sim.ops.rescale import RescaleOp
from sim.ops.select import SelectOp
from sim.ops.slice import SliceOp
from sim.ops.table16 import SAMPLES, Table16Op
from sim.orders import ORDERS
from sim.program import ConvOp, InputOp, Op, PoolOp, Program, ShortcutOp, TableOp, output_side
from sim.requantizers.fp32 import Fp32
from sim.requantizers.tflite_single import TfliteSingle
from sim.testing import BITS, arrays_for, codes, generators, graphs, networks, pixels_for

__all__ = ["BITS", "accumulators", "arrays_for", "codes", "generators", "graphs", "networks", "pixels_for", "programs",
           "staged"]

@st.composite
def accumulators(draw):
    bits = draw(st.one_of(st.none(), st.integers(4, 32)))
    return Accumulator(bits, draw(st.sampled_from(["wrap", "saturate"])), draw(st.sampled_from([0, 1, 2, 3, 5, 16])))


@st.composite
def staged(draw):
    """Registers one after another, in any order of products; one register, too."""
    products, stages, rule = 1, [], draw(st.sampled_from(["wrap", "saturate", "mixed"]))

    def register(count):
        overflow = draw(st.sampled_from(["wrap", "saturate"])) if rule == "mixed" else rule
        bits = draw(st.one_of(st.none(), st.integers(2, 12), st.integers(8, 40)))
        return Stage(count, bits, *(() if bits is None else (overflow, draw(st.sampled_from([0, 1, 1, 1, 2, 3])))))

    for _ in range(draw(st.integers(0, 3))):
        products *= draw(st.sampled_from([1, 2, 2, 3, 4, 0]))
        stages.append(register(products))
        if not products:
            break
    order = draw(st.sampled_from([*ORDERS, "rows", "channels/2 rows columns channels", "columns rows channels"]))
    return Accumulator.of([*stages, register(0)], order)


@st.composite
def formats(draw, wide: bool = False):
    """Of codes: any width and sign, narrow or not; up to 32 bits if `wide`."""
    bits, signed = draw(st.one_of(BITS, st.integers(17, 32)) if wide else BITS), draw(st.booleans())
    return IntFormat(bits, signed, narrow=signed and bits > 1 and draw(st.booleans()))


@st.composite
def clamps(draw, source: IntFormat | None = None, wide: bool = True):
    """A format (wider ones too if `wide`), often that of the source, and what an operation does at its end."""
    form = source if source is not None and draw(st.integers(0, 2)) else draw(formats(wide))
    limits = ()
    if draw(st.integers(0, 3)) == 0:
        limits = tuple(sorted((draw(st.integers(form.min, form.max)), draw(st.integers(form.min, form.max)))))
    return form, {"zero_point": draw(zero_points(form)), "limits": limits}


@st.composite
def zero_points(draw, form: IntFormat):
    """The code that stands for 0: mostly 0, else any."""
    return draw(st.sampled_from([0, 0, 0, form.min, form.max, draw(st.integers(form.min, form.max))]))


@st.composite
def requantizers(draw, channels: int, reach: int, target: IntFormat | None = None):
    """Constants anywhere in the range that a program may hold, near what sums of `reach` need, and far from it."""
    rng = draw(generators)
    if (target is None or target.bits < MAX_FLOAT_BITS) and draw(st.booleans()):
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
    form = IntFormat(draw(st.integers(2, min(17, 42 - source.format.bits))), signed=True)  # sums of up to 53 bits
    weights = codes(draw, (rows, columns, depth // groups, channels), form).astype(np.int32)
    reach_down, reach_across = (rows - 1) * dilation + 1, (columns - 1) * dilation + 1
    shape = (output_side(height, reach_down, stride, 0),
             output_side(width, reach_across, unusual.get("stride_width", stride), 0), channels)
    reach = 2 * int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max()) * (source.format.max + 1)
    residuals = [op.name for op in before if op.shape == shape and not op.zero_point and reach_of(op) < 2**31]
    skip = draw(st.sampled_from(["", *residuals])) if not last else ""
    target, end = (None, {}) if last else draw(clamps())
    start = None
    if draw(st.integers(0, 2)) == 0:
        start = codes(draw, (channels,), IntFormat(draw(st.sampled_from([6, 12, 20, 40])), signed=True))
        reach += 2**40
    return ConvOp(name, source.name, shape, target, skip=skip, weights=weights, stride=stride, padding=padding,
                  groups=groups, operand=source.format, weight_format=form, weight_bits=form.bits,
                  accumulator=draw(accumulators()), requant=draw(requantizers(channels, reach, target)),
                  operand_zero=source.zero_point, start=start, **end, **unusual)


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
    target, end = draw(clamps())
    requant = draw(requantizers(draw(shared(channels)), rows * columns * reach_of(source), target))
    return PoolOp(name, source.name, (*sides, channels), target, rows, stride, padding, requant, columns, source.zero_point,
                  **end)


@st.composite
def matmul_ops(draw, name: str, source: Op, before: list[Op]):
    """A product with itself, or with any tensor that fits, of any format and zero point."""
    heads, tokens, depth = source.shape
    fitting = [(op, transpose) for op in before for transpose in (True, False)
               if (op.shape[0], op.shape[2 if transpose else 1]) == (heads, depth)
               and op.format.bits + source.format.bits < 42]
    assume(fitting)
    other, transpose = draw(st.sampled_from(fitting))
    columns = other.shape[1 if transpose else 2]
    reach = product_reach(source.format, other.format, depth, source.zero_point, other.zero_point)
    target, end = draw(clamps())
    return MatMulOp(name, source.name, (heads, tokens, columns), target, other.name, source.format, other.format,
                    depth, transpose, draw(accumulators()), draw(requantizers(draw(shared(columns)), reach, target)),
                    source.zero_point, other.zero_point, **end)


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
def shared(draw, channels: int):
    """How many sets of constants: one for each channel, or one for all."""
    return draw(st.sampled_from([channels, channels, 1]))


def fitting(source: Op, before: list[Op]) -> list[Op]:
    """Operations that can be spread to one shape with `source`, or `source` to theirs."""
    return [op for op in before if all(a == b or 1 in (a, b) for a, b in zip(op.shape, source.shape, strict=True))]


@st.composite
def add_ops(draw, name: str, source: Op, before: list[Op]):
    """Any two of one shape, or that can be spread to one."""
    others = [op for op in fitting(source, before) if reach_of(op) < 2**31]
    assume(others)
    other, (target, end) = draw(st.sampled_from(others)), draw(clamps())
    shape = tuple(map(max, source.shape, other.shape))
    requant = draw(requantizers(draw(shared(shape[2])), reach_of(source), target))
    return AddOp(name, source.name, shape, target, other.name, requant, source.zero_point, other.zero_point, **end)


@st.composite
def multiply_ops(draw, name: str, source: Op, before: list[Op]):
    """Any two of one shape, or that can be spread to one."""
    others = [op for op in fitting(source, before) if reach_of(op) * reach_of(source) < 2**53]
    assume(others)
    other, (target, end) = draw(st.sampled_from(others)), draw(clamps())
    shape = tuple(map(max, source.shape, other.shape))
    requant = draw(requantizers(draw(shared(shape[2])), reach_of(source) * reach_of(other), target))
    return MultiplyOp(name, source.name, shape, target, other.name, requant, source.zero_point, other.zero_point, **end)


@st.composite
def windows(draw, source: Op):
    """Taps, strides and paddings, with a code of the image in every window."""
    taps = tuple(draw(st.sampled_from([min(side, most) for most in (1, 2, 3, 3)])) for side in source.shape[:2])
    paddings = tuple(draw(st.integers(0, tap - 1)) for tap in (taps[0], taps[0], taps[1], taps[1]))
    return Window(taps, (draw(st.integers(1, 3)), draw(st.integers(1, 3))), 1, paddings)


@st.composite
def maxpool_ops(draw, name: str, source: Op, before: list[Op]):
    """Any window with a code in it at every position."""
    window = draw(windows(source))
    return MaxPoolOp(name, source.name, (*window.sides(*source.shape[:2]), source.shape[2]), source.format, window.taps[0],
                     window.strides[0], 0, window.taps[1], window.strides[1], window.paddings, zero_point=source.zero_point)


@st.composite
def average_ops(draw, name: str, source: Op, before: list[Op]):
    """The same, any divisor and rounding."""
    window, (target, end) = draw(windows(source)), draw(clamps(source.format))
    return AverageOp(name, source.name, (*window.sides(*source.shape[:2]), source.shape[2]), target, window.taps,
                     window.strides, window.paddings, draw(st.sampled_from(DIVISORS)), draw(st.sampled_from(ROUNDINGS)),
                     source.zero_point, **end)


@st.composite
def float_average_ops(draw, name: str, source: Op, before: list[Op]):
    """The same in float32, any divisor and scales."""
    window, (target, end) = draw(windows(source)), draw(clamps(None, wide=False))
    scales = np.array([10.0 ** draw(st.floats(-4, 2)), 10.0 ** draw(st.floats(-4, 2))], np.float32)
    return FloatAverageOp(name, source.name, (*window.sides(*source.shape[:2]), source.shape[2]), target, window.taps,
                          window.strides, window.paddings, draw(st.sampled_from(DIVISORS)), scales, source.zero_point, **end)


@st.composite
def reduce_ops(draw, name: str, source: Op, before: list[Op]):
    """Any axes, with and without a requantizer."""
    axes = tuple(sorted(draw(st.sets(st.sampled_from([0, 1, 2]), min_size=1))))
    shape = tuple(1 if axis in axes else side for axis, side in enumerate(source.shape))
    (target, end), rule = draw(clamps(source.format)), draw(st.sampled_from(["sum", "mean"]))
    reach = reach_of(source) * int(np.prod(source.shape))
    requant = draw(st.one_of(st.none(), requantizers(draw(shared(shape[2])), reach, target)))
    return ReduceOp(name, source.name, shape, target, axes, rule, draw(st.sampled_from(ROUNDINGS)), requant,
                    source.zero_point, **end)


@st.composite
def rescale_ops(draw, name: str, source: Op, before: list[Op]):
    """From any width to any other."""
    target, end = draw(clamps(source.format))
    requant = draw(requantizers(draw(shared(source.shape[2])), reach_of(source), target))
    return RescaleOp(name, source.name, source.shape, target, requant, source.zero_point, **end)


@st.composite
def slice_ops(draw, name: str, source: Op, before: list[Op]):
    """Any part."""
    starts = tuple(draw(st.integers(0, side - 1)) for side in source.shape)
    stops = tuple(draw(st.integers(start + 1, side)) for start, side in zip(starts, source.shape, strict=True))
    steps = tuple(draw(st.integers(1, 3)) for _ in source.shape)
    shape = tuple(len(range(*bounds)) for bounds in zip(starts, stops, steps, strict=True))
    return SliceOp(name, source.name, shape, source.format, starts, stops, steps, zero_point=source.zero_point)


@st.composite
def divide_ops(draw, name: str, source: Op, before: list[Op]):
    """Denominators that are never 0: odd, as the factor of what is read is even."""
    others = [op for op in fitting(source, before) if reach_of(op) < 2**32]
    assume(others)
    other, (target, end) = draw(st.sampled_from(others)), draw(clamps(source.format))
    return DivideOp(name, source.name, tuple(map(max, source.shape, other.shape)), target, other.name,
                    draw(st.sampled_from(ROUNDINGS)), draw(st.sampled_from([1, -1, 0, 255, 1 << 18])),
                    draw(st.sampled_from([2, -2, 64])), draw(st.sampled_from([1, -1, 7, 1001])), source.zero_point,
                    other.zero_point, **end)


@st.composite
def compare_ops(draw, name: str, source: Op, before: list[Op]):
    """Any two of one format and zero point."""
    others = [op for op in fitting(source, before)
              if (op.format, op.zero_point) == (source.format, source.zero_point)]
    other = draw(st.sampled_from(others))
    return MinMaxOp(name, source.name, tuple(map(max, source.shape, other.shape)), source.format, other.name,
                    draw(st.sampled_from(["maximum", "minimum"])), zero_point=source.zero_point)


@st.composite
def concat_ops(draw, name: str, source: Op, before: list[Op]):
    """Up to three that are equal but along one axis, with any tables or with none."""
    axis, copied = draw(st.sampled_from([2, 2, 0, 1])), source.format.bits > 16 or draw(st.booleans())
    others = draw(st.lists(st.sampled_from([
        op for op in before if [*op.shape[:axis], *op.shape[axis + 1 :]] == [*source.shape[:axis], *source.shape[axis + 1 :]]
        and ((op.format, op.zero_point) == (source.format, source.zero_point) if copied else op.format.bits <= 16)]),
        min_size=1, max_size=2))
    sources = [source, *others]
    shape = list(source.shape)
    shape[axis] = sum(op.shape[axis] for op in sources)
    names = tuple(op.name for op in others)
    if copied:
        nothing = np.zeros(0, source.format.dtype), (), ()
        return ConcatOp(name, source.name, tuple(shape), source.format, names, *nothing, axis, zero_point=source.zero_point)
    target, lengths = draw(formats()), tuple(op.format.max - op.format.min + 1 for op in sources)
    table = codes(draw, (sum(lengths),), target).astype(target.dtype)
    return ConcatOp(name, source.name, tuple(shape), target, names, table, tuple(op.format.min for op in sources), lengths,
                    axis, zero_point=draw(zero_points(target)))


@st.composite
def pad_ops(draw, name: str, source: Op, before: list[Op]):
    """Any paddings."""
    (height, width, channels), sides = source.shape, [draw(st.integers(0, 2)) for _ in range(4)]
    return PadOp(name, source.name, (height + sum(sides[:2]), width + sum(sides[2:]), channels), source.format, tuple(sides),
                 zero_point=source.zero_point)


@st.composite
def table16_ops(draw, name: str, source: Op, before: list[Op]):
    """Any samples; where nothing has 16 bits, what makes them."""
    form = IntFormat(16, signed=True)
    readable = [op for op in before if op.format == form and not op.zero_point]
    if not readable:
        requant = draw(requantizers(draw(shared(source.shape[2])), reach_of(source), form))
        return RescaleOp(name, source.name, source.shape, form, requant, source.zero_point)
    source, (target, end) = draw(st.sampled_from(readable)), draw(clamps())
    table = codes(draw, (SAMPLES,), IntFormat(draw(st.sampled_from([8, 16, 17])), signed=True)).astype(np.int32)
    return Table16Op(name, source.name, source.shape, target, table, draw(st.sampled_from(["tflite", "tosa"])), **end)


@st.composite
def defined_ops(draw, name: str, source: Op, before: list[Op]):
    """A norm of codes less their zero point, of any constants."""
    assume(source.format.bits <= 22)
    channels, zero, target = source.shape[2], source.zero_point, draw(formats(wide=True))
    reads = IntFormat(source.format.bits + 2, signed=True) if zero else source.format
    weight = codes(draw, (channels,), IntFormat(12, signed=True))
    norm = IntegerRmsNorm(reads, target, weight, np.array([draw(st.integers(1, 99))], np.int64))
    return DefinedOp(name, source.name, source.shape, target, norm, zero)


@st.composite
def constant_ops(draw, name: str, source: Op, before: list[Op]):
    """Codes of the shape of any other, or a part of it that can be spread."""
    shape = tuple(draw(st.sampled_from([side, side, 1])) for side in source.shape)
    form = draw(formats(wide=True))
    return ConstantOp(name, "", shape, form, codes(draw, shape, form).astype(form.dtype), zero_point=draw(zero_points(form)))


DRAWN_OPS = {"conv": conv_ops, "table": table_ops, "shortcut": shortcut_ops, "pool": pool_ops, "add": add_ops,
             "multiply": multiply_ops, "maxpool": maxpool_ops, "concat": concat_ops, "pad": pad_ops,
             "matmul": matmul_ops, "matmul2": matmul_ops, "move": move_ops, "select": select_ops,
             "rescale": rescale_ops, "average": average_ops,
             "float_average": float_average_ops, "reduce": reduce_ops, "slice": slice_ops,
             "divide": divide_ops, "compare": compare_ops, "table16": table16_ops, "defined": defined_ops,
             "constant": constant_ops}
"""How `programs` draws an operation of each kind: its name, the operation that it reads, all before it."""
NARROW = ("table",)
"""Kinds that read no codes of more than 16 bits."""


@st.composite
def input_ops(draw, name: str, may_be_codes: bool):
    """Pixels by a table, or codes as they come."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    if may_be_codes and draw(st.booleans()):
        form = draw(formats(wide=True))
        return CodesInputOp(name, "", shape, form, zero_point=draw(zero_points(form)))
    form = draw(formats())
    table = codes(draw, (shape[2], 256), form).astype(form.dtype)
    return InputOp(name, "", shape, form, table, zero_point=draw(zero_points(form)))


@st.composite
def programs(draw, inputs: int = 0):
    """Integer programs of every operation, with constants that no lowering would choose.

    They read an image of pixels, or with `inputs` up to so many, of pixels or codes.
    """
    names = ["image", *(f"image{index}" for index in range(1, draw(st.integers(1, max(inputs, 1)))))]
    ops: list[Op] = [draw(input_ops(name, inputs > 0)) for name in names]
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(sorted(DRAWN_OPS)))
        readable = [op for op in ops if op.format.bits <= 16] if kind in NARROW else ops
        if readable:
            ops.append(draw(DRAWN_OPS[kind](f"op{index}", draw(st.sampled_from(readable)), ops)))
    ops.append(draw(conv_ops("logits", draw(st.sampled_from(ops)), ops, last=True)))
    return Program(tuple(ops))


def given_to(draw, program: Program, images: int) -> dict[str, np.ndarray]:
    """Pixels or codes for every input of a program, by its name."""
    pixels = IntFormat(8, signed=False)
    return {op.name: codes(draw, (images, *op.shape), form).astype(form.dtype) for op in program.ops if op.is_input
            for form in [op.format if isinstance(op, CodesInputOp) else pixels]}
