"""Integers of ONNX stay integers: sums beyond 2^24, the ends of 32 bits, numbers that are none; axes that are no images'."""

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX models are read with the package onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

from onnx import TensorProto, helper  # noqa: E402

from sim.importers import ImporterError  # noqa: E402
from tests.onnx_oracle import converted, differing, machine  # noqa: E402
from tests.test_importers_onnx import codes_for, model_of  # noqa: E402

f32 = np.float32
RNG = np.random.default_rng(7)
CODES = codes_for(RNG, np.uint8, (5, 8))
MATRIX = RNG.integers(-128, 128, (8, 3)).astype(np.int8)


def _sums(biases: list[Any]) -> Any:
    """MatMulInteger and int32 additions behind it."""
    nodes, at = [helper.make_node("MatMulInteger", ["x", "w"], ["a"])], "a"
    for index in range(len(biases)):
        nodes.append(helper.make_node("Add", [at, f"b{index}"] if index % 2 == 0 else [f"b{index}", at], [f"y{index}"]))
        at = f"y{index}"
    constants = {"w": MATRIX, **{f"b{index}": np.asarray(bias, np.int32) for index, bias in enumerate(biases)}}
    return model_of(nodes, constants, [("x", TensorProto.UINT8, ["N", 8])], [(at, TensorProto.INT32, None)])


@pytest.mark.parametrize("biases", [[[16777217, -20000001, 5]], [16777217], [[16777217, -20000001, 5], [1, 33554433, -7]],
                                    [2**31 - 1 - 2**19], [-(2**31) + 2**19]])
def test_add__int32_constants_are_added_as_integers(biases: list[Any]) -> None:
    model = _sums(biases)
    done = converted(model)
    found = next(iter(machine(done, {"x": CODES})[1].values()))
    wanted = CODES.astype(int) @ MATRIX.astype(int) + sum(np.asarray(bias, int) for bias in biases)
    assert found.tolist() == wanted.tolist()
    assert differing(model, {"x": CODES})[1] == {}


@pytest.mark.parametrize("biases", [[2**31 - 1], [-(2**31)], [2**30, 2**30]])
def test_add__sums_that_32_bits_do_not_hold_are_refused(biases: list[Any]) -> None:
    with pytest.raises(ImporterError, match=r"^Add y[01]: its sums can be from -?\d+ to -?\d+, beyond the 32 bits"):
        converted(_sums(biases))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_quantize_linear__what_is_no_number_is_the_least_code(dtype: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = model_of([helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])], {"s": f32(.5), "z": dtype(7)},
                     [("x", TensorProto.FLOAT, ["N", 12])], [("y", kind, None)], 21)
    numbers = np.array([[np.nan, -np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0, .25, .75, 2**31, -2**31]], f32)
    assert differing(model, {"x": numbers})[1] == {}


@pytest.mark.parametrize(("kind", "scale"), [("QLinearAdd", 1e-8), ("QLinearMul", 1e-6)])
def test_additions_and_products__beyond_32_bits_are_refused(kind: str, scale: float) -> None:
    constants = {"s": f32(.5), "z": np.uint8(3), "t": f32(scale)}
    node = helper.make_node(kind, ["x", "s", "z", "x", "s", "z", "t", "z"], ["y"], domain="com.microsoft")
    for step, is_refused in ((scale, True), (0.5, False)):
        model = model_of([node], constants | {"t": f32(step)}, [("x", TensorProto.UINT8, ["N", 8])],
                         [("y", TensorProto.UINT8, None)])
        if is_refused:
            with pytest.raises(ImporterError, match=f"^{kind} y: its codes can reach .* beyond the 32 bits"):
                converted(model)
        else:
            assert differing(model, {"x": CODES})[1] == {}


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0])
def test_qgemm__a_product_of_nothing_keeps_its_sign(alpha: float) -> None:
    constants = {"s": f32(.5), "z": np.uint8(3), "w": MATRIX, "t": np.array([.01, .02, .03], f32), "n": np.zeros(3, np.int8)}
    model = model_of([helper.make_node("QGemm", ["x", "s", "z", "w", "t", "n"], ["y"], domain="com.microsoft", alpha=alpha)],
                     constants, [("x", TensorProto.UINT8, ["N", 8])], [("y", TensorProto.FLOAT, None)])
    codes = CODES.copy()
    codes[0] = 3  # sums of 0
    assert differing(model, {"x": codes})[1] == {}


def test_an_open_first_axis__that_is_not_that_of_images_is_named_with_its_operator() -> None:
    given = [("x", TensorProto.UINT8, ["N", 8])]
    model = model_of([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], {"w": MATRIX[:, 0]}, given,
                     [("y", TensorProto.INT32, None)])
    node = helper.make_node("QLinearConcat", ["s", "z", *["x", "s", "z"] * 2], ["y"], axis=0, domain="com.microsoft")
    joined = model_of([node], {"s": f32(1), "z": np.uint8(0)}, given, [("y", TensorProto.UINT8, None)])
    for each, kind in ((model, "MatMulInteger"), (joined, "QLinearConcat")):
        with pytest.raises(ImporterError, match=f"^{kind} y: the first axis is not that of images there"):
            converted(each)
