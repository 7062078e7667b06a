"""Convolution: products of codes and weights in an accumulator, batch norm, residual and activation folded behind it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sim import reference
from sim.accumulator import Accumulator, bits_for, prefix_bounds
from sim.formats import IntFormat, Shape, is_whole
from sim.ops.op import (
    MAX_SUM_BITS,
    Op,
    ProgramError,
    Window,
    check_results,
    check_shape,
    check_sizes,
    reach_of,
    read,
    settle_window,
)
from sim.ops.row import Activation, NetworkError, Row, check_role, check_window, window_positions
from sim.values import LATER, sizes

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering
    from sim.requantizers import Requantizer

BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Conv(Row):
    """Convolution, optional batch norm, optional residual `skip`, then an activation; without one the sums are logits.

    A fully connected layer is a convolution whose kernel covers its whole input.  A kernel has `kernel` rows and
    `kernel_width` columns, moves by `stride` down and `stride_width` across (0: as many), and its taps are `dilation` apart.
    `paddings` (top, bottom, left, right) stand for `padding` where they differ.  `eps` is the batch norm's.
    Weights are [channels, in_channels / groups, rows, columns].
    """

    kind: ClassVar[str] = "conv"
    gives_logits: ClassVar[bool] = True
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    role: str = "inner"
    norm: bool = True
    bias: bool = False
    skip: str = ""
    activation: Activation | None = None
    kernel_width: int = field(default=0, metadata=LATER)
    stride_width: int = field(default=0, metadata=LATER)
    dilation: int = field(default=1, metadata=LATER)
    paddings: tuple[int, ...] = field(default=(), metadata=LATER)
    eps: float = field(default=BATCH_NORM_EPS, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_role(self.role)
        self._sizes(channels=self.channels, kernel=self.kernel, stride=self.stride,
                    padding=self.padding, groups=self.groups)
        check_window(self)
        if not isinstance(self.eps, float) or not 0.0 < self.eps < 1.0:
            raise NetworkError(f"{self.name}: eps must be a number between 0 and 1, not {self.eps!r}")
        if self.channels % self.groups:
            raise NetworkError(f"{self.name}: {self.groups} groups do not divide {self.channels} channels")
        if self.norm and self.bias:
            raise NetworkError(f"{self.name}: batch norm already has a bias, set one of norm and bias")

    @property
    def window(self) -> Window:
        """Taps, strides, dilation and paddings."""
        return Window.of((self.kernel, self.kernel_width or self.kernel), self)

    def sources(self) -> tuple[str, ...]:
        """The input and, if there is one, the residual."""
        return (self.source, self.skip) if self.skip else (self.source,)

    @property
    def weight_role(self) -> str:
        """The layer's."""
        return self.role

    @property
    def register_role(self) -> str:
        """The layer's."""
        return self.role

    @property
    def weight_channels(self) -> int:
        """Output channels."""
        return self.channels

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Strides that leave a rest drop it, as everywhere in the field."""
        height, width, channels = shapes[self.source]
        if channels % self.groups:
            raise NetworkError(f"{self.name}: {self.groups} groups do not divide {channels} input channels")
        shape = (*window_positions(self, self.window, height, width), self.channels)
        if self.skip and shapes[self.skip] != shape:
            raise NetworkError(f"{self.name}: residual {self.skip} is {shapes[self.skip]}, the output {shape}")
        if self.skip and self.activation is None:
            raise NetworkError(f"{self.name}: a layer with a residual needs an activation")
        return shape

    def array_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, ...]]:
        """Weights, and a bias or a batch norm."""
        arrays: dict[str, tuple[int, ...]] = {
            "weight": (self.channels, shapes[self.source][2] // self.groups, *self.window.taps)}
        if self.bias:
            arrays["bias"] = (self.channels,)
        if self.norm:
            arrays |= {f"norm.{key}": (self.channels,) for key in ("weight", "bias", "running_mean", "running_var")}
        return arrays

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """Equation 6: scales, batch norm and bias fold into one affine per channel, in float64."""
        return lower_products(self, to, partial(_normed if self.norm else biased, self, to), self.skip,
                              stride=self.stride, padding=self.padding, groups=self.groups, stride_width=self.stride_width,
                              dilation=self.dilation, paddings=self.paddings)


def lower_products(row: Any, to: "Lowering", folded: Callable[[np.ndarray | float, float], tuple[np.ndarray, np.ndarray]],
                   skip: str = "", **window: Any) -> tuple[Op, float]:
    """The convolution of a row whose weights are [channels, in channels], perhaps with the taps of a window behind.

    folded(what one unit of a sum stands for, what one code does) -> gain and offset float64 [channels].
    """
    codes, weight_scale, weight_format, bits = to.weight_codes(row)
    weights = np.ascontiguousarray(codes.reshape(*codes.shape, *(1,) * (4 - codes.ndim)).transpose(2, 3, 1, 0))
    operand = to.format_of(row.source)
    form, step = (None, 1.0) if row.activation is None else to.activation(row, row.activation)
    gain, offset = folded(to.scales[row.source] * weight_scale, step)
    low, high = prefix_bounds(weights, operand)
    residual = (to.scales[skip] / step, to.format_of(skip)) if skip else None
    requant, unit = to.requantizer_of(form, gain, offset, (int(low.min()), int(high.max())), residual)
    return ConvOp(
        row.name, row.source, to.shapes[row.name], form, skip=skip, weights=weights, operand=operand,
        weight_format=weight_format, weight_bits=bits, accumulator=to.accumulator_of(row, row.role), requant=requant,
        unit=unit, **window), step


def biased(row: Any, to: "Lowering", scale: np.ndarray | float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The affine of a row with a bias or with nothing."""
    bias = to.array(row, "bias").astype(np.float64) if row.bias else np.zeros(row.weight_channels)
    return np.full(row.weight_channels, 1.0) * (scale / step), bias / step


