"""Integer definitions: numpy, torch and plain Python find the same codes; golden data of those who made them, 0 differ."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sim.buffers import Padded
from sim.definitions import INTEGER_FUNCTIONS, NORMS, SOFTMAXES, DefinitionError, gemmlowp, integers
from sim.definitions.gelu import IntegerGelu, IntegerHardSwish
from sim.definitions.gemmlowp import GemmlowpSoftmax
from sim.definitions.integer_norms import IbertLayerNorm, IntegerNoNorm, IntegerRmsNorm
from sim.definitions.ita import ItaMax, ItaPartialMax
from sim.definitions.layernorm import ExactLayerNorm
from sim.definitions.softmax import ExactSoftmax, IbertSoftmax, Log2Softmax, ShiftSoftmax
from sim.definitions.softmax16 import TableSoftmax
from sim.formats import IntFormat
from sim.kernels.lines import driver
from sim.kernels.softmax import row_lines
from sim.registry import RegistryError
from sim.steps.zero import place_of
from tests import golden
from tests.strategies import generators

U4, U8 = IntFormat(4, signed=False), IntFormat(8, signed=False)
S8, S16, S32 = IntFormat(8, signed=True), IntFormat(16, signed=True), IntFormat(32, signed=True)
REGISTRIES = SOFTMAXES, NORMS, INTEGER_FUNCTIONS
EVERY = {f"{registry.kind} {name}": kind for registry in REGISTRIES for name, kind in registry.items()}
int64s = st.integers(0, 2**62 - 1)


def number(value):
    return np.array([value], np.int64)


@st.composite
def built(draw, kind):
    """(definition, channels), as `build` makes it for random scales, formats and learned arrays."""
    rng = draw(generators)
    scale = 2.0 ** draw(st.floats(-9, 1))
    source = IntFormat(draw(st.integers(2, 12)), draw(st.booleans()))
    target = IntFormat(draw(st.integers(2, 16)), draw(st.booleans()))
    channels = draw(st.sampled_from([1, 2, 3, 7, 16, 33]))
    learned = {}
    if kind is GemmlowpSoftmax:
        source, target = IntFormat(8, source.signed), IntFormat(draw(st.sampled_from([8, 16])), target.signed)
    if kind is TableSoftmax:
        source, target, scale = IntFormat(draw(st.integers(2, 16)), source.signed), S16, 2.0 ** draw(st.floats(-20, 0))
    if kind in (ItaMax, ItaPartialMax):
        scale, channels = ItaMax.SCALE, channels * 16 if kind is ItaPartialMax else channels
    if kind in (Log2Softmax, ShiftSoftmax):
        source, target = IntFormat(min(source.bits, 8), source.signed), IntFormat(min(target.bits, 6), False)
        scale = min(scale, 0.6)
    if kind is IbertSoftmax:
        scale = min(scale, 0.6)
    if kind in (IntegerGelu, IntegerHardSwish):
        target, scale = IntFormat(60, True), min(scale, 1.4)
    if kind in NORMS.values():
        gamma = rng.normal(size=channels) * rng.choice([0, 1, 1, 50], channels)
        learned = {"gamma": gamma, "beta": rng.normal(size=channels)}
    if kind is IntegerRmsNorm:
        del learned["beta"]
    step = 2.0 ** draw(st.floats(-8, 2))
    return kind.build(scale, source, target, step, learned, draw(st.sampled_from([1e-12, 1e-5, 1.0]))), channels


@st.composite
def arbitrary(draw, kind):
    """The same with constants as a foreign model may have them: anything that `check` lets pass."""
    rng = draw(generators)
    found, channels = draw(built(kind))
    fields = {name: value for name, value in vars(found).items() if not isinstance(value, np.ndarray)}

    def some(least, most):
        near = min(least + int(rng.integers(0, 99)), most)
        return number(int(rng.choice([least, most, rng.integers(least, most + 1), near])))

    def per_channel(reach):
        return rng.integers(-reach, reach, channels) * rng.choice([0, 1], channels, p=[0.2, 0.8])

    reach = int(2 ** rng.integers(1, 31))
    constants = {
        ExactSoftmax: lambda: {"table": np.array([65536, *np.sort(rng.integers(0, 65537, len(found.table) - 1))[::-1]])},
        IbertSoftmax: lambda: {"a": some(0, 50), "b": some(0, 5000), "c": some(1, 10**6), "log2": some(1, 3000)},
        GemmlowpSoftmax: lambda: {"multiplier": some(2**30, 2**31 - 1), "left_shift": some(1, 22), "least": some(-3968, 0)},
        TableSoftmax: lambda: {"multiplier": some(0, 2**31 - 1), "shift": some(-31, 14),
                               "exponentials": np.sort(rng.integers(0, 32768, 513)),
                               "reciprocals": np.sort(rng.integers(1, 32768, 513))[::-1].copy()},
        ShiftSoftmax: lambda: {"b": some(0, 999), "c": some(1, 10**5), "x0": some(-300, -1)},
        Log2Softmax: lambda: {"b": some(0, 999), "c": some(1, 10**5), "x0": some(-300, -1)},
        ExactLayerNorm: lambda: {"gain": rng.normal(size=channels).astype(np.float32) * 100,
                                 "offset": rng.normal(size=channels).astype(np.float32),
                                 "eps": np.array([10.0 ** rng.uniform(-9, 9)])},
        IbertLayerNorm: lambda: {"weight": per_channel(reach), "bias": per_channel(reach), "divisor": some(1, 2**16)},
        IntegerNoNorm: lambda: {"weight": per_channel(reach), "bias": per_channel(reach), "multiplier": some(0, 999),
                                "divisor": some(1, 2**16)},
        IntegerRmsNorm: lambda: {"weight": per_channel(reach), "divisor": some(1, 2**16)},
        IntegerGelu: lambda: {"b": some(-300, -1), "one": some(0, 10**5)},
        IntegerHardSwish: lambda: {"three": some(0, 3000), "six": some(1, 5000), "sixth": some(1, 99)},
    }.get(kind, dict)()
    return kind(**fields, **constants), channels


def rows_for(rng, source, channels):
    """[2, 3, channels]: anything, extremes, all the same, one that stands out."""
    x = rng.integers(source.min, source.max + 1, (2, 3, channels))
    x[0, 1] = rng.choice([source.min, source.max], channels)
    x[1, 0] = rng.integers(source.min, source.max + 1)
    x[1, 1] = source.min
    x[1, 1, rng.integers(channels)] = source.max
    return x


def assert_agrees(definition, channels, rng):
    try:
        definition.check(channels)
    except DefinitionError:
        assume(False)
    x = rows_for(rng, definition.source, channels)
    codes = definition.codes(x)
    assert codes.dtype == np.int64
    assert codes.shape == x.shape
    assert codes.tolist() == [[definition.oracle(row) for row in image] for image in x.tolist()]
    assert definition.target.contains(codes)
    tensor = definition.codes(torch.from_numpy(x))
    assert tensor.dtype == torch.int64
    assert tensor.tolist() == codes.tolist()
    if (compiled := definition.compiled()) is not None:
        (row, constants), given = compiled, Padded.of(x[None].astype(definition.source.dtype), 1)
        found = Padded.zeros(1, x.shape, definition.target.dtype, 1)
        driver(row_lines, row=row)(given.unsigned, place_of(given, 0), constants, found.unsigned, found.pad)
        assert found.interior[0].tolist() == codes.tolist()


@pytest.mark.parametrize("kind", EVERY.values(), ids=EVERY)
@given(data=st.data(), rng=generators)
def test_codes__are_equal_in_numpy_torch_and_python(kind, data, rng):
    definition, channels = data.draw(built(kind))
    assert_agrees(definition, channels, rng)


@pytest.mark.parametrize("kind", EVERY.values(), ids=EVERY)
@given(data=st.data(), rng=generators)
def test_codes__of_foreign_constants_are_equal_too(kind, data, rng):
    definition, channels = data.draw(arbitrary(kind))
    assert_agrees(definition, channels, rng)


@pytest.mark.parametrize("kind", EVERY.values(), ids=EVERY)
@given(data=st.data())
def test_definition__is_a_value_made_of_formats_and_arrays(kind, data):
    definition, channels = data.draw(built(kind))
    assert pickle.loads(pickle.dumps(definition)) == definition
    assert kind(definition.source, definition.target, **definition.arrays()) == definition
    assert kind.kind in ("softmax", "layernorm", "gelu", "hardswish")
    assert all(isinstance(array, np.ndarray) for array in definition.arrays().values())
    for name in definition.arrays():
        with pytest.raises(DefinitionError, match=f"{kind.name}: {name} is"):
            dataclasses.replace(definition, **{name: np.zeros((2, 2), np.int8)}).check(channels)


def test_registry__knows_each_by_its_own_name():
    for registry in (SOFTMAXES, NORMS, INTEGER_FUNCTIONS):
        assert all(kind.name == name for name, kind in registry.items())
    with pytest.raises(RegistryError, match=r"derived from sim\.definitions\.softmax\.Softmax"):
        SOFTMAXES.add("norm", ExactLayerNorm)


def test_constants__may_be_read_only_and_run_backwards():
    """As those of a program are that was loaded, or built from a view."""
    forwards = ExactSoftmax.build(0.1, S8, U8)
    table = forwards.table[::-1].copy()[::-1]
    table.setflags(write=False)
    backwards, x = dataclasses.replace(forwards, table=table), np.arange(-128, 128)[None]
    assert backwards.codes(torch.from_numpy(x)).tolist() == backwards.codes(x).tolist() == forwards.codes(x).tolist()
    gain = np.ones(512, np.float32)[::-2]
    gain.setflags(write=False)
    norm = ExactLayerNorm(S8, S8, gain, gain, np.array([1.0]))
    assert norm.codes(torch.from_numpy(x)).tolist() == norm.codes(x).tolist()


# what each is near to, in real numbers

def real_softmax(x, scale):
    e = np.exp((x - x.max(-1, keepdims=True)) * scale)
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(("name", "scale", "tolerance"), [
    ("exact", 0.05, 0.51 / 255), ("gemmlowp", 0.05, 1.01 / 256), ("ibert", 0.02, 0.02), ("itamax", math.log(2) / 32, 0.25)])
@pytest.mark.parametrize("target", [U8, S8])
def test_softmax__is_near_the_real_one(name, scale, tolerance, target):
    x = np.random.default_rng(0).integers(-128, 128, (50, 12))
    definition = SOFTMAXES[name].build(scale, S8, target)
    real = (definition.codes(x) - definition.zero) * definition.output_scale(scale)
    assert np.abs(real - real_softmax(x, scale)).max() <= tolerance


def test_tflite_int16_softmax__is_near_the_real_one():
    x = np.random.default_rng(0).integers(-(2**15), 2**15, (50, 12))
    definition = TableSoftmax.build(2.0**-12, S16, S16)
    assert np.abs(definition.codes(x) * definition.output_scale(2.0**-12) - real_softmax(x, 2.0**-12)).max() < 5e-4


def test_tflite_int16_softmax__wraps_where_tensorflow_lite_does():
    """Where the sum is 2^18 - 1, half of 1 / 2 is taken for half of 1: every code is twice what it should be."""
    exponentials = np.where(np.arange(513) < 511, 7, 32767)
    definition = dataclasses.replace(TableSoftmax.build(2.0**-12, S16, S16), exponentials=exponentials)
    definition.check(9)
    row = [0] * 8 + [-30000]
    assert definition.codes(np.array([row])).tolist() == [[8192] * 8 + [2]] == [definition.oracle(row)]
    assert definition.codes(np.array([row[:8]])).tolist() == [[4096] * 8]
    assert definition.codes(np.array([[5]])).tolist() == [[32767]]


def test_log2_softmax__is_within_an_octave():
    x = np.random.default_rng(0).integers(-60, 60, (50, 12))
    exponents = Log2Softmax.build(0.05, S8, U4).codes(x)
    wanted = -np.log2(real_softmax(x, 0.05))
    assert np.abs(exponents - wanted).max() < 0.75


@pytest.mark.parametrize("name", ["exact", "ibert", "irmsnorm"])
def test_norm__is_near_the_real_one(name):
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.integers(-128, 128, (20, 64)), rng.normal(size=64), rng.normal(size=64)
    learned = {"gamma": gamma} if name == "irmsnorm" else {"gamma": gamma, "beta": beta}
    codes = NORMS[name].build(0.1, S8, S8, 0.05, learned).codes(x)
    centered = x if name == "irmsnorm" else x - x.mean(-1, keepdims=True)
    real = centered / np.sqrt((centered**2).mean(-1, keepdims=True)) * gamma + learned.get("beta", 0.0)
    assert np.abs(codes - np.clip(real / 0.05, -128, 127)).max() <= (0.51 if name == "exact" else 3)


def test_nonorm__is_an_affine():
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.integers(-128, 128, (20, 64)), rng.normal(size=64), rng.normal(size=64)
    codes = IntegerNoNorm.build(0.01, S8, S8, 0.05, {"gamma": gamma, "beta": beta}).codes(x)
    assert np.abs(codes + 0.5 - np.clip((x * 0.01 * gamma + beta) / 0.05, -128, 127.5)).max() <= 0.51


@pytest.mark.parametrize("name", ["igelu", "ihardswish"])
def test_integer_function__is_near_the_real_one(name):
    definition = INTEGER_FUNCTIONS[name].build(0.05, S8, S32)
    x = np.arange(-128, 128)
    real = x * 0.05
    wanted = real * np.clip(real + 3, 0, 6) / 6
    if name == "igelu":
        wanted = [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in real]
    assert np.abs(definition.codes(x) * definition.output_scale(0.05) - wanted).max() < 0.06


def test_exact_softmax__by_hand():
    table = np.array([65536, 32768, 16384, 0], np.int64)
    definition = ExactSoftmax(IntFormat(2, signed=False), IntFormat(2, signed=False), table)
    codes = definition.codes(np.array([[3, 3, 3, 3], [3, 2, 0, 0], [3, 3, 0, 0]]))
    assert codes.tolist() == [[1, 1, 1, 1], [2, 1, 0, 0], [2, 2, 0, 0]]
    assert ExactSoftmax.build(math.log(2), S8, U8).table[:3].tolist() == [65536, 32768, 16384]


def test_exact_layernorm__by_hand():
    definition = ExactLayerNorm(S8, S8, np.array([2, 2], np.float32), np.array([0.5, 1.5], np.float32), np.array([1e-9]))
    assert definition.codes(np.array([[10, -10], [7, 7], [127, -128]])).tolist() == [[2, 0], [0, 2], [2, 0]]  # ties to even


@given(rng=generators)
def test_exact_layernorm__to_24_bits_shows_every_float32_rounding(rng):
    gain, offset = rng.normal(size=(2, 48)).astype(np.float32) * np.float32(1e6)
    definition = ExactLayerNorm(S16, IntFormat(24, signed=True), gain, offset, np.array([48.0]))
    definition.check(48)
    x = rng.integers(-(2**15), 2**15, (4, 48))
    codes = definition.codes(x)
    assert codes.tolist() == [definition.oracle(row) for row in x.tolist()] == definition.codes(torch.from_numpy(x)).tolist()
    assert np.abs(codes).max() > 2**21


def test_ibert_layernorm__divides_toward_zero_then_rounds_down():
    definition = IbertLayerNorm(S8, S8, np.array([7, 7], np.int64), np.array([0, 0], np.int64), number(4))
    # mean floor(-1 / 2) = -1; deviations 0 and 1, variance floor(1 / 2) + 1
    assert definition.codes(np.array([[-1, 0]])).tolist() == [[0, 1]]
    # mean -2, deviations -3 and 3, variance 10, root 3: trunc(-21 / 3) = -7, floor(-7 / 4) = -2
    assert definition.codes(np.array([[-5, 1]])).tolist() == [[-2, 1]]


# primitives

near_squares = st.builds(lambda root, rest: root * root - rest, st.integers(1, 2**31 - 1), st.integers(0, 1))


@given(st.lists(st.one_of(int64s, near_squares, st.integers(2**62 - 2**33, 2**62 - 1), st.integers(0, 99)), min_size=1))
def test_isqrt__is_exact(values):
    expected = [math.isqrt(value) for value in values]
    assert integers.isqrt(np.array(values)).tolist() == expected == integers.isqrt(torch.tensor(values)).tolist()


def test_isqrt__at_its_limits():
    values = [0, 1, 2, 3, 4, 2**62 - 1, (2**31 - 1) ** 2, (2**31 - 1) ** 2 - 1, 2**60, 2**60 - 1]
    assert integers.isqrt(np.array(values)).tolist() == [math.isqrt(value) for value in values]


@given(st.lists(st.one_of(int64s, st.integers(0, 300), st.integers(0, 62).map(lambda b: 2**b)), min_size=1, max_size=20))
def test_bit_length__is_pythons(values):
    expected = [value.bit_length() for value in values]
    assert integers.bit_length(np.array(values)).tolist() == expected == integers.bit_length(torch.tensor(values)).tolist()


@given(st.integers(-(2**61), 2**61), st.integers(1, 2**40))
def test_truncated__divides_as_c_does(above, below):
    expected = abs(above) // below * (1 if above >= 0 else -1)
    for x in (np.array([above]), torch.tensor([above])):
        assert integers.truncated(x, x * 0 + below).tolist() == [expected]


@given(st.lists(st.floats(1e-300, 1e300), min_size=1))
def test_inverse_sqrt__is_rounded_twice_whatever_torch_links(values):
    values = [*values, 22070755405488.0]
    expected = [1.0 / math.sqrt(value) for value in values]
    assert integers.inverse_sqrt(np.array(values)).tolist() == expected
    assert integers.inverse_sqrt(torch.tensor(values, dtype=torch.float64)).tolist() == expected


@given(st.data(), st.integers(0, 31))
def test_halved__rounds_half_away_from_zero(data, bits):
    ties = st.integers(-9, 9).map(lambda n: n << bits >> 1)
    value = data.draw(st.one_of(ties, st.integers(-(2**31), 2**31 - 1)))
    expected = math.copysign(1, value) * ((2 * abs(value) + 2**bits) >> (bits + 1))
    assert gemmlowp.halved(np.array([value]), bits).tolist() == [expected] == [gemmlowp.plain_halved(value, bits)]


@given(st.integers(-(2**31), 2**31), st.integers(-(2**31) + 1, 2**31 - 1))
def test_high__is_the_doubling_high_multiply(a, b):
    assert gemmlowp.high(np.array([a]), np.array([b])).tolist() == [gemmlowp.plain_high(a, b)]


@given(st.lists(st.one_of(st.integers(-31 << 26, 0), st.integers(-127, 0).map(lambda n: n << 24)), min_size=1))
def test_exponential__has_every_bit_of_the_oracles(values):
    assert gemmlowp._exp(np.array(values)).tolist() == [gemmlowp.plain_exp(value) for value in values]
    np.testing.assert_allclose(gemmlowp._exp(np.array(values)) * 2.0**-31, np.exp(np.array(values) * 2.0**-26), atol=1e-6)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1))
def test_reciprocal__has_every_bit_of_the_oracles(values):
    found = gemmlowp._one_over_one_plus(np.array(values))
    assert found.tolist() == [gemmlowp.plain_one_over_one_plus(value) for value in values]
    np.testing.assert_allclose(found * 2.0**-31, 1 / (1 + np.array(values) * 2.0**-31), atol=1e-8)


# what is refused

@pytest.mark.parametrize(("definition", "channels", "message"), [
    (ExactSoftmax.build(0.1, S8, U8), 0, "a row has 1 to"),
    (ExactSoftmax.build(0.1, S8, IntFormat(46, False)), 4, "leave 64 bits"),
    (ExactSoftmax(S8, U8, np.arange(256)), 4, "the table must fall"),
    (IbertSoftmax(S8, U8, number(1), number(2**30), number(0), number(9)), 32, "leave 64 bits"),
    (IbertSoftmax(S8, U8, number(0), number(3), number(0), number(9)), 3, "the exponential of 0 is 0"),
    (IbertSoftmax(S8, U8, number(1), number(3), number(0), number(0)), 3, "log2 is 0, must be from 1"),
    (ItaPartialMax.build(ItaMax.SCALE, S8, S8), 40, "40 is no multiple"),
    (ItaMax(S32, S8), 4, "at most 16 bits"),
    (Log2Softmax.build(2.0**-9, S8, U8), 2**18, "leave 64 bits"),
    (Log2Softmax.build(0.1, S8, S8), 4, "codes are unsigned"),
    (GemmlowpSoftmax.build(0.1, S8, S8), 4096, "sums of 4096"),
    (GemmlowpSoftmax.build(0.1, S16, S8), 12, "codes of 8 bits"),
    (GemmlowpSoftmax(S8, S8, number(2**30), number(31), number(-5)), 12, "leave 32 bits"),
    (TableSoftmax.build(0.1, S16, S8), 4, "to s16, not s16 to s8"),
    (TableSoftmax.build(0.1, S16, S16), 2**16, "leave 31 bits"),
    (dataclasses.replace(TableSoftmax.build(0.1, S16, S16), exponentials=np.zeros(513, np.int64)), 4, "the last two above"),
    (ExactLayerNorm.build(0.1, S32, S8, 1.0, {"gamma": np.ones(4)}), 4, "leave 53 bits"),
    (ExactLayerNorm.build(0.1, S8, S8, 1.0, {"gamma": np.ones(4)}, eps=0.0), 4, "eps is 0.0"),
    (ExactLayerNorm.build(0.1, S8, S8, 1.0, {"gamma": np.full(4, math.inf)}), 4, "not finite"),
    (ExactLayerNorm.build(0.1, S8, S8, 1.0, {"gamma": np.ones(4)}), 5, "expected float32 \\(5,\\)"),
    (IbertLayerNorm.build(0.1, S32, S8, 1.0, {"gamma": np.ones(4)}), 4, "leave 62 bits"),
    (IntegerRmsNorm(S8, S8, np.full(3, 2**31), number(1)), 3, "weight must fit 32 bits"),
    (IntegerNoNorm(S8, S8, np.full(3, 2**30), np.zeros(3, np.int64), number(2**30), number(1)), 3, "leave 64 bits"),
    (IntegerGelu.build(0.01, S8, S16), 4, "leave s16"),
    (IntegerHardSwish.build(0.01, S8, S8), 4, "leave s8"),
])
def test_check__refuses_by_name(definition, channels, message):
    with pytest.raises(DefinitionError, match=f"{definition.name}: .*{message}"):
        definition.check(channels)


@pytest.mark.parametrize(("kind", "scale", "message"), [
    (ItaMax, 0.1, "requantize the input"), (IbertSoftmax, 0.9, "ln 2"), (Log2Softmax, 0.9, "0.6931"),
    (GemmlowpSoftmax, 2.0**-27, "2\\^-26"), (IntegerGelu, 2.0, "sqrt 2"), (ExactSoftmax, math.nan, "positive and finite"),
    (ExactLayerNorm, -1.0, "positive and finite"), (TableSoftmax, 1.5, "1 at most"),
])
def test_build__refuses_a_scale_by_name(kind, scale, message):
    with pytest.raises(DefinitionError, match=f"{kind.name}: .*{message}"):
        kind.build(scale, S8, U8, 1.0, {"gamma": np.ones(2)})


def test_build__refuses_learned_arrays_that_are_missing_or_not_used():
    with pytest.raises(DefinitionError, match="no gamma"):
        ExactLayerNorm.build(0.1, S8, S8)
    with pytest.raises(DefinitionError, match="there is no beta"):
        IntegerRmsNorm.build(0.1, S8, S8, 1.0, {"gamma": np.ones(2), "beta": np.ones(2)})


@pytest.mark.parametrize(("kind", "channels"), [
    (IbertSoftmax, 64), (IbertLayerNorm, 1000), (ExactLayerNorm, 768), (Log2Softmax, 64), (GemmlowpSoftmax, 1000),
    (ExactSoftmax, 5000)])
def test_long_rows__of_extremes_do_not_overflow(kind, channels):
    source = S8 if kind in (GemmlowpSoftmax, Log2Softmax) else IntFormat(12, True)
    target = U8 if kind is not ExactLayerNorm else S8
    definition = kind.build(0.05, source, target, 0.1, {"gamma": np.full(channels, 3.0), "beta": np.ones(channels)})
    definition.check(channels)
    for row in ([source.max] * channels, [source.min] * channels, [source.min, source.max] * (channels // 2),
                [source.max] + [source.min] * (channels - 1)):
        expected = definition.oracle(row)
        assert definition.codes(np.array([row]))[0].tolist() == expected == definition.codes(torch.tensor([row]))[0].tolist()


# golden data

def whole(attribute):
    return number(int(np.asarray(attribute).reshape(-1)[0]))


def deeploy(name):
    """Nodes, constants and known tensors, by the names of the graph, of one network or kernel."""
    folder = golden.vectors(f"deeploy/{name}")
    nodes, tensors, inputs = golden.read_onnx(folder / "network.onnx")
    tensors.update(zip(inputs, golden.arrays(folder / "inputs.npz").values(), strict=False))
    path = folder / "activations.npz"
    saved = golden.arrays(path) if path.exists() else {}
    for node in nodes:
        # the node __QL_REPLACED__INTEGER_GELU_PASS_0_iGELU is saved as ..._ql_replaced__integer_gelu_pass_0
        wanted = node.name.lower().lstrip("_").removesuffix(f"_{node.kind.lower()}").replace(".", "_")
        found = [array for key, array in saved.items() if wanted and key.endswith(f"_{wanted}")]
        if len(found) == 1:
            tensors[node.outputs[0]] = found[0]
        elif node.kind == "Transpose" and node.inputs[0] in tensors:
            tensors[node.outputs[0]] = tensors[node.inputs[0]].transpose(node.attributes["perm"])
        elif node.kind == "Reshape" and node.inputs[0] in tensors:
            tensors[node.outputs[0]] = tensors[node.inputs[0]].reshape(tensors[node.inputs[1]])
    (tensors[nodes[-1].outputs[0]], *_) = golden.arrays(folder / "outputs.npz").values()
    return nodes, tensors


def definition_of(node, tensors):
    """The definition that a node of Deeploy's graphs is, or None."""
    kinds = {"iSoftmax": (IbertSoftmax, U8, ["coeffA", "coeffB", "coeffC", "log2"]), "ITAMax": (ItaMax, U8, []),
             "iLayerNorm": (IbertLayerNorm, S8, ["D"]), "iRMSNorm": (IntegerRmsNorm, S8, ["D"]),
             "iGELU": (IntegerGelu, S32, ["b", "one"]),
             "iHardswish": (IntegerHardSwish, S32, ["three", "six", "one_over_six"])}
    if node.kind not in kinds:
        return None
    kind, target, names = kinds[node.kind]
    source = IntFormat(9, True) if kind is IbertLayerNorm else S8  # some of its inputs are signed, some not
    return kind(source, target, *(tensors[name].astype(np.int64).reshape(-1) for name in node.inputs[1:]),
                *(whole(node.attributes[name]) for name in names))


