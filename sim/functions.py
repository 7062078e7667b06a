"""Real functions of basic float64 operations alone, so that numpy, torch and plain Python find the same bits.

IEEE 754 rounds +, -, *, / and rounding to an integer correctly, and says nothing of what libm's functions return.  All here
take and give float64 arrays or torch float64 tensors of any shape, elementwise, by operators and methods that both have.
No step divides by a constant or divides a constant: on some devices that is a product with a reciprocal.  No result is a
subnormal number unless x nearly is one, so that it matters nowhere else whether a device flushes those.  Inputs are finite.
ARITHMETIC.md has them as equations.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.registry import Registry, RegistryError

Floats = Any
"""A float64 numpy array or torch tensor."""
Function = Callable[[Floats], Floats]

MOST_TABLE_BITS = 16
EXP_LEAST, EXP_MOST = -708.0, 709.0
"""Where exp is a normal number."""
ERF_TERMS = 128

_PER_LN2, _LN2, _LN2_REST = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
_EXP_TERMS = tuple(1.0 / math.factorial(n) for n in range(13, 1, -1))
_ERF_TERMS = tuple(2.0 / (2 * n + 1) for n in range(ERF_TERMS, 0, -1))


class FunctionError(ValueError):
    """A table that cannot be filled: a scale that is none, or too many codes."""


def exp(x: Floats) -> Floats:
    """e^x to 1 unit in the last place; below -708 and above 709 what it is there.

    x = k ln 2 + r with k = rhe(x / ln 2), ln 2 in two parts of which the first has 33 bits, so that k times it is exact;
    then Taylor's polynomial of degree 13 on |r| < 0.347, times 2^k.
    """
    bounded = x.clip(EXP_LEAST, EXP_MOST)
    k = (bounded * _PER_LN2).round()
    r = (bounded - k * _LN2) - k * _LN2_REST
    tail = r * 0.0
    for term in _EXP_TERMS:
        tail = tail * r + term
    return (r * r * tail + r + 1.0) * _power_of_two(k)


def _power_of_two(k: Floats) -> Floats:
    """2^k for whole k from -1022 to 1023, exactly: a product of 2^(2^i) over the binary digits of k + 1022."""
    rest = k + 1022.0
    power = rest * 0.0 + 2.0**-1022
    for digit in range(11):
        half = (rest * 0.5 - 0.25).round()
        odd = rest - (half + half)
        root = odd * (2.0 ** min(2**digit, 512) - 1.0) + 1.0  # 1 + (2^64 - 1) rounds to 2^64, too
        power = power * root * root if digit == 10 else power * root
        rest = half
    return power


def tanh(x: Floats) -> Floats:
    """Equation 1: Lambert's fraction at x / 32, then five doublings; within 2e-15 of tanh, relatively."""
    y = x.clip(-20.0, 20.0) * 0.03125
    square = y * y
    above = ((square + 378.0) * square + 17325.0) * square + 135135.0
    below = ((square * 28.0 + 3150.0) * square + 62370.0) * square + 135135.0
    t = (y * above) / below
    for _ in range(5):
        t = (t + t) / (t * t + 1.0)
    return t


