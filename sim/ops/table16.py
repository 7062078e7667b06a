"""Functions of 16-bit codes by interpolation: a table of 513 samples, 128 codes apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim import reference
from sim.formats import IntFormat
from sim.ops.op import Op, ProgramError, check_shape, check_sizes, format_of, read

RULES = ("tflite", "tosa")
SAMPLES = 513
SAMPLE_BITS = 17
"""Of a sample: the last one stands for the code 32768, which there is not, and may lie outside what 16 bits hold."""


@dataclass(frozen=True, eq=False, repr=False)
class Table16Op(Op):
    """With i = 256 + (v >> 7), f = v & 127, base = table[i] and slope = table[i + 1] - base of a signed 16-bit code v:

    "tflite": clamp(base + ((slope f + 64) >> 7) + zero point); "tosa": clamp(128 base + slope f + zero point).
    `table` int32 [513]; the codes that it reads have the zero point 0, results of "tosa" 7 bits more than samples.
    """

    kind: ClassVar[str] = "table16"
    clamps: ClassVar[bool] = True
    table: np.ndarray
    rule: str = "tflite"

    def details(self) -> list[str]:
        """The rule."""
        return [f"interpolated as {self.rule} does"]

    def check(self, before: Mapping[str, Op]) -> None:
        """513 samples and codes of 16 bits."""
        check_sizes(self)
        source = read(before, self.source)
        if source.format != IntFormat(16, signed=True) or source.zero_point:
            raise ProgramError(f"it reads s16 codes with the zero point 0, not {format_of(source)} with {source.zero_point}")
        check_shape(self, source.shape)
        if self.rule not in RULES:
            raise ProgramError(f"its rule must be {' or '.join(RULES)}, not {self.rule!r}")
        is_table = isinstance(self.table, np.ndarray) and self.table.dtype == np.int32 and self.table.shape == (SAMPLES,)
        if not is_table or not IntFormat(SAMPLE_BITS, signed=True).contains(self.table):
            raise ProgramError(f"its table must be int32 [{SAMPLES}] of at most {SAMPLE_BITS} bits")

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Between two samples."""
        table = self.table.tolist()
        result = [[[_between(table, code, self.rule) for code in pixel] for pixel in row] for row in inputs[0]]
        return reference.clamped(result, self), None


def _between(table: list[int], code: int, rule: str) -> int:
    segment, fraction = divmod(code, 128)
    base, following = table[256 + segment], table[257 + segment]
    rise = (following - base) * fraction
    return base + (rise + 64) // 128 if rule == "tflite" else 128 * base + rise
