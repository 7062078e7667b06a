"""Whose ONNX a file is, told from its operators: Deeploy's, DORY's, QONNX's, or plain quantized ONNX."""

from collections.abc import Iterator
from typing import Any

import numpy as np

QONNX_OPERATORS = frozenset(("Quant", "IntQuant", "FloatQuant", "BipolarQuant", "Trunc", "MultiThreshold"))
DEEPLOY_OPERATORS = frozenset((
    "RequantShift", "iLayerNorm", "iRMSNorm", "iNoNorm", "iSoftmax", "ITAMax", "ITAPartialMax", "iGELU", "RequantizediGELU",
    "iHardswish", "RequantizediHardswish", "IntegerMean", "IntegerDiv", "TrueIntegerDiv", "RQIntegerDiv"))
PLAIN_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinear",
                    "QGemm", "QAttention")
"""Beginnings of names of operators by which plain ONNX says that it is quantized."""

PROFILES = {"deeploy": "deeploy_pulp", "dory": "dory_nemo", "qonnx": "qonnx", "onnx": "onnxruntime"}
"""A dialect and the profile that a model of it has by default."""


def dialect(model: Any) -> str:
    """"deeploy", "dory", "qonnx" or "onnx" for an onnx.ModelProto: a key of PROFILES.  Only its graph is looked at.

    An operator that is one family's alone decides.  Deeploy's and DORY's graphs may have none: then all their constants
    are whole numbers in float32, and no operator quantizes.  Those that divide and take the floor are DORY's.
    """
    kinds = {_text(node.op_type) for node in model.graph.node}
    domains = {_text(part.domain) for part in (*model.graph.node, *model.opset_import)}
    if kinds & QONNX_OPERATORS or any("qonnx" in domain or "finn" in domain for domain in domains):
        return "qonnx"
    if kinds & DEEPLOY_OPERATORS or "PACTOps" in domains:
        return "deeploy"
    if any(kind.startswith(PLAIN_QUANTIZERS) for kind in kinds) or not all(map(_whole, _constants(model))):
        return "onnx"
    return "dory" if "Div" in kinds and kinds & {"Floor", "Clip"} else "deeploy"


def _constants(model: Any) -> Iterator[Any]:
    """Every TensorProto of the graph."""
    yield from model.graph.initializer
    for node in model.graph.node:
        if _text(node.op_type) == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _text(name: Any) -> str:
    """protobuf gives bytes that are no UTF-8 as they are."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _whole(tensor: Any) -> bool:
    """Whether a constant is integers, of whatever type; one that lies in another file is not looked at."""
    from onnx import numpy_helper

    if tensor.external_data:
        return False
    try:
        values = numpy_helper.to_array(tensor)
    except Exception:  # damaged bytes fail in every way there is; whoever reads the model says how
        return False
    if values.dtype.kind in "iub":
        return True
    return bool(values.dtype.kind == "f" and np.isfinite(values).all() and (values == values.round()).all())
