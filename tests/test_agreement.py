"""The fake-quantized model and the integer program agree: under fp32 in every code, in integers to within one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sim import reference
from sim.checkpoint import load_checkpoint
from sim.hardware import HardwareSpec
from sim.lower import LowerError, lower
from sim.machine import Machine
from sim.network import NetworkSpec, Precision
from sim.program import ConvOp, PoolOp, Program
from tests.conftest import INTERPRETED
from tests.strategies import networks, pixels_for
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


def lowered(spec: NetworkSpec, requant: str) -> Program:
    """The program, unless the drawn network's numbers are beyond what the requantizer says that it can hold."""
    try:
        return lower(spec, HardwareSpec(requant=requant))
    except LowerError as error:
        assume("too large" not in str(error) and "leave the range of float32" not in str(error))
        raise


@given(st.data())
def test_fp32__equals_the_model_in_every_code_of_random_networks(data):
    spec = data.draw(networks())
    assert_equal_codes(spec, lowered(spec, "fp32"), pixels_for(data.draw, spec.graph))


@given(st.data())
@settings(max_examples=5 if INTERPRETED else 30)
def test_fp32__equals_plain_integers_on_random_networks(data):
    spec = data.draw(networks())
    program = lowered(spec, "fp32")
    pixels = pixels_for(data.draw, spec.graph, 1)
    values, _ = reference.run(program, pixels[0].tolist())
    for name, codes in fq_codes(spec, pixels).items():
        np.testing.assert_array_equal(np.array(values[name]), codes[0], err_msg=name)


@given(st.data())
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
        if op.format is None:
            continue
        codes = machine.apply(op, pixels, inputs)
        sure = np.ones(codes.shape, bool)
        if isinstance(twin, ConvOp):
            sums = np.abs(Machine(exact).sums(twin, inputs[twin.source]).astype(np.float64))
            error = (sums * np.abs(twin.requant.gain) + np.abs(twin.requant.offset)) * 2.0**-22
            if twin.skip:
                error += np.abs(inputs[twin.skip] * float(twin.requant.skip_gain[0])) * 2.0**-22
            sure = error < 0.25
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


def test_float_layers__have_no_program():
    spec = load_checkpoint(CHECKPOINT).spec
    with pytest.raises(LowerError, match="float"):
        lower(spec.at(Precision(2, boundary=32)), HardwareSpec())


def test_pool_and_residual__are_in_the_trained_network():
    """Guards the tests above: a network without these would prove less than they say."""
    program = lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec())
    assert any(isinstance(op, PoolOp) for op in program.ops)
    assert any(op.skip for op in program.convolutions)
