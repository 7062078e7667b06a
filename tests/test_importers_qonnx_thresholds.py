"""MultiThreshold with a row for each channel: every row is its own channel's, wherever it stands."""

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX models are read with the package onnx")
pytest.importorskip("onnxruntime", reason="what is compared with ONNX Runtime shares its helpers")

from onnx import TensorProto, helper  # noqa: E402

from sim.importers import ImporterError  # noqa: E402
from tests.onnx_oracle import machine  # noqa: E402
from tests.test_importers_qonnx import DOMAIN, _executor, _of, _steps  # noqa: E402

f32 = np.float32
RNG = np.random.default_rng(5)
ROWS = np.array([[-9, -8], [-1, 1], [7, 8]], f32)
"""One channel's levels are always reached, one's never."""


def _model(before: str, rows: np.ndarray, sides: list[int]) -> Any:
    """Numbers of [1, *sides] through levels: an input as it is, codes, sums of a product, or sums of a convolution."""
    constants = {"one": f32(1), "nought": f32(0), "bits": f32(4), "rows": rows, "w": np.eye(3, dtype=f32)}
    marks = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}

    def quant(source: str, target: str) -> Any:
        return helper.make_node("Quant", [source, "one", "nought", "bits"], [target], domain=DOMAIN, **marks)

    nodes: list[Any] = [] if before == "input" else [quant("x", "q")]
    at = "x" if before == "input" else "q"
    if before in ("product", "convolution"):
        constants["w"] = constants["w"] if before == "product" else constants["w"][..., None, None]
        nodes += [quant("w", "v"), helper.make_node("MatMul" if before == "product" else "Conv", ["q", "v"], ["s"])]
        at = "s"
    nodes.append(helper.make_node("MultiThreshold", [at, "rows"], ["y"], domain=DOMAIN, out_dtype="INT8", out_scale=1.0,
                                  out_bias=-1.0))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "rows", [info("x", TensorProto.FLOAT, [1, *sides])],
                              [info("y", TensorProto.FLOAT, [1, *sides])],
                              [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, 1)])
    model.ir_version = 8
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sides", [[3], [3, 2, 3]])
@pytest.mark.parametrize("before", ["input", "codes", "product", "convolution"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1], ROWS[1:2]])
def test_rows__are_each_channels_own(before: str, sides: list[int], rows: np.ndarray) -> None:
    if (before, len(sides)) in (("product", 3), ("convolution", 1)):
        pytest.skip("a product of images, a convolution of vectors")
    numbers = RNG.integers(-4, 5, (3, *sides)).astype(f32)  # three images of three channels: rows must not be images'
    model = _model(before, np.ascontiguousarray(rows), sides)
    done = _of(model)
    codes = machine(done, {"x": numbers})[0]["y"]
    laid = rows.reshape(len(rows), 2, *([1] * (len(sides) - 1)))
    wanted = sum((numbers >= laid[:, place]).astype(int) for place in (0, 1)) - 1
    assert codes.tolist() == wanted.tolist()
    for mine, theirs in zip(codes, _executor(model, numbers), strict=True):
        np.testing.assert_array_equal(mine, _steps(done, "y", theirs["y"])[0])


@pytest.mark.parametrize("before", ["input", "codes", "product"])
def test_rows__of_other_channels_are_refused(before: str) -> None:
    with pytest.raises(ImporterError, match=r"^MultiThreshold y: 2 rows of thresholds for a tensor of the sides \[1, 3\]"):
        _of(_model(before, ROWS[:2], [3]))
