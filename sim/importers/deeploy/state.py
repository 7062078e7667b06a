"""A graph on its way to a program: the values of its tensors so far, and what turns them into operations."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim.formats import IntFormat, Shape
from sim.importers.builder import Builder, image_of
from sim.importers.deeploy.model import MOST_WHOLE, Model, Node, printable
from sim.importers.deeploy.requant import REGISTER, bounds_of, fits, format_for, requantizer_of
from sim.importers.deeploy.views import Affine, Bounds, Products, View
from sim.importers.imported import ImporterError
from sim.ops.op import MAX_SIZE
from sim.ops.pad import PadOp
from sim.ops.rescale import RescaleOp
from sim.requantizers.mul_add_shift import MulAdd


@dataclass(frozen=True)
class Padded:
    """A view with zeros around it, which a convolution can read as its padding: (top, bottom, left, right) of the image."""

    view: View
    shape: tuple[int, ...]
    paddings: tuple[int, int, int, int]


Value = View | Affine | Padded | np.ndarray
Operator = Callable[["State", Node], Value]


@dataclass
class State:
    """Values by ONNX names; `views` are those that operations compute, `channels_last` the ranks whose images lie so.

    `fuse`: whether an affine of sums waits for what rounds it, so that both become one operation.  `narrow`: whether the
    family's own code multiplies in 32 bits.  `wholes` are tensors of an integer type, whose quotients are rounded at once.
    """

    model: Model
    build: Builder
    profile: Any
    fuse: bool
    narrow: bool
    channels_last: frozenset[int]
    values: dict[str, Value] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    uses: Counter[str] = field(default_factory=Counter)
    wholes: set[str] = field(default_factory=set)

    def run(self, operators: Mapping[str, Operator], family: str) -> None:
        """Every node in order.  Raises ImporterError naming the node."""
        for node in self.model.nodes:
            if node.kind not in operators:
                raise node.refuse(f"is none of {family} operators that are supported: {', '.join(sorted(operators))}")
            try:
                given = operators[node.kind](self, node)
            except ImporterError as error:
                text = str(error)
                raise (error if text.startswith(node.kind) else node.refuse(text)) from None
            except (ValueError, KeyError, IndexError, TypeError, ArithmeticError) as error:
                raise node.refuse(f"{error}" if str(error) else type(error).__name__) from None
            if any(self.uses[name] for name in node.outputs[1:]):
                raise node.refuse(f"its output {printable(node.outputs[1])} is read, the first alone is supported")
            self.keep(node.outputs[0], given)

    def keep(self, name: str, value: Value) -> None:
        """Under an ONNX name; computed now unless one operation that follows can do it on the way."""
        self.values[name] = value
        if isinstance(value, View):
            self.views[name] = value
        elif isinstance(value, Affine) and value.divisor == 1 and self._fits(value) and not (
                self.fuse and self.uses[name] == 1 and name not in self.model.outputs):
            self.view(name)

    def value(self, node: Node, index: int) -> Value:
        """What a node reads there."""
        if index >= len(node.inputs) or not node.inputs[index]:
            raise node.refuse(f"has no input {index + 1}")
        return self.values[node.inputs[index]]

    def has(self, node: Node, index: int) -> bool:
        """Whether it reads anything there."""
        return index < len(node.inputs) and bool(node.inputs[index])

    def constant(self, node: Node, index: int) -> np.ndarray:
        """A constant input, int64."""
        value = self.value(node, index)
        if not isinstance(value, np.ndarray):
            raise node.refuse(f"its input {index + 1} must be a constant")
        return value

    def affine(self, node: Node, index: int) -> Affine:
        """An input as an affine of something; what was rounded is computed."""
        value = self.value(node, index)
        return value if isinstance(value, Affine) and not value.floored else Affine.of(self.source(node, index))

    def source(self, node: Node, index: int) -> View:
        """An input as codes that an operation computes."""
        self.value(node, index)
        return self.view(node.inputs[index])

    def view(self, name: str) -> View:
        """A tensor as codes: what waits is computed, a constant becomes an operation."""
        value = self.values[name]
        if isinstance(value, np.ndarray):
            value = self._constant(name, value)
        elif isinstance(value, Padded):
            value = self._padded(name, value)
        elif isinstance(value, Affine):
            value = self._computed(name, value)
        self.values[name] = self.views[name] = value
        return value

    def image(self, view: View, axes: tuple[int, ...] | None = None, shape: Shape | None = None) -> str:
        """The operation that has a view's codes in the order `axes` (its own if None), as `shape` if given."""
        axes = view.axes if axes is None else axes
        shape = image_of(replace(view, axes=axes).sides) if shape is None else shape
        if view.lies(axes) and self.build.shape(view.op) == shape:
            return view.op
        order = tuple(view.axes.index(axis) for axis in axes)
        return self.build.move(f"{view.op}.moved", view.op, view.stored, order, shape)

    def laid(self, view: View, axes: tuple[int, ...]) -> View:
        """The view with its axes in that order in memory."""
        return replace(view, axes=axes) if view.lies(axes) else replace(view, op=self.image(view, axes), axes=axes)

    def finish(self, name: str, affine: Affine, form: IntFormat | None = None, limits: Bounds | None = None,
               rounding: str = "") -> View:
        """Compute an affine: rounded as the profile's rule says, or down ("floor"); "exact" where there is no divisor.

        `limits` are those of the clamp; `form` holds them, the narrowest that holds every result if None.
        """
        affine = affine.reduced() if rounding != "exact" else affine
        base = affine.base
        if isinstance(base, Products) and set(affine.varies()) <= {base.channel}:
            end = self._end(name, affine, affine.along(base.channel), (base.low, base.high), form, limits, rounding)
            return View(base.emit(name, *end[:3]), base.shape, base.axes, end[3])
        view = base if isinstance(base, View) else self._computed(f"{name}.sums", Affine.of(base))
        varies = affine.varies()
        if len(varies) <= 1:
            axis = varies[0] if varies else None
            if axis is not None:
                view = self.laid(view, (*(a for a in view.axes if a != axis), axis))
            source, constants = self.image(view), affine.along(axis)
        else:
            view = self.laid(view, tuple(range(len(view.shape))))
            if view.size > MAX_SIZE:
                raise ImporterError(f"constants that differ along {len(varies)} axes of {view.size} numbers, at most "
                                    f"{MAX_SIZE} are supported")
            source = self.image(view, None, (1, 1, view.size))
            constants = (np.broadcast_to(affine.multiplier, view.shape).ravel(),
                         np.broadcast_to(affine.addend, view.shape).ravel())
        requant, form, needed, bounds = self._end(name, affine, constants, view.bounds, form, limits, rounding)
        op = RescaleOp(self.build.name(name), source, self.build.shape(source), form, requant, limits=needed)
        return replace(view, op=self.build.add(op), bounds=bounds)

    def _end(self, name: str, affine: Affine, constants: tuple[np.ndarray, np.ndarray], reach: Any,
             form: IntFormat | None, limits: Bounds | None,
             rounding: str) -> tuple[MulAdd, IntFormat, tuple[int, ...], Bounds]:
        """A requantizer, the format and limits of its results, and their bounds; a note where 32 bits are too few."""
        multiplier, addend = constants
        kind = affine.base.kind if isinstance(affine.base, Products) else "requantize"
        between, bounds = bounds_of(multiplier, addend, affine.divisor, *reach)
        if max(-between[0], between[1]) >= 1 << 31 and rounding != "exact" and self.narrow:
            self.notes.append(f"{printable(name)}: multiplied sums can need {max(-between[0], between[1]).bit_length() + 1} "
                              "bits; Deeploy's C code has 32, and other codes where they do not suffice")
        if form is None and isinstance(affine.base, Products) and affine.is_plain and self._wraps(kind):
            form = REGISTER if not fits(*bounds) else None  # what the register holds fits, whatever the sums are
        low, high = limits or (bounds if form is None else (form.min, form.max))
        bounds = min(max(bounds[0], low), high), min(max(bounds[1], low), high)
        form = form or format_for(*bounds)
        requant = requantizer_of(self.profile, kind, multiplier, addend, affine.divisor, rounding)
        needed = () if limits is None or limits == (form.min, form.max) else limits
        return requant, form, needed, (max(bounds[0], form.min), min(bounds[1], form.max))

    def _wraps(self, kind: str) -> bool:
        """Whether the register of a kind of operation has 32 bits or fewer."""
        bits = self.build.accumulator(kind).bits
        return bits is not None and bits <= REGISTER.bits

    def _fits(self, affine: Affine) -> bool:
        """Whether 32 bits hold every number of an affine without a divisor."""
        base = affine.base
        if not isinstance(base, Products) or not set(affine.varies()) <= {base.channel}:
            return fits(*bounds_of(affine.multiplier, affine.addend, 1, *base.bounds)[1])
        return affine.is_plain or fits(*bounds_of(*affine.along(base.channel), 1, base.low, base.high)[1])

    def _computed(self, name: str, affine: Affine) -> View:
        """Exactly, without a clamp: sums as registers hold them."""
        if affine.divisor != 1 and not affine.floored:
            raise ImporterError("reads a quotient that nothing rounds")
        if isinstance(affine.base, View) and affine.is_plain:
            return affine.base
        return self.finish(name, affine, rounding="" if affine.floored else "exact")

    def _constant(self, name: str, values: np.ndarray) -> View:
        if not values.size:
            raise ImporterError(f"{printable(name)} is a constant without numbers")
        view = View(name, values.shape, tuple(range(values.ndim)), (int(values.min()), int(values.max())))
        codes = values.reshape(image_of(view.sides))
        return replace(view, op=self.build.constant(name, codes, format_for(*view.bounds)))

    def _padded(self, name: str, value: Padded) -> View:
        source = self.image(value.view)
        top, bottom, left, right = value.paddings
        height, width, channels = self.build.shape(source)
        shape = top + height + bottom, left + width + right, channels
        op = PadOp(self.build.name(name), source, shape, self.build.format(source), value.paddings)
        low, high = value.view.bounds
        return replace(value.view, op=self.build.add(op), shape=value.shape, bounds=(min(low, 0), max(high, 0)))


def spread(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A constant with as many axes as a tensor of `shape`, which broadcasting with it does not grow."""
    extra = values.ndim - len(shape)
    if extra > 0 and set(values.shape[:extra]) == {1}:
        values = values.reshape(values.shape[extra:])
    fits = values.ndim <= len(shape) and all(
        side in (1, whole) for side, whole in zip(values.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise ImporterError(f"a constant {list(values.shape)} does not go with a tensor {list(shape)}")
    return values.reshape((1,) * (len(shape) - values.ndim) + values.shape)


def times(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """The product of constants, below 2^53 in magnitude."""
    product = a.astype(np.float64) * np.asarray(b, np.float64)
    if product.size and np.abs(product).max() >= MOST_WHOLE:
        raise ImporterError("products of its constants reach 2^53")
    return np.asarray(a * b, np.int64)


def scaled(affine: Affine, factor: np.ndarray | int) -> Affine:
    """An affine times whole constants, spread already."""
    return replace(affine, multiplier=times(affine.multiplier, factor), addend=times(affine.addend, factor))


def shifted(affine: Affine, term: np.ndarray | int) -> Affine:
    """An affine plus whole constants, spread already."""
    return replace(affine, addend=affine.addend + times(np.asarray(term), affine.divisor))
