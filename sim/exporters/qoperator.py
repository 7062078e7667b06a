"""QLinear operators, where ONNX's arithmetic is the program's: requantizer `ort`, weights of 8 bits, no residual.

A QLinearConv multiplies its sum by float32(float32(s_x s_w) / s_y): all scales but s_w are 1 here, so that it is the
requantizer's own.  Codes of fewer than 8 bits are clipped behind it.  The last layer gives numbers that are no codes of 8
bits: it is a ConvInteger with its requantizer in operators.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.exporters import integer
from sim.exporters.integer import Write, check, dtype_of
from sim.exporters.writer import ExportError, Writer, check_register, limits_of, pads_of, stored_dtype
from sim.ops.op import format_of
from sim.requantizers.mlas import MlasAdd

__all__ = ["DOMAINS", "OPERATIONS", "OPSET", "check", "dtype_of"]

OPSET = 17
BATCH = "N"
MICROSOFT = "com.microsoft"
DOMAINS: Mapping[str, int] = {MICROSOFT: 1}


def _one(write: Writer) -> str:
    return write.constant(np.float32(1.0), np.float32, "one")


def _ort(op: Any) -> Any:
    """The requantizer, if it is ONNX Runtime's.  Raises ExportError."""
    if op.requant.name != "ort":
        raise ExportError(f"{op.name}: QLinear operators round as requantizer ort, not {op.requant.name}: give --requant "
                          "ort, or --format integer")
    return _whole(op)


def _whole(op: Any) -> Any:
    """The requantizer, unless it shifts the sum to the left before the bias joins.  Raises ExportError."""
    if op.requant.fraction[0]:
        raise ExportError(f"{op.name}: its bias is in units of 2^-{op.requant.fraction[0]} of its sum, which no QLinear "
                          "operator has: choose more --bits, or --format integer")
    return op.requant


def _shared(op: Any, kind: str, constants: np.ndarray) -> np.ndarray:
    """The one number above 0 that all channels share, as float32.  Raises ExportError."""
    if (constants != constants[0]).any() or not constants[0] > 0:
        raise ExportError(f"{op.name}: {kind} has one scale above 0 for all channels: give --format integer")
    return constants[0]


def _narrowed(write: Writer, op: Any, name: str) -> None:
    """Codes of a byte clipped to those of the operation."""
    info = np.iinfo(stored_dtype(format_of(op)))
    low, high = limits_of(op)
    if (low, high) == (info.min, info.max):
        write.node("Identity", [name], op.name)
    else:
        write.node("Clip", [name, write.constant(low, info.dtype), write.constant(high, info.dtype)], op.name)


def _byte(op: Any, source: Any) -> None:
    for each in (op, source):
        if format_of(each).bits > 8:
            raise ExportError(f"{op.name}: codes of {each.format} are more than QLinear operators have: 8 bits")


def _filtered(write: Writer, op: Any, weights: np.ndarray, **attributes: Any) -> None:
    """QLinearConv of int8 weights [channels, in channels / groups, rows, columns], one scale for each channel."""
    requant, source = _ort(op), write.ops[op.source]
    _byte(op, source)
    bias = requant.bias.astype(np.int64) + (0 if getattr(op, "start", None) is None else op.start)
    if np.abs(bias).max(initial=0) >= 2**31:
        raise ExportError(f"{op.name}: a bias beyond 32 bits")
    dtype, own = stored_dtype(format_of(op)), stored_dtype(format_of(source))
    x, zero, shift = source.name, write.constant(source.zero_point, own), 0
    if dtype != own:  # QLinearConv has both signed or both not: signed ones are shifted by 128
        x, zero, _ = integer.bytes_of(write, source, op.name)
        shift, dtype = (128, np.dtype(np.uint8)) if dtype == np.int8 else (0, dtype)
    inputs = [x, _one(write), zero, write.constant(weights, np.int8, f"{op.name}/weights"),
              write.constant(np.broadcast_to(requant.scale, len(weights)), np.float32, f"{op.name}/scale"),
              write.constant(np.zeros(len(weights)), np.int8, "zeros"), _one(write),
              write.constant(op.zero_point + shift, dtype), write.constant(np.broadcast_to(bias, len(weights)), np.int32,
                                                                        f"{op.name}/bias")]
    byte = write.node("QLinearConv", inputs, f"{op.name}/byte", **attributes)
    if shift:
        wide = write.node("Sub", [write.cast(byte, np.int32, f"{op.name}/int"), write.constant(shift, np.int32)],
                          f"{op.name}/less")
        byte = write.cast(wide, np.int8, f"{op.name}/signed")
    _narrowed(write, op, byte)


