"""Every rule against plain Python: its loop against its oracle, and its oracle against what its owner writes down."""

import dataclasses
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.formats import IntFormat
from sim.requantizers import ADDITIONS, REQUANTIZERS, Affine, Rule, requantizer_named
from sim.requantizers.double import Double
from sim.requantizers.exact_add import ExactAdd
from sim.requantizers.fp32 import Fp32
from sim.requantizers.int16 import Int16
from sim.requantizers.mul_add_shift import MulAddDivide, MulAddShift, MulAddShiftFloor
from sim.requantizers.multiplier import multiplier_of
from sim.requantizers.ort import Ort
from sim.requantizers.ort_add import OrtAdd
from sim.requantizers.power_of_two import PowerOfTwo, RshiftFloor
from sim.requantizers.requantizer import RequantizeError
from sim.requantizers.ruy import Ruy
from sim.requantizers.single import Single
from sim.requantizers.tflite_add import TfliteAdd
from sim.requantizers.tflite_single import TfliteSingle
from sim.requantizers.thresholds import NEVER, Thresholds
from sim.requantizers.tosa import TosaDouble, TosaSingle
from sim.requantizers.xnnpack import Xnnpack
from sim.requantizers.xnnpack_add import XnnpackAdd
from sim.testing import check_requantizer
from tests import oracle
from tests.examples import scaled
from tests.strategies import generators

RULES = [kind for kind in REQUANTIZERS.values() if issubclass(kind, Rule) and kind is not TfliteSingle]
FORMS = [IntFormat(8, signed=True), IntFormat(8, signed=False), IntFormat(16, signed=True), IntFormat(31, signed=True),
         IntFormat(32, signed=True)]
INT32 = [-(2**31), 2**31 - 1, -(2**31) + 1, 2**30, -(2**30), 0, 1, -1, 2, -2, 3, -3]


def some(rng, least, most, size, special=()):
    """int64 within the limits: any size of number, either end, and what is special."""
    wide = rng.integers(least, most, size, np.int64, endpoint=True)
    numbers = np.where(rng.random(size) < 0.5, wide >> rng.integers(0, 62, size), wide)
    picked = rng.choice([least, most, *(s for s in special if least <= s <= most)], size)
    return np.where(rng.random(size) < 0.3, picked, np.clip(numbers, least, most))


def constants_of(kind, rng, channels):
    """Fields anywhere in a rule's domain."""
    fields = {}
    for part in dataclasses.fields(kind):
        plain, size = part.name.removeprefix("skip_"), 1 if part.name.startswith(("skip_", "fraction")) else channels
        if plain == "fraction":
            fields[part.name] = rng.choice([0, 0, 1, 5], 1)
            continue
        least, most = kind.domain.get(plain, (-(2**40), 2**40))
        if plain == "levels":
            fields[part.name] = np.sort(some(rng, -(2**34), NEVER, (size, 5), INT32), axis=1)
        elif plain in kind.real:
            special = [0.0, 0.5, -0.5, 1.0, 0.25, 1.5, 2.0**-32, 255.99]
            fields[part.name] = np.where(rng.random(size) < 0.5, rng.choice(special, size),
                                         rng.normal(size=size) * 10.0 ** rng.integers(-6, 2, size)).astype(np.float32)
        elif plain == "divisor":
            fields[part.name] = some(rng, 1, 2**40, size, [2, 3, 255, 256])
        else:
            fields[part.name] = some(rng, max(least, -(2**40)), min(most, 2**40), size, INT32)
    return kind(**fields)


def sums_for(kind, rng, shape):
    """Sums that a rule says something of: of 32 bits and more where its register wraps, else what 63 bits hold."""
    reach = 2**20 if kind in (TosaSingle, TosaDouble, MulAddShift, MulAddShiftFloor, MulAddDivide) else 2**40
    if kind in ADDITIONS:
        reach = 255
    if kind in (PowerOfTwo, RshiftFloor):
        reach = 2**25
    if kind is Int16:
        reach = 2**40
    return some(rng, -reach, reach, shape, INT32)


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
@given(rng=generators, form=st.sampled_from([FORMS[0], FORMS[1], FORMS[4]]),  # few types: each is compiled
       residual=st.sampled_from([None, np.uint8, np.int8]))