def requantized(sums, node, tensors):
    """Deeploy's RequantShift, oracles' rule: half up."""
    multiplier, addend = (tensors[name].astype(np.int64).reshape(-1) for name in node.inputs[1:])
    divisor = whole(node.attributes["div"])
    return np.clip((sums * multiplier + addend + divisor // 2) // divisor, -128, 127)


def user_of(node, nodes):
    (user,) = [other for other in nodes if node.outputs[0] in other.inputs]
    return user


@pytest.mark.parametrize(("name", "expected"), [
    ("kernels/Softmax/Regular", {"iSoftmax": 1}), ("kernels/Softmax/Large", {"iSoftmax": 1}),
    ("kernels/RMSNorm", {"iRMSNorm": 1}), ("kernels/Hardswish/Regular", {"iHardswish": 1}),
    ("ICCT", {"iLayerNorm": 3, "iGELU": 1}), ("microLlama1", {"iRMSNorm": 17, "iSoftmax": 8, "iHardswish": 8}),
])
def test_deeploy__every_code_of_its_integer_definitions(name, expected):
    """What a network does not save of a softmax is seen through the requantization behind it, by 54663 / 65536."""
    nodes, tensors = deeploy(name)
    counts = {}
    for node in nodes:
        definition = definition_of(node, tensors)
        if definition is None or node.kind == "ITAMax":
            continue
        x = tensors[node.inputs[0]].astype(np.int64)
        definition.check(x.shape[-1])
        codes = definition.codes(x)
        assert definition.codes(torch.from_numpy(x)).tolist() == codes.tolist()
        rows, found = x.reshape(-1, x.shape[-1])[:9].tolist(), codes.reshape(-1, x.shape[-1])[:9].tolist()
        assert [definition.oracle(row) for row in rows] == found
        if node.outputs[0] in tensors:
            assert int((codes != tensors[node.outputs[0]]).sum()) == 0, node.name
        else:
            user = user_of(node, nodes)
            assert int((requantized(codes, user, tensors) != tensors[user.outputs[0]]).sum()) == 0, node.name
        counts[node.kind] = counts.get(node.kind, 0) + 1
    assert counts == expected


def test_deeploy__inonorm_row_by_row():
    """The kernel has a weight for every code, a definition one for every channel."""
    (node,), tensors = deeploy("kernels/iNoNorm")
    x, weight, bias, y = (tensors[name].astype(np.int64).reshape(-1, 128) for name in (*node.inputs, *node.outputs))
    numbers = [whole(node.attributes[name]) for name in ("mul", "D")]
    assert x.shape == weight.shape == y.shape == (128, 128)
    for row in range(128):
        definition = IntegerNoNorm(S8, S8, weight[row], bias[0], *numbers)
        definition.check(128)
        assert int((definition.codes(x[row : row + 1]) != y[row]).sum()) == 0


def test_deeploy__itamax_through_the_matmul_behind_it():
    """The network saves ITAMax's input, and of its output the product with the values, requantized."""
    nodes, tensors = deeploy("ICCT")
    (node,) = [node for node in nodes if node.kind == "ITAMax"]
    probabilities = definition_of(node, tensors).codes(tensors[node.inputs[0]].astype(np.int64))
    values = tensors["__QL_REPLACED__INTEGERIZE_SIGNED_ACT_PASS_2_RequantShift_output_0"].astype(np.int64)
    requant = user_of(product := user_of(node, nodes), nodes)
    assert product.kind == "MatMul"
    codes = requantized(probabilities @ values[:, None], requant, tensors)
    assert int((codes != tensors[requant.outputs[0]].reshape(codes.shape)).sum()) == 0


def test_cmsis_nn__softmax_s8_to_s16():
    data = golden.arrays(golden.vectors("cmsis-nn/softmax_s8_s16.npz"))
    constants = [whole(data[f"def/{name}"]) for name in ("INPUT_MULT", "INPUT_LEFT_SHIFT", "DIFF_MIN")]
    definition = GemmlowpSoftmax(S8, S16, *constants)
    shape = int(data["def/NUM_ROWS"]), int(data["def/ROW_SIZE"])
    definition.check(shape[1])
    x, y = data["arr/input"].astype(np.int64).reshape(shape), data["arr/output_ref"].reshape(shape)
    assert int((definition.codes(x) != y).sum()) == 0
    assert [definition.oracle(row) for row in x.tolist()] == y.tolist()


def test_cmsis_nn__softmax_s16():
    data = golden.arrays(golden.vectors("cmsis-nn/softmax_s16.npz"))
    definition = TableSoftmax.build(float(np.float32(1 / 32767)), S16, S16)
    assert (definition.multiplier, definition.shift) == (data["def/INPUT_MULT"], data["def/INPUT_LEFT_SHIFT"])
    shape = int(data["def/NUM_ROWS"]), int(data["def/ROW_SIZE"])
    definition.check(shape[1])
    x, y = data["arr/input"].astype(np.int64).reshape(shape), data["arr/output_ref"].reshape(shape)
    assert int((definition.codes(x) != y).sum()) == 0


@pytest.mark.parametrize(("model", "trace", "before", "after"), [
    ("mlperf_kws_int8", "tflm_kws", "t33", "t34"), ("micro_speech_int8", "tflm_micro_speech", "t6", "t9"),
    ("person_detect", "tflm_person_detect", "t31", "t87"), ("mlperf_resnet8_int8", "tflm_resnet8", "t36", "t37"),
    ("mlperf_vww_int8", "tflm_vww", "t87", "t88"),
    ("mlperf_kws_int8", "kws_ref_trace", "t33_FULLY_CONNECTED", "t34_SOFTMAX"),
    ("mlperf_resnet8_int8", "resnet8_ref_trace", "t36_FULLY_CONNECTED", "t37_SOFTMAX"),
    ("micro_speech_int8", "micro_speech_ref_trace", "t6_FULLY_CONNECTED", "t9_SOFTMAX"),
    ("mlperf_vww_int8", "vww_ref_trace", "t87_FULLY_CONNECTED", "t88_SOFTMAX"),
])
def test_tflite__softmax_of_models(model, trace, before, after):
    arrays = golden.arrays(golden.vectors(f"tflite/{trace}.npz"))
    scale = golden.input_scale(golden.vectors(f"tflite/{model}.tflite"), int(after.split("_")[0][1:]))
    definition = GemmlowpSoftmax.build(scale, S8, S8)
    assert int((definition.codes(arrays[before].astype(np.int64)) != arrays[after]).sum()) == 0


@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmax__refuses_codes_that_lack_the_smallest(name):
    source = IntFormat(16 if name == "tflite_int16" else 8, signed=True)
    scale = 0.6931471805599453 / 32 if name.startswith("ita") else 0.1
    definition = SOFTMAXES[name].build(scale, source, IntFormat(8, signed=True, narrow=True))
    with pytest.raises(DefinitionError, match="smallest"):
        definition.check(16)
