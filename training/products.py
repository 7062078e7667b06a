"""The convolutions of a training step: exact integer products of codes forward, real gradients backward.

Codes are whole numbers, so that their sums are exact in any arithmetic that can hold them: oneDNN's 8-bit convolution gives
the bits that float32 gives, in a third of the time.  Gradients are real numbers; asked to, they are multiplied as bfloat16,
which holds every code of up to 8 bits exactly and rounds the gradients to 8 bits of precision, in 0.6 of the time.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LARGEST_BYTE, LARGEST_WEIGHT = 255, 127
PAIR = 2**15 - 1
"""Where the processor has no 8-bit dot product, oneDNN adds two products in 16 bits that saturate."""


class Geometry(NamedTuple):
    """What a convolution does beside its weights."""

    stride: int
    padding: int
    groups: int


def sums(values: Tensor, packed: Tensor | None, weight: Tensor, geometry: Geometry, bounds: tuple[float, float]) -> Tensor:
    """The accumulators [N, Cout, H', W'] of codes or real numbers, as float32.

    `packed` are the same codes as bytes, if there are any; `bounds` are the largest magnitudes of values and weights.  Codes
    whose sums may pass 2^24 are none of this function's business.
    """
    if packed is not None and _is_exact(bounds) and bool(weight.abs().amax() <= bounds[1]):  # false for what is no number
        return _integer_sums(packed, weight, geometry)
    values, (stride, padding, groups) = dense(values, weight, geometry)
    return F.conv2d(values.float(), weight, None, stride, padding, 1, groups)


def leaves_out(weight: Tensor, strides: tuple[int, int]) -> bool:
    """Whether a convolution reads few pixels of many: its kernel is one pixel, and it has a stride."""
    return tuple(weight.shape[2:]) == (1, 1) and max(strides) > 1


def dense(values: Tensor, weight: Tensor, geometry: Geometry) -> tuple[Tensor, Geometry]:
    """The same convolution without a stride, of the pixels that it reads, if it leaves out any.

    oneDNN without AVX-512 goes astray on strided ones: its 8-bit sums were seen to be wrong, and the gradients of weights of
    fewer than 8 channels, for which it also writes where it may not.
    """
    stride, padding, groups = geometry
    if not leaves_out(weight, (stride, stride)):
        return values, geometry
    read = F.pad(values, (padding,) * 4) if padding else values
    return read[:, :, ::stride, ::stride].contiguous(memory_format=torch.channels_last), Geometry(1, 0, groups)


def gradients(gradient: Tensor, values: Tensor, weight: Tensor, geometry: Geometry,
              wanted: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
    """Those of the values and of the weights, multiplied in the type of `gradient`."""
    if not any(wanted):
        return None, None
    read, (stride, padding, groups) = dense(values, weight, geometry)
    if gradient.dtype == torch.bfloat16 and (not _multiplies_bfloat16() or any(map(
            _has_idle_tap, read.shape[2:], weight.shape[2:], gradient.shape[2:], [stride] * 2, [padding] * 2))):
        # of idle taps oneDNN leaves the bfloat16 gradient as it finds the memory; and where it has no bfloat16, torch's own
        # loops round every partial sum, not only what is multiplied
        gradient = gradient.float()
    to_values, to_weight, _ = torch.ops.aten.convolution_backward(
        gradient, read.to(gradient.dtype), weight.to(gradient.dtype), None, [stride] * 2, [padding] * 2, [1, 1], False,
        [0, 0], groups, [*wanted, False])
    if to_values is not None and read is not values:
        to_values = _spread(to_values, values, geometry)
    return to_values, None if to_weight is None else to_weight.float()


def _spread(gradient: Tensor, values: Tensor, geometry: Geometry) -> Tensor:
    """That of all values from that of those which `dense` reads."""
    stride, padding, _ = geometry
    rows, columns = (size + 2 * padding for size in values.shape[2:])
    found = gradient.new_zeros((*values.shape[:2], rows, columns)).contiguous(memory_format=torch.channels_last)
    found[:, :, ::stride, ::stride] = gradient
    return found[:, :, padding : rows - padding, padding : columns - padding]


@functools.cache
def _multiplies_bfloat16() -> bool:
    """Whether oneDNN has bfloat16 products on this processor, whose sums stay float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_idle_tap(size: int, taps: int, outputs: int, stride: int, padding: int) -> bool:
    """Whether a tap of the kernel meets nothing but padding."""
    return any(not any(0 <= o * stride - padding + tap < size for o in range(outputs)) for tap in range(taps))


class Products(torch.autograd.Function):
    """`sums` with their gradients in a type of one's choice."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, packed: Tensor | None, geometry: Geometry,
                bounds: tuple[float, float], kind: torch.dtype) -> Tensor:
        """float32 [N, Cout, H', W']."""
        ctx.save_for_backward(values, weight)
        ctx.geometry, ctx.kind = geometry, kind
        return sums(values, packed, weight, geometry, bounds)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Of values and weights."""
        values, weight = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        return (*gradients(upstream[0].to(ctx.kind), values, weight, ctx.geometry, wanted), None, None, None, None)


def _is_exact(bounds: tuple[float, float]) -> bool:
    """Whether oneDNN's 8-bit convolution holds such codes and adds their products without loss."""
    largest, weight = bounds
    return (largest <= LARGEST_BYTE and weight <= LARGEST_WEIGHT and _has_integer_sums()
            and (2 * largest * weight <= PAIR or has_dot_product()))


@functools.cache
def has_dot_product() -> bool:
    """Whether the largest pairs of products come out whole: told by trying, as oneDNN may be kept from what there is."""
    x = torch.full((2, 64, 6, 6), LARGEST_BYTE, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    for groups, kernel in ((1, 3), (1, 1), (2, 3), (64, 3)):
        for value in (LARGEST_WEIGHT, -LARGEST_WEIGHT):
            weight = torch.full((64, 64 // groups, kernel, kernel), float(value), dtype=torch.float32)
            geometry = Geometry(1, kernel // 2, groups)
            exact = F.conv2d(x.double(), weight.double(), None, 1, kernel // 2, 1, groups)
            if not torch.equal(_integer_sums(x, weight, geometry).double(), exact):
                return False
    return True


@functools.cache
def _has_integer_sums() -> bool:
    """Whether this torch has the operation, with this signature, and it computes what it should."""
    x = torch.arange(2 * 16 * 5 * 5, dtype=torch.uint8).view(2, 16, 5, 5).contiguous(memory_format=torch.channels_last)
    weight = (torch.arange(8 * 16 * 9) % 31 - 15).to(torch.float32).view(8, 16, 3, 3)
    try:
        found = _integer_sums(x % 64, weight, Geometry(2, 1, 1))
    except (AttributeError, RuntimeError, TypeError):  # another version or platform
        return False
    return torch.equal(found, F.conv2d((x % 64).float(), weight, None, 2, 1))


def _integer_sums(packed: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    packed, (stride, padding, groups) = dense(packed, weight, geometry)
    scales, zeros = torch.ones(len(weight), dtype=torch.float32), torch.zeros(len(weight), dtype=torch.int64)
    place: tuple[Sequence[int], ...] = ([stride] * 2, [padding] * 2, [1, 1])
    onednn = torch.ops.onednn
    ready = onednn.qconv_prepack(weight.to(torch.int8).contiguous(), scales, 1.0, 0, *place, groups, list(packed.shape))
    result: Tensor = onednn.qconv_pointwise(
        packed, 1.0, 0, ready, scales, zeros, None, *place, groups, 1.0, 0, torch.float32, "none", [], "")
    return result