def erf(x: Floats) -> Floats:
    """The error function to 2e-15, relatively; from 6 on what it rounds to there, -1 or 1.

    2 / sqrt(pi) y e^(-y^2) (1 + 2 z / 3 (1 + 2 z / 5 (1 + ...))) with z = y^2: every term is positive.
    """
    y = x.clip(-6.0, 6.0)
    z = y * y
    s = z * 0.0 + 1.0
    for term in _ERF_TERMS:
        s = s * (z * term) + 1.0
    inside = (y * s * exp(-z) * 1.1283791670955126).clip(-1.0, 1.0)
    end = ((abs(y) - 6.0) * 2.0**60 + 1.0).clip(0.0, 1.0)  # 1 at -6 and 6, where the sum is short of 1 by 1.2e-15, else 0
    return inside * (1.0 - end) + y.clip(-1.0, 1.0) * end


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^-x) as e^x / (e^x + 1), to 3 units in the last place; beyond -700 and 700 what it is there."""
    e = exp(x.clip(-700.0, 700.0))
    return e / (e + 1.0)


def silu(x: Floats) -> Floats:
    """x sigmoid(x) (Elfwing et al. 2017, arXiv 1702.03118), to 4 units in the last place; within 1e-300 of it below -700."""
    return x.clip(-700.0, None) * sigmoid(x)


def gelu(x: Floats) -> Floats:
    """GELU's tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415): 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    As x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), which is the same and keeps its digits where it is small.
    """
    y = x.clip(-20.0, 20.0)
    return x.clip(-20.0, None) * sigmoid((y * y * y * 0.044715 + y) * 1.5957691216057308)


def gelu_erf(x: Floats) -> Floats:
    """GELU itself, x times the normal distribution function: 0.5 x (1 + erf(x / sqrt 2)), within 2e-15 |x|."""
    return x.clip(-9.0, None) * (erf(x.clip(-9.0, 9.0) * 0.7071067811865476) * 0.5 + 0.5)


def hard_sigmoid(x: Floats) -> Floats:
    """clamp(x + 3, 0, 6) times the float64 nearest to 1/6."""
    return (x + 3.0).clip(0.0, 6.0) * (1.0 / 6.0)


def hard_swish(x: Floats) -> Floats:
    """x hard_sigmoid(x) (Howard et al. 2019, arXiv 1905.02244)."""
    return x * hard_sigmoid(x)


def relu(x: Floats) -> Floats:
    """x above 0, else 0 (never -0)."""
    return x.clip(0.0, None) + 0.0  # of -0 and 0, libraries clip to either


def relu6(x: Floats) -> Floats:
    """clamp(x, 0, 6)."""
    return x.clip(0.0, 6.0) + 0.0


def hardtanh(x: Floats) -> Floats:
    """clamp(x, -1, 1)."""
    return x.clip(-1.0, 1.0)


def identity(x: Floats) -> Floats:
    """x itself: a table of it converts one encoding into another."""
    return x


def _check(name: str, value: Any) -> Function:
    if not callable(value):
        raise RegistryError(f"{name!r} is {value!r}, expected a function of a float64 array that takes torch tensors, too")
    function: Function = value
    return function


FUNCTIONS: Registry[Function] = Registry("function", {
    "erf": erf,
    "exp": exp,
    "gelu": gelu,
    "gelu_erf": gelu_erf,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "hardtanh": hardtanh,
    "identity": identity,
    "relu": relu,
    "relu6": relu6,
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": tanh,
}, "bittrue.functions", _check)
"""Functions by name: what an activation, or a table over codes, can be.  A new one is a definition and a row here."""


def igelu_at(scale: float) -> Function:
    """I-BERT's integer GELU of codes worth `scale` (Kim et al. 2021, arXiv 2101.01321; Deeploy's iGELU), in real units.

    With s = scale / sqrt 2, b = floor(-1.769 / s), w = floor(1 / (0.2888 s^2)) and q = rhe(x / scale): p = min(|q|, -b) + b;
    L = sgn(q) (w - p^2); f = q floor((w + L) / 2) (scale / w).  It is `igelu` of sim/definitions, code by code, but that a
    table gives the result to a step of one's choice.
    """
    inner = scale * 0.7071067811865476
    if not 2.0**-20 <= inner <= 1.0:
        raise FunctionError(f"igelu: a code stands for {scale:g}, must stand for 2^-19.5 to sqrt 2")
    b, one = float(math.floor(-1.769 / inner)), float(math.floor(1.0 / (0.2888 * inner * inner)))

    def function(x: Floats) -> Floats:
        q = (x * (1.0 / scale)).round()
        sign = q.clip(-1.0, 1.0)
        p = (q * sign).clip(None, -b) + b
        doubled = sign * (one - p * p) + one
        return q * (doubled * 0.5 - 0.25).round() * (scale / one)

    return function


SCALED: Mapping[str, Callable[[float], Function]] = MappingProxyType({"igelu": igelu_at})
"""Functions that know what a code stands for: of that, the function of real numbers which are whole multiples of it."""


def function_at(name: str, scale: float) -> Function:
    """The function of that name for codes worth `scale`: one of FUNCTIONS, or of SCALED.

    Raises RegistryError for a name that neither has, FunctionError for a scale that a function does not take.
    """
    return SCALED[name](scale) if name in SCALED else FUNCTIONS.known(name)


def table(function: Function, scale: float, source: IntFormat, step: float, target: IntFormat, zero: int = 0,
          target_zero: int = 0) -> np.ndarray:
    """The codes of `target` for every code of `source`, from its smallest to its largest: int64 [2^bits].

    T[q - source.min] = clamp(rhe(f((q - zero) scale) / step) + target_zero, target.min, target.max) in float64; `scale` and
    `step` are what one code of source and target stands for, the zero points are the codes that stand for 0.

    >>> table(FUNCTIONS["relu"], 0.5, IntFormat(3, signed=True), 0.25, IntFormat(2, signed=False)).tolist()
    [0, 0, 0, 0, 0, 2, 3, 3]

    Raises FunctionError for a source of more than 16 bits or scales that are not positive and finite.
    """
    if source.bits > MOST_TABLE_BITS:
        raise FunctionError(f"a table over {source} would have 2^{source.bits} entries, at most 2^{MOST_TABLE_BITS} fit")
    if target.bits > 53:
        raise FunctionError(f"codes of {target} are no exact float64 numbers")
    for name, value in (("scale", scale), ("step", step)):
        if not (math.isfinite(value) and value > 0.0):
            raise FunctionError(f"the {name} is {value!r}, must be positive and finite")
    codes = np.arange(source.min, source.max + 1, dtype=np.float64)
    with np.errstate(over="ignore"):  # what is too large is clamped
        steps = np.rint(function((codes - zero) * scale) / step) + target_zero
    if np.isnan(steps).any():
        raise FunctionError("the function is not a number somewhere")
    return steps.clip(target.min, target.max).astype(np.int64)
