"""Random quantized ONNX networks, in QDQ and QOperator form: small graphs of every operator that ORT has in integers."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import assume
from hypothesis import strategies as st
from onnx import TensorProto, helper

TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Tensor:
    """Codes: their name, sides without the batch axis, scale and zero point (names of constants and values)."""

    name: str
    dims: tuple[int, ...]
    scale: np.float32
    zero: int


@dataclass
class Network:
    """Nodes and constants so far; `form` is "qdq" or "qoperator", `dtype` that of all codes."""

    form: str
    dtype: Any
    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    made: int = 0

    def fresh(self, stem: str) -> str:
        self.made += 1
        return f"{stem}{self.made}"

    def constant(self, stem: str, value: Any) -> str:
        name = self.fresh(stem)
        self.constants[name] = np.asarray(value)
        return name

    def pair(self, tensor: Tensor) -> list[str]:
        """Names of scale and zero point."""
        return [self.constant("scale", tensor.scale), self.constant("zero", self.dtype(tensor.zero))]

    def real(self, tensor: Tensor) -> str:
        """The tensor dequantized, for one reader."""
        name = self.fresh("float")
        self.nodes.append(helper.make_node("DequantizeLinear", [tensor.name, *self.pair(tensor)], [name]))
        return name

    def weights(self, codes: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 0) -> str:
        name = self.fresh("float")
        inputs = [self.constant("w", codes), self.constant("scale", scale), self.constant("zero", zero)]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
        return name

    def quantized(self, real: str, tensor: Tensor) -> Tensor:
        self.nodes.append(helper.make_node("QuantizeLinear", [real, *self.pair(tensor)], [tensor.name]))
        self.tensors.append(tensor)
        return tensor

    def operator(self, kind: str, inputs: list[str], tensor: Tensor, domain: str = MICROSOFT, **attributes: Any) -> Tensor:
        self.nodes.append(helper.make_node(kind, inputs, [tensor.name], domain=domain, **attributes))
        self.tensors.append(tensor)
        return tensor

    def model(self, source: Tensor, opset: int = 17) -> onnx.ModelProto:
        """Every tensor is an output: codes, or in QDQ form float32 of them.

        A quantizer whose codes are an output would keep ORT from making bytes of signed bytes, without which it runs int8
        activations in float32 on x86.
        """
        info, kind = helper.make_tensor_value_info, TYPES[self.dtype]
        shown = [t for t in self.tensors if t is not source or self.form == "qdq"]
        outputs = [info(t.name, kind, ["N", *t.dims]) for t in shown]
        first, read = info(source.name, kind, ["N", *source.dims]), []
        if self.form == "qdq":
            first = info("x_float", TensorProto.FLOAT, ["N", *source.dims])
            read = [helper.make_node("QuantizeLinear", ["x_float", *self.pair(source)], ["x"])]
            for t in shown:
                self.nodes.append(helper.make_node("DequantizeLinear", [t.name, *self.pair(t)], [f"{t.name}_shown"]))
            outputs = [info(f"{t.name}_shown", TensorProto.FLOAT, ["N", *t.dims]) for t in shown]
        graph = helper.make_graph(
            [*read, *self.nodes], "random", [first], outputs,
            [onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)])
        model.ir_version = 8
        return model


@st.composite
def networks(draw: Any, form: str | None = None) -> tuple[onnx.ModelProto, Tensor, np.random.Generator]:
    """A model, its input, and where arrays come from."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    net = Network(form or draw(st.sampled_from(["qdq", "qoperator"])), draw(st.sampled_from([np.uint8, np.int8])), rng)
    dims = (draw(st.integers(1, 4)), draw(st.integers(3, 8)), draw(st.integers(3, 8)))
    source = Tensor("x", dims, _scale(net), _zero(net))
    net.tensors.append(source)
    for _ in range(draw(st.integers(1, 6))):
        build = draw(st.sampled_from(BUILDERS))
        x = draw(st.sampled_from(net.tensors[-2:]))
        build(draw, net, x)
    if len(net.tensors) == 1:
        _conv(draw, net, source)
    return net.model(source), source, rng


def _scale(net: Network) -> np.float32:
    return np.float32(10.0 ** net.rng.uniform(-2.5, -0.5))


def _zero(net: Network) -> int:
    info = np.iinfo(net.dtype)
    return int(net.rng.choice([info.min, info.max, info.min + 128, *net.rng.integers(info.min, info.max + 1, 3)]))


