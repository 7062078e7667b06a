"""The factors of an operation's products, as a multiplier meets them: one after the other in the order of products."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from sim.cost.errors import CostError
from sim.orders import permutation

Codes = np.ndarray


class Factors(NamedTuple):
    """A product of matrices: `left` [rows, depth] of codes, `right` [depth, columns], products in the order of depth.

    `zeros` are the codes that stand for 0 on either side, `bits` those that an operand has on its way; `start` int64
    [columns] is what registers hold before the first product, None for 0.
    """

    left: np.ndarray
    right: np.ndarray
    zeros: tuple[int, int]
    bits: tuple[int, int]
    start: np.ndarray | None


def factors_of(op: Any, inputs: list[Codes]) -> Iterator[Factors]:
    """The products of matrices of an operation with registers, image by image; `inputs` [N, H, W, C] as it reads them.

    Raises CostError for a kind of operation that it does not know.
    """
    if op.kind not in FACTORS:
        raise CostError(f"{op.name}: operations of kind {op.kind} have registers, but nothing says in which order they take "
                        "their products")
    for image in range(len(inputs[0])):
        yield from FACTORS[op.kind](op, [codes[image] for codes in inputs])


def _conv(op: Any, inputs: list[Codes]) -> Iterator[Factors]:
    rows, columns, depth, channels = op.weights.shape
    top, bottom, left, right = op.window.paddings
    framed = np.pad(inputs[0], ((top, bottom), (left, right), (0, 0)), constant_values=op.operand_zero)
    (down, across), dilation = op.window.strides, op.window.dilation
    height, width = op.shape[:2]
    taps = [framed[i * dilation :, j * dilation :][: (height - 1) * down + 1 : down, : (width - 1) * across + 1 : across]
            for i in range(rows) for j in range(columns)]
    patches = np.stack(taps, axis=2)  # [height, width, taps, channels of the input]
    order, each = permutation(op.accumulator.order, rows, columns, depth), channels // op.groups
    for group in range(op.groups):
        part = patches[..., group * depth : (group + 1) * depth].reshape(height * width, -1)[:, order]
        weights = op.weights[..., group * each : (group + 1) * each].reshape(-1, each)[order]
        start = None if op.start is None else op.start[group * each : (group + 1) * each]
        yield Factors(part, weights, (op.operand_zero, 0), (op.operand.bits, op.weight_format.bits), start)


def _matmul(op: Any, inputs: list[Codes]) -> Iterator[Factors]:
    for a, b in zip(*inputs, strict=True):
        zeros, bits = (op.zero, op.other_zero), (op.operand.bits, op.other_operand.bits)
        yield Factors(a, b.T if op.transpose else b, zeros, bits, None)


FACTORS: Mapping[str, Callable[[Any, list[Codes]], Iterator[Factors]]] = {"conv": _conv, "matmul": _matmul}
