"""Quantized blocks that compute on integer codes: batch statistics in train(), the folded affine of the hardware in eval().

A value travels as `Codes`: integers held in a float tensor, and the real number that one step stands for.  Convolutions
see only the integers, so their float32 sums are exact while they stay below 2^24; a layer that could pass that bound
computes in float64 (contract C2).  In eval() the arithmetic is, operation by operation, that of sim's `fp32`
requantizer (C3), and every code agrees with it (C4).

In train() rows of a usual form run as one operation (fused.py) where its loops can run; the operations of torch in this file
say the same and serve everywhere.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.network import FLOAT_BITS, Activation, AvgPool, Conv, Input, Precision, Requantize, Row, Shape, Shortcut
from training import exact, kernels
from training.fused import NormalizedRow, Rescaled
from training.fused import Row as FusedRow
from training.products import Geometry, Products
from training.quantizers import QUANTIZERS, Quantizer, Scale

EXACT_FLOAT32 = 2**24
BYTE = 2**8 - 1
BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1
_WEIGHTS: ContextVar[torch.Generator | None] = ContextVar("weights", default=None)
"""What first weights are drawn from in this thread; None is torch's generator, which all threads share."""


@contextmanager
def weights_from(generator: torch.Generator) -> Iterator[None]:
    """Within, networks built by this thread draw their first weights from `generator`, whatever other threads draw."""
    token = _WEIGHTS.set(generator)
    try:
        yield
    finally:
        _WEIGHTS.reset(token)


class Codes(NamedTuple):
    """`values` [N, C, H, W]; each stands for value * `scale`; `bound` is the largest magnitude (inf: not integers).

    A scale that is learned is a 0-d float64 tensor and carries a gradient.  `packed` are the same codes as bytes, if
    somebody made them; then `values` may be bfloat16, and are there for the gradient.
    """

    values: Tensor
    scale: Scale
    bound: float
    packed: Tensor | None = None


class Norm(nn.Module):
    """Parameters and running statistics of a batch norm, in real units whatever the scale of the codes."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.tracks = True

    def reset_statistics(self) -> None:
        """Forget the running statistics."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)

    def forward(self, sums: Tensor, scale: float, step: Scale) -> Tensor:
        """Normalize `sums` * `scale` by batch statistics; the result is in units of `step`.

        Batch norm of scale * s with eps is batch norm of s with eps / scale^2: the scale costs no pass over the tensor, and
        no gradient, as the result does not depend on it but for eps.  The running statistics follow if `tracks` is set.
        """
        weight, bias = (self.weight / step).float(), (self.bias / step).float()
        if not scale:  # weights that are all 0 have no variance to normalize by
            return sums * 0.0 + bias.view(1, -1, 1, 1)
        eps = BATCH_NORM_EPS / scale**2
        if not self.tracks:
            return F.batch_norm(sums, None, None, weight, bias, True, BATCH_NORM_MOMENTUM, eps)
        mean, var = self.running_mean / scale, self.running_var / scale**2
        out = F.batch_norm(sums, mean, var, weight, bias, True, BATCH_NORM_MOMENTUM, eps)
        self.running_mean.copy_(mean * scale)
        self.running_var.copy_(var * scale**2)
        return out


class Activate(nn.Module):
    """The end of every row: ReLU, or codes of the row's activation format.

    `bits` may be changed for a forward pass (SPEQ's teacher); what the quantizer learned stays.
    """

    def __init__(self, activation: Activation, bits: int, quantizer: Quantizer, features: int) -> None:
        super().__init__()
        self.role, self.limit, self.features = activation.role, activation.limit, features
        self.bits = bits
        self.quantizer = quantizer
        for name, shape in quantizer.activation_parameters().items():
            self.register_parameter(name, nn.Parameter(torch.full(shape, activation.limit)))
        self.learned = tuple(quantizer.activation_parameters())

    @property
    def is_float(self) -> bool:
        """Whether there are no codes."""
        return self.bits == FLOAT_BITS

    @property
    def levels(self) -> float:
        """The largest code, or inf."""
        return float("inf") if self.is_float else 2**self.bits - 1

    def can_fuse(self, x: Codes) -> bool:
        """Whether a row that reads `x` and ends like this may run as one operation."""
        is_usual = self.levels <= BYTE and type(self.quantizer).activation is Quantizer.activation
        is_plain = x.values.device.type == "cpu" and x.values.dtype in (torch.float32, torch.bfloat16)
        return is_usual and is_plain and not torch.is_autocast_enabled("cpu") and kernels.is_available()

    def taught(self, step: Scale) -> Tensor | None:
        """The step if its quantizer wants the rounding error's gradient for it."""
        return step if self.quantizer.error_teaches_scale and isinstance(step, Tensor) else None

    def step(self) -> Scale:
        """What one code stands for."""
        if self.is_float:
            return 1.0
        learned = {name: getattr(self, name) for name in self.learned}
        return self.quantizer.activation_scale(self.bits, self.limit, learned, self.features)

    def forward(self, steps: Tensor, step: Scale) -> Codes:
        """Values in units of `step` -> codes."""
        if self.is_float:
            return Codes(F.relu(steps), 1.0, float("inf"))
        return Codes(self.quantizer.activation(steps, self.bits, step), step, self.levels)

    def codes(self, values: Tensor, packed: Tensor, step: Scale) -> Codes:
        """What a fused row found."""
        return Codes(values, step, self.levels, packed if packed.numel() else None)


