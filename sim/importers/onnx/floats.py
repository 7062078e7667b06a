"""float32 operators as ONNX Runtime computes them on processors with AVX2, for tables, thresholds and what is outside.

Only those whose every bit is known: what IEEE 754 rounds, and MLAS's logistic function, whose coefficients are Eigen's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from sim.importers.onnx.fma import fma
from sim.importers.onnx.model import Node

Array = np.ndarray


def quantized(x: Array, scale: Array | np.float32, zero: Array | int, low: int, high: int) -> Array:
    """QuantizeLinear: float32 division, ties to even, zero point, clamp -> int64; what is no number gives the least code."""
    with np.errstate(all="ignore"):
        steps = np.rint((np.asarray(x, np.float32) / scale).astype(np.float32))
    steps = np.nan_to_num(steps, nan=-2.0**40, posinf=2.0**40, neginf=-2.0**40).clip(-2.0**40, 2.0**40)
    whole: Array = np.clip(steps.astype(np.int64) + zero, low, high)
    return whole


def logistic(x: Array) -> Array:
    """1 / (1 + e^-x) by a quotient of polynomials in x^2, fused; within [0, 1]."""
    x = np.clip(np.asarray(x, np.float32), np.float32(-18), np.float32(18))
    square = x * x
    above = _horner(square, (4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03,
                             2.48287947061529e-01))
    below = _horner(square, (6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03,
                             1.16817656904453e-01, 9.93151921023180e-01))
    quotient = (above * x) / below
    value: Array = np.clip(quotient + np.float32(0.5), np.float32(0), np.float32(1))
    return value


def _horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    total = np.full_like(x, np.float32(coefficients[0]))
    for coefficient in coefficients[1:]:
        total = fma(total, x, np.float32(coefficient))
    return total


def _number(node: Node, name: str, default: float) -> np.float32:
    return np.float32(node.attributes.get(name, default))


def _clip(node: Node, x: Array, *limits: Array | None) -> Array:
    """Limits are inputs, or attributes of old models."""
    low = limits[0] if limits and limits[0] is not None else node.attributes.get("min")
    high = limits[1] if len(limits) > 1 and limits[1] is not None else node.attributes.get("max")
    x = x if low is None else np.maximum(x, np.float32(low))
    return x if high is None else np.minimum(x, np.float32(high))


def _leaky(node: Node, x: Array) -> Array:
    return np.where(x >= 0, x, x * _number(node, "alpha", 0.01))


def _hard_sigmoid(node: Node, x: Array) -> Array:
    steps = x * _number(node, "alpha", 0.2) + _number(node, "beta", 0.5)
    return np.maximum(np.minimum(steps, np.float32(1)), np.float32(0))


def _hard_swish(node: Node, x: Array) -> Array:
    return x * np.maximum(np.minimum(x * np.float32(1 / 6) + np.float32(0.5), np.float32(1)), np.float32(0))


def _norm(node: Node, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> Array:
    """Scale and shift are made first, each operation rounded."""
    scale = (np.float32(1) / np.sqrt(variance + _number(node, "epsilon", 1e-5))) * gamma
    return x * scale + (beta - mean * scale)


FLOATS: dict[str, Callable[..., Any]] = {
    "Add": lambda node, a, b: a + b,
    "Sub": lambda node, a, b: a - b,
    "Mul": lambda node, a, b: a * b,
    "Div": lambda node, a, b: a / b,
    "Max": lambda node, *x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "Min": lambda node, *x: np.minimum.reduce(np.broadcast_arrays(*x)),
    "Neg": lambda node, x: -x,
    "Abs": lambda node, x: np.abs(x),
    "Relu": lambda node, x: np.maximum(x, np.float32(0)),
    "Clip": _clip,
    "Cast": lambda node, x: x,
    "Identity": lambda node, x: x,
    "Dropout": lambda node, x, *rest: x,
    "LeakyRelu": _leaky,
    "Sigmoid": lambda node, x: logistic(x),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "BatchNormalization": _norm,
    "Floor": lambda node, x: np.floor(x),
    "Ceil": lambda node, x: np.ceil(x),
    "Round": lambda node, x: np.rint(x),
    "Sqrt": lambda node, x: np.sqrt(x),
}
"""Operators of one float32 array and constants, which broadcast; (node, arrays) -> array."""

MONOTONE = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Neg", "Relu", "Clip", "Cast", "Identity", "Dropout",
            "BatchNormalization",
            "Floor", "Ceil", "Round", "HardSigmoid", "LeakyRelu"}
"""Those that never turn back in their one argument that is no constant: rising, or falling where a factor is negative.

LeakyRelu is one where its alpha is not negative.
"""
FLOATS["Reshape"] = lambda node, x: x.reshape(node.attributes["to"])
