"""Rules in the registers of a convolution's tile: the codes of the same rule line by line, in plain loops."""

import dataclasses

import numpy as np
import pytest

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.kernels.isa import PLAIN, VNNI, runnable
from sim.kernels.tile_rules import RULES
from sim.machine import Machine
from sim.ops.codes_input import CodesInputOp
from sim.program import ConvOp, Program
from sim.requantizers import REQUANTIZERS
from sim.requantizers.fp32 import Fp32

SIDE = 9
TILED = ["fp32", "xnnpack", "ort", "single", "double", "ruy"]


def requantizer(rng, name, channels, factors, is_residual):
    """Of gains below and above 1, and biases of some codes."""
    gain = rng.uniform(0.2, 3.0, channels) * rng.choice([1.0, 40.0], channels) * 64 / (np.sqrt(factors) * 73 * 73)
    gain *= rng.choice([1, 1, 1, -1], channels)
    bias = rng.integers(-3000, 3000, channels)
    skip = 0.37 if is_residual else 0.0
    if name == "fp32":
        return Fp32(gain.astype(np.float32), (bias * gain).astype(np.float32), np.array([skip], np.float32))
    kind = REQUANTIZERS[name]
    built, other = kind.from_real(gain, bias), kind.from_real(np.array([skip]), np.zeros(1))
    named = {f"skip_{part}": getattr(other, part) for part in ("scale", "multiplier", "exponent") if hasattr(other, part)}
    return dataclasses.replace(built, **named)


def program(rng, name, case):
    """Codes, then a convolution."""
    kernel, depth, channels, groups, signed, zeros, limits, register, residual = case
    form = IntFormat(8, signed=signed)
    factors = kernel * kernel * depth // groups
    weights = rng.integers(-127, 128, (kernel, kernel, depth // groups, channels)).astype(np.int32)
    source = CodesInputOp("x", "", (SIDE, SIDE, depth), form, zero_point=zeros[0])
    return Program((source, ConvOp(
        "y", "x", (SIDE, SIDE, channels), form, skip="x" if residual else "", weights=weights, stride=1, padding=kernel // 2,
        groups=groups, operand=form, weight_format=IntFormat(8, signed=True), weight_bits=8, accumulator=register,
        requant=requantizer(rng, name, channels, factors, residual), operand_zero=zeros[0], zero_point=zeros[1],
        limits=limits)), ("y",), {"x": 1.0, "y": 1.0})


NONE, WRAP, CLIP = Accumulator(), Accumulator(17, "wrap"), Accumulator(16, "saturate", 0)
CASES = [
    (3, 16, 32, 1, True, (-128, -5), (-100, 50), NONE, False),
    (1, 24, 20, 1, False, (128, 17), (17, 200), WRAP, False),
    (3, 48, 48, 48, True, (3, -128), (), NONE, False),
    (3, 16, 16, 1, True, (0, 0), (), CLIP, True),
    (3, 16, 16, 1, False, (0, 5), (), NONE, True),
]


@pytest.mark.skipif(VNNI not in runnable(), reason="no AVX512-VNNI here: no registers to end in")
@pytest.mark.parametrize("name", [name if name in ("fp32", "double") else pytest.param(name, marks=pytest.mark.exhaustive)
                                  for name in TILED])
def test_codes__in_registers_are_those_of_plain_loops(name):
    for number, case in enumerate(CASES):
        rng = np.random.default_rng(number)
        built = program(rng, name, case)
        form = built.ops[0].format
        codes = rng.integers(form.min, form.max, (2, *built.ops[0].shape), endpoint=True).astype(form.dtype)
        machine, traces = Machine(built, VNNI), ({}, {})
        machine.run(codes, traces[0])
        Machine(built, PLAIN).run(codes, traces[1])
        np.testing.assert_array_equal(traces[0]["y"], traces[1]["y"], err_msg=f"{name} {case}")
        assert len(np.unique(traces[0]["y"])) > 30
        has_bias = name == "fp32" and case[5][0]  # of which the float32 rule knows none
        assert has_bias or any("to codes" in step.path for step in machine._steps.values()), case


def test_rules__are_named_by_requantizers():
    rng, form = np.random.default_rng(0), IntFormat(8, signed=True)
    found = {requantizer(rng, name, 4, 9, False).in_registers(form, 2**20, None, 0).rule for name in TILED}
    assert found == set(RULES)


def test_in_registers__is_none_where_int32_does_not_hold_the_codes():
    form = IntFormat(8, signed=True)
    plain = requantizer(np.random.default_rng(0), "fp32", 4, 9, False)
    assert plain.in_registers(form, 1000, None, 0) is not None
    assert plain.in_registers(form, 1000, np.full(4, 5), 0) is None  # nothing but floats
    assert REQUANTIZERS["double"].from_real(np.array([100.0]), np.zeros(1)).in_registers(form, 2**30, None, 0) is None
    assert REQUANTIZERS["ort"].from_real(np.array([100.0]), np.zeros(1)).in_registers(form, 2**30, None, 0) is None
