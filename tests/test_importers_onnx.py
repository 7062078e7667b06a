"""ONNX on ONNX Runtime's arithmetic: the backend's cases, random networks and a quantized CNN beside the live runtime."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="ONNX models are read with the package onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

from onnx import TensorProto, helper  # noqa: E402

from sim.definitions.ort import OrtSoftmax  # noqa: E402
from sim.formats import IntFormat  # noqa: E402
from sim.importers import ImporterError, load_model  # noqa: E402
from sim.importers.onnx.fma import fma  # noqa: E402
from sim.importers.onnx.model import load  # noqa: E402
from sim.machine import Machine  # noqa: E402
from sim.ops.codes_input import CodesInputOp  # noqa: E402
from sim.profiles import profile  # noqa: E402
from sim.program import Program  # noqa: E402
from sim.requantizers.mlas import exact_fma  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.golden import vectors  # noqa: E402
from tests.onnx_damage import damaged  # noqa: E402
from tests.onnx_networks import networks  # noqa: E402
from tests.onnx_oracle import converted, differing, machine, runtime  # noqa: E402
from tests.strategies import DRAWN_OPS  # noqa: E402

f32 = np.float32


def model_of(nodes: list[Any], constants: dict[str, Any], inputs: list[Any], outputs: list[Any], opset: int = 17) -> Any:
    """A model with one input and one output or more: (name, type, sides)."""
    graph = helper.make_graph(nodes, "test", [helper.make_tensor_value_info(*each) for each in inputs],
                              [helper.make_tensor_value_info(*each) for each in outputs],
                              [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 8 if opset < 19 else 10
    return model


def codes_for(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Random codes; the first images are all smallest, all largest and a mix of both."""
    info = np.iinfo(dtype)
    codes = rng.integers(info.min, info.max + 1, shape)
    codes[0], codes[1], codes[2] = info.min, info.max, rng.choice([info.min, info.max], shape[1:])
    return codes.astype(dtype)


# The cases of ONNX's own backend tests


def _unpacked(array: np.ndarray, kind: int) -> np.ndarray:
    """Codes of 4 or 2 bits, one in a byte."""
    bits, signed = {21: (4, False), 22: (4, True), 25: (2, False), 26: (2, True)}[kind]
    values = array.view(np.uint8).astype(np.int64) & ((1 << bits) - 1)
    return np.where(values >= 1 << (bits - 1), values - (1 << bits), values) if signed else values


def _case(path: Path) -> tuple[Any, np.ndarray, np.ndarray]:
    """The model with all inputs but the first as constants, that input, and the output."""
    model, arrays = onnx.load(path), np.load(path.with_suffix(".npz"))
    for index, value in reversed(list(enumerate(model.graph.input))[1:]):
        array, kind = arrays[f"in{index}"], value.type.tensor_type.elem_type
        if array.dtype.kind == "V" and kind in (21, 22, 25, 26):
            model.graph.initializer.append(helper.make_tensor(value.name, kind, array.shape, _unpacked(array, kind).ravel()))
        elif array.dtype.kind == "V":
            model.graph.initializer.append(onnx.TensorProto(name=value.name, data_type=kind, raw_data=array.tobytes(),
                                                            dims=array.shape))
        else:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        del model.graph.input[index]
    kinds = [each.type.tensor_type.elem_type for each in (model.graph.input[0], model.graph.output[0])]
    x, y = (_unpacked(arrays[name], kind) if arrays[name].dtype.kind == "V" else arrays[name]
            for name, kind in zip(("in0", "out0"), kinds, strict=True))
    return model, x, y


FLOATS = ("e4m3fn", "e5m2", "float4e2m1", "float16", "dynamic")


def test_backend_cases__every_integer_and_float_is_onnxs() -> None:
    compared = []
    for path in sorted(vectors("onnx").glob("*.onnx")):
        if any(word in path.stem for word in FLOATS):
            continue
        model, x, y = _case(path)
        done = converted(model)
        _, outputs = machine(done, {model.graph.input[0].name: x})
        (result,) = outputs.values()
        assert result.shape == y.shape, path.stem
        np.testing.assert_array_equal(result.astype(np.float64), y.astype(np.float64), err_msg=path.stem)
        compared.append(path.stem)
    assert len(compared) == 27


def test_backend_cases__floats_of_8_and_4_bits_and_scales_of_the_data_are_refused_by_name() -> None:
    for path in sorted(vectors("onnx").glob("*.onnx")):
        if "float16" not in path.stem and any(word in path.stem for word in FLOATS):
            with pytest.raises(ImporterError, match=r"float8|float4|scale depends on the data|is not supported") as caught:
                converted(onnx.load(path))
            assert "\n" not in str(caught.value)


