"""Whose ONNX a file is, told from its operators: Deeploy's, DORY's, QONNX's, or plain quantized ONNX."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from sim.importers.proto import text

QONNX_OPERATORS = frozenset(("Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold"))
"""Those that its reader has."""
DEEPLOY_OPERATORS = frozenset((
    "RequantShift", "iLayerNorm", "iRMSNorm", "iNoNorm", "iSoftmax", "ITAMax", "ITAPartialMax", "iGELU", "RequantizediGELU",
    "iHardswish", "RequantizediHardswish", "IntegerMean", "IntegerDiv", "TrueIntegerDiv", "RQIntegerDiv"))
PLAIN_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinear",
                    "QGemm", "QAttention")
"""Beginnings of names of operators by which plain ONNX says that it is quantized."""


def dialect(model: Any) -> str:
    """"deeploy", "dory", "qonnx" or "onnx" for an onnx.ModelProto, as in READERS.  Only its graph is looked at.

    An operator that is one family's alone decides.  Deeploy's and DORY's graphs may have none: then all their constants
    are whole numbers in float32, and no operator quantizes.  Those that divide and take the floor are DORY's.  What has
    no more than the domains of QONNX was converted from it: plain ONNX.
    """
    kinds = {text(node.op_type) for node in model.graph.node}
    domains = {text(part.domain) for part in (*model.graph.node, *model.opset_import)}
    if kinds & QONNX_OPERATORS:
        return "qonnx"
    if any("qonnx" in domain or "finn" in domain for domain in domains):
        return "onnx"
    if kinds & DEEPLOY_OPERATORS or "PACTOps" in domains:
        return "deeploy"
    if any(kind.startswith(PLAIN_QUANTIZERS) for kind in kinds) or not all(map(_whole, _constants(model))):
        return "onnx"
    return "dory" if "Div" in kinds and kinds & {"Floor", "Clip"} else "deeploy"


def _constants(model: Any) -> Iterator[Any]:
    """Every TensorProto of the graph."""
    yield from model.graph.initializer
    for node in model.graph.node:
        if text(node.op_type) == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


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
