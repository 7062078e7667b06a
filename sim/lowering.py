"""Lowering: a trained network and a piece of hardware become an integer program."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.accumulator import prefix_bounds
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.network import Activation, AvgPool, Conv, Input, NetworkSpec, Requantize, Row, Shortcut
from sim.program import ConvOp, InputOp, Op, PoolOp, Program, ProgramError, ShortcutOp, TableOp
from sim.quantizers import QUANTIZERS, Quantizer, QuantizerError
from sim.requantizers import REQUANTIZERS, Affine
from sim.requantizers.requantizer import RequantizeError

BATCH_NORM_EPS = 1e-5


class LowerError(ValueError):
    """A network that this hardware cannot run, which row, and why."""


def lower(spec: NetworkSpec, hardware: HardwareSpec | None = None) -> Program:
    """The integer program of `spec`, at its precision, on `hardware` (default: unlimited accumulators, fp32).

    A network of one layer, on images of 4x6 gray pixels, with 8-bit weights:

    >>> import numpy as np
    >>> from sim.network import Conv, Graph, Input, NetworkSpec, Precision
    >>> image = Input("image", height=4, width=6, channels=1, mean=(0.5,), std=(0.5,))
    >>> layer = Conv("logits", "image", channels=3, kernel=4, stride=4, role="boundary", norm=False)
    >>> graph = Graph((image, layer))
    >>> weights = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 1, 4, 4)
    >>> spec = NetworkSpec(graph, {"logits.weight": weights}, Precision(8), "dorefa")
    >>> lower(spec, HardwareSpec())
    <Program: 4x6x1 u8 pixels -> 3 logits, 2 operations, 48 MACs, weights 8 bits, codes 8 bits, fp32>

    `load_checkpoint("ckpt.pt").spec` is the spec of a trained network.  Raises LowerError for what this hardware cannot
    run, and for anything that is no spec.
    """
    hardware = HardwareSpec() if hardware is None else hardware
    for what, value, wanted in (("spec", spec, NetworkSpec), ("hardware", hardware, HardwareSpec)):
        if not isinstance(value, wanted):
            hint = ", take its .spec" if isinstance(getattr(value, "spec", None), NetworkSpec) else ""
            raise LowerError(f"{what}: a {wanted.__name__} is wanted, not a {type(value).__name__}{hint}")
    if not spec.precision.is_integer:
        raise LowerError(f"a network with float layers ({spec.precision}) has no integer program: choose its bits")
    if spec.quantizer not in QUANTIZERS:
        raise LowerError(f"quantizer {spec.quantizer!r} is unknown, choose one of {', '.join(QUANTIZERS)}")
    lowering = _Lowering(spec, hardware)
    for row in spec.graph.rows:
        try:
            lowering.add(row)
        except (RequantizeError, ProgramError, QuantizerError) as error:
            raise LowerError(f"{row.name}: {error}") from None
    return Program(tuple(lowering.ops.values()))


def input_scale(row: Input, bits: int) -> float:
    """The real number one input code stands for: the largest normalized pixel is the largest code."""
    mean, std = np.array(row.mean), np.array(row.std)
    largest = float((np.maximum(np.abs(mean), np.abs(1.0 - mean)) / std).max())
    return largest / (2 ** (bits - 1) - 1)


class _Lowering:
    """One pass over the rows; remembers the scale of every operation."""

    def __init__(self, spec: NetworkSpec, hardware: HardwareSpec) -> None:
        self.spec, self.hardware = spec, hardware
        self.quantizer: Quantizer = QUANTIZERS[spec.quantizer]
        self.requantizer = REQUANTIZERS[hardware.requant]
        self.shapes = spec.graph.shapes()
        self.ops: dict[str, Op] = {}
        self.scales: dict[str, float] = {}

    def add(self, row: Row) -> None:
        """Lower one row."""
        self.ops[row.name], self.scales[row.name] = _LOWERINGS[type(row)](self, row)

    def activation(self, row: Row, activation: Activation) -> tuple[IntFormat, float]:
        """Format and scale of a row's output."""
        bits = self.spec.precision.bits(activation.role, row.name)
        learned = self.spec.learned(row, self.quantizer.activation_parameters(), "activate.")
        return IntFormat(bits, signed=False), self.quantizer.activation_scale(bits, activation.limit, learned)

    def format_of(self, name: str) -> IntFormat:
        """Format of an earlier operation's codes."""
        found = self.ops[name].format
        assert found is not None
        return found

    def input(self, row: Input) -> tuple[Op, float]:
        """Equation 5, for each of the 256 pixel values."""
        bits = self.spec.precision.bits("boundary", row.name)
        scale = input_scale(row, bits)
        mean, std = np.array(row.mean), np.array(row.std)
        gain = (1.0 / (255.0 * std * scale)).astype(np.float32)
        offset = (-mean / (std * scale)).astype(np.float32)
        steps = np.arange(256, dtype=np.float32) * gain[:, None]
        steps = steps + offset[:, None]
        form = IntFormat(bits, signed=True)
        table = np.clip(np.rint(steps), -form.max, form.max).astype(form.dtype)
        return InputOp(row.name, "", self.shapes[row.name], form, table), scale

    def conv(self, row: Conv) -> tuple[Op, float]:
        """Equation 6: scales, batch norm and bias fold into one affine per channel, in float64."""
        bits = self.spec.precision.bits(row.role, row.name)
        self.quantizer.check(bits)
        learned = self.spec.learned(row, self.quantizer.weight_parameters(row.channels))
        codes, weight_scale = self.quantizer.weight_codes(self.spec.array(row, "weight"), bits, learned)
        weights = np.ascontiguousarray(codes.transpose(2, 3, 1, 0))
        operand = self.format_of(row.source)
        form, step = (None, 1.0) if row.activation is None else self.activation(row, row.activation)
        gain, offset = self._folded(row, self.scales[row.source] * weight_scale, step)
        skip_gain = self.scales[row.skip] / step if row.skip else None
        low, high = prefix_bounds(weights, operand)
        skip_max = self.format_of(row.skip).max if row.skip else 0
        affine = Affine(gain, offset, skip_gain, (int(low.min()), int(high.max())), skip_max)
        if form is None:
            requant, unit = self.requantizer.build_logits(affine)
        else:
            requant, unit = self.requantizer.build(affine, form), 1.0
        return ConvOp(
            row.name, row.source, self.shapes[row.name], form, skip=row.skip, weights=weights, stride=row.stride,
            padding=row.padding, groups=row.groups, operand=operand, weight_format=self.quantizer.weight_format(bits),
            weight_bits=bits, accumulator=self.hardware.accumulator_of(row.role), requant=requant, unit=unit), step

    def _folded(self, row: Conv, scale: np.ndarray | float, step: float) -> tuple[np.ndarray, np.ndarray]:
        if not row.norm:
            bias = self.spec.array(row, "bias").astype(np.float64) if row.bias else np.zeros(row.channels)
            return np.full(row.channels, 1.0) * (scale / step), bias / step
        gamma, beta, mean, var = (self.spec.array(row, f"norm.{name}").astype(np.float64)
                                  for name in ("weight", "bias", "running_mean", "running_var"))
        inverse = gamma / np.sqrt(var + BATCH_NORM_EPS)
        return scale * inverse / step, (beta - mean * inverse) / step

    def requantize(self, row: Requantize) -> tuple[Op, float]:
        """Equation 7, for every code of the input."""
        source = self.format_of(row.source)
        form, step = self.activation(row, row.activation)
        affine = Affine(np.array([self.scales[row.source] / step]), np.zeros(1), None, (0, source.max))
        every = np.arange(source.max + 1, dtype=np.int64).reshape(1, 1, -1, 1)
        table = self.requantizer.build(affine, form).codes(every, None, form).ravel()
        return TableOp(row.name, row.source, self.shapes[row.name], form, table), step

    def shortcut(self, row: Shortcut) -> tuple[Op, float]:
        """Codes are copied, so format and scale stay."""
        return (ShortcutOp(row.name, row.source, self.shapes[row.name], self.format_of(row.source), row.stride),
                self.scales[row.source])

    def avgpool(self, row: AvgPool) -> tuple[Op, float]:
        """Equation 7 with the number of codes in a window as divisor."""
        rows, columns = row.window
        channels = self.shapes[row.name][2]
        form, step = self.activation(row, row.activation)
        gain = self.scales[row.source] / (rows * columns * step)
        affine = Affine(np.full(channels, gain), np.zeros(channels), None,
                        (0, rows * columns * self.format_of(row.source).max))
        requant = self.requantizer.build(affine, form)
        return PoolOp(row.name, row.source, self.shapes[row.name], form, row.kernel, row.stride, row.padding,
                      requant, row.kernel_width), step


_LOWERINGS: Mapping[type[Row], Callable[[_Lowering, Any], tuple[Op, float]]] = {
    Input: _Lowering.input, Conv: _Lowering.conv, Requantize: _Lowering.requantize,
    Shortcut: _Lowering.shortcut, AvgPool: _Lowering.avgpool}
