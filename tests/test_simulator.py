"""The machine against plain Python integers: every operation, width, accumulator and requantizer."""

import dataclasses
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import reference
from sim.accumulator import Accumulator, AccumulatorOverflowError, bits_for, prefix_bounds
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.inputs import InputError
from sim.kernels.elementwise import POOLED
from sim.kernels.isa import PLAIN, has_byte_permutes
from sim.kernels.layout import divide
from sim.kernels.stages import divide_stages
from sim.lowering import LowerError, lower
from sim.machine import Machine
from sim.network import Activation, Conv, Graph, Input, NetworkSpec, Precision, expected_arrays
from sim.program import ConvOp, InputOp, PoolOp, Program, TableOp, output_side
from sim.requantizers.fp32 import Fp32
from tests.examples import compiling, instruction_sets
from tests.strategies import accumulators, codes, conv_ops, generators, given_to, programs, requantizers, zero_points

ISAS = instruction_sets()
ONE = Fp32(np.ones(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))


def assert_same(program: Program, given: np.ndarray | dict[str, np.ndarray], isa: str) -> None:
    machine = Machine(program, isa)
    trace: dict[str, np.ndarray] = {}
    machine.run(given, trace)
    inputs = given if isinstance(given, dict) else {program.inputs[0]: given}
    expected_overflows = {op.name: np.zeros(op.shape[2], np.int64) for op in program.accumulating}
    for index in range(len(next(iter(inputs.values())))):
        values, overflows = reference.run(program, {name: array[index].tolist() for name, array in inputs.items()})
        for name, value in values.items():
            np.testing.assert_array_equal(trace[name][index], np.array(value), err_msg=name, strict=False)
        for name, counts in overflows.items():
            expected_overflows[name] += np.array(counts)
    for name, counts in expected_overflows.items():
        np.testing.assert_array_equal(machine.overflows[name], counts, err_msg=name)


def image_codes(program: Program, data: st.DataObject, count: int = 1) -> np.ndarray:
    return codes(data.draw, (count, *program.ops[0].shape), IntFormat(8, signed=False)).astype(np.uint8)


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data())
def test_machine__equals_plain_integers_in_every_operation(isa, data):
    program = data.draw(programs(inputs=3))
    assert_same(program, given_to(data.draw, program, 2), isa)


@pytest.mark.parametrize("isa", ISAS[-1:])
@given(data=st.data())
@compiling(40)
def test_counted_run__is_the_run_and_tells_what_every_operation_alone_does(isa, data):
    program = data.draw(programs())
    narrow = st.builds(Accumulator, st.integers(3, 10), st.sampled_from(["wrap", "saturate"]), st.sampled_from([0, 1, 3]))
    program = Program(tuple(dataclasses.replace(op, accumulator=data.draw(narrow)) if op in program.accumulating else op
                            for op in program.ops))
    given, plain, counted = given_to(data.draw, program, 3), Machine(program, isa), Machine(program, isa)
    expected, trace, told = plain.run(given), {}, {}
    np.testing.assert_array_equal(counted.run(given, trace, told), expected)
    assert told.keys() == {op.name for op in program.accumulating if op.accumulator.is_limited}
    for name, counts in plain.overflows.items():
        np.testing.assert_array_equal(counted.overflows[name], counts)
    for name, counters in told.items():
        op = next(op for op in program.ops if op.name == name)
        alone = counted.counters(op, *(trace[source] for source in op.sources()))
        assert counters.images == 3
        for kind in ("persistent", "transient"):
            np.testing.assert_array_equal(getattr(counters, kind), getattr(alone, kind))
        if len(counters.stages) == 1:  # what wraps is wrong in the end where the sum does not fit
            kind = "persistent" if op.accumulator.overflow == "wrap" else "clipped"
            np.testing.assert_array_equal(getattr(counters, kind).sum((0, 1)), plain.overflows[name])


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data())
def test_convolution__equals_plain_integers_for_every_accumulator(isa, data):
    form = IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.booleans()))
    shape = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 18))
    table = np.tile(np.linspace(form.min, form.max, 256).round(), (shape[2], 1)).astype(form.dtype)
    image = InputOp("image", "", shape, form, table)
    conv = data.draw(conv_ops("logits", image, [], last=data.draw(st.booleans())))
    program = Program((image, conv))
    assert_same(program, image_codes(program, data), isa)


