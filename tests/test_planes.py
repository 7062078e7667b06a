"""Bit planes against the plain loops and against products of bytes: every width, shape, register and ending."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cases import resnet20_spec
from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.kernels import cache, planes
from sim.kernels.isa import PLAIN, PORTABLE, available, has_bit_counts
from sim.lowering import lower
from sim.machine import Machine
from sim.program import ConvOp, InputOp, Program, TableOp
from sim.requantizers import REQUANTIZERS
from sim.requantizers.fp32 import Fp32
from sim.steps import choice
from sim.steps.conv import Convolution
from tests.examples import compiling
from tests.strategies import accumulators, codes, generators, requantizers
from tests.test_tile_rules import TILED

pytestmark = pytest.mark.skipif(not has_bit_counts() or "vnni" not in available(), reason="no counts of bits here")
FASTEST = available()[-1]
DIGITS = {"W1": [-1, 1], "W2": [-3, -1, 1, 3], "ternary": [-1, 0, 1]}
ENDS = [(None, False), (IntFormat(8, signed=False), False), (IntFormat(8, signed=True), True)]
"""Formats of the residual, and whether codes are signed."""


@pytest.fixture
def force(monkeypatch):
    """A convolution that takes one way."""
    def convolution(op, method):
        monkeypatch.setenv(choice.METHOD, method)
        return Convolution(op, FASTEST)

    return convolution


@st.composite
def convolutions(draw, bits_of_two=(1, 2)):
    """(convolution, its input, its residual or None): codes and weights of few bits, everything else at will.

    `bits_of_two` are the widths of codes where weights are two digits.
    """
    kind = draw(st.sampled_from(sorted(DIGITS)))
    bits = draw(st.sampled_from([1, 2, 3, 4] if kind == "W1" else bits_of_two))
    form = IntFormat(bits, signed=draw(st.booleans()))
    depth = draw(st.one_of(st.sampled_from([16, 32, 48, 64, 96]), st.integers(1, 140)))
    channels = draw(st.one_of(st.sampled_from([16, 32, 64]), st.integers(1, 150)))
    taps, stride, dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3))), draw(st.integers(1, 3)), 1
    if kind != "W2":  # dilated weights have zeros between them
        dilation = draw(st.sampled_from([1, 1, 2])) if bits in bits_of_two else 1
    reach = [(count - 1) * dilation + 1 for count in taps]
    padding = draw(st.integers(0, 3))
    sides = [max(draw(st.integers(1, most)), count - 2 * padding, 1)
             for most, count in zip((12, 40), reach, strict=True)]
    rng = draw(generators)
    weights = _values(draw, rng, np.array(DIGITS[kind]), (*taps, depth, channels))
    x = _values(draw, rng, np.arange(form.min, form.max + 1), (3, *sides, depth)).astype(form.dtype)
    out = (*((side + 2 * padding - count) // stride + 1 for side, count in zip(sides, reach, strict=True)), channels)
    source, is_signed = draw(st.sampled_from(ENDS))  # a few of all, as each is compiled anew
    target = IntFormat(draw(st.integers(1, 8)), is_signed)
    accumulator = draw(accumulators().filter(lambda a: a.is_whole(weights[..., 0].size)))
    if accumulator.bits is not None:  # about as wide as sums are
        usual = int(np.sqrt(weights[..., 0].size) * form.bits).bit_length()
        accumulator = dataclasses.replace(accumulator, bits=max(2, usual + draw(st.integers(-1, 3))))
    most = 4 * int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max()) * 2**form.bits
    skip = None if source is None else codes(draw, (3, *out), source).astype(source.dtype)
    return ConvOp("conv", "x", out, target, skip="" if skip is None else "skip", weights=weights.astype(np.int32),
                  stride=stride, padding=padding, groups=1, operand=form, weight_format=IntFormat(3, signed=True),
                  weight_bits=2, accumulator=accumulator, requant=draw(requantizers(channels, most)),
                  dilation=dilation), x, skip


def _values(draw, rng, allowed, shape):
    """Any of those allowed, or the same everywhere, or the same but for one."""
    kind = draw(st.sampled_from(["any", "any", "any", "one value", "one hot"]))
    if kind == "any":
        return rng.choice(allowed, shape)
    values = np.full(shape, rng.choice(allowed))
    if kind == "one hot":
        values[tuple(rng.integers(shape))] = rng.choice(allowed)
    return values


def results(convolution, x, skip):
    """Sums, codes, and both counts of overflows."""
    op = convolution.op
    x, out = Padded.of(x, op.padding + 1), Padded.zeros(len(x), op.shape, op.format.dtype, 2)
    sums, overflows = convolution.registers([x])
    counts = convolution([x] if skip is None else [x, Padded.of(skip, 1)], out)
    assert not out.array[:, :2].any()  # nothing is written beside the codes
    assert not out.array[:, :, -2:].any()
    return sums, out.interior, *(np.zeros(op.shape[2]) if c is None else c for c in (overflows, counts))


@given(case=convolutions())
@compiling(100)
def test_planes__are_the_plain_loops(case):
    op, x, skip = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(choice.METHOD, "planes")
        convolution = Convolution(op, FASTEST)
    assert convolution.path.startswith("planes")
    for mine, expected in zip(results(convolution, x, skip), results(Convolution(op, PLAIN), x, skip), strict=True):
        np.testing.assert_array_equal(mine, expected)


def simple(weights, form, shape, **others):
    """A convolution to bytes."""
    channels = weights.shape[3]
    one = Fp32(np.full(channels, 0.1, np.float32), np.full(channels, 90, np.float32), np.zeros(1, np.float32))
    fixed = {"stride": 1, "padding": 1, "groups": 1, "operand": form, "weight_format": IntFormat(3, signed=True),
             "weight_bits": 2, "accumulator": Accumulator(), "requant": one, "skip": ""}
    return ConvOp("conv", "x", shape, IntFormat(8, signed=False), weights=weights.astype(np.int32), **fixed | others)


@pytest.mark.parametrize("form", [IntFormat(1, signed=False), IntFormat(2, signed=False), IntFormat(2, signed=True)])
@pytest.mark.parametrize("weight", [-3, -1, 1, 3])
@pytest.mark.parametrize("depth", [1, pytest.param(16, marks=pytest.mark.exhaustive), 17,
                                   pytest.param(33, marks=pytest.mark.exhaustive), 64,
                                   pytest.param(300, marks=pytest.mark.exhaustive)])
def test_extremes__of_every_code_are_exact(force, form, weight, depth):
    """Every product at its largest, with a border of zeros and without."""
    for code in {form.min, form.max}:
        x = np.full((2, 5, 9, depth), code, form.dtype)
        op = simple(np.full((3, 3, depth, 20), weight), form, (5, 9, 20))
        sums = force(op, "planes").registers([Padded.of(x, 1)])[0]
        seen = np.convolve(np.ones(5, int), np.ones(3, int), "same")[:, None] * np.convolve(
            np.ones(9, int), np.ones(3, int), "same")
        np.testing.assert_array_equal(sums, np.broadcast_to((weight * code * depth * seen)[..., None], sums.shape))


@pytest.mark.parametrize(("values", "digits"), [
    ([1], (0,)), ([-1, 1], (0,)), ([-3, 1], (0, 1)), ([3], (0, 1)), ([0, 1], (0, 0)), ([0], (0, 0)), ([-1, 0, 1], (0, 0)),
    ([0, 3], None), ([-2, 1], None), ([2], None), ([5], None), ([-128, 127], None)])
def test_digits__are_the_fewest_that_make_all_weights(values, digits):
    weights = np.array(values).reshape(1, 1, 1, -1)
    found = planes.digits_of(weights)
    assert (None if found is None else found.exponents) == digits
    if found is not None:
        signs = 2 * found.bits(weights).astype(int) - 1
        made = np.tensordot([1 << e for e in found.exponents], signs, 1)
        np.testing.assert_array_equal(made, weights << found.is_halved)


@pytest.mark.parametrize(("change", "is_possible"), [
    ({}, True), ({"accumulator": Accumulator(6, "wrap", 1)}, True), ({"accumulator": Accumulator(6, "saturate", 0)}, True),
    ({"accumulator": Accumulator(6, "saturate", 1)}, False), ({"accumulator": Accumulator(30, "saturate", 1)}, True),
    ({"operand": IntFormat(5, signed=False)}, False), ({"operand": IntFormat(4, signed=False)}, True),
    ({"weights": np.full((3, 3, 16, 20), 2, np.int32)}, False), ({"stride_width": 2, "shape": (5, 5, 20)}, False),
    ({"weights": np.ones((3, 3, 8, 20), np.int32), "groups": 2}, False),
    ({"operand_zero": 1}, False), ({"start": np.arange(20)}, True), ({"paddings": (1, 0, 1, 2), "padding": 0}, True),
    ({"start": np.arange(20), "accumulator": Accumulator(6, "wrap", 1)}, True),
    ({"start": np.arange(20), "accumulator": Accumulator(6, "saturate", 0)}, True),
    ({"start": np.arange(20), "accumulator": Accumulator(6, "saturate", 1)}, False)])
def test_path__is_planes_only_where_that_is_exact(force, change, is_possible):
    op = dataclasses.replace(simple(np.ones((3, 3, 16, 20)), IntFormat(1, signed=False), (5, 9, 20)), **change)
    assert force(op, "planes").path.startswith("planes") == is_possible
    assert not force(op, "bytes").path.startswith("planes")


def requantizer(rng, name, channels):
    """That a third of the sums of 144 products passes the ends of 8 bits."""
    gain = rng.uniform(2.0, 20.0, channels) * rng.choice([1, 1, 1, -1], channels)
    bias = rng.integers(-5, 6, channels)
    if name == "fp32":
        return Fp32(gain.astype(np.float32), (bias * gain).astype(np.float32), np.array([0.37], np.float32))
    kind = REQUANTIZERS[name]
    other = kind.from_real(np.array([0.37]), np.zeros(1))
    named = {f"skip_{part}": getattr(other, part) for part in ("scale", "multiplier", "exponent") if hasattr(other, part)}
    return dataclasses.replace(kind.from_real(gain, bias), **named)


STARTS = np.arange(-10, 10)
WRAP, CLIP = Accumulator(6, "wrap", 1), Accumulator(6, "saturate", 0)


@pytest.mark.parametrize("name", ["fp32", *(
    pytest.param(name, marks=pytest.mark.exhaustive) for name in TILED if name != "fp32")])
@pytest.mark.parametrize("change", [
    {}, {"zero_point": -5, "limits": (-100, 50)}, {"zero_point": 17, "limits": (17, 90), "accumulator": WRAP},
    {"limits": (-3, 7), "skip": "skip"}, {"zero_point": -128, "skip": "skip", "accumulator": CLIP},
    {"start": STARTS}, {"start": STARTS, "zero_point": 9, "skip": "skip"}, {"start": STARTS, "accumulator": WRAP},
    {"start": STARTS, "accumulator": CLIP}, {"operand_zero": 1, "zero_point": 4}, {"padding": 0, "paddings": (1, 0, 1, 2)},
    {"padding": 0, "paddings": (1, 2, 0, 1)}, {"operand_zero": 1, "padding": 0, "paddings": (1, 2, 1, 1)}],
    ids=lambda change: ", ".join(f"{key} {value if np.size(value) < 9 else ''}".strip() for key, value in change.items()))
def test_endings__of_every_rule_with_zero_points_limits_and_starts(force, name, change):
    """Codes, sums and counters of the plain loops, in registers or by lines, on planes or where these cannot."""
    rng = np.random.default_rng(len(name))
    op = simple(rng.choice(np.array([-1, 1]), (3, 3, 16, 20)), IntFormat(1, signed=False), (5, 9, 20),
                requant=requantizer(rng, name, 20))
    op = dataclasses.replace(op, format=IntFormat(8, signed=True), **change)
    top, bottom, left, right = op.window.paddings
    op = dataclasses.replace(op, shape=(3 + top + bottom, 7 + left + right, 20))
    x = Padded.of(rng.integers(0, 2, (2, 5, 9, 16)).astype(np.uint8), 2, op.operand_zero)
    skip = Padded.of(rng.integers(-128, 128, (2, *op.shape)).astype(np.int8), 1)
    found = []
    for convolution in (Convolution(op, PLAIN), force(op, "planes")):
        out = Padded.filled(2, op.shape, op.format.dtype, 1, op.zero_point)
        counts = convolution([x, skip] if op.skip else [x], out)
        sums, overflows = convolution.registers([x])
        found.append([out.array, sums, *(np.zeros(20) if c is None else c for c in (counts, overflows))])
    for expected, mine in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert len(np.unique(found[0][0])) > 10 - 5 * bool(op.limits)
    assert convolution.path.startswith("planes") == (not op.operand_zero)


NETWORKS = [(1, HardwareSpec()), (2, HardwareSpec(Accumulator(8, "wrap"))),
            (1, HardwareSpec(Accumulator(6, "saturate", 0), requant="tflite_single"))]
"""Widths of ResNet-20, and hardware."""


def paths_that_agree(monkeypatch, bits, hardware, ways):
    """Every code, logit and counter of a network is the same, whichever of `ways` (instruction set, method) is taken.

    Yields the paths of its inner convolutions on each.
    """
    program, found = lower(resnet20_spec(bits), hardware), []
    pixels = np.random.default_rng(bits).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    for isa, method in ways:
        monkeypatch.setenv(choice.METHOD, method)
        machine, trace = Machine(program, isa), {}
        monkeypatch.setattr(machine, "_chunk", 1)
        untraced = [machine.run(pixels)]  # tables may be left to the convolutions behind them
        counts = machine.overflows
        machine.reset()
        machine.run(pixels, trace)
        for logits in (*untraced, machine.run(pixels)):
            np.testing.assert_array_equal(logits, trace["classifier"][:, 0, 0])
        for name, count in counts.items():
            np.testing.assert_array_equal(machine.overflows[name], 2 * count, err_msg=name)
        found.append(trace | {f"{name}, overflows": count for name, count in counts.items()})
        for name, values in found[0].items():
            np.testing.assert_array_equal(found[-1][name], values, err_msg=name)
        yield [machine.path_of(op) for op in program.convolutions[1:-1]]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("bits", "hardware"), NETWORKS)
def test_networks__have_the_same_codes_whichever_way_is_taken(monkeypatch, bits, hardware):
    """Bytes, planes and the choice between them, portable and plain."""
    ways = (PLAIN, ""), (FASTEST, "planes"), (FASTEST, "bytes"), (FASTEST, ""), (PORTABLE, "planes")
    for (isa, method), inner in zip(ways, paths_that_agree(monkeypatch, bits, hardware, ways), strict=True):
        assert all(path.startswith("planes") for path in inner) == (method == "planes" and isa == FASTEST) or not method


def with_table(table, rng, shortcut=False):
    """A program with a table before a convolution, and one codes that it reads."""
    depth, bits = 20, int(table.max()).bit_length()
    weights = rng.choice(np.array([-1, 1]), (3, 3, depth, 16))
    conv = simple(weights, IntFormat(bits, signed=False), (6, 9, 16))
    last = simple(np.ones((6, 9, 16, 1)), IntFormat(8, signed=False), (1, 1, 1), padding=0)
    wide = IntFormat(8, signed=False)
    ops = (InputOp("image", "", (6, 9, depth), wide, np.tile(np.arange(256), (depth, 1)).astype(np.uint8)),
           TableOp("table", "image", (6, 9, depth), conv.operand, table.astype(np.uint8)),
           dataclasses.replace(conv, name="conv", source="table"),
           dataclasses.replace(last, name="logits", source="conv", format=None))
    return Program(ops, outputs=("table", "logits") if shortcut else ())


@pytest.mark.parametrize("steps", [
    [0], [254], [100], [0, 0, 0], [3, 3, 200], [10, 20, 30], [5, 250], [9, 9, 9, 40, 41, 42, 43], range(0, 150, 10)])
def test_tables__that_rise_are_left_to_packing(monkeypatch, steps):
    monkeypatch.setenv(choice.METHOD, "planes")
    rng = np.random.default_rng(len(steps))
    table = np.zeros(256, np.int64)
    for step in steps:
        table[step + 1 :] += 1
    program = with_table(table, rng)
    pixels = rng.integers(0, 256, (3, 6, 9, 20)).astype(np.uint8)
    pixels[0, :, :, :16] = np.arange(6 * 9 * 16).reshape(6, 9, 16)  # every byte
    machine = Machine(program, FASTEST)
    assert machine.path_of(program.ops[1]) == "in conv"
    np.testing.assert_array_equal(machine.run(pixels), Machine(program, PLAIN).run(pixels))
    np.testing.assert_array_equal(machine.run(pixels, {}), Machine(program, PLAIN).run(pixels))


@pytest.mark.parametrize(("change", "is_read"), [({3: 0}, False), ({0: 1}, False), ({}, True)])
def test_tables__that_fall_or_that_others_read_are_looked_up(monkeypatch, change, is_read):
    monkeypatch.setenv(choice.METHOD, "planes")
    rng, table = np.random.default_rng(1), np.repeat(np.arange(2), [2, 254])
    for code, value in change.items():
        table[code] = value
    program = with_table(table, rng, shortcut=is_read)
    pixels = rng.integers(0, 5, (3, 6, 9, 20)).astype(np.uint8)
    machine = Machine(program, FASTEST)
    assert not machine.path_of(program.ops[1]).startswith("in ")
    found, expected = machine.results(pixels), Machine(program, PLAIN).results(pixels)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


OP = simple(np.ones((3, 3, 16, 16)), IntFormat(1, signed=False), (4, 4, 16))


def test_choice__is_measured_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.delenv(choice.METHOD, raising=False)
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path)
    monkeypatch.setattr(choice, "measure", lambda op, ways: {"bytes": 2.0, "planes": 1.0})
    assert Convolution(OP, FASTEST).path == "planes to codes"
    (kept,) = tmp_path.iterdir()
    assert kept.read_text() == "planes bytes 2.000e+00 planes 1.000e+00\n"
    monkeypatch.setattr(choice, "measure", None)
    assert Convolution(OP, FASTEST).path == "planes to codes"
    monkeypatch.setattr(choice, "measure", lambda op, ways: {"bytes": 1.0, "planes": 2.0})
    kept.write_text("planes")  # not whole
    assert Convolution(OP, FASTEST).path == "vnni to codes"
    assert kept.read_text().startswith("bytes ")
    other = dataclasses.replace(OP, stride=2, shape=(2, 2, 16))
    monkeypatch.setattr(choice, "_processor", lambda: ("another",))
    assert [Convolution(op, FASTEST).path for op in (OP, other)] == ["vnni to codes", "vnni to codes"]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("has_folder", [False, True])
def test_choice__goes_by_widths_where_nothing_can_be_kept(monkeypatch, tmp_path, has_folder):
    monkeypatch.delenv(choice.METHOD, raising=False)
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path / "file" / "folder" if has_folder else None)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(choice, "measure", lambda op, ways: {"bytes": 1.0, "planes": 2.0})
    wide = dataclasses.replace(OP, weights=np.full((3, 3, 16, 16), 3, np.int32), operand=IntFormat(2, signed=False))
    assert [Convolution(op, FASTEST).path for op in (OP, wide)] == ["planes to codes", "vnni to codes"]


@pytest.mark.parametrize("change", [{}, {"padding": 0, "paddings": (1, 0, 1, 2), "shape": (4, 4, 16)}, {"skip": "skip"}])
def test_choice__is_measured_on_the_layer_itself(force, change):
    op = dataclasses.replace(OP, **change)
    ways = {method: force(op, method)._kernels for method in ("bytes", "planes")}
    seconds = choice.measure(op, ways)
    assert seconds.keys() == ways.keys()
    assert all(0.0 < spent < 10.0 for spent in seconds.values())


def test_method__that_there_is_not_is_refused(force):
    with pytest.raises(ValueError, match="BITTRUE_METHOD: 'plains' is unknown, choose bytes, planes or tables"):
        force(OP, "plains")