def test_line__is_its_oracle_anywhere_in_the_domain(kind, rng, form, residual):
    channels = int(rng.integers(1, 4))
    requant = constants_of(kind, rng, channels)
    if {"addend", "bias"} & {part.name for part in dataclasses.fields(kind)} and "bias" not in kind.domain:
        small = {name: np.clip(getattr(requant, name), -(2**29), 2**29)
                 for name in ("addend", "bias") if hasattr(requant, name)}
        requant = dataclasses.replace(requant, **small)
    sums = sums_for(kind, rng, (1, 2, 4, channels))
    skip = None if residual is None else rng.integers(
        np.iinfo(residual).min, np.iinfo(residual).max, sums.shape, residual, endpoint=True)
    if kind in ADDITIONS and skip is None:
        skip = np.zeros(sums.shape, np.uint8)
    found = requant.codes(sums, skip, form)
    assert found.dtype == form.dtype
    constants = {name: array.tolist() for name, array in requant.arrays().items()}
    for index, total in np.ndenumerate(sums):
        more = None if skip is None else int(skip[index])
        assert found[index] == kind.oracle(int(total), index[3], more, constants, (form.min, form.max)), (index, total, more)


def half_away(x: Fraction) -> int:
    return int(abs(x) + Fraction(1, 2)) * (1 if x >= 0 else -1)


def half_up(x: Fraction) -> int:
    return (x + Fraction(1, 2)).__floor__()


def high_multiply(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul, as gemmlowp writes it: a nudge by the product's sign, then division toward 0."""
    if a == b == -(2**31):
        return 2**31 - 1
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)


def one_channel(kind, *numbers):
    return kind(*(np.array([number], np.int64) for number in numbers))


def codes_of(requant, sums, form=FORMS[4]):
    return requant.codes(np.array(sums, np.int64).reshape(1, 1, -1, 1), None, form).ravel().tolist()


EXPONENTS = [-31, -30, -9, -2, -1, 0, 1, 2, 7]
MULTIPLIERS = [2**30, 2**31 - 1, 1518500250, 1073741825, -(2**31), -(2**30), 1, 0]
SUMS = [*range(-40, 41), *INT32, 2**24 + 1, 123456789, -123456789]


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_double_ruy_and_single__are_what_their_owners_write(multiplier, exponent):
    left, right = 2 ** max(exponent, 0), 2 ** max(-exponent, 0)
    sums = [x for x in SUMS if abs(x) * left < 2**31 or x * left == -(2**31)]
    high = [high_multiply(x * left, multiplier) for x in sums]
    assert codes_of(one_channel(Double, 0, multiplier, exponent), sums) == [half_away(Fraction(a, right)) for a in high]
    assert codes_of(one_channel(Ruy, 0, multiplier, exponent), sums) == [half_up(Fraction(a, right)) for a in high]
    once = [half_up(Fraction(x * multiplier * left, right * 2**31)) for x in sums]
    assert codes_of(one_channel(Single, 0, multiplier, exponent), sums) == [
        min(max(code, -(2**31)), 2**31 - 1) for code in once]


def test_double__saturates_where_gemmlowp_does():
    for kind in (Double, Ruy):
        assert codes_of(one_channel(kind, 0, -(2**31), 0), [-(2**31)]) == [2**31 - 1]
    assert codes_of(one_channel(Single, 0, -(2**31), 0), [-(2**31)]) == [2**31 - 1]  # by the clamp


