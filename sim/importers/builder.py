"""What every importer needs to make a program: names, notes of scales, and tensors of any number of axes as images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.formats import IntFormat, Shape
from sim.ops.codes_input import CodesInputOp
from sim.ops.conv import ConvOp
from sim.ops.move import MoveOp
from sim.ops.op import Op, Window
from sim.ops.positions import ConstantOp
from sim.program import Program, ProgramError

MOST_NAME = 80
"""Characters of a name that a file gives; more are cut off."""


class Builder:
    """Operations so far, in order, and what one code of each stands for.

    `profile` gives the accumulator of an operation by its kind (`profile.rule(kind).accumulator`); None: unlimited.

    >>> build = Builder()
    >>> x = build.codes_input("x", (1, 1, 4), IntFormat(8, signed=True), 0.5, 3)
    >>> same = build.move("same", x, (4,), (0,), (2, 2))
    >>> build.shape(same), build.zero(same), build.scale(same)
    ((2, 1, 2), 3, 0.5)
    """

    def __init__(self, profile: Any = None) -> None:
        self.profile = profile
        self.ops: dict[str, Op] = {}
        self.scales: dict[str, float] = {}

    def add(self, op: Op, scale: float = 1.0) -> str:
        """Append an operation, checked by itself; the name under which others read it.  Raises ProgramError."""
        raise NotImplementedError

    def name(self, wanted: str) -> str:
        """A printable name that no operation has yet, as near to the wanted one as may be."""
        raise NotImplementedError

    def op(self, name: str) -> Op:
        """An operation."""
        raise NotImplementedError

    def shape(self, name: str) -> Shape:
        """(height, width, channels)."""
        raise NotImplementedError

    def format(self, name: str) -> IntFormat:
        """Of its codes."""
        raise NotImplementedError

    def zero(self, name: str) -> int:
        """Its zero point."""
        raise NotImplementedError

    def scale(self, name: str) -> float:
        """What one of its codes stands for."""
        raise NotImplementedError

    def accumulator(self, kind: str) -> Accumulator:
        """The register of an operation of that kind in the profile."""
        raise NotImplementedError

    def codes_input(self, name: str, shape: Shape, form: IntFormat, scale: float = 1.0, zero: int = 0) -> str:
        """An input of codes as they come."""
        raise NotImplementedError

    def constant(self, name: str, codes: np.ndarray, form: IntFormat, scale: float = 1.0, zero: int = 0) -> str:
        """Codes [height, width, channels], or fewer axes: see `image_of`."""
        raise NotImplementedError

    def conv(self, name: str, source: str, weights: np.ndarray, requant: Any, form: IntFormat | None, *,
             window: Window | None = None, groups: int = 1, start: np.ndarray | None = None, zero: int = 0,
             limits: tuple[int, ...] = (), skip: str = "", kind: str = "conv", scale: float = 1.0,
             weight_bits: int = 0) -> str:
        """A convolution: `weights` integers [rows, columns, in channels / groups, channels] less their zero points.

        `window` is one pixel, one step and no padding if None; `start` [channels] is what the register holds before the first
        product; `kind` says which rule of the profile has the register.  `weight_bits` are those of the file (0: as many
        as the weights need).
        """
        raise NotImplementedError

    def move(self, name: str, source: str, nd_shape: Sequence[int], order: Sequence[int], new_shape: Sequence[int]) -> str:
        """Reshape and transpose: the tensor read as `nd_shape` (without the batch axis), its axes in `order`, written as
        `new_shape` (without it, any number of axes: see `image_of`).  The source itself where nothing changes."""
        raise NotImplementedError

    def program(self, outputs: Sequence[str] = ()) -> Program:
        """The program: inputs first, then the rest in order, without operations that no output needs."""
        raise NotImplementedError


def image_of(sides: Sequence[int]) -> Shape:
    """The (height, width, channels) of a tensor without its batch axis.

    >>> image_of(()), image_of((7,)), image_of((5, 7)), image_of((2, 5, 7))
    ((1, 1, 1), (1, 1, 7), (5, 1, 7), (2, 5, 7))
    >>> image_of((3, 2, 5, 7))
    (6, 5, 7)
    """
    raise NotImplementedError


def same_paddings(sides: tuple[int, int], taps: tuple[int, int], strides: tuple[int, int],
                  dilation: int = 1) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of SAME: positions are sides / strides, rounded up; the smaller half is before.

    >>> same_paddings((224, 224), (3, 3), (2, 2))
    (0, 1, 0, 1)
    """
    raise NotImplementedError
