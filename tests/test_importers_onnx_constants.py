"""Operators of constants are folded as onnx.reference computes them, integers as integers, or refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="ONNX models are read with the package onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from sim.importers import ImporterError  # noqa: E402
from sim.importers.builder import Builder  # noqa: E402
from sim.importers.onnx import DOMAINS, OPERATORS  # noqa: E402
from sim.importers.onnx.converted import _take  # noqa: E402
from sim.importers.onnx.graph import Dialect, Graph  # noqa: E402
from sim.importers.onnx.model import model_of  # noqa: E402
from sim.importers.onnx.values import Weights  # noqa: E402
from sim.profiles import profile  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.onnx_oracle import differing, runtime  # noqa: E402
from tests.test_importers_onnx import model_of as model_with  # noqa: E402

DIALECT = Dialect(OPERATORS, DOMAINS, None, None, {})
DTYPES: Any = [np.int8, np.uint8, np.int32, np.int64, np.float32]


def _model(node: Any, constants: dict[str, np.ndarray], opset: int = 18) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(constants["a"].dtype)
    return model_with([node], constants, [("x", TensorProto.FLOAT, ["N"])], [("y", kind, None)], opset)


def _mine(model: Any) -> np.ndarray:
    """What the importer takes the constant `y` for.  Raises ImporterError."""
    read = model_of(model, Path())
    graph = Graph(read, Builder(profile("onnxruntime")), DIALECT, batched=True)
    _take(graph, DIALECT, read.nodes[0])
    found: Any = graph.values["y"]
    return found.array if isinstance(found, Weights) else found


def _theirs(model: Any) -> np.ndarray:
    found = ReferenceEvaluator(model).run(None, {"x": np.zeros(1, np.float32)})[0]
    return np.asarray(found)


@st.composite
def _operators(draw: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """An operator and its constants; most of them make sense."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    dtype, rank = draw(st.sampled_from(DTYPES)), len(shape)
    whole, axis = rng.integers(-100, 100, (2, *shape)), int(rng.integers(-rank, rank))
    a, b = (whole + (rng.random() if dtype == np.float32 else 0)).astype(dtype)
    kind = draw(st.sampled_from(["Slice", "Pad", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Add",
                                 "Sub", "Mul", "Div", "Max", "Min", "Neg", "Abs", "Relu", "Clip", "Cast", "Identity"]))
    more: dict[str, Any] = {}
    told: dict[str, Any] = {}
    if kind == "Slice":
        axes = rng.permutation(rank)[: rng.integers(1, rank + 1)]
        ends = [rng.choice([rng.integers(-6, 7), 2**31 - 1, -(2**62)]) for _ in axes]
        more = {"starts": rng.integers(-6, 7, len(axes)), "ends": np.array(ends, np.int64),
                "axes": axes - rank * rng.integers(0, 2), "steps": rng.choice([1, 1, 2, -1, -2], len(axes))}
    elif kind == "Pad":
        told = {"mode": str(rng.choice(["constant", "constant", "reflect", "edge", "wrap"]))}
        axes = rng.permutation(rank)[: rng.integers(1, rank + 1)]
        low = -1 if told["mode"] == "constant" else 0
        more = {"pads": rng.integers(low, 3, 2 * len(axes)), "value": np.array(rng.integers(0, 100), dtype), "axes": axes}
    elif kind == "Reshape":
        more = {"shape": np.array([[-1], [0, -1], [*shape, 1], [1, -1, shape[-1]]][rng.integers(4)], np.int64)}
    elif kind in ("Squeeze", "Unsqueeze"):
        a = a.reshape(1, *shape, 1)
        more = {"axes": rng.permutation([0, -1])[: rng.integers(1, 3)]}
    elif kind == "Transpose":
        told = {"perm": [int(place) for place in rng.permutation(rank)]} if rng.random() < 0.8 else {}
    elif kind in ("Flatten", "Concat"):
        told = {"axis": axis}
    elif kind == "Clip":
        more = {"low": np.array(3, dtype), "high": np.array(50, dtype)}
    elif kind == "Cast":
        told = {"to": int(rng.choice([TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.INT8]))}
    if kind in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Concat"):
        more = {"b": b if kind == "Concat" or rng.random() < 0.5 else b[..., :1]}
        more["b"][more["b"] == 0] = 7
    constants = {"a": a, **more}
    return helper.make_node(kind, list(constants), ["y"], **told), constants


