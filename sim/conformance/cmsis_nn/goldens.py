"""CMSIS-NN's tests as golden cases: a program around one operation, its input and its output; one network is longer."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from sim.conformance.case import Golden, UnsupportedError
from sim.conformance.cmsis_nn import layers, moves, others
from sim.conformance.cmsis_nn.entry import Entry
from sim.formats import Shape
from sim.ops.add import AddOp
from sim.ops.compare import MinMaxOp
from sim.ops.multiply import MultiplyOp
from sim.ops.op import Op
from sim.program import Program

S8 = layers.signed(np.zeros(0, np.int8))
X, OTHER = "x", "other"
LAYER = re.compile(r"([A-Z0-9]+(?:_[A-Z0-9]+)*?)_(\d+)_OUT_CH")
"""A number of a layer in a network: its kind and its place."""


def convolution(entry: Entry) -> Golden:
    """One convolution, depthwise or not; images beyond those of a batch are none."""
    x = entry.array("input").reshape(-1)
    shape = entry.number("INPUT_H"), entry.number("INPUT_W"), entry.number("IN_CH")
    source = layers.codes(X, shape, x, -entry.number("INPUT_OFFSET"))
    op = layers.convolution(entry, "conv", source, layers.signed(_output(entry)))
    return _golden(op.requant.name, source, [op], x, _output(entry))


def fully_connected(entry: Entry) -> Golden:
    """One layer on vectors."""
    x = entry.array("input")
    source = layers.codes(X, (1, 1, entry.number("ACCUMULATION_DEPTH")), x, -entry.number("INPUT_OFFSET"))
    op = layers.fully_connected(entry, "fully connected", source, layers.signed(_output(entry)))
    return _golden(op.requant.name, source, [op], x, _output(entry))


def matmul(entry: Entry) -> Golden:
    """Two tensors [batch, heads, rows, columns], either transposed as the test says; one batch or head goes for all."""
    sides = {side: [entry.number(f"{side}_{axis}") for axis in ("BATCH", "HEIGHT", "ROWS", "COLS")]
             for side in ("LHS", "RHS")}
    images, heads = (max(sides["LHS"][axis], sides["RHS"][axis]) for axis in (0, 1))
    given = {}
    for side, name, key in (("LHS", X, "lhs_input_tensor"), ("RHS", OTHER, "rhs_input_tensor")):
        array = entry.array(key).reshape(sides[side])
        given[name] = np.ascontiguousarray(np.broadcast_to(array, (images, heads, *array.shape[2:])))
    ops: list[Op] = [layers.codes(name, array.shape[1:], array, -entry.number(offset)) for (name, array), offset in zip(
        given.items(), ("LHS_OFFSET", "RHS_OFFSET"), strict=True)]
    a, b = ops
    if entry.number("ADJ_X"):
        heads, depth, rows = a.shape
        a = moves.move("x transposed", a, (heads, depth, rows), (0, 2, 1), (heads, rows, depth))
        ops.append(a)
    shape = heads, entry.number("OUTPUT_ROWS"), entry.number("OUTPUT_COLS")
    op = layers.matmul(entry, a, b, shape, bool(entry.number("ADJ_Y")), layers.signed(_output(entry)))
    return Golden(op.requant.name, Program((*ops, op)), given, {op.name: _output(entry)})


def average(entry: Entry) -> Golden:
    """One pool."""
    source = _pool_input(entry)
    return _golden("half_away", source, [others.average(entry, "average", source)], entry.array("input_tensor"),
                   _output(entry))


def largest(entry: Entry) -> Golden:
    """One pool."""
    source = _pool_input(entry)
    return _golden("copy", source, others.largest(entry, "largest", source), entry.array("input_tensor"), _output(entry))


def add(entry: Entry) -> Golden:
    """Two vectors."""
    return _of_two(entry, others.add)


def multiply(entry: Entry) -> Golden:
    """Two vectors."""
    return _of_two(entry, others.multiply)


def compare(entry: Entry) -> Golden:
    """Two tensors, either of one row, column, channel or image for all of the other's."""
    sides = [[entry.number(f"{axis}_{index}") for axis in ("BATCH", "HEIGHT", "WIDTH", "CHANNEL")] for index in (1, 2)]
    images = max(sides[0][0], sides[1][0])
    given = {}
    for name, key, shape in ((X, "input_tensor_1", sides[0]), (OTHER, "input_tensor_2", sides[1])):
        array = entry.array(key).reshape(shape)
        given[name] = np.ascontiguousarray(np.broadcast_to(array, (images, *shape[1:])))
    a, b = (layers.codes(name, array.shape[1:], array) for name, array in given.items())
    out = entry.number("OUTPUT_HEIGHT"), entry.number("OUTPUT_WIDTH"), entry.number("OUTPUT_CHANNEL")
    rule = str(entry.numbers.get("LAYER_TYPE", entry.name.partition("_")[0]))
    op = MinMaxOp(rule, X, out, a.format, OTHER, rule)
    return Golden("copy", Program((a, b, op)), given, {op.name: _output(entry)})


