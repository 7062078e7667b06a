"""Two quantizers one behind the other, and biases in units of their own: what ONNX Runtime makes of them, or refused."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="ONNX models are read with the package onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

from onnx import TensorProto, helper  # noqa: E402

from sim.importers import ImporterError  # noqa: E402
from sim.importers.onnx.model import model_of  # noqa: E402
from sim.importers.onnx.pairs import merged  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.onnx_oracle import converted, differing  # noqa: E402
from tests.test_importers_onnx import model_of as model_with  # noqa: E402

f32 = np.float32
NEUTRAL: Any = {"Identity": (), "Dropout": (), "Add": ("nought",), "Sub": ("nought",), "Mul": ("one",), "Div": ("one",),
                "Cast": ()}
SIDES = {"x": ["N", 1, 9, 9]}


class _Chain:
    """Nodes and constants of quantizers, one behind the other; `at` is the last tensor."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {"nought": f32(0), "one": f32(1)}
        self.at = "x"

    def then(self, kind: str, *more: str, **told: Any) -> str:
        self.nodes.append(helper.make_node(kind, [self.at, *more], [f"t{len(self.nodes)}"], **told))
        self.at = self.nodes[-1].output[0]
        return self.at

    def pair(self, scale: float, zero: Any, between: str = "") -> None:
        names = f"s{len(self.nodes)}", f"z{len(self.nodes)}"
        self.constants |= {names[0]: f32(scale), names[1]: np.asarray(zero)}
        self.then("QuantizeLinear", *names)
        if between:
            self.then(between)
        self.then("DequantizeLinear", *names)

    def convolved(self, scale: float, bias_scale: float | None = None, bias_zero: int = 0) -> None:
        rng = np.random.default_rng(3)
        self.constants |= {"w": rng.integers(-99, 99, (2, 1, 3, 3)).astype(np.int8), "ws": f32(.01), "wz": np.int8(0),
                           "b": np.array([500, -900], np.int32), "bs": f32(bias_scale or 0), "bz": np.int32(bias_zero)}
        self.nodes.append(helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"]))
        if bias_scale is not None:
            self.nodes.append(helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["db"]))
        self.then("Conv", "dw", *([] if bias_scale is None else ["db"]))
        self.pair(scale, np.uint8(120))

    def model(self, **outputs: int) -> Any:
        surface = [("x", TensorProto.FLOAT, SIDES["x"])]
        given = {self.at: TensorProto.FLOAT, **outputs}
        return model_with(self.nodes, self.constants, surface, [(name, kind, None) for name, kind in given.items()], 21)


def _numbers() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (20, 1, 9, 9)).astype(f32)


def _left(model: Any) -> int:
    """Quantizers that are left."""
    return sum(node.kind == "QuantizeLinear" for node in merged(model_of(model, Path())).nodes)


@examples(100)
@given(st.data())
def test_quantizers_in_a_row__are_those_that_the_runtime_makes(data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    chain, dtype = _Chain(), data.draw(st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]))
    info, places = np.iinfo(dtype), data.draw(st.integers(2, 4))
    for place in range(places):
        for kind in data.draw(st.lists(st.sampled_from(sorted(NEUTRAL)), max_size=2)) if place else []:
            chain.then(kind, *NEUTRAL[kind], **({"to": TensorProto.FLOAT} if kind == "Cast" else {}))
        zero = dtype(rng.choice([info.min, info.max, rng.integers(info.min, info.max + 1)]))
        between = data.draw(st.sampled_from(["", "Identity"]))
        chain.pair(10.0 ** rng.uniform(-3, -1) * 255 / (info.max - info.min), zero, between)
    if data.draw(st.booleans()) and dtype == np.uint8:
        chain.convolved(0.1)
    model = chain.model()
    try:
        assert differing(model, {"x": _numbers()}, every=False)[1] == {}
    except ImporterError as error:
        assert "shares no number but 0" in str(error)
        return
    assert _left(model) == (2 if chain.nodes[-3].op_type == "Conv" else 1)


def test_four_pairs__are_merged_two_by_two() -> None:
    """One after the other gives another scale."""
    chain = _Chain()
    for scale, zero in ((0.0114, 255), (0.0235, 255), (0.00566610, 105), (0.00465629, 129)):
        chain.pair(scale, np.uint8(zero))
    assert _left(chain.model()) == 1
    assert differing(chain.model(), {"x": _numbers()}, every=False)[1] == {}


def test_merged__scale_and_zero_point_are_plain_numbers() -> None:
    chain = _Chain()
    chain.pair(0.5, np.uint8(128))
    chain.pair(0.25, np.uint8(0))
    model = merged(model_of(chain.model(), Path()))
    scale, zero = (model.constants[name].array for name in model.nodes[0].inputs[1:])
    high = min(Fraction(255 - 128) / 2, Fraction(255) / 4)
    assert (Fraction(float(scale)), int(zero)) == (Fraction(float(f32(float(high / 255)))), 0)
    assert [node.kind for node in model.nodes] == ["QuantizeLinear", "DequantizeLinear"]


def test_not_merged__what_something_else_reads_or_what_differs() -> None:
    def chain(second: Any = None, between: str = "") -> _Chain:
        made = _Chain()
        made.pair(0.02, np.uint8(100))
        if between:
            made.then(between)
        made.pair(0.03, np.uint8(120) if second is None else second)
        return made

    seen = chain()
    shown = [seen.model(**{node.output[0]: kind}) for node, kind in zip(seen.nodes, (
        TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8), strict=False)]
    unnamed = chain()
    for node in unnamed.nodes[:2]:
        del node.input[2]
    unnamed.constants["z0"] = np.uint8(0)
    for model in (*shown, chain(np.int8(0)).model(), chain(between="Relu").model(), unnamed.model()):
        assert _left(model) == 2
        assert differing(model, {"x": _numbers()}, every=False)[1] == {}
    assert _left(chain().model()) == 1


def test_scales__that_an_operator_gives_are_refused_between_quantizers() -> None:
    chain = _Chain()
    chain.pair(0.02, np.uint8(100))
    chain.pair(0.03, np.uint8(120))
    chain.nodes.insert(0, helper.make_node("Identity", ["s0"], ["made"]))
    for node in chain.nodes[1:3]:
        node.input[1] = "made"
    with pytest.raises(ImporterError, match="scale and zero point must be in the file"):
        converted(chain.model())


@pytest.mark.parametrize(("factor", "zero", "is_fused"), [
    (1.0, 0, True), (1.009, 0, True), (0.991, 0, True), (1.02, 0, False), (0.9, 0, False), (1.0, 3, False)])
def test_conv__a_bias_in_other_units_than_its_sums_is_float_in_the_runtime(factor: float, zero: int, is_fused: bool) -> None:
    chain = _Chain()
    chain.pair(0.02, np.uint8(100))
    chain.convolved(0.1, 0.02 * 0.01 * factor, zero)
    if is_fused:
        assert differing(chain.model(), {"x": _numbers()})[1] == {}
    else:
        with pytest.raises(ImporterError, match="would run it in float32"):
            converted(chain.model())