@examples(400)
@given(_operators())
def test_constants__are_folded_as_onnx_defines_or_refused(case: tuple[Any, dict[str, np.ndarray]]) -> None:
    node, constants = case
    model = _model(node, constants)
    try:
        mine = _mine(model)
    except ImporterError as error:
        assert str(error).startswith(f"{node.op_type} y: ")
        return
    is_cut = node.op_type == "Pad" and constants["pads"].min() < 0  # which the reference does not have
    theirs = runtime(model, {"x": np.zeros(1, np.float32)})["y"] if is_cut else _theirs(model)
    if node.op_type == "Div" and mine.dtype.kind in "iu":  # the reference divides toward minus infinity in some versions
        theirs = np.trunc(constants["a"].astype(np.float64) / constants["b"]).astype(mine.dtype)
    assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("kind", "constants", "told", "wanted"), [
    ("Slice", {"a": np.arange(6), "s": [1], "e": [4], "x": [0], "t": [1]}, {}, [1, 2, 3]),
    ("Slice", {"a": np.arange(6), "s": [-1], "e": [-(2**63)], "x": [-1], "t": [-2]}, {}, [5, 3, 1]),
    ("Pad", {"a": np.array([1, 2, 3]), "p": [2, -1], "v": np.array(9)}, {}, [9, 9, 1, 2]),
    ("Pad", {"a": np.array([1, 2, 3]), "p": [2, 1]}, {"mode": "reflect"}, [3, 2, 1, 2, 3, 2]),
    ("Add", {"a": np.array([16777217], np.int32), "b": np.array([2], np.int32)}, {}, [16777219]),
    ("Clip", {"a": np.array([2**31 - 1, 16777217], np.int32), "l": np.array(0, np.int32), "h": np.array(
        2**31 - 1, np.int32)}, {}, [2**31 - 1, 16777217]),
    ("Div", {"a": np.array([-7, 7]), "b": np.array([2, -2])}, {}, [-3, -3]),
    ("Relu", {"a": np.array([-7, 16777217], np.int32)}, {}, [0, 16777217]),
    ("Concat", {"a": np.array([1]), "b": np.array([2, 3])}, {"axis": 0}, [1, 2, 3])])
def test_constants__numbers(kind: str, constants: dict[str, Any], told: dict[str, Any], wanted: list[int]) -> None:
    model = _model(helper.make_node(kind, list(constants), ["y"], **told), {k: np.asarray(v) for k, v in constants.items()})
    found = _mine(model)
    assert found.dtype == np.asarray(constants["a"]).dtype
    assert found.tolist() == wanted


@pytest.mark.parametrize(("kind", "constants", "told", "match"), [
    ("Slice", {"a": np.arange(6), "s": [4], "e": [2]}, {}, "nothing is left"),
    ("Slice", {"a": np.arange(6), "s": [0, 1], "e": [2, 2], "x": [0, -1]}, {}, "axes"),
    ("Pad", {"a": np.arange(3), "p": [3, 0]}, {"mode": "reflect"}, "of mode reflect around constants"),
    ("Pad", {"a": np.arange(3), "p": [3, 0, 0]}, {}, "are not two for each of 1 axes"),
    ("Cast", {"a": np.array([300.5], np.float32)}, {"to": TensorProto.INT8}, "constants that int8 does not hold"),
    ("Div", {"a": np.arange(3), "b": np.array([0])}, {}, "divides integers by 0"),
    ("Add", {"a": np.arange(3), "b": np.ones(3, np.float32)}, {}, "constants of types int64, float32 are not folded"),
    ("BatchNormalization", {each: np.ones((2, 2)[: 1 + (each == "a")], np.float32) for each in "abcde"}, {}, "is folded")])
def test_constants__are_refused_by_name(kind: str, constants: dict[str, Any], told: dict[str, Any], match: str) -> None:
    model = _model(helper.make_node(kind, list(constants), ["y"], **told), {k: np.asarray(v) for k, v in constants.items()})
    with pytest.raises(ImporterError, match=match):
        _mine(model)


@pytest.mark.parametrize("kind", ["Slice", "reversed", "Pad"])
def test_weights__that_are_cut_or_padded_are_those_of_the_runtime(kind: str) -> None:
    rng = np.random.default_rng(7)
    made = {"Slice": ("Slice", {"s": np.array([0, 0]), "e": np.array([3, 3]), "a": np.array([1, 0])}),
            "reversed": ("Slice", {"s": np.array([2]), "e": np.array([-10]), "a": np.array([2]), "t": np.array([-1])}),
            "Pad": ("Pad", {"p": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "v": np.int8(0)})}[kind]
    constants: dict[str, Any] = {
        "w": rng.integers(-128, 128, (6, 3, 3, 3)).astype(np.int8), "xs": np.float32(.1), "xz": np.uint8(3),
        "ws": np.float32(.01), "wz": np.int8(0), "ys": np.float32(2), "yz": np.uint8(100), **made[1]}
    nodes = [helper.make_node(made[0], ["w", *made[1]], ["ww"]),
             helper.make_node("QLinearConv", ["x", "xs", "xz", "ww", "ws", "wz", "ys", "yz"], ["y"])]
    model = model_with(nodes, constants, [("x", TensorProto.UINT8, ["N", 3, 6, 6])], [("y", TensorProto.UINT8, None)])
    assert differing(model, {"x": rng.integers(0, 256, (5, 3, 6, 6)).astype(np.uint8)})[1] == {}


def test_scales__that_are_cut_are_those_of_the_runtime() -> None:
    rng = np.random.default_rng(7)
    constants = {"w": rng.integers(-128, 128, (8, 3)).astype(np.int8), "s": np.array([.01, .02, .05], np.float32),
                 "st": np.array([2]), "en": np.array([3]), "xs": np.float32(.1), "xz": np.uint8(3), "wz": np.int8(0),
                 "ys": np.float32(.3), "yz": np.uint8(100)}
    nodes = [helper.make_node("Slice", ["s", "st", "en"], ["ws"]),
             helper.make_node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"])]
    model = model_with(nodes, constants, [("x", TensorProto.UINT8, ["N", 8])], [("y", TensorProto.UINT8, None)])
    assert differing(model, {"x": rng.integers(0, 256, (5, 8)).astype(np.uint8)})[1] == {}
