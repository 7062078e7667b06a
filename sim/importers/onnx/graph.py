"""An ONNX graph while it becomes a program: what its names stand for, and what operators ask of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.importers.builder import Builder
from sim.importers.onnx.boundary import Inlet
from sim.importers.onnx.model import Constant, Model, Node
from sim.importers.onnx.values import (
    IMAGE,
    PLAIN,
    Codes,
    Computed,
    Dims,
    Outside,
    Real,
    Sums,
    Value,
    Weights,
    form_of,
    stored_shape,
)
from sim.ops.requantize import TableOp
from sim.requantizers.exact_add import ExactAdd
from sim.text import printable

MOST_DEPTH = 200
"""Operators between two quantizers: more are no model."""


class BatchError(ValueError):
    """The first axis is no batch axis: the graph is to be read again as one of whole tensors."""


@dataclass(frozen=True)
class Dialect:
    """What a family of graphs has of its own.

    `operators` by their names, with `domains` where they may come from; `rules(kind, default)` is the requantizer of a kind
    of operation; `settle(graph, value)` makes of float products that wait what their runtime makes; `fused` are float
    operators that are run in integers where a quantizer follows.
    """

    operators: Mapping[str, Any]
    domains: tuple[str, ...]
    rules: Any
    settle: Any
    fused: Mapping[str, Any]


class Graph:
    """`build` makes the program; `values` are what names stand for; `batched` says whether the first axis is that of images.

    `inlets` are how float inputs become codes, `shown` which operation holds which ONNX tensor, `notes` are for the user.
    `bounds` are those of operations whose integers are known to be narrower than their format.
    """

    def __init__(self, model: Model, build: Builder, dialect: "Dialect", batched: bool) -> None:
        self.model, self.build, self.batched = model, build, batched
        self.rules, self.settle, self.fused = dialect.rules, dialect.settle, dialect.fused
        self.values: dict[str, Value] = {}
        self.types: dict[str, str] = {name: constant.type for name, constant in model.constants.items()}
        self.inlets: dict[str, Inlet] = {}
        self.shown: dict[str, Codes] = {}
        self.bounds: dict[str, tuple[int, int]] = {}
        self.notes: list[str] = []
        self._arranged: dict[tuple[str, str], Codes] = {}

    # What an operator reads

    def value(self, node: Node, slot: int) -> Value:
        """What stands at an input.  Raises ImporterError where nothing does."""
        if slot >= len(node.inputs) or not node.inputs[slot]:
            raise node.fail(f"its input {slot + 1} is missing")
        name = node.inputs[slot]
        if name in self.values:
            return self.values[name]
        if name in self.model.constants:
            return self.model.constants[name].array
        raise node.fail(f"reads {printable(name)[:80]!r}, which nothing before it gives")

    def has(self, node: Node, slot: int) -> bool:
        """Whether an optional input is given."""
        return slot < len(node.inputs) and bool(node.inputs[slot])

    def constant(self, node: Node, slot: int, what: str) -> np.ndarray:
        """An array that is known now."""
        found = self.value(node, slot)
        if isinstance(found, Weights):
            return found.array
        if not isinstance(found, np.ndarray):
            raise node.fail(f"its {what} must be constant, it comes from the data")
        return found

    def scale(self, node: Node, slot: int, what: str = "scale") -> np.float32:
        """One float32 number above 0."""
        found = self.scales(node, slot, what)
        if found.size != 1:
            raise node.fail(f"its {what} must be one number for all, not {found.size}")
        return np.float32(found.reshape(()))

    def scales(self, node: Node, slot: int, what: str = "scale") -> np.ndarray:
        """float32 numbers above 0."""
        found = self.constant(node, slot, what)
        if found.dtype != np.float32:
            raise node.fail(f"its {what} is of type {found.dtype}, float32 is supported")
        if not found.size or not (np.isfinite(found) & (found > 0)).all():
            raise node.fail(f"its {what} must be positive and finite")
        return found

    def zeros(self, node: Node, slot: int) -> np.ndarray:
        """Zero points, int64; 0 where none are given."""
        if not self.has(node, slot):
            return np.zeros((), np.int64)
        found = self.constant(node, slot, "zero point")
        if found.dtype.kind not in "iu" or not found.size:
            raise node.fail("its zero point is no integer")
        return found.astype(np.int64)

    def zero(self, node: Node, slot: int) -> int:
        """One zero point."""
        found = self.zeros(node, slot)
        if found.size != 1:
            raise node.fail(f"its zero point must be one number for all, not {found.size}")
        return int(found.reshape(()))

    def form(self, node: Node, name: str, default: str = "uint8") -> IntFormat:
        """The integer format that an ONNX tensor is declared to have."""
        kind = self.types.get(name, default)
        form = form_of(kind)
        if form is None:
            raise node.fail(f"numbers of type {kind} are not supported here, integers of 2 to 16 or 32 bits are")
        return form

    def codes(self, node: Node, slot: int, zero: int | None = None) -> Codes:
        """Codes of the program, with the zero point that this reader gives them (None: as they are)."""
        found = self.value(node, slot)
        if isinstance(found, Sums):
            found = self.raw(found, node.inputs[slot])
        if not isinstance(found, Codes):
            raise node.fail(f"its input {slot + 1} must be integers that are computed, they are "
                            f"{'constant' if isinstance(found, np.ndarray | Weights) else 'float'}")
        return found if zero is None or zero == found.zero else self.renamed(node, found, zero)

    # What it makes

    def give(self, node: Node, value: Value, slot: int = 0) -> None:
        """What one of its outputs stands for from now on."""
        if slot < len(node.outputs) and node.outputs[slot]:
            name = node.outputs[slot]
            if name in self.values or name in self.model.constants:
                raise node.fail(f"gives {printable(name)[:80]!r}, which another operator gives, too")
            self.values[name] = value
            if isinstance(value, Codes):
                self.shown[name] = value

    def compute(self, node: Node, inputs: Sequence[Any], dims: Dims) -> Computed:
        """A float operator that waits.  Raises ImporterError where too many wait."""
        depth = 1 + max((each.depth for each in inputs if isinstance(each, Computed)), default=0)
        if depth > MOST_DEPTH:
            raise node.fail(f"more than {MOST_DEPTH} float operators one after the other")
        return Computed(node, tuple(inputs), dims, depth)

    def raw(self, sums: Sums, name: str) -> Codes:
        """Sums as integers of their own, in 32 bits, by the name of the tensor that they are, or of none."""
        if "raw" not in sums.made:
            form = IntFormat(32, signed=True)
            op = sums.emit(name, ExactAdd.of(sums.channels), form, 0, 1.0)
            sums.made["raw"] = Codes(op, sums.dims, sums.layout, form)
            self.bounds[op] = sums.bounds
            if isinstance(self.values.get(name), Sums):
                self.shown[name] = sums.made["raw"]
        return sums.made["raw"]

    def renamed(self, node: Node, codes: Codes, zero: int) -> Codes:
        """The same codes with another zero point."""
        if not codes.form.min <= zero <= codes.form.max or codes.form.bits > 16:
            raise node.fail(f"a zero point of {zero} is none of the codes of {codes.form}, or these are too wide")
        table = np.arange(codes.form.min, codes.form.max + 1).astype(codes.form.dtype)
        op = self.build.add(TableOp(self.build.name(f"{codes.op}/zero"), codes.op, stored_shape(codes.dims, codes.layout),
                                    codes.form, table, codes.form.min, zero_point=zero), self.build.scale(codes.op))
        return Codes(op, codes.dims, codes.layout, codes.form, zero)

    def image(self, node: Node, codes: Codes) -> Codes:
        """Codes as an image, channels last."""
        if not self.batched:
            raise BatchError
        if len(codes.dims) not in (2, 3):
            raise node.fail(f"an image [N, channels, height, width] is wanted, or [N, channels, length], not {codes.dims}")
        return self._as(codes, IMAGE)

    def plain(self, codes: Codes) -> Codes:
        """Codes in ONNX's own order."""
        return self._as(codes, PLAIN)

    def _as(self, codes: Codes, layout: str) -> Codes:
        if codes.layout == layout:
            return codes
        if (codes.op, layout) not in self._arranged:
            sides = tuple(range(1, len(codes.dims)))
            order = (*sides, 0) if layout == IMAGE else (len(codes.dims) - 1, *range(len(codes.dims) - 1))
            now = codes.dims if codes.layout == PLAIN else (*codes.dims[1:], codes.dims[0])
            shape = stored_shape(codes.dims, layout)
            op = self.build.move(f"{codes.op}/{layout}", codes.op, now, order, shape)
            self._arranged[codes.op, layout] = Codes(op, codes.dims, layout, codes.form, codes.zero)
        return self._arranged[codes.op, layout]

    def moved(self, codes: Codes, split: Dims, order: Sequence[int], dims: Dims, name: str) -> Codes:
        """Plain codes read as `split`, axes in `order`, now of the sides `dims`, plain."""
        codes = self.plain(codes)
        op = self.build.move(name, codes.op, split, tuple(order), stored_shape(dims, PLAIN))
        return Codes(op, dims, PLAIN, codes.form, codes.zero)

    # Axes

    def axis(self, node: Node, axis: int, dims: Dims) -> int:
        """An axis of ONNX, negative from the end, as one of `dims`.  Raises BatchError for the batch axis."""
        rank = len(dims) + self.batched
        if not -rank <= axis < rank:
            raise node.fail(f"axis {axis} of a tensor of {rank} axes")
        place = axis % rank - self.batched
        if place < 0:
            raise BatchError
        return place


def dims_of(value: Any) -> Dims:
    """Sides of a value that is computed."""
    return tuple(value.dims)


def is_float(value: Value) -> bool:
    """Whether it is a float32 tensor that is computed."""
    return isinstance(value, Real | Computed | Outside)


__all__ = ["BatchError", "Constant", "Dialect", "Graph", "dims_of", "is_float"]
