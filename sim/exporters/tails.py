"""What comes behind sums, in operators of ONNX that are exact: a requantizer each, integers where it is one of integers.

tail(writer, op, sums int32, residual's codes or "") -> (name of codes, not clamped, or of logits; whether they are float32)
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.exporters.writer import ExportError, Writer, limits_of, stored_dtype
from sim.requantizers.rule import LOGIT_FORMAT


def requantized(write: Writer, op: Any, sums: str, residual: str = "") -> str:
    """Codes of an operation, or its logits, of int32 sums and a residual's codes."""
    requant = op.requant
    if requant.name not in TAILS:
        raise ExportError(f"{op.name}: requantizer {requant.name} is not written in operators of ONNX, choose one of "
                          f"{', '.join(TAILS)}")
    steps, is_float = TAILS[requant.name](write, op, sums, residual)
    if op.format is None and requant.name == "fp32":
        return write.node("Identity", [steps], op.name)
    low, high = limits_of(op) if op.format is not None else (LOGIT_FORMAT.min, LOGIT_FORMAT.max)
    dtype: Any = np.float32 if is_float else np.int64
    clipped = write.node("Clip", [steps, write.constant(low - op.zero_point, dtype), write.constant(high - op.zero_point,
                                                                                                    dtype)],
                         f"{op.name}/clipped")
    if op.zero_point:
        clipped = write.node("Add", [clipped, write.constant(op.zero_point, dtype)], f"{op.name}/shifted")
    return write.cast(clipped, np.int32 if op.format is None else stored_dtype(op.format), op.name)


def _fp32(write: Writer, op: Any, sums: str, residual: str) -> tuple[str, bool]:
    """Each operation of float32 on its own."""
    requant = op.requant
    real = write.cast(sums, np.float32, f"{op.name}/float")
    steps = write.node("Mul", [real, write.per_channel(requant.gain, np.float32, f"{op.name}/gain")], f"{op.name}/scaled")
    steps = write.node("Add", [steps, write.per_channel(requant.offset, np.float32, f"{op.name}/offset")],
                       f"{op.name}/steps")
    if residual:
        more = write.cast(residual, np.float32, f"{op.name}/residual")
        more = write.node("Mul", [more, write.constant(requant.skip_gain[0], np.float32)], f"{op.name}/more")
        steps = write.node("Add", [steps, more], f"{op.name}/sum")
    return (steps if op.format is None else write.node("Round", [steps], f"{op.name}/rounded")), True


def _shifted(write: Writer, op: Any, name: str, shift: np.ndarray) -> str:
    """floor(x / 2^shift) of int64: ONNX shifts unsigned integers alone, and its division is toward 0."""
    by = write.per_channel(1 << shift.astype(np.int64), np.int64, f"{op.name}/divisor")
    rest = write.node("Mod", [name, by], f"{op.name}/rest")  # of the sign of the divisor
    return write.node("Div", [write.node("Sub", [name, rest], f"{op.name}/whole"), by], f"{op.name}/quotient")


def _times(write: Writer, op: Any, name: str, multiplier: np.ndarray, shift: np.ndarray) -> str:
    """(x multiplier + 2^(shift - 1)) >> shift, int64."""
    product = write.node("Mul", [name, write.per_channel(multiplier, np.int64, f"{op.name}/multiplier")],
                         f"{op.name}/product")
    half = write.per_channel(np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0), np.int64, f"{op.name}/half")
    return _shifted(write, op, write.node("Add", [product, half], f"{op.name}/halfway"), shift)


def _tflite_single(write: Writer, op: Any, sums: str, residual: str) -> tuple[str, bool]:
    """Equation 9 in int64."""
    requant = op.requant
    x = write.cast(sums, np.int64, f"{op.name}/wide")
    left, right = np.maximum(requant.pre_shift, 0), np.maximum(-requant.pre_shift, 0)
    if left.any():
        x = write.node("Mul", [x, write.per_channel(1 << left, np.int64, f"{op.name}/left")], f"{op.name}/prescaled")
    if right.any():
        x = _times(write, op, x, np.ones_like(right), right)
    x = write.node("Add", [x, write.per_channel(requant.bias, np.int64, f"{op.name}/bias")], f"{op.name}/biased")
    x = write.node("Clip", [x, write.constant(-(2**31), np.int64), write.constant(2**31 - 1, np.int64)],
                   f"{op.name}/register")
    code = _times(write, op, x, requant.multiplier, requant.shift)
    if residual:
        more = write.cast(residual, np.int64, f"{op.name}/residual")
        more = _times(write, op, more, requant.skip_multiplier, requant.skip_shift)
        code = write.node("Add", [code, more], f"{op.name}/sum")
    return code, False


