"""QONNX: float32 operators on whole numbers, which are exact below 2^24, and quantizers of scale 1 behind them.

Codes are float32 of their own value, so that every tool that reads QONNX sees integers.  `fp32` is Mul, Add and Quant, as it
is defined; requantizers of integers, which only ever rise or fall with the sum, become MultiThreshold with the levels where
their codes change, found with the requantizer itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.exporters.writer import ExportError, Writer, check_register, pads_of
from sim.formats import EXACT_FLOAT32, IntFormat
from sim.ops.op import format_of

OPSET = 14
BATCH = 1
"""As in QONNX's model zoo: its executor refuses shapes that are no numbers, its inference_cost counts them as 0."""
QONNX = "qonnx.custom_op.general"
DOMAINS: Mapping[str, int] = {QONNX: 1}
MOST_LEVELS = 1 << 12
Function = Callable[[np.ndarray], np.ndarray]


def dtype_of(op: Any) -> np.dtype:
    """All tensors are float32."""
    return np.dtype(np.float32)


def check(op: Any) -> None:
    """Raise ExportError for codes that are more than whole numbers of float32 within their format."""
    if op.format is not None and op.format.reach >= EXACT_FLOAT32:
        raise ExportError(f"{op.name}: gives codes of {op.format}, float32 is exact below {EXACT_FLOAT32}: give --format "
                          "integer")
    if op.zero_point or (op.limits and tuple(op.limits) != (op.format.min, op.format.max)):
        raise ExportError(f"{op.name}: limits and zero points of codes are not written in QONNX")


def _real(write: Writer, array: Any, stem: str = "constant") -> str:
    return write.constant(array, np.float32, stem)


def levels_of(function: Function, channels: int, low: int, high: int, name: str) -> tuple[np.ndarray, int]:
    """Levels float32 [channels, n] of a rising function of whole numbers [channels, n], and its code below the first.

    Raises ExportError for functions that fall somewhere or have too many codes.
    """
    ends = function(np.broadcast_to(np.array([low, high], np.int64), (channels, 2)))
    base, most = int(ends[:, 0].min()), int(ends[:, 1].max())
    if most - base > MOST_LEVELS:
        raise ExportError(f"{name}: {most - base} thresholds for each channel, at most {MOST_LEVELS} are written")
    if (ends[:, 1] < ends[:, 0]).any():
        raise ExportError(f"{name}: codes fall with the sum, thresholds only rise")
    wanted = np.arange(base + 1, most + 1)
    below, above = np.full((channels, len(wanted)), low - 1, np.int64), np.full((channels, len(wanted)), high + 1, np.int64)
    while (above - below > 1).any():  # reached at `above`, not at `below`
        middle = below + (above - below) // 2
        inside = np.clip(middle, low, high)
        reached = function(inside) >= wanted
        above, below = np.where(reached, middle, above), np.where(reached, below, middle)
    return np.where(above > high, np.inf, np.where(above < low, -np.inf, above)).astype(np.float32), base


def _counted(write: Writer, op: Any, source: str, function: Function, channels: int, ends: tuple[int, int]) -> None:
    """MultiThreshold."""
    levels, base = levels_of(function, channels, *ends, op.name)
    if not levels.shape[1]:
        levels = np.full((channels, 1), np.inf, np.float32)
    write.node("MultiThreshold", [source, _real(write, levels, f"{op.name}/levels")], op.name, QONNX, out_dtype=_type(op),
               out_scale=1.0, out_bias=float(base))


def _type(op: Any) -> str:
    form = format_of(op)
    return f"{'' if form.signed else 'U'}INT{form.bits}"


def entrance(write: Writer, op: Any) -> None:
    """Pixels of 0 to 255 in float32."""
    pixels = write.fresh(f"{op.name}/pixels")
    write.inputs.append(write.shaped(pixels, np.float32, op))
    table = op.table.astype(np.int64)
    if (np.diff(table, axis=1) < 0).any():
        raise ExportError(f"{op.name}: codes fall with the pixel, thresholds only rise")
    _counted(write, op, pixels, lambda x: np.take_along_axis(table, np.clip(x, 0, 255), 1), len(table), (0, 255))


