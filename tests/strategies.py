"""What hypothesis draws: codes with extremes, integer programs, float networks, hardware."""

import numpy as np
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.network import (
    Activation,
    AvgPool,
    Conv,
    Graph,
    Input,
    NetworkSpec,
    Precision,
    Requantize,
    Row,
    Shortcut,
    expected_arrays,
)
from sim.program import ConvOp, InputOp, Op, PoolOp, Program, ShortcutOp, TableOp, output_side
from sim.quantizers import QUANTIZERS
from sim.requantizers.fp32 import Fp32
from sim.requantizers.tflite_single import TfliteSingle

BITS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 16])
LEARNED = ("weight_interval", "interval", "weight_step", "activation_step", "alpha")
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def accumulators(draw):
    bits = draw(st.one_of(st.none(), st.integers(4, 32)))
    return Accumulator(bits, draw(st.sampled_from(["wrap", "saturate"])), draw(st.sampled_from([0, 1, 2, 3, 5, 16])))


def codes(draw, shape, form: IntFormat) -> np.ndarray:
    """Random codes, or one of the patterns that break kernels: all extreme, alternating, zeros, one hot."""
    rng = draw(generators)
    size = int(np.prod(shape))
    match draw(st.sampled_from(["random", "random", "max", "min", "alternating", "zeros", "one hot", "extremes"])):
        case "max":
            flat = np.full(size, form.max)
        case "min":
            flat = np.full(size, form.min)
        case "alternating":
            flat = np.where(np.arange(size) % 2, form.max, form.min)
        case "zeros":
            flat = np.zeros(size)
        case "one hot":
            flat = np.where(np.arange(size) == rng.integers(size), form.max, 0)
        case "extremes":
            flat = rng.choice([form.min, form.max, 0], size)
        case _:
            flat = rng.integers(form.min, form.max + 1, size)
    return flat.reshape(shape).astype(np.int64)


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
    residuals = [op.name for op in before if op.shape == shape and op.format is not None]
    skip = draw(st.sampled_from(["", *residuals])) if not last else ""
    target = None if last else IntFormat(draw(BITS), signed=draw(st.booleans()))
    return ConvOp(name, source.name, shape, target, skip=skip, weights=weights, stride=stride, padding=padding,
                  groups=groups, operand=source.format, weight_format=form, weight_bits=form.bits,
                  accumulator=draw(accumulators()), requant=draw(requantizers(channels, reach)))


