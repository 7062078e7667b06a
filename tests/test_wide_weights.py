"""Weights beyond a byte on vpdpbusd: DoReFa's odd ones of 8 bits, and sums of bytes in depthwise convolutions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels import depthwise_vnni, vnni
from sim.kernels.isa import PLAIN, VNNI, runnable
from sim.kernels.layout import divide
from sim.program import ConvOp
from sim.requantizers.fp32 import Fp32
from sim.steps.conv import Convolution
from tests.examples import compiling, examples
from tests.strategies import generators

needs_vnni = pytest.mark.skipif(VNNI not in runnable(), reason="no AVX512-VNNI here")
REGISTERS = [Accumulator(), Accumulator(20, "wrap"), Accumulator(18, "saturate", 0), Accumulator(19, "saturate", 1)]


def convolution(weights, form, sides, stride, padding, groups, register, residual=False):
    """To codes of 8 bits, from sums that use them."""
    rows, columns, _, channels = weights.shape
    out = [(side + 2 * padding - count) // stride + 1 for side, count in zip(sides, (rows, columns), strict=True)]
    usual = np.sqrt(weights[..., 0].size) * 150 * form.max / 2
    gain, offset = np.full(channels, 80 / usual, np.float32), np.full(channels, 100, np.float32)
    requant = Fp32(gain, offset, np.array([0.5], np.float32))
    return ConvOp("conv", "x", (*out, channels), IntFormat(8, signed=False), skip="skip" if residual else "",
                  weights=weights, stride=stride, padding=padding, groups=groups, operand=form,
                  weight_format=IntFormat(9, signed=True), weight_bits=8, accumulator=register, requant=requant)


def results(convolution, x, skip):
    """Sums, codes, and both counts of overflows."""
    op = convolution.op
    x, out = Padded.of(x, op.padding), Padded.zeros(len(x), op.shape, op.format.dtype, 1)
    sums, overflows = convolution.registers([x])
    counts = convolution([x] if skip is None else [x, Padded.of(skip, 0)], out)
    return sums, out.interior, *(np.zeros(op.shape[2]) if c is None else c for c in (overflows, counts))


def compare(op, x, skip, path):
    """With the plain loops; `path` begins the name of what runs it, if its registers allow that."""
    mine = Convolution(op, VNNI)
    if op.accumulator.is_whole(op.weights[..., 0].size) or op.safe_bits <= op.accumulator.bits:
        assert mine.path.startswith(path), mine.path
    for found, expected in zip(results(mine, x, skip), results(Convolution(op, PLAIN), x, skip), strict=True):
        np.testing.assert_array_equal(found, expected)


@st.composite
def cases(draw, depthwise):
    """(weights, codes, the rest): odd weights or, depthwise, any that three bytes are together."""
    rng, register = draw(generators), draw(st.sampled_from(REGISTERS))
    form = IntFormat(draw(st.sampled_from([8, 8, 5])), signed=draw(st.booleans()))
    channels, taps = draw(st.integers(2, 80)), (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
    groups = channels if depthwise else draw(st.sampled_from([1, 1, 2]))
    depth = 1 if depthwise else draw(st.integers(1, 40))
    if groups == 2:
        channels *= 2
    shape = (*taps, depth, channels)
    most = 381 if depthwise else 255
    weights = rng.integers(-most, most + 1, shape)
    if not depthwise:
        weights = weights // 2 * 2 + 1
    weights.flat[0] = draw(st.sampled_from([-255, 255]))
    sides = tuple(draw(st.integers(count, 20)) for count in taps)
    x = rng.integers(form.min, form.max + 1, (2, *sides, depth * groups)).astype(form.dtype)
    if draw(st.booleans()):
        x[...] = draw(st.sampled_from([form.min, form.max]))
    op = convolution(weights.astype(np.int32), form, sides, stride, padding, groups, register, draw(st.booleans()))
    skip = rng.integers(0, 256, (2, *op.shape)).astype(np.uint8) if op.skip else None
    return op, x, skip


@needs_vnni
@given(case=cases(depthwise=False))
@compiling(60)
def test_odd_weights__have_the_sums_and_codes_of_plain_loops(case):
    op, x, skip = case
    compare(op, x, skip, "vnni odd")


@needs_vnni
@given(case=cases(depthwise=True))
@compiling(60)
def test_depthwise_weights_beyond_a_byte__have_the_sums_and_codes_of_plain_loops(case):
    compare(*case, "")


@needs_vnni
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("weight", [-255, 255])
def test_extremes__of_odd_weights_are_exact(weight, signed):
    """Every product at its largest, of channels that fill no quad, with a border and without."""
    form = IntFormat(8, signed=signed)
    for code in (form.min, form.max):
        for padding, depth in ((1, 37), (0, 64)):
            op = convolution(np.full((3, 3, depth, 96), weight, np.int32), form, (7, 9), 1, padding, 1, Accumulator())
            x = np.full((1, 7, 9, depth), code, form.dtype)
            sums, _ = Convolution(op, VNNI).registers([Padded.of(x, padding)])
            assert Convolution(op, VNNI).path.startswith("vnni odd")
            seen = [np.convolve(np.ones(side, int), np.ones(3, int), "same" if padding else "valid") for side in (7, 9)]
            wanted = weight * code * depth * np.outer(*seen)
            np.testing.assert_array_equal(sums, np.broadcast_to(wanted[None, :, :, None], sums.shape))


@needs_vnni
def test_depthwise__takes_three_bytes_where_one_is_not_enough():
    form = IntFormat(8, signed=False)
    for most, path in ((127, "depthwise vnni to"), (255, "depthwise vnni wide"), (381, "depthwise vnni wide"),
                       (382, "depthwise by")):
        weights = np.ones((3, 3, 1, 32), np.int32)
        weights[0, 0, 0, 0] = most
        op = convolution(weights, form, (9, 9), 1, 1, 32, Accumulator())
        assert Convolution(op, VNNI).path.startswith(path)


@pytest.mark.parametrize(("values", "answer"), [
    ([-255, 255], True), ([129, 1], True), ([-129, 3], True), ([127, -127], False), ([255, 2], False), ([257, 1], False),
    ([0, 255], False), ([-256, 1], False)])
def test_odd__are_weights_whose_halves_are_bytes(values, answer):
    assert vnni.are_odd(np.array(values).reshape(1, 1, 1, -1)) is answer


@given(rng=generators, depth=st.integers(1, 9), columns=st.integers(1, 3))
@examples(20)
def test_packed_odd_weights__are_twice_a_byte_and_one(rng, depth, columns):
    weights = rng.integers(-128, 128, (2, columns, depth, 40)) * 2 + 1
    layout = divide(weights, 1, 32)
    packed = vnni.pack_odd(weights, layout).astype(int)
    halves, ones = packed[:, 0, ..., : layout.width, :], packed[:, 0, ..., layout.width :, :]
    assert (ones == ones[..., :1, :]).all()
    assert ones[0, :, :, 0].reshape(2, -1).sum(1).tolist() == [columns * depth] * 2
    whole = (2 * halves + ones[..., :1, :]) * ones[..., :1, :]
    in_order = whole.transpose(1, 2, 4, 0, 3).reshape(2, -1, len(layout.parts) * layout.width)
    np.testing.assert_array_equal(in_order[:, : columns * depth, :40], weights.reshape(2, columns * depth, 40))


@given(rng=generators, terms=st.integers(1, 3), columns=st.integers(1, 6), stride=st.integers(1, 2))
@examples(20)
def test_packed_terms__are_together_the_weights(rng, terms, columns, stride):
    weights = rng.integers(-128 * terms, 127 * terms + 1, (2, columns, 1, 20))
    assert depthwise_vnni.fits(weights, terms)
    packed = depthwise_vnni.pack(weights, stride, terms).astype(int)
    blocks, rows, groups, _, taps = packed.shape
    whole = packed.reshape(blocks, rows, groups, terms, 16, taps).sum(3)  # [blocks, rows, groups, lanes, taps]
    if depthwise_vnni.outputs_of_pairs(columns, stride) == 2:
        whole = whole[:, :, :1]  # the second output has the same a tap later
    in_order = whole.transpose(1, 2, 4, 0, 3).reshape(rows, -1, blocks * 16)
    np.testing.assert_array_equal(in_order[:, :columns, :20], weights[:, :, 0])