class InputLayer(nn.Module):
    """uint8 pixels -> normalized values, as signed codes of the boundary width (ARITHMETIC.md, equation 5)."""

    gain: Tensor
    offset: Tensor

    def __init__(self, row: Input, precision: Precision) -> None:
        super().__init__()
        bits = precision.bits("boundary", row.name)
        mean = torch.tensor(row.mean, dtype=torch.float64)
        std = torch.tensor(row.std, dtype=torch.float64)
        self.bound = float("inf") if bits == FLOAT_BITS else 2 ** (bits - 1) - 1
        largest = float((torch.maximum(mean.abs(), (1.0 - mean).abs()) / std).max())
        self.scale = 1.0 if bits == FLOAT_BITS else largest / self.bound
        self.register_buffer("gain", (1.0 / (255.0 * std * self.scale)).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("offset", (-mean / (std * self.scale)).float().view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Codes:
        """[N, C, H, W] pixel values 0 .. 255, uint8 or float32."""
        steps = pixels.float() * self.gain
        steps = steps + self.offset
        if self.bound != float("inf"):
            steps = steps.round().clamp(-self.bound, self.bound)
        return Codes(steps, self.scale, self.bound)


class ConvLayer(nn.Module):
    """Convolution on codes, batch norm, residual, activation."""

    def __init__(self, row: Conv, shapes: Mapping[str, Shape], precision: Precision, quantizer: Quantizer) -> None:
        super().__init__()
        self.row, self.quantizer = row, quantizer
        self.bits = precision.bits(row.role, row.name)
        arrays = row.array_shapes(shapes[row.source][2])
        self.weight = nn.Parameter(torch.empty(arrays["weight"]))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu", generator=_WEIGHTS.get())
        self.bias = nn.Parameter(torch.zeros(row.channels)) if row.bias else None
        self.norm = Norm(row.channels) if row.norm else None
        self.activate = _activate(row, shapes, precision, quantizer)
        self.products = self.weight[0].numel()
        for name, shape in quantizer.weight_parameters(row.channels).items():
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))
        self.learned = tuple(quantizer.weight_parameters(row.channels))
        self.geometry = Geometry(row.stride, row.padding, row.groups)
        self.gradients = torch.float32

    def weight_codes(self) -> tuple[Tensor, Scale]:
        """The weights as the hardware holds them; float weights have scale 1."""
        if self.bits == FLOAT_BITS:
            return self.weight, 1.0
        return self.quantizer.weight(self.weight, self.bits, {name: getattr(self, name) for name in self.learned})

    def sums(self, x: Codes, weight: Tensor) -> Tensor:
        """The accumulators: exact integers where both operands are codes."""
        if self._exceeds_float32(x, weight):
            return F.conv2d(x.values.double(), weight.double(), None, *self.geometry[:2], 1, self.geometry.groups)
        if self.training:
            sums: Tensor = Products.apply(
                x.values, weight, x.packed, self.geometry, self._bounds(x), self.gradients)
            return sums
        return F.conv2d(x.values.to(weight.dtype), weight, None, *self.geometry[:2], 1, self.geometry.groups)

    def folded(self, x_scale: Scale, weight_scale: Scale, skip_scale: Scale | None,
               step: Scale) -> tuple[Tensor, Tensor, Scale | None]:
        """Gain and offset per channel and gain of the residual, computed in float64 (ARITHMETIC.md, equation 6)."""
        scale = x_scale * torch.as_tensor(weight_scale, dtype=torch.float64)
        if self.norm is None:
            bias = self.bias.double() if self.bias is not None else self.weight.new_zeros(self.row.channels).double()
            gain, offset = (scale / step).expand_as(bias), bias / step
        else:
            inverse = self.norm.weight.double() / exact.sqrt(self.norm.running_var.double() + BATCH_NORM_EPS)
            gain = scale * inverse / step
            offset = (self.norm.bias.double() - self.norm.running_mean.double() * inverse) / step
        return gain, offset, None if skip_scale is None else skip_scale / step

    def forward(self, x: Codes, skip: Codes | None = None) -> Codes:
        """Codes in, codes out; without an activation the float32 logits, scale 1."""
        weight, weight_scale = self.weight_codes()
        step = self.activate.step() if self.activate else 1.0
        if self.training and self._can_fuse(x, weight, weight_scale, skip):
            return self._fused(x, weight, _number(x.scale) * _number(weight_scale), skip, step)
        sums = self.sums(x, weight).float()
        steps = self._batch_statistics(sums, x.scale, weight_scale, skip, step) if self.training else \
            self._folded_affine(sums, x.scale, weight_scale, skip, step)
        return self.activate(steps, step) if self.activate else Codes(steps, 1.0, float("inf"))

    def _can_fuse(self, x: Codes, weight: Tensor, weight_scale: Scale, skip: Codes | None) -> bool:
        """Whether this row is of the form that fused.NormalizedRow computes."""
        if self.norm is None or self.activate is None or not self.activate.can_fuse(x) or self._exceeds_float32(x, weight):
            return False
        if skip is not None and skip.packed is None:
            return False
        tensors = (weight, self.norm.weight, self.norm.bias, self.norm.running_mean, self.norm.running_var)
        if any(t.dtype != torch.float32 or (t.ndim == 1 and not t.is_contiguous()) for t in tensors):
            return False
        has_one_scale = not isinstance(weight_scale, Tensor) or weight_scale.ndim == 0
        return has_one_scale and _number(weight_scale) > 0.0 and len(x.values) > 1

    def _fused(self, x: Codes, weight: Tensor, scale: float, skip: Codes | None, step: Scale) -> Codes:
        norm, activate = self.norm, self.activate
        assert norm is not None
        assert activate is not None
        running = (norm.running_mean, norm.running_var) if norm.tracks else None
        row = FusedRow(self.geometry, self._bounds(x), int(activate.levels), BATCH_NORM_EPS / scale**2, self.gradients,
                       scale, running, BATCH_NORM_MOMENTUM)
        residual: tuple[Tensor | None, ...] = (None, None, None)
        if skip is not None:
            residual = skip.values, skip.packed, torch.as_tensor(skip.scale / step, dtype=torch.float64)
        values, packed = NormalizedRow.apply(
            x.values, x.packed, weight, (norm.weight / step).float(), (norm.bias / step).float(), *residual,
            activate.taught(step), row)
        return activate.codes(values, packed, step)

    def _bounds(self, x: Codes) -> tuple[float, float]:
        """Largest magnitudes of what is multiplied."""
        return x.bound, float("inf") if self.bits == FLOAT_BITS else self.quantizer.weight_bound(self.bits)

    def _batch_statistics(self, sums: Tensor, x_scale: Scale, weight_scale: Scale, skip: Codes | None,
                          step: Scale) -> Tensor:
        if isinstance(weight_scale, Tensor) and weight_scale.ndim:  # channels on scales of their own
            sums, weight_scale = sums * weight_scale.float().view(1, -1, 1, 1), 1.0
        if self.norm is not None:
            steps = self.norm(sums, _number(x_scale) * _number(weight_scale), step)
        else:
            steps = sums * _multiplier(x_scale * weight_scale / step)
            if self.bias is not None:
                steps = steps + (self.bias / step).float().view(1, -1, 1, 1)
        return steps if skip is None else _add_residual(steps, skip, step)

    def _folded_affine(self, sums: Tensor, x_scale: Scale, weight_scale: Scale, skip: Codes | None, step: Scale) -> Tensor:
        gain, offset, skip_gain = self.folded(x_scale, weight_scale, None if skip is None else skip.scale, step)
        # Three statements, three roundings: nothing here may be fused into a multiply-add (C3).
        steps = sums * gain.float().view(1, -1, 1, 1)
        steps = steps + offset.float().view(1, -1, 1, 1)
        if skip is not None:
            residual = skip.values.float() * torch.as_tensor(skip_gain, dtype=torch.float32, device=sums.device)
            steps = steps + residual
        return steps

    def _exceeds_float32(self, x: Codes, weight: Tensor) -> bool:
        if x.bound == float("inf") or self.bits == FLOAT_BITS:
            return False
        if self.products * self.quantizer.weight_bound(self.bits) * x.bound < EXACT_FLOAT32:
            return False
        return float(weight.detach().double().abs().sum((1, 2, 3)).max()) * x.bound >= EXACT_FLOAT32


