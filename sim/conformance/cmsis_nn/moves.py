"""CMSIS-NN's copies of codes of any four axes, batch included: a case is one image to a program."""

import math
from collections.abc import Sequence

import numpy as np

from sim.conformance.case import UnsupportedError
from sim.conformance.cmsis_nn.entry import Entry
from sim.formats import Shape
from sim.ops.move import MoveOp
from sim.ops.op import Op
from sim.ops.pad import PadOp

AXES = "NHWC"
TRANSPOSES = {
    "transpose_3dim": ((5, 4, 20), (0, 2, 1)), "transpose_3dim2": ((5, 4, 20), (1, 2, 0)),
    "transpose_chwn": ((5, 4, 12, 17), (3, 1, 2, 0)), "transpose_default": ((4, 3, 3, 22), (3, 2, 1, 0)),
    "transpose_matrix": ((5, 20), (1, 0)), "transpose_nchw": ((4, 9, 3, 19), (0, 3, 1, 2)),
    "transpose_ncwh": ((5, 4, 3, 9), (0, 3, 2, 1)), "transpose_nhcw": ((1, 1, 128, 128), (0, 1, 3, 2)),
    "transpose_nwhc": ((1, 19, 3, 64), (0, 2, 1, 3)), "transpose_wchn": ((4, 3, 3, 21), (2, 3, 1, 0)),
}
"""Sides and axes of the library's cases, which archives lack: their headers give them as lists of several lines."""


def transposed(entry: Entry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sides of the input, and the order of its axes."""
    order, sides = entry.numbers.get("PERM"), entry.numbers.get("IN_DIM")
    if not (isinstance(order, tuple) and isinstance(sides, tuple)):
        if entry.name not in TRANSPOSES:
            raise UnsupportedError("nothing says what its axes are")
        sides, order = TRANSPOSES[entry.name]
    sides = sides[: len(order)]  # the library fills up with 0
    if math.prod(sides) != entry.array("input_tensor").size:
        raise UnsupportedError(f"its sides {sides} are not as many codes as it has")
    return sides, order


def move(name: str, source: Op, split: Sequence[int], order: Sequence[int], shape: Shape) -> MoveOp:
    """The codes read as a tensor of any axes, in another order, as an image."""
    return MoveOp(name, source.name, shape, source.format, tuple(split), tuple(order), zero_point=source.zero_point)


def padded(entry: Entry, source: Op) -> list[Op]:
    """Codes of the zero point around all four axes: two at a time, then the others, and back.

    The source is an image (height, width, batch channels), whose last axis holds the batch before the channels.
    """
    before, behind = ([entry.number(f"{where}_PAD_{axis}") for axis in AXES] for where in ("PRE", "POST"))
    images, height, width, channels = (entry.number(f"INPUT_{axis}") for axis in AXES)
    first = _pad("rows and columns", source, (before[1], behind[1], before[2], behind[2]))
    inner = first.shape[0] * first.shape[1]
    turned = move("images and channels first", first, (*first.shape[:2], images, channels), (2, 3, 0, 1),
                  (images, channels, inner))
    second = _pad("images and channels", turned, (before[0], behind[0], before[3], behind[3]))
    outer = second.shape[:2]
    return [first, turned, second, move("back", second, (*outer, height + before[1] + behind[1],
                                                         width + before[2] + behind[2]), (0, 2, 3, 1),
                                        (outer[0] * first.shape[0], first.shape[1], outer[1]))]


def _pad(name: str, source: Op, paddings: tuple[int, int, int, int]) -> PadOp:
    top, bottom, left, right = paddings
    shape = (source.shape[0] + top + bottom, source.shape[1] + left + right, source.shape[2])
    return PadOp(name, source.name, shape, source.format, paddings, zero_point=source.zero_point)


def images_last(array: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """[N, H, W, C] -> one image [1, H, W, N C]."""
    images, height, width, channels = sides
    return array.reshape(sides).transpose(1, 2, 0, 3).reshape(1, height, width, images * channels)
