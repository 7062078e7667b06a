"""ONNX Runtime's QLinearSoftmax: a table of float32 exponentials, their float32 sum in order, one division, half to even.

E[d] = float32(exp((d - 255 + shift) s_x)), d = q + 255 - max q, shift = max(0, ln(M / C) - 5) / s_x, M the largest float32;
S = E[d_0] + E[d_1] + ... in float32; code = min(rint(f32(f32(E[d_i] L) / S)) + z, largest), L = floor(f32(1 / s_y)).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from sim.definitions.definition import DefinitionError, number
from sim.definitions.integers import Codes
from sim.definitions.softmax import Softmax
from sim.formats import IntFormat
from sim.reference import round_to_float32

RESERVE = 5.0
"""Powers of e that stay free above the sum."""


@dataclass(frozen=True, eq=False, repr=False)
class OrtSoftmax(Softmax):
    """`ort`: of codes of 8 bits.  Exponentials come from a library, so that they are program data."""

    name: ClassVar[str] = "ort"
    table: np.ndarray
    """float32 [256]: the exponential of each difference to the largest code, from -255 to 0."""
    inverse: np.ndarray
    """int64 [1]: steps from 0 to 1, the whole part of 1 / s_y."""
    offset: np.ndarray
    """int64 [1]: the output's zero point."""

    @classmethod
    def build(cls, scale: float, source: IntFormat, target: IntFormat, step: float = 1.0,
              learned: Mapping[str, np.ndarray] | None = None, eps: float = 1e-5) -> Self:
        """It depends on the length of rows: `of` makes it."""
        raise DefinitionError("ort: this softmax is that of models of ONNX Runtime alone")

    @classmethod
    def of(cls, scale: np.float32, source: IntFormat, target: IntFormat, step: np.float32, zero: int, length: int) -> Self:
        """Of the float32 scales of input and output, for rows of so many codes."""
        cls._require_scale(float(scale))
        cls._require_scale(float(step), "output scale")
        shift = max(0.0, math.log(float(np.finfo(np.float32).max / np.float32(length))) - RESERVE) / float(scale)
        table = [math.exp((index - 255 + shift) * float(scale)) for index in range(256)]
        inverse = int(np.floor(np.float32(1.0) / step))
        return cls(source, target, np.array(table, np.float64).astype(np.float32), number(inverse), number(zero))

    def codes(self, x: Codes) -> Codes:
        """[..., C] -> [..., C]."""
        values = self.table[x + 255 - x.max(axis=-1, keepdims=True)]
        total = np.zeros(values.shape[:-1], np.float32)
        for index in range(values.shape[-1]):
            total = total + values[..., index]
        steps = np.rint((values * np.float32(self.inverse[0])) / total[..., None])
        return np.minimum(steps.astype(np.int64) + self.offset[0], self.target.max)

    def oracle(self, row: list[int]) -> list[int]:
        """In plain Python numbers: of float32, products, quotients and sums rounded twice are as rounded once."""
        values = [float(self.table[q + 255 - max(row)]) for q in row]
        total = 0.0
        for value in values:
            total = round_to_float32(total + value)
        steps = [round_to_float32(round_to_float32(value * float(self.inverse[0])) / total) for value in values]
        return [min(round(step) + int(self.offset[0]), self.target.max) for step in steps]

    @property
    def zero(self) -> int:
        """The output's."""
        return int(self.offset[0])

    def output_scale(self, scale: float, step: float = 1.0) -> float | None:
        """What the model says."""
        return step

    def _check(self, channels: int) -> None:
        self._require(self.source.bits == self.target.bits == 8, f"codes of 8 bits, not {self.source} to {self.target}")
        self._require_arrays("float32", (256,), "table")
        self._require_number("offset", self.target.min, self.target.max)
        inverse = self._require_number("inverse", 0, 2**24)
        largest = float(self.table[-1])
        self._require(np.isfinite(self.table).all() and (self.table >= 0).all() and (np.diff(self.table) >= 0).all()
                      and largest > 0.0, "the table must rise from 0 or more")
        most = float(np.finfo(np.float32).max)
        self._require(largest * inverse < most and largest * channels < most,
                      f"{inverse} steps of rows of {channels} codes leave float32, where ONNX Runtime's result is undefined")
