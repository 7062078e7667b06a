"""QONNX: the zoo's models and random networks beside QONNX's executor."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="ONNX models are read with the package onnx")
pytest.importorskip("onnxruntime", reason="what is compared with ONNX Runtime shares its helpers")

from onnx import TensorProto, helper  # noqa: E402

from sim.importers import ImporterError, default_profile, load_model  # noqa: E402
from sim.importers.qonnx import convert  # noqa: E402
from sim.importers.qonnx.rounding import ROUNDINGS, Grid, quantized  # noqa: E402
from tests.examples import BRIEF, SHARE, examples  # noqa: E402
from tests.golden import vectors  # noqa: E402
from tests.onnx_oracle import converted, machine  # noqa: E402

DOMAIN = "qonnx.custom_op.general"
f32 = np.float32


def _of(model: Any) -> Any:
    return converted(model, convert, "qonnx")


def _steps(done: Any, name: str, values: np.ndarray) -> np.ndarray:
    """Real numbers of a tensor as codes, each exactly a multiple of the scale."""
    steps = values.astype(np.float64) / done.program.scales[done.shown[name].op]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    return np.rint(steps).astype(np.int64)


@pytest.mark.parametrize("name", ["jet", "unsw", "kwsmlp_w3a3", "TFC_1W2A_digit0"])
def test_zoo__codes_of_every_quantizer_and_the_class_are_the_executors(name: str) -> None:
    folder = vectors("qonnx")
    model, stored = onnx.load(folder / f"{name}.clean.onnx"), np.load(folder / f"{name}.npz")
    done = _of(model)
    shown, outputs = machine(done, {model.graph.input[0].name: stored["input"]})
    compared = 0
    for tensor, codes in shown.items():
        if done.shown[tensor].form.bits <= 8:
            np.testing.assert_array_equal(codes, _steps(done, tensor, stored[f"t/{tensor}"]), err_msg=tensor)
            compared += codes.size
    assert compared > 60
    (scores,) = outputs.values()
    assert scores.argmax() == stored["output"].argmax()
    assert (scores > 0).all() == (stored["output"] > 0).all() or scores.size > 1


def _executor(model: Any, arrays: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Every tensor of each image, by QONNX's own executor."""
    pytest.importorskip("qonnx", reason="QONNX's executor is the oracle")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    wrapped = ModelWrapper(model).transform(InferShapes())
    name = model.graph.input[0].name
    return [execute_onnx(wrapped, {name: array[None]}, True) for array in arrays]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "tensors"), [("jet", 3), ("unsw", 4), ("kwsmlp_w3a3", 4), ("TFC_1W2A_digit0", 4)])
def test_zoo__100_inputs_live__differences_are_float32_sums_beside_a_level(name: str, tensors: int) -> None:
    """The executor sums scaled float32: a code may differ where the exact sum is within that sum's error of a level."""
    model = onnx.load(vectors("qonnx") / f"{name}.clean.onnx")
    stored = np.load(vectors("qonnx") / f"{name}.npz")["input"][0]
    rng = np.random.default_rng(0)
    count = 100 if SHARE > BRIEF else 10
    draws = {"unsw": lambda: rng.choice([-1.0, 1.0], stored.shape), "kwsmlp_w3a3": lambda: rng.uniform(-95, 100,
                                                                                                       stored.shape),
             "TFC_1W2A_digit0": lambda: rng.integers(0, 256, stored.shape) / 255, "jet": lambda: rng.normal(0, 1.5,
                                                                                                            stored.shape)}
    arrays = np.array([stored, *(draws[name]() for _ in range(count - 1))], np.float32)
    done = _of(model)
    shown, outputs = machine(done, {model.graph.input[0].name: arrays})
    compared, unequal, classes = 0, [], 0
    for index, theirs in enumerate(_executor(model, arrays)):
        for tensor in (each for each in shown if done.shown[each].form.bits <= 8):
            a, b = shown[tensor][index], _steps(done, tensor, theirs[tensor])[0]
            compared += a.size
            unequal += [(index, tensor, int(a[place]), int(b[place])) for place in zip(*np.nonzero(a != b), strict=True)]
        (scores,) = outputs.values()
        wanted = theirs[model.graph.output[0].name]
        classes += int(scores[index].argmax() != wanted.argmax() if wanted.size > 1 else scores[index].sum() != wanted.sum())
    print(f"{name}: {compared} codes, {len(unequal)} differ: {unequal[:20]}; {classes} of {count} classes")
    assert len(unequal) <= compared / 1000
    assert all(abs(mine - other) == 1 or name == "TFC_1W2A_digit0" for _, _, mine, other in unequal)
    assert classes == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("before", [["Mul"], ["MatMul", "Mul"]])
