"""Sums as a register holds them, by the very kernels that the simulator runs; gradients as of the sums that it stands for.

Training under real overflow.  Forward, every product goes through the register as in contract C6, so that in eval mode a
network equals sim.Machine with that register in every code.  Backward, the register is what its rule is almost everywhere:

    wrap      x + n 2^P has slope 1: gradients pass straight through, as in WrapNet (Ni et al. 2020, arXiv 2007.13242)
    saturate  a register that ends full, at its least or largest value, does not move with its sum: no gradient, as beyond
              the clip of an activation.  What was clipped on the way alone ("transient", PQS, Natesh and Kung 2025, arXiv
              2504.09064) passes on all of it: products behind the clip do have slope 1, and which they are is not kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels import isa
from sim.ops.codes_input import CodesInputOp
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp
from sim.requantizers.fp32 import Fp32
from sim.steps import step_for
from training.layers.codes import Codes

SATURATE = "saturate"


def convolution(row: Any, weight: Tensor, shape: Sequence[int], x: Codes, register: Accumulator) -> ConvOp:
    """The operation of a convolution's row: weight codes [channels, in / groups, rows, columns], results [N, C, H, W]."""
    codes = np.ascontiguousarray(_numpy(weight).transpose(2, 3, 1, 0).astype(np.int32))
    bits = int(np.abs(codes).max(initial=1)).bit_length() + 1
    channels, height, width = shape[1:]
    return ConvOp(row.name, "x", (height, width, channels), None, skip="", weights=codes, stride=row.stride,
                  padding=row.padding, groups=row.groups, operand=x.format, weight_format=IntFormat(bits, signed=True),
                  weight_bits=bits, accumulator=register, requant=_nothing(channels), stride_width=row.stride_width,
                  dilation=row.dilation, paddings=row.paddings)


def matrix_product(row: Any, shape: Sequence[int], x: Codes, other: Codes, register: Accumulator) -> MatMulOp:
    """The operation of a product of activations [N, depth, heads, tokens], results [N, columns, heads, tokens]."""
    columns, heads, tokens = shape[1:]
    return MatMulOp(row.name, "x", (heads, tokens, columns), None, "other", x.format, other.format, x.values.shape[1],
                    row.transpose, register, _nothing(columns))


def through_register(exact: Tensor, op: ConvOp | MatMulOp, inputs: Sequence[Codes]) -> Tensor:
    """Exact sums [N, C, H, W] -> what the registers of `op` hold instead, with the gradient that this module names."""
    sources = [CodesInputOp(f"input{number}", "", _shape(x), x.format) for number, x in enumerate(inputs)]
    step = step_for(op, sources, isa.choose(None))
    border = op.border
    given = [Padded.of(_numpy(x.values.permute(0, 2, 3, 1)).astype(x.format.dtype), border * (not number))
             for number, x in enumerate(inputs)]
    sums, _ = step.registers(given)
    # in the layout of `exact`: what follows sums in the order of memory
    found = torch.empty_like(exact).copy_(torch.from_numpy(np.ascontiguousarray(sums)).permute(0, 3, 1, 2))
    limits = op.accumulator.range if op.accumulator.overflow == SATURATE else None
    moves = None if limits is None else (found > limits.min) & (found < limits.max)
    held: Tensor = _Held.apply(exact, found, moves)
    return held


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, found: Tensor, moves: Tensor | None) -> Tensor:
        ctx.save_for_backward(moves)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (moves,) = ctx.saved_tensors
        return gradients[0] if moves is None else gradients[0] * moves, None, None


def _shape(x: Codes) -> tuple[int, int, int]:
    _, channels, height, width = x.values.shape
    return height, width, channels


def _numpy(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().float().cpu().numpy()
    return array


def _nothing(channels: int) -> Fp32:
    """A requantizer that is not asked."""
    return Fp32(np.ones(channels, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32))