class RescaleLayer(nn.Module):
    """Rows without weights: requantize, or sum over windows and requantize (average pooling)."""

    def __init__(self, row: Requantize | AvgPool, shapes: Mapping[str, Shape], precision: Precision,
                 quantizer: Quantizer) -> None:
        super().__init__()
        self.row = row
        activate = _activate(row, shapes, precision, quantizer)
        assert activate is not None
        self.activate = activate
        self.gradients = torch.float32

    def forward(self, x: Codes) -> Codes:
        """Equation 7 with the number of codes in a window as divisor."""
        if self.training and isinstance(self.row, Requantize) and x.packed is not None and self.activate.can_fuse(x):
            return self._fused(x, x.packed)
        area = 1
        values = x.values.float()
        if isinstance(self.row, AvgPool):
            area = math.prod(self.row.window)
            if x.bound != float("inf") and area * x.bound >= EXACT_FLOAT32:
                values = values.double()
            values = F.pad(values, (self.row.padding,) * 4)  # avg_pool2d itself allows no padding beyond half a window
            values = F.avg_pool2d(values, self.row.window, self.row.stride, divisor_override=1).float()
        step = self.activate.step()
        gain = torch.as_tensor(x.scale / (area * step), device=values.device).float()
        return self.activate(values * gain, step)

    def _fused(self, x: Codes, packed: Tensor) -> Codes:
        step = self.activate.step()
        gain = torch.as_tensor(x.scale / step, dtype=torch.float64)
        values, codes = Rescaled.apply(
            x.values, packed, gain, self.activate.taught(step), int(self.activate.levels), self.gradients)
        return self.activate.codes(values, codes, step)