def test_trunc__beyond_the_declared_width_clamps_nothing(before: list[str]) -> None:
    """Its operator of version 1 names widths and clamps to none of them."""
    constants = {"one": 1.0, "zero": 0.0, "eight": 8.0, "four": 4.0, "large": 9.0, "matrix": np.eye(3) * 3}
    other = {"Mul": "large", "MatMul": "w"}
    nodes = [helper.make_node("Quant", ["x", "one", "zero", "eight"], ["q"], domain=DOMAIN, signed=1, narrow=0,
                              rounding_mode="ROUND"),
             helper.make_node("Quant", ["matrix", "one", "zero", "four"], ["w"], domain=DOMAIN, signed=1, narrow=0,
                              rounding_mode="ROUND"),
             *(helper.make_node(kind, [source, other[kind]], [kind])
               for source, kind in zip(["q", *before], before, strict=False)),
             helper.make_node("Trunc", [before[-1], "one", "zero", "eight", "four"], ["y"], domain=DOMAIN,
                              rounding_mode="FLOOR")]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes if len(before) > 1 else [nodes[0], *nodes[2:]], "beyond",
                              [info("x", TensorProto.FLOAT, [1, 3])], [info("y", TensorProto.FLOAT, [1, 3])],
                              [onnx.numpy_helper.from_array(np.asarray(value, f32), name)
                               for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, 1)])
    model.ir_version = 8
    arrays = np.array([[-128, 5, 127], [100, -3, -64]], f32)
    shown, _ = machine(_of(model), {"x": arrays})
    factor = 9 * 3 ** (len(before) - 1)
    assert shown["y"].tolist() == [[int(value) * factor // 16 for value in row] for row in arrays]
    for index, theirs in enumerate(_executor(model, arrays)):
        assert shown["y"][index].tolist() == (theirs["y"][0]).tolist()


@pytest.mark.filterwarnings("ignore")
def test_trunc__of_an_input_that_leaves_its_codes_is_refused() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Trunc", ["x", "one", "zero", "eight", "four"], ["y"], domain=DOMAIN, rounding_mode="FLOOR")],
        "outside", [info("x", TensorProto.FLOAT, [1, 2])], [info("y", TensorProto.FLOAT, [1, 2])],
        [onnx.numpy_helper.from_array(np.array(value, f32), name)
         for name, value in (("one", 1), ("zero", 0), ("eight", 8), ("four", 4))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, 1)])
    model.ir_version = 8
    done = _of(model)
    assert done.accept({"x": np.array([[255, -256]], f32)})["x"].reshape(-1).tolist() == [15, -16]
    with pytest.raises(ImporterError, match="input x: -1 to 62 leave its codes, -16 to 15"):
        done.accept({"x": np.array([[1000, -1]], f32)})


# Random networks whose scales are powers of two: then float32 sums are exact, and so is the executor


def _power(rng: np.random.Generator, low: int = -6, high: int = 0) -> np.float32:
    return f32(2.0 ** rng.integers(low, high))


