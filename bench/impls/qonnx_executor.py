"""QONNX's own executor on ResNet-20 W3A3, written as a QONNX graph with Quant nodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from bench.cases import NetworkCase, Work, resnet20_spec
from sim.network import Activation, AvgPool, Conv, Input, NetworkSpec, Requantize, Row, Shortcut

DOMAIN = "qonnx.custom_op.general"
IMAGES = 1
"""It takes a third of a second for each."""


def isa() -> str:
    """It executes node by node in ONNX Runtime and numpy."""
    return "ONNX Runtime's choice"


@dataclass
class _Builder:
    """Nodes and constants, row by row; a row's output is the tensor of its name."""

    spec: NetworkSpec
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def quant(self, x: str, output: str, bits: int, scale: float, signed: int) -> str:
        parts = {"scale": scale, "zero": 0.0, "bits": float(bits)}
        names = [self.constant(f"{output}_{part}", np.float32(value)) for part, value in parts.items()]
        return self.node("Quant", [x, *names], output, domain=DOMAIN, signed=signed, narrow=signed, rounding_mode="ROUND")

    def activation(self, activation: Activation, x: str, row: str) -> str:
        bits = self.spec.precision.activation_bits(activation.role, row)
        relu = self.node("Relu", [x], f"{row}_relu")
        return self.quant(relu, row, bits, activation.limit / (2**bits - 1), signed=0)

    def input(self, row: Input) -> None:
        mean = self.constant("mean", np.float32(255.0) * np.array(row.mean, np.float32).reshape(1, -1, 1, 1))
        std = self.constant("std", np.float32(255.0) * np.array(row.std, np.float32).reshape(1, -1, 1, 1))
        centered = self.node("Sub", ["pixels", mean], "centered")
        normalized = self.node("Div", [centered, std], "normalized")
        self.quant(normalized, row.name, self.spec.precision.activation_bits("boundary", row.name), 2.0 / 127, signed=1)

    def conv(self, row: Conv) -> None:
        name, weight, bits = row.name, self.spec.array(row, "weight"), self.spec.precision.weight_bits(row.role, row.name)
        scale = float(np.abs(weight).max()) / (2 ** (bits - 1) - 1)
        kernel = self.quant(self.constant(f"{name}_w", weight), f"{name}_wq", bits, scale, signed=1)
        bias = [self.constant(f"{name}_b", self.spec.array(row, "bias"))] if row.bias else []
        x = self.node("Conv", [row.source, kernel, *bias], f"{name}_sums", kernel_shape=[row.kernel] * 2,
                      strides=[row.stride] * 2, pads=[row.padding] * 4)
        if row.norm:
            norm = [self.constant(f"{name}_{part}", self.spec.array(row, f"norm.{part}"))
                    for part in ("weight", "bias", "running_mean", "running_var")]
            x = self.node("BatchNormalization", [x, *norm], f"{name}_norm")
        if row.skip:
            x = self.node("Add", [x, row.skip], f"{name}_residual")
        if row.activation is None:
            self.node("Flatten", [x], name)
        else:
            self.activation(row.activation, x, row.name)

    def requantize(self, row: Requantize) -> None:
        self.activation(row.activation, row.source, row.name)

    def shortcut(self, row: Shortcut) -> None:
        parts = {"starts": [0, 0], "ends": [2**31, 2**31], "axes": [2, 3], "steps": [row.stride] * 2}
        names = [self.constant(f"{row.name}_{part}", np.array(value, np.int64)) for part, value in parts.items()]
        x = self.node("Slice", [row.source, *names], f"{row.name}_slice")
        added = row.channels // 4  # half of the channels are new, half of those stand before the old ones
        pads = self.constant(f"{row.name}_pads", np.array([0, added, 0, 0] * 2, np.int64))
        self.node("Pad", [x, pads], row.name)

    def avgpool(self, row: AvgPool) -> None:
        x = self.node("AveragePool", [row.source], f"{row.name}_mean", kernel_shape=list(row.window),
                      strides=[row.stride] * 2)
        self.activation(row.activation, x, row.name)


_ROWS: Mapping[type[Row], Callable[[_Builder, Any], None]] = MappingProxyType({
    Input: _Builder.input, Conv: _Builder.conv, Requantize: _Builder.requantize, Shortcut: _Builder.shortcut,
    AvgPool: _Builder.avgpool})


def network(case: NetworkCase) -> Work:
    """One image a call."""
    builder = _Builder(resnet20_spec(3))
    for row in builder.spec.graph.rows:
        _ROWS[type(row)](builder, row)
    graph = helper.make_graph(
        builder.nodes, "resnet20", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [IMAGES, 3, 32, 32])],
        [helper.make_tensor_value_info("classifier", TensorProto.FLOAT, [IMAGES, 10])],
        [numpy_helper.from_array(value, name) for name, value in builder.constants.items()])
    model = helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)])
    wrapper = ModelWrapper(model).transform(InferShapes())
    pixels = np.ascontiguousarray(case.pixels()[:IMAGES].transpose(0, 3, 1, 2).astype(np.float32))
    return Work(partial(execute_onnx, wrapper, {"pixels": pixels}), IMAGES, 1, {"images a call": IMAGES})


BUILD = {"QONNX W3A3": {"network": network}}
