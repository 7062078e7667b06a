"""ONNX graphs of integers in plain Python numbers: written from Deeploy's and NEMO's rules, apart from sim.

A tensor is a shape and a flat list of ints, or of Fractions where a quotient was not rounded yet.
"""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np


@dataclass
class Tensor:
    shape: tuple[int, ...]
    values: list
    is_whole: bool = False  # of an integer type, whose quotients are rounded down at once

    def at(self, place: tuple[int, ...]):
        index = 0
        for side, i in zip(self.shape, place, strict=True):
            index = index * side + i
        return self.values[index]

    def spread(self, place: tuple[int, ...]):
        """As numpy broadcasts: sides of 1 and missing ones are for all."""
        own = place[len(place) - len(self.shape):]
        return self.at(tuple(0 if side == 1 else i for side, i in zip(self.shape, own, strict=True)))

    def array(self) -> np.ndarray:
        return np.array([int(v) for v in self.values], np.int64).reshape(self.shape)


def places(shape):
    return itertools.product(*map(range, shape))


def tensor(array) -> Tensor:
    array = np.asarray(array)
    return Tensor(array.shape, [int(v) for v in array.ravel()], array.dtype.kind in "iu")


def filled(shape, value) -> Tensor:
    shape = tuple(shape)
    return Tensor(shape, [value(place) for place in places(shape)])