def _out(net: Network, dims: tuple[int, ...], scale: Any = None, zero: int | None = None) -> Tensor:
    return Tensor(net.fresh("t"), dims, np.float32(_scale(net) if scale is None else scale),
                  _zero(net) if zero is None else zero)


def _weights(draw: Any, net: Network, shape: tuple[int, ...], channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales, zero points."""
    signed = net.dtype == np.int8 or draw(st.booleans())
    dtype = np.int8 if signed else np.uint8
    info = np.iinfo(dtype)
    codes = net.rng.integers(info.min, info.max + 1, shape).astype(dtype)
    if draw(st.integers(0, 4)) == 0:
        codes[...] = net.rng.choice([info.min, info.max], shape)
    each = channels if draw(st.booleans()) else 1
    scales = (10.0 ** net.rng.uniform(-3, -1.5, each)).astype(np.float32)
    zero = 0 if signed and draw(st.booleans()) else int(net.rng.integers(info.min, info.max + 1))
    return codes, scales, np.full(each, zero, dtype)


def _conv(draw: Any, net: Network, x: Tensor) -> None:
    if len(x.dims) != 3:
        return
    channels, height, width = x.dims
    taps = draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width)))
    strides, dilation = [draw(st.integers(1, 2)), draw(st.integers(1, 2))], draw(st.sampled_from([1, 1, 2]))
    pads = [draw(st.integers(0, tap - 1)) for tap in (*taps, *taps)]
    reach = [(tap - 1) * dilation + 1 for tap in taps]
    sides = [(side + pads[i] + pads[i + 2] - reach[i]) // strides[i] + 1 for i, side in enumerate((height, width))]
    if min(sides) < 1:
        return
    groups = draw(st.sampled_from([1, 1, channels]))
    outputs = groups * draw(st.integers(1, 3))
    codes, scales, zeros = _weights(draw, net, (outputs, channels // groups, *taps), outputs)
    bias = net.rng.integers(-5000, 5001, outputs).astype(np.int32) if draw(st.booleans()) else None
    depth = float(np.sqrt(channels // groups * taps[0] * taps[1]))
    tensor = _out(net, (outputs, *sides), float(x.scale) * float(scales.mean()) * 60 * depth * 10.0 ** net.rng.uniform(-0.7,
                                                                                                                       0.7))
    attributes = {"pads": pads, "strides": strides, "dilations": [dilation] * 2, "group": groups, "kernel_shape": list(taps)}
    more = [] if bias is None else [bias]
    if net.form == "qoperator":
        net.operator("QLinearConv", [x.name, *net.pair(x), net.constant("w", codes), net.constant("s", scales),
                                     net.constant("z", zeros), *net.pair(tensor), *(net.constant("b", b) for b in more)],
                     tensor, "", **attributes)
        return
    inputs = [net.real(x), net.weights(codes, scales if scales.size > 1 else scales[0],
                                       zeros if scales.size > 1 else zeros[0])]
    for b in more:
        own = (x.scale * scales).astype(np.float32)
        inputs.append(net.weights(b, own if own.size > 1 else own[0], np.zeros(own.size,
                                                                               np.int32)[0 if own.size == 1 else ...]))
    _float(draw, net, "Conv", inputs, tensor, **attributes)


def _float(draw: Any, net: Network, kind: str, inputs: list[str], tensor: Tensor, **attributes: Any) -> None:
    """A float operator between quantizers, perhaps with a Relu that the clamp makes redundant."""
    name = net.fresh("float")
    net.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
    if tensor.zero == np.iinfo(net.dtype).min and kind in ("Conv", "Gemm", "MatMul", "Add") and draw(st.booleans()):
        net.nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"]))
        name = f"{name}_relu"
    net.quantized(name, tensor)


def _two(kind: str) -> Any:
    def build(draw: Any, net: Network, x: Tensor) -> None:
        others = [t for t in net.tensors
                  if t.dims == x.dims or (len(t.dims) == 3 and len(x.dims) == 3 and t.dims[0] == x.dims[0]
                                                                 and t.dims[1:] == (1, 1))]
        y = draw(st.sampled_from(others))
        a, b = (x, y) if draw(st.booleans()) else (y, x)
        tensor = _out(net, x.dims)
        if net.form == "qoperator":
            net.operator(f"QLinear{kind}", [a.name, *net.pair(a), b.name, *net.pair(b), *net.pair(tensor)], tensor)
        else:
            _float(draw, net, kind, [net.real(a), net.real(b)], tensor)
    return build


def _constant_two(draw: Any, net: Network, x: Tensor) -> None:
    kind = draw(st.sampled_from(["Add", "Mul"]))
    info = np.iinfo(net.dtype)
    shape = draw(st.sampled_from([(1,), (x.dims[0], *([1] * (len(x.dims) - 1))), (1, *x.dims)]))
    codes = net.rng.integers(info.min, info.max + 1, shape).astype(net.dtype)
    scale, zero = _scale(net), net.dtype(_zero(net))
    tensor = _out(net, x.dims)
    if net.form == "qoperator":
        net.operator(f"QLinear{kind}", [x.name, *net.pair(x), net.constant("c", codes), net.constant("s", scale),
                                        net.constant("z", zero), *net.pair(tensor)], tensor)
    else:
        _float(draw, net, kind, [net.real(x), net.weights(codes, scale, zero)], tensor)


def _unary(kind: str, **attributes: Any) -> Any:
    def build(draw: Any, net: Network, x: Tensor) -> None:
        tensor = _out(net, x.dims)
        if net.form == "qoperator":
            if kind in ("Sigmoid", "LeakyRelu"):
                net.operator(f"QLinear{kind}", [x.name, *net.pair(x), *net.pair(tensor)], tensor, **attributes)
        else:
            _float(draw, net, kind, [net.real(x)], tensor, **attributes)
    return build


def _softmax(draw: Any, net: Network, x: Tensor) -> None:
    assume(x.dims[-1] > 1)  # of a single code the runtime's own table leaves float32
    tensor = _out(net, x.dims, 1 / 256, int(np.iinfo(net.dtype).min))
    if net.form == "qoperator":
        net.operator("QLinearSoftmax", [x.name, *net.pair(x), *net.pair(tensor)], tensor, axis=-1, opset=17)
    else:
        _float(draw, net, "Softmax", [net.real(x)], tensor, axis=-1)


def _pool(draw: Any, net: Network, x: Tensor) -> None:
    if len(x.dims) != 3:
        return
    taps = [draw(st.integers(1, min(3, side))) for side in x.dims[1:]]
    strides = [draw(st.integers(1, 2)) for _ in taps]
    pads = [draw(st.integers(0, tap - 1)) for tap in (*taps, *taps)]
    sides = tuple((side + pads[i] + pads[i + 2] - taps[i]) // strides[i] + 1 for i, side in enumerate(x.dims[1:]))
    attributes: dict[str, Any] = {"kernel_shape": taps, "strides": strides, "pads": pads}
    kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    if kind == "MaxPool":
        tensor = _out(net, (x.dims[0], *sides), x.scale, x.zero)
        if net.form == "qoperator":
            net.operator("MaxPool", [x.name], tensor, "", **attributes)
        else:
            _float(draw, net, "MaxPool", [net.real(x)], tensor, **attributes)
        return
    attributes["count_include_pad"] = draw(st.integers(0, 1))
    tensor = _out(net, (x.dims[0], *sides), float(x.scale) * 10.0 ** net.rng.uniform(-0.5, 0.5))
    if net.form == "qoperator":
        net.operator("QLinearAveragePool", [x.name, *net.pair(x), *net.pair(tensor)], tensor, **attributes)
    else:
        _float(draw, net, kind, [net.real(x)], tensor, **attributes)


def _global(draw: Any, net: Network, x: Tensor) -> None:
    if len(x.dims) != 3:
        return
    tensor = _out(net, (x.dims[0], 1, 1), float(x.scale) * 10.0 ** net.rng.uniform(-0.7, 0.3))
    if net.form == "qoperator":
        net.operator("QLinearGlobalAveragePool", [x.name, *net.pair(x), *net.pair(tensor)], tensor, channels_last=0)
    else:
        _float(draw, net, "GlobalAveragePool", [net.real(x)], tensor)


def _concat(draw: Any, net: Network, x: Tensor) -> None:
    axis = draw(st.integers(1, len(x.dims)))
    fits = [t for t in net.tensors if len(t.dims) == len(x.dims)
            and all(a == b for place, (a, b) in enumerate(zip(t.dims, x.dims, strict=True), 1) if place != axis)]
    parts = [x, *draw(st.lists(st.sampled_from(fits), min_size=1, max_size=2))]
    dims = tuple(sum(t.dims[axis - 1] for t in parts) if place == axis else side for place, side in enumerate(x.dims, 1))
    tensor = _out(net, dims) if draw(st.booleans()) else _out(net, dims, x.scale, x.zero)
    if net.form == "qoperator":
        inputs = [name for t in parts for name in (t.name, *net.pair(t))]
        net.operator("QLinearConcat", [*net.pair(tensor), *inputs], tensor, axis=axis)
    else:
        _float(draw, net, "Concat", [net.real(t) for t in parts], tensor, axis=axis)


def _copies(draw: Any, net: Network, x: Tensor) -> None:
    kind = draw(st.sampled_from(["Transpose", "Flatten", "Reshape"]))
    count = int(np.prod(x.dims))
    more: list[str] = []
    if kind == "Transpose":
        order = draw(st.permutations(range(len(x.dims))))
        dims, attributes = tuple(x.dims[i] for i in order), {"perm": [0, *(i + 1 for i in order)]}
    elif kind == "Flatten":
        dims, attributes = (count,), {"axis": 1}
    else:
        first = draw(st.sampled_from([n for n in range(1, count + 1) if count % n == 0]))
        dims, attributes = (first, count // first), {}
        more = [net.constant("shape", np.array([0, first, -1]))]
    tensor = _out(net, dims, x.scale, x.zero)
    if net.form == "qoperator":
        net.operator(kind, [x.name, *more], tensor, "", **attributes)
    else:
        _float(draw, net, kind, [net.real(x), *more], tensor, **attributes)


def _product(draw: Any, net: Network, x: Tensor) -> None:
    depth, columns = x.dims[-1], draw(st.integers(1, 5))
    codes, scales, zeros = _weights(draw, net, (depth, columns), columns)
    tensor = _out(net, (*x.dims[:-1], columns), float(x.scale) * float(scales.mean()) * 60 * depth ** 0.5)
    kind = draw(st.sampled_from(["MatMul", "Gemm"])) if len(x.dims) == 1 and net.form == "qdq" else "MatMul"
    if net.form == "qoperator":
        net.operator("QLinearMatMul", [x.name, *net.pair(x), net.constant("w", codes), net.constant("s", scales),
                                       net.constant("z", zeros), *net.pair(tensor)], tensor, "")
        return
    turn = kind == "Gemm" and draw(st.booleans())
    wide = scales.size > 1
    weights = net.weights(codes.T.copy() if turn else codes, scales if wide else scales[0], zeros if wide else zeros[0],
                          0 if turn else 1)
    inputs, attributes = [net.real(x), weights], {"transB": int(turn)} if kind == "Gemm" else {}
    if kind == "Gemm":
        bias, own = net.rng.integers(-5000, 5001, columns).astype(np.int32), (x.scale * scales).astype(np.float32)
        inputs.append(net.weights(bias, own if wide else own[0], np.zeros(columns, np.int32) if wide else np.int32(0)))
    _float(draw, net, kind, inputs, tensor, **attributes)


def _activations(draw: Any, net: Network, x: Tensor) -> None:
    """A tensor times its own transpose."""
    if len(x.dims) != 3:
        return
    turned = _out(net, (x.dims[0], x.dims[2], x.dims[1]), x.scale, x.zero)
    tensor = _out(net, (x.dims[0], x.dims[1], x.dims[1]), float(x.scale) ** 2 * 80 * x.dims[2])
    if net.form == "qoperator":
        net.operator("Transpose", [x.name], turned, "", perm=[0, 1, 3, 2])
        net.operator("QLinearMatMul", [x.name, *net.pair(x), turned.name, *net.pair(turned), *net.pair(tensor)], tensor, "")
    else:
        _float(draw, net, "Transpose", [net.real(x)], turned, perm=[0, 1, 3, 2])
        _float(draw, net, "MatMul", [net.real(x), net.real(turned)], tensor)


BUILDERS = [_conv, _conv, _conv, _two("Add"), _two("Mul"), _constant_two, _unary("Sigmoid"), _unary("LeakyRelu", alpha=0.1),
            _softmax, _pool, _pool, _global, _concat, _copies, _product, _activations]