def codes_entrance(write: Writer, op: Any) -> None:
    """Codes as they come, in float32."""
    write.inputs.append(write.shaped(op.name, np.float32, op))


def table(write: Writer, op: Any) -> None:
    """One code for another, rising."""
    codes, source = op.table.astype(np.int64), format_of(write.ops[op.source])
    if (np.diff(codes) < 0).any():
        raise ExportError(f"{op.name}: codes of its table fall somewhere, thresholds only rise")
    _counted(write, op, op.source, lambda x: codes[x - op.least], 1, (source.min, source.max))


def _weights(write: Writer, op: Any, weights: np.ndarray, bits: int) -> str:
    """A constant through a quantizer of its own, as QONNX marks weights."""
    return write.node("Quant", [_real(write, weights, f"{op.name}/weights"), _real(write, 1.0), _real(write, 0.0),
                                _real(write, float(bits))], f"{op.name}/quantized", QONNX, signed=1, narrow=0,
                      rounding_mode="ROUND")


def _finished(write: Writer, op: Any, sums: str, residual: str, ends: tuple[int, int]) -> None:
    """Behind exact sums."""
    requant = op.requant
    if requant.name == "fp32":
        steps = write.node("Mul", [sums, write.per_channel(requant.gain, np.float32, f"{op.name}/gain")],
                           f"{op.name}/scaled")
        steps = write.node("Add", [steps, write.per_channel(requant.offset, np.float32, f"{op.name}/offset")],
                           f"{op.name}/steps" if op.format is not None or residual else op.name)
        if residual:
            more = write.node("Mul", [residual, _real(write, requant.skip_gain[0])], f"{op.name}/more")
            steps = write.node("Add", [steps, more], f"{op.name}/sum")
        if op.format is not None:
            _quantized(write, op, steps)
        return
    if op.format is None or residual:
        what = "of logits" if op.format is None else "with a residual"
        raise ExportError(f"{op.name}: requantizer {requant.name} {what} is no threshold of a sum: give --requant fp32, or "
                          "--format integer")
    channels, form = op.shape[2], format_of(op)

    def function(x: np.ndarray) -> np.ndarray:
        codes = requant.codes(np.ascontiguousarray(x.T[None, None]), None, form)
        return codes[0, 0].T.astype(np.int64)

    reach = max(map(abs, ends))
    found = function(np.broadcast_to(np.array([-reach, reach], np.int64), (channels, 2)))
    sign = np.where(found[:, 1] < found[:, 0], -1, 1)
    if (sign < 0).any():  # channels whose codes fall: of the sum with the other sign they rise
        sums = write.node("Mul", [sums, write.per_channel(sign, np.float32, f"{op.name}/sign")], f"{op.name}/signed")
    _counted(write, op, sums, lambda x: function(x * sign[:, None]), channels, (-reach, reach))


def _quantized(write: Writer, op: Any, steps: str) -> None:
    """Quant of scale 1: clamp, then half to even."""
    form = format_of(op)
    write.node("Quant", [steps, _real(write, 1.0), _real(write, 0.0), _real(write, float(form.bits))], op.name, QONNX,
               signed=int(form.signed), narrow=int(form.narrow), rounding_mode="ROUND")


def conv(write: Writer, op: Any) -> None:
    """Exact sums of whole numbers."""
    check_register(op)
    low, high = op.bounds
    if max(-low, high) >= EXACT_FLOAT32:
        raise ExportError(f"{op.name}: its sums can reach {max(-low, high)}, float32 is exact below {EXACT_FLOAT32}: "
                          "choose fewer bits, or --format integer")
    weights = _weights(write, op, op.weights.transpose(3, 2, 0, 1), op.weight_format.bits)
    sums = write.node("Conv", [op.source, weights], f"{op.name}/sums", pads=pads_of(op.window),
                      strides=list(op.window.strides),
                      dilations=[op.window.dilation] * 2, group=op.groups, kernel_shape=list(op.window.taps))
    if getattr(op, "start", None) is not None:
        sums = write.node("Add", [sums, write.per_channel(op.start, np.float32, f"{op.name}/start")], f"{op.name}/started")
    _finished(write, op, sums, op.skip, (low, high))


