"""Every operator of the importer of .tflite, alone, beside live runtimes: 0 codes differ, under each profile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.importers import ImporterError, load_model
from sim.machine import Machine
from sim.profiles import profile
from tests.examples import examples
from tests.runtimes import LITERT, TFLM, runtime_of
from tests.tflite_models import Node, Value, model

pytest.importorskip("tflite", reason="the package tflite is not installed (extra `import`)")

RUNTIMES = (*LITERT, TFLM)
INFO = {"int8": (-128, 127), "int16": (-32768, 32767)}


def scale(rng, low=0.005, high=0.2):
    return np.float32(rng.uniform(low, high))


def ratio(rng, least=1 / 64, most=64):
    """Of two scales: any, or a power of 2, by which ties come."""
    power = rng.uniform(np.log2(least), np.log2(most))
    return 2.0 ** (np.rint(power) if rng.random() < 0.3 else power)


def zero(rng, kind="int8"):
    return int(rng.integers(-128, 128)) if kind == "int8" else 0


def activation(rng, shape, kind="int8", **fixed):
    given = (
        {"scale": scale(rng), "zero": zero(rng, kind)}
        if kind == "int8"
        else {"scale": np.float32(rng.uniform(1e-4, 1e-3)), "zero": 0}
    )
    return Value(shape, kind, **given | fixed)


def like(value, shape, **fixed):
    return Value(shape, value.type, fixed.get("scale", value.scale), fixed.get("zero", value.zero))


def one(code, tensors, options="", fields=None, version=2, inputs=(0,), reads=None):
    """A model of one operator, which reads all tensors but the last and writes that."""
    last = len(tensors) - 1
    return model(
        tensors, [Node(code, list(reads or range(last)), [last], options, fields or {}, version)], list(inputs), [last]
    )


def weights(rng, shape, channels, kind="int8", axis=0, per_channel=True):
    low, high = (-127, 128) if kind == "int8" else (-7, 8)
    scales = rng.uniform(0.002, 0.02, channels if per_channel else 1).astype(np.float32)
    return Value(shape, kind, scales, 0, rng.integers(low, high, shape), axis)


def bias(rng, x, w, channels):
    kind = "int64" if x.type == "int16" else "int32"
    return Value((channels,), kind, np.float32(x.scale) * w.scale, 0, rng.integers(-3000, 3000, channels))


def geometry(rng, with_dilation=True):
    down, across = rng.integers(1, 3, 2)
    fields = {
        "Padding": int(rng.integers(0, 2)),
        "StrideH": int(down),
        "StrideW": int(across),
        "FusedActivationFunction": int(rng.choice((0, 1, 2, 3))),
    }
    if with_dilation and down == across == 1 and rng.random() < 0.3:
        fields |= {"DilationHFactor": 2, "DilationWFactor": 2}
    return fields


def sides(fields, height, width, rows, columns):
    dilation = fields.get("DilationHFactor", 1)
    taps = (rows - 1) * dilation + 1, (columns - 1) * dilation + 1
    strides = fields["StrideH"], fields["StrideW"]
    return tuple(
        -(-side // step) if fields["Padding"] == 0 else (side - tap) // step + 1
        for side, tap, step in zip((height, width), taps, strides, strict=True)
    )


def conv(rng, kind="int8", weight="int8", groups=1):
    rows, columns, channels, out = (
        int(rng.integers(1, 4)),
        int(rng.integers(1, 4)),
        int(rng.integers(1, 9)),
        groups * int(rng.integers(1, 12)),
    )
    fields = geometry(rng)
    x = activation(rng, (1, 9, 8, groups * channels), kind)
    w = weights(rng, (out, rows, columns, channels), out, weight)
    y = activation(rng, (1, *sides(fields, 9, 8, rows, columns), out), kind)
    y.scale = np.float32(rng.uniform(0.3, 3) * x.scale * (1 if kind == "int8" else 8))
    return one("CONV_2D", [x, w, bias(rng, x, w, out), y], "Conv2DOptions", fields, 7 if weight == "int4" else 5)


def depthwise(rng, kind="int8", weight="int8"):
    rows, columns, channels, times = (
        int(rng.integers(1, 4)),
        int(rng.integers(1, 4)),
        int(rng.integers(1, 9)),
        int(rng.integers(1, 3)),
    )
    fields = geometry(rng)
    fields["StrideW"] = fields["StrideH"]  # LiteRT's kernels want that
    x, out = activation(rng, (1, 9, 8, channels), kind), channels * times
    w = weights(rng, (1, rows, columns, out), out, weight, axis=3)
    y = activation(rng, (1, *sides(fields, 9, 8, rows, columns), out), kind)
    y.scale = np.float32(rng.uniform(0.1, 1) * x.scale)
    return one(
        "DEPTHWISE_CONV_2D",
        [x, w, bias(rng, x, w, out), y],
        "DepthwiseConv2DOptions",
        {**fields, "DepthMultiplier": times},
        7 if weight == "int4" else 5,
    )


def fully_connected(rng, kind="int8", weight="int8"):
    depth, out, rows = 2 * int(rng.integers(1, 40)), int(rng.integers(1, 20)), int(rng.integers(1, 5))
    x = activation(rng, (rows, depth), kind)
    w = weights(rng, (out, depth), out, weight, per_channel=False)
    y = activation(rng, (rows, out), kind)
    y.scale = np.float32(rng.uniform(0.3, 3) * x.scale * (1 if kind == "int8" else 8))
    fields = {"FusedActivationFunction": int(rng.choice((0, 1, 3)))}
    return one(
        "FULLY_CONNECTED", [x, w, bias(rng, x, w, out), y], "FullyConnectedOptions", fields, 7 if kind == "int16" else 4
    )


def batch_matmul(rng, kind="int8"):
    heads, rows, depth, columns = (int(n) for n in rng.integers(1, 12, 4))
    flips = bool(rng.integers(2)), bool(rng.integers(2))
    a, b = (
        (heads, depth, rows) if flips[0] else (heads, rows, depth),
        (heads, columns, depth) if flips[1] else (heads, depth, columns),
    )
    x, w, y = (
        activation(rng, (1, *a), kind),
        activation(rng, (1, *b), kind),
        activation(rng, (1, heads, rows, columns), kind),
    )
    y.scale = np.float32(x.scale * w.scale * INFO[kind][1] * np.sqrt(depth) * rng.uniform(0.3, 1))
    return one("BATCH_MATMUL", [x, w, y], "BatchMatMulOptions", {"AdjX": flips[0], "AdjY": flips[1]}, 4, (0, 1))


SPREADS = [
    ((1, 5, 4, 3), (1, 5, 4, 3)),
    ((1, 5, 4, 3), (1, 1, 1, 3)),
    ((1, 5, 4, 3), (3,)),
    ((1, 5, 4, 3), (1, 5, 4, 1)),
    ((1, 1, 1, 3), (1, 5, 4, 3)),
    ((1, 7, 6), (1, 1, 6)),
    ((1, 6), (1, 6)),
    ((1, 5, 4, 3), ()),
]


def binary(code, options, version=2):
    def make(rng, kind="int8"):
        a, b = SPREADS[rng.integers(len(SPREADS))]
        x, w = activation(rng, a, kind), activation(rng, b, kind)
        y = activation(rng, np.broadcast_shapes(a, b), kind)
        largest = INFO[kind][1] * rng.uniform(0.2, 1.0)
        w.scale = np.float32(x.scale * ratio(rng))
        whole = x.scale * w.scale * largest if code == "MUL" else max(x.scale, w.scale)
        y.scale = np.float32(whole * (ratio(rng, 1 / 8, 64) if code == "MUL" else ratio(rng, 1 / 64, 8)))
        fields = {"FusedActivationFunction": int(rng.choice((0, 1, 3)))}
        if kind == "int16" and code != "MUL":
            fields["PotScaleInt16"] = False
        return one(
            code,
            [x, w, y],
            options,
            fields,
            5 if kind == "int16" and code == "SUB" else 4 if kind == "int16" and code == "MUL" else version,
            (0, 1),
        )

    return make


def compare(code):
    def make(rng):
        a, b = SPREADS[rng.integers(len(SPREADS))]
        x = activation(rng, a)
        return one(code, [x, like(x, b), like(x, np.broadcast_shapes(a, b))], "MaximumMinimumOptions", {}, 2, (0, 1))

    return make


def pool(code, version=2):
    def make(rng, kind="int8"):
        rows, columns = (int(n) for n in rng.integers(1, 5, 2))
        fields = geometry(rng, with_dilation=False) | {"FilterHeight": rows, "FilterWidth": columns}
        x = activation(rng, (1, 9, 8, int(rng.integers(1, 9))), kind)
        y = like(x, (1, *sides(fields, 9, 8, rows, columns), x.shape[3]))
        return one(code, [x, y], "Pool2DOptions", fields, 3 if kind == "int16" else version)

    return make


def mean(rng):
    x = activation(rng, (1, *(int(n) for n in rng.integers(1, 10, 2)), int(rng.integers(1, 20))))
    keep = bool(rng.integers(2))
    y = activation(rng, (1, 1, 1, x.shape[3]) if keep else (1, x.shape[3]))
    y.scale, y.zero = (x.scale, x.zero) if rng.random() < 0.5 else (np.float32(x.scale * ratio(rng)), y.zero)
    axes = Value((2,), "int32", data=[1, 2])
    return one("MEAN", [x, axes, y], "ReducerOptions", {"KeepDims": keep})


def softmax(rng, kind="int8"):
    shape = (int(rng.integers(1, 5)), int(rng.integers(1, 60)))
    x = activation(rng, shape, kind)
    target = (1 / 256, -128) if kind == "int8" else (1 / 32768, 0)
    return one(
        "SOFTMAX",
        [x, Value(shape, kind, *target)],
        "SoftmaxOptions",
        {"Beta": float(rng.choice((1.0, 0.5, 2.0)))},
        2 if kind == "int8" else 3,
    )


def unary(code, options="", version=2, fields=None, target=None, source=None):
    def make(rng):
        x = activation(rng, (1, 16, 16, 1))
        if source:
            x.zero = source(rng)
        if rng.random() < 0.3:
            x.scale = np.float32(2.0 ** rng.integers(-6, 5 if target else 1))
        y = Value(x.shape, "int8", *target) if target else activation(rng, x.shape, scale=np.float32(x.scale * ratio(rng)))
        return one(code, [x, y], options, fields(rng) if fields else {}, version)

    return make


def same(rng):
    y = activation(rng, (1, 16, 16, 1))
    return one("RELU6", [like(y, y.shape), y])


def quantize(source, target):
    def make(rng):
        shape = (1, 16, 16, 1) if rng.random() < 0.5 else (1, *(int(side) for side in rng.integers(1, 6, 3)))
        x, y = activation(rng, shape, source), activation(rng, shape, target)
        of_formats = {("int8", "int8"): 1.0, ("int16", "int8"): 256.0, ("int16", "int16"): 1.0, ("int8", "int16"): 1 / 256}
        y.scale = np.float32(x.scale * of_formats[source, target] * ratio(rng))
        return one("QUANTIZE", [x, y], "", {}, 2)

    return make


def transpose(rng):
    x = activation(rng, (1, 4, 5, 6))
    order = [0, *((1, 3, 2), (2, 1, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2))[rng.integers(5)]]
    y = like(x, tuple(x.shape[axis] for axis in order))
    return one("TRANSPOSE", [x, Value((4,), "int32", data=order), y], "TransposeOptions")


def pad(rng):
    x, amounts = activation(rng, (1, 4, 5, 6)), [[0, 0], [1, 0], rng.integers(0, 3, 2).tolist(), [0, 0]]
    y = like(x, tuple(side + sum(pair) for side, pair in zip(x.shape, amounts, strict=True)))
    return one("PAD", [x, Value((4, 2), "int32", data=amounts), y], "PadOptions")


def concatenation(rng):
    axis, parts = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    x = activation(rng, (1, 4, 5, 6))
    shapes = [
        tuple(int(rng.integers(1, 4)) if at == axis else side for at, side in enumerate(x.shape)) for _ in range(parts)
    ]
    y = like(x, tuple(sum(shape[axis] for shape in shapes) if at == axis else side for at, side in enumerate(x.shape)))
    return one(
        "CONCATENATION",
        [*(like(x, shape) for shape in shapes), y],
        "ConcatenationOptions",
        {"Axis": axis - 4 * int(rng.integers(2))},
        2,
        range(parts),
    )


def pack(rng):
    axis, x = int(rng.integers(1, 4)), activation(rng, (1, 4, 5))
    return one(
        "PACK",
        [x, like(x, x.shape), like(x, (*x.shape[:axis], 2, *x.shape[axis:]))],
        "PackOptions",
        {"ValuesCount": 2, "Axis": axis},
        2,
        (0, 1),
    )


def strided_slice(rng):
    x = activation(rng, (1, 7, 6, 5))
    begins, steps = [0, *rng.integers(0, 3, 3).tolist()], [1, *rng.integers(1, 3, 3).tolist()]
    ends = [1, *(int(rng.integers(begin + 1, side + 1)) for begin, side in zip(begins[1:], x.shape[1:], strict=True))]
    shape = tuple(len(range(*bounds)) for bounds in zip(begins, ends, steps, strict=True))
    numbers = [Value((4,), "int32", data=part) for part in (begins, ends, steps)]
    return one("STRIDED_SLICE", [x, *numbers, like(x, shape)], "StridedSliceOptions")


def slice_(rng):
    x = activation(rng, (1, 7, 6, 5))
    begins = [0, *rng.integers(0, 3, 3).tolist()]
    lengths = [1, *(int(rng.integers(1, side - begin + 1)) for begin, side in zip(begins[1:], x.shape[1:], strict=True))]
    return one(
        "SLICE",
        [x, Value((4,), "int32", data=begins), Value((4,), "int32", data=lengths), like(x, tuple(lengths))],
        "SliceOptions",
    )


def split(rng):
    axis, x = int(rng.integers(1, 4)), activation(rng, (1, 4, 8, 6))
    part = tuple(side // 2 if at == axis else side for at, side in enumerate(x.shape))
    tensors = [Value((), "int32", data=[axis]), x, like(x, part), like(x, part)]
    return model(tensors, [Node("SPLIT", [0, 1], [2, 3], "SplitOptions", {"NumSplits": 2})], [1], [2, 3])


def unpack(rng):
    x = activation(rng, (1, 2, 5, 6))
    outs = [like(x, (1, 5, 6)) for _ in range(2)]
    return model([x, *outs], [Node("UNPACK", [0], [1, 2], "UnpackOptions", {"Num": 2, "Axis": 1})], [0], [1, 2])


def blocks(code, options):
    def make(rng):
        x = activation(rng, (1, 4, 6, 8))
        shape = (1, 8, 12, 2) if code == "DEPTH_TO_SPACE" else (1, 2, 3, 32)
        return one(code, [x, like(x, shape)], options, {"BlockSize": 2}, 1 if code == "DEPTH_TO_SPACE" else 2)

    return make


def reshape(rng):
    x = activation(rng, (1, 4, 6, 8))
    return one(
        "RESHAPE",
        [x, Value((3,), "int32", data=[1, 24, 8]), like(x, (1, 24, 8))],
        "ReshapeOptions",
        {"NewShape": [1, 24, 8]},
        1,
    )


def reduce_max(rng):
    x = activation(rng, (1, 4, 6, 8))
    return one("REDUCE_MAX", [x, Value((2,), "int32", data=[1, 2]), like(x, (1, 8))], "ReducerOptions", {"KeepDims": False})


def wide(make, *others):
    return lambda rng: make(rng, "int16", *others)


def alpha(rng):
    return {"Alpha": float(np.float32(rng.uniform(0.01, 0.9)))}


CASES = {
    "conv": conv,
    "conv_int16": wide(conv),
    "conv_int4": lambda rng: conv(rng, "int8", "int4"),
    "conv_grouped": lambda rng: conv(rng, groups=int(rng.integers(2, 7))),
    "conv_grouped_int16": lambda rng: conv(rng, "int16", groups=int(rng.integers(2, 7))),
    "conv_grouped_int4": lambda rng: conv(rng, "int8", "int4", groups=int(rng.integers(2, 7))),
    "depthwise": depthwise,
    "depthwise_int4": lambda rng: depthwise(rng, "int8", "int4"),
    "depthwise_int16": wide(depthwise),
    "fully_connected": fully_connected,
    "fully_connected_int16": wide(fully_connected),
    "fully_connected_int4": lambda rng: fully_connected(rng, "int8", "int4"),
    "batch_matmul": batch_matmul,
    "batch_matmul_int16": wide(batch_matmul),
    "add": binary("ADD", "AddOptions"),
    "add_int16": wide(binary("ADD", "AddOptions")),
    "sub": binary("SUB", "SubOptions"),
    "sub_int16": wide(binary("SUB", "SubOptions")),
    "mul": binary("MUL", "MulOptions"),
    "mul_int16": wide(binary("MUL", "MulOptions")),
    "maximum": compare("MAXIMUM"),
    "minimum": compare("MINIMUM"),
    "average_pool": pool("AVERAGE_POOL_2D"),
    "average_pool_int16": wide(pool("AVERAGE_POOL_2D")),
    "max_pool": pool("MAX_POOL_2D"),
    "max_pool_int16": wide(pool("MAX_POOL_2D")),
    "mean": mean,
    "softmax": softmax,
    "softmax_int16": wide(softmax),
    "logistic": unary("LOGISTIC", target=(1 / 256, -128)),
    "tanh": unary("TANH", target=(1 / 128, 0)),
    "exp": unary("EXP", "ExpOptions", 1),
    "gelu": unary("GELU", "GeluOptions", 2),
    "gelu_tanh": unary("GELU", "GeluOptions", 2, lambda rng: {"Approximate": True}),
    "elu": unary("ELU", "", 1),
    "hard_swish": unary("HARD_SWISH", "HardSwishOptions", 1),
    "relu": unary("RELU"),
    "relu6": unary("RELU6"),
    "relu6_same": same,
    "leaky_relu": unary("LEAKY_RELU", "LeakyReluOptions", 2, alpha),
    "abs": unary("ABS", "AbsOptions", 2),
    "quantize": quantize("int8", "int8"),
    "quantize_narrower": quantize("int16", "int8"),
    "quantize_int16": quantize("int16", "int16"),
    "quantize_wider": quantize("int8", "int16"),
    "reshape": reshape,
    "transpose": transpose,
    "pad": pad,
    "concatenation": concatenation,
    "pack": pack,
    "unpack": unpack,
    "strided_slice": strided_slice,
    "slice": slice_,
    "split": split,
    "depth_to_space": blocks("DEPTH_TO_SPACE", "DepthToSpaceOptions"),
    "space_to_depth": blocks("SPACE_TO_DEPTH", "SpaceToDepthOptions"),
    "reduce_max": reduce_max,
}
REFUSED_BY = {"relu6": TFLM}
"""Operators that a profile refuses, as it says: what tflite-micro does there is not what the file asks for."""


def inputs_for(content, rng, path):
    from sim.importers.tflite.file import read_file

    found = read_file(path)
    given = []
    for number in found.inputs:
        tensor = found.tensors[number]
        low, high = INFO[tensor.type.lower()]
        codes = rng.integers(low, high + 1, tensor.shape)
        if rng.random() < 0.3:
            codes = (codes // 16 + int(tensor.zeros[0])).clip(low, high)
        if codes.size == 256 and len(found.inputs) == 1:
            codes = np.arange(-128, 128).reshape(tensor.shape) if low == -128 else codes
        given.append(codes.astype(tensor.type.lower()))
    return found, given


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("case", CASES)
@given(seed=st.integers(0, 2**32 - 1))
@examples(40)
def test_an_operator_equals_the_live_runtime(case, name, tmp_path_factory, seed):
    if REFUSED_BY.get(case) == name:
        pytest.skip("refused under this profile")
    rng = np.random.default_rng(seed)
    content = CASES[case](rng)
    path = tmp_path_factory.mktemp("model") / "model.tflite"
    path.write_bytes(content)
    runtime = runtime_of(content, name)
    found, given = inputs_for(content, rng, path)
    imported = load_model(path, profile(name))
    names = [op.name for op in imported.program.ops if op.is_input]
    shaped = {
        key: codes.reshape(1, *imported.program.ops[index].shape)
        for index, (key, codes) in enumerate(zip(names, given, strict=True))
    }
    results = Machine(imported.program).results(shaped if len(shaped) > 1 else next(iter(shaped.values())))
    runtime.run(*given)
    for number in found.outputs:
        expected = runtime.tensor(number)
        codes = results[imported.tensors[f"t{number}"]].reshape(expected.shape)
        wrong = np.argwhere(codes != expected)
        assert not len(wrong), (
            f"{len(wrong)} of {expected.size}: {codes[tuple(wrong[0])]}, expected {expected[tuple(wrong[0])]}"
        )


def codes_of(tmp_path, name, content, codes):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    program = load_model(path, profile(name)).program
    return Machine(program).run(codes.reshape(1, *program.ops[0].shape)).ravel().tolist()


@pytest.mark.parametrize(("count", "up"), [(7, 0), (16, 16), (37, 32), (48, 48)])
def test_quantize__rounds_half_up_in_whole_blocks_of_sixteen_under_ruy(tmp_path, count, up):
    """-2 at a quarter of the scale is -0.5: half up it is 0, half away from zero -1."""
    x = Value((1, 1, count), "int8", 0.25, 0)
    content = one("QUANTIZE", [x, Value(x.shape, "int8", 1.0, 0)])
    codes = np.full(x.shape, -2, np.int8)
    assert codes_of(tmp_path, "litert_ruy", content, codes) == [0] * up + [-1] * (count - up)
    assert codes_of(tmp_path, "litert_reference", content, codes) == [-1] * count
    assert codes_of(tmp_path, "litert_xnnpack", content, codes) == [0] * count  # its own rule: half up


@pytest.mark.parametrize(("name", "code"), [("litert_reference", 82), ("litert_xnnpack", 82), (TFLM, 81)])
def test_relu__has_a_quotient_of_scales_in_float32_in_litert(tmp_path, name, code):
    """177 times the quotient is 95.5, or a bit less in float64."""
    x, y = Value((1, 1, 1), "int8", 0.07374119013547897, -57), Value((1, 1, 1), "int8", 0.13667215406894684, -14)
    assert codes_of(tmp_path, name, one("RELU", [x, y]), np.full((1, 1, 1), 120, np.int8)) == [code]


@pytest.mark.parametrize(("alpha", "code"), [(0.5, -1), (0.4, 0)])
def test_leaky_relu__is_not_xnnpacks_below_a_256th(tmp_path, alpha, code):
    """-150 alpha / 128 is -0.47 at 0.4, of which XNNPACK, that takes no less than 1/256, would make (-150 + 128) >> 8."""
    x, y = Value((1, 1, 1), "int8", 1 / 128, 22), Value((1, 1, 1), "int8", 1.0, 0)
    content = one("LEAKY_RELU", [x, y], "LeakyReluOptions", {"Alpha": alpha})
    assert codes_of(tmp_path, "litert_xnnpack", content, np.full((1, 1, 1), -128, np.int8)) == [code]


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu__is_exact_where_it_is_the_identity(tmp_path, approximate):
    """x / 2 for x from 11 / 2 on, half away from 0, as LiteRT's float32 has it."""
    x, y = Value((1, 1, 117), "int8", 0.5, 0), Value((1, 1, 117), "int8", 1.0, 0)
    content = one("GELU", [x, y], "GeluOptions", {"Approximate": approximate})
    codes = np.arange(11, 128, dtype=np.int8)
    for name in LITERT:
        assert codes_of(tmp_path, name, content, codes) == [(int(code) + 1) // 2 for code in codes]


@pytest.mark.parametrize("code", ["LOGISTIC", "TANH"])
def test_logistic_and_tanh__of_zero_in_tflite_micro_at_a_coarse_scale(tmp_path, code):
    """Its radius of inputs that it computes is 15 / 2^e in codes: 0 at a scale of 20, and then 0 is below, not between."""
    target = (1 / 256, -128) if code == "LOGISTIC" else (1 / 128, 0)
    x = Value((1, 1, 3), "int8", 20.0, 0)
    content, codes = one(code, [x, Value((1, 1, 3), "int8", *target)]), np.array([-1, 0, 1], np.int8)
    assert codes_of(tmp_path, TFLM, content, codes) == [-128, -128, 127]
    assert codes_of(tmp_path, "litert_reference", content, codes) == [-128, 0, 127]


@pytest.mark.parametrize("scale", [1e38, 1e-45])
def test_function__at_scales_that_float32_cannot_hold_is_refused(tmp_path, scale):
    x, y = Value((1, 1, 3), "int8", scale, 0), Value((1, 1, 3), "int8", 1e-45, 0)
    with pytest.raises(ImporterError, match="float32 does not hold"):
        codes_of(tmp_path, "litert_reference", one("GELU", [x, y], "GeluOptions"), np.zeros((1, 1, 3), np.int8))