def conv(write: Writer, op: Any) -> None:
    """Without a residual, which QLinearConv has not."""
    if op.format is None:
        integer.conv(write, op)
        return
    check_register(op)
    if op.skip:
        raise ExportError(f"{op.name}: adds the residual {op.skip} before it rounds, which no QLinear operator does: export "
                          "it with --format integer")
    if op.weights.min(initial=0) < -128 or op.weights.max(initial=0) > 127:
        raise ExportError(f"{op.name}: weights of {op.weight_format} do not fit 8 bits: choose fewer --bits or --boundary-"
                          "bits (7 of dorefa's), or --format integer")
    _filtered(write, op, op.weights.transpose(3, 2, 0, 1), pads=pads_of(op.window), strides=list(op.window.strides),
              dilations=[op.window.dilation] * 2, group=op.groups, kernel_shape=list(op.window.taps))


def pool(write: Writer, op: Any) -> None:
    """A convolution with ones, for each channel apart: its scale is the requantizer's, which a pool's would not be."""
    rows, columns = op.window
    _filtered(write, op, np.ones((op.shape[2], 1, rows, columns), np.int8), group=op.shape[2], pads=[op.padding] * 4,
              strides=[op.stride] * 2, kernel_shape=[rows, columns])


def _pair(write: Writer, op: Any, kind: str, scales: tuple[str, str]) -> None:
    a, b = write.ops[op.source], write.ops[op.other]
    dtypes = {stored_dtype(format_of(each)) for each in (op, a, b)}
    _byte(op, a)
    _byte(op, b)
    if len(dtypes) > 1:
        raise ExportError(f"{op.name}: {kind} has all codes signed or all not")
    dtype = dtypes.pop()
    inputs = [a.name, scales[0], write.constant(a.zero_point, dtype), b.name, scales[1], write.constant(b.zero_point, dtype),
              _one(write), write.constant(op.zero_point, dtype)]
    _narrowed(write, op, write.node(kind, inputs, f"{op.name}/byte", MICROSOFT))


def add(write: Writer, op: Any) -> None:
    """QLinearAdd rounds as mlas_add."""
    if op.requant.name != "mlas_add":
        raise ExportError(f"{op.name}: QLinearAdd rounds as requantizer mlas_add, not {op.requant.name}: lower it with "
                          "--hardware onnxruntime, or --format integer")
    requant, zeros = op.requant, (op.source_zero, op.other_zero, op.zero_point)
    scales = [_shared(op, "QLinearAdd", array) for array in (requant.scale_a, requant.scale_b)]
    theirs = MlasAdd.of(scales[0], scales[1], np.float32(1), zeros, len(requant.zero)).arrays()
    if any((array != theirs[name]).any() for name, array in requant.arrays().items()):
        raise ExportError(f"{op.name}: QLinearAdd takes the zero points of its codes, those of its requantizer are others")
    a, b = (write.constant(scale, np.float32) for scale in scales)
    _pair(write, op, "QLinearAdd", (a, b))


def multiply(write: Writer, op: Any) -> None:
    """QLinearMul."""
    requant = op.requant
    if requant.name not in ("ort", "mlas_multiply") or (requant.name == "ort" and (op.zero_point or requant.bias.any())):
        raise ExportError(f"{op.name}: QLinearMul rounds as requantizer mlas_multiply, not {requant.name}")
    if requant.name == "ort":
        _whole(op)
    elif (requant.zero != op.zero_point).any():
        raise ExportError(f"{op.name}: QLinearMul takes the zero point of its codes, that of its requantizer is another")
    _pair(write, op, "QLinearMul", (write.constant(_shared(op, "QLinearMul", requant.scale), np.float32), _one(write)))


OPERATIONS: Mapping[str, Write] = {**integer.OPERATIONS, "conv": conv, "pool": pool, "add": add, "multiply": multiply}
