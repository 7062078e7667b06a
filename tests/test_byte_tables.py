"""Tables of bytes (vpshufb) against the plain loops and plain integers: every width, shape, register and ending."""

import dataclasses
import itertools

import numba
import numpy as np
import pytest
from hypothesis import given

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels import cache, tables, tables_of_codes
from sim.kernels.isa import AVX_VNNI, PLAIN, PORTABLE, available, has_byte_tables
from sim.kernels.planes import Digits, digits_of
from sim.kernels.tables import Form
from sim.steps import choice
from sim.steps.conv import Convolution
from tests.examples import compiling
from tests.test_planes import CLIP, NETWORKS, STARTS, WRAP, convolutions, paths_that_agree, requantizer, results, simple
from tests.test_tile_rules import TILED

pytestmark = pytest.mark.skipif(not has_byte_tables(), reason="no AVX2 here")
ONE, TWO, HALVED = Digits((0,)), Digits((0, 1)), Digits((0, 0), is_halved=True)


@pytest.fixture
def force(monkeypatch):
    """A convolution that takes one way."""
    def convolution(op, method="tables", isa=PORTABLE):
        monkeypatch.setenv(choice.METHOD, method)
        return Convolution(op, isa)

    return convolution


@given(case=convolutions(bits_of_two=(1, 2, 3, 4)))
@compiling(100)
def test_tables__are_the_plain_loops(case):
    op, x, skip = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(choice.METHOD, "tables")
        mine = [Convolution(op, isa) for isa in (PORTABLE, AVX_VNNI) if isa in available()]
    expected = results(Convolution(op, PLAIN), x, skip)
    for convolution in mine:
        assert convolution.path.startswith("tables")
        for one, other in zip(results(convolution, x, skip), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def largest(force, form, weight, depth, taps=(3, 3), columns=9, channels=20):
    """Sums of equal codes and weights, each of them at an end, with a border of zeros, against their closed form."""
    padding = taps[0] // 2
    for code in {form.min, form.max}:
        x = np.full((2, 5, columns, depth), code, form.dtype)
        op = simple(np.full((*taps, depth, channels), weight), form, (5, columns, channels), padding=padding)
        convolution = force(op)
        assert convolution.path.startswith("tables")
        seen = [np.convolve(np.ones(side, int), np.ones(count, int), "same") for side, count in zip((5, columns), taps,
                                                                                                strict=True)]
        expected = weight * code * depth * np.multiply.outer(*seen)
        np.testing.assert_array_equal(convolution.registers([Padded.of(x, padding)])[0],
                                      np.broadcast_to(expected[..., None], (2, 5, columns, channels)))


@pytest.mark.parametrize("form", [IntFormat(1, signed=False), IntFormat(4, signed=False), IntFormat(2, signed=True)])
@pytest.mark.parametrize("weight", [-3, -1, 1, 3])
@pytest.mark.parametrize("depth", [1, 3, 16, 33, 64, 130])
def test_extremes__of_every_code_are_exact(force, form, weight, depth):
    """Every product at its largest, whatever of a table or of a pair of tables is left over."""
    largest(force, form, weight, depth)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("weight", [1, 3])
def test_extremes__of_as_many_lookups_as_a_byte_holds(force, bits, weight):
    """Sums of bytes up to 252 of 255, one step more, and several times as many."""
    run = tables.lookups_that_fit(2**bits - 1)
    for depth in (8 * run, 8 * run + 4, 24 * run + 1):
        largest(force, IntFormat(bits, signed=False), weight, depth, (1, 1))


@pytest.mark.parametrize(("bits", "weight", "depth", "is_possible"), [
    (4, 1, 8 * 1092, True), (4, 1, 8 * 1092 + 1, False), (2, 3, 8 * 1820, True), (2, 3, 8 * 1820 + 1, False)])
def test_extremes__of_as_many_lookups_as_words_hold(force, bits, weight, depth, is_possible):
    """65,520 in each half of a window; what may pass 65,535 takes another way."""
    if is_possible:
        largest(force, IntFormat(bits, signed=False), weight, depth, (1, 1), 2, 3)
    else:
        op = simple(np.full((1, 1, depth, 3), weight), IntFormat(bits, signed=False), (5, 2, 3), padding=0)
        assert not force(op).path.startswith("tables")


@pytest.mark.parametrize(("most", "count"), [(1, 63), (3, 21), (7, 9), (15, 4), (63, 1), (64, 0)])
def test_lookups__that_fit_are_all_that_fit(most, count):
    assert tables.lookups_that_fit(most) == count
    assert 4 * most * count < 2**8 <= 4 * most * (count + 1)


@pytest.mark.parametrize("columns", [1, 3, 4, 7, 8, 9, 16, 31])
@pytest.mark.parametrize("channels", [3, 16, 17, 64, 70])
def test_tiles__of_every_width_are_exact(force, columns, channels):
    """Pixels that two tiles compute, channels that there are not, strides that leave pixels out."""
    rng = np.random.default_rng(columns * channels)
    for stride in (1, 2):
        weights = rng.choice(np.array([-1, 1]), (3, 2, 5, channels))
        op = simple(weights, IntFormat(2, signed=True), (3, columns, channels), stride=stride, accumulator=WRAP)
        x = rng.integers(-2, 2, (2, 2 * stride + 1, (columns - 1) * stride, 5)).astype(np.int8)
        for mine, expected in zip(results(force(op), x, None), results(Convolution(op, PLAIN), x, None), strict=True):
            np.testing.assert_array_equal(mine, expected)


_BUILD, _SUM_PIXELS = tables_of_codes.make_builder(), tables_of_codes.make_pixel_sums()
_SUM_WINDOWS = tables_of_codes.make_window_sums(3, 5)


@numba.njit
def _prepared(codes, target, sums, windows, lift):
    pixels, channels = codes.shape
    _BUILD((codes.ctypes.data, target.ctypes.data, pixels, channels, lift))
    _SUM_PIXELS((codes.ctypes.data, sums.ctypes.data, pixels, channels, lift))
    _SUM_WINDOWS((sums.ctypes.data, 0, 2, pixels - 2, windows.ctypes.data))


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 16, 18, 31, 32, 33, 64, 70])
@pytest.mark.parametrize("lift", [0, 8])
def test_tables__hold_the_sums_of_all_subsets_of_four_codes(channels, lift):
    rng, pixels, groups = np.random.default_rng(channels), 11, -(-channels // 4)
    memory = rng.integers(0, 16, pixels * channels + 64).astype(np.uint8)  # what lies behind is no zeros
    codes = memory[: pixels * channels].reshape(pixels, channels)
    target = np.zeros(pixels * groups * 16 + 64, np.uint8)
    sums, windows = np.zeros(pixels + 16, np.int32), np.zeros(pixels + 16, np.int32)
    _prepared(codes, target, sums, windows, lift)
    found = target[: pixels * groups * 16].reshape(pixels, groups, 16)
    lifted = [[int(code) + lift for code in pixel] for pixel in codes]
    for pixel, group, entry in itertools.product(range(pixels), range(groups), range(16)):
        members = [i for i in range(4) if entry >> i & 1]
        if all(4 * group + i < channels for i in members):  # others are never looked up
            assert found[pixel, group, entry] == sum(lifted[pixel][4 * group + i] for i in members)
    assert sums[:pixels].tolist() == [sum(pixel) for pixel in lifted]
    assert windows[: pixels - 2].tolist() == [2 * 5 * sum(map(sum, lifted[j : j + 3])) for j in range(pixels - 2)]


@pytest.mark.parametrize(("digits", "values"), [(ONE, [-1, 1]), (TWO, [-3, -1, 1, 3]), (HALVED, [-1, 0, 1])])
def test_pack__is_every_digit_and_nothing_else(digits, values):
    rng, form = np.random.default_rng(len(values)), Form(4, 2, digits)
    rows, columns, depth, channels = 2, 3, 5, 20
    weights = rng.choice(np.array(values), (rows, columns, depth, channels))
    assert digits_of(weights) == digits
    packed = tables.pack(weights, form, 2 * 32)
    steps = -(-columns * 2 // 2)
    assert packed.shape == (2 * 32 // form.channels, rows * steps, 2, 32)
    bits, count = digits.bits(weights), len(digits.exponents)
    for digit, row, column, i, channel in np.ndindex(bits.shape):
        table, within = column * 2 + i // 4, channel % form.of_unit
        place = 2 * (within % 8) + (within // 8 if count == 1 else digit)
        index = packed[channel // form.channels, row * steps + table // 2, channel % form.channels // form.of_unit,
                       16 * (table % 2) + place]
        assert index >> i % 4 & 1 == bits[digit, row, column, i, channel]
    assert np.bitwise_count(packed).sum() == bits.sum()


@pytest.mark.parametrize(("change", "is_possible"), [
    ({}, True), ({"accumulator": Accumulator(6, "wrap", 1)}, True), ({"accumulator": Accumulator(6, "saturate", 0)}, True),
    ({"accumulator": Accumulator(6, "saturate", 1)}, False), ({"accumulator": Accumulator(30, "saturate", 1)}, True),
    ({"operand": IntFormat(5, signed=False)}, False), ({"operand": IntFormat(4, signed=True)}, True),
    ({"weights": np.full((3, 3, 16, 20), 2, np.int32)}, False), ({"stride_width": 2, "shape": (5, 5, 20)}, False),
    ({"weights": np.ones((3, 3, 8, 20), np.int32), "groups": 2}, False),
    ({"operand_zero": 1}, False), ({"start": np.arange(20)}, True), ({"paddings": (1, 0, 1, 2), "padding": 0}, True),
    ({"start": np.arange(20), "accumulator": Accumulator(6, "saturate", 0)}, True),
    ({"start": np.arange(20), "accumulator": Accumulator(6, "saturate", 1)}, False)])
def test_path__is_tables_only_where_that_is_exact(force, change, is_possible):
    op = dataclasses.replace(simple(np.ones((3, 3, 16, 20)), IntFormat(1, signed=False), (5, 9, 20)), **change)
    assert force(op).path.startswith("tables") == is_possible
    for method in ("bytes", "planes"):
        assert not force(op, method).path.startswith("tables")


@pytest.mark.parametrize("name", ["fp32", *(
    pytest.param(name, marks=pytest.mark.exhaustive) for name in TILED if name != "fp32")])
@pytest.mark.parametrize("change", [
    {}, {"skip": "skip"}, {"accumulator": WRAP}, {"limits": (-3, 7), "skip": "skip", "accumulator": CLIP},
    {"zero_point": -5, "limits": (-100, 50)}, {"zero_point": 17, "limits": (17, 90), "accumulator": WRAP},
    {"start": STARTS, "zero_point": 9, "skip": "skip"}, {"padding": 0, "paddings": (1, 2, 0, 1)}],
    ids=lambda change: ", ".join(f"{key} {value if np.size(value) < 9 else ''}".strip() for key, value in change.items()))
@pytest.mark.parametrize("channels", [20, 32])
def test_endings__of_every_rule_in_registers_and_by_lines(force, name, change, channels):
    """Codes, sums and counters of the plain loops; tiles end in codes where these are all of their registers'."""
    rng = np.random.default_rng(len(name))
    change = change | ({"start": np.resize(STARTS, channels)} if "start" in change else {})
    for form in (IntFormat(8, signed=True), IntFormat(8, signed=False)):
        limits = {} if form.signed else {"zero_point": 0, "limits": ()}
        op = simple(rng.choice(np.array([-1, 1]), (3, 3, 16, channels)), IntFormat(1, signed=False), (5, 9, channels),
                    requant=requantizer(rng, name, channels))
        op = dataclasses.replace(op, format=form, **change | limits)
        top, bottom, left, right = op.window.paddings
        op = dataclasses.replace(op, shape=(3 + top + bottom, 7 + left + right, channels))
        x = Padded.of(rng.integers(0, 2, (2, 5, 9, 16)).astype(np.uint8), 2)
        skip = Padded.of(rng.integers(form.min, form.max + 1, (2, *op.shape)).astype(form.dtype), 1)
        found = []
        for convolution in (Convolution(op, PLAIN), force(op)):
            out = Padded.filled(2, op.shape, form.dtype, 1, op.zero_point)
            counts = convolution([x, skip] if op.skip else [x], out)
            sums, overflows = convolution.registers([x])
            found.append([out.array, sums, *(np.zeros(channels) if c is None else c for c in (counts, overflows))])
        for expected, mine in zip(*found, strict=True):
            np.testing.assert_array_equal(mine, expected)
        is_direct = channels == 32 and not ("start" in change and name == "fp32")
        assert convolution.path.split(",")[0] == ("tables to codes" if is_direct else "tables by lines")


@pytest.mark.exhaustive
@pytest.mark.parametrize(("bits", "hardware"), NETWORKS)
def test_networks__have_the_same_codes_whichever_way_is_taken(monkeypatch, bits, hardware):
    ways = (PLAIN, ""), (PORTABLE, "tables"), (PORTABLE, "bytes"), (PORTABLE, "")
    for (_, method), inner in zip(ways, paths_that_agree(monkeypatch, bits, hardware, ways), strict=True):
        assert all(path.startswith("tables") for path in inner) == (method == "tables") or not method


OP = simple(np.ones((3, 3, 16, 16)), IntFormat(2, signed=False), (4, 4, 16))
WIDE = dataclasses.replace(OP, weights=np.full((3, 3, 16, 16), 3, np.int32), operand=IntFormat(3, signed=False))


def test_choice__is_measured_and_kept_for_these_ways(monkeypatch, tmp_path):
    monkeypatch.delenv(choice.METHOD, raising=False)
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path)
    monkeypatch.setattr(choice, "measure", lambda op, ways: dict(zip(ways, (2.0, 1.0), strict=True)))
    assert Convolution(OP, PORTABLE).path.startswith("tables")
    (kept,) = tmp_path.iterdir()
    assert kept.read_text() == "tables bytes 2.000e+00 tables 1.000e+00\n"
    kept.write_text("planes bytes 2.000e+00 planes 1.000e+00\n")  # not one of these ways
    monkeypatch.setattr(choice, "measure", lambda op, ways: dict(zip(ways, (1.0, 2.0), strict=True)))
    assert Convolution(OP, PORTABLE).path.startswith("16-bit lanes")
    if AVX_VNNI in available():  # other bytes, measured anew
        assert Convolution(OP, AVX_VNNI).path.startswith("avx vnni")
        assert len(list(tmp_path.iterdir())) == 2


def test_choice__goes_by_widths_where_nothing_can_be_kept(monkeypatch):
    monkeypatch.delenv(choice.METHOD, raising=False)
    monkeypatch.setattr(cache, "CACHE_FOLDER", None)
    assert [Convolution(op, PORTABLE).path.split()[0] for op in (OP, WIDE)] == ["tables", "16-bit"]


def test_choice__is_measured_on_the_layer_itself(force):
    ways = {method: force(OP, method)._kernels for method in ("bytes", "tables")}
    seconds = choice.measure(OP, ways)
    assert seconds.keys() == ways.keys()
    assert all(0.0 < spent < 10.0 for spent in seconds.values())
