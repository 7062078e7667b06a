"""What lies between two convolutions, as one operation with a gradient of its own: the fast way through a training step.

    steps  = (sums - mean) / sqrt(var + eps) * weight + bias (+ residual * its gain),  statistics of the batch
    codes = round(clip(steps, 0, levels))

The gradient passes inside the clip, limits included, and straight through the rounding; layers.py says the same in torch's
own operations, which run where these loops do not.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training import products
from training.kernels import (
    BLOCK,
    SPAN,
    Kinds,
    differentiate,
    finish,
    moments,
    normalize,
    normalize_back,
    reduce,
    rescale,
    rescale_back,
)
from training.products import Geometry

_CHANNELS_LAST = torch.channels_last
_NOTHING = torch.empty(0, dtype=torch.uint8)


@dataclass(frozen=True)
class Row:
    """What a row with weights is, beside its tensors."""

    geometry: Geometry
    bounds: tuple[float, float]
    levels: int
    eps: float
    gradients: torch.dtype
    scale: float
    """The real number that one unit of the sums stands for."""
    running: tuple[Tensor, Tensor] | None
    """Running mean and variance of the real numbers [C], if they follow this batch."""
    momentum: float


class NormalizedRow(torch.autograd.Function):
    """Convolution, batch norm, residual, clip, rounding."""

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd sees tensors, not objects
                ctx: Any, values: Tensor, packed: Tensor | None, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor,
                skip: Tensor | None, skip_packed: Tensor | None, skip_gain: Tensor | None, step: Tensor | None,
                row: Row) -> tuple[Tensor, Tensor]:
        """(codes [N, C, H, W], the same as bytes, or none of these where batch norm found no numbers).

        `norm_weight` and `norm_bias` [C] are in units of a code; `skip_gain` and `step` are 0-d float64, and `step` is
        given only if the quantizer teaches it by the rounding error alone (PACT).
        """
        sums = products.sums(values, packed, weight, row.geometry, row.bounds).contiguous(memory_format=_CHANNELS_LAST)
        layout = _layout(*sums.shape)
        total, (gains, offsets), saved = layout.partial(2), layout.spans(2), layout.channel_values(3)
        moments(layout.blocks, layout.shape, sums, total)
        found = torch.empty(1, dtype=torch.int64)
        mean, variance = (_NOTHING, _NOTHING) if row.running is None else row.running
        numbers = torch.tensor([layout.pixels, row.eps, row.scale, 0.0 if row.running is None else row.momentum],
                               dtype=torch.float64)
        normalize(1, layout.shape, total, norm_weight, norm_bias, numbers, mean, variance, gains, offsets, saved, found)
        limits = torch.tensor([row.levels, 0.0 if skip_gain is None else float(skip_gain)], dtype=torch.float32)
        residue = _NOTHING if skip_packed is None else skip_packed.contiguous(memory_format=_CHANNELS_LAST)
        out, codes = torch.empty_like(sums, dtype=row.gradients), torch.empty_like(sums, dtype=torch.uint8)
        finish(_kinds(row.gradients, has_skip=skip is not None))(
            layout.blocks, layout.shape, sums, gains, offsets, limits, residue, out, codes)
        ctx.save_for_backward(values, weight, sums, saved, gains, offsets, limits, residue, step)
        ctx.row = row
        return _results(ctx, out, codes, bool(found) and bool(torch.isfinite(limits).all()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        """Of values, weight, both parameters of the norm, residual, its gain and the step."""
        values, weight, sums, saved, gains, offsets, limits, residue, step = ctx.saved_tensors
        row: Row = ctx.row
        if upstream[0] is None:
            return (None,) * 10
        gradient = upstream[0].to(row.gradients).contiguous(memory_format=_CHANNELS_LAST)
        needs = ctx.needs_input_grad
        learns = bool(needs[7] or needs[8])
        kinds, layout = _kinds(row.gradients, residue.numel() > 0, learns), _layout(*sums.shape)
        total = layout.partial(4)
        common = (layout.shape, sums, gains, offsets, limits, residue, gradient)
        reduce(kinds)(layout.blocks, *common, total)
        slopes, shifts = layout.spans(2)
        to_norm_weight, to_norm_bias = torch.empty(2, layout.channels, dtype=torch.float32)
        extra, pixels = torch.empty(2, dtype=torch.float64), torch.tensor([layout.pixels], dtype=torch.float64)
        normalize_back(1, layout.shape, total, saved, pixels, slopes, shifts, to_norm_weight, to_norm_bias, extra)
        to_sums = torch.empty_like(sums, dtype=row.gradients)
        to_skip = torch.empty_like(to_sums) if kinds.has_skip else _NOTHING
        differentiate(kinds)(layout.blocks, *common, slopes, shifts, to_sums, to_skip)
        to_values, to_weight = products.gradients(to_sums, values, weight, row.geometry, (needs[0], needs[2]))
        return (to_values, None, to_weight, to_norm_weight, to_norm_bias, to_skip if needs[5] else None, None,
                extra[0] if needs[7] else None, extra[1] / step if needs[8] else None, None)


class Rescaled(torch.autograd.Function):
    """Codes of one step -> codes of another."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, packed: Tensor, gain: Tensor, step: Tensor | None, levels: int,
                gradients: torch.dtype) -> tuple[Tensor, Tensor]:
        """round(clip(codes * gain, 0, levels)), the same as bytes; `gain` and `step` as in NormalizedRow."""
        packed = packed.contiguous(memory_format=_CHANNELS_LAST)
        layout = _layout(*packed.shape)
        limits = torch.tensor([levels, float(gain)], dtype=torch.float32)
        out, codes = torch.empty_like(packed, dtype=gradients), torch.empty_like(packed)
        rescale(_kinds(gradients))(layout.blocks, layout.shape, packed, limits, out, codes)
        ctx.save_for_backward(packed, limits, step)
        ctx.gradients = gradients
        return _results(ctx, out, codes, bool(torch.isfinite(limits).all()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        """Of values, gain and step."""
        packed, limits, step = ctx.saved_tensors
        layout = _layout(*packed.shape)
        if upstream[0] is None:
            return (None,) * 6
        gradient = upstream[0].to(ctx.gradients).contiguous(memory_format=_CHANNELS_LAST)
        result, total = torch.empty_like(gradient), torch.empty(layout.blocks, 2, dtype=torch.float64)
        learns = bool(ctx.needs_input_grad[2] or ctx.needs_input_grad[3])
        loop = rescale_back(_kinds(ctx.gradients, learns=learns))
        loop(layout.blocks, layout.shape, packed, limits, gradient, result, total)
        times_code, times_error = total.sum(0)
        return (result, None, times_code if ctx.needs_input_grad[2] else None,
                times_error / step if ctx.needs_input_grad[3] else None, None, None)


def _results(ctx: Any, values: Tensor, codes: Tensor, are_numbers: bool) -> tuple[Tensor, Tensor]:
    """Values, and their bytes unless these would hide from the loss that the values are no numbers."""
    codes = codes if are_numbers else codes[:0]
    ctx.mark_non_differentiable(codes)
    ctx.set_materialize_grads(False)
    return values, codes


def _kinds(gradients: torch.dtype, has_skip: bool = False, learns: bool = False) -> Kinds:
    """Of the loops of a row."""
    return Kinds(gradients is torch.bfloat16, has_skip, learns)


class _Layout:
    """How a tensor [N, C, H, W] in channels-last order is cut into blocks."""

    def __init__(self, images: int, channels: int, height: int, width: int) -> None:
        self.channels, self.pixels = channels, images * height * width
        self.repeat = max(1, SPAN // self.channels)
        span = self.repeat * self.channels
        size = span * max(1, BLOCK // span)
        self.blocks = -(-self.pixels * self.channels // size)
        self.shape = torch.tensor([size, self.channels, span])

    def partial(self, kinds: int) -> Tensor:
        """Room for sums of each block."""
        return torch.empty(self.blocks, kinds, self.channels, dtype=torch.float64)

    def spans(self, count: int) -> Tensor:
        """Room for constants of a span."""
        return torch.empty(count, self.repeat * self.channels, dtype=torch.float32)

    def channel_values(self, count: int) -> Tensor:
        """Room for float64 [count, C]."""
        return torch.empty(count, self.channels, dtype=torch.float64)


_layout = functools.lru_cache(maxsize=256)(_Layout)
