"""Every constant of every requantizer that exporters take: written, so runtimes have equal codes, or refused by name."""

import dataclasses
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX files are written with the package onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

from sim import testing  # noqa: E402
from sim.accumulator import Accumulator  # noqa: E402
from sim.exporters import ExportError, export  # noqa: E402
from sim.exporters.tails import TAILS  # noqa: E402
from sim.formats import IntFormat  # noqa: E402
from sim.hardware import HardwareSpec  # noqa: E402
from sim.lowering import lower  # noqa: E402
from sim.machine import Machine  # noqa: E402
from sim.network import Activation, Add, AvgPool, Conv, Graph, Input, Multiply, NetworkSpec, Precision  # noqa: E402
from sim.ops.add import AddOp  # noqa: E402
from sim.ops.codes_input import CodesInputOp  # noqa: E402
from sim.ops.conv import ConvOp  # noqa: E402
from sim.ops.multiply import MultiplyOp  # noqa: E402
from sim.ops.rescale import RescaleOp  # noqa: E402
from sim.program import Program  # noqa: E402
from sim.requantizers import REQUANTIZERS  # noqa: E402
from sim.requantizers.mlas import MlasAdd, MlasMultiply  # noqa: E402
from sim.requantizers.ort import Ort  # noqa: E402
from tests.onnx_oracle import runtime  # noqa: E402

BYTE = IntFormat(8, signed=False)


def _reference(model: Any, given: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return dict(zip(names, ReferenceEvaluator(whole).run(names, given), strict=True))


def _differ(program: Program, form: str, codes: np.ndarray, by: Any = runtime) -> int:
    """How many codes and logits of a file differ from the machine's."""
    model, trace = export(program, form), {}
    Machine(program).run(codes, trace)
    names = [op.name for op in program.ops if not op.is_input]
    theirs = by(model, {model.graph.input[0].name: np.ascontiguousarray(codes.transpose(0, 3, 1, 2))}, names)
    return sum(int((theirs[name].astype(np.float64) != trace[name].transpose(0, 3, 1, 2)).sum()) for name in names)


def _steep(bits: int) -> NetworkSpec:
    """A residual, an addition, a product and a pool, with batch norms for which a unit of a sum is several codes."""
    graph = Graph((Input("image", "", 6, 6, 3, (0.5,) * 3, (0.25,) * 3),
                   Conv("stem", "image", channels=4, kernel=3, padding=1, role="boundary", activation=Activation("skip")),
                   Conv("deep", "stem", channels=4, kernel=3, padding=1, groups=4, activation=Activation()),
                   Conv("joined", "deep", channels=4, kernel=1, skip="stem", activation=Activation("skip")),
                   Add("more", "joined", "stem"), Multiply("gated", "more", "joined"),
                   AvgPool("pool", "gated", kernel=2, stride=2),
                   Conv("classifier", "pool", channels=5, kernel=3, role="boundary", norm=False, bias=True)))
    arrays = testing.arrays_for(graph, np.random.default_rng(bits), False, "dorefa")
    arrays |= {name: array * np.float32(30) for name, array in arrays.items() if name.endswith(".norm.weight")}
    return NetworkSpec(graph, arrays, Precision(bits, 8), "dorefa")


@pytest.mark.parametrize("requant", sorted(set(TAILS) - {"exact_add"}))
@pytest.mark.parametrize("bits", range(1, 9))
def test_integer__steep_networks_of_few_bits_are_equal(bits: int, requant: str) -> None:
    program = lower(_steep(bits), HardwareSpec(requant=requant))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3)).astype(np.uint8)
    fractions = [int(op.requant.fraction[0]) for op in program.ops if hasattr(getattr(op, "requant", None), "fraction")]
    assert bits > 3 or any(fractions) == (requant in ("ort", "xnnpack"))
    assert _differ(program, "integer", pixels) == 0
    assert _differ(program, "integer", pixels[:2], _reference) == 0


@pytest.mark.parametrize("bits", range(1, 8))
def test_qoperator__a_bias_between_two_sums_is_refused_by_name(bits: int) -> None:
    graph = Graph((Input("image", "", 6, 6, 3, (0.5,) * 3, (0.25,) * 3),
                   Conv("stem", "image", channels=4, kernel=3, padding=1, role="boundary", activation=Activation()),
                   Conv("deep", "stem", channels=4, kernel=3, padding=1, activation=Activation()),
                   Conv("classifier", "deep", channels=5, kernel=6, role="boundary", norm=False, bias=True)))
    refused = []
    for gain in (1, 30):
        arrays = testing.arrays_for(graph, np.random.default_rng(4), False, "dorefa")
        arrays["deep.norm.weight"] *= np.float32(gain)
        program = lower(NetworkSpec(graph, arrays, Precision(bits, 7), "dorefa"), HardwareSpec(requant="ort"))
        if program.ops[2].requant.fraction[0]:
            with pytest.raises(ExportError, match=r"^deep: its bias is in units of 2\^-[0-9]+ of its sum, which no QLinear"):
                export(program, "qoperator")
            refused.append(gain)
        else:
            pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3)).astype(np.uint8)
            assert _differ(program, "qoperator", pixels) == 0
    assert refused or bits > 3