@pytest.mark.skipif(PLAIN in ISAS, reason="interpreted there are only the plain loops")
@given(data=st.data())
def test_wide_convolutions__equal_the_plain_loops_on_every_instruction_set(data):
    """Rows, channels and groups beyond a register tile, where the plain integers would be too slow; zero points, a bias that
    comes first, windows that begin above the image or not."""
    form = IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.booleans()))
    groups = data.draw(st.sampled_from([1, 1, 2, 5, "depthwise"]))
    depth = data.draw(st.integers(1, 70))
    channels = data.draw(st.one_of(st.integers(1, 150), st.sampled_from([16, 32, 64, 96, 128])))  # whole registers
    if groups == "depthwise":
        groups = depth = channels
    elif groups > 1:
        depth, channels = groups * -(-depth // groups), groups * -(-channels // groups)
    shape = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40)), depth
    table = codes(data.draw, (depth, 256), form).astype(form.dtype)
    side = min(data.draw(st.sampled_from([1, 2, 3, 3, 4, 5])), *shape[:2])
    stride, padding = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 2))
    weight_format = IntFormat(data.draw(st.sampled_from([2, 3, 8, 9, 13, 15])), signed=True)
    weights = codes(data.draw, (side, side, depth // groups, channels), weight_format).astype(np.int32)
    paddings = data.draw(st.sampled_from([(), (), (0, 1, 0, 1), (1, 2, 1, 0), (1, 0, 0, 1)]))
    above, below, before, behind = paddings or (padding,) * 4
    out = (output_side(shape[0] + above + below, side, stride, 0), output_side(shape[1] + before + behind, side, stride, 0),
           channels)
    middle, last = (IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.sampled_from([False, False, True])))
                    for _ in range(2))

    zeros = {name: data.draw(zero_points(each)) for name, each in (("image", form), ("before", middle), ("conv", last))}

    def conv(name, source, skip, operand, target, weights, groups):
        reach = 2 * int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max()) * (operand.max + 1)
        start = codes(data.draw, (channels,), IntFormat(10, signed=True)) if data.draw(st.integers(0, 2)) == 0 else None
        window = {"padding": 1}
        if source == "image":
            window = {"padding": 0 if paddings else padding, "paddings": paddings}
        return ConvOp(name, source, out, target, skip=skip, weights=weights, stride=stride if source == "image" else 1,
                      groups=groups, operand=operand, weight_format=weight_format, weight_bits=8,
                      accumulator=data.draw(accumulators()), requant=data.draw(requantizers(channels, reach + 512)),
                      start=start, operand_zero=zeros[source], zero_point=zeros[name], **window)

    again = codes(data.draw, (3, 3, channels // groups, channels), weight_format).astype(np.int32)
    skip = "" if zeros["before"] else data.draw(st.sampled_from(["", "before"]))
    program = Program((
        InputOp("image", "", shape, form, table, zero_point=zeros["image"]),
        conv("before", "image", "", form, middle, weights, groups),
        conv("conv", "before", skip, middle, last, again, groups),
        ConvOp("logits", "conv", (1, 1, 1), None, skip="", weights=np.ones((*out[:2], channels, 1), np.int32), stride=1,
               padding=0, groups=1, operand=last, weight_format=IntFormat(2, signed=True), weight_bits=1,
               accumulator=Accumulator(), requant=ONE, operand_zero=zeros["conv"])))
    pixels = image_codes(program, data, 3)
    plain, *others = (Machine(program, isa) for isa in (PLAIN, *ISAS))
    expected: dict[str, np.ndarray] = {}
    plain.run(pixels, expected)
    for machine in others:
        trace: dict[str, np.ndarray] = {}
        machine.run(pixels, trace)
        for name in ("before", "conv", "logits"):
            np.testing.assert_array_equal(trace[name], expected[name], err_msg=f"{machine.isa} {name}")
            np.testing.assert_array_equal(machine.overflows[name], plain.overflows[name], err_msg=f"{machine.isa} {name}")


@pytest.mark.skipif(PLAIN in ISAS, reason="interpreted there are only the plain loops")
@pytest.mark.parametrize("weight", [-128, 127, -255, 255])
@pytest.mark.parametrize("shape", [(9, 3, 1), (20, 64, 1), (7, 48, 48), (33, 130, 1)])
def test_extremes__of_every_code_are_exact_on_every_instruction_set(weight, shape):
    """255 x -128 everywhere: what vpmaddubsw and float32 sums beyond 2^24 would get wrong."""
    side, channels, groups = shape
    form = IntFormat(8, signed=False)
    weights = np.full((3, 3, channels // groups, channels), weight, np.int32)
    program = Program((InputOp("image", "", (side, side, channels), form, np.full((channels, 256), 255, np.uint8)), ConvOp(
        "logits", "image", (1, 1, channels), None, skip="", weights=weights, stride=side, padding=0, groups=groups,
        operand=form, weight_format=IntFormat(9, signed=True), weight_bits=8, accumulator=Accumulator(),
        requant=Fp32(np.ones(channels, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32)))))
    for isa in ISAS:
        sums = Machine(program, isa).sums(program.convolutions[0], np.full((2, side, side, channels), 255, np.uint8))
        assert (sums == 255 * weight * 9 * channels // groups).all()


def single(weights: np.ndarray, form: IntFormat, accumulator: Accumulator) -> Program:
    """One pixel of as many channels as there are products, one output: its logit is the register's content."""
    count = weights.shape[0]
    table = np.tile(np.arange(256) + form.min, (count, 1)).astype(form.dtype)
    one = Fp32(np.ones(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))
    return Program((
        InputOp("image", "", (1, 1, count), form, table),
        ConvOp("logits", "image", (1, 1, 1), None, skip="", weights=weights.reshape(1, 1, count, 1).astype(np.int32),
               stride=1, padding=0, groups=1, operand=form, weight_format=IntFormat(9, signed=True), weight_bits=8,
               accumulator=accumulator, requant=one)))


@pytest.mark.parametrize(("accumulator", "register", "overflowed"), [
    (Accumulator(8, "saturate", 1), 127 - 100 + 50, 1),  # 100, 200 -> 127, 27, 77
    (Accumulator(8, "saturate", 2), 127 - 50, 1),        # 200 -> 127, then -100 + 50
    (Accumulator(8, "saturate", 0), 127, 1),             # 150 at once
    (Accumulator(8, "wrap", 1), 150 - 256, 1),
    (Accumulator(8, "wrap", 0), 150 - 256, 1),
    (Accumulator(9, "saturate", 1), 150, 0),
    (Accumulator(None), 150, 0),
])
def test_accumulator__by_hand(accumulator, register, overflowed):
    program = single(np.array([100, 100, -100, 50]), IntFormat(8, signed=False), accumulator)
    machine = Machine(program)
    logits = machine.run(np.ones((1, 1, 1, 4), np.uint8))
    assert logits.tolist() == [[register]]
    assert machine.overflows["logits"].tolist() == [overflowed]


@pytest.mark.parametrize("tile", [0, 1, 2, 5])
@pytest.mark.parametrize("isa", ISAS)
def test_saturation__of_few_outputs_and_of_many_equals_plain_integers(isa, tile):
    """Of 20 channels one clips at some pixels (replayed alone), elsewhere most do (replayed together), or none."""
    form = IntFormat(4, signed=False)
    rng = np.random.default_rng(tile)
    weights = rng.integers(-1, 2, (3, 3, 4, 20)).astype(np.int32)
    weights[..., 7] = rng.integers(-31, 32, (3, 3, 4))
    table = np.tile(np.arange(256) >> 4, (4, 1)).astype(np.uint8)
    one = Fp32(np.ones(20, np.float32), np.zeros(20, np.float32), np.zeros(1, np.float32))
    program = Program((InputOp("image", "", (6, 6, 4), form, table), ConvOp(
        "logits", "image", (6, 6, 20), None, skip="", weights=weights, stride=1, padding=1, groups=1, operand=form,
        weight_format=IntFormat(6, signed=True), weight_bits=6, accumulator=Accumulator(9, "saturate", tile),
        requant=one)))
    pixels = (rng.integers(0, 256, (3, 6, 6, 4)) * np.array([0.05, 0.4, 1.0]).reshape(3, 1, 1, 1)).astype(np.uint8)
    assert_same(program, pixels, isa)
    machine = Machine(program, isa)
    machine.run(pixels)
    counts = machine.overflows["logits"]
    assert counts[7] > 0
    assert (np.delete(counts, 7) == 0).any()


@pytest.mark.skipif(PLAIN in ISAS, reason="interpreted there are only the plain loops")
@given(data=st.data())
def test_saturation__near_the_limits_equals_the_plain_loops_on_every_instruction_set(data):
    """Sums that wander close to the limits of their registers, and beyond: what is watched, flagged and replayed."""
    rng = data.draw(generators)
    form = IntFormat(data.draw(st.integers(1, 5)), signed=data.draw(st.booleans()))
    depth, channels = data.draw(st.sampled_from([(16, 16), (32, 64), (48, 32), (20, 40), (7, 96), (3, 17), (130, 5)]))
    side = data.draw(st.sampled_from([1, 2, 3]))
    reach = data.draw(st.sampled_from([1, 1, 3, 7]))
    weights = rng.integers(-reach, reach + 1, (side, side, depth, channels)) + rng.choice([-1, 0, 0, 1], channels)
    shape = data.draw(st.integers(side, 5)), data.draw(st.integers(side, 33)), depth
    padding = data.draw(st.integers(0, 1))
    out = (*(output_side(length, side, 1, padding) for length in shape[:2]), channels)
    smallest = data.draw(st.sampled_from([form.min, form.max // 2, form.max]))
    x = Padded.of(rng.integers(smallest, form.max + 1, (3, *shape)).astype(form.dtype), 1)
    typical = np.abs(weights).sum((0, 1, 2)).mean() * max(form.max, -form.min)
    bits = max(4, int(np.log2(typical)) + data.draw(st.integers(-3, 1)))
    target = IntFormat(data.draw(st.sampled_from([3, 8])), signed=False)

    def conv(name, source, skip, weights, target):
        most = int(np.abs(weights).sum((0, 1, 2)).max()) * 256
        return ConvOp(name, source, out, target, skip=skip, weights=weights.astype(np.int32), stride=1,
                      padding=padding if source == "image" else 1, groups=1, operand=form if source == "image" else target,
                      weight_format=IntFormat(5, signed=True), weight_bits=5,
                      accumulator=Accumulator(bits, "saturate", data.draw(st.sampled_from([1, 1, 2, 3, 7]))),
                      requant=data.draw(requantizers(channels, most)))

    again = rng.integers(-reach, reach + 1, (3, 3, channels, channels))
    program = Program((
        InputOp("image", "", shape, form, np.zeros((depth, 256), form.dtype)), conv("first", "image", "", weights, target),
        conv("second", "first", "first", again, target),
        ConvOp("logits", "second", (1, 1, 1), None, skip="", weights=np.ones((*out[:2], channels, 1), np.int32), stride=1,
               padding=0, groups=1, operand=target, weight_format=IntFormat(2, signed=True), weight_bits=1,
               accumulator=Accumulator(), requant=ONE)))
    results = []
    for isa in (PLAIN, *ISAS):
        machine = Machine(program, isa)
        first, second = program.convolutions[:2]
        sums = machine.sums(first, x.interior)
        middle, last = (Padded.zeros(3, out, target.dtype, 1) for _ in range(2))
        machine.convolve(first, x, None, middle)
        machine.convolve(second, middle, middle, last)
        results.append((sums, middle.interior, last.interior, *(machine.overflows[op.name] for op in (first, second))))
        for mine, expected in zip(results[-1], results[0], strict=True):
            np.testing.assert_array_equal(mine, expected, err_msg=machine.isa)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("isa", ISAS)
@given(rng=generators)
def test_saturation__watches_registers_to_the_last_unit(isa, signed, rng):
    """Registers that only rise or only fall, by all that their weights allow, and end on a limit or next to it."""
    form, products = IntFormat(1, signed), 200
    sums = rng.integers(-90, 91, 72)
    sums[5::16] = rng.choice([126, 127, 128, 129, -127, -128, -129, -130], 5)  # one of those that are flagged together
    weights = np.zeros((1, 1, products, len(sums)), np.int32)
    for channel, total in enumerate(sums):
        weights[0, 0, rng.permutation(products)[: abs(total)], channel] = -np.sign(total) if signed else np.sign(total)
    one = Fp32(np.ones(len(sums), np.float32), np.zeros(len(sums), np.float32), np.zeros(1, np.float32))
    program = Program((InputOp("image", "", (1, 3, products), form, np.zeros((products, 256), form.dtype)), ConvOp(
        "logits", "image", (1, 3, len(sums)), None, skip="", weights=weights, stride=1, padding=0, groups=1, operand=form,
        weight_format=IntFormat(2, signed=True), weight_bits=2, accumulator=Accumulator(8, "saturate", 1), requant=one)))
    machine = Machine(program, isa)
    registers = machine.sums(program.convolutions[0], np.full((2, 1, 3, products), -1 if signed else 1, form.dtype))
    np.testing.assert_array_equal(registers, np.broadcast_to(np.clip(sums, -128, 127), registers.shape))
    np.testing.assert_array_equal(machine.overflows["logits"], 6 * ((sums > 127) | (sums < -128)))


@pytest.mark.exhaustive
@pytest.mark.skipif(PLAIN in ISAS, reason="interpreted kernels free nothing")
@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="kernels that check indices take as long to compile again")
@pytest.mark.parametrize("isa", ISAS)
def test_kernels__read_nothing_that_is_freed(isa):
    """Freed memory usually still holds what was there: glibc overwrites it here."""
    code = f"from sim.proof import prove; print(prove({isa!r}, 100))"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"MALLOC_PERTURB_": "165"}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_saturation__is_not_watched_where_a_sum_could_pass_for_no_sum():
    """Signed codes are watched with 128 on top of them: that may reach 2^31, where the register itself is far from it."""
    weights = np.full((1, 1, 2**17, 1), 127, np.int32)
    form, register = IntFormat(2, signed=True), IntFormat(30, signed=True)
    assert divide_stages(weights[:, :, :1024], divide(weights[:, :, :1024], 1, 64), 4, form, register) is not None
    assert divide_stages(weights, divide(weights, 1, 64), 4, form, register) is None


def test_wrap__does_not_count_excursions_that_cancel():
    program = single(np.array([100, 100, -100]), IntFormat(8, signed=False), Accumulator(8, "wrap", 1))
    machine = Machine(program)
    assert machine.run(np.ones((1, 1, 1, 3), np.uint8)).tolist() == [[100]]
    assert machine.overflows["logits"].tolist() == [0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("products", "register", "overflowed"), [
    ([100, 27, -10], 117, 0), ([100, 28, -10], 117, 1), ([-10, 100, 28], 118, 0),
    ([-100, -28, 10], -118, 0), ([-100, -29, 10], -118, 1), ([10, -100, -29], -119, 0),
])
def test_saturation__at_the_very_edge_of_the_register(isa, products, register, overflowed):
    """The screen looks at sums of either sign, the register at prefixes: both must be right to the last unit."""
    program = single(np.array(products), IntFormat(8, signed=False), Accumulator(8, "saturate", 1))
    machine = Machine(program, isa)
    assert machine.run(np.ones((1, 1, 1, 3), np.uint8)).tolist() == [[register]]
    assert machine.overflows["logits"].tolist() == [overflowed]


def test_error__names_layer_channel_and_safe_width():
    program = single(np.array([100, 100, -100]), IntFormat(8, signed=False), Accumulator(8, "error", 1))
    with pytest.raises(AccumulatorOverflowError, match=r"logits, channel 0: .* 8-bit .* 17 bits can never overflow"):
        Machine(program).run(np.ones((1, 1, 1, 3), np.uint8))


def test_error__passes_where_nothing_overflows():
    program = single(np.array([100, -100, 100]), IntFormat(8, signed=False), Accumulator(8, "error", 1))
    assert Machine(program).run(np.ones((1, 1, 1, 3), np.uint8)).tolist() == [[100]]


@given(st.data())
def test_prefix_bounds__hold_every_partial_sum_and_are_reached(data):
    operand = IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.booleans()))
    weights = codes(data.draw, (1, 1, data.draw(st.integers(1, 8)), 1), IntFormat(8, signed=True))
    low, high = (int(bound[0]) for bound in prefix_bounds(weights, operand))
    column = weights.ravel().tolist()
    ends = (operand.min, operand.max)
    assert high == sum(max(0, *(w * x for x in ends)) for w in column)
    assert low == sum(min(0, *(w * x for x in ends)) for w in column)


@given(st.integers(-(2**40), 0), st.integers(0, 2**40))
def test_bits_for__is_the_narrowest_register(low, high):
    bits = bits_for(low, high)
    assert -(2 ** (bits - 1)) <= low
    assert high < 2 ** (bits - 1)
    assert bits == 1 or not (-(2 ** (bits - 2)) <= low and high < 2 ** (bits - 2))


@pytest.mark.skipif(PLAIN in ISAS, reason="interpreted there are only the plain loops")
@pytest.mark.parametrize(("channels", "columns"), [(16, 21), (32, 9), (32, 7), (48, 21)])
def test_codes__of_lines_longer_than_a_tile_are_the_plain_loops(channels, columns):
    """Pixels that touch in memory, of 16 or 32 channels, are stored several at once, those of 48 one by one."""
    rng, form = np.random.default_rng(channels), IntFormat(8, signed=False)
    weights = rng.integers(-9, 10, (1, 1, 4, channels)).astype(np.int32)
    scale = Fp32(np.full(channels, 0.05, np.float32), np.full(channels, 99.0, np.float32), np.zeros(1, np.float32))
    place = {"skip": "", "stride": 1, "padding": 0, "groups": 1, "operand": form, "weight_format": IntFormat(5, signed=True),
             "weight_bits": 5, "accumulator": Accumulator()}
    program = Program((
        InputOp("image", "", (2, columns, 4), form, np.zeros((4, 256), np.uint8)),
        ConvOp("conv", "image", (2, columns, channels), form, weights=weights, requant=scale, **place),
        ConvOp("logits", "conv", (1, 1, 1), None, weights=np.ones((2, columns, channels, 1), np.int32), requant=ONE,
               **place)))
    x = rng.integers(0, 256, (1, 2, columns, 4)).astype(np.uint8)
    expected, *found = (Machine(program, isa).apply(program.ops[1], x, {"image": x}) for isa in (PLAIN, *ISAS))
    assert len(np.unique(expected)) > 20
    for codes_found in found:
        np.testing.assert_array_equal(codes_found, expected)


@pytest.mark.skipif(PLAIN in ISAS, reason="interpreted there are only the plain loops")
@pytest.mark.parametrize("residual", ["", "image"])
@pytest.mark.parametrize("accumulator", [Accumulator(), Accumulator(12, "wrap"), Accumulator(12, "saturate", 0),
                                         Accumulator(12, "saturate", 4)])
@pytest.mark.parametrize(("channels", "groups", "source", "target"), [
    (24, 1, IntFormat(8, signed=True), IntFormat(8, signed=True)),
    (40, 40, IntFormat(8, signed=False), IntFormat(3, signed=False)),
    *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in (
        (40, 1, IntFormat(8, signed=False), IntFormat(5, signed=True, narrow=True)),
        (80, 1, IntFormat(8, signed=True), IntFormat(8, signed=False)),
        (32, 1, IntFormat(8, signed=False), IntFormat(4, signed=True)),
        (24, 24, IntFormat(8, signed=True), IntFormat(8, signed=True, narrow=True))))])
def test_codes__of_any_sign_and_number_of_channels_are_the_plain_loops(channels, groups, source, target, accumulator,
                                                                       residual):
    """Channels that fill no whole registers are written next to others' codes, which must stay as they are."""
    rng, side = np.random.default_rng(channels), (3, 18)
    weights = rng.integers(-40, 41, (3, 3, channels // groups, channels)).astype(np.int32)
    typical = np.abs(weights).sum((0, 1, 2)).mean() * 20 if accumulator.bits is None else 2.0**accumulator.bits
    scale = Fp32((rng.uniform(0.5, 2.0, channels) * 2.0**target.bits / typical).astype(np.float32),
                 rng.normal(0.0, 3.0, channels).astype(np.float32), np.array([0.3], np.float32))
    place = {"stride": 1, "groups": 1, "weight_format": IntFormat(7, signed=True), "weight_bits": 7}
    program = Program((
        InputOp("image", "", (*side, channels), source, np.zeros((channels, 256), source.dtype)),
        ConvOp("conv", "image", (*side, channels), target, skip=residual, weights=weights, requant=scale, operand=source,
               padding=1, accumulator=accumulator, **{**place, "groups": groups}),
        ConvOp("logits", "conv", (1, 1, 1), None, skip="", weights=np.ones((*side, channels, 1), np.int32), requant=ONE,
               operand=target, padding=0, accumulator=Accumulator(), **place)))
    x = rng.integers(source.min, source.max + 1, (2, *side, channels)).astype(source.dtype)
    machines = [Machine(program, isa) for isa in (PLAIN, *ISAS)]
    expected, *found = (machine.apply(program.ops[1], x, {"image": x}) for machine in machines)
    assert len(np.unique(expected)) > (target.max - target.min) // 4
    for machine, codes_found in zip(machines[1:], found, strict=True):
        np.testing.assert_array_equal(codes_found, expected)
        np.testing.assert_array_equal(machine.overflows["conv"], machines[0].overflows["conv"])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("columns", "channels"), [(1, 64), (7, 13), (9, 7), (5, 64), (40, 5)])
def test_tables__of_bytes_are_looked_up_in_rows_of_any_length(isa, columns, channels):
    """Whole registers at a time, the last of which begins early; the border beside a row is not theirs."""
    rng, source, target = np.random.default_rng(columns), IntFormat(8, signed=True), IntFormat(8, signed=False)
    shape = (3, columns, channels)
    program = Program((
        InputOp("image", "", shape, source, np.zeros((channels, 256), source.dtype)),
        TableOp("table", "image", shape, target, rng.permutation(256).astype(np.uint8), -128),
        ConvOp("logits", "table", (5, columns + 2, 1), None, skip="", weights=np.ones((1, 1, channels, 1), np.int32),
               requant=ONE, operand=target, padding=1, accumulator=Accumulator(), stride=1, groups=1,
               weight_format=IntFormat(2, signed=True), weight_bits=2)))
    assert isinstance(program.ops[1], TableOp)
    x = rng.integers(-128, 128, (4, *shape)).astype(np.int8)
    machine = Machine(program, isa)
    found = machine.apply(program.ops[1], x, {"image": x})
    np.testing.assert_array_equal(found, program.ops[1].table[x.astype(int) + 128])
    assert machine.path_of(program.ops[1]) == ("by permutes" if isa in ("vnni", "amx") and has_byte_permutes()
                                               and columns * channels >= 64 else "")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [POOLED, POOLED + 1, 2 * POOLED + 44])
def test_pool__of_more_channels_than_are_pooled_together(isa, channels):
    rng, form = np.random.default_rng(channels), IntFormat(8, signed=True)
    offsets = rng.normal(0.0, 9.0, channels).astype(np.float32)
    gain = Fp32(np.full(channels, 1 / 6, np.float32), offsets, np.zeros(1, np.float32))
    program = Program((
        InputOp("image", "", (2, 3, channels), form, np.zeros((channels, 256), form.dtype)),
        PoolOp("pool", "image", (1, 1, channels), form, 2, 1, 0, gain, 3),
        ConvOp("logits", "pool", (1, 1, 1), None, skip="", weights=np.ones((1, 1, channels, 1), np.int32), requant=ONE,
               operand=form, padding=0, accumulator=Accumulator(), stride=1, groups=1,
               weight_format=IntFormat(2, signed=True), weight_bits=2)))
    x = rng.integers(-128, 128, (2, 2, 3, channels)).astype(np.int8)
    found = Machine(program, isa).apply(program.ops[1], x, {"image": x})
    steps = x.astype(np.float32).sum((1, 2)) * gain.gain + gain.offset
    np.testing.assert_array_equal(found[:, 0, 0], np.rint(steps).clip(-128, 127))


@pytest.mark.parametrize("read", [
    lambda machine, op, x: machine.sums(op, x), lambda machine, op, x: machine.apply(op, x, {"image": x})])
def test_codes_of_another_type__are_refused(read):
    machine = Machine(single(np.array([1, 2, 3]), IntFormat(8, signed=False), Accumulator()))
    op, x = machine.program.convolutions[0], np.ones((1, 1, 1, 3), np.int64)
    assert read(machine, op, x.astype(np.uint8)).item() == 6
    with pytest.raises(ValueError, match="int64, expected uint8"):
        read(machine, op, x)


@pytest.mark.parametrize(("pixels", "message"), [
    (np.zeros((1, 1, 1, 3), np.int64), "uint8"), (np.zeros((1, 3), np.uint8), "uint8"),
    (np.zeros((1, 1, 1, 4), np.uint8), "uint8"),
])
def test_run__refuses_other_pixels(pixels, message):
    program = single(np.array([1, 2, 3]), IntFormat(8, signed=False), Accumulator())
    with pytest.raises(ValueError, match=message):
        Machine(program).run(pixels)


@pytest.mark.parametrize("requant", ["fp32", "tflite_single"])
def test_machine__is_a_value_and_refuses_what_is_none(requant):
    """Equal, hashed, shown and pickled by program and instruction set; interpreted as well as compiled."""
    image = Input("image", height=4, width=6, channels=1, mean=(0.5,), std=(0.5,))
    layer = Conv("logits", "image", channels=3, kernel=4, stride=4, role="boundary", norm=False)
    weights = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 1, 4, 4)
    program, other = (lower(NetworkSpec(Graph((image, layer)), {"logits.weight": array}, Precision(8), "dorefa"),
                            HardwareSpec(requant=requant)) for array in (weights, weights[::-1].copy()))
    machine, again = Machine(program, ISAS[0]), pickle.loads(pickle.dumps(Machine(program, ISAS[0])))
    assert machine == again != Machine(other, ISAS[0])
    assert len({machine, again, Machine(other, ISAS[0])}) == 2
    assert program.ops[1].requant == again.program.ops[1].requant != ONE
    assert hash(program.ops[1].requant) == hash(again.program.ops[1].requant)
    assert repr(machine) == (f"<Machine {ISAS[0]}: Program: 4x6x1 u8 pixels -> 3 logits, 2 operations, 48 MACs, "
                             f"weights 8 bits, codes 8 bits, {requant}>")
    pixels = np.asfortranarray(np.full((2, 4, 6, 1), 200, np.uint8))
    np.testing.assert_array_equal(machine.run(pixels), again.run(pixels[::1].copy()))
    assert machine.tally.images == machine.images == 2
    with pytest.raises(TypeError, match="a Program is wanted"):
        Machine(program.ops)
    with pytest.raises(InputError, match="pixels"):
        machine.run(pixels / 255)
    with pytest.raises(InputError, match="no operation of this program"):
        machine.sums(dataclasses.replace(program.ops[1], name="x"), np.zeros((1, 4, 6, 1), np.int8))


def test_lowering__says_what_it_cannot_do():
    graph = Graph((Input("image", "", 2, 2, 1, (0.5,), (0.5,)),
                   Conv("logits", "image", 2, 2, role="boundary", norm=False)))
    spec = NetworkSpec(graph, {"logits.weight": np.ones((2, 1, 2, 2), np.float32)}, Precision(8), "dorefa")
    real = dataclasses.replace(spec, precision=Precision.of(32))
    for wrong, words in (("ckpt.pt", "a NetworkSpec is wanted"), (real, "float"),
                         (dataclasses.replace(spec, quantizer="none"), "none")):
        with pytest.raises(LowerError, match=words):
            lower(wrong)
    with pytest.raises(LowerError, match="hardware"):
        lower(spec, "fp32")


def test_outputs__of_several_rows_are_told_apart():
    """Logits and codes, of more than one pixel; `run` is for one output."""
    end = Activation("boundary")
    rows = (Input("image", "", 3, 4, 1, (0.5,), (0.5,)),
            Conv("body", "image", 2, 1, role="boundary", norm=False, activation=end),
            Conv("map", "body", 3, 1, role="boundary", norm=False), Conv("head", "body", 2, 1, role="boundary", norm=False))
    graph = Graph(rows, ("map", "body", "head"))
    arrays = {name: np.random.default_rng(0).normal(size=shape).astype(np.float32)
              for name, shape in expected_arrays(graph).items()}
    program = lower(NetworkSpec(graph, arrays, Precision(8), "dorefa"))
    machine, pixels = Machine(program), np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    found, trace = machine.results(pixels), {}
    again = machine.results(pixels, trace)
    assert {name: values.shape for name, values in found.items()} == {
        "map": (2, 3, 4, 3), "body": (2, 3, 4, 2), "head": (2, 3, 4, 2)}
    for name, values in found.items():
        np.testing.assert_array_equal(values, trace[name])
        np.testing.assert_array_equal(values, again[name])
    with pytest.raises(InputError, match="3 outputs"):
        machine.run(pixels)
    one = Program(program.ops[:3], scales=program.scales)
    np.testing.assert_array_equal(Machine(one).run(pixels), found["map"])
    assert machine.path_of(program.ops[0]) == ""
    body, codes = program.ops[1], trace["image"]
    assert machine.accumulate(body, Padded.of(codes, 0)).tolist() == machine.sums(body, codes).tolist()
    out = Padded.zeros(2, body.shape, body.format.dtype, 0)
    machine.convolve(body, Padded.of(codes, 0), None, out)
    np.testing.assert_array_equal(out.interior, found["body"])