@st.composite
def qonnx_networks(draw: Any) -> tuple[Any, np.ndarray]:
    """Two layers, dense or convolutional, quantizers of all kinds with chains before them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    is_conv = draw(st.booleans())
    dims: list[int] = [2, 5, 5] if is_conv else [6]
    constants: dict[str, np.ndarray] = {}
    nodes: list[Any] = []

    def constant(value: Any) -> str:
        name = f"k{len(constants)}"
        constants[name] = np.asarray(value, np.float32)
        return name

    def node(kind: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def quantizer(x: str, is_weight: bool = False) -> str:
        kind = draw(st.sampled_from(["Quant", "Quant", "BipolarQuant"] + ([] if is_weight else ["MultiThreshold", "Trunc"])))
        scale = _power(rng)
        if kind == "BipolarQuant":
            return node(kind, [x, constant(scale)], DOMAIN)
        if kind == "MultiThreshold":
            levels = np.sort(rng.normal(0, 2, (dims[0] if draw(st.booleans()) else 1, draw(st.integers(1, 7)))), axis=1)
            return node(kind, [x, constant(levels)], DOMAIN, out_dtype="INT8", out_scale=float(scale),
                        out_bias=float(scale * rng.integers(-4, 2)))
        if kind == "Trunc":
            return node(kind, [x, constant(scale), constant(0), constant(8), constant(4)], DOMAIN,
                        rounding_mode=draw(st.sampled_from(["FLOOR", "ROUND"])))
        signed, bits = draw(st.booleans()), draw(st.integers(1, 8))
        return node(kind, [x, constant(scale), constant(0), constant(bits)], DOMAIN, signed=int(signed),
                    narrow=int(draw(st.booleans()) and bits > 1), rounding_mode=draw(st.sampled_from(sorted(ROUNDINGS))))

    x = node("Quant", ["x", constant(_power(rng)), constant(0), constant(draw(st.integers(2, 8)))], DOMAIN, signed=1,
             narrow=0,
             rounding_mode="ROUND")
    for _ in range(2):
        channels = draw(st.integers(1, 4))
        if is_conv:
            w = quantizer(constant(rng.normal(0, 1, (channels, dims[0], 2, 2))), True)
            x, dims = node("Conv", [x, w], kernel_shape=[2, 2], pads=[0, 1, 0, 0]), [channels, dims[1] - 1, dims[2]]
        else:
            w = quantizer(constant(rng.normal(0, 1, (dims[0], channels))), True)
            x, dims = node("MatMul", [x, w]), [channels]
        sides = (channels, *([1] * (len(dims) - 1)))
        for kind in draw(st.lists(st.sampled_from(["Mul", "Add", "Relu", "BatchNormalization", "Div"]), max_size=3)):
            if kind == "BatchNormalization":
                x = node(kind, [x, *(constant(rng.normal(0, 1, channels)) for _ in range(3)),
                                constant(rng.uniform(0.1, 4, channels))])
            elif kind == "Relu":
                x = node(kind, [x])
            else:
                x = node(kind, [x, constant(rng.uniform(0.3, 3, sides if draw(st.booleans()) else ()))])
        x = quantizer(x)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "random", [info("x", TensorProto.FLOAT, [1, *([2, 5, 5] if is_conv else [6])])],
                              [info(x, TensorProto.FLOAT, [1, *dims])],
                              [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, 1)])
    model.ir_version = 8
    arrays = rng.normal(0, 1, (2, *([2, 5, 5] if is_conv else [6]))).astype(np.float32)
    return model, arrays


@pytest.mark.filterwarnings("ignore")
@examples(40)
@given(qonnx_networks())
def test_random_networks__every_code_is_the_executors(case: Any) -> None:
    model, arrays = case
    done = _of(model)
    shown, _ = machine(done, {"x": arrays})
    for index, theirs in enumerate(_executor(model, arrays)):
        for tensor, codes in shown.items():
            np.testing.assert_array_equal(codes[index], _steps(done, tensor, theirs[tensor])[0], err_msg=tensor)


@pytest.mark.filterwarnings("ignore")
@examples(10)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_qcdq__quantize_clip_dequantize_is_a_quantizer_of_fewer_bits(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    constants = {"s": _power(rng), "z": np.int8(0), "low": np.int8(-(2 ** (bits - 1))), "high": np.int8(2 ** (bits - 1) - 1),
                 "w": rng.normal(0, 1, (6, 4)).astype(np.float32), "ws": _power(rng), "m": f32(rng.uniform(0.5, 2)),
                 "b": rng.normal(0, 1, 4).astype(np.float32), "ys": _power(rng), "yz": np.uint8(0),
                 "top": np.uint8(2**bits - 1),
                 "zero": np.uint8(0)}
    node = helper.make_node
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("Clip", ["q", "low", "high"], ["c"]),
             node("DequantizeLinear", ["c", "s", "z"], ["d"]), node("QuantizeLinear", ["w", "ws", "z"], ["wq"]),
             node("Clip", ["wq", "low", "high"], ["wc"]), node("DequantizeLinear", ["wc", "ws", "z"], ["wd"]),
             node("MatMul", ["d", "wd"], ["mm"]), node("Mul", ["mm", "m"], ["t"]), node("Add", ["t", "b"], ["u"]),
             node("Relu", ["u"], ["r"]), node("QuantizeLinear", ["r", "ys", "yz"], ["yq"]),
             node("Clip", ["yq", "zero", "top"], ["yc"]), node("DequantizeLinear", ["yc", "ys", "yz"], ["y"])]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "qcdq", [info("x", TensorProto.FLOAT, [1, 6])], [info("y", TensorProto.FLOAT, [1, 4])],
                              [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    arrays = rng.normal(0, 1, (3, 6)).astype(np.float32)
    shown, outputs = machine(_of(model), {"x": arrays})
    for index, theirs in enumerate(_executor(model, arrays)):
        for name in ("q", "c", "yq", "yc"):
            np.testing.assert_array_equal(shown[name][index], theirs[name][0].astype(np.int64), err_msg=name)
        np.testing.assert_array_equal(outputs["y"][index], theirs["y"][0])


@given(st.integers(1, 8), st.booleans(), st.booleans(), st.sampled_from(sorted(ROUNDINGS)), st.integers(0, 2**32 - 1))
def test_quant__is_qonnxs_own_function(bits: int, signed: bool, narrow: bool, mode: str, seed: int) -> None:
    quant = pytest.importorskip("qonnx.custom_op.general.quant", reason="QONNX's own function is the oracle")
    narrow = narrow and bits > 1
    rng = np.random.default_rng(seed)
    scale, zero = f32(rng.uniform(0.1, 2)), f32(rng.integers(-3, 4))
    x = np.concatenate([rng.normal(0, 40, 200), rng.integers(-80, 80, 200) * scale / 2]).astype(np.float32)
    theirs = quant.quant(x, scale, zero, np.array(bits, np.float32), signed, narrow, mode)
    mine = (quantized(x, scale, zero, Grid(bits, signed, narrow), mode) - zero).astype(np.float32) * scale
    np.testing.assert_array_equal(mine, theirs)


def test_refusals__are_one_line(tmp_path: Path) -> None:
    node = helper.make_node
    info = helper.make_tensor_value_info
    for kind, match in (("MatMul", "no function of one sum"), ("Erf", "the operator is not supported")):
        graph = helper.make_graph([node(kind, ["x", "w"] if kind == "MatMul" else ["x"], ["a"]),
                                   node("Quant", ["a", "s", "z", "b"], ["y"], domain=DOMAIN, signed=1, narrow=0,
                                        rounding_mode="ROUND")], "g", [info("x", TensorProto.FLOAT, [1, 3])],
                                  [info("y", TensorProto.FLOAT, [1, 3])],
                                  [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in
                                   {"w": np.eye(3), "s": 1.0, "z": 0.0, "b": 4.0}.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, 1)])
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        assert default_profile(path) == "qonnx"
        with pytest.raises(ImporterError, match=match):
            load_model(path)


def test_dialect__domains_of_qonnx_without_its_operators_are_plain_onnx(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info("x", TensorProto.FLOAT, [1, 3])],
                              [info("y", TensorProto.FLOAT, [1, 3])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11), helper.make_opsetid(DOMAIN, 1)])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert default_profile(path) == "onnxruntime"
