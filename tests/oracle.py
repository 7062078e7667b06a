"""Plain Python numbers: what quantizers and folding must give.  Imports nothing of the project."""

import math
import struct
from fractions import Fraction


def half_even(value: float) -> int:
    """Nearest integer, ties to even (Python's own rule)."""
    return round(value)


def dorefa_tanh(x: float) -> float:
    y = min(max(x, -20.0), 20.0) / 32
    z = y * y
    t = y * (((z + 378.0) * z + 17325.0) * z + 135135.0) / (((z * 28.0 + 3150.0) * z + 62370.0) * z + 135135.0)
    for _ in range(5):
        t = (t + t) / (t * t + 1.0)
    return t


def dorefa_weights(weights: list[float], bits: int) -> tuple[list[int], float]:
    if bits == 1:
        return [1 if w >= 0 else -1 for w in weights], mean_magnitude(weights)
    n = 2**bits - 1
    squashed = [dorefa_tanh(w) for w in weights]
    peak = max(abs(t) for t in squashed)
    ratios = [t / peak for t in squashed] if peak else squashed
    return [2 * half_even((r * 0.5 + 0.5) * n) - n for r in ratios], 1 / n


def bounded(learned: float) -> float:
    return min(max(learned, 2.0**-20), 2.0**20)


def interval_weights(weights: list[float], bits: int, interval: float) -> tuple[list[int], float]:
    m, size = 2 ** (bits - 1) - 1, bounded(interval)
    return [half_even(min(max(w / size, -1.0), 1.0) * m) for w in weights], size / m


def lsq_weights(weights: list[float], bits: int, step: float) -> tuple[list[int], float]:
    size = bounded(step)
    return [half_even(min(max(w / size, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)) for w in weights], size


def sawb_weights(weights: list[float], bits: int) -> tuple[list[int], float]:
    c1, c2 = {2: (3.12, -2.064), 3: (7.509, -6.892), 4: (12.68, -12.80), 8: (31.76, -35.04)}[bits]
    clip = max(c1 * math.sqrt(mean_magnitude([w * w for w in weights])) + c2 * mean_magnitude(weights), 2.0**-20)
    n = 2**bits - 1
    return [2 * half_even((min(max(w / clip, -1.0), 1.0) * 0.5 + 0.5) * n) - n for w in weights], clip / n


def power_of_two(x: float) -> float:
    """2^x as e^(x ln 2): Taylor's polynomial of degree 13 behind a reduction in two parts, then an exact power."""
    y = x * 0.6931471805599453
    k = round(y * 1.4426950408889634)
    r = (y - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    tail = 0.0
    for n in range(13, 1, -1):
        tail = tail * r + 1.0 / math.factorial(n)
    return math.ldexp((r * r) * tail + r + 1.0, k)


def a2q_weights(weights: list[float], bits: int, learned: tuple[float, float, float], centered: bool
                ) -> tuple[list[int], float]:
    """One channel; learned are log2 of scale and norm, and the limit."""
    d, t = (min(max(value, -20.0), 20.0) for value in learned[:2])
    limit = min(max(learned[2], 0.0), 2.0**31)
    length = min(power_of_two(t - d), limit)
    count, peak = len(weights), max(abs(w) for w in weights)
    one = 2.0 ** min(40, 60 - count.bit_length())
    units = [half_even(w / peak * one) if peak else 0 for w in weights]
    if centered and limit < 2.0**31:
        mean = half_even(float(sum(units)) / count) if count > 1 else 0
        units = [unit - mean for unit in units]
        whole = 2 * max(sum(unit for unit in units if unit > 0), -sum(unit for unit in units if unit < 0))
    else:
        whole = sum(abs(unit) for unit in units)
    codes = [min(math.floor(abs(float(unit) / float(max(whole, 1))) * length), 2 ** (bits - 1) - 1) for unit in units]
    return [code if unit > 0 else -code for code, unit in zip(codes, units, strict=True)], power_of_two(d)


def mean_magnitude(weights: list[float]) -> float:
    peak = max(abs(w) for w in weights)
    if peak == 0:
        return 0.0
    fraction = 2.0 ** min(40, 62 - len(weights).bit_length())
    total = sum(half_even(abs(w) / peak * fraction) for w in weights)
    return peak * (total / (len(weights) * fraction))


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def rounded_quotient(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, ties toward plus infinity."""
    return math.floor(Fraction(numerator, denominator) + Fraction(1, 2))