def run(model: Any, given: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Every tensor of an onnx.ModelProto whose nodes are in order."""
    from onnx import helper, numpy_helper

    found = {part.name: tensor(numpy_helper.to_array(part)) for part in model.graph.initializer}
    found |= {name: Tensor(array.shape, [int(v) for v in array.ravel()]) for name, array in given.items()}
    for node in model.graph.node:
        attributes = {}
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            attributes[attribute.name] = value if isinstance(value, int | float | list | bytes) else tensor(
                numpy_helper.to_array(value))
        inputs = [found[name] for name in node.input if name]
        result = MEANINGS[node.op_type](attributes, *inputs)
        found[node.output[0]] = result
    return found


def number(value: Any) -> int:
    return int(value.values[0] if isinstance(value, Tensor) else value)


def conv(about, x, weights, bias=None):
    sides = len(weights.shape) - 2
    strides, dilations = about.get("strides", [1] * sides), about.get("dilations", [1] * sides)
    pads, groups = about.get("pads", [0] * 2 * sides), about.get("group", 1)
    out = [(x.shape[2 + a] + pads[a] + pads[sides + a] - (weights.shape[2 + a] - 1) * dilations[a] - 1) // strides[a] + 1
           for a in range(sides)]
    depth = weights.shape[1]

    def total(place):
        n, channel, *position = place
        first = channel // (weights.shape[0] // groups) * depth
        found = 0 if bias is None else bias.values[channel]
        for c, *taps in places((depth, *weights.shape[2:])):
            at = [p * s + t * d - b for p, s, t, d, b in zip(position, strides, taps, dilations, pads, strict=False)]
            if all(0 <= i < side for i, side in zip(at, x.shape[2:], strict=True)):
                found += x.at((n, first + c, *at)) * weights.at((channel, c, *taps))
        return found

    return filled((x.shape[0], weights.shape[0], *out), total)


def windows(about, x, combine):
    taps, sides = about["kernel_shape"], len(about["kernel_shape"])
    strides, pads = about.get("strides", [1] * sides), about.get("pads", [0] * 2 * sides)
    out = [(x.shape[2 + a] + pads[a] + pads[sides + a] - taps[a]) // strides[a] + 1 for a in range(sides)]

    def value(place):
        n, channel, *position = place
        inside = []
        for tap in places(taps):
            at = [p * s + t - b for p, s, t, b in zip(position, strides, tap, pads, strict=False)]
            if all(0 <= i < side for i, side in zip(at, x.shape[2:], strict=True)):
                inside.append(x.at((n, channel, *at)))
        return combine(inside)

    return filled((*x.shape[:2], *out), value)


def matmul(about, a, b):
    if len(b.shape) == 2:
        return filled((*a.shape[:-1], b.shape[1]), lambda p: sum(
            a.at((*p[:-1], k)) * b.at((k, p[-1])) for k in range(b.shape[0])))
    return filled((*a.shape[:-1], b.shape[-1]), lambda p: sum(
        a.at((*p[:-1], k)) * b.at((*p[:-2], k, p[-1])) for k in range(a.shape[-1])))


def turned(x):
    return filled(x.shape[::-1], lambda p: x.at(p[::-1]))


def gemm(about, a, b, c=None):
    a, b = turned(a) if about.get("transA") else a, turned(b) if about.get("transB") else b
    product = matmul({}, a, b)
    alpha, beta = int(about.get("alpha", 1)), int(about.get("beta", 1))
    return filled(product.shape, lambda p: alpha * product.at(p) + (beta * c.spread(p) if c else 0))


def requant_shift(about, x, multiplier, addend):
    divisor, count = number(about["div"]), number(about.get("n_levels_out", about.get("n_levels")))
    low, high = (-(count // 2), count // 2 - 1) if number(about["signed"]) else (0, count - 1)

    def constant(part, place):
        if len(part.values) == x.shape[1] and len(part.shape) == 3 and part.shape[1:] == (1, 1):
            return part.values[place[1]]
        return part.spread(place)

    def code(place):
        exact = Fraction(x.at(place) * constant(multiplier, place) + constant(addend, place), divisor)
        return min(max(math.floor(exact + (Fraction(1, 2) if divisor > 1 else 0)), low), high)

    return filled(x.shape, code)


def pointwise(rule):
    def meaning(about, a, b):
        rank = max(len(a.shape), len(b.shape))
        first, second = ((1,) * (rank - len(x.shape)) + x.shape for x in (a, b))
        found = filled(map(max, first, second), lambda p: rule(a.spread(p), b.spread(p)))
        found.is_whole = a.is_whole and b.is_whole
        return found
    return meaning


def divide(about, a, b):
    whole = a.is_whole
    found = pointwise(lambda x, y: Fraction(x) / y)(about, a, b)
    found.values = [math.floor(v) for v in found.values] if whole else found.values
    found.is_whole = whole
    return found


def cast(about, x):
    if about["to"] == 7:
        assert all(v == int(v) for v in x.values), "a quotient that nothing rounded"
        return Tensor(x.shape, [int(v) for v in x.values], is_whole=True)
    return Tensor(x.shape, x.values)


def clip(about, x):
    low, high = int(about["min"]), int(about["max"])
    assert all(v == int(v) for v in x.values)
    return Tensor(x.shape, [min(max(v, low), high) for v in x.values])


def reshape(about, x, shape):
    sides = [x.shape[k] if side == 0 else side for k, side in enumerate(shape.values)]
    if -1 in sides:
        sides[sides.index(-1)] = len(x.values) // -math.prod(sides)
    return Tensor(tuple(sides), x.values)


def pad(about, x):
    begin = about["pads"][:len(x.shape)]
    end = about["pads"][len(x.shape):]

    def value(place):
        at = tuple(i - b for i, b in zip(place, begin, strict=True))
        return x.at(at) if all(0 <= i < side for i, side in zip(at, x.shape, strict=True)) else 0

    return filled([b + side + e for b, side, e in zip(begin, x.shape, end, strict=True)], value)


def reduced(about, x, rule):
    axes, keep = about["axes"], about.get("keepdims", 1)
    sides = [1 if a in axes else side for a, side in enumerate(x.shape)]
    count = math.prod(x.shape[a] for a in axes)
    found = filled(sides, lambda p: sum(
        x.at(tuple(q[axes.index(a)] if a in axes else i for a, i in enumerate(p)))
        for q in places([x.shape[a] for a in axes])))
    found.values = [rule(v, count) for v in found.values]
    return found if keep else Tensor(tuple(s for a, s in enumerate(x.shape) if a not in axes), found.values)


def total(about, x):
    return reduced(about, x, lambda value, count: value)


def mean(about, x):
    return reduced(about, x, lambda value, count: math.floor(Fraction(value, count) + Fraction(1, 2)))


def concat(about, *parts):
    axis = about["axis"] % len(parts[0].shape)
    starts = list(itertools.accumulate((x.shape[axis] for x in parts), initial=0))
    sides = [starts[-1] if a == axis else side for a, side in enumerate(parts[0].shape)]

    def value(place):
        which = next(k for k in range(len(parts)) if place[axis] < starts[k + 1])
        return parts[which].at(tuple(i - starts[which] if a == axis else i for a, i in enumerate(place)))

    return filled(sides, value)


def transpose(about, x):
    order = about["perm"]
    return filled([x.shape[a] for a in order], lambda p: x.at(tuple(p[order.index(a)] for a in range(len(order)))))


def slices(about, x, starts, stops, axes, steps):
    picked = [list(range(side)) for side in x.shape]
    for start, stop, axis, step in zip(starts.values, stops.values, axes.values, steps.values, strict=True):
        picked[axis] = picked[axis][start:stop:step]
    return filled(map(len, picked), lambda p: x.at(tuple(index[i] for index, i in zip(picked, p, strict=True))))


def gather(about, x, indices):
    axis = about["axis"] % len(x.shape)
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]]
    return filled(shape, lambda p: x.at((*p[:axis], indices.at(p[axis:axis + len(indices.shape)]),
                                         *p[axis + len(indices.shape):])))


def squeeze(about, x):
    return Tensor(tuple(side for a, side in enumerate(x.shape) if a not in about["axes"]), x.values)


def unsqueeze(about, x):
    shape = list(x.shape)
    for axis in sorted(about["axes"]):
        shape.insert(axis, 1)
    return Tensor(tuple(shape), x.values)


def integer_div(about, a, b):
    def quotient(x, y):
        exact = Fraction(about["Delta"] * about["eta"] * x, about["eta"] * y + about["eps"])
        return math.floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    return pointwise(quotient)({}, a, b)


def true_integer_div(about, x):
    factor = about["Delta"] * about["eta"] // (about["eta"] * about["y"] + about["eps"])
    return Tensor(x.shape, [v * factor for v in x.values])


def requantized_sum(about, a, b):
    """QuantLab's Add for DORY: each operand and the sum through multiplier, addend and shift, to unsigned codes."""
    def through(part, x):
        if not about.get(f"{part}_rq"):
            return x
        exact = (Fraction(v * about[f"{part}_mul"] + about[f"{part}_add"], 2 ** about[f"{part}_shift"]) for v in x.values)
        return Tensor(x.shape, [min(max(math.floor(v), 0), about[f"{part}_n_levels"] - 1) for v in exact])
    return through("out", pointwise(lambda x, y: x + y)({}, through("in1", a), through("in2", b)))


def rows(rule):
    """Of the last axis: rule(row, attributes as numbers, constants as lists)."""
    def meaning(about, x, *constants):
        told = {name: number(value) for name, value in about.items()}
        width, values = x.shape[-1], []
        for start in range(0, len(x.values), width):
            values += rule(x.values[start:start + width], told, *(part.values for part in constants))
        return Tensor(x.shape, values)
    return meaning


def signed_code(value, about):
    return min(max(math.floor(value), -(about["n_levels"] // 2)), about["n_levels"] // 2 - 1)


def quotient_toward_0(a, b):
    return abs(a) // b * (1 if a >= 0 else -1)


def softmax(row, about):
    log2, powers = about["log2"], []
    for q in row:
        halvings = (max(row) - q) // log2
        rest = q - max(row) + halvings * log2
        powers.append((about["coeffA"] * (rest + about["coeffB"]) ** 2 + about["coeffC"]) // 2 ** halvings)
    return [math.floor(Fraction(power * (about["n_levels"] - 1), sum(powers))) for power in powers]


def ita_max(row, about):
    shifts = [(max(row) - q + 16) // 32 for q in row]
    inverse = (about["n_levels"] - 1) * 256 // sum(256 // 2 ** shift for shift in shifts)
    return [inverse // 2 ** shift for shift in shifts]


def layer_norm(row, about, weight, bias):
    middle = sum(row) // len(row)
    root = math.isqrt(sum((q - middle) ** 2 for q in row) // len(row) + 1)
    return [signed_code(Fraction(quotient_toward_0((q - middle) * w, root) + b, about["D"]), about)
            for q, w, b in zip(row, weight, bias, strict=True)]


def rms_norm(row, about, weight):
    root = math.isqrt(sum(q * q for q in row) // len(row) + 1)
    products = [q * w for q, w in zip(row, weight, strict=True)]
    return [signed_code(Fraction(quotient_toward_0(product, root), about["D"]), about) for product in products]


def no_norm(about, x, weight, bias):
    told = {name: number(value) for name, value in about.items()}
    return filled(x.shape, lambda p: signed_code(
        Fraction((x.at(p) * weight.spread(p) + bias.spread(p)) * told["mul"], told["D"]), told))


def gelu(row, about):
    found = []
    for q in row:
        near = min(abs(q), -about["b"])
        erf = (about["one"] - (near + about["b"]) ** 2) * ((q > 0) - (q < 0))
        found.append(q * math.floor(Fraction(about["one"] + erf, 2)))
    return found


def hard_swish(row, about):
    return [q * min(max(q + about["three"], 0), about["six"]) * about["one_over_six"] for q in row]


def flatten(about, x):
    axis = about.get("axis", 1)
    return Tensor((math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), x.values)


MEANINGS = {
    "Add": lambda about, a, b: requantized_sum(about, a, b) if about else pointwise(lambda x, y: x + y)(about, a, b),
    "Gather": gather, "ITAMax": rows(ita_max), "IntegerDiv": integer_div, "ReduceMean": mean, "ReduceSum": total,
    "Sigmoid": lambda about, x: x, "Slice": slices, "Squeeze": squeeze, "TrueIntegerDiv": true_integer_div,
    "Unsqueeze": unsqueeze, "iGELU": rows(gelu), "iHardswish": rows(hard_swish), "iLayerNorm": rows(layer_norm),
    "iNoNorm": no_norm, "iRMSNorm": rows(rms_norm), "iSoftmax": rows(softmax),
    "Cast": cast, "Clip": clip, "Concat": concat, "Conv": conv, "Div": divide,
    "AveragePool": lambda about, x: windows(about, x, lambda inside: Fraction(sum(inside), len(inside))),
    "Flatten": flatten, "Floor": lambda about, x: Tensor(x.shape, [math.floor(v) for v in x.values]),
    "Gemm": gemm, "IntegerMean": mean, "LogSoftmax": lambda about, x: x, "MatMul": matmul,
    "MaxPool": lambda about, x: windows(about, x, max), "Mul": pointwise(lambda a, b: a * b), "Pad": pad,
    "RequantShift": requant_shift, "Reshape": reshape, "Sub": pointwise(lambda a, b: a - b), "Transpose": transpose,
}