FARTHEST = 2.0**40


def _nearest(write: Writer, op: Any, sums: str, residual: str) -> tuple[str, bool]:
    """A float32 product of sum 2^fraction + bias in 32 bits, half to even; a residual's apart."""
    requant, x = op.requant, sums
    if requant.fraction[0]:
        x = write.node("Mul", [x, write.constant(1 << int(requant.fraction[0]), np.int32)], f"{op.name}/finer")
    x = write.node("Add", [x, write.per_channel(requant.bias, np.int32, f"{op.name}/bias")], f"{op.name}/biased")

    def rounded(name: str, scale: str) -> str:
        product = write.node("Mul", [write.cast(name, np.float32, f"{op.name}/float"), scale], f"{op.name}/scaled")
        cut = write.node("Clip", [product, write.constant(-FARTHEST, np.float32), write.constant(FARTHEST, np.float32)],
                         f"{op.name}/cut")
        return write.cast(write.node("Round", [cut], f"{op.name}/rounded"), np.int64, f"{op.name}/code")

    code = rounded(x, write.per_channel(requant.scale, np.float32, f"{op.name}/scale"))
    if residual:
        code = write.node("Add", [code, rounded(residual, write.constant(requant.skip_scale[0], np.float32))],
                          f"{op.name}/sum")
    return code, False


def _thresholds(write: Writer, op: Any, sums: str, residual: str) -> tuple[str, bool]:
    """Levels that are reached, counted; a residual's apart."""
    requant = op.requant
    code = _counted(write, op, sums, requant.levels, requant.base, requant.step)
    if residual:
        wide = write.cast(residual, np.int32, f"{op.name}/residual")
        more = _counted(write, op, wide, requant.skip_levels, requant.skip_base, requant.skip_step)
        code = write.node("Add", [code, more], f"{op.name}/sum")
    return code, False


def _counted(write: Writer, op: Any, name: str, levels: np.ndarray, base: np.ndarray, step: np.ndarray) -> str:
    never = (levels > 2**31 - 1)[:, None, None, :]
    whole = np.clip(levels, -(2**31), 2**31 - 1)[:, None, None, :]
    if not levels.shape[1]:  # a constant: compared with what nothing reaches
        never, whole = np.ones((len(levels), 1, 1, 1), bool), np.zeros((len(levels), 1, 1, 1), np.int64)
    deep = write.node("Unsqueeze", [name, write.constant([4], np.int64)], f"{op.name}/deep")
    reached = write.node("GreaterOrEqual", [deep, write.constant(whole, np.int32, f"{op.name}/levels")],
                         f"{op.name}/reached")
    if never.any():
        reached = write.node("And", [reached, write.constant(~never, bool, f"{op.name}/reachable")], f"{op.name}/possible")
    count = write.node("ReduceSum", [write.cast(reached, np.int64, f"{op.name}/ones"), write.constant([4], np.int64)],
                       f"{op.name}/count", keepdims=0)
    count = write.node("Mul", [count, write.per_channel(step, np.int64, f"{op.name}/step")], f"{op.name}/stepped")
    return write.node("Add", [count, write.per_channel(base, np.int64, f"{op.name}/base")], f"{op.name}/code")


def _exact(write: Writer, op: Any, sums: str, residual: str) -> tuple[str, bool]:
    """Integers as they are."""
    requant = op.requant
    code = write.cast(sums, np.int64, f"{op.name}/wide")
    if requant.bias.any():
        code = write.node("Add", [code, write.per_channel(requant.bias, np.int64, f"{op.name}/bias")], f"{op.name}/biased")
    if residual:
        more = write.node("Mul", [write.cast(residual, np.int64, f"{op.name}/residual"),
                                  write.per_channel(requant.sign, np.int64, f"{op.name}/sign")], f"{op.name}/more")
        code = write.node("Add", [code, more], f"{op.name}/sum")
    return code, False


TAILS: Mapping[str, Callable[[Writer, Any, str, str], tuple[str, bool]]] = {
    "fp32": _fp32, "tflite_single": _tflite_single, "ort": _nearest, "xnnpack": _nearest, "thresholds": _thresholds,
    "exact_add": _exact}