def _normed(row: Any, to: "Lowering", scale: np.ndarray | float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """That of a batch norm."""
    gamma, beta, mean, var = (to.array(row, f"norm.{name}").astype(np.float64)
                              for name in ("weight", "bias", "running_mean", "running_var"))
    inverse = gamma / np.sqrt(var + row.eps)
    return scale * inverse / step, (beta - mean * inverse) / step


@dataclass(frozen=True, eq=False, repr=False)
class ConvOp(Op):
    """Products of codes and weights, summed in an accumulator, then requantized; `skip` names a residual or is empty.

    `weights` int32 [kernel rows, kernel columns, in channels / groups, channels].  `operand` is the format of the input,
    `operand_zero` its zero point z: registers see codes and borders as they are, z sum(weights) is taken off behind them.
    `stride_width` is 0 where it is as `stride`, `paddings` (top, bottom, left, right) empty where all are `padding`.
    `start` int64 [channels] is what registers hold before the first product (a bias that comes first); sums include it.
    """

    kind: ClassVar[str] = "conv"
    clamps: ClassVar[bool] = True
    accumulates: ClassVar[bool] = True
    gives_logits: ClassVar[bool] = True
    skip: str
    weights: np.ndarray
    stride: int
    padding: int
    groups: int
    operand: IntFormat
    weight_format: IntFormat
    weight_bits: int
    accumulator: Accumulator
    requant: "Requantizer"
    unit: float = 1.0
    stride_width: int = field(default=0, metadata=LATER)
    dilation: int = field(default=1, metadata=LATER)
    paddings: tuple[int, ...] = field(default=(), metadata=LATER)
    operand_zero: int = field(default=0, metadata=LATER)
    start: np.ndarray | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        settle_window(self)
        if isinstance(self.start, np.ndarray) and not self.start.any():
            object.__setattr__(self, "start", None)

    @property
    def window(self) -> Window:
        """Taps, strides, dilation and paddings."""
        return Window.of(self.weights.shape[:2], self)

    @property
    def correction(self) -> np.ndarray:
        """What is taken off the sums of each channel behind the register, int64 [channels]: z sum(weights)."""
        total: np.ndarray = self.weights.sum((0, 1, 2), dtype=np.int64)
        return self.operand_zero * total

    def details(self) -> list[str]:
        """Formats, geometry, register and requantizer."""
        rows, columns, depth, _ = self.weights.shape
        return [f"{self.operand} x {self.weight_format}", f"kernel {sizes((rows, columns, depth))}",
                f"stride {self.stride}{f' x {self.stride_width}' if self.stride_width else ''}",
                f"padding {', '.join(map(str, self.paddings)) or self.padding}",
                *([f"dilation {self.dilation}"] if self.dilation > 1 else []),
                *([f"{self.groups} groups"] if self.groups > 1 else []),
                *(["bias first"] if self.start is not None else []),
                *([f"plus {self.skip}"] if self.skip else []), str(self.accumulator), self.requant.name]

    def sources(self) -> tuple[str, ...]:
        """The input and, if there is one, the residual."""
        return (self.source, self.skip) if self.skip else (self.source,)

    @property
    def residual(self) -> str:
        """Its `skip`."""
        return self.skip

    @property
    def border(self) -> int:
        """Its padding, the widest."""
        return max(self.window.paddings)

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest partial sum of any channel, whatever the input."""
        low, high = prefix_bounds(self.weights, self.operand)
        if self.start is not None:
            low, high = low + self.start, high + self.start
        return int(low.min()), int(high.max())

    @property
    def safe_bits(self) -> int:
        """The accumulator width that can never overflow."""
        return bits_for(*self.bounds)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.shape[0] * self.shape[1] * self.weights.size

    @property
    def factors(self) -> dict[str, Any]:
        """What it multiplies, for records."""
        return {"operand": str(self.operand), "weight_bits": self.weight_bits, "weights": str(self.weight_format)}

    def check(self, before: Mapping[str, Op]) -> None:
        """Weights that fit, sums that float64 holds, a requantizer for them."""
        if not isinstance(self.accumulator, Accumulator) or not isinstance(self.paddings, tuple):
            raise ProgramError("its accumulator must be an Accumulator and its paddings a tuple")
        check_sizes(self, stride=self.stride, padding=self.padding, groups=self.groups, dilation=self.dilation,
                    stride_width=self.stride_width or self.stride)
        for padding in self.paddings:
            check_sizes(self, padding=padding)
        if len(self.paddings) not in (0, 4) or (self.paddings and self.padding):
            raise ProgramError("its paddings must be top, bottom, left and right, or one padding for all")
        source = read(before, self.source)
        if self.weights.dtype != np.int32 or self.weights.ndim != 4 or self.weights.shape[3] % self.groups:
            raise ProgramError("its weights must be int32 [rows, columns, in channels / groups, channels]")
        if self.weights.shape[2] * self.groups != source.shape[2] or source.format != self.operand \
                or source.zero_point != self.operand_zero:
            raise ProgramError("its weights or operand do not fit its input")
        if self.start is not None and not (isinstance(self.start, np.ndarray) and self.start.dtype == np.int64
                                           and self.start.shape == (self.weights.shape[3],)
                                           and IntFormat(MAX_SUM_BITS, signed=True).contains(self.start)):
            raise ProgramError(f"what its registers start with must be int64 [channels] of at most {MAX_SUM_BITS} bits")
        width = self.weight_format.bits + self.operand.bits + int(self.weights[..., 0].size).bit_length()
        if width > MAX_SUM_BITS + 2 or self.safe_bits > MAX_SUM_BITS:
            raise ProgramError(f"its sums can pass {MAX_SUM_BITS} bits, beyond which float64 is not exact")
        if not is_whole(self.weight_bits) or not 1 <= self.weight_bits <= 32 or not isinstance(self.unit, float) \
                or not 0.0 < self.unit < math.inf:
            raise ProgramError("its weight bits or the unit of its logits make no sense")
        if not self.weight_format.contains(self.weights):
            raise ProgramError(f"its weights do not fit {self.weight_format}")
        check_shape(self, (*self.window.sides(*source.shape[:2]), self.weights.shape[3]))
        if self.skip and (read(before, self.skip).shape != self.shape or self.format is None):
            raise ProgramError(f"its residual {self.skip} has another shape")
        if self.skip and before[self.skip].zero_point:
            raise ProgramError(f"its residual {self.skip} has a zero point that is not 0: add it in an operation of its own")
        if self.skip and reach_of(before[self.skip]) >= 2**31:
            raise ProgramError(f"residuals have 32 bits, those of {self.skip} can have more")
        check_results(self, self.requant)
        self.requant.check(self.shape[2], max(map(abs, self.bounds)) + int(np.abs(self.correction).max(initial=0)))

    def reference(self, *inputs: Any) -> tuple[Any, list[int]]:
        """Every product in order through the register, then the requantizer's rule."""
        sums, overflows = reference.convolve(
            inputs[0], self.weights.tolist(), self.window.steps, self.window.paddings, self.groups,
            self.accumulator.plain, self.operand_zero,
            None if self.start is None else self.start.tolist())
        return reference.requantize(sums, self, inputs[1] if self.skip else None), overflows