def _convolution(requant: Any, **more: Any) -> Program:
    weights = np.random.default_rng(1).integers(-3, 4, (1, 1, 2, 2)).astype(np.int32)
    first = CodesInputOp("codes", "", (5, 5, 2), BYTE)
    return Program((first, ConvOp("conv", "codes", (5, 5, 2), BYTE, "codes", weights, 1, 0, 1, BYTE,
                                  IntFormat(8, signed=True), 8, Accumulator(None), requant, **more)))


def _constants(name: str, rng: np.random.Generator) -> Any:
    """Constants of two channels and a residual: no field is at what it is where nobody sets it."""
    ints, reals = (lambda low, high, size=2: rng.integers(low, high, size)), lambda size=2: rng.uniform(.1, .4, size)
    kind = REQUANTIZERS[name]
    if name == "fp32":
        return kind(*(reals(size).astype(np.float32) for size in (2, 2, 1)))
    if name == "thresholds":
        return kind(np.sort(ints(-500, 500, (2, 9)), 1), ints(-9, 9), ints(1, 9), np.sort(ints(0, 255, (1, 5)), 1),
                    ints(-9, 9, 1), ints(1, 9, 1))
    if name == "exact_add":
        return kind(ints(-99, 99), np.array([1, -1]))
    if name == "tflite_single":
        return kind(np.array([3, -2]), ints(-99, 99), ints(2**30, 2**31), np.array([33, 30]), ints(2**30, 2**31, 1),
                    np.array([32]))
    return kind(ints(-99, 99), reals().astype(np.float32), reals(1).astype(np.float32), ints(1, 5, 1))


@pytest.mark.parametrize("name", sorted(TAILS))
def test_integer__every_constant_of_a_requantizer_is_in_the_file(name: str) -> None:
    rng = np.random.default_rng(5)
    requant = _constants(name, rng)
    codes = rng.integers(0, 256, (8, 5, 5, 2)).astype(np.uint8)
    assert _differ(_convolution(requant, zero_point=7, limits=(3, 250)), "integer", codes) == 0
    written = export(_convolution(requant), "integer").SerializeToString()
    for field in dataclasses.fields(requant):
        other = dataclasses.replace(requant, **{field.name: getattr(requant, field.name) + 1
                                                if field.name != "sign" else -requant.sign})
        assert export(_convolution(other), "integer").SerializeToString() != written, field.name


def _pairs(op: Any, zeros: tuple[int, int]) -> Program:
    a = CodesInputOp("a", "", (3, 3, 2), BYTE, zero_point=zeros[0])
    return Program((a, op))


@pytest.mark.parametrize("field", ["scale_a", "scale_b", "fixed", "zero_a", "zero_b", "zero"])
def test_qoperator__an_addition_with_constants_of_its_own_is_refused(field: str) -> None:
    twice = np.array([1, 2], getattr(MlasAdd.of(.3, .2, .4, (9, 9, 40), 2), field).dtype)
    good = MlasAdd.of(.3, .2, .4, (9, 9, 40), 2)
    for requant, is_written in ((good, True), (dataclasses.replace(good, **{field: getattr(good, field) * twice}), False)):
        program = _pairs(AddOp("sum", "a", (3, 3, 2), BYTE, "a", requant, 9, 9, zero_point=40), (9, 9))
        codes = np.random.default_rng(0).integers(0, 256, (8, 3, 3, 2)).astype(np.uint8)
        if is_written:
            assert _differ(program, "qoperator", codes) == 0
        else:
            with pytest.raises(ExportError, match=r"^sum: QLinearAdd "):
                export(program, "qoperator")


@pytest.mark.parametrize(("requant", "zero"), [
    (MlasMultiply(np.array([.01, .02], np.float32), np.array([40, 40])), 40),
    (MlasMultiply(np.array([.01, .01], np.float32), np.array([41, 40])), 40),
    (Ort(np.zeros(2, np.int64), np.array([.01, .01], np.float32), fraction=np.array([3])), 0)])
def test_qoperator__a_product_with_constants_of_its_own_is_refused(requant: Any, zero: int) -> None:
    program = _pairs(MultiplyOp("product", "a", (3, 3, 2), BYTE, "a", requant, zero_point=zero), (0, 0))
    with pytest.raises(ExportError, match=r"^product: (QLinearMul|its bias is in units of 2\^-3) "):
        export(program, "qoperator")


def test_refusals__numbers_beyond_what_a_form_has() -> None:
    wide = IntFormat(16, signed=False)
    product = Program((CodesInputOp("a", "", (1, 1, 2), wide),
                       MultiplyOp("product", "a", (1, 1, 2), BYTE, "a", Ort.from_real(np.full(2, 1e-8), np.zeros(2)))))
    unsigned = Program((CodesInputOp("a", "", (1, 1, 2), IntFormat(32, signed=False)),
                        RescaleOp("less", "a", (1, 1, 2), BYTE, _constants("exact_add", np.random.default_rng(0)))))
    limited = _convolution(_constants("thresholds", np.random.default_rng(0)), limits=(3, 250))
    for program, form, match in ((product, "integer", "^product: its products can pass 32 bits"),
                                 (unsigned, "integer", "^a: gives codes of u32, at most 31 bits without a sign"),
                                 (unsigned, "qonnx", "^a: gives codes of u32, float32 is exact below"),
                                 (limited, "qonnx", "^conv: limits and zero points of codes are not written in QONNX")):
        with pytest.raises(ExportError, match=match):
            export(program, form)
