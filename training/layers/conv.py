"""Convolution on codes, batch norm, residual, activation."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.formats import EXACT_FLOAT32
from sim.network import FLOAT_BITS, Conv
from training import exact
from training.fused import NormalizedRow
from training.fused import Row as FusedRow
from training.layers.codes import Codes, add_residual, first_weights, is_one, multiplier, number
from training.layers.layer import Context, Layer
from training.layers.norm import BATCH_NORM_MOMENTUM, Norm
from training.layers.register import convolution, through_register
from training.products import Geometry, Products, dense, leaves_out
from training.quantizers import Scale

WIDE_HEAD, WIDE_HEAD_DEVIATION = 512, 0.01
"""Logits of so many products begin small, as in torchvision: else their first losses are beyond what a step may be."""


class ConvLayer(Layer):
    """Convolution on codes, batch norm, residual, activation."""

    accumulates = True

    def __init__(self, row: Conv, context: Context) -> None:
        super().__init__(row, context)
        self.quantizer = context.quantizer
        self.bits = context.weight_bits(row)
        arrays = row.array_shapes(context.shapes)
        self.weight = nn.Parameter(torch.empty(arrays["weight"]))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu", generator=first_weights())
        if row.activation is None and self.weight[0].numel() > WIDE_HEAD:
            nn.init.normal_(self.weight, 0.0, WIDE_HEAD_DEVIATION, generator=first_weights())
        self.bias = nn.Parameter(torch.zeros(row.channels)) if row.bias else None
        self.norm = Norm(row.channels, row.eps) if row.norm else None
        self.products = self.weight[0].numel()
        for name, shape in self.quantizer.weight_parameters(row.channels).items():
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))
        self.learned = tuple(self.quantizer.weight_parameters(row.channels))
        self.window = None if row.window.is_plain else row.window
        self.geometry = Geometry(row.stride, row.padding, row.groups)

    @torch.no_grad()
    def calibrate_weights(self, method: str) -> None:
        """From the weights themselves."""
        if self.bits != FLOAT_BITS:
            for name, value in self.quantizer.start_weight(self.weight, self.bits, method).items():
                getattr(self, name).copy_(value)

    def weight_codes(self) -> tuple[Tensor, Scale]:
        """The weights as the hardware holds them; float weights have scale 1."""
        if self.bits == FLOAT_BITS:
            return self.weight, 1.0
        return self.quantizer.weight(self.weight, self.bits, {name: getattr(self, name) for name in self.learned})

    def sums(self, x: Codes, weight: Tensor) -> Tensor:
        """The accumulators: exact integers where both operands are codes, or what a register makes of them."""
        exact = self._exact_sums(x, weight)
        if self.register is None or self.bits == FLOAT_BITS or not math.isfinite(x.bound):
            return exact
        return through_register(exact, convolution(self.row, weight, exact.shape, x, self.register), [x])

    def _exact_sums(self, x: Codes, weight: Tensor) -> Tensor:
        if self._exceeds_float32(x, weight):
            return self._products(x.values.double(), weight.double())
        if self.training and self.window is None:
            sums: Tensor = Products.apply(
                x.values, weight, x.packed, self.geometry, self._bounds(x), self.gradients)
            return sums
        return self._products(x.values.to(weight.dtype), weight)

    def _products(self, values: Tensor, weight: Tensor) -> Tensor:
        if self.window is None:
            values, geometry = dense(values, weight, self.geometry)
            return F.conv2d(values, weight, None, *geometry[:2], 1, geometry.groups)
        top, bottom, left, right = self.window.paddings
        values, strides = F.pad(values, (left, right, top, bottom)), self.window.strides
        if leaves_out(weight, strides):  # as `dense` does
            values, strides = values[:, :, ::strides[0], ::strides[1]], (1, 1)
        return F.conv2d(values, weight, None, strides, 0, self.window.dilation, self.geometry.groups)

    def folded(self, x_scale: Scale, weight_scale: Scale, skip_scale: Scale | None,
               step: Scale) -> tuple[Tensor, Tensor, Scale | None]:
        """Gain and offset per channel and gain of the residual, computed in float64 (ARITHMETIC.md, equation 6)."""
        scale = x_scale * torch.as_tensor(weight_scale, dtype=torch.float64)
        if self.norm is None:
            bias = self.bias.double() if self.bias is not None else self.weight.new_zeros(self.row.channels).double()
            gain, offset = (scale / step).expand_as(bias), bias / step
        else:
            inverse = self.norm.weight.double() / exact.sqrt(self.norm.running_var.double() + self.norm.eps)
            gain = scale * inverse / step
            offset = (self.norm.bias.double() - self.norm.running_mean.double() * inverse) / step
        return gain, offset, None if skip_scale is None else skip_scale / step

    def forward(self, x: Codes, skip: Codes | None = None) -> Codes:
        """Codes in, codes out; without an activation the float32 logits, scale 1."""
        weight, weight_scale = self.weight_codes()
        step = self.activate.step() if self.activate else 1.0
        if self.training and self._can_fuse(x, weight, weight_scale, skip):
            return self._fused(x, weight, number(x.scale) * number(weight_scale), skip, step)
        sums = self.sums(x, weight).float()
        steps = self._batch_statistics(sums, x.scale, weight_scale, skip, step) if self.training else \
            self._folded_affine(sums, x.scale, weight_scale, skip, step)
        return self.activate(steps, step) if self.activate else Codes(steps, 1.0, float("inf"))

    def _can_fuse(self, x: Codes, weight: Tensor, weight_scale: Scale, skip: Codes | None) -> bool:
        """Whether this row is of the form that fused.NormalizedRow computes."""
        if self.window is not None or self.register is not None:
            return False
        if self.norm is None or self.activate is None or not self.activate.can_fuse(x) or self._exceeds_float32(x, weight):
            return False
        if skip is not None and skip.packed is None:
            return False
        tensors = (weight, self.norm.weight, self.norm.bias, self.norm.running_mean, self.norm.running_var)
        if any(t.dtype != torch.float32 or (t.ndim == 1 and not t.is_contiguous()) for t in tensors):
            return False
        has_one_scale = not isinstance(weight_scale, Tensor) or weight_scale.ndim == 0
        return has_one_scale and number(weight_scale) > 0.0 and len(x.values) > 1

    def _fused(self, x: Codes, weight: Tensor, scale: float, skip: Codes | None, step: Scale) -> Codes:
        norm, activate = self.norm, self.activate
        assert norm is not None
        assert activate is not None
        running = (norm.running_mean, norm.running_var) if norm.tracks else None
        row = FusedRow(self.geometry, self._bounds(x), int(activate.levels), norm.eps / scale**2, self.gradients,
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
            steps = self.norm(sums, number(x_scale) * number(weight_scale), step)
        else:
            gain = x_scale * weight_scale / step
            steps = sums if is_one(gain) else sums * multiplier(gain)
            if self.bias is not None:
                steps = steps + (self.bias / step).float().view(1, -1, 1, 1)
        return steps if skip is None else add_residual(steps, skip, step)

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