class ShortcutLayer(nn.Module):
    """Every stride-th pixel, zero codes in the added channels."""

    def __init__(self, row: Shortcut) -> None:
        super().__init__()
        self.row = row

    def forward(self, x: Codes) -> Codes:
        """The codes are copied, never changed."""
        return x._replace(values=self._copy(x.values), packed=None if x.packed is None else self._copy(x.packed))

    def _copy(self, values: Tensor) -> Tensor:
        values = values[:, :, :: self.row.stride, :: self.row.stride]
        added = self.row.channels - values.shape[1]
        return F.pad(values, (0, 0, 0, 0, added // 2, added - added // 2))


def build_layer(row: Row, shapes: Mapping[str, Shape], precision: Precision, quantizer_name: str) -> nn.Module:
    """The module that computes one row; `shapes` are those of all rows."""
    quantizer = QUANTIZERS[quantizer_name]
    match row:
        case Input():
            return InputLayer(row, precision)
        case Conv():
            return ConvLayer(row, shapes, precision, quantizer)
        case Requantize() | AvgPool():
            return RescaleLayer(row, shapes, precision, quantizer)
        case Shortcut():
            return ShortcutLayer(row)
    raise TypeError(f"no layer for {type(row).__name__}")


def _activate(row: Conv | Requantize | AvgPool, shapes: Mapping[str, Shape], precision: Precision,
              quantizer: Quantizer) -> Activate | None:
    if row.activation is None:
        return None
    bits = precision.bits(row.activation.role, row.name)
    return Activate(row.activation, bits, quantizer, math.prod(shapes[row.name]))


def _number(scale: Scale) -> float:
    return float(scale.detach()) if isinstance(scale, Tensor) else scale


def _multiplier(scale: Scale) -> Scale:
    return scale.float() if isinstance(scale, Tensor) else scale


def _add_residual(steps: Tensor, skip: Codes, step: Scale) -> Tensor:
    gain = skip.scale / step
    if isinstance(gain, Tensor):
        return steps + skip.values.float() * gain.float()
    return torch.add(steps, skip.values.float(), alpha=gain)