@pytest.mark.parametrize(("total", "double", "ruy", "single"), [
    (5, 2, 2, 1),  # 5 / 4, up to 3 / 2 at first
    (-6, -2, -1, -1),  # -3 / 2: a tie, away from 0 or up
    (-7, -2, -1, -2),
    (6, 2, 2, 2), (4, 1, 1, 1),
])
def test_double_ruy_and_single__differ(total, double, ruy, single):
    found = [codes_of(one_channel(kind, 0, 2**30, -1), [total])[0] for kind in (Double, Ruy, Single)]
    assert found == [double, ruy, single]


def test_sums__wrap_in_32_bits_with_their_bias():
    for kind in (Double, Ruy, Single):
        assert codes_of(one_channel(kind, 5, 2**30, 0), [2**31 - 3, -3]) == [-(2**30) + 1, 1]
    assert codes_of(Ort(np.array([1]), np.array([2.0**-16], np.float32)), [2**31 - 1]) == [-(2**15)]
    assert codes_of(one_channel(Double, 0, 2**30, 1), [2**30]) == [-(2**30)]  # x 2 leaves the register: as compiled C does


def test_multiplier__is_that_of_quantize_multiplier():
    """Of float64 scales; a product in float32 gives another one."""
    source, weights, target = np.float32(0.0235), np.array([0.00371, 0.0123, 1e-12, 0.0], np.float32), np.float32(0.0719)
    requant = Double.from_scales(source, weights, target, np.array([1, -2, 3, 4]))
    for channel, weight in enumerate(weights.tolist()):
        real = float(source) * weight / float(target)
        expected = 0 if real < 2.0**-32 else half_away(Fraction(real) * 2 ** (31 - int(requant.exponent[channel])))
        assert requant.multiplier[channel] == expected
        assert expected == 0 or 2**30 <= expected < 2**31
    assert requant.bias.tolist() == [1, -2, 3, 4]
    narrow = Double.from_real((source * weights / target).astype(np.float64), requant.bias)
    assert (narrow.multiplier != requant.multiplier)[:2].all()


@pytest.mark.parametrize(("real", "expected"), [
    (0.0, (0, 0)), (1.0, (2**30, 1)), (0.5, (2**30, 0)), (1 - 2.0**-40, (2**30, 1)), (-0.75, (-3 * 2**29, 0)),
    (2.0**-32, (2**30, -31)), (2.0**-33, (0, 0)), (2.0**29, (2**30, 30)),
])
def test_multiplier_of__at_its_edges(real, expected):
    assert multiplier_of(real, "double") == expected


@pytest.mark.parametrize("bits", [8, 16, 30])
def test_width__rounds_the_multiplier_and_nothing_else(bits):
    """A multiplier of fewer bits, shifted by less, gives the codes of the one with zeros at its end."""
    real = np.array([0.0123456789, 1.75, 0.4999999])
    for name in ("double", "single", "ruy", "tosa_single"):
        kind = REQUANTIZERS[f"{name}_{bits}"]
        requant = kind.from_real(real, np.zeros(3, np.int64))
        shift = requant.exponent - 31 if hasattr(requant, "exponent") else -requant.shift
        for number, multiplier, exponent in zip(real.tolist(), requant.multiplier.tolist(), shift.tolist(), strict=True):
            assert multiplier % 2 ** (31 - bits) == 0
            assert 2 ** (bits - 1) <= multiplier >> 31 - bits < 2**bits
            assert abs(multiplier * 2.0**exponent - number) <= number * 2.0**-bits
        assert requantizer_named(kind.name) is kind is pickle.loads(pickle.dumps(requant)).__class__
        assert pickle.loads(pickle.dumps(requant)) == requant
    narrow = REQUANTIZERS[f"double_{bits}"].from_real(real, np.zeros(3, np.int64))
    for x in range(-3000, 3000, 7):
        for multiplier, exponent, code in zip(narrow.multiplier.tolist(), narrow.exponent.tolist(),
                                              narrow.codes(np.full((1, 1, 1, 3), x), None, FORMS[2]).ravel().tolist(),
                                              strict=True):
            high = half_up(Fraction(x * 2 ** max(exponent, 0) * (multiplier >> 31 - bits), 2**bits))
            assert code == half_away(Fraction(high, 2 ** max(-exponent, 0)))


