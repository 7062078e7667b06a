"""What every integer definition is: a function of a row of codes, with its constants, that is exact by definition.

Softmax, layer norm and the like have no arithmetic that all hardware shares.  A definition is one of those in use, by name:
integers throughout, or float operations that IEEE 754 rounds correctly in an order that is written down.  FQ evaluates it
in eval, ID evaluates it, the plain-Python oracle beside it says what is right; its float shape only teaches gradients.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from sim.definitions.integers import Codes
from sim.formats import IntFormat
from sim.values import Value

INT64 = 1 << 63
MOST_CHANNELS = 1 << 20
"""Longest row that any definition takes."""


class DefinitionError(ValueError):
    """A definition that cannot take these codes or constants, and why; it begins with the definition's name."""


@dataclass(frozen=True, eq=False, repr=False)
class Definition(Value):
    """The formats of codes in and out, and constants: arrays, which are program data.  Declare with eq=False, repr=False."""

    name: ClassVar[str]
    kind: ClassVar[str]
    """"softmax", "layernorm", "gelu" or "hardswish"."""
    source: IntFormat
    target: IntFormat

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.source} to {self.target}>"

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """The definition for codes worth `scale` each.

        `step` is what a code of `target` shall stand for, for norms alone (`output_scale` says what it does stand for);
        `learned` are float arrays "gamma" and "beta" [C] where the kind has them, `eps` is the variance's, in real units.
        Raises DefinitionError where there is no such definition.
        """
        raise NotImplementedError

    def codes(self, x: Codes) -> Codes:
        """int64 codes [..., C] of the format `source`, rows along the last axis -> int64 codes of `target`, the same shape.

        numpy arrays or torch tensors, whatever comes in; `check(C)` says which rows are safe.
        """
        raise NotImplementedError

    def compiled(self) -> tuple[Any, tuple[Any, ...]] | None:
        """row(codes, constants, results) of sim/kernels that gives what `codes` does, and its constants; None: none does."""
        return None

    def oracle(self, row: list[int]) -> list[int]:
        """The same of one row in plain Python numbers, written apart from `codes`."""
        raise NotImplementedError

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """What one code above the zero point stands for, if the input's stands for `scale`; None if codes are exponents."""
        return step

    @property
    def zero(self) -> int:
        """The code that stands for 0."""
        return 0

    def arrays(self) -> dict[str, np.ndarray]:
        """Constants by name."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}

    def check(self, channels: int) -> None:
        """Raise DefinitionError unless constants have their types, shapes and values and rows of C codes cannot overflow."""
        self._require(1 <= channels <= MOST_CHANNELS, f"a row has 1 to {MOST_CHANNELS} codes, not {channels}")
        self._check(channels)

    def _check(self, channels: int) -> None:
        """The same, for what a definition has of its own."""
        raise NotImplementedError

    @property
    def _most(self) -> int:
        """The largest magnitude of an input code."""
        return max(-self.source.min, self.source.max)

    @property
    def _span(self) -> int:
        """The largest difference of two input codes."""
        return self.source.max - self.source.min

    @classmethod
    def _require(cls, condition: object, message: str) -> None:
        if not condition:
            raise DefinitionError(f"{cls.name}: {message}")

    @classmethod
    def _require_scale(cls, scale: float, name: str = "scale") -> None:
        cls._require(math.isfinite(scale) and scale > 0.0, f"the {name} is {scale!r}, must be positive and finite")

    def _require_arrays(self, dtype: str, shape: tuple[int, ...], *names: str) -> None:
        for name in names:
            array = getattr(self, name)
            self._require(isinstance(array, np.ndarray) and array.dtype == np.dtype(dtype) and array.shape == shape,
                          f"{name} is {getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}, "
                          f"expected {dtype} {shape}")

    def _require_number(self, name: str, least: int, most: int) -> int:
        """The one integer of an array [1], from `least` to `most`."""
        self._require_arrays("int64", (1,), name)
        value = int(getattr(self, name)[0])
        self._require(least <= value <= most, f"{name} is {value}, must be from {least} to {most}")
        return value


def number(value: Any) -> np.ndarray:
    """A constant as program data: int64 [1]."""
    return np.array([value], np.int64)


def learned_array(learned: Mapping[str, np.ndarray] | None, name: str, default: np.ndarray | None = None) -> np.ndarray:
    """A learned array in float64, or the default."""
    if learned is not None and name in learned:
        return np.asarray(learned[name], np.float64)
    if default is None:
        raise DefinitionError(f"there is no {name}")
    return default
