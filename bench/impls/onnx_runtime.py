"""ONNX Runtime's integer convolutions, each a model of one node."""

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.cases import ConvCase, Work
from bench.threads import THREADS
from sim.kernels.isa import AVX_VNNI, available


def isa() -> str:
    """It looks at the processor itself and does not tell; lost sums it never mentions."""
    loss = "" if AVX_VNNI in available() else ", no dot product: pairs of products saturate at 16 bits: wrong codes"
    return f"ONNX Runtime's choice{loss}"


def qlinear(case: ConvCase) -> Work:
    """uint8 codes to uint8 codes, channels-last: the node that ONNX Runtime itself puts inside a quantized network."""
    one, zero = np.float32(1.0), np.uint8(0)
    constants = {
        "x_scale": one, "x_zero": zero, "w": _weights(case), "w_scale": np.ones(case.channels, np.float32),
        "w_zero": np.zeros(case.channels, np.int8), "y_scale": np.float32(1.0 / case.gain(8)), "y_zero": zero}
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], domain="com.microsoft", channels_last=1,
                            **_attributes(case))
    shape = [case.images, case.out_side, case.out_side, case.channels]
    return _work(case, node, constants, case.codes(8), TensorProto.UINT8, shape)


def integer(case: ConvCase) -> Work:
    """uint8 codes to int32 sums; the operator knows only channels-first."""
    constants = {"w": _weights(case), "x_zero": np.uint8(0)}
    node = helper.make_node("ConvInteger", ["x", *constants], ["y"], **_attributes(case))
    shape = [case.images, case.channels, case.out_side, case.out_side]
    return _work(case, node, constants, np.ascontiguousarray(case.codes(8).transpose(0, 3, 1, 2)), TensorProto.INT32, shape)


def _weights(case: ConvCase) -> np.ndarray:
    return np.ascontiguousarray(case.weights(8).transpose(3, 2, 0, 1))


def _attributes(case: ConvCase) -> dict[str, Any]:
    return {"kernel_shape": [case.kernel] * 2, "strides": [case.stride] * 2, "pads": [case.padding] * 4,
            "group": case.groups}


def _work(case: ConvCase, node: onnx.NodeProto, constants: dict[str, Any], x: np.ndarray,
          result: int, shape: list[int]) -> Work:
    graph = helper.make_graph(
        [node], "conv", [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", result, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Work(partial(_run, session, x), case.gmacs)


def _run(session: onnxruntime.InferenceSession, x: np.ndarray) -> np.ndarray:
    return session.run(None, {"x": x})[0]


BUILD = {"onnxruntime QLinearConv": {"conv": qlinear, "depthwise": qlinear},
         "onnxruntime ConvInteger": {"conv": integer, "depthwise": integer}}