def pool(write: Writer, op: Any) -> None:
    """A convolution with ones, for each channel apart."""
    rows, columns = op.window
    source: IntFormat = format_of(write.ops[op.source])
    if source.reach * rows * columns >= EXACT_FLOAT32:
        raise ExportError(f"{op.name}: its sums can reach {source.reach * rows * columns}, float32 is exact below "
                          f"{EXACT_FLOAT32}")
    weights = _weights(write, op, np.ones((op.shape[2], 1, rows, columns)), 2)
    sums = write.node("Conv", [op.source, weights], f"{op.name}/sums", group=op.shape[2], pads=[op.padding] * 4,
                      strides=[op.stride] * 2, kernel_shape=[rows, columns])
    _finished(write, op, sums, "", (source.min * rows * columns, source.max * rows * columns))


def add(write: Writer, op: Any) -> None:
    """Two operands, as a sum and its residual."""
    _finished(write, op, op.source, op.other, (0, 0))


def multiply(write: Writer, op: Any) -> None:
    """Exact products."""
    a, b = (format_of(write.ops[name]) for name in (op.source, op.other))
    if a.reach * b.reach >= EXACT_FLOAT32:
        raise ExportError(f"{op.name}: its products can reach {a.reach * b.reach}, float32 is exact below {EXACT_FLOAT32}")
    ends = [x * y for x in (a.min, a.max) for y in (b.min, b.max)]
    _finished(write, op, write.node("Mul", [op.source, op.other], f"{op.name}/sums"), "", (min(ends), max(ends)))


def shortcut(write: Writer, op: Any) -> None:
    """Every so many pixels, and channels of 0 before and after."""
    source = op.source
    if op.stride > 1:
        source = write.node("Slice", [source, *(write.constant(part, np.int64) for part in (
            [0, 0], list(write.ops[op.source].shape[:2]), [2, 3], [op.stride] * 2))], f"{op.name}/pixels")
    added = op.shape[2] - write.ops[op.source].shape[2]
    write.node("Pad", [source, write.constant([0, added // 2, 0, 0, 0, added - added // 2, 0, 0], np.int64), _real(write,
                                                                                                                   0.0)],
               op.name)


def pad(write: Writer, op: Any) -> None:
    """Rows and columns of 0."""
    top, bottom, left, right = op.paddings
    write.node("Pad", [op.source, write.constant([0, 0, top, left, 0, 0, bottom, right], np.int64), _real(write, 0.0)],
               op.name)


def max_pool(write: Writer, op: Any) -> None:
    """The largest of a window."""
    window = op.geometry
    write.node("MaxPool", [op.source], op.name, kernel_shape=list(window.taps), strides=list(window.strides),
               pads=pads_of(window))


def concat(write: Writer, op: Any) -> None:
    """Each through its own table, rising."""
    parts = []
    for index, (name, (codes, least)) in enumerate(zip(op.sources(), op.tables(), strict=True)):
        whole, source = codes.astype(np.int64), format_of(write.ops[name])
        if (np.diff(whole) < 0).any():
            raise ExportError(f"{op.name}: codes of a table fall somewhere, thresholds only rise")

        def function(x: np.ndarray, whole: np.ndarray = whole, least: int = least) -> np.ndarray:
            return whole[x - least]

        levels, base = levels_of(function, 1, source.min, source.max, op.name)
        levels = levels if levels.shape[1] else np.full((1, 1), np.inf, np.float32)
        parts.append(write.node("MultiThreshold", [name, _real(write, levels, f"{op.name}/levels")], f"{op.name}/{index}",
                                QONNX,
                                out_dtype=_type(op), out_scale=1.0, out_bias=float(base)))
    write.node("Concat", parts, op.name, axis=1)


Write = Callable[[Writer, Any], None]
OPERATIONS: Mapping[str, Write] = {
    "input": entrance, "codes": codes_entrance, "conv": conv, "table": table, "pool": pool, "add": add, "multiply": multiply,
    "shortcut": shortcut, "pad": pad, "maxpool": max_pool, "concat": concat}