# Random networks


def _given(case: Any, count: int) -> dict[str, np.ndarray]:
    model, source, rng = case
    kind = model.graph.input[0].type.tensor_type.elem_type
    shape = (count, *source.dims)
    if kind != TensorProto.FLOAT:
        return {"x": codes_for(rng, np.uint8 if kind == TensorProto.UINT8 else np.int8, shape)}
    floats = (rng.integers(-600, 601, shape) * (source.scale / 2)).astype(np.float32)  # ties, too
    floats[0], floats[1], floats[2] = 1e9, -1e9, 0
    return {"x_float": floats}


@examples(60)
@given(networks("qoperator"))
def test_qoperator__every_code_is_the_runtimes(case: Any) -> None:
    assert differing(case[0], _given(case, 6))[1] == {}


@examples(60)
@given(networks("qdq"))
def test_qdq__every_code_is_the_fused_runtimes(case: Any) -> None:
    assert differing(case[0], _given(case, 6), every=False)[1] == {}


def _cnn(rng: np.random.Generator) -> Any:
    """Convolutions, a depthwise one, a residual, SiLU, pools, concatenation, a softmax."""
    def weights(*shape: int) -> np.ndarray:
        return (rng.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {f"w{i}": weights(*shape) for i, shape in enumerate(
        [(8, 3, 3, 3), (8, 1, 3, 3), (16, 8, 1, 1), (16, 8, 1, 1), (16, 16, 3, 3), (16, 32, 1, 1), (10, 16)])}
    constants |= {f"b{i}": weights(len(constants[f"w{i}"])) for i in range(7)}
    node = helper.make_node
    nodes = [node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1] * 4, strides=[2, 2]), node("Relu", ["c0"], ["r0"]),
             node("Conv", ["r0", "w1", "b1"], ["c1"], pads=[1] * 4, group=8), node("Relu", ["c1"], ["r1"]),
             node("Conv", ["r1", "w2", "b2"], ["c2"]), node("Conv", ["r0", "w3", "b3"], ["c3"]),
             node("Add", ["c2", "c3"], ["a"]), node("Relu", ["a"], ["ra"]),
             node("MaxPool", ["ra"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
             node("Conv", ["m", "w4", "b4"], ["c4"], pads=[1] * 4), node("Sigmoid", ["c4"], ["s"]), node("Mul", ["c4", "s"],
                                                                                                         ["sw"]),
             node("Concat", ["sw", "m"], ["cc"], axis=1), node("AveragePool", ["cc"], ["ap"], kernel_shape=[2, 2]),
             node("Conv", ["ap", "w5", "b5"], ["c5"]), node("GlobalAveragePool", ["c5"], ["g"]), node("Flatten", ["g"],
                                                                                                      ["f"]),
             node("Gemm", ["f", "w6", "b6"], ["y"], transB=1), node("Softmax", ["y"], ["p"], axis=1)]
    return model_of(nodes, constants, [("x", TensorProto.FLOAT, ["N", 3, 16, 16])], [("p", TensorProto.FLOAT, ["N", 10])],
                    13)


def _statically(folder: Path, qdq: bool, activations: str, weights: str, per_channel: bool) -> Any:
    """By onnxruntime.quantization."""
    import logging

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"x": rng.normal(0, 1, (4, 3, 16, 16)).astype(np.float32)} for _ in range(3)])

        def get_next(self) -> Any:
            return next(self.left, None)

    rng = np.random.default_rng(1)
    logging.disable(logging.WARNING)
    onnx.save(_cnn(rng), folder / "float.onnx")
    quantize_static(str(folder / "float.onnx"), str(folder / "quantized.onnx"), Reader(),
                    quant_format=QuantFormat.QDQ if qdq else QuantFormat.QOperator, activation_type=QuantType[activations],
                    weight_type=QuantType[weights], per_channel=per_channel)
    return folder / "quantized.onnx"


