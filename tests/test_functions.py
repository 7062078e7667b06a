"""Functions of basic operations: the same bits in numpy, torch and plain Python, and near to what their names say."""

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim.formats import IntFormat
from sim.functions import FUNCTIONS, SCALED, FunctionError, table
from sim.registry import RegistryError
from tests import oracle
from training.functions import SMOOTH, slope, smooth

EDGES = [0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, -6.0, 9.0, -9.0, 20.0, -20.0, 700.0, -700.0, -708.0, 709.0, -708.5, 709.5,
         1e300, -1e300, 1.7976931348623157e308, -1.7976931348623157e308, 2.0**-1022, -(2.0**-1022), 0.34657359027997264,
         2.0**-60]
numbers = st.one_of(st.floats(-30, 30), st.floats(-2, 2), st.floats(-750, 750), st.sampled_from(EDGES),
                    st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False))
arrays = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=5), elements=numbers)


def clip(x: float, low: float, high: float) -> float:
    return low if x < low else high if x > high else x


def exp(x: float) -> float:
    x = clip(x, -708.0, 709.0)
    k = round(x * 1.4426950408889634)
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    tail = 0.0
    for n in range(13, 1, -1):
        tail = tail * r + 1.0 / math.factorial(n)
    return math.ldexp((r * r) * tail + r + 1.0, k)


def erf(x: float) -> float:
    y = clip(x, -6.0, 6.0)
    s = 1.0
    for n in range(128, 0, -1):
        s = s * ((y * y) * (2.0 / (2 * n + 1))) + 1.0
    return y / 6.0 if abs(y) == 6.0 else clip(y * s * exp(-(y * y)) * 1.1283791670955126, -1.0, 1.0)


def sigmoid(x: float) -> float:
    e = exp(clip(x, -700.0, 700.0))
    return e / (e + 1.0)


def gelu(x: float) -> float:
    y = clip(x, -20.0, 20.0)
    return max(x, -20.0) * sigmoid((y * y * y * 0.044715 + y) * 1.5957691216057308)


ORACLES = {
    "erf": erf,
    "exp": exp,
    "gelu": gelu,
    "gelu_erf": lambda x: max(x, -9.0) * (erf(clip(x, -9.0, 9.0) * 0.7071067811865476) * 0.5 + 0.5),
    "hard_sigmoid": lambda x: clip(x + 3.0, 0.0, 6.0) * (1.0 / 6.0),
    "hard_swish": lambda x: x * (clip(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)),
    "hardtanh": lambda x: clip(x, -1.0, 1.0),
    "identity": lambda x: x,
    "relu": lambda x: x if x > 0.0 else 0.0,
    "relu6": lambda x: min(x, 6.0) if x > 0.0 else 0.0,
    "sigmoid": sigmoid,
    "silu": lambda x: max(x, -700.0) * sigmoid(x),
    "tanh": oracle.dorefa_tanh,
}