@pytest.mark.parametrize("name", ["double_7", "double_31", "double_016", "fp32_16", "int16_16", "double_", "thresholds_8"])
def test_width__that_there_is_not_is_no_name(name):
    assert name not in REQUANTIZERS


def test_int16__reduces_the_multiplier():
    requant = Int16.reduced(np.zeros(4), np.array([2**30, 2**31 - 1, 0x7FFF0000, 1518500250]), np.array([0, -3, 0, -15]))
    assert requant.multiplier.tolist() == [2**14, 0x7FFF, 0x7FFF, (1518500250 + 2**15) >> 16]
    for x in (-(2**40), -5, 7, 12345678, 2**33 + 5):
        expected = [half_up(Fraction(x * m, 2 ** (15 - s))) for m, s in
                    zip(requant.multiplier.tolist(), requant.exponent.tolist(), strict=True)]
        found = requant.codes(np.full((1, 1, 1, 4), x), None, FORMS[3])
        assert found.ravel().tolist() == [min(max(code, -(2**30)), 2**30 - 1) for code in expected]


def test_xnnpack_and_ort__take_their_scale_in_float32():
    source, weights, target = np.float32(0.0235), np.array([0.00371, 0.0123], np.float32), np.float32(0.0719)
    expected = [oracle.float32(oracle.float32(float(source) * weight) / float(target)) for weight in weights.tolist()]
    for kind in (Xnnpack, Ort):
        assert kind.from_scales(source, weights, target, np.zeros(2)).scale.tolist() == expected
        assert codes_of(kind(np.array([0]), np.array([0.5], np.float32)), [1, 3, 5, -1, -3]) == [0, 2, 2, 0, -2]
        lost = kind(np.array([0]), np.array([1.0], np.float32))
        assert codes_of(lost, [2**24 + 1, 2**31 - 1], IntFormat(31, signed=True)) == [2**24, 2**30 - 1]
    with pytest.raises(RequantizeError, match="256"):
        Xnnpack.from_real(np.array([256.0]), np.zeros(1))
    assert Ort.from_real(np.array([256.0]), np.zeros(1)).scale[0] == 256


@pytest.mark.parametrize(("kind", "rounds"), [
    (MulAddShift, half_up), (MulAddShiftFloor, lambda x: x.__floor__()), (PowerOfTwo, half_up),
    (RshiftFloor, lambda x: x.__floor__())])
def test_shifts__round_by_their_name(kind, rounds):
    """Every sum of 10 bits, with both signs of a tie."""
    sums = list(range(-512, 512))
    for shift in (0, 1, 2, 5, 9):
        if kind in (MulAddShift, MulAddShiftFloor):
            for multiplier, addend in ((1, 0), (-3, 7), (5, -2)):
                requant = kind.of(np.array([multiplier]), np.array([addend]), np.array([shift]))
                assert codes_of(requant, sums) == [rounds(Fraction(x * multiplier + addend, 2**shift)) for x in sums]
        else:
            requant = kind.of(np.array([-shift]), np.array([3]))
            assert codes_of(requant, sums) == [rounds(Fraction(x + 3, 2**shift)) for x in sums]
            assert codes_of(kind.of(np.array([shift])), [5, -5]) == [5 * 2**shift, -5 * 2**shift]


