"""The input: uint8 pixels -> signed codes, by a table per channel."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim.formats import IntFormat, Shape
from sim.inputs import check_pixels
from sim.ops.op import Op, check_sizes, check_table
from sim.ops.row import NetworkError, Row
from sim.values import sizes

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering


@dataclass(frozen=True)
class Input(Row):
    """uint8 pixels, normalized per channel to (p / 255 - mean) / std, then signed codes of the boundary width."""

    kind: ClassVar[str] = "input"
    is_input: ClassVar[bool] = True
    height: int = 0
    width: int = 0
    channels: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sizes(height=self.height, width=self.width, channels=self.channels)
        values = (*self.mean, *self.std)
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise NetworkError(f"{self.name}: mean and std need one number for each of {self.channels} channels")
        if not all(isinstance(v, float) and math.isfinite(v) for v in values) or min(self.std) <= 0:
            raise NetworkError(f"{self.name}: mean and std must be finite and std positive")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """As declared."""
        return self.height, self.width, self.channels

    def scale(self, bits: int) -> float:
        """The real number one input code stands for: the largest normalized pixel is the largest code."""
        mean, std = np.array(self.mean), np.array(self.std)
        largest = float((np.maximum(np.abs(mean), np.abs(1.0 - mean)) / std).max())
        return largest / (2 ** (bits - 1) - 1)

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation 5, for each of the 256 pixel values."""
        bits = to.spec.precision.activation_bits("boundary", self.name)
        scale = self.scale(bits)
        mean, std = np.array(self.mean), np.array(self.std)
        gain = (1.0 / (255.0 * std * scale)).astype(np.float32)
        offset = (-mean / (std * scale)).astype(np.float32)
        steps = np.arange(256, dtype=np.float32) * gain[:, None]
        steps = steps + offset[:, None]
        form = IntFormat(bits, signed=True)
        table = np.clip(np.rint(steps), -form.max, form.max).astype(form.dtype)
        return InputOp(self.name, "", to.shapes[self.name], form, table), scale


@dataclass(frozen=True, eq=False, repr=False)
class InputOp(Op):
    """A table per channel from uint8 pixels to codes: `table` [channels, 256]."""

    kind: ClassVar[str] = "input"
    is_input: ClassVar[bool] = True
    table: np.ndarray

    @property
    def given(self) -> str:
        """Pixels."""
        return f"{sizes(self.shape)} u8 pixels"

    def accept(self, given: Any) -> np.ndarray:
        """Pixels uint8 [N, *shape], as they are."""
        check_pixels(given, self.shape)
        pixels: np.ndarray = given
        return pixels

    def check(self, before: Mapping[str, Op]) -> None:
        """A code for every pixel value."""
        check_sizes(self)
        check_table(self, self.table, (self.shape[2], 256))

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Look up."""
        table = self.table.tolist()
        return [[[table[c][p] for c, p in enumerate(pixel)] for pixel in row] for row in inputs[0]], None