def softmax(entry: Entry) -> Golden:
    """A row for each image."""
    x = entry.array("input")
    source = layers.codes(X, (1, 1, entry.number("ROW_SIZE")), x)
    op = others.softmax(entry, "softmax", source, layers.signed(_output(entry)))
    return _golden(op.definition.name, source, [op], x, _output(entry))


def pad(entry: Entry) -> Golden:
    """Four axes."""
    sides = [entry.number(f"INPUT_{axis}") for axis in moves.AXES]
    x = moves.images_last(entry.array("input_tensor"), sides)
    source = layers.codes(X, x.shape[1:], x, entry.number("PAD_VALUE"))
    return _golden("copy", source, moves.padded(entry, source), x, _output(entry))


def transpose(entry: Entry) -> Golden:
    """As many axes as it has; the program sees one image of all."""
    sides, order = moves.transposed(entry)
    x = entry.array("input_tensor")
    source = layers.codes(X, (1, 1, x.size), x)
    return _golden("copy", source, [moves.move("transposed", source, sides, order, source.shape)], x, _output(entry))


def network(entry: Entry) -> Golden:
    """Layers one behind the other, as the numbers in their names order them; only the last output is known."""
    found = sorted({(int(place), kind) for kind, place in map(_layer, entry.numbers) if place})
    if not found:
        raise UnsupportedError("a network without layers")
    first = entry.part(f"{found[0][1]}_{found[0][0]}", "-")
    x = entry.array("input")
    shape = first.number("INPUT_H"), first.number("INPUT_W"), first.number("IN_CH")
    ops: list[Op] = [layers.codes(X, shape, x, -first.number("INPUT_OFFSET"))]
    for place, kind in found:
        name = f"{kind}_{place}"
        ops += _layers(kind, entry.part(name, f"layer_{place}_{kind.lower()}"), name.lower(), ops[-1])
    return _golden("double", ops[0], ops[1:], x, _output(entry))


def _layers(kind: str, part: Entry, name: str, source: Op) -> Sequence[Op]:
    """The operations of a layer of a network."""
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return [layers.convolution(part, name, source, S8)]
    if kind == "AVERAGE_POOL_2D":
        raw = others.read_as(f"{name}_codes", source, 0)
        return [raw, others.average(part, name, raw)]
    if kind == "FULLY_CONNECTED":
        size = source.shape[0] * source.shape[1] * source.shape[2]
        flat = moves.move(f"{name}_row", source, (size,), (0,), (1, 1, size))
        shifted = others.read_as(f"{name}_input", flat, -part.number("INPUT_OFFSET"))
        return [flat, shifted, layers.fully_connected(part, name, shifted, S8)]
    if kind == "SOFTMAX":
        return [others.softmax(part, name, source, S8)]
    raise UnsupportedError(f"a network with {kind}")


def _layer(name: str) -> tuple[str, str]:
    found = LAYER.fullmatch(name)
    return (found[1], found[2]) if found else ("", "")


def _output(entry: Entry) -> np.ndarray:
    return entry.array("output_ref", "output")


def _pool_input(entry: Entry) -> Op:
    shape: Shape = entry.number("INPUT_H"), entry.number("INPUT_W"), entry.number("INPUT_C")
    return layers.codes(X, shape, entry.array("input_tensor"))


def _of_two(entry: Entry, make: Callable[[Entry, Op, Op, int], AddOp | MultiplyOp]) -> Golden:
    """One operation on two vectors."""
    first, second = entry.array("input1"), entry.array("input2")
    shape = 1, 1, first.size
    a = layers.codes(X, shape, first, -entry.number("INPUT1_OFFSET"))
    b = layers.codes(OTHER, shape, second, -entry.number("INPUT2_OFFSET"))
    op = make(entry, a, b, entry.number("OUTPUT_OFFSET"))
    given = {X: first.reshape(1, *shape), OTHER: second.reshape(1, *shape)}
    return Golden(op.requant.name, Program((a, b, op)), given, {op.name: _output(entry)})


def _golden(rule: str, source: Op, ops: Sequence[Op], x: np.ndarray, expected: np.ndarray) -> Golden:
    """A chain of operations from one input to the last one's output, a batch of as many images as there are codes."""
    if x.size % int(np.prod(source.shape)):
        raise UnsupportedError(f"{x.size} codes are no images of {source.shape}")
    given = {source.name: x.reshape(-1, *source.shape)}
    return Golden(rule, Program((source, *ops)), given, {ops[-1].name: expected.reshape(-1)})