def test_mul_add_divide__is_a_true_floor():
    for divisor in (1, 2, 3, 255, 65535, 2**31 - 1):
        requant = MulAddDivide.of(np.array([7]), np.array([-5]), np.array([divisor]))
        assert codes_of(requant, SUMS) == [min(max((x * 7 - 5) // divisor, -(2**31)), 2**31 - 1) for x in SUMS]


def test_tosa__rounds_once_or_twice():
    for shift in (2, 31, 32, 40, 62):
        for kind in (TosaSingle, TosaDouble):
            requant = one_channel(kind, 0, 1518500250, shift)
            nudge = 2**30 if kind is TosaDouble and shift > 31 else 0
            expected = [(x * 1518500250 + 2 ** (shift - 1) + (nudge if x >= 0 else -nudge)) >> shift for x in SUMS]
            assert codes_of(requant, SUMS) == [min(max(code, -(2**31)), 2**31 - 1) for code in expected]
    differ = [codes_of(one_channel(kind, 0, 2**30, 33), [4, -4, 3]) for kind in (TosaSingle, TosaDouble)]
    assert differ == [[1, 0, 0], [1, -1, 1]]


def test_thresholds__count_levels_that_are_reached():
    requant = Thresholds.of(np.array([[3.0, -1.5, 2.0], [0.0, 0.0, np.inf]]), base=-2)
    assert requant.levels.tolist() == [[-1, 2, 3], [0, 0, NEVER]]
    sums = np.array([-2, -1, 1, 2, 3, 100])
    found = requant.codes(np.stack([sums, sums], 1).reshape(1, 1, 6, 2), None, FORMS[0]).reshape(6, 2).T
    assert found.tolist() == [[-2, -1, -1, 0, 1, 1], [-2, -2, 0, 0, 0, 0]]


@given(rng=generators, form=st.sampled_from([*FORMS[:2], IntFormat(3, signed=False), IntFormat(2, True, narrow=True)]))
def test_thresholds__are_fp32_exactly(rng, form):
    reach, channels = int(rng.choice([3, 200, 5000])), 3
    gain = rng.normal(size=channels) * form.max / reach * 10.0 ** rng.integers(-2, 2, channels)
    gain = np.where(rng.random(channels) < 0.2, 0.0, gain)
    affine = Affine(gain, rng.normal(size=channels) * form.max, None, (-reach, reach))
    sums = np.stack([np.arange(-reach, reach + 1)] * channels, 1).reshape(1, 1, -1, channels)
    expected = Fp32.build(affine, form).codes(sums, None, form)
    np.testing.assert_array_equal(Thresholds.build(affine, form).codes(sums, None, form), expected)


def test_exact_add__adds():
    requant = ExactAdd.of(2, sign=-1, bias=np.array([10, 0]))
    sums, skip = np.array([[5, -(2**31)]]).reshape(1, 1, 1, 2), np.array([[7, 7]], np.int16).reshape(1, 1, 1, 2)
    assert requant.codes(sums, skip, IntFormat(32, signed=True)).ravel().tolist() == [8, -(2**31)]
    assert requant.codes(sums, None, IntFormat(32, signed=True)).ravel().tolist() == [15, -(2**31)]
    with pytest.raises(RequantizeError, match="scales nothing"):
        ExactAdd.build(Affine(np.array([0.5]), np.zeros(1), 1.0, (-5, 5), 5), FORMS[0])


SCALES = [(0.1, 0.1, 0.2), (0.013, 0.0571, 0.0333), (1.0, 0.001, 0.9), (0.25, 0.5, 0.01), (3e-5, 2e-5, 4e-5)]
EVERY = np.array([(a, b) for a in (-255, -128, -77, -1, 0, 1, 5, 127, 255) for b in range(-255, 256, 3)])


def sums_of(requant, form=FORMS[3]):
    x, y = EVERY.T
    return requant.codes(x.reshape(1, 1, -1, 1), y.reshape(1, 1, -1, 1).astype(np.int16), form).ravel().tolist()


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("sign", [1, -1])
def test_tflite_add__is_what_tensorflow_lite_writes(scales, sign):
    a, b, out = (float(np.float32(scale)) for scale in scales)
    twice = 2 * max(a, b)
    constants = [multiplier_of(real, "") for real in (a / twice, b / twice, twice / (2**20 * out))]

    def times(x, constant):
        multiplier, exponent = constant
        return half_away(Fraction(high_multiply(x * 2 ** max(exponent, 0), multiplier), 2 ** max(-exponent, 0)))

    expected = [times(times(x << 20, constants[0]) + sign * times(y << 20, constants[1]), constants[2])
                for x, y in EVERY.tolist()]
    assert sums_of(TfliteAdd.from_scales(*map(np.float32, scales), 1, sign)) == expected


@pytest.mark.parametrize("scales", SCALES[:2])
@pytest.mark.parametrize("sign", [1, -1])
def test_xnnpack_add__is_what_xnnpack_writes(scales, sign):
    r, q = (np.float32(scale) / np.float32(scales[2]) for scale in scales[:2])
    shift = 20 - int(np.floor(np.log2(max(r, q))))
    first, second = oracle.half_even(float(r) * 2**shift), oracle.half_even(float(q) * 2**shift)
    expected = [(x * first + sign * y * second + 2 ** (shift - 1)) >> shift for x, y in EVERY.tolist()]
    assert sums_of(XnnpackAdd.from_scales(*map(np.float32, scales), 1, sign)) == expected


def test_xnnpack_add__refuses_ratios_that_xnnpack_does():
    with pytest.raises(RequantizeError, match=r"xnnpack_add.*2\^-10"):
        XnnpackAdd.from_scales(np.float32(1), np.float32(1e-4), np.float32(1), 1)


@pytest.mark.parametrize("scales", SCALES)
def test_ort_add__sums_two_products_in_float32(scales):
    r, q = (float(np.float32(scale) / np.float32(scales[2])) for scale in scales[:2])
    expected = [oracle.half_even(oracle.float32(oracle.float32(x * r) + oracle.float32(y * q))) for x, y in EVERY.tolist()]
    assert sums_of(OrtAdd.from_scales(*map(np.float32, scales), 1)) == expected


def test_additions__are_nothing_for_layers():
    for kind in ADDITIONS:
        with pytest.raises(RequantizeError, match=f"{kind.name} adds two tensors"):
            kind.build(Affine(np.ones(1), np.zeros(1), None, (-5, 5)), FORMS[0])
        with pytest.raises(RequantizeError, match=f"{kind.name} adds two tensors"):
            kind.build_logits(Affine(np.ones(1), np.zeros(1), None, (-5, 5)))


BROKEN = [
    (Double, {"exponent": 31}, "double: exponent must be from -31 to 30"),
    (Double, {"multiplier": 2**31}, "double: multiplier"),
    (Single, {"bias": 2**31}, "single: bias"),
    (Int16, {"multiplier": 2**15}, "int16: multiplier"),
    (Int16, {"exponent": 8}, "int16: exponent"),
    (TosaSingle, {"shift": 1}, "tosa_single: shift must be from 2 to 62"),
    (MulAddShift, {"shift": 62}, "mul_add_shift: shift"),
    (MulAddShift, {"addend": 2**62 - 1, "multiplier": 1}, "leave 63 bits"),
    (MulAddDivide, {"divisor": 0}, "mul_add_divide: divisor"),
    (PowerOfTwo, {"exponent": 30, "bias": 2**35}, "leave 63 bits"),
    (RshiftFloor, {"sign": 2}, "rshift_floor: sign"),
    (XnnpackAdd, {"shift": 0}, "xnnpack_add: shift"),
    (TfliteAdd, {"left": 25}, "tflite_add: left"),
]


@pytest.mark.parametrize(("kind", "wrong", "message"), BROKEN)
def test_check__names_the_rule_and_the_field(kind, wrong, message):
    fields = {part.name: np.array([1 if part.name in ("shift", "divisor", "skip_divisor") else 0], np.int64)
              for part in dataclasses.fields(kind)}
    if kind in (TosaSingle, TosaDouble):
        fields |= {name: np.array([2]) for name in ("shift", "skip_shift")}
    kind(**fields).check(1, 100)
    with pytest.raises(RequantizeError, match=message):
        kind(**fields | {name: np.array([value], np.int64) for name, value in wrong.items()}).check(1, 100)
    first = next(iter(fields))
    for bad in (np.zeros(2, np.int64), np.zeros(1, np.int32)):
        with pytest.raises(RequantizeError, match=first):
            kind(**fields | {first: bad}).check(1, 100)


def test_check__refuses_levels_out_of_order_and_scales_that_are_none():
    with pytest.raises(RequantizeError, match="sorted"):
        Thresholds(np.array([[2, 1]]), np.zeros(1, np.int64), np.ones(1, np.int64)).check(1, 5)
    for shape, dtype in ((1, np.int64), ((2, 3), np.int64), ((1, 3), np.int32), ((1, 1, 1), np.int64)):
        levels = np.zeros(shape, dtype)
        with pytest.raises(RequantizeError, match="levels"):
            Thresholds(levels, np.zeros(1, np.int64), np.ones(1, np.int64)).check(1, 5)
    with pytest.raises(RequantizeError, match="finite"):
        Ort(np.zeros(1, np.int64), np.array([np.nan], np.float32)).check(1, 5)


LONG = [pytest.param(name, marks=pytest.mark.exhaustive) for name in (
    "single", "ruy", "xnnpack", "ort", "tosa_single", "tosa_double", "mul_add_shift", "mul_add_shift_floor",
    "mul_add_divide", "thresholds")]


@pytest.mark.parametrize("name", ["double", *LONG])
def test_requantizer__is_within_a_code_of_fp32_and_its_oracle_in_networks(name):
    check_requantizer(name, examples=scaled(20))


def test_tflite_single__is_single_where_it_scales_nothing_first():
    affine = Affine(np.array([0.3, 0.0123, -0.25]), np.array([3.0, -2.0, 0.5]), None, (-5000, 5000))
    old, new = TfliteSingle.build(affine, FORMS[0]), Single.build(affine, FORMS[0])
    assert not old.pre_shift.any()
    sums = np.stack([np.arange(-5000, 5001)] * 3, 1).reshape(1, 1, -1, 3)
    np.testing.assert_array_equal(old.codes(sums, None, FORMS[0]), new.codes(sums, None, FORMS[0]))
    assert (old.codes(sums, None, FORMS[2]) != Double.build(affine, FORMS[2]).codes(sums, None, FORMS[2])).any()


@pytest.mark.parametrize("name", ["double", "single", "ruy", "xnnpack", "ort", "tosa_double"])
def test_bias__is_finer_than_a_sum_where_that_is_worth_codes(name):
    """At few bits a unit of the sum is worth several codes of a wide residual path."""
    affine = Affine(np.array([4.75, 0.3]), np.array([2.3, -7.6]), None, (-40, 40))
    requant, form = REQUANTIZERS[name].build(affine, FORMS[2]), FORMS[2]
    requant.check(2, 40)
    assert requant.fraction == [4]
    sums = np.stack([np.arange(-40, 41)] * 2, 1).reshape(1, 1, -1, 2)
    exact = Fp32.build(affine, form).codes(sums, None, form).astype(int)
    assert np.abs(requant.codes(sums, None, form) - exact).max() <= 1
    assert requant.in_registers(FORMS[0], 40, None, 0) is None
    plain = REQUANTIZERS[name].build(Affine(np.array([0.5, 0.3]), np.array([2.3, -7.6]), None, (-40, 40)), form)
    assert plain.fraction == [0]


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 1.4), (1e-9, 1e9), (0.25, 2.0**40)])
def test_bias__that_is_none_is_refused_by_name(gain, offset):
    affine = Affine(np.array([gain]), np.array([offset]), None, (-(2**30), 2**30))
    with pytest.raises(RequantizeError, match=r"double: .*(too large|does not fit)"):
        Double.build(affine, IntFormat(16, signed=True))
