"""Operations of programs that were read from files: by hand, at the ends of their domains, and what they refuse."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import reference
from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.inputs import InputError
from sim.machine import Machine
from sim.ops.add import AddOp
from sim.ops.average import AverageOp
from sim.ops.codes_input import CodesInputOp
from sim.ops.compare import MinMaxOp
from sim.ops.divide import DivideError, DivideOp
from sim.ops.matmul import MatMulOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import ROUNDINGS, Op, ProgramError
from sim.ops.reduce import ReduceOp
from sim.ops.rescale import RescaleOp
from sim.ops.slice import SliceOp
from sim.ops.table16 import Table16Op
from sim.program import ConvOp, Program, TableOp
from sim.requantizers.fp32 import Fp32
from sim.requantizers.tflite_single import TfliteSingle
from sim.steps.rounding import rounded_quotients
from tests.examples import instruction_sets
from tests.strategies import given_to, programs

S8, S16, S32, U32 = (IntFormat(bits, signed) for bits, signed in ((8, True), (16, True), (32, True), (32, False)))


def scale(channels: int, multiplier: int, shift: int, bias: int = 0, other: tuple[int, int] = (0, 1)) -> TfliteSingle:
    """(x + bias) multiplier / 2^shift, half up, and the residual times other[0] / 2^other[1]."""
    return TfliteSingle(*(np.full(size, value, np.int64) for size, value in (
        (channels, 0), (channels, bias), (channels, multiplier), (channels, shift), (1, other[0]), (1, other[1]))))


def codes(name: str, shape: tuple[int, int, int], form: IntFormat, zero: int = 0) -> CodesInputOp:
    return CodesInputOp(name, "", shape, form, zero_point=zero)


def results(*ops: Op, **given: object) -> list[int]:
    """Of the last operation, for one image; machine and plain integers agree."""
    program = Program(ops)
    arrays = {name: np.array(values, np.int64).reshape(1, *next(op.shape for op in ops if op.name == name))
              for name, values in given.items()}
    (found,) = Machine(program).results(arrays).values()
    expected, _ = reference.run(program, {name: array[0].tolist() for name, array in arrays.items()})
    np.testing.assert_array_equal(found[0], np.array(expected[ops[-1].name]))
    return found.ravel().tolist()


# ------------------------------------------------------------------------------------------------ inputs and outputs


@pytest.mark.parametrize("isa", instruction_sets())
@given(data=st.data())
def test_program_of_several_inputs__is_plain_integers_of_each_image(isa, data):
    program = data.draw(programs(inputs=3))
    inputs = given_to(data.draw, program, 2)
    trace: dict[str, np.ndarray] = {}
    Machine(program, isa).results(inputs, trace)
    for index in range(2):
        values, _ = reference.run(program, {name: array[index].tolist() for name, array in inputs.items()})
        for name, value in values.items():
            np.testing.assert_array_equal(trace[name][index], np.array(value), err_msg=name)


def sum_of_two() -> Program:
    return Program((codes("a", (1, 1, 2), S8, 3), codes("b", (1, 1, 2), S8),
                    AddOp("sum", "a", (1, 1, 2), S32, "b", scale(1, 1 << 10, 10, other=(1 << 10, 10)), 3, 0)))


def test_inputs__are_told_apart_by_name():
    program = sum_of_two()
    a, b = np.array([[1, 2], [3, 4], [-128, 127]]), np.array([[10, 20], [30, 40], [-128, 127]], np.int8)
    assert program.inputs == ("a", "b")
    assert program.accumulating == []
    assert program.requantizer == ""
    assert repr(program) == "<Program: 1x1x2 s8 codes and 1x1x2 s8 codes -> 2 logits, 3 operations, 0 MACs, codes 8/32 bits>"
    found = Machine(program).run({"a": a, "b": b})
    assert found.tolist() == [[8, 19], [30, 41], [-259, 251]]
    assert found.dtype == np.int32
    for handed, message in (
            (a, "2 inputs, a, b: give an array"), ({"a": a}, "a is given, the inputs are a, b"),
            ({"a": a, "b": b, "c": a}, "the inputs are"), ({"a": a, "b": b[:2]}, "as many images each, not 3 of a, 2 of b"),
            ({"a": a * 2, "b": b}, r"a: codes int8 -128 .. 127 \[N, 1, 1, 2\] are wanted, not int64 \[3, 2\] of -256 .. 2"),
            ({"a": a + 0.5, "b": b}, "not float64"), ({"a": a[:, :1], "b": b}, r"not int64 \[3, 1\]"),
            ({"a": a.tolist(), "b": b}, "not a list"), ({"a": a[:0], "b": b[:0]}, r"\[0, 2\]")):
        with pytest.raises(InputError, match=message):
            Machine(program).run(handed)


def test_input_of_channels_first__is_told_what_to_do():
    program = Program((codes("a", (4, 5, 2), S8), SliceOp("part", "a", (1, 5, 2), S8, (0, 0, 0), (1, 5, 2))))
    assert Machine(program).run(np.ones((2, 4, 5, 2), np.int16)).shape == (2, 1, 5, 2)
    assert Machine(program).run({"a": np.ones((2, 4, 5, 2), np.int16)}).shape == (2, 1, 5, 2)
    with pytest.raises(InputError, match="channels stand last"):
        Machine(program).run(np.ones((2, 2, 4, 5), np.int8))


@pytest.mark.parametrize("form", [S32, U32, IntFormat(17, False), IntFormat(31, True, narrow=True)])
def test_codes__of_any_width_go_through_unchanged(form):
    every = [form.min, form.min + 1, 0, 1, form.max - 1, form.max]
    assert results(codes("x", (1, 2, 3), form), SliceOp("y", "x", (1, 2, 3), form, (0, 0, 0), (1, 2, 3)), x=every) == every
    pool = MaxPoolOp("y", "x", (1, 1, 3), form, 1, 1, 0, 2)
    assert results(codes("x", (1, 2, 3), form), pool, x=every) == every[3:]


# ------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(("limits", "expected"), [
    ((), [-128, -118, 10, 127]), ((10, 127), [10, 10, 10, 127]), ((-128, 20), [-128, -118, 10, 20]), ((5, 5), [5, 5, 5, 5])])
def test_limits__hold_codes_behind_the_zero_point(limits, expected):
    """RELU is a least code of the zero point: clamp(R + zero, lo, hi)."""
    end = RescaleOp("y", "x", (1, 1, 4), S8, scale(1, 1 << 10, 10), zero_point=10, limits=limits)
    assert results(codes("x", (1, 1, 4), S16), end, x=[-1000, -128, 0, 1000]) == expected


@pytest.mark.parametrize("limits", [(1,), (5, 4), (-129, 0), (0, 128), (0.0, 1.0), [0, 1], (False, True)])
def test_limits__that_are_none_are_refused(limits):
    with pytest.raises(ProgramError, match="y: its limits"):
        Program((codes("x", (1, 1, 4), S16), RescaleOp("y", "x", (1, 1, 4), S8, scale(1, 1, 1), limits=limits)))


def test_limits__of_copies_are_refused():
    with pytest.raises(ProgramError, match="it copies codes or gives logits"):
        Program((codes("x", (1, 1, 4), S8), SliceOp("y", "x", (1, 1, 1), S8, (0, 0, 0), (1, 1, 1), limits=(0, 1))))


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("zero", [0, -9])
@pytest.mark.parametrize("other", [0, 6])
def test_limits__of_a_convolution_on_every_path(isa, zero, other):
    """Byte kernels end in registers where there is no zero point, in lines where there is one."""
    rng = np.random.default_rng(3)
    gain = Fp32(np.full(33, 0.02, np.float32), np.zeros(33, np.float32), np.zeros(1, np.float32))
    layer = conv_of(rng.integers(-128, 128, (3, 3, 16, 33)), gain, S8, zero=other, zero_point=zero, limits=(-20, 30),
                    padding=1)
    x = rng.integers(-128, 128, (2, 6, 7, 16)).astype(np.int8)
    found = Machine(Program((codes("x", (6, 7, 16), S8, other), layer)), isa).run(x)
    for image, expected in zip(x, found, strict=True):
        np.testing.assert_array_equal(np.array(layer.reference(image.tolist())[0]), expected)
    assert {-20, 30} <= set(found.ravel().tolist())


def test_digest__changes_with_limits_and_start_and_comes_back_from_files(tmp_path):
    plain = conv_of(np.ones((1, 1, 2, 3), int), scale(3, 1 << 10, 12), S8)
    started = dataclasses.replace(plain, start=np.array([1, -2, 1 << 40]))
    nothing = dataclasses.replace(plain, start=np.zeros(3, np.int64), limits=())
    limited = dataclasses.replace(plain, limits=(0, 9))
    programs_ = [Program((codes("x", (6, 7, 2), S8), op)) for op in (plain, started, limited)]
    assert len({program.digest() for program in programs_}) == len(set(programs_)) == 3
    assert Program((codes("x", (6, 7, 2), S8), nothing)) == programs_[0]
    for program in programs_:
        program.save(tmp_path / "program.npz")
        again = Program.load(tmp_path / "program.npz")
        assert again == program
        assert again.digest() == program.digest()


# ------------------------------------------------------------------------------------------------ registers


def conv_of(weights: np.ndarray, requant: object, form: IntFormat | None, zero: int = 0, **fields: object) -> ConvOp:
    """On codes x (6, 7, C)."""
    rows, columns, _, channels = weights.shape
    padding = fields.get("padding", 0)
    shape = 6 + 2 * padding - rows + 1, 7 + 2 * padding - columns + 1, channels
    return ConvOp(**{
        "name": "y", "source": "x", "shape": shape, "format": form, "skip": "", "weights": weights.astype(np.int32),
        "stride": 1, "padding": 0, "groups": 1, "operand": S8, "weight_format": IntFormat(18, signed=True),
        "weight_bits": 18, "accumulator": Accumulator(), "requant": requant, "operand_zero": zero, **fields})


@pytest.mark.parametrize(("accumulator", "expected", "overflows"), [
    (Accumulator(), 100 + 50 - 30, 0),
    (Accumulator(8, "saturate", 1), 127 - 30, 1),  # 100, 150 -> 127, 97
    (Accumulator(8, "saturate", 0), 120, 0),
    (Accumulator(8, "saturate", 2), 120, 0),
    (Accumulator(8, "wrap", 1), 120, 0),
    (Accumulator(7, "wrap", 1), 120 - 128, 1),
    (Accumulator(7, "saturate", 1), 63 - 30, 1),  # loaded as 63
    (Accumulator(7, "saturate", 0), 63, 1),  # 63, and 20 more
    (Accumulator(9, "saturate", 1), 120, 0)], ids=str)
def test_register__begins_with_the_bias(accumulator, expected, overflows):
    """100 + 5 x 10 - 3 x 10: what is loaded is clipped as any sum; one that wraps is a ring."""
    weights = np.array([5, -3]).reshape(1, 1, 2, 1)
    op = dataclasses.replace(conv_of(weights, scale(1, 1 << 10, 10), S32), accumulator=accumulator,
                             start=np.array([100], np.int64))
    machine = Machine(Program((codes("x", (6, 7, 2), S8), op)))
    x = np.full((1, 6, 7, 2), 10, np.int8)
    assert set(machine.run(x).ravel().tolist()) == {expected}
    assert set(machine.sums(op, x).ravel().tolist()) == {expected}
    assert machine.overflows["y"].tolist() == [2 * 42 * overflows]


@pytest.mark.parametrize("start", [np.zeros(2, np.int64), np.array([1.0]), np.array([1], np.int32), np.array([2**53]), 5])
def test_register__begins_with_nothing_else(start):
    if isinstance(start, np.ndarray) and not start.any():
        start = np.ones(2, np.int64)
    with pytest.raises(ProgramError, match="what its registers start with"):
        Program((codes("x", (6, 7, 1), S8), conv_of(np.ones((1, 1, 1, 1)), scale(1, 1, 1), S8, start=start)))


@pytest.mark.parametrize("depth", [1, 31])
def test_products__of_two_16_bit_tensors_are_exact(depth):
    """Extremes of int16 with zero points: sums beyond 32 bits, below 2^53."""
    a, b = codes("a", (1, 2, depth), S16, -7), codes("b", (1, 2, depth), S16, 32767)
    product = MatMulOp("y", "a", (1, 2, 2), S32, "b", S16, S16, depth, True, Accumulator(), scale(2, 1, 6), -7, 32767)
    x = np.array([32767, -32768] * depth).reshape(2, depth)
    y = np.array([-32768] * (2 * depth)).reshape(2, depth)
    expected = [max(-(2**31), min(2**31 - 1, sum((p + 7) * (q - 32767) for p, q in zip(row, column, strict=True))))
                for row in x.tolist() for column in y.tolist()]
    assert results(a, b, product, a=x, b=y) == [(value + 32) >> 6 for value in expected]
    sums = Machine(Program((a, b, product))).sums(product, *(z.reshape(1, 1, 2, depth).astype(np.int16) for z in (x, y)))
    assert sums.ravel().tolist() == [sum(p * q for p, q in zip(row, column, strict=True))
                                     for row in x.tolist() for column in y.tolist()]


# ------------------------------------------------------------------------------------------------ rounding


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_roundings__are_those_of_fractions(rounding):
    """Every small quotient, of either sign; in plain integers and in arrays."""
    def exact(value: Fraction) -> int:
        down, half = value.numerator // value.denominator, Fraction(1, 2)
        rest = value - down
        return {"floor": down, "trunc": int(value), "half_up": down + (rest >= half), "half_even": round(value),
                "half_away": down + (rest > half or (rest == half and value > 0))}[rounding]

    pairs = [(n, d) for n in range(-40, 41) for d in (*range(-9, 0), *range(1, 10))]
    expected = [exact(Fraction(n, d)) for n, d in pairs]
    assert [reference.rounded(n, d, rounding) for n, d in pairs] == expected
    above, below = (np.array(part) for part in zip(*pairs, strict=True))
    assert rounded_quotients(above, below, rounding).tolist() == expected


@pytest.mark.parametrize(("divisor", "rounding", "expected"), [
    ("valid", "floor", [-2, 6, 5, -13]), ("window", "half_away", [-1, 2, 1, -3]), ("window", "half_up", [0, 2, 1, -3]),
    ("window", "half_even", [0, 2, 1, -3]), ("window", "floor", [-1, 1, 1, -4]), ("window", "trunc", [0, 1, 1, -3])])
def test_average__of_windows_with_one_code(divisor, rounding, expected):
    """Four windows of 2 x 2, each with a corner of the image in it: -2 / 4, 6 / 4, 5 / 4, -13 / 4."""
    op = AverageOp("y", "x", (2, 2, 1), S8, (2, 2), (2, 2), (1, 1, 1, 1), divisor, rounding)
    assert results(codes("x", (2, 2, 1), S8), op, x=[-2, 6, 5, -13]) == expected


def test_average__counts_what_lies_in_the_image():
    """-3, -4, 5, 1 less the zero point 1 in windows of three: -7 / 2, -2 / 3, 2 / 3, 6 / 2, half away from zero."""
    op = AverageOp("y", "x", (1, 4, 1), S8, (1, 3), (1, 1), (0, 0, 1, 1), "valid", "half_away", 1, zero_point=1)
    assert results(codes("x", (1, 4, 1), S8, 1), op, x=[-2, -3, 6, 2]) == [-4 + 1, -1 + 1, 1 + 1, 3 + 1]


@pytest.mark.parametrize(("rule", "axes", "expected"), [
    ("sum", (0, 1, 2), [36]), ("mean", (0, 1, 2), [5]), ("mean", (2,), [2, 4, 6, 8]), ("sum", (0,), [6, 8, 10, 12]),
    ("mean", (0, 1), [4, 5])])
def test_reduce__over_any_axes(rule, axes, expected):
    """1 .. 8 in (2, 2, 2); 4.5 and 1.5 round up."""
    shape = tuple(1 if axis in axes else 2 for axis in range(3))
    op = ReduceOp("y", "x", shape, S16, axes, rule, "half_up")
    assert results(codes("x", (2, 2, 2), S8), op, x=range(1, 9)) == expected


# ------------------------------------------------------------------------------------------------ two operands


def test_spread__of_either_operand_along_any_axis():
    x, y = codes("x", (2, 1, 3), S8), codes("y", (1, 2, 1), S8, 1)
    product = MultiplyOp("z", "x", (2, 2, 3), S16, "y", scale(3, 1 << 10, 10), 0, 1)
    a, b = np.arange(6).reshape(2, 1, 3), np.array([11, -9]).reshape(1, 2, 1)
    assert results(x, y, product, x=a, y=b) == (a * (b - 1)).ravel().tolist()
    total = AddOp("z", "x", (2, 2, 3), S16, "y", scale(1, 1 << 10, 10, other=(1 << 10, 10)), 0, 1)
    assert results(x, y, total, x=a, y=b) == (a + b - 1).ravel().tolist()
    with pytest.raises(ProgramError, match="along every axis they must be equal"):
        Program((x, codes("y", (1, 2, 2), S8), dataclasses.replace(product, other_zero=0)))


def test_wide_sum__of_32_bits():
    """Integers as they are: of the ends of int32, clamped only at the end."""
    x, y = codes("x", (1, 1, 4), S32), codes("y", (1, 1, 4), IntFormat(31, signed=True))
    total = AddOp("z", "x", (1, 1, 4), S32, "y", scale(1, 1 << 10, 10, other=(1 << 10, 10)))
    a, b = [2**31 - 1, -(2**31), 2**31 - 1, 5], [2**30 - 1, -(2**30), -(2**30), 7]
    assert results(x, y, total, x=a, y=b) == [2**31 - 1, -(2**31), 2**30 - 1, 12]
    with pytest.raises(ProgramError, match="residuals have 32 bits"):
        Program((x, codes("y", (1, 1, 4), U32), total))


def test_fp32__gives_no_wide_codes():
    one = Fp32(np.ones(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))
    with pytest.raises(ProgramError, match="fp32 gives codes of less than 22 bits, not s22"):
        Program((codes("x", (1, 1, 4), S8), RescaleOp("y", "x", (1, 1, 4), IntFormat(22, signed=True), one)))


@pytest.mark.parametrize(("rounding", "expected"), [
    ("half_away", [4, -4, 85, -3, 0]), ("floor", [3, -4, 85, -3, -1]), ("trunc", [3, -3, 85, -2, 0])])
def test_quotient__by_hand(rounding, expected):
    """a / (2 (b - 1) + 1): 25 / 7, -25 / 7, 255 / 3, -13 / 5, -1 / 3."""
    x, y = codes("x", (1, 1, 5), S16), codes("y", (1, 1, 5), S8, 1)
    op = DivideOp("z", "x", (1, 1, 5), S16, "y", rounding, 1, 2, 1, 0, 1)
    assert results(x, y, op, x=[25, -25, 255, -13, -1], y=[4, 4, 2, 3, 2]) == expected


def test_quotient__by_zero_stops_the_run():
    x, y = codes("x", (1, 1, 2), S16), codes("y", (1, 1, 2), S8)
    program = Program((x, y, DivideOp("z", "x", (1, 1, 2), S16, "y")))
    assert Machine(program).run({"x": np.array([[6, 8]]), "y": np.array([[2, -3]])}).tolist() == [[3, -3]]
    with pytest.raises(DivideError, match="z: divides by 0"):
        Machine(program).run({"x": np.array([[6, 8]]), "y": np.array([[2, 0]])})
    with pytest.raises(DivideError, match="z: divides by 0"):
        reference.run(program, {"x": [[[6, 8]]], "y": [[[2, 0]]]})


@pytest.mark.parametrize(("rule", "expected"), [("maximum", [4, 2, 4, 3]), ("minimum", [1, -4, -1, 2])])
def test_larger_and_smaller__of_either_sign(rule, expected):
    x, y = codes("x", (2, 1, 2), S8, 1), codes("y", (1, 1, 2), S8, 1)
    op = MinMaxOp("z", "x", (2, 1, 2), S8, "y", rule, zero_point=1)
    assert results(x, y, op, x=[1, -4, -1, 3], y=[4, 2]) == expected
    with pytest.raises(ProgramError, match="keeps the format and the zero point of y"):
        Program((x, codes("y", (1, 1, 2), S8, 0), op))


# ------------------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize("rule", ["tflite", "tosa"])
def test_interpolation__of_every_16_bit_code(rule):
    """The last sample is for the code 32768, which there is not: the codes below it still move toward it."""
    samples = np.random.default_rng(0).integers(-32768, 32768, 513)
    samples[511:] = 32000, 32900
    form = S16 if rule == "tflite" else IntFormat(24, signed=True)
    op = Table16Op("y", "x", (256, 1, 256), form, samples.astype(np.int32), rule)
    found = results(codes("x", (256, 1, 256), S16), op, x=range(-32768, 32768))
    for code in (-32768, -32767, -129, -128, -1, 0, 127, 128, 32639, 32640, 32641, 32767):
        left = samples.tolist()[(code + 32768) // 128]
        rise = (samples.tolist()[(code + 32768) // 128 + 1] - left) * (code % 128)
        exact = left + (rise + 64) // 128 if rule == "tflite" else 128 * left + rise
        assert found[code + 32768] == min(max(exact, form.min), form.max), code
    if rule == "tflite":
        assert found[65535] > found[65535 - 64] > found[65535 - 127]


@pytest.mark.parametrize(("change", "message"), [
    ({"table": np.zeros(512, np.int32)}, r"int32 \[513\]"), ({"table": np.zeros(513, np.int16)}, r"int32 \[513\]"),
    ({"table": np.full(513, 2**16, np.int32)}, "at most 17 bits"), ({"rule": "x"}, "tflite or tosa"),
    ({"source": "z"}, "s16")])
def test_interpolation__of_anything_else_is_refused(change, message):
    op = dataclasses.replace(Table16Op("y", "x", (1, 1, 1), S16, np.zeros(513, np.int32)), **change)
    with pytest.raises(ProgramError, match=message):
        Program((codes("x", (1, 1, 1), S16), codes("z", (1, 1, 1), S16, 1), op))


def test_table__of_wide_codes_is_refused():
    with pytest.raises(ProgramError, match="tables are for codes of up to 16 bits, x has s17: rescale it"):
        Program((codes("x", (1, 1, 1), IntFormat(17, signed=True)),
                 TableOp("y", "x", (1, 1, 1), S8, np.zeros(1 << 17, np.int8), -(1 << 16))))


# ------------------------------------------------------------------------------------------------ what is refused


AVERAGE = AverageOp("y", "x", (4, 5, 2), S8, (1, 1), (1, 1), (0, 0, 0, 0), "valid", "floor")
REDUCE = ReduceOp("y", "x", (1, 5, 2), S8, (0,), "sum")
SLICE = SliceOp("y", "x", (4, 5, 2), S8, (0, 0, 0), (4, 5, 2))
DIVIDE = DivideOp("y", "x", (4, 5, 2), S8, "x", "floor", 1, 2, 1)
COMPARE = MinMaxOp("y", "x", (4, 5, 2), S8, "x", "maximum")


@pytest.mark.parametrize(("op", "change", "message"), [
    (AVERAGE, {"taps": (2, 0)}, "taps must be two whole numbers"), (AVERAGE, {"strides": (1,)}, "strides must be two"),
    (AVERAGE, {"paddings": (0, 1, 0, 0)}, "padding 1 makes windows of padding alone, a window is 1x1"),
    (AVERAGE, {"paddings": (0, 0)}, "top, bottom, left and right"), (AVERAGE, {"divisor": "all"}, "valid or window"),
    (AVERAGE, {"rounding": "nearest"}, "half_away, half_up, half_even, floor, trunc, not 'nearest'"),
    (AVERAGE, {"source_zero": 1}, "zero point of x"), (AVERAGE, {"shape": (4, 4, 2)}, "its shape is"),
    (REDUCE, {"axes": ()}, "its axes"), (REDUCE, {"axes": (1, 0)}, "its axes"), (REDUCE, {"axes": (0, 3)}, "its axes"),
    (REDUCE, {"rule": "max"}, "sum or mean"), (REDUCE, {"rounding": "x"}, "its rounding"),
    (REDUCE, {"shape": (4, 5, 2)}, "its shape is"),
    (SLICE, {"starts": (0, 0)}, "three whole numbers"), (SLICE, {"stops": (4, 6, 2)}, "0:6:1 is no part of a side of 5"),
    (SLICE, {"starts": (4, 0, 0)}, "4:4:1 is no part"), (SLICE, {"steps": (-1, 1, 1)}, "steps are 1 or more"),
    (SLICE, {"format": S16}, "keeps the format"), (SLICE, {"zero_point": 1}, "keeps the format"),
    (DIVIDE, {"rounding": "x"}, "its rounding"), (DIVIDE, {"factor": 0.5}, "whole numbers"),
    (DIVIDE, {"factor": 2**50}, "53 bits"), (DIVIDE, {"other_factor": 0}, "that is a rescale"),
    (COMPARE, {"rule": "max"}, "maximum or minimum"), (COMPARE, {"format": S16}, "keeps the format"),
])
def test_operation__that_makes_no_sense_is_refused_by_name(op, change, message):
    x = codes("x", (4, 5, 2), S8)
    Program((x, op))
    with pytest.raises(ProgramError, match=message) as caught:
        Program((x, dataclasses.replace(op, **change)))
    assert str(caught.value).startswith("y: ")
    assert "\n" not in str(caught.value)
