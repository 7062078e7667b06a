"""Small networks as Deeploy's and DORY's tools export them, drawn by hypothesis."""

import numpy as np
import pytest
from hypothesis import strategies as st

from sim.formats import IntFormat

onnx = pytest.importorskip("onnx", reason="Deeploy's and DORY's files need the package onnx")

S8, U8 = IntFormat(8, signed=True), IntFormat(8, signed=False)


class Net:
    """A graph while it is drawn: nodes, constants, and the shape of every tensor."""

    def __init__(self, shape, constants=np.float32):
        self.nodes, self.parts, self.shapes, self.dtype = [], [], {"x": shape}, constants
        self.given = shape

    def constant(self, values, dtype=None):
        name = f"c{len(self.parts)}"
        self.parts.append(onnx.numpy_helper.from_array(np.array(values, dtype or self.dtype), name))
        return name

    def add(self, kind, *inputs, shape=None, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        self.shapes[name] = tuple(self.shapes[inputs[0]] if shape is None else shape)
        return name

    def model(self, output):
        info = onnx.helper.make_tensor_value_info
        x, y = (info(name, onnx.TensorProto.FLOAT, self.shapes[name]) for name in ("x", output))
        return onnx.helper.make_model(onnx.helper.make_graph(self.nodes, "net", [x], [y], self.parts))


def whole(value):
    """An attribute as QuantLab writes numbers."""
    return onnx.numpy_helper.from_array(np.array([value], np.float32))


small = st.integers(-9, 9)


def draw_array(draw, shape, values=small):
    count = int(np.prod(shape))
    return np.array(draw(st.lists(values, min_size=count, max_size=count))).reshape(shape)


def draw_conv(draw, net, x):
    """Any groups, windows, paddings that leave something; the channels after it."""
    _, channels, *sides = net.shapes[x]
    rank = len(sides)
    groups = draw(st.sampled_from([1, channels]))
    made = groups * draw(st.integers(1, 2)) if groups > 1 else draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2))
    pads = draw(st.lists(st.integers(0, 1), min_size=2 * rank, max_size=2 * rank))
    reach = [side + pads[a] + pads[rank + a] for a, side in enumerate(sides)]
    taps = [draw(st.integers(1, max(1, min(3, (side - 1) // dilation + 1)))) for side in reach]
    strides = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    shape = [(side - (tap - 1) * dilation - 1) // step + 1 for side, tap, step in zip(reach, taps, strides, strict=True)]
    inputs = [x, net.constant(draw_array(draw, (made, channels // groups, *taps)))]
    if draw(st.booleans()):
        inputs.append(net.constant(draw_array(draw, (made,), st.integers(-99, 99))))
    return net.add("Conv", *inputs, shape=(1, made, *shape), kernel_shape=taps, strides=strides, pads=pads, group=groups,
                   dilations=[dilation] * rank)


def draw_requant(draw, net, x, signed=None, per_channel=True):
    """Multipliers and addends per channel, in the shapes that exporters write, or one for all."""
    shape = net.shapes[x]
    kinds = [()]
    if per_channel:
        kinds += [(shape[1],)] if len(shape) == 2 else [(shape[1], 1, 1), (1, shape[1], *(1,) * (len(shape) - 2))]
    kind = draw(st.sampled_from(kinds))
    multiplier, addend = (net.constant(draw_array(draw, kind, values))
                          for values in (st.integers(-40, 60), st.integers(-5000, 5000)))
    signed = draw(st.booleans()) if signed is None else signed
    about = {draw(st.sampled_from(["n_levels", "n_levels_out"])): draw(st.sampled_from([2, 4, 10, 120, 256, 256, 300])),
             "div": 2 ** draw(st.integers(0, 12)), "signed": int(signed)}
    return net.add("RequantShift", x, multiplier, addend, **{key: whole(value) for key, value in about.items()})


def draw_pool(draw, net, x):
    sides = net.shapes[x][2:]
    taps = [draw(st.integers(1, min(2, side))) for side in sides]
    pads = [draw(st.integers(0, tap - 1)) for tap in taps] * 2
    strides = [draw(st.integers(1, 2)) for _ in sides]
    shape = [(side + 2 * pad - tap) // step + 1 for side, tap, pad, step in zip(sides, taps, pads, strides, strict=False)]
    return net.add("MaxPool", x, shape=(*net.shapes[x][:2], *shape), kernel_shape=taps, strides=strides, pads=pads)


def draw_residual(draw, net, x):
    """Of two tensors, or with constants on either side."""
    kind = draw(st.sampled_from(["Add", "Sub", "Mul"]))
    both = [draw_requant(draw, net, x) for _ in range(2)]
    if (place := draw(st.sampled_from([None, 0, 1]))) is not None:
        both[place] = net.constant(draw_array(draw, draw(st.sampled_from([(), (1,), net.shapes[x]]))))
    return draw_requant(draw, net, net.add(kind, *both, shape=net.shapes[x]))


def draw_turned(draw, net, x):
    order = draw(st.permutations(range(1, len(net.shapes[x]))))
    shape = net.shapes[x]
    return net.add("Transpose", x, shape=(1, *(shape[a] for a in order)), perm=[0, *order])


def draw_concat(draw, net, x):
    shape, axis = net.shapes[x], draw(st.integers(1, len(net.shapes[x]) - 1))
    other = draw_requant(draw, net, x)
    return net.add("Concat", x, other, shape=[2 * side if a == axis else side for a, side in enumerate(shape)], axis=axis)


def draw_mean(draw, net, x):
    rank = len(net.shapes[x])
    axes = sorted(draw(st.sets(st.integers(1, rank - 1), min_size=1)))
    shape = [1 if a in axes else side for a, side in enumerate(net.shapes[x])]
    return net.add("IntegerMean", x, shape=shape, axes=axes, keepdims=1)


def draw_sum(draw, net, x):
    rank = len(net.shapes[x])
    axes = sorted(draw(st.sets(st.integers(1, rank - 1), min_size=1)))
    shape = [1 if a in axes else side for a, side in enumerate(net.shapes[x])]
    return draw_requant(draw, net, net.add("ReduceSum", x, shape=shape, axes=axes, keepdims=1))


def draw_part(draw, net, x):
    """A Slice of two axes, or a Gather at even distances."""
    shape, rank = list(net.shapes[x]), len(net.shapes[x])
    if draw(st.booleans()):
        axis = draw(st.sampled_from([max(int(np.argmax(shape)), 1), *range(1, rank)]))
        start = draw(st.integers(0, shape[axis] // 3))
        indices = list(range(start, shape[axis], draw(st.integers(1, 3))))
        shape[axis] = len(indices)
        about = {"axis": draw(st.sampled_from([axis, axis - rank]))}
        return net.add("Gather", x, net.constant(indices, np.int64), shape=shape, **about)
    axes = draw(st.permutations(range(1, rank)))[:2]
    starts = [draw(st.integers(0, shape[a] - 1)) for a in axes]
    stops = [draw(st.integers(start + 1, shape[a])) for a, start in zip(axes, starts, strict=True)]
    steps = [draw(st.integers(1, 3)) for _ in axes]
    for a, *part in zip(axes, starts, stops, steps, strict=True):
        shape[a] = len(range(*part))
    return net.add("Slice", x, *(net.constant(part, np.int64) for part in (starts, stops, axes, steps)), shape=shape)


def draw_squeezed(draw, net, x):
    """With one more axis, which is taken away again."""
    shape, axis = net.shapes[x], draw(st.integers(1, len(net.shapes[x])))
    wide = net.add("Unsqueeze", x, shape=(*shape[:axis], 1, *shape[axis:]), axes=[axis])
    return net.add("Squeeze", wide, shape=shape, axes=[axis])


def draw_division(draw, net, x):
    """By unsigned codes, or their mean along an axis; or by a constant."""
    above = draw_requant(draw, net, x)
    numbers = {"Delta": draw(st.integers(1, 300)), "eta": draw(st.integers(1, 20)), "eps": draw(st.integers(1, 3))}
    if draw(st.booleans()):
        return draw_requant(draw, net, net.add("TrueIntegerDiv", above, y=draw(st.integers(1, 9)), **numbers))
    below = draw_requant(draw, net, x, signed=False)
    below = draw_mean(draw, net, below) if draw(st.booleans()) else below
    return draw_requant(draw, net, net.add("IntegerDiv", above, below, **numbers))


def draw_activation(draw, net, x):
    if draw(st.booleans()):
        wide = net.add("iGELU", x, b=draw(st.integers(-99, -1)), one=draw(st.integers(0, 3000)))
    else:
        wide = net.add("iHardswish", x, three=draw(st.integers(0, 99)), six=draw(st.integers(1, 200)),
                       one_over_six=draw(st.integers(1, 50)))
    return draw_requant(draw, net, wide)


def draw_softmax(draw, net, x):
    if draw(st.booleans()):
        return net.add("ITAMax", x, n_levels=whole(256))
    about = {"coeffA": 1, "coeffB": draw(st.integers(1, 300)), "coeffC": draw(st.integers(1, 60000)),
             "log2": draw(st.integers(1, 255)), "n_levels": 256}
    return net.add("iSoftmax", x, **{key: whole(value) for key, value in about.items()})


def draw_norm(draw, net, x):
    width = net.shapes[x][-1]
    about = {"D": whole(draw(st.sampled_from([1, 7, 4096]))), "n_levels": whole(256)}
    kind = draw(st.sampled_from(["iLayerNorm", "iRMSNorm", "iNoNorm"]))
    if kind == "iNoNorm":
        weight = draw_array(draw, net.shapes[x][1:], st.integers(-99, 99))
        return net.add(kind, x, net.constant(weight), net.constant(draw_array(draw, (width,), st.integers(-999, 999))),
                       mul=whole(draw(st.integers(1, 500))), **about)
    count = 2 if kind == "iLayerNorm" else 1
    constants = [net.constant(draw_array(draw, (width,), st.integers(-9999, 9999))) for _ in range(count)]
    return net.add(kind, x, *constants, **about)


def draw_linear(draw, net, x, made):
    sums = net.add("MatMul", x, net.constant(draw_array(draw, (net.shapes[x][-1], made))), shape=(*net.shapes[x][:-1], made))
    return draw_requant(draw, net, sums, per_channel=False)


def draw_heads(draw, net, x, heads, made, order):
    """[1, T, F] -> a linear layer -> [1, heads, T, made], its last axes in `order`."""
    tokens = net.shapes[x][1]
    y = draw_linear(draw, net, x, heads * made)
    y = net.add("Reshape", y, net.constant([1, tokens, heads, made], np.int64), shape=(1, tokens, heads, made))
    shape = net.shapes[y]
    return net.add("Transpose", y, shape=[shape[a] for a in order], perm=list(order))


@st.composite
def transformers(draw):
    """Attention of a few heads, a norm, an activation."""
    tokens, heads, depth = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    net = Net((1, tokens, draw(st.integers(1, 4))))
    x = draw_norm(draw, net, "x") if draw(st.booleans()) else "x"
    queries = draw_heads(draw, net, x, heads, depth, (0, 2, 1, 3))
    keys = draw_heads(draw, net, x, heads, depth, (0, 2, 3, 1))
    values = draw_heads(draw, net, x, heads, depth, (0, 2, 1, 3))
    scores = net.add("MatMul", queries, keys, shape=(1, heads, tokens, tokens))
    scores = draw_softmax(draw, net, draw_requant(draw, net, scores, per_channel=False))
    y = draw_requant(draw, net, net.add("MatMul", scores, values, shape=(1, heads, tokens, depth)), per_channel=False)
    y = net.add("Transpose", y, shape=(1, tokens, heads, depth), perm=[0, 2, 1, 3])
    y = net.add("Reshape", y, net.constant([0, -1, heads * depth], np.int64), shape=(1, tokens, heads * depth))
    for step in draw(st.lists(st.sampled_from([draw_norm, draw_activation]), max_size=2)):
        y = step(draw, net, y)
    if draw(st.booleans()):
        y = net.add("IntegerMean", y, shape=(1, net.shapes[y][-1]), axes=[1], keepdims=0)
    return net.model(y), y, draw(st.sampled_from([S8, U8]))


def draw_layer(draw, net, x):
    return draw_requant(draw, net, draw_conv(draw, net, x))


def draw_end(draw, net, x):
    """Flat, then a Gemm or a MatMul with an Add, then codes."""
    count = int(np.prod(net.shapes[x]))
    flat = net.add("Flatten", x, shape=(1, count), axis=1) if draw(st.booleans()) else net.add(
        "Reshape", x, net.constant([1, -1], np.int64), shape=(1, count))
    made = draw(st.integers(1, 3))
    if draw(st.booleans()):
        sums = net.add("Gemm", flat, net.constant(draw_array(draw, (made, count))), net.constant(draw_array(draw, (made,))),
                       shape=(1, made), transB=1, alpha=float(draw(st.integers(1, 3))), beta=float(draw(st.integers(0, 3))))
    else:
        product = net.add("MatMul", flat, net.constant(draw_array(draw, (count, made))), shape=(1, made))
        sums = net.add("Add", net.constant(draw_array(draw, (made,))), product, shape=(1, made))
    return draw_requant(draw, net, sums) if draw(st.booleans()) else sums


STEPS = (draw_layer, draw_pool, draw_residual, draw_turned, draw_concat, draw_mean, draw_sum, draw_part, draw_squeezed,
         draw_division, draw_activation)


@st.composite
def deeploys(draw, step):
    """A model with such a step in it, the name of its output, and the format of its input."""
    sides = draw(st.lists(st.integers(2, 5), min_size=1, max_size=2))
    net = Net((1, draw(st.integers(1, 3)), *sides))
    x = draw_layer(draw, net, "x")
    for each in (step, *draw(st.lists(st.sampled_from(STEPS), max_size=2))):
        x = each(draw, net, x)
    x = draw_end(draw, net, x) if draw(st.booleans()) else x
    return net.model(x), x, draw(st.sampled_from([S8, U8]))


def draw_samples(draw, shape, form):
    """Two samples, one of them at the ends of the format."""
    ends = st.sampled_from([form.min, form.max])
    return np.stack([draw_array(draw, shape[1:], ends), draw_array(draw, shape[1:], st.integers(form.min, form.max))])


def draw_nemo_layer(draw, net, x):
    """Conv, batch norm, division of integers, clip; divisors that are no powers of 2, too."""
    y = draw_conv(draw, net, x)
    channels, rest = net.shapes[y][1], (1,) * (len(net.shapes[y]) - 2)
    kappa, lamda = (net.constant(draw_array(draw, (1, channels, *rest), st.integers(-most, most))) for most in (60, 9000))
    y = net.add("Add", net.add("Mul", kappa, y, shape=net.shapes[y]), lamda)
    y = net.add("Mul", net.add("Cast", y, to=7), net.constant([draw(st.integers(1, 60))], np.int64))
    divisor = draw(st.one_of(st.integers(1, 9), st.sampled_from([255, 256, 4095, 4096])))
    y = net.add("Div", y, net.constant([divisor], np.int64))
    for _ in range(draw(st.integers(0, 1))):
        y = net.add("Cast", y, to=7)
    low = draw(st.sampled_from([0.0, 0.0, -128.0]))
    return net.add("Clip", net.add("Cast", y, to=1), min=low, max=low + 255.0)


def draw_nemo_residual(draw, net, x):
    """Both branches times a number, added, divided as floats, rounded down."""
    both = [net.add("Mul", x, net.constant(draw(st.integers(-50, 60)))) for _ in range(2)]
    total = net.add("Add", *both)
    y = net.add("Div", total, net.constant(draw(st.integers(1, 130))))
    if draw(st.booleans()):
        y = net.add("Add", y, net.constant(draw(small)))
    y = net.add("Floor", y)
    if draw(st.booleans()):
        y = net.add("Mul", net.add("Cast", y, to=7), net.constant([draw(st.integers(1, 60))], np.int64))
        y = net.add("Cast", net.add("Div", y, net.constant([draw(st.sampled_from([31, 32]))], np.int64)), to=1)
    return net.add("Clip", y, min=0.0, max=255.0) if draw(st.booleans()) else y


def draw_nemo_mean(draw, net, x):
    """A mean as NEMO exports it: times the count, times a number, divided, rounded down."""
    sides = net.shapes[x][2:]
    taps = [draw(st.integers(1, min(2, side))) for side in sides]
    shape = (*net.shapes[x][:2], *(side - tap + 1 for side, tap in zip(sides, taps, strict=True)))
    y = net.add("AveragePool", x, shape=shape, kernel_shape=taps, strides=[1] * len(taps), pads=[0] * 2 * len(taps))
    y = net.add("Mul", net.add("Mul", y, net.constant(int(np.prod(taps)))), net.constant(draw(st.integers(1, 99))))
    return net.add("Floor", net.add("Div", y, net.constant(draw(st.sampled_from([100, 127, 128])))))


def draw_nemo_pad(draw, net, x):
    """Around rows and columns alone."""
    rank = len(net.shapes[x])
    pads = [0, 0, *draw(st.lists(st.integers(0, 3), min_size=rank - 2, max_size=rank - 2))] * 2
    shape = [side + pads[a] + pads[rank + a] for a, side in enumerate(net.shapes[x])]
    return draw_nemo_layer(draw, net, net.add("Pad", x, shape=shape, mode="constant", pads=pads, value=0.0))


def draw_quantlab_sum(draw, net, x):
    """An addition that requantizes its operands, its sum, or both."""
    ranges = {"rq": st.integers(0, 1), "mul": st.integers(1, 600), "add": st.integers(0, 999), "shift": st.integers(0, 9),
              "n_levels": st.sampled_from([16, 256])}
    about = {f"{part}_{key}": draw(numbers) for part in ("in1", "in2", "out") for key, numbers in ranges.items()}
    return net.add("Add", x, net.add("Clip", x, min=0.0, max=float(draw(st.integers(1, 200)))), **about)


NEMO_STEPS = (draw_nemo_layer, draw_pool, draw_nemo_residual, draw_nemo_mean, draw_nemo_pad, draw_quantlab_sum)


@st.composite
def nemos(draw, step):
    """The same of DORY's operators."""
    net = Net((1, draw(st.integers(1, 3)), *draw(st.lists(st.integers(2, 5), min_size=1, max_size=2))))
    x = draw_nemo_layer(draw, net, "x")
    for each in (step, *draw(st.lists(st.sampled_from(NEMO_STEPS), max_size=2))):
        x = each(draw, net, x)
    if draw(st.booleans()):
        count = int(np.prod(net.shapes[x]))
        flat = net.add("Flatten", x, shape=(1, count), axis=1)
        x = net.add("MatMul", flat, net.constant(draw_array(draw, (count, 2))), shape=(1, 2))
        if draw(st.booleans()):
            x = net.add("Unsqueeze", net.add("Sigmoid", x), shape=(1, 2, 1), axes=[2])
    return net.model(x), x, U8
