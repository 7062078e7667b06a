"""What integer requantizers share: constants per channel, the loop over a line, the check of types; a rule adds the scalar.

A rule is one function of one sum, compiled: rule(x, whole, real, c) -> int64, the code before its clamp.  Row k of `whole`
(int64) and of `real` (float32) is the field that the class names k-th in `whole` and `real`, c the channel.  A residual goes
through the same function with constants of its own, the fields of those names behind "skip_", and is added before the clamp.
A rule of two operands (an addition) takes both: rule(x, y, whole, real, c).

    class Halved(Rule):
        name, whole = "halved", ("bias",)
        bias: np.ndarray
        def scaled(x, own): ...                      the oracle, in plain Python integers
    Halved.line = line_of("halved", rule)
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline, specialize
from sim.requantizers.requantizer import Affine, RequantizeError, Requantizer, check_array

LOGIT_FORMAT = IntFormat(28, signed=True)
SKIP = "skip_"
FRACTION = (0, 30)
"""Bits that a sum is shifted to the left before its bias joins: 0 in models of others."""
Domain = Mapping[str, tuple[int, int]]
Own = Callable[[str], Any]
"""The constants of one channel by their names, as an oracle reads them."""
_rule: Any = None
_residual: Any = None


@dataclass(frozen=True, eq=False, repr=False)
class Rule(Requantizer):
    """A requantizer of one scalar rule.  Fields in `whole` are int64 [C], those in `real` float32 [C], `fraction` int64 [1].

    Importers give constants themselves (`RULE(bias=..., multiplier=...)`, `of`) or let the class do a runtime's arithmetic
    on real multipliers or scales (`from_real`, `from_scales`); `build` is for our own networks.
    """

    whole: ClassVar[tuple[str, ...]] = ()
    real: ClassVar[tuple[str, ...]] = ()
    domain: ClassVar[Domain] = {}
    """Least and largest value of fields of `whole`, and so of those of the residual."""

    @classmethod
    def from_real(cls, real: np.ndarray, bias: np.ndarray) -> "Rule":
        """Of real multipliers float64 [C] (float32 where the rule is float32) and integer biases [C].

        Raises RequantizeError for multipliers that the rule's owner does not allow.
        """
        raise NotImplementedError

    @classmethod
    def from_scales(cls, source: Any, weights: np.ndarray, target: Any, bias: np.ndarray) -> "Rule":
        """Of float32 scales of the input, of each channel's weights and of the output: their product in float64."""
        product = np.float64(np.float32(source)) * np.asarray(weights, np.float32).astype(np.float64)
        return cls.from_real(product / np.float64(np.float32(target)), bias)

    @staticmethod
    def scaled(x: int, own: Own) -> int:
        """The rule in plain Python integers, before the clamp: what `line` is checked against."""
        raise NotImplementedError

    @classmethod
    def joined(cls, x: int, skip: int | None, own: Own, other: Own) -> int:
        """The same with a residual; rules of two operands say their own."""
        return cls.scaled(x, own) + (0 if skip is None else cls.scaled(skip, other))

    @classmethod
    def oracle(
            cls, total: int, channel: int, skip: int | None, constants: Any, limits: tuple[int, int] | None) -> int:
        """Code of one sum, or 28-bit logit, in plain Python integers."""
        code = cls.joined(total, skip, lambda name: _of_channel(constants[name], channel),
                          lambda name: _of_residual(constants, name))
        low, high = limits or (-(2**27), 2**27 - 1)
        return max(low, min(high, code))

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple[Requantizer, float]:
        """Integer logits on one scale for all classes, so coarse that no gain is above 1/2 and no logit leaves 28 bits."""
        largest = float((np.abs(affine.gain) * max(map(abs, affine.bounds)) + np.abs(affine.offset)).max())
        unit = max(2.0 * float(np.abs(affine.gain).max()), largest / (LOGIT_FORMAT.max // 2)) or 1.0
        return cls.build(Affine(affine.gain / unit, affine.offset / unit, None, affine.bounds), LOGIT_FORMAT), unit

    def logits(self, sums: np.ndarray) -> np.ndarray:
        """Integer logits (int32)."""
        return self.codes(sums, None, LOGIT_FORMAT)

    def line_arguments(self, target: IntFormat, repeat: int) -> tuple[Any, ...]:
        """(int64 [fields, C * repeat], float32 the same, those of the residual [fields, 1], limits)."""
        return (self._rows(self.whole, "", repeat, np.int64), self._rows(self.real, "", repeat, np.float32),
                self._rows(self.whole, SKIP, 1, np.int64), self._rows(self.real, SKIP, 1, np.float32),
                np.int64(target.min), np.int64(target.max))

    def _rows(self, names: tuple[str, ...], prefix: str, repeat: int, dtype: Any) -> np.ndarray:
        """Fields as rows; what a residual does not have (its bias) is 0."""
        fields = [getattr(self, prefix + name, np.zeros(1, dtype)) for name in names]
        return np.tile(np.array(np.broadcast_arrays(*fields), dtype), (1, repeat)) if fields else np.zeros((1, 1), dtype)

    def check(self, channels: int, reach: int) -> None:
        """Types, shapes, and values within the domain."""
        for part in dataclasses.fields(self):
            plain = part.name.removeprefix(SKIP)
            size = 1 if part.name.startswith(SKIP) or part.name == "fraction" else channels
            check_array(part.name, array := getattr(self, part.name), "float32" if plain in self.real else "int64", (size,))
            if plain in self.real and not np.isfinite(array).all():
                raise RequantizeError(f"{self.name}: {part.name} holds values that are not finite")
            least, most = FRACTION if plain == "fraction" else self.domain.get(plain, (-(2**62), 2**62))
            if plain in self.whole and (array.min() < least or array.max() > most):
                raise RequantizeError(f"{self.name}: {part.name} must be from {least} to {most}")


@dataclass(frozen=True, eq=False, repr=False)
class ScalingRule(Rule):
    """A rule whose fields are `bias`, the constants of a multiplier, those of the residual's, and `fraction`."""

    @classmethod
    def constants(cls, reals: np.ndarray) -> tuple[np.ndarray, ...]:
        """The fields, in their order, that stand for real multipliers [C].  Raises RequantizeError where none do."""
        raise NotImplementedError

    @classmethod
    def from_real(cls, real: np.ndarray, bias: np.ndarray) -> Self:
        """The constants nearest to real multipliers, and the biases."""
        fields = [np.asarray(bias, np.int64), *cls.constants(np.atleast_1d(real))]
        return cls(*fields)

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> Self:
        """The constants nearest to the affine; the bias is what the offset is worth in units of the sum."""
        gain, bias, fraction = join_bias(cls.name, affine, target)
        fields = [bias, *cls.constants(gain), *cls.constants(np.array([affine.skip_gain or 0.0])), fraction]
        return cls(*fields)


def _of_channel(numbers: Any, channel: int) -> Any:
    return numbers[channel if len(numbers) > 1 else 0]


def _of_residual(constants: Any, name: str) -> Any:
    return constants[SKIP + name][0] if SKIP + name in constants else 0


def columns(rows: Iterable[Sequence[int]]) -> list[np.ndarray]:
    """The numbers of each channel as fields, int64 [C] each."""
    return [np.array(column, np.int64) for column in zip(*rows, strict=True)]


def none() -> np.ndarray:
    """A field of a residual that there is not."""
    return np.zeros(1, np.int64)


def unit() -> np.ndarray:
    """The same where 0 is not allowed."""
    return np.ones(1, np.int64)


def codes_of_rule(  # noqa: PLR0913 - a kernel sees arrays, not objects
        constants: Any, sums: np.ndarray, width: int, columns: int, repeat: int, first: int, count: int,
        skip: np.ndarray, n: int, i: int, skip_pad: int, residual: Any, out: np.ndarray, pad: int) -> None:
    """The loop of every rule; `_rule(x, y, has_skip, ..., c)` is what a class makes of its own."""
    whole, real, skip_whole, skip_real, low, high = constants
    has_skip, sign = residual
    channels, span = out.shape[3], repeat * count
    out_row, skip_row = out[n, i + pad].reshape(-1), skip[n * has_skip, (i + skip_pad) * has_skip].reshape(-1)
    for j in range(0, columns, repeat):
        start = (pad + j) * channels + first
        codes, line = out_row[start : start + span], sums[j * width : j * width + span]
        if has_skip:
            start = (skip_pad + j) * channels + first
            residue = skip_row[start : start + span]
            for c in range(span):
                more = (np.int64(residue[c]) ^ np.int64(sign)) - np.int64(sign)
                code = _rule(np.int64(line[c]), more, True, whole, real, skip_whole, skip_real, np.uintp(first + c))
                codes[c] = min(max(code, low), high)
        else:
            for c in range(span):
                code = _rule(np.int64(line[c]), np.int64(0), False, whole, real, skip_whole, skip_real, np.uintp(first + c))
                codes[c] = min(max(code, low), high)


def _rescaled(
        x: Any, more: Any, has_skip: bool, whole: Any, real: Any, skip_whole: Any, skip_real: Any, c: Any) -> Any:
    """One operand, and a residual by the same rule."""
    code = _rule(x, whole, real, c)
    if has_skip:
        code += _residual(more, skip_whole, skip_real, np.uintp(0))
    return code


def _both(
        x: Any, more: Any, has_skip: bool, whole: Any, real: Any, skip_whole: Any, skip_real: Any, c: Any) -> Any:
    """Two operands."""
    return _rule(x, more, whole, real, c)


def line_of(name: str, rule: Callable[..., Any], operands: int = 1, residual: Callable[..., Any] | None = None) -> Any:
    """`line` of a class: the loop with the compiled `rule` in it, which takes so many operands.

    `residual`: what a residual goes through if less than the whole rule does.
    """
    joined = specialize(_rescaled if operands == 1 else _both, f"{name}_joined", inline, _rule=rule,
                        _residual=residual or rule)
    return staticmethod(specialize(codes_of_rule, f"{name}_codes", inline, _rule=joined))


@inline
def wrap32(x: Any) -> Any:
    """What a 32-bit register holds of an int64."""
    return ((x + 2**31) & 0xFFFFFFFF) - 2**31


@inline
def biased(x: Any, bias: Any, fraction: Any) -> Any:
    """The register that a sum and its bias meet in."""
    return wrap32((x << fraction) + bias)


def plain_wrap32(x: int) -> int:
    """`wrap32` of oracles, in plain Python integers."""
    return (x + 2**31) % 2**32 - 2**31


def plain_biased(x: int, own: Own) -> int:
    """`biased` of oracles."""
    return plain_wrap32(x * 2 ** own("fraction") + own("bias"))


def wrapped(numbers: np.ndarray) -> np.ndarray:
    """The same of an array, int32."""
    return np.asarray(numbers, np.int64).astype(np.uint32).astype(np.int32)


def clipped_offset(affine: Affine, target: IntFormat) -> np.ndarray:
    """Offsets no farther out than where every code is at its end, whatever the sum and the residual are."""
    beyond = np.abs(affine.gain) * max(map(abs, affine.bounds)) + 2.0 * target.reach + 2.0
    beyond += 2.0 * abs(affine.skip_gain or 0.0) * affine.skip_max
    clipped: np.ndarray = np.clip(affine.offset, -beyond, beyond)
    return clipped


def join_bias(name: str, affine: Affine, target: IntFormat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gains float64 [C], biases int64 [C], fraction [1]) of x = sum 2^fraction + bias in 32 bits, gain x near an affine.

    A gain so small that no sum moves a code is made large enough for an offset to be a bias.  The fraction is 0 where a bias
    in units of the sum is within 3/4 of a code of the offset.  Raises RequantizeError where 32 bits do not hold all this.
    """
    reach = max(1, *map(abs, affine.bounds))
    least = 1.0 / (8.0 * reach)
    gain = np.where(np.abs(affine.gain) < least, np.copysign(least, affine.gain), affine.gain)
    offset, fraction = clipped_offset(affine, target), 0
    if np.abs(np.rint(offset / gain) * gain - offset).max() > 0.75:
        fraction = int(np.frexp(np.abs(gain).max())[1]) + 1  # then a unit of x is worth half a code at most
        gain = np.ldexp(gain, -fraction)
    bias = np.rint(offset / gain)
    if fraction > FRACTION[1] or (reach * 2.0**fraction + np.abs(bias)).max() >= 2.0**31:
        raise RequantizeError(f"{name}: a bias of {np.abs(bias).max():g} in units of 2^-{fraction} is too large for 32 bits "
                              f"with sums up to {reach}")
    return gain, bias.astype(np.int64), np.array([fraction], np.int64)
