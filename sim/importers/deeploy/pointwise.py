"""Operators that compute number by number: RequantShift, Add, Sub, Mul, division, and Deeploy's integer activations."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sim.definitions import INTEGER_FUNCTIONS
from sim.definitions.definition import number
from sim.formats import IntFormat, Shape
from sim.importers.builder import image_of
from sim.importers.deeploy.model import Node, printable
from sim.importers.deeploy.requant import REGISTER, WIDE, fits, format_for
from sim.importers.deeploy.state import State, Value, scaled, shifted, spread
from sim.importers.deeploy.views import Bounds, View
from sim.importers.imported import ImporterError
from sim.ops.add import AddOp
from sim.ops.defined import DefinedOp
from sim.ops.divide import DivideOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import MAX_CODE_BITS, MAX_TABLE_BITS, Op
from sim.requantizers.exact_add import ExactAdd


def requant_shift(to: State, node: Node) -> Value:
    """clamp((x mul + add + div / 2) >> log2 div), to n levels, signed or not."""
    affine = to.affine(node, 0)
    multiplier, addend = (_per_channel(to.constant(node, index), affine.shape) for index in (1, 2))
    divisor = node.whole("div")
    if divisor < 1 or affine.divisor != 1:
        raise node.refuse(f"its div is {divisor}, must be 1 or more, of whole numbers")
    affine = replace(shifted(scaled(affine, multiplier), addend), divisor=divisor)
    form, limits = levels(node, signed=bool(node.whole("signed", 1)))
    return to.finish(node.outputs[0], affine, form, limits)


def _per_channel(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Constants that go with a tensor as ONNX broadcasts; else one for each channel, the second axis.

    QuantLab gives a signal [1, C, L] constants [C, 1, 1], which Deeploy's code reads by channel.
    """
    try:
        return spread(values, shape)
    except ImporterError:
        if len(shape) < 2 or values.size != shape[1]:
            raise
        return values.reshape(1, -1, *(1,) * (len(shape) - 2))


