"""What every importer needs to make a program: names, notes of scales, and tensors of any number of axes as images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.accumulator import Accumulator, bits_for
from sim.formats import IntFormat, Shape
from sim.ops.codes_input import CodesInputOp
from sim.ops.conv import ConvOp
from sim.ops.move import MoveOp
from sim.ops.op import Op, ProgramError, Window, check_common, format_of
from sim.ops.positions import ConstantOp
from sim.program import Program

LONGEST_NAME = 80
"""Characters of a name that a file gives; more are cut off."""


class Builder:
    """Operations so far, in order, and what one code of each stands for.

    `profile` gives the register of an operation by its kind (`profile.rule(kind).accumulator`); None: unlimited.

    >>> build = Builder()
    >>> x = build.codes_input("x", (1, 1, 4), IntFormat(8, signed=True), 0.5, 3)
    >>> same = build.move("same", x, (4,), (0,), (2, 2))
    >>> build.shape(same), build.zero(same), build.scale(same)
    ((2, 1, 2), 3, 0.5)
    >>> build.program()
    <Program: 1x1x4 s8 codes -> 2 logits, 2 operations, 0 MACs, codes 8 bits>
    """

    def __init__(self, profile: Any = None) -> None:
        self.profile = profile
        self.ops: dict[str, Op] = {}
        self.scales: dict[str, float] = {}

    def add(self, op: Op, scale: float = 1.0) -> str:
        """Append an operation that reads those before; the name under which others read it.  Raises ProgramError."""
        try:
            check_common(op)
            op.check(self.ops)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ProgramError(f"{op.name}: {error}") from None
        if op.name in self.ops:
            raise ProgramError(f"two operations are called {op.name}")
        self.ops[op.name] = op
        if math.isfinite(scale):
            self.scales[op.name] = float(scale)
        return op.name

    def name(self, wanted: str) -> str:
        """A printable name that no operation has yet, as near to the wanted one as may be."""
        name = "".join(letter if letter.isprintable() else "?" for letter in str(wanted)[:LONGEST_NAME]).strip() or "unnamed"
        found, count = name, 2
        while found in self.ops:
            found, count = f"{name}#{count}", count + 1
        return found

    def op(self, name: str) -> Op:
        """An operation."""
        return self.ops[name]

    def shape(self, name: str) -> Shape:
        """(height, width, channels)."""
        return self.ops[name].shape

    def format(self, name: str) -> IntFormat:
        """Of its codes."""
        return format_of(self.ops[name])

    def zero(self, name: str) -> int:
        """Its zero point."""
        return self.ops[name].zero_point

    def scale(self, name: str) -> float:
        """What one of its codes stands for."""
        return self.scales.get(name, 1.0)

    def accumulator(self, kind: str) -> Accumulator:
        """The register of an operation of that kind in the profile."""
        if self.profile is None:
            return Accumulator()
        accumulator: Accumulator = self.profile.rule(kind).accumulator
        return accumulator

    def codes_input(self, name: str, shape: Shape, form: IntFormat, scale: float = 1.0, zero: int = 0) -> str:
        """An input of codes as they come."""
        return self.add(CodesInputOp(self.name(name), "", shape, form, zero_point=zero), scale)

    def constant(self, name: str, codes: np.ndarray, form: IntFormat, scale: float = 1.0, zero: int = 0) -> str:
        """Codes without a batch axis, of any number of axes (see `image_of`), the same for every image."""
        if not form.contains(codes):
            raise ProgramError(f"{name}: its codes are {codes.min()} .. {codes.max()}, {form} has {form.min} .. {form.max}")
        shape = image_of(codes.shape)
        table = np.ascontiguousarray(codes.reshape(shape), form.dtype)
        return self.add(ConstantOp(self.name(name), "", shape, form, table, zero_point=zero), scale)

    def conv(self, name: str, source: str, weights: np.ndarray, requant: Any, form: IntFormat | None, *,
             window: Window | None = None, kind: str = "conv", scale: float = 1.0, **fields: Any) -> str:
        """A convolution: `weights` integers [rows, columns, in channels / groups, channels] less their zero points.

        `window` is one step and no padding if None; `kind` says which rule of the profile has the register.  Results have
        `form` (None: logits).  `fields` are: groups; start [channels], what registers hold before the first product; zero,
        the zero point of the results; limits, their clamp if not all of the format; skip, a residual; weight_bits, those of
        the file (else as many as the weights need); register, if it is another than that of the rule.
        """
        if unknown := fields.keys() - {"groups", "start", "zero", "limits", "skip", "weight_bits", "register"}:
            raise TypeError(f"conv has no {', '.join(unknown)}")
        held = IntFormat(max(2, bits_for(int(weights.min(initial=0)), int(weights.max(initial=0)))), signed=True)
        if weights.ndim != 4 or held.bits > 32:
            raise ProgramError(f"{name}: weights are [rows, columns, in channels / groups, channels] of 32 bits, not "
                               f"{list(weights.shape)} of {held}")
        window = window or Window((weights.shape[0], weights.shape[1]), (1, 1), 1, (0, 0, 0, 0))
        start = fields.get("start")
        return self.add(ConvOp(
            self.name(name), source, (*window.sides(*self.shape(source)[:2]), weights.shape[3]), form,
            skip=fields.get("skip", ""), weights=np.ascontiguousarray(weights, np.int32), stride=window.strides[0],
            padding=0, groups=fields.get("groups", 1), operand=self.format(source), weight_format=held,
            weight_bits=fields.get("weight_bits") or held.bits,
            accumulator=fields.get("register") or self.accumulator(kind), requant=requant,
            stride_width=window.strides[1], dilation=window.dilation, paddings=window.paddings,
            operand_zero=self.zero(source), start=None if start is None else np.asarray(start, np.int64),
            zero_point=fields.get("zero", 0), limits=tuple(fields.get("limits", ()))), scale)

    def move(self, name: str, source: str, nd_shape: Sequence[int], order: Sequence[int], new_shape: Sequence[int]) -> str:
        """Reshape and transpose: read as `nd_shape`, its axes in `order`, written as `new_shape`, all without a batch axis.

        Any number of axes (see `image_of`).  The source itself where nothing changes.
        """
        split, shape, op = tuple(map(int, nd_shape)) or (1,), image_of(new_shape), self.ops[source]
        order = tuple(map(int, order)) or (0,)
        moving = [axis for axis in order if axis < len(split) and split[axis] > 1]
        if shape == op.shape and moving == sorted(moving):
            return source
        return self.add(MoveOp(self.name(name), source, shape, op.format, split, order, zero_point=op.zero_point),
                        self.scale(source))

    def program(self, outputs: Sequence[str] = ()) -> Program:
        """Inputs first, the rest in order, without what no output needs.  The last is the output, if none is named."""
        wanted = tuple(outputs) or (next(reversed(self.ops), ""),)
        if missing := [name for name in wanted if name not in self.ops]:
            raise ProgramError(f"output {missing[0]!r} is no operation")
        needed = set(wanted)
        for op in reversed(self.ops.values()):
            if op.name in needed:
                needed.update(op.sources())
        kept = [op for op in self.ops.values() if op.is_input or op.name in needed]
        kept.sort(key=lambda op: not op.is_input)  # stable: the rest stays in order
        names = {op.name for op in kept}
        return Program(tuple(kept), wanted, {name: scale for name, scale in self.scales.items() if name in names})


def image_of(sides: Sequence[int]) -> Shape:
    """The (height, width, channels) of a tensor without its batch axis: more axes than three are rows.

    >>> image_of(()), image_of((7,)), image_of((5, 7)), image_of((2, 5, 7))
    ((1, 1, 1), (1, 1, 7), (5, 1, 7), (2, 5, 7))
    >>> image_of((3, 2, 5, 7))
    (6, 5, 7)
    """
    numbers = [int(side) for side in sides]
    match numbers:
        case []:
            return 1, 1, 1
        case [channels]:
            return 1, 1, channels
        case [tokens, channels]:
            return tokens, 1, channels
        case [*rows, width, channels]:
            return math.prod(rows), width, channels
    raise AssertionError


def same_paddings(sides: tuple[int, int], taps: tuple[int, int], strides: tuple[int, int],
                  dilation: int = 1) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of SAME: positions are sides / strides, rounded up; the smaller half is before.

    >>> same_paddings((224, 224), (3, 3), (2, 2))
    (0, 1, 0, 1)
    """
    totals = [max((-(-side // stride) - 1) * stride + (tap - 1) * dilation + 1 - side, 0)
              for side, tap, stride in zip(sides, taps, strides, strict=True)]
    (down, across) = totals
    return down // 2, down - down // 2, across // 2, across - across // 2
