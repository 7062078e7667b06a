"""What every requantizer is: an affine per channel, made of numbers that its hardware has."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels.lines import driver, requantize
from sim.values import Value


class RequantizeError(ValueError):
    """An affine that this requantizer cannot express, and why."""


@dataclass(frozen=True, eq=False)
class Affine(Value):
    """What is to be computed, in real numbers: steps = sums * gain + offset (+ skip * skip_gain), then round and clamp.

    `gain` and `offset` are float64 [channels]; `bounds` are the smallest and largest sums that can occur, `skip_max` is the
    largest code of the residual.
    """

    gain: np.ndarray
    offset: np.ndarray
    skip_gain: float | None
    bounds: tuple[int, int]
    skip_max: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.gain).all() and np.isfinite(self.offset).all()):
            raise RequantizeError("the folded batch norm is not finite")


class InRegisters(NamedTuple):
    """A rule of kernels/finish.py, its rows (int32 [rows, C], floats by their bits), and the same of a residual [rows]."""

    rule: str
    rows: np.ndarray
    residual: np.ndarray

    def limits(self, target: IntFormat, zero: int) -> np.ndarray:
        """Smallest and largest code, the zero point, constants of the residual: int32."""
        return np.array([target.min + zero, target.max + zero, zero, *self.residual.tolist()], np.int32)


@dataclass(frozen=True, eq=False, repr=False)
class Requantizer(Value):
    """Numbers of one layer.  Fields are arrays, saved with the program as they are.  Declare with eq=False, repr=False.

    `line` is compiled code that turns a line of sums into codes:
    line(constants, sums, width, columns, repeat, first, count, skip, n, i, skip_pad, residual, out, pad)
    for `columns` pixels of `width` sums in a row, of which `count` are channels from `first` on, to row i of image n;
    `residual` is (whether there is one, 128 or 32768 where its codes are signed).  Tensors of codes are unsigned views.
    """

    name: ClassVar[str]
    line: ClassVar[Callable[..., None]]
    oracle: ClassVar[Callable[..., Any] | None] = None
    """oracle(sum, channel, the residual's code or None, {field: list}, (min, max), or None for logits) -> code or logit, in
    plain Python numbers: what `line` is checked against.  Those built in have theirs in reference.py."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {max(len(array) for array in self.arrays().values())} channels>"

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "Requantizer":
        """The nearest this hardware has to an affine.  Raises RequantizeError if there is none."""
        raise NotImplementedError

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple["Requantizer", float]:
        """For the last layer: the requantizer and what one unit of its results stands for."""
        raise NotImplementedError

    def codes(self, sums: np.ndarray, skip: np.ndarray | None, target: IntFormat) -> np.ndarray:
        """int sums [N, H, W, C] and the residual's codes (or None) -> codes of the format `target`."""
        out = Padded.zeros(len(sums), sums.shape[1:], target.dtype, 0)
        self.codes_into(sums, None if skip is None else Padded(np.ascontiguousarray(skip), 0), target, out)
        return out.array

    def codes_into(self, sums: np.ndarray, skip: Padded | None, target: IntFormat, out: Padded) -> None:
        """The same into a tensor with a border."""
        columns, channels = sums.shape[2:]
        repeat = repeat_of(columns, channels)
        driver(requantize, codes=self.line)(
            np.ascontiguousarray(sums), self.line_arguments(target, repeat), repeat, *residual_arguments(skip), out.unsigned,
            out.pad)

    def line_arguments(self, target: IntFormat, repeat: int) -> tuple[Any, ...]:
        """The constants that `line` wants, those per channel repeated for so many neighboring pixels."""
        raise NotImplementedError

    def in_registers(self, target: IntFormat, reach: int, less: np.ndarray | None, zero: int) -> "InRegisters | None":
        """For kernels/finish.py, if that knows this arithmetic, for sums up to `reach` of which `less` [C] is taken.

        `target` has the limits of codes before the zero point `zero` is added.
        """
        return None

    def in_words(self, reach: int) -> "tuple[Callable[..., Any], tuple[np.int32, ...]] | None":
        """Of a rule that adds two operands: rule(a, b, constants) in int32, compiled, and its constants, for every channel.

        None if it is another, or if one of operands up to `reach` could leave 32 bits.
        """
        return None

    def logits(self, sums: np.ndarray) -> np.ndarray:
        """int sums [N, H, W, C] -> logits of the same shape."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """Fields by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def check(self, channels: int, reach: int) -> None:
        """Raise RequantizeError unless every array has its type, its shape and values that sums up to `reach` allow."""
        raise NotImplementedError


def check_array(name: str, array: np.ndarray, dtype: str, shape: tuple[int, ...]) -> None:
    """Raise RequantizeError unless the array has this type and shape."""
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise RequantizeError(f"{name} is {array.dtype} {array.shape}, expected {dtype} {shape}")


LONGEST_LINE = 1024
"""Constants of a line that are read together, so that they stay in the innermost cache."""
_NO_RESIDUAL = np.zeros((1, 1, 1, 1), np.uint8), 0, (False, np.int32(0))


def repeat_of(columns: int, channels: int) -> int:
    """How many neighboring pixels are best treated as one, so that the innermost loop is long: a divisor of `columns`."""
    return max((r for r in range(1, columns + 1) if columns % r == 0 and r * channels <= LONGEST_LINE), default=1)


def residual_arguments(skip: Padded | None) -> tuple[np.ndarray, int, tuple[bool, np.int32]]:
    """Codes of the residual, their border, and `residual` as `line` wants it."""
    if skip is None:
        return _NO_RESIDUAL
    return skip.unsigned, skip.pad, (True, np.int32(skip.sign))
