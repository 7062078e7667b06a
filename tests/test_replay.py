"""Saturating registers product by product, against plain integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from sim.kernels import replay
from sim.kernels.isa import INTERPRETED
from sim.kernels.layout import LANES, divide
from sim.kernels.replay import PIXELS, replay_windows
from tests.examples import examples
from tests.strategies import generators

pytestmark = pytest.mark.skipif(INTERPRETED, reason="registers of the processor are none of numpy's")


@njit
def replayed(addresses, row, operands, low, high, scratch):
    """What a kernel does with the windows of 16 channels."""
    replay_windows(addresses, row, operands, 0, 0, low, high, scratch)


def plain(codes, weights, bits, tile, start=0):
    """What a register that begins with `start` holds after these products and whether it was ever clipped (C7, A3)."""
    low, high, partial = -(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0
    held = min(max(start, low), high)
    is_clipped = held != start
    for number, (code, weight) in enumerate(zip(codes, weights, strict=True), 1):
        partial += code * weight
        if number % tile == 0 or number == len(codes):
            total, partial = held + partial, 0
            held = min(max(total, low), high)
            is_clipped |= held != total
    return held, is_clipped


@given(generators, st.integers(4, 18), st.integers(1, 255), st.integers(1, 127), st.sampled_from([1, 1, 1, 3]),
       st.integers(1, 3), st.integers(1, 60), st.booleans(), st.sampled_from(["random", "there and back", "extremes"]),
       st.booleans())
@examples(300)
def test_windows__are_plain_integers(  # noqa: PLR0913 - drawn
        rng, bits, code, weight, tile, rows, run, signed, pattern, begins):
    """Registers that travel from end to end, clip once at each, and by as much: nothing may be forgotten."""
    if signed:
        code = min(code, 127)
    x = rng.integers(-code if signed else 0, code + 1, (PIXELS, rows, run))
    weights = rng.integers(-weight, weight + 1, (rows, 1, run, LANES))
    if pattern != "random":
        x = np.where(rng.random(x.shape) < 0.9, code, x)
        period = rng.integers(1, max(2, 2 * ((2 << bits) // (code * weight) + 1)), LANES)
        there = np.arange(rows * run)[:, None] // period % 2 * 2 - 1
        weights = (there * weight).reshape(weights.shape) if pattern == "extremes" else \
            there.reshape(weights.shape) * rng.integers(0, weight + 1, weights.shape)
    assert_plain(x, weights, bits, tile, signed, rng.integers(-(1 << bits), 1 << bits, LANES) if begins else None)


@pytest.mark.parametrize("bits", range(4, 17))
@pytest.mark.parametrize("zeros", range(3))
def test_clips_at_both_ends__that_make_up_for_each_other_are_told(bits, zeros):
    most = (1 << (bits - 1)) - 1
    products = [0] * zeros + [most, most, -most, -most, -1, -most]  # over the top by `most`, then over the bottom
    weights = np.repeat(np.array(products), LANES).reshape(1, 1, -1, LANES)
    assert_plain(np.ones((PIXELS, 1, len(products)), np.int64), weights, bits, 1, False)


@pytest.mark.parametrize("start", [8, 9, 16, -9, -24, 7 + (1 << 20)])
@pytest.mark.parametrize("tile", [1, 2])
def test_starts__that_do_not_fit_are_clips_whatever_comes_behind(start, tile):
    """Of 4 bits, which products bring back, though in lanes of 16 bits the last one looks like 7."""
    step = 1 if start < 0 else -1
    weights = np.repeat(np.array([step] * 20 + [-step] * 9), LANES).reshape(1, 1, -1, LANES)
    assert_plain(np.ones((PIXELS, 1, 29), np.int64), weights, 4, tile, False, np.full(LANES, start))


def assert_plain(x, weights, bits, tile, signed, start=None):
    """Codes [PIXELS, rows, run], weights [rows, 1, run, LANES], starts [LANES]."""
    largest = int(np.abs(x).max(initial=0) * np.abs(weights).max(initial=0))
    layout = divide(weights, 1, LANES)
    operands = tuple(replay.operands(weights, layout, bits, largest, tile, 128 if signed else 0, start))
    begins = [0] * LANES if start is None else start.tolist()
    memory = np.ascontiguousarray(x.astype(np.uint8))
    addresses = memory.ctypes.data + np.arange(PIXELS) * memory.strides[0]
    scratch = np.empty((2, PIXELS, LANES), np.int32)
    replayed(addresses, memory.strides[1], operands, np.int32(-(1 << (bits - 1))), np.int32((1 << (bits - 1)) - 1), scratch)
    for p in range(PIXELS):
        for c in range(LANES):
            held, is_clipped = plain(x[p].ravel().tolist(), weights[..., c].ravel().tolist(), bits, tile, begins[c])
            assert (scratch[0, p, c], scratch[1, p, c] != 0) == (held, is_clipped), (bits, p, c)


def test_lanes__are_chosen_by_what_fits():
    weights = np.ones((1, 1, 4, LANES), np.int64)
    layout = divide(weights, 1, LANES)
    asked = (16, 32767, 1), (16, 32768, 1), (17, 3, 1), (8, 127, 1), (8, 128, 1), (15, 9, 2), (16, 9, 2)
    bytes_of = [replay.operands(weights, layout, *each, 0).weights.dtype.itemsize for each in asked]
    assert bytes_of == [2, 4, 4, 2, 2, 2, 4]