def test_every_function__has_an_oracle_and_a_gradient():
    assert set(FUNCTIONS) == set(ORACLES) == set(SMOOTH) - set(SCALED)  # those have their definition's oracle


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@given(x=arrays)
def test_function__has_the_same_bits_in_numpy_torch_and_python(name, x):
    found = FUNCTIONS[name](x)
    assert found.dtype == np.float64
    assert found.shape == x.shape
    expected = np.array([ORACLES[name](value) for value in x.ravel().tolist()]).reshape(x.shape)
    assert found.tobytes() == expected.tobytes()
    tensor = FUNCTIONS[name](torch.from_numpy(x))
    assert tensor.dtype == torch.float64
    assert tensor.numpy().tobytes() == expected.tobytes()
    # a strided view, and one number at a time: no vectorized loop computes otherwise
    assert FUNCTIONS[name](x.ravel()[::-1]).tobytes() == expected.ravel()[::-1].tobytes()
    assert [FUNCTIONS[name](np.float64(value)) for value in x.ravel().tolist()] == expected.ravel().tolist()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_function__has_the_same_bits_at_thousands_of_points(name):
    """A product taken in another order shows in one of some hundred results only."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=2000), rng.uniform(-30, 30, 1000), rng.uniform(-710, 710, 500)])
    expected = [ORACLES[name](value) for value in x.tolist()]
    assert FUNCTIONS[name](x).tolist() == expected == FUNCTIONS[name](torch.from_numpy(x)).tolist()


def exact_exp(x: float) -> Decimal:
    return Decimal(x).exp()


def exact_sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def exact_tanh(x: float) -> Decimal:
    return 1 - 2 / (1 + (2 * Decimal(x)).exp()) if abs(x) > 1e-6 else Decimal(x) - Decimal(x) ** 3 / 3


def exact_gelu(x: float) -> Decimal:
    inner = (8 / Decimal("3.14159265358979323846264338327950288419716939937510")).sqrt() * (
        Decimal(x) + Decimal("0.044715") * Decimal(x) ** 3)
    return Decimal(x) * exact_sigmoid(inner)


@pytest.mark.parametrize(("name", "reference", "low", "high", "units"), [
    ("exp", exact_exp, -708, 709, 1), ("sigmoid", lambda x: exact_sigmoid(Decimal(x)), -700, 700, 3),
    ("silu", lambda x: Decimal(x) * exact_sigmoid(Decimal(x)), -700, 700, 4), ("tanh", exact_tanh, -20, 20, 12),
])
@given(data=st.data())
def test_function__is_within_its_units_in_the_last_place(name, reference, low, high, units, data):
    edges = st.sampled_from([float(low), float(high), 0.5, -0.34657359, 1e-9])
    x = data.draw(st.one_of(st.floats(low, high), st.floats(-1, 1), edges))
    with decimal.localcontext(prec=60):
        expected = reference(x)
        error = abs(Decimal(float(FUNCTIONS[name](np.float64(x)))) - expected)
        assert error <= units * Decimal(math.ulp(float(expected))) + Decimal("1e-300")


@given(st.floats(-19, 100))
def test_gelu__is_the_tanh_form_where_that_is_small_too(x):
    with decimal.localcontext(prec=60):
        expected = exact_gelu(x)
        # a relative error of 2^-51 of the exponent, which grows as x^3
        relative = Decimal(2) ** -50 * (4 + abs(Decimal(x)) ** 3 if x < 0 else 4)
        error = abs(Decimal(float(FUNCTIONS["gelu"](np.float64(x)))) - expected)
        assert error <= relative * abs(expected) + Decimal("1e-300")


@given(st.floats(-40, 40))
def test_erf_and_gelu_erf__are_those_of_libm(x):
    assert FUNCTIONS["erf"](np.float64(x)) == pytest.approx(math.erf(x), rel=2e-15, abs=0)
    expected = 0.5 * x * math.erfc(-x * math.sqrt(0.5))
    assert abs(FUNCTIONS["gelu_erf"](np.float64(x)) - expected) <= 2e-15 * abs(x)


@pytest.mark.parametrize("x", [6.0, 6.5, 8.0, 40.0, 1e300])
def test_erf_and_gelu_erf__are_exact_where_the_error_function_rounds_to_one(x):
    assert [float(FUNCTIONS["erf"](np.float64(value))) for value in (-x, x)] == [-1.0, 1.0] == [math.erf(-x), math.erf(x)]
    assert float(FUNCTIONS["gelu_erf"](np.float64(x * 1.5))) == x * 1.5
    assert float(FUNCTIONS["gelu_erf"](np.float64(-x * 1.5))) == 0.0
    assert table(FUNCTIONS["gelu_erf"], 0.5, IntFormat(8, True), 1.0, IntFormat(8, True))[-1] == 64  # 63.5, half to even


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_function__at_zero_and_far_out(name):
    function = FUNCTIONS[name]
    at_zero = {"exp": 1.0, "sigmoid": 0.5, "hard_sigmoid": 0.5}.get(name, 0.0)
    assert function(np.float64(0.0)) == at_zero
    huge = function(np.array([-1e308, 1e308]))
    low, high = {
        "exp": (math.exp(-708), math.exp(709)), "erf": (-1, 1), "tanh": (-1, 1), "hardtanh": (-1, 1), "sigmoid": (0, 1),
        "hard_sigmoid": (0, 1), "relu6": (0, 6), "identity": (-1e308, 1e308)}.get(name, (0, 1e308))
    assert huge[0] == pytest.approx(low, rel=1e-14, abs=1e-14)
    assert huge[1] == pytest.approx(high, rel=1e-14)


@given(name=st.sampled_from(sorted(set(FUNCTIONS) - {"exp"})), scale=st.floats(2.0**-10, 4), step=st.floats(2.0**-10, 4),
       source=st.builds(IntFormat, st.integers(1, 9), st.booleans()),
       target=st.builds(IntFormat, st.integers(1, 16), st.booleans()),
       zeros=st.tuples(st.integers(-300, 300), st.integers(-300, 300)))
def test_table__rounds_half_to_even_then_adds_the_zero_point_and_clamps(name, scale, step, source, target, zeros):
    zero, target_zero = zeros
    expected = [min(max(oracle.half_even(ORACLES[name]((q - zero) * scale) / step) + target_zero, target.min), target.max)
                for q in range(source.min, source.max + 1)]
    found = table(FUNCTIONS[name], scale, source, step, target, zero, target_zero)
    assert found.tolist() == expected
    assert found.dtype == np.int64


def test_table__has_one_entry_for_each_code():
    u2, s4 = IntFormat(2, signed=False), IntFormat(4, signed=True)
    assert table(FUNCTIONS["identity"], 1.0, u2, 1.0, s4).tolist() == [0, 1, 2, 3]
    assert table(FUNCTIONS["identity"], 0.5, u2, 1.0, s4).tolist() == [0, 0, 1, 2]  # 0.5 and 1.5 to even
    assert table(FUNCTIONS["identity"], 1.0, u2, 1.0, s4, zero=2).tolist() == [-2, -1, 0, 1]
    assert table(FUNCTIONS["identity"], 4.0, u2, 1.0, s4, target_zero=1).tolist() == [1, 5, 7, 7]
    assert table(FUNCTIONS["identity"], 0.5, u2, 1.0, s4, target_zero=1).tolist() == [1, 1, 2, 3]  # rounded, then 1 is added
    assert table(FUNCTIONS["exp"], 400.0, u2, 1e-300, s4).tolist() == [7, 7, 7, 7]  # steps beyond float64


@pytest.mark.parametrize(("arguments", "message"), [
    ((1.0, IntFormat(17, signed=True), 1.0, IntFormat(8, signed=True)), "2\\^17 entries"),
    ((0.0, IntFormat(8, signed=True), 1.0, IntFormat(8, signed=True)), "the scale is 0.0"),
    ((1.0, IntFormat(8, signed=True), math.inf, IntFormat(8, signed=True)), "the step is inf"),
    ((1.0, IntFormat(8, signed=True), math.nan, IntFormat(8, signed=True)), "the step is nan"),
    ((1.0, IntFormat(8, signed=True), 1.0, IntFormat(54, signed=True)), "no exact float64"),
])
def test_table__refuses(arguments, message):
    with pytest.raises(FunctionError, match=message):
        table(FUNCTIONS["relu"], *arguments)


def test_table__refuses_a_function_that_is_no_number_somewhere():
    with pytest.raises(FunctionError, match="not a number"):
        table(lambda x: x * math.nan, 1.0, IntFormat(2, signed=True), 1.0, IntFormat(2, signed=True))


@pytest.mark.parametrize("name", sorted(set(SMOOTH) - set(SCALED)))
def test_slope__is_that_of_the_function(name):
    x = np.array([-4.1, -2.5, -1.3, -0.7, -0.2, 0.3, 0.9, 1.7, 2.9, 5.1, 7.3])
    numeric = (FUNCTIONS[name](x + 1e-6) - FUNCTIONS[name](x - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope(name, torch.from_numpy(x)), numeric, rtol=1e-7, atol=1e-7)
    assert slope(name, torch.from_numpy(x).float()).dtype == torch.float32


def test_smooth__differentiates_ones_own_function_as_it_stands():
    def squared_sigmoid(x):
        return FUNCTIONS["sigmoid"](x) * FUNCTIONS["sigmoid"](x)

    with pytest.raises(RegistryError, match="unknown"):
        smooth("squared_sigmoid")
    FUNCTIONS.add("squared_sigmoid", squared_sigmoid, replace=True)
    x = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    s = torch.sigmoid(x)
    np.testing.assert_allclose(slope("squared_sigmoid", x), 2 * s * s * (1 - s), rtol=1e-12)


def test_registry__takes_functions_only():
    with pytest.raises(RegistryError, match="expected a function"):
        FUNCTIONS.add("three", Decimal(3))
