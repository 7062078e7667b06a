"""Whole networks in ONNX Runtime's int8, made of the same description as ours and quantized by its own tools.

A float graph with folded batch norms, then its static quantization: QuantizeLinear and DequantizeLinear around every
operation, unsigned codes, signed weights with a scale per channel, ranges found on random images.
"""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from bench.cases import MEAN, STD, NetworkCase, Work
from bench.impls.onnx_runtime import isa  # noqa: F401 - of this family, too
from bench.threads import THREADS
from sim.network import Conv, GlobalPool, Input, Lookup, MaxPool, Multiply, NetworkSpec, Requantize, Row

CALIBRATION_IMAGES = 8


def float_model(spec: NetworkSpec) -> onnx.ModelProto:
    """uint8 pixels [N, 3, H, W] -> float logits [N, classes, 1, 1]."""
    graph = _Graph(spec)
    for row in spec.graph.rows:
        _EMIT[type(row)](graph, row)
    image = spec.graph.input
    shape: list[str | int | None] = ["images", image.channels, image.height, image.width]
    last = spec.graph.rows[-1].name
    made = helper.make_graph(
        graph.nodes, "network", [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["images", spec.graph.classes, 1, 1])],
        [numpy_helper.from_array(array, name) for name, array in graph.arrays.items()])
    return helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


class _Graph:
    """Nodes in order, each named by its result, and constants."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        self.arrays[name] = np.asarray(value, np.float32)
        return name


def _input(graph: _Graph, row: Input) -> None:
    mean, std = (255.0 * np.array(values).reshape(1, -1, 1, 1) for values in (MEAN, STD))
    graph.add("Cast", "floats", "pixels", to=TensorProto.FLOAT)
    graph.add("Mul", "scaled", "floats", graph.constant("scale", 1.0 / std))
    graph.add("Add", row.name, "scaled", graph.constant("shift", -mean / std))


def _conv(graph: _Graph, row: Conv) -> None:
    weight, bias = _folded(graph.spec, row)
    inputs = [row.source, graph.constant(f"{row.name}.w", weight), graph.constant(f"{row.name}.b", bias)]
    top, bottom, left, right = row.window.paddings
    function = row.activation.function if row.activation else "none"
    ends = [("Conv", inputs, {"kernel_shape": list(weight.shape[2:]), "strides": [row.stride] * 2, "group": row.groups,
                              "pads": [top, left, bottom, right]})]
    if row.skip:
        ends.append(("Add", [row.skip], {}))
    if function == "relu":
        ends.append(("Relu", [], {}))
    if function == "relu6":
        limits = [graph.constant(f"{row.name}.{name}", value) for name, value in (("low", 0.0), ("high", 6.0))]
        ends.append(("Clip", limits, {}))
    before: list[str] = []
    for index, (kind, others, attributes) in enumerate(ends):
        name = row.name if index == len(ends) - 1 else f"{row.name}.{kind}"
        before = [graph.add(kind, name, *before, *others, **attributes)]


def _folded(spec: NetworkSpec, row: Conv) -> tuple[np.ndarray, np.ndarray]:
    """Weights between -1 and 1, as DoReFa has them, and their bias, with the batch norm in both."""
    weight = np.tanh(spec.array(row, "weight").astype(np.float64))
    weight /= np.abs(weight).max()
    if not row.norm:
        return weight, spec.array(row, "bias") if row.bias else np.zeros(row.channels)
    gamma, beta, mean, variance = (spec.array(row, f"norm.{name}").astype(np.float64)
                                   for name in ("weight", "bias", "running_mean", "running_var"))
    gain = gamma / np.sqrt(variance + row.eps)
    return weight * gain.reshape(-1, 1, 1, 1), beta - mean * gain


def _lookup(graph: _Graph, row: Lookup) -> None:
    if row.function == "silu":
        graph.add("Mul", row.name, row.source, graph.add("Sigmoid", f"{row.name}.sigmoid", row.source))
    elif row.function == "sigmoid":
        graph.add("Sigmoid", row.name, row.source)
    else:
        raise NotImplementedError(f"{row.name}: {row.function}")


def _requantize(graph: _Graph, row: Requantize) -> None:
    """Formats are the quantizer's business; a name for the same values."""
    graph.add("Identity", row.name, row.source)


def _maxpool(graph: _Graph, row: MaxPool) -> None:
    graph.add("MaxPool", row.name, row.source, kernel_shape=[row.kernel] * 2, strides=[row.stride] * 2,
              pads=[row.padding] * 4)


_EMIT: Mapping[type[Row], Callable[[_Graph, Any], object]] = MappingProxyType({
    Input: _input, Conv: _conv, Lookup: _lookup, Requantize: _requantize, MaxPool: _maxpool,
    GlobalPool: lambda graph, row: graph.add("GlobalAveragePool", row.name, row.source),
    Multiply: lambda graph, row: graph.add("Mul", row.name, row.source, row.other)})


class _RandomImages(CalibrationDataReader):
    """A few of them, one by one."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._images = iter(pixels[:, np.newaxis])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next, or None."""
        image = next(self._images, None)
        return None if image is None else {"pixels": image}


def quantized_model(spec: NetworkSpec, pixels: np.ndarray) -> bytes:
    """The int8 model of a network, ranges as on `pixels` uint8 [N, 3, H, W]."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        plain, simple, quantized = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "simple", "quantized"))
        onnx.save(float_model(spec), plain)
        options.optimized_model_filepath = simple  # without Identity, with Clip and Relu where they were
        onnxruntime.InferenceSession(plain, options, providers=["CPUExecutionProvider"])
        quantize_static(simple, quantized, _RandomImages(pixels), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        return Path(quantized).read_bytes()


def network(case: NetworkCase) -> Work:
    """From pixels to logits, channels first as the tools have it; ONNX Runtime turns them inside."""
    pixels = np.ascontiguousarray(case.pixels().transpose(0, 3, 1, 2))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    model = quantized_model(case.spec(8), pixels[:CALIBRATION_IMAGES])
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Work(partial(_run, session, pixels, case), case.images)


def _run(session: onnxruntime.InferenceSession, pixels: np.ndarray, case: NetworkCase) -> np.ndarray:
    return np.concatenate([session.run(None, {"pixels": pixels[start : start + case.batch]})[0] for start in case.starts()])


BUILD = {"onnxruntime int8": {"imagenet": network}}