def levels(node: Node, *, signed: bool) -> tuple[IntFormat, Bounds]:
    """The format and the limits of n_levels_out or n_levels codes."""
    count = node.whole("n_levels_out" if "n_levels_out" in node.attributes else "n_levels")
    if not 2 <= count <= 1 << MAX_CODE_BITS:
        raise node.refuse(f"{count} levels, 2 to 2^{MAX_CODE_BITS} are supported")
    limits = (-(count // 2), count // 2 - 1) if signed else (0, count - 1)
    return IntFormat((count - 1).bit_length(), signed), limits


def add(to: State, node: Node) -> Value:
    """Of two tensors, or a tensor and constants."""
    return _sum(to, node, 1)


def sub(to: State, node: Node) -> Value:
    """Likewise."""
    return _sum(to, node, -1)


def _sum(to: State, node: Node, sign: int) -> Value:
    a, b = to.value(node, 0), to.value(node, 1)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.asarray(a + sign * b)
    if isinstance(b, np.ndarray):
        affine = to.affine(node, 0)
        return shifted(affine, spread(sign * b, affine.shape))
    if isinstance(a, np.ndarray):
        affine = scaled(to.affine(node, 1), sign)
        return shifted(affine, spread(a, affine.shape))
    return total(to, node, to.source(node, 0), to.source(node, 1), sign)


def total(to: State, node: Node, a: View, b: View, sign: int = 1) -> View:
    """Of two tensors, exact."""
    return _together(to, node, (a, b), lambda name, first, second, shape, form: AddOp(
        name, first, shape, form, second, ExactAdd.of(1, sign)), lambda x, y: x + sign * y)


def mul(to: State, node: Node) -> Value:
    """Of two tensors, or a tensor and constants."""
    a, b = to.value(node, 0), to.value(node, 1)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.asarray(a * b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        constant, affine = (a, to.affine(node, 1)) if isinstance(a, np.ndarray) else (b, to.affine(node, 0))
        return scaled(affine, spread(np.asarray(constant), affine.shape))
    return _together(to, node, _both(to, node), lambda name, first, second, shape, form: MultiplyOp(
        name, first, shape, form, second, ExactAdd.of(1)), lambda x, y: x * y)


def integer_div(to: State, node: Node) -> Value:
    """Delta eta a / (eta b + eps), half away from 0: what Deeploy's kernel computes in 64 bits."""
    factor, other, epsilon = node.whole("Delta") * node.whole("eta"), node.whole("eta"), node.whole("eps")
    low, high = (other * bound + epsilon for bound in to.source(node, 1).bounds)
    if low <= 0 <= high or high <= 0 <= low:
        to.notes.append(f"{node.kind} {printable(node.name)}: its denominator can be 0, which stops a run")

    def make(name: str, first: str, second: str, shape: Shape, form: IntFormat) -> Op:
        return DivideOp(name, first, shape, form, second, "half_away", factor, other, epsilon)

    return _together(to, node, _both(to, node), make,
                     lambda x, y: x * factor * (1 if other * y + epsilon > 0 else -1),  # a denominator is 1 or more
                     (0,))


def true_integer_div(to: State, node: Node) -> Value:
    """x floor(Delta eta / (eta y + eps)) with a constant y: QuantLab multiplies by a whole reciprocal."""
    if to.has(node, 1):
        raise node.refuse("divides by a tensor, a constant y is supported (IntegerDiv divides by tensors)")
    eta = node.whole("eta")
    below = eta * node.whole("y") + node.whole("eps")
    if below <= 0:
        raise node.refuse(f"its denominator is {below}, must be positive")
    return scaled(to.affine(node, 0), np.full((1,) * len(to.affine(node, 0).shape), node.whole("Delta") * eta // below))


def _both(to: State, node: Node) -> tuple[View, View]:
    return to.source(node, 0), to.source(node, 1)


def _together(to: State, node: Node, operands: tuple[View, View], make: Callable[[str, str, str, Shape, IntFormat], Op],
              meaning: Callable[[int, int], int], between: tuple[int, ...] = ()) -> View:
    """An operation of two tensors, spread to one shape; `meaning` of the ends of their bounds, and what is `between`, bound
    the result."""
    a, b = operands
    rank = max(len(a.shape), len(b.shape))
    a, b = (_ranked(to, view, rank) for view in (a, b))
    if not all(x == y or 1 in (x, y) for x, y in zip(a.shape, b.shape, strict=True)):
        raise node.refuse(f"shapes {list(a.shape)} and {list(b.shape)} do not go together")
    shape = tuple(map(max, a.shape, b.shape))
    axes = a.axes if a.shape == shape else b.axes if b.shape == shape else tuple(range(rank))
    first, second = (to.image(view, axes) for view in (a, b))
    sides = [to.build.shape(name) for name in (first, second)]
    whole = image_of(View("", shape, axes, (0, 0)).sides)
    if not all(x == y or 1 in (x, y) for x, y in zip(*sides, strict=True)) or whole != tuple(map(max, *sides)):
        raise node.refuse(f"shapes {list(a.shape)} and {list(b.shape)}: along the axes before the last two they must be "
                          "equal, or all of one 1")
    ends = [*between, *(meaning(x, y) for x in a.bounds for y in b.bounds)]
    bounds = min(ends), max(ends)
    if not fits(*bounds):
        to.notes.append(f"{node.kind} {printable(node.name)}: results can need more than 32 bits, and are held within them")
        bounds = max(bounds[0], WIDE.min), min(bounds[1], WIDE.max)
    op = make(to.build.name(node.outputs[0]), first, second, whole, format_for(*bounds))
    return View(to.build.add(op), shape, axes, bounds)


def _ranked(to: State, view: View, rank: int) -> View:
    """With sides of 1 before the first."""
    if len(view.shape) == rank:
        return view
    return to.laid(view, tuple(range(len(view.shape)))).reshaped((1,) * (rank - len(view.shape)) + view.shape)


def activation(name: str, *constants: str) -> Callable[[State, Node], Value]:
    """An integer function of sim/definitions; `constants` are its own by the node's names."""

    def made(to: State, node: Node) -> Value:
        view = to.source(node, 0)
        source = to.image(view)
        form = to.build.format(source)
        if form.bits > MAX_TABLE_BITS:
            raise node.refuse(f"reads codes of {form}, at most {MAX_TABLE_BITS} bits are supported")
        kind: Any = INTEGER_FUNCTIONS.known(name)
        definition = kind(form, REGISTER, *(number(node.whole(theirs)) for theirs in constants))
        definition.check(1)
        every = definition.codes(np.arange(form.min, form.max + 1, dtype=np.int64))
        op = DefinedOp(to.build.name(node.outputs[0]), source, to.build.shape(source), REGISTER, definition)
        return replace(view, op=to.build.add(op), bounds=(int(every.min()), int(every.max())))

    return made


OPERATORS = {
    "Add": add, "IntegerDiv": integer_div, "Mul": mul, "RequantShift": requant_shift, "Sub": sub,
    "TrueIntegerDiv": true_integer_div,
    "iGELU": activation("igelu", "b", "one"),
    "iHardswish": activation("ihardswish", "three", "six", "one_over_six"),
}
