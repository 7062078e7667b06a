"""NEMO's operators: affines of sums, divided and rounded down."""

from dataclasses import replace

from sim.importers.deeploy import linear, pointwise, rows, shapes
from sim.importers.deeploy.model import MOST_WHOLE, Node, printable
from sim.importers.deeploy.requant import format_for
from sim.importers.deeploy.state import Operator, State, Value, scaled, shifted
from sim.importers.deeploy.views import Affine, View

MOST_SHIFT = 53
SCALING = ("Mul", "Add", "Div", "Floor")
"""Operators that say themselves how a mean is rounded."""


def div(to: State, node: Node) -> Value:
    """By a whole constant above 0; rounded at once where the tensor is of an integer type, else by what follows."""
    divisor = to.constant(node, 1)
    if divisor.size != 1 or not 0 < int(divisor.ravel()[0]) < MOST_WHOLE:
        raise node.refuse("divides by one whole number above 0")
    affine = to.affine(node, 0)
    product = affine.divisor * int(divisor.ravel()[0])
    if product >= MOST_WHOLE:
        raise node.refuse("its divisors together reach 2^53")
    return replace(affine, divisor=product, floored=node.inputs[0] in to.wholes)


def floor(to: State, node: Node) -> Value:
    """Rounded down, once something reads it."""
    value = to.value(node, 0)
    return replace(value, floored=value.divisor > 1) if isinstance(value, Affine) else value


def clip(to: State, node: Node) -> Value:
    """To whole bounds: the end of a layer."""
    low = int(to.constant(node, 1).ravel()[0]) if to.has(node, 1) else node.whole("min")
    high = int(to.constant(node, 2).ravel()[0]) if to.has(node, 2) else node.whole("max")
    if low > high or low >= 1 << 31 or -low > 1 << 31 or high >= 1 << 31:
        raise node.refuse(f"{low} .. {high} are no bounds of 32 bits")
    return _clamped(to, node, low, high)


def relu(to: State, node: Node) -> Value:
    """At 0 alone."""
    return _clamped(to, node, 0, (1 << 31) - 1)


def _clamped(to: State, node: Node, low: int, high: int) -> Value:
    value = to.value(node, 0)
    affine = value if isinstance(value, Affine) else to.affine(node, 0)
    if affine.divisor > 1 and not affine.floored:
        raise node.refuse("reads a quotient that nothing rounds")
    return to.finish(node.outputs[0], affine, format_for(low, high), (low, high), "" if affine.divisor > 1 else "exact")


def average(to: State, node: Node) -> Value:
    """A mean that is rounded down, unless operators say how."""
    mean = rows.average_pool(to, node)
    readers = {reader.kind for reader in to.model.nodes if node.outputs[0] in reader.inputs}
    if isinstance(mean, Affine) and not (readers and readers <= set(SCALING)):
        to.notes.append(f"{printable(node.name)}: the mean is rounded down")
        return replace(mean, floored=mean.divisor > 1)
    return mean


def add(to: State, node: Node) -> Value:
    """Of two tensors, which QuantLab requantizes first (in1_rq, in2_rq) and then their sum (out_rq), to unsigned codes."""
    if not any(node.whole(f"{part}_rq", 0) for part in ("in1", "in2", "out")):
        return pointwise.add(to, node)
    a, b = (_requantized(to, node, part, to.affine(node, index)) for index, part in enumerate(("in1", "in2")))
    return _requantized(to, node, "out", Affine.of(pointwise.total(to, node, a, b)))


def _requantized(to: State, node: Node, part: str, affine: Affine) -> View:
    """clamp((x mul + add) >> shift, 0, levels - 1), if the node says so."""
    if not node.whole(f"{part}_rq", 0):
        return to.finish(f"{node.outputs[0]}.{part}", affine, rounding="exact") if not affine.is_plain or not isinstance(
            affine.base, View) else affine.base
    multiplier, addend, shift, count = (node.whole(f"{part}_{key}") for key in ("mul", "add", "shift", "n_levels"))
    if not 0 <= shift < MOST_SHIFT or not 2 <= count <= 1 << 31:
        raise node.refuse(f"its {part}_shift is {shift} and {part}_n_levels {count}")
    scales = replace(shifted(scaled(affine, multiplier), addend), divisor=1 << shift)
    return to.finish(f"{node.outputs[0]}.{part}", scales, format_for(0, count - 1), (0, count - 1))


def host(to: State, node: Node) -> Value:
    """A function of floats behind the last sums, which the host computes; what follows only copies."""
    if not _is_copied(to, node.outputs[0]):
        raise node.refuse("a function of floats is supported behind the last sums alone, where the host computes it")
    to.notes.append(f"{node.kind} {printable(node.name)}: left to the host, the output is what it reads")
    return to.source(node, 0)


def typed(operator: Operator) -> Operator:
    """Of integers an integer: the type that ONNX gives sums and products."""

    def made(to: State, node: Node) -> Value:
        if any(name in to.wholes for name in node.inputs):
            to.wholes.add(node.outputs[0])
        return operator(to, node)

    return made


def _is_copied(to: State, name: str) -> bool:
    """Whether all that reads a tensor copies it."""
    wanted = {name}
    for node in to.model.nodes:
        if wanted & set(node.inputs):
            if node.kind not in shapes.OPERATORS:
                return False
            wanted.update(node.outputs)
    return True


OPERATORS: dict[str, Operator] = {
    **{kind: rows.OPERATORS[kind] for kind in ("MaxPool", "ReduceSum")},
    **{kind: typed(pointwise.OPERATORS[kind]) for kind in ("Mul", "Sub")},
    "Add": typed(add),
    **shapes.OPERATORS,
    **linear.OPERATORS,
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), average),
    **dict.fromkeys(("LogSoftmax", "Sigmoid", "Softmax"), host),
    "Clip": clip, "Div": div, "Floor": floor, "Relu": relu,
}
