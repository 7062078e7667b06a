"""ConvInteger and MatMulInteger, and behind them the requantizer in exact operators: every integer as the machine has it.

Weights of more than 8 bits become two convolutions of 8 bits, whose sums are added: w = 128 high + low.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.exporters.tails import requantized
from sim.exporters.writer import ExportError, Writer, check_codes, check_reach, check_register, pads_of, stored_dtype
from sim.formats import IntFormat
from sim.ops.op import Op, format_of, reach_of

OPSET = 17
BATCH = "N"


def entrance(write: Writer, op: Any) -> None:
    """Pixels uint8 [N, C, H, W] through the table of each channel."""
    pixels = write.fresh(f"{op.name}/pixels")
    write.inputs.append(write.shaped(pixels, np.uint8, op))
    offsets = np.arange(op.shape[2]) * 256
    index = write.node("Add", [write.cast(pixels, np.int32, f"{op.name}/int"),
                               write.per_channel(offsets, np.int32, f"{op.name}/rows")], f"{op.name}/index")
    table = write.constant(op.table.reshape(-1), stored_dtype(format_of(op)), f"{op.name}/table")
    write.node("Gather", [table, index], op.name, axis=0)


def codes_entrance(write: Writer, op: Any) -> None:
    """Codes as they come."""
    write.inputs.append(write.shaped(op.name, stored_dtype(format_of(op)), op))


def table(write: Writer, op: Any) -> None:
    """One code for another."""
    _look(write, op.source, op.table, op.least, op.name, stored_dtype(format_of(op)))


def _look(write: Writer, source: str, codes: np.ndarray, least: int, name: str, dtype: np.dtype) -> str:
    index = write.cast(source, np.int32, f"{name}/int")
    if least:
        index = write.node("Sub", [index, write.constant(least, np.int32)], f"{name}/index")
    return write.node("Gather", [write.constant(codes, dtype, f"{name}/table"), index], name, axis=0)


def bytes_of(write: Writer, op: Op, name: str) -> tuple[str, str, int]:
    """Codes as uint8 and their zero point as a name and a number: signed ones are shifted by 128."""
    form = format_of(op)
    if form.bits > 8:
        raise ExportError(f"{name}: reads codes of {form}; ONNX multiplies integers of 8 bits")
    if not form.signed:
        return op.name, write.constant(op.zero_point, np.uint8), op.zero_point
    key = f"{op.name}/unsigned"
    if not any(key in node.output for node in write.nodes):
        wide = write.node("Add", [write.cast(op.name, np.int32, f"{op.name}/int32"), write.constant(128, np.int32)],
                          f"{op.name}/above")
        write.cast(wide, np.uint8, key)
    return key, write.constant(op.zero_point + 128, np.uint8), op.zero_point + 128


def parts_of(weights: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """int8 arrays and their factors: one where all fit, else the high and the low 7 bits."""
    if weights.min(initial=0) >= -128 and weights.max(initial=0) <= 127:
        return [(weights, 1)]
    return [(weights >> 7, 128), (weights & 127, 1)]


def conv(write: Writer, op: Any) -> None:
    """Sums, then the requantizer with its residual."""
    requantized(write, op, sums_of(write, op), op.skip)


def sums_of(write: Writer, op: Any) -> str:
    """int32 sums of a convolution: `NAME/sums`."""
    check_register(op)
    low, high = op.bounds
    check_reach(op, max(-low, high) + int(np.abs(op.correction).max(initial=0)))
    source, zero, _ = bytes_of(write, write.ops[op.source], op.name)
    weights = op.weights.transpose(3, 2, 0, 1)
    if weights.min(initial=0) < -(1 << 14) or weights.max(initial=0) >= 1 << 14:
        raise ExportError(f"{op.name}: weights of more than 15 bits are not written")
    total = ""
    for part, factor in parts_of(weights):
        sums = write.node("ConvInteger", [source, write.constant(part, np.int8, f"{op.name}/weights"), zero],
                          f"{op.name}/products", pads=pads_of(op.window), strides=list(op.window.strides),
                          dilations=[op.window.dilation] * 2, group=op.groups, kernel_shape=list(op.window.taps))
        if factor > 1:
            sums = write.node("Mul", [sums, write.constant(factor, np.int32)], f"{op.name}/high")
        total = sums if not total else write.node("Add", [total, sums], f"{op.name}/both")
    if getattr(op, "start", None) is not None:
        total = write.node("Add", [total, write.per_channel(op.start, np.int32, f"{op.name}/start")], f"{op.name}/started")
    return write.node("Identity", [total], f"{op.name}/sums")


def pool(write: Writer, op: Any) -> None:
    """A sum of codes is a convolution with ones, for each channel apart."""
    source, zero, _ = bytes_of(write, write.ops[op.source], op.name)
    rows, columns = op.window
    check_reach(op, rows * columns * reach_of(write.ops[op.source]))
    ones = write.constant(np.ones((op.shape[2], 1, rows, columns)), np.int8, f"{op.name}/ones")
    sums = write.node("ConvInteger", [source, ones, zero], f"{op.name}/sums", group=op.shape[2], pads=[op.padding] * 4,
                      strides=[op.stride] * 2, kernel_shape=[rows, columns])
    requantized(write, op, sums)


def _less(write: Writer, op: Any, name: str, zero: int, stem: str) -> str:
    """int32 codes less their zero point."""
    check_reach(op, reach_of(write.ops[name]), f"codes of {name} less their zero point")
    wide = write.cast(name, np.int32, stem)
    return write.node("Sub", [wide, write.constant(zero, np.int32)], f"{stem}/less") if zero else wide


def add(write: Writer, op: Any) -> None:
    """Two operands, as a sum and its residual."""
    requantized(write, op, _less(write, op, op.source, op.source_zero, f"{op.name}/sums"),
                _less(write, op, op.other, op.other_zero, f"{op.name}/other"))


def multiply(write: Writer, op: Any) -> None:
    """Products of two tensors."""
    check_reach(op, reach_of(write.ops[op.source]) * reach_of(write.ops[op.other]), "products")
    factors = [_less(write, op, op.source, op.source_zero, f"{op.name}/a"),
               _less(write, op, op.other, op.other_zero, f"{op.name}/b")]
    requantized(write, op, write.node("Mul", factors, f"{op.name}/sums"))


def rescale(write: Writer, op: Any) -> None:
    """Codes through a requantizer."""
    requantized(write, op, _less(write, op, op.source, op.source_zero, f"{op.name}/sums"))


def matmul(write: Writer, op: Any) -> None:
    """[N, heads, tokens, depth] times [N, heads, depth, columns]."""
    check_register(op)
    check_reach(op, op.reach)
    (a, a_zero, _), (b, b_zero, _) = (bytes_of(write, write.ops[name], op.name) for name in (op.source, op.other))
    a = write.node("Transpose", [a], f"{op.name}/a", perm=[0, 2, 3, 1])
    b = write.node("Transpose", [b], f"{op.name}/b", perm=[0, 2, 1, 3] if op.transpose else [0, 2, 3, 1])
    sums = write.node("MatMulInteger", [a, b, a_zero, b_zero], f"{op.name}/products")
    requantized(write, op, write.node("Transpose", [sums], f"{op.name}/sums", perm=[0, 3, 1, 2]))


def shortcut(write: Writer, op: Any) -> None:
    """Every so many pixels, and channels of the zero point before and after."""
    source = op.source
    if op.stride > 1:
        source = write.node("Slice", [source, *(write.constant(part, np.int64) for part in (
            [0, 0], list(write.ops[op.source].shape[:2]), [2, 3], [op.stride] * 2))], f"{op.name}/pixels")
    added = op.shape[2] - write.ops[op.source].shape[2]
    _pad(write, op, source, [0, added // 2, 0, 0, 0, added - added // 2, 0, 0])


def _pad(write: Writer, op: Any, source: str, pads: list[int]) -> None:
    dtype = stored_dtype(format_of(op))
    wide = dtype if dtype != np.dtype(np.uint8) else np.dtype(np.uint8)
    write.node("Pad", [source, write.constant(pads, np.int64), write.constant(op.zero_point, wide)], op.name)


def pad(write: Writer, op: Any) -> None:
    """Rows and columns of the zero point."""
    top, bottom, left, right = op.paddings
    _pad(write, op, op.source, [0, 0, top, left, 0, 0, bottom, right])


def max_pool(write: Writer, op: Any) -> None:
    """The largest code of a window, in bytes."""
    if format_of(op).bits > 8:
        raise ExportError(f"{op.name}: maximum pooling of codes of {op.format}; ONNX has it for 8 bits")
    window = op.geometry
    write.node("MaxPool", [op.source], op.name, kernel_shape=list(window.taps), strides=list(window.strides),
               pads=pads_of(window))


def concat(write: Writer, op: Any) -> None:
    """Each through its own table."""
    dtype = stored_dtype(format_of(op))
    parts = [_look(write, name, codes, least, f"{op.name}/{index}", dtype)
             for index, (name, (codes, least)) in enumerate(zip(op.sources(), op.tables(), strict=True))]
    write.node("Concat", parts, op.name, axis=1)


def move(write: Writer, op: Any) -> None:
    """Read as other sides, axes in another order."""
    last = write.node("Transpose", [op.source], f"{op.name}/last", perm=[0, 2, 3, 1])
    split = write.node("Reshape", [last, write.constant([-1, *op.split], np.int64)], f"{op.name}/split")
    turned = write.node("Transpose", [split], f"{op.name}/turned", perm=[0, *(axis + 1 for axis in op.order)])
    shaped = write.node("Reshape", [turned, write.constant([-1, *op.shape], np.int64)], f"{op.name}/shaped")
    write.node("Transpose", [shaped], op.name, perm=[0, 3, 1, 2])


check = check_codes
Write = Callable[[Writer, Any], None]
OPERATIONS: Mapping[str, Write] = {
    "input": entrance, "codes": codes_entrance, "conv": conv, "table": table, "pool": pool, "add": add, "multiply": multiply,
    "rescale": rescale, "matmul": matmul, "shortcut": shortcut, "pad": pad, "maxpool": max_pool, "concat": concat,
    "move": move}
DOMAINS: Mapping[str, int] = {}


def dtype_of(op: Any) -> np.dtype:
    """The type of an operation's tensor."""
    form: IntFormat | None = op.format
    return (np.dtype(np.float32 if op.requant.name == "fp32" else np.int32)) if form is None else stored_dtype(form)