@st.composite
def programs(draw):
    """Integer programs of every operation, with constants that no lowering would choose."""
    form = IntFormat(draw(BITS), signed=draw(st.booleans()))
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    table = codes(draw, (shape[2], 256), form).astype(form.dtype)
    ops: list[Op] = [InputOp("image", "", shape, form, table)]
    for index in range(draw(st.integers(0, 4))):
        source, name = draw(st.sampled_from(ops)), f"op{index}"
        kinds = ["conv", "shortcut", "pool"] + ([] if source.format.signed or source.format.bits > 8 else ["table"])
        height, width, channels = source.shape
        match draw(st.sampled_from(kinds)):
            case "conv":
                ops.append(draw(conv_ops(name, source, ops)))
            case "table":
                target = IntFormat(draw(BITS), signed=False)
                entries = codes(draw, (source.format.max + 1,), target).astype(target.dtype)
                ops.append(TableOp(name, source.name, source.shape, target, entries))
            case "shortcut":
                stride, added = draw(st.integers(1, 3)), draw(st.integers(0, 3))
                small = -(-height // stride), -(-width // stride), channels + added
                ops.append(ShortcutOp(name, source.name, small, source.format, stride))
            case "pool":
                padding, stride = draw(st.integers(0, 1)), draw(st.integers(1, 3))
                rows, columns = (draw(st.integers(1, min(3, side + 2 * padding))) for side in (height, width))
                sides = output_side(height, rows, stride, padding), output_side(width, columns, stride, padding)
                target = IntFormat(draw(BITS), signed=draw(st.booleans()))
                requant = draw(requantizers(channels, rows * columns * (source.format.max + 1)))
                ops.append(PoolOp(name, source.name, (*sides, channels), target, rows, stride, padding, requant, columns))
    ops.append(draw(conv_ops("logits", draw(st.sampled_from(ops)), ops, last=True)))
    return Program(tuple(ops))


@st.composite
def graphs(draw):
    """Random networks: depth, channels, kernels, strides, groups, residuals, shortcuts, pools."""
    channels = draw(st.integers(1, 3))
    mean = tuple(draw(st.floats(0.0, 1.0)) for _ in range(channels))
    std = tuple(draw(st.floats(0.01, 1.0)) for _ in range(channels))
    rows: list[Row] = [Input("image", "", draw(st.integers(1, 7)), draw(st.integers(1, 7)), channels, mean, std)]
    rows.append(_conv(draw, "stem", rows, rows[0].name, role="boundary"))
    for index in range(draw(st.integers(0, 5))):
        shapes = _shapes(rows)
        source = draw(st.sampled_from([row.name for row in rows[1:]]))
        height, width, depth = shapes[source]
        name = f"row{index}"
        match draw(st.sampled_from(["conv", "conv", "requantize", "shortcut", "avgpool"])):
            case "conv":
                rows.append(_conv(draw, name, rows, source))
            case "requantize":
                rows.append(Requantize(name, source, _activation(draw)))
            case "shortcut":
                rows.append(Shortcut(name, source, depth + draw(st.integers(0, 3)), draw(st.integers(1, 2))))
            case "avgpool":
                padding = draw(st.integers(0, 1))
                window = [draw(st.integers(1, min(3, side + 2 * padding))) for side in (height, width)]
                rows.append(AvgPool(name, source, window[0], draw(st.integers(1, 2)), padding, _activation(draw), window[1]))
    height, width, _ = _shapes(rows)[rows[-1].name]
    rows.append(Conv("classifier", rows[-1].name, draw(st.integers(2, 5)), draw(st.integers(1, min(height, width))),
                     max(height, width), role="boundary", norm=draw(st.booleans()), bias=False))
    return Graph(tuple(rows))


def _shapes(rows):
    shapes = {}
    for row in rows:
        shapes[row.name] = row.output_shape(shapes)
    return shapes


def _activation(draw):
    return Activation(draw(st.sampled_from(["inner", "boundary", "skip"])), draw(st.sampled_from([0.37, 1.0, 4.0])))


def _conv(draw, name, rows, source, role=None):
    shapes = _shapes(rows)
    height, width, depth = shapes[source]
    padding = draw(st.integers(0, 2))
    kernel = draw(st.integers(1, min(3, min(height, width) + 2 * padding)))
    groups = draw(st.sampled_from([g for g in range(1, depth + 1) if depth % g == 0]))
    norm = draw(st.booleans())
    row = Conv(name, source, groups * draw(st.integers(1, 4)), kernel, draw(st.integers(1, 2)), padding, groups,
               role=role or draw(st.sampled_from(["inner", "inner", "boundary"])), norm=norm,
               bias=not norm and draw(st.booleans()), activation=_activation(draw))
    shape = row.output_shape(shapes)
    residuals = [r.name for r in rows[1:] if shapes[r.name] == shape]
    skip = draw(st.sampled_from(["", *residuals]))
    return Conv(**{**vars(row), "skip": skip})


def arrays_for(graph: Graph, rng: np.random.Generator, wild: bool, quantizer: str = "dorefa") -> dict[str, np.ndarray]:
    """Random float arrays; `wild` ones have negative, zero and huge gammas, zero and tiny variances, constant weights."""
    arrays = {}
    for name, shape in expected_arrays(graph, quantizer).items():
        values = rng.normal(size=shape)
        if name.split(".")[-1] in LEARNED:
            is_extreme = wild and rng.random() < 0.1
            values = rng.choice([0.0, -1.0, 1e-9, 1e9], shape) if is_extreme else rng.uniform(0.01, 4.0, shape)
        elif name.endswith(".weight") and "norm" not in name:
            values *= rng.choice([1e-6, 0.1, 1.0, 30.0]) if wild else 0.3
            if wild and rng.random() < 0.2:
                values = np.full(shape, rng.choice([0.0, -1.0, 0.5]))
        elif name.endswith("running_var"):
            values = np.abs(values) * (rng.choice([0.0, 1e-30, 1e-8, 1.0, 1e4], shape) if wild else 1.0)
        elif wild:
            values = values * rng.choice([0.0, 1e-6, 1.0, 1.0, -1.0, 1e3, 1e6], shape)
        arrays[name] = values.astype(np.float32)
    return arrays


@st.composite
def networks(draw, wild: bool = True):
    """A random network with random arrays at a random precision."""
    graph = draw(graphs())
    quantizer = draw(st.sampled_from(["dorefa", *QUANTIZERS]))
    some = st.sampled_from([2, 3, 4, 8]) if quantizer == "sawb" else BITS
    inner, boundary, skip = draw(some), draw(st.sampled_from([2, 4, 8, 16])), draw(some)
    if quantizer not in ("dorefa", "pact"):  # the others have no 1 bit, sawb no 16
        inner, skip = max(inner, 2), max(skip, 2)
        boundary = 8 if quantizer == "sawb" else boundary
    rows = [row.name for row in graph.rows if "inner" in (
        getattr(row, "role", ""), getattr(getattr(row, "activation", None), "role", ""))]
    exceptions = tuple((name, draw(st.sampled_from([2, 3, 4, 8]))) for name in rows if draw(st.integers(0, 3)) == 0)
    arrays = arrays_for(graph, draw(generators), wild, quantizer)
    return NetworkSpec(graph, arrays, Precision(inner, boundary, skip, exceptions), quantizer)


def pixels_for(draw, graph: Graph, count: int = 2) -> np.ndarray:
    image = graph.input
    return codes(draw, (count, image.height, image.width, image.channels), IntFormat(8, signed=False)).astype(np.uint8)
