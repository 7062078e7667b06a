"""Windows that kernels do not know, brought to what they know: dilated taps under every register."""

import dataclasses

import numpy as np
import pytest

from sim import reference
from sim.accumulator import Accumulator, AccumulatorOverflowError
from sim.formats import IntFormat
from sim.kernels.isa import PLAIN
from sim.machine import Machine
from sim.program import ConvOp, InputOp, Program, ProgramError
from sim.requantizers.fp32 import Fp32
from tests.examples import instruction_sets

CODES = IntFormat(8, signed=True)


def dilated(accumulator: Accumulator) -> Program:
    """3x3 taps, two apart: 9 products, of which kernels may make 25."""
    weights = np.random.default_rng(0).integers(-7, 8, (3, 3, 1, 4)).astype(np.int32)
    table = np.arange(256).astype(np.uint8).view(np.int8).reshape(1, 256).copy()
    scale = Fp32(np.ones(4, np.float32), np.zeros(4, np.float32), np.zeros(1, np.float32))
    return Program((InputOp("image", "", (8, 8, 1), CODES, table), ConvOp(
        "logits", "image", (4, 4, 4), None, skip="", weights=weights, stride=1, padding=0, groups=1, operand=CODES,
        weight_format=IntFormat(4, signed=True), weight_bits=4, accumulator=accumulator, requant=scale, dilation=2)))


@pytest.mark.parametrize("isa", [PLAIN, *instruction_sets()])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("tile", [0, 1, 2, 5, 8, 9, 10, 16, 24, 25, 26])
def test_dilated_taps__reach_the_register_as_those_that_there_are(isa, overflow, tile):
    program = dilated(Accumulator(9, overflow, tile))
    pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 1)).astype(np.uint8)
    machine = Machine(program, isa)
    logits = machine.run(pixels)
    values, overflows = reference.run(program, pixels[0].tolist())
    np.testing.assert_array_equal(logits[0], np.array(values["logits"]))
    assert machine.overflows["logits"].tolist() == overflows["logits"]
    assert sum(overflows["logits"]) > 0


@pytest.mark.parametrize("tile", [0, 1, 2, 3, 5, 9, 16])
def test_dilated_taps__stop_a_run_exactly_where_an_addition_does_not_fit(tile):
    """Each image alone: it stops if, and only if, the oracle's saturating register clips."""
    stopping, clipping = (dilated(Accumulator(11, overflow, tile)) for overflow in ("error", "saturate"))
    rng, stops = np.random.default_rng(2), 0
    for _ in range(30):
        pixels = (rng.integers(0, 256, (1, 8, 8, 1)) * rng.random()).astype(np.uint8)
        clips = sum(reference.run(clipping, pixels[0].tolist())[1]["logits"])
        try:
            Machine(stopping).run(pixels)
            stopped = False
        except AccumulatorOverflowError:
            stopped = True
        assert stopped == (clips > 0)
        stops += stopped
    assert 0 < stops < 30


@pytest.mark.parametrize(("index", "change", "message"), [
    (0, {"source": "logits"}, "an input reads no operation"), (0, {"source": None}, "a name is wanted|reads None"),
    (1, {"accumulator": 12}, "must be an Accumulator"), (1, {"paddings": 3}, "paddings a tuple"),
    (1, {"paddings": (1.0, 1, 1, 2)}, "padding"), (1, {"paddings": (1, 2)}, "top, bottom, left"),
    (1, {"dilation": True}, "dilation"), (1, {"stride_width": -1}, "stride_width"), (1, {"operand_zero": 3}, "operand"),
])
def test_operations__of_other_things_are_refused_by_name(index, change, message):
    program = dilated(Accumulator())
    ops = [dataclasses.replace(op, **change) if at == index else op for at, op in enumerate(program.ops)]
    with pytest.raises(ProgramError, match=message):
        Program(tuple(ops))


@pytest.mark.parametrize("outputs", [None, "logits", [3], ("nothing",), ("logits", "logits")])
def test_outputs__that_there_are_not_are_refused(outputs):
    with pytest.raises(ProgramError, match="output"):
        Program(dilated(Accumulator()).ops, outputs)


def test_outputs__in_a_list_are_the_same_program():
    program = dilated(Accumulator())
    listed = Program(program.ops, ["image", "logits"])
    assert listed == Program(program.ops, ("image", "logits"))
    assert listed.digest() == Program(program.ops, ("image", "logits")).digest() != program.digest()
