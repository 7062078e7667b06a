"""The fast ways of two stages of registers, in sums and codes, against plain Python integers."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim import plain_registers, reference
from sim.accumulator import Accumulator, Stage, bits_for, parse_accumulator
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels import vnni
from sim.kernels.isa import AMX, AVX_VNNI, PLAIN, VNNI, available, runnable
from sim.kernels.jit import inline
from sim.kernels.layout import divide
from sim.kernels.pairs import sides_of
from sim.kernels.peek import PIXELS, peek
from sim.kernels.reach import pack_products, reach
from sim.ops.codes_input import CodesInputOp
from sim.program import ConvOp, output_side
from sim.requantizers.fp32 import Fp32
from sim.simplify import simplified
from sim.steps import pairs, step_for, tiled
from sim.steps.counting import of_stages
from sim.steps.groups import Groups
from sim.steps.loops import ConvLoops
from sim.steps.patched import PatchedConvolution
from sim.steps.watch import Watch
from tests.examples import compiling, examples, instruction_sets
from tests.strategies import codes, generators, requantizers

RULES = st.tuples(st.sampled_from(["wrap", "saturate"]), st.sampled_from([0, 1, 1, 3]))
ENDS = ((IntFormat(8, signed=False), {"skip": "s"}),
        (IntFormat(7, signed=True), {"skip": "", "zero_point": -3, "limits": (-50, 40)}))
"""Each is compiled for each requantizer and number of channels."""
FAST = [isa if isa == available()[-1] else pytest.param(isa, marks=pytest.mark.exhaustive)
        for isa in instruction_sets() if isa != PLAIN]
ORDERS = ("rows", "channels", "channels/4 rows columns channels")


_PEEKS = {(lanes, signed): peek(lanes, signed) for lanes in (8, 16) for signed in (False, True)}


@inline
def _reach(arguments):
    reach(arguments)


@st.composite
def convolutions(draw, form: IntFormat, stages, is_even: bool = False, is_tall: bool = False,
                 has_start: bool = True):
    """Any kernel, strides, paddings, zero points, residual, to codes; `stages(draw, weights, form)` are registers.

    `is_even`: channels come in pairs, strides are equal; `is_tall`: images may have more lines than share counters;
    `has_start`: registers may begin with a number.
    """
    depth = draw(st.sampled_from([2, 4, 6, 8] if is_even else [1, 2, 3, 4, 6, 8]))
    channels = draw(st.sampled_from([5, 33]))
    sides = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    paddings = (0, 0, 0, 0) if draw(st.booleans()) else tuple(draw(st.integers(0, 2)) for _ in range(4))
    strides, dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2))), draw(st.sampled_from([1, 1, 2]))
    strides = strides[:1] * 2 if is_even else strides
    tall, wide = ((side - 1) * dilation + 1 for side in sides)
    height = tall + draw(st.sampled_from([0, 1, 3, 7, 11] if is_tall else [0, 1]))
    width = wide + draw(st.sampled_from([0, 1, 4, 9]))
    rows = output_side(height + sum(paddings[:2]), tall, strides[0], 0)
    columns = output_side(width + sum(paddings[2:]), wide, strides[1], 0)
    rng = draw(generators)
    weights = rng.integers(-3, 4, (*sides, depth, channels)) * np.where(rng.random((*sides, depth, channels)) < 0.1, 40, 1)
    target, end = draw(st.sampled_from(ENDS))
    image = CodesInputOp("x", "", (height, width, depth), form, zero_point=draw(st.sampled_from([0, form.min, form.max])))
    accumulator = stages(draw, weights, form)
    reach = draw(st.sampled_from([0, 0, 2, 5, 8, 12])) if has_start else 0
    start = rng.integers(-(1 << reach), 1 << reach, channels) if reach else None
    most = 2 * int(np.abs(weights).sum((0, 1, 2)).max()) * 2**form.bits
    return image, ConvOp(
        "y", "x", (rows, columns, channels), target, weights=weights.astype(np.int32),
        stride=strides[0], padding=0, paddings=paddings, stride_width=strides[1], dilation=dilation, groups=1, operand=form,
        weight_format=IntFormat(9, signed=True), weight_bits=9, operand_zero=image.zero_point,
        accumulator=accumulator, requant=draw(requantizers(channels, most, target)), start=start, **end)


def narrow_stages(draw, weights, form):
    """A first register that some groups of products can leave, and one that is wide enough or wraps."""
    loops = weights.reshape(-1, weights.shape[3])
    reach_of = np.abs(loops).sum(0).max() * max(form.max, -form.min)
    bits = max(2, bits_for(-int(reach_of), int(reach_of)) - draw(st.integers(1, 4)))
    stage = Stage(draw(st.sampled_from([1, 2, 3, 5, 16, 0])), bits, draw(st.sampled_from(["wrap", "saturate"])),
                  draw(st.sampled_from([0, 1, 1, 3])))
    last = Stage(0, draw(st.sampled_from([None, bits + 1, bits + 3, max(2, bits - 1)])))
    return Accumulator.of([stage, last], draw(st.sampled_from(ORDERS)))


@pytest.mark.parametrize("isa", FAST)
@given(data=st.data())
@compiling(60)
def test_patched__equals_plain_integers_in_sums_codes_and_overflows(isa, data):
    form = IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.booleans()))
    image, op = data.draw(convolutions(form, narrow_stages))
    plain = simplified(op.accumulator, ConvLoops(op, op.accumulator).extremes)
    assume(plain.before)
    loops = ConvLoops(op, plain)
    groups = Groups.of(loops)
    assume(groups is not None)
    step = PatchedConvolution(op, isa, loops, groups)
    is_as_it_is = plain.before[0] == op.accumulator.before[0]  # what wraps is simplified to a tile of 1
    _compare(step, image, op, isa, data.draw, step if is_as_it_is else None)


def one_register(draw, weights, form):
    """That some sums on the way leave, at one end or the other; consulted after some products, or once."""
    ends = weights.reshape(-1, weights.shape[3])[..., None] * [form.min, form.max]
    low, high = (np.minimum(ends, 0).sum(0).min(), np.maximum(ends, 0).sum(0).max())
    bits = max(2, bits_for(int(low), int(high)) - draw(st.integers(1, 3)))
    return Accumulator(bits, draw(st.sampled_from(["wrap", "saturate"])), draw(st.sampled_from([1, 1, 0, 3, 1000])))


@pytest.mark.parametrize("isa", FAST)
@given(data=st.data())
@compiling(120)
def test_single_register__tells_persistent_and_transient_outputs_in_the_pass_that_makes_codes(isa, data):
    form = IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.booleans()))
    image, op = data.draw(convolutions(form, one_register, is_even=True, is_tall=True))
    _compare(step_for(op, [], isa), image, op, isa, data.draw)


def pairs_of_16_bits(draw, weights, form):
    """What vpmaddubsw does, of weights that pass 16 bits in some pairs, at either end."""
    rng = draw(generators)
    weights[...] = np.where(rng.random(weights.shape) < draw(st.sampled_from([0.0, 0.3, 0.9])),
                            rng.choice([-128, -127, -65, -64, 64, 65, 126, 127], weights.shape), weights)
    stages = Stage(2, 16, "saturate", draw(st.sampled_from([0, 1, 2]))), Stage(0)
    return Accumulator.of(stages, draw(st.sampled_from(ORDERS[::2])))


@pytest.mark.skipif(not {VNNI, AMX} & set(runnable()), reason="this processor has no AVX512-VNNI")
@given(data=st.data())
@compiling(60)
def test_pairs__equal_plain_integers_in_sums_codes_and_overflows(data):
    form = IntFormat(data.draw(st.sampled_from([8, 8, 8, 7])), signed=False)
    image, op = data.draw(convolutions(form, pairs_of_16_bits, is_even=True, has_start=False))
    loops = ConvLoops(op, op.accumulator)
    isa = next(isa for isa in (VNNI, AMX) if isa in runnable())
    assume(pairs.is_possible(loops, isa))
    _compare(pairs.PairConvolution(op, isa), image, op, isa, data.draw)


def any_stages(draw, weights, form):
    """One or two registers of any rule, tile, order and width."""
    stages = [Stage(draw(st.sampled_from([1, 2, 3, 5, 16, 0])), draw(st.integers(2, 16)), *draw(RULES)),
              Stage(0, *draw(st.sampled_from([(None, "wrap", 1), (9, "wrap", 1), (9, "saturate", 1), (11, "saturate", 2),
                                              (8, "saturate", 0)])))]
    if draw(st.integers(0, 3)) == 0:
        stages = [replace(stages[0], products=0)]
    return Accumulator.of(stages, draw(st.sampled_from(ORDERS)))


@pytest.mark.parametrize("isa", [isa for isa in available()[-1:] if isa != PLAIN])
@given(data=st.data())
@compiling(200)
def test_tiled__equals_plain_integers_in_sums_codes_and_overflows(isa, data):
    form = IntFormat(data.draw(st.sampled_from([1, 4, 8, 12])), signed=data.draw(st.booleans()))
    image, op = data.draw(convolutions(form, any_stages))
    loops = ConvLoops(op, op.accumulator)
    assume(tiled.is_possible(loops, isa))
    _compare(tiled.TiledConvolution(op, loops), image, op, isa, data.draw)


@pytest.mark.skipif(available()[-1] == PLAIN, reason="no vectors here")
@pytest.mark.parametrize("tile", [1, 2])
def test_tiled__counts_what_is_clipped_at_both_ends_alike(tile):
    """10 is clipped to 7, then -11 to -8: what is left is the exact sum, and yet it overflowed, twice."""
    weights = np.array([10, -18] if tile == 1 else [4, 6, -9, -9])[None, None, :, None] * np.ones(20, int)
    register = Accumulator.of([Stage(weights.shape[2], 4, "saturate", tile), Stage(0)], "rows")
    op = ConvOp("y", "x", (1, 3, 20), None, skip="", weights=weights.astype(np.int32), stride=1, padding=0, groups=1,
                operand=IntFormat(1, signed=False), weight_format=IntFormat(8, signed=True), weight_bits=8,
                accumulator=register,
                requant=Fp32(np.ones(20, np.float32), np.zeros(20, np.float32), np.zeros(1, np.float32)))
    x = np.array([1, 0, 1], np.uint8)[None, None, :, None].repeat(weights.shape[2], axis=3)
    expected, counts, _ = _sums(op, x, 0)
    assert (expected == x[..., :1] * weights.sum(2)[0]).all()
    assert (counts == 2).all()
    sums, overflows = tiled.TiledConvolution(op, ConvLoops(op, register)).registers([Padded.of(x, 0)])
    np.testing.assert_array_equal(sums, expected)
    _assert_counts(overflows, counts)


@pytest.mark.parametrize(("order", "path"), [("rows", "stages by tiles"), ("sorted", "stages")])
def test_step__of_registers_that_most_groups_can_leave_is_of_tiles(order, path):
    op = ConvOp("y", "x", (4, 4, 8), None, skip="", weights=np.full((3, 3, 16, 8), 100, np.int32), stride=1, padding=1,
                groups=1, operand=IntFormat(8, signed=False), weight_format=IntFormat(8, signed=True), weight_bits=8,
                accumulator=parse_accumulator("16:16:saturate,end:32:wrap", order),
                requant=Fp32(np.ones(8, np.float32), np.zeros(8, np.float32), np.zeros(1, np.float32)))
    assert step_for(op, [], available()[-1]).path == path


def test_sides__are_those_where_a_pair_can_be_clipped():
    weights = np.array(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))).T.reshape(-1, 2)
    above, below = (255 * end(weights, 0).sum(1) for end in (np.maximum, np.minimum))
    np.testing.assert_array_equal(sides_of(weights), np.where(above > 32767, 1, np.where(below < -32768, -1, 0)))
    assert not ((above > 32767) & (below < -32768)).any()
    assert (-sides_of(weights)[:, None] * weights).min() >= -128
    assert (-sides_of(weights)[:, None] * weights).max() <= 127


@given(data=st.data())
@examples(60)
def test_reach__is_what_products_add_up_to_above_and_below_0(data):
    rng = data.draw(generators)
    sign = data.draw(st.sampled_from([0, 128]))
    places = rng.permutation(80)[: data.draw(st.integers(1, 60))]
    weights = rng.integers(-255, 256, len(places))
    begins, packed = pack_products(places, weights)
    x, columns = rng.integers(0, 256, 300).astype(np.uint8), 5
    ends = np.empty((2, columns), np.int32)
    _reach((x.ctypes.data, 7, columns, begins.ctypes.data, packed.ctypes.data, len(begins), sign, ends[0].ctypes.data,
                  ends[1].ctypes.data))
    for column in range(columns):
        read = x.view(np.int8) if sign else x
        products = [int(read[7 * column + place]) * int(weight) for place, weight in zip(places, weights, strict=True)]
        assert ends[:, column].tolist() == [sum(p for p in products if p > 0), sum(p for p in products if p < 0)]


@pytest.mark.skipif(not {VNNI, AVX_VNNI} & set(runnable()), reason="this processor has no vpdpbusd")
@pytest.mark.parametrize("lanes", [16 if VNNI in runnable() else 8])
@pytest.mark.parametrize("signed", [False, True])
@given(data=st.data())
@examples(100)
def test_peek__tells_where_sums_leave_after_any_product_and_where_they_end(lanes, signed, data):
    rng = data.draw(generators)
    rows, run, row = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), 64
    weights = rng.integers(-128, 128, (rows, run, 1, 32)) * (rng.random((rows, run, 1, 32)) < data.draw(st.floats(0.1, 1)))
    layout, most = divide(weights, 1, 32), data.draw(st.sampled_from([1, 15, 255]))
    packed = vnni.pack(weights, layout)
    x = rng.integers(0, most + 1, (PIXELS, rows, row)).astype(np.uint8)
    high = data.draw(st.sampled_from([100, 1000, 10_000, 2**30]))
    operands = (packed, np.zeros((1, 32), np.int32), 1, rows, 1, packed.shape[3], 0, signed)
    addresses = x.ctypes.data + np.arange(PIXELS) * x.strides[0]
    found = np.empty((2, PIXELS, 16), np.int32)
    _PEEKS[lanes, signed](addresses, row, operands, 0, 1, -high - 1, high, found)
    wide = x.view(np.int8) if signed else x
    for p, c in np.ndindex(PIXELS, 16):
        sums = list(itertools.accumulate(int(wide[p, i, k]) * int(weights[i, k, 0, 16 + c])
                                         for i in range(rows) for k in range(run)))
        outside = [not -high - 1 <= total <= high for total in sums]
        assert (found[:, p, c] != 0).tolist() == [any(outside), outside[-1]]


def _compare(step, image, op, isa, draw, first=None):
    """Sums, codes, overflows and counters of a step beside plain integers; `first` tells of the first stage."""
    x = codes(draw, (2, *image.shape), op.operand).astype(op.operand.dtype)
    padded = Padded.of(x, 2, image.zero_point)
    expected, counts, told = _sums(op, x, image.zero_point)
    if op.accumulator.before:
        _compare_counters(of_stages(op, isa), padded, told)
    sums, overflows = step.registers([padded])
    np.testing.assert_array_equal(sums, expected)
    _assert_counts(overflows, counts)
    skip = codes(draw, (2, *op.shape), op.format).astype(op.format.dtype) if op.skip else None
    out = Padded.filled(2, op.shape, op.format.dtype, 1, 1)
    inputs = [padded] if skip is None else [padded, Padded.of(skip, 1)]
    overflows = step(inputs, out)
    _assert_counts(overflows, counts)
    for n in range(2):
        values = reference.requantize((expected[n] - (op.correction if op.operand_zero else 0)).tolist(), op,
                                      None if skip is None else skip[n].tolist())
        np.testing.assert_array_equal(out.interior[n], values)
    told_out = Padded.filled(2, op.shape, op.format.dtype, 1, 1)
    overflows, counters = Watch(op, isa, step).run(step, inputs, told_out)
    np.testing.assert_array_equal(told_out.array, out.array)
    _assert_counts(overflows, counts)
    np.testing.assert_array_equal([counters.persistent, counters.transient], told)
    if first is not None:
        told_out.interior[...] = 1
        overflows, found = first.codes(inputs, told_out)
        np.testing.assert_array_equal(told_out.array, out.array)
        _assert_counts(overflows, counts)
        np.testing.assert_array_equal(found, told[:, :1])
        _compare_counters(first, padded, told[:, :1])
    out.interior[...] = 1
    assert (out.array == 1).all()


def _assert_counts(overflows, counts):
    """Of each channel; None where no output can overflow."""
    np.testing.assert_array_equal(np.zeros_like(counts) if overflows is None else overflows, counts)


def _compare_counters(teller, padded, told):
    """Persistent and transient outputs of each stage, image and channel, if there is a fast way to tell."""
    if teller is not None:
        for found, expected in zip(teller.counters([padded]), told, strict=True):
            np.testing.assert_array_equal(found, expected)


def _sums(op, x, zero):
    """In plain integers what the last registers hold [N, H, W, C], how many outputs of each channel overflowed, and how many
    are persistent and transient [2, stages, N, C]."""
    top, bottom, left, right = op.window.paddings
    down, across, dilation = op.window.steps
    framed = np.pad(x.astype(int), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero).tolist()
    stages, order = op.accumulator.plain
    rows, columns, depth, channels = op.weights.shape
    weights = op.weights.tolist()
    start = [0] * channels if op.start is None else op.start.tolist()
    sums, counts = np.zeros((len(x), *op.shape), int), np.zeros(channels, int)
    told = np.zeros((2, len(stages), len(x), channels), int)
    for n, i, j, o in np.ndindex(sums.shape):
        products = [framed[n][i * down + a * dilation][j * across + b * dilation][c] * weights[a][b][c][o]
                    for a in range(rows) for b in range(columns) for c in range(depth)]
        products = plain_registers.in_order(products, order, (rows, columns, depth))
        sums[n, i, j, o], overflowed, each = plain_registers.accumulate(products, stages, start[o])
        counts[o] += overflowed
        for stage, (persists, passes, _) in enumerate(each):
            told[:, stage, n, o] += persists, passes
    return sums, counts, told