TYPES = [("QUInt8", "QInt8"), ("QUInt8", "QUInt8"), ("QInt8", "QInt8")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("qdq", [True, False], ids=["qdq", "qoperator"])
def test_a_statically_quantized_cnn__100_inputs_equal_in_every_tensor(qdq: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for (activations, weights), per_channel in itertools.product(TYPES, (False, True)):
        path = _statically(tmp_path, qdq, activations, weights, per_channel)
        x = rng.normal(0, 1.5, (100, 3, 16, 16)).astype(np.float32)
        x[0], x[1], x[2] = 1e6, -1e6, 0
        compared, counts = differing(onnx.load(path), {"x": x})
        assert compared > 600_000
        assert counts == {}


@pytest.mark.filterwarnings("ignore")
def test_load_model__reads_it_and_saves_it(tmp_path: Path) -> None:
    path = _statically(tmp_path, True, "QUInt8", "QInt8", True)
    found = load_model(path)
    assert found.profile.name == "onnxruntime"
    found.program.save(tmp_path / "program.npz")
    assert Program.load(tmp_path / "program.npz").digest() == found.program.digest()


@pytest.mark.filterwarnings("ignore")
def test_optimization__without_it_qdq_is_float_and_differs_qoperator_does_not(tmp_path: Path) -> None:
    """What our README may say: a QDQ graph is integers only where ONNX Runtime fuses it."""
    x = np.random.default_rng(3).normal(0, 1.5, (30, 3, 16, 16)).astype(np.float32)
    qoperator = onnx.load(_statically(tmp_path, False, "QUInt8", "QInt8", True))
    assert differing(qoperator, {"x": x}, optimized=False)[1] == {}
    qdq = onnx.load(_statically(tmp_path, True, "QUInt8", "QInt8", True))
    compared, counts = differing(qdq, {"x": x}, optimized=False)
    assert 0 < sum(counts.values()) < compared / 50


# Integer operators with a tail of float operators


OPERATORS = ("Mul", "Add", "Sub", "Div", "Relu", "Clip", "LeakyRelu", "HardSigmoid", "BatchNormalization", "Max", "Neg")


@st.composite
def tails(draw: Any) -> tuple[Any, np.ndarray]:
    """ConvInteger or MatMulInteger, a cast, up to four float operators, a quantizer or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    is_conv, channels = draw(st.booleans()), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([np.uint8, np.int8]))
    other = np.int8 if dtype == np.int8 or draw(st.booleans()) else np.uint8
    info = np.iinfo(other)
    dims, out, sides = (([3, 6, 5], [channels, 4, 4], (channels, 1, 1)) if is_conv else ([7], [channels], (channels,)))
    w = rng.integers(info.min, info.max + 1, (channels, 3, 3, 2) if is_conv else (7, channels)).astype(other)
    constants: dict[str, Any] = {"w": w, "xz": dtype(rng.integers(0, 100)), "wz": other(rng.integers(0, 100))}
    nodes = [helper.make_node("ConvInteger" if is_conv else "MatMulInteger", ["x", "w", "xz", "wz"], ["acc"]),
             helper.make_node("Cast", ["acc"], ["v0"], to=TensorProto.FLOAT)]

    def number(low: float, high: float, shape: tuple[int, ...] = ()) -> str:
        name = f"k{len(constants)}"
        constants[name] = np.asarray(rng.uniform(low, high, sides if shape == () and draw(st.booleans()) else shape),
                                     np.float32)
        return name

    last = "v0"
    for index, kind in enumerate(draw(st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=4)), 1):
        attributes: dict[str, Any] = {}
        inputs = [last]
        if kind in ("Mul", "Add", "Sub"):
            inputs = draw(st.permutations([last, number(*((-0.01, 0.01) if kind == "Mul" else (-30, 30)))]))
        elif kind == "Div":
            inputs.append(number(0.5, 30))
        elif kind == "Max":
            constants["most"] = f32(-3)
            inputs.append("most")
        elif kind == "Clip":
            constants |= {"low": f32(-4), "high": f32(rng.uniform(0, 50))}
            inputs += ["low", "high"]
        elif kind == "BatchNormalization":
            inputs += [number(-2, 2, (channels,)) for _ in range(3)] + [number(0.1, 9, (channels,))]
        elif kind == "LeakyRelu":
            attributes["alpha"] = 0.1
        nodes.append(helper.make_node(kind, inputs, [f"v{index}"], **attributes))
        last = f"v{index}"
    output = (last, TensorProto.FLOAT, ["N", *out])
    if draw(st.booleans()):
        constants |= {"ys": f32(10.0 ** rng.uniform(-2, 0)), "yz": np.uint8(rng.integers(0, 256))}
        nodes.append(helper.make_node("QuantizeLinear", [last, "ys", "yz"], ["y"]))
        output = ("y", TensorProto.UINT8, ["N", *out])
    kind = TensorProto.UINT8 if dtype == np.uint8 else TensorProto.INT8
    return model_of(nodes, constants, [("x", kind, ["N", *dims])], [output], 15), codes_for(rng, dtype, (20, *dims))


@examples(80)
@given(tails())
def test_integer_operators__sums_and_what_follows_are_the_runtimes(case: Any) -> None:
    model, x = case
    assert differing(model, {"x": x})[1] == {}


UNARY = ("Relu", "HardSwish", "HardSigmoid", "LeakyRelu", "Sigmoid", "Neg", "Abs", "Floor", "Ceil", "Round")


@examples(40)
@given(st.lists(st.sampled_from(UNARY), min_size=1, max_size=3), st.sampled_from([np.uint8, np.int8, np.int16, np.uint16]),
       st.integers(0, 2**32 - 1))
def test_functions_of_one_code__tables_are_the_runtimes_for_every_code(kinds: list[str], dtype: Any, seed: int) -> None:
    rng, info = np.random.default_rng(seed), np.iinfo(dtype)
    unit = 256 / 2.0**info.bits
    constants = {"xs": f32(unit * 10.0 ** rng.uniform(-2, -0.5)), "xz": dtype(rng.integers(info.min, info.max + 1)),
                 "ys": f32(unit * 10.0 ** rng.uniform(-2, -0.5)), "yz": dtype(rng.integers(info.min, info.max + 1))}
    names = [f"v{index}" for index in range(len(kinds) + 1)]
    nodes = [helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["v0"]),
             *(helper.make_node(kind, [a], [b]) for kind, a, b in zip(kinds, names[:-1], names[1:], strict=True)),
             helper.make_node("QuantizeLinear", [names[-1], "ys", "yz"], ["y"])]
    kind = int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    model = model_of(nodes, constants, [("x", kind, ["N", 64])], [("y", kind, ["N", 64])], 21)
    x = np.resize(np.arange(info.min, info.max + 1), (1024 if info.bits > 8 else 4, 64)).astype(dtype)
    assert differing(model, {"x": x})[1] == {}


def test_ort_add__is_not_what_ort_does_with_zero_points() -> None:
    """Why mlas_add exists: products of float32 less zero points first differ in some percent of the codes."""
    every = np.arange(256, dtype=np.uint8)
    given_codes = {"a": np.repeat(every, 256)[None], "b": np.tile(every, 256)[None]}
    zeros = {"za": np.uint8(11), "zb": np.uint8(200), "zy": np.uint8(77)}
    scales = {"sa": f32(0.25), "sb": f32(0.125), "sy": f32(0.5)}
    node = helper.make_node("QLinearAdd", ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"], ["y"], domain="com.microsoft")
    model = model_of([node], {**zeros, **scales}, [(name, TensorProto.UINT8, ["N", 65536]) for name in "ab"],
                     [("y", TensorProto.UINT8, ["N", 65536])])
    assert differing(model, given_codes)[1] == {}
    a, b = (given_codes[name].astype(np.int64) - int(zeros[f"z{name}"]) for name in "ab")
    plain = np.clip(np.rint(a.astype(np.float32) * f32(0.5) + b.astype(np.float32) * f32(0.25)) + 77, 0, 255)
    assert (plain != runtime(model, given_codes)["y"]).mean() > 0.05


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9),
       st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9),
       st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_fma__rounds_once(a: float, b: float, c: float) -> None:
    assert float(fma(a, b, c)) == exact_fma(a, b, c)


@examples(60)
@given(st.data())
def test_float_average__machine_is_plain_numbers(data: Any) -> None:
    form = IntFormat(data.draw(st.integers(2, 8)), data.draw(st.booleans()))
    source = CodesInputOp("x", "", (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)), 2), form,
                          zero_point=data.draw(st.integers(form.min, form.max)))
    op = data.draw(DRAWN_OPS["float_average"]("y", source, [source]))
    program = Program((source, op))
    codes = np.random.default_rng(data.draw(st.integers(0, 99))).integers(form.min, form.max + 1, (2, *source.shape))
    result, = Machine(program).results(codes).values()
    for image, mine in zip(codes, result, strict=True):
        assert op.reference(image.tolist())[0] == mine.tolist()


@given(st.lists(st.integers(-128, 127), min_size=2, max_size=30), st.floats(0.001, 0.5), st.integers(-128, 127))
def test_softmax__codes_are_its_oracle(row: list[int], scale: float, zero: int) -> None:
    form = IntFormat(8, signed=True)
    softmax = OrtSoftmax.of(f32(scale), form, form, f32(1 / 256), zero, len(row))
    softmax.check(len(row))
    assert softmax.codes(np.array([row]))[0].tolist() == softmax.oracle(row)


# What is refused


def _refused(nodes: list[Any], constants: dict[str, Any], match: str, kind: int = TensorProto.UINT8) -> None:
    model = model_of(nodes, constants, [("x", kind, ["N", 3, 4, 4])], [("y", TensorProto.UINT8, None)])
    with pytest.raises(ImporterError, match=match) as caught:
        converted(model)
    assert "\n" not in str(caught.value)


def test_refusals__name_the_operator_and_what_is_supported() -> None:
    node, q = helper.make_node, {"s": f32(0.1), "z": np.uint8(3), "w": np.ones((2, 3, 1, 1), np.int8), "wz": np.int8(0)}
    _refused([node("Erf", ["x"], ["y"])], {}, "Erf y: the operator is not supported; supported are")
    _refused([node("DequantizeLinear", ["x", "s", "z"], ["a"]), node("Conv", ["a", "f"], ["c"]),
              node("QuantizeLinear", ["c", "s", "z"], ["y"])], {**q, "f": np.ones((2, 3, 1, 1), f32)},
             "sums depend on their order")
    _refused([node("QLinearConv", ["x", "s", "z", "w", "s", "wz", "s", "nothing"], ["y"])], q, "reads 'nothing'")
    _refused([node("QLinearConv", ["x", "x", "z", "w", "s", "wz", "s", "z"], ["y"])], q, "must be constant")
    _refused([node("QLinearConv", ["x", "s", "z", "w", "s", "wz", "s", "z"], ["y"], group=2)], q, "2 groups of weights")
    _refused([node("QLinearConv", ["x", "s", "z", "w", "s", "wz", "s", "z"], ["y"], pads=[1, -1, 0, 0])], q,
             "its pads must be")
    _refused([node("DynamicQuantizeLinear", ["x"], ["y", "a", "b"])], {}, "scale depends on the data", TensorProto.FLOAT)


def test_cycles_and_names_given_twice__are_one_clear_line() -> None:
    node = helper.make_node
    for nodes, match in (([node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"])], "nothing before it gives"),
                         ([node("Identity", ["x"], ["y"]), node("Identity", ["x"], ["y"])], "which another operator gives")):
        _refused(nodes, {}, match)


def test_external_data__does_not_leave_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    (inside / "weights.bin").write_bytes(np.arange(6, dtype=np.int8).tobytes())
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    for location, length, match in (
            ("weights.bin", 6, ""), ("../secret.bin", 6, "no file in the model's folder"), ("/etc/passwd", 6,
                                                                                            "no file in the"),
            ("weights.bin", 5, "are not its numbers"), ("missing.bin", 6, "no file in the model's folder")):
        model = model_of([node], {}, [("x", TensorProto.UINT8, ["N", 3])], [("y", TensorProto.INT32, ["N", 2])])
        tensor = TensorProto(name="w", data_type=TensorProto.INT8, dims=[3, 2], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        model.graph.initializer.append(tensor)
        (inside / "m.onnx").write_bytes(model.SerializeToString())
        if not match:
            np.testing.assert_array_equal(load(inside / "m.onnx").constants["w"].array, np.arange(6).reshape(3, 2))
            continue
        with pytest.raises(ImporterError, match=match):
            load(inside / "m.onnx")


def test_a_machine_with_a_narrow_register__counts_overflows(tmp_path: Path) -> None:
    """What the runtime cannot answer: the same model on 12 bits."""
    from sim.accumulator import Accumulator

    rng = np.random.default_rng(0)
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"])
    model = model_of([node], {"w": rng.integers(-128, 128, (2, 3, 3, 3)).astype(np.int8)},
                     [("x", TensorProto.UINT8, ["N", 3, 4, 4])], [("y", TensorProto.INT32, ["N", 2, 2, 2])])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    found = load_model(tmp_path / "m.onnx", profile("onnxruntime").with_(Accumulator(12, "saturate")))
    running = Machine(found.program)
    results = running.results(np.full((1, 4, 4, 3), 255, np.uint8))
    assert running.overflows["y"].sum() > 0
    assert max(np.abs(each).max() for each in results.values()) <= 2**11


# Damaged files


def test_damaged_files__one_clear_line_each(tmp_path: Path) -> None:
    """No traceback, no hang, no memory: whatever is read is checked before it is believed."""
    import random
    import resource
    import time

    contents: list[bytes] = []

    @settings(max_examples=20, database=None, derandomize=True, phases=[Phase.generate], deadline=None)
    @given(networks())
    def collect(case: Any) -> None:
        contents.append(case[0].SerializeToString())

    collect()
    rng, path, refused = random.Random(0), tmp_path / "m.onnx", 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(250):
        path.write_bytes(damaged(rng.choice(contents), rng))
        started = time.monotonic()
        try:
            load_model(path)
        except ImporterError as error:
            assert str(error)
            assert "\n" not in str(error)
            refused += 1
        assert time.monotonic() - started < 10
    assert refused > 150
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
