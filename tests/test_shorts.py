"""Sums of few bits in lanes of 16 (vpmaddubsw), against the plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.kernels import shorts
from sim.kernels.isa import PLAIN, PORTABLE, has_byte_pairs
from sim.kernels.layout import LANES, divide
from sim.steps import choice
from sim.steps.conv import Convolution
from tests.examples import compiling
from tests.strategies import generators
from tests.test_wide_weights import convolution, results

pytestmark = pytest.mark.skipif(not has_byte_pairs(), reason="no AVX2 here")
REGISTERS = [Accumulator(), Accumulator(9, "wrap"), Accumulator(10, "saturate", 0), Accumulator(11, "saturate", 1)]

WIDTHS = [(1, 1), (1, 127), (2, 3), (2, 127), (3, 7), (4, 15), (5, 31), (7, 15), (8, 7), (8, 8)]
"""Of codes, and the largest weight."""


@st.composite
def cases(draw):
    """(operation, codes): sums that go as far as they can, in one direction or there and back, or random ones."""
    rng, groups = draw(generators), draw(st.sampled_from([1, 1, 3]))
    bits, most = draw(st.sampled_from(WIDTHS))
    taps = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    channels, depth = draw(st.integers(1, 50)), draw(st.integers(1, 90))
    x_form, stride, padding = IntFormat(bits, signed=False), draw(st.integers(1, 2)), draw(st.integers(0, 2))
    sides = tuple(draw(st.integers(count, 20)) for count in taps)
    weights = rng.integers(-most, most + 1, (*taps, depth, channels * groups))
    x = rng.integers(0, x_form.max + 1, (2, *sides, depth * groups)).astype(np.uint8)
    pattern = draw(st.sampled_from(["random", "one sign", "there and back"]))
    if pattern != "random":
        x[...] = x_form.max
        weights[...] = most * draw(st.sampled_from([-1, 1]))
    if pattern == "there and back":
        weights[:, :, depth // 2 :] *= -1
    op = convolution(weights.astype(np.int32), x_form, sides, stride, padding, groups, draw(st.sampled_from(REGISTERS)))
    return op, x


@given(case=cases())
@compiling(60)
def test_sums__are_those_of_the_plain_loops(case):
    op, x = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(choice.METHOD, "bytes")
        mine = Convolution(op, PORTABLE)
    if op.groups == 1:  # of groups some have kernels of their own
        assert mine.path.startswith("16-bit lanes"), mine.path
    for found, expected in zip(results(mine, x, None), results(Convolution(op, PLAIN), x, None), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("largest", "pairs"), [(1, 16383), (225, 72), (2047, 8), (2048, 7), (16383, 1), (16384, 0)])
def test_pairs__that_fit_are_all_that_fit(largest, pairs):
    assert shorts.pairs_that_fit(largest) == pairs
    assert 2 * pairs * largest < 2**15 <= 2 * (pairs + 1) * largest


def test_what_may_pass_16_bits__takes_another_way(monkeypatch):
    monkeypatch.setenv(choice.METHOD, "bytes")
    weights = np.full((1, 1, 4, LANES), 15, np.int32)
    for form, path in ((IntFormat(4, signed=False), "16-bit lanes"), (IntFormat(8, signed=False), "blocks"),
                       (IntFormat(4, signed=True), "blocks")):
        op = convolution(weights, form, (4, 4), 1, 0, 1, Accumulator())
        assert Convolution(op, PORTABLE).path.startswith(path)
    wide = convolution(np.full((1, 1, 4, LANES), 255, np.int32), IntFormat(1, signed=False), (4, 4), 1, 0, 1, Accumulator())
    assert Convolution(wide, PORTABLE).path.startswith("blocks")


def test_pack__is_every_weight_and_nothing_else():
    weights = np.arange(1, 1 + 3 * 1 * 5 * 20).reshape(3, 1, 5, 20) % 127
    layout = divide(weights, 1, 64)
    packed = shorts.pack(weights, layout)
    assert packed.shape == (1, 2, 3, 3, LANES, 2)
    for row, product, channel in np.ndindex(3, 5, 20):
        found = packed[0, channel // LANES, row, product // 2, channel % LANES, product % 2]
        assert found == weights[row, 0, product, channel]
    assert packed.astype(int).sum() == weights.sum()
