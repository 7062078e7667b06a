"""The fake-quantized model and the integer program agree: under fp32 in every code, in integers to within one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim import reference
from sim.checkpoint import load_checkpoint
from sim.hardware import HardwareSpec
from sim.lowering import LowerError, lower
from sim.machine import Machine
from sim.network import Activation, Conv, Graph, Input, NetworkSpec, Precision
from sim.ops.add import AddOp
from sim.program import ConvOp, PoolOp, Program
from sim.testing import lowered
from tests.conftest import INTERPRETED
from tests.examples import compiling, examples
from tests.strategies import arrays_for, networks, pixels_for
from training.data import load_dataset
from training.network import QuantNetwork

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"


def fq_codes(spec: NetworkSpec, pixels: np.ndarray) -> dict[str, np.ndarray]:
    trace: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        QuantNetwork.from_spec(spec)(torch.from_numpy(pixels).permute(0, 3, 1, 2), trace)
    return {name: values.permute(0, 2, 3, 1).numpy() for name, values in trace.items()}


def assert_equal_codes(spec: NetworkSpec, program: Program, pixels: np.ndarray) -> None:
    trace: dict[str, np.ndarray] = {}
    Machine(program).run(pixels, trace)
    expected = fq_codes(spec, pixels)
    assert trace.keys() == expected.keys()
    for name, codes in trace.items():
        np.testing.assert_array_equal(codes, expected[name], err_msg=name)


@given(st.data())
@compiling(100)
def test_fp32__equals_the_model_in_every_code_of_random_networks(data):
    spec = data.draw(networks())
    assert_equal_codes(spec, lowered(spec, "fp32"), pixels_for(data.draw, spec.graph))


@given(st.data())
@examples(5 if INTERPRETED else 30)
def test_fp32__equals_plain_integers_on_random_networks(data):
    spec = data.draw(networks())
    program = lowered(spec, "fp32")
    pixels = pixels_for(data.draw, spec.graph, 1)
    values, _ = reference.run(program, pixels[0].tolist())
    for name, codes in fq_codes(spec, pixels).items():
        np.testing.assert_array_equal(np.array(values[name]), codes[0], err_msg=name)


@given(st.data())
@compiling(100)
def test_tflite_single__is_within_one_code_of_the_model_on_equal_inputs(data):
    """Wherever float32 itself is within a quarter of a code: beyond that the model is the one that is off."""
    spec = data.draw(networks())
    program = lowered(spec, "tflite_single")
    exact = lowered(spec, "fp32")
    pixels = pixels_for(data.draw, spec.graph)
    expected = fq_codes(spec, pixels)
    machine = Machine(program)
    inputs = {op.name: expected[op.name].astype(op.format.dtype) for op in program.ops if op.format}
    for op, twin in zip(program.ops, exact.ops, strict=True):
        codes = machine.apply(op, pixels, inputs)
        unit = 1.0
        if op.format is None:  # logits, in units of the integer ones
            unit = op.unit
            expected[op.name] = np.rint(expected[op.name].astype(np.float64) / unit)
        sure = np.ones(codes.shape, bool)
        if isinstance(twin, ConvOp):
            sums = np.abs(Machine(exact).sums(twin, inputs[twin.source]).astype(np.float64))
            error = (sums * np.abs(twin.requant.gain) + np.abs(twin.requant.offset)) * 2.0**-22
            if twin.skip:
                error += np.abs(inputs[twin.skip] * float(twin.requant.skip_gain[0])) * 2.0**-22
            sure = error / unit < 0.25
        elif isinstance(twin, AddOp):  # of either sign, far beyond every code
            error = np.abs(inputs[twin.source] * twin.requant.gain.astype(np.float64))
            error += np.abs(inputs[twin.other] * float(twin.requant.skip_gain[0]))
            sure = error * 2.0**-22 < 0.25
        difference = np.abs(codes.astype(np.int64) - expected[op.name].astype(np.int64))
        assert difference[sure].max(initial=0) <= 1, op.name


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 16])
def test_trained_network__equals_the_model_at_every_width_on_real_images(bits):
    checkpoint = load_checkpoint(CHECKPOINT)
    spec = checkpoint.spec.at(Precision(bits))
    images = load_dataset("digits", None).test.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    assert_equal_codes(spec, lower(spec, HardwareSpec()), images[: 2 if INTERPRETED else 360])


def test_trained_network__equals_plain_integers_on_a_real_image():
    checkpoint = load_checkpoint(CHECKPOINT)
    program = lower(checkpoint.spec, HardwareSpec(requant="tflite_single"))
    image = load_dataset("digits", None).test.pixels[:1].permute(0, 2, 3, 1).contiguous().numpy()
    trace: dict[str, np.ndarray] = {}
    Machine(program).run(image, trace)
    for name, values in reference.run(program, image[0].tolist())[0].items():
        np.testing.assert_array_equal(trace[name][0], np.array(values), err_msg=name)


def residual_network(limit: float, skip_limit: float, gamma: float, bits: int) -> NetworkSpec:
    """A sum of either sign, far beyond every code, meets a residual of another range."""
    graph = Graph((
        Input("image", "", 2, 2, 1, (0.5,), (0.5,)),
        Conv("stem", "image", 4, role="boundary", activation=Activation("skip", skip_limit)),
        Conv("sum", "stem", 4, skip="stem", activation=Activation("inner", limit)),
        Conv("classifier", "sum", 2, 2, role="boundary", norm=False)))
    arrays = arrays_for(graph, np.random.default_rng(0), wild=False)
    arrays["sum.norm.weight"] = np.full(4, gamma, np.float32)
    return NetworkSpec(graph, arrays, Precision(bits), "dorefa")


@pytest.mark.parametrize("gamma", [-1000.0, -100.0, -18.0, -1.0, 1.0, 100.0])
@pytest.mark.parametrize(("limit", "skip_limit"), [(0.37, 4.0), (0.01, 4.0), (4.0, 0.1), (1.0, 1.0)])
@pytest.mark.parametrize("bits", [2, 8])
def test_tflite_single__residual_of_another_range_is_within_one_code(limit, skip_limit, gamma, bits):
    spec = residual_network(limit, skip_limit, gamma, bits)
    program = lowered(spec, "tflite_single")
    pixels = np.arange(256).astype(np.uint8).reshape(64, 2, 2, 1)
    expected = fq_codes(spec, pixels)
    inputs = {op.name: expected[op.name].astype(op.format.dtype) for op in program.ops if op.format}
    codes = Machine(program).apply(program.ops[2], pixels, inputs).astype(np.int64)
    assert np.abs(codes - expected["sum"].astype(np.int64)).max() <= 1


def test_tflite_single__logits_of_wide_layers_do_not_saturate():
    """16-bit boundary layers sum beyond 28 bits; the argmax must survive the unit of the integer logits."""
    spec = load_checkpoint(CHECKPOINT).spec.at(Precision(2, boundary=16))
    pixels = load_dataset("digits", None).test.pixels[:50].permute(0, 2, 3, 1).contiguous().numpy()
    exact, integer = (Machine(lower(spec, HardwareSpec(requant=name))).run(pixels) for name in ("fp32", "tflite_single"))
    assert len(np.unique(integer)) > 100
    assert (exact.argmax(1) == integer.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("name", ["type", "to", "values", "pop", "forward", "requires_grad"])
def test_rows__may_have_any_name(name):
    graph = Graph((Input("image", "", 2, 2, 1, (0.5,), (0.5,)), Conv(name, "image", 2, 2, role="boundary", norm=False)))
    spec = NetworkSpec(graph, arrays_for(graph, np.random.default_rng(0), wild=False), Precision(2), "dorefa")
    assert_equal_codes(spec, lower(spec, HardwareSpec()), np.zeros((1, 2, 2, 1), np.uint8))


def test_float_layers__have_no_program():
    spec = load_checkpoint(CHECKPOINT).spec
    with pytest.raises(LowerError, match="float"):
        lower(spec.at(Precision(2, boundary=32)), HardwareSpec())


def test_pool_and_residual__are_in_the_trained_network():
    """Guards the tests above: a network without these would prove less than they say."""
    program = lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec())
    assert any(isinstance(op, PoolOp) for op in program.ops)
    assert any(op.skip for op in program.convolutions)
