"""Arm's TOSA conformance tests as archives: in0, in1, const-0 ... and out; the rest of a test is in its name.

    rescale_3x2_i8_outi16_sc1_rmD_pc0_iu0_ou1       sides, types, 32-bit multipliers, rounding, per channel, unsigned or not
    avg_pool2d_1x4x6x5_i8_acci32_st21_kern33_pad0100          stride, window; padding above, below, left, right
    conv2d_3x3_1x5x3x6_i8xi8_acci32_outi32_st11_pad1110_dilat21_lclbnd0
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from sim.accumulator import Accumulator
from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.cmsis_nn.layers import dilated
from sim.conformance.folder import Folder, read_archive
from sim.formats import IntFormat, Shape
from sim.ops.average import AverageOp
from sim.ops.codes_input import CodesInputOp
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.op import Op
from sim.ops.requantize import TableOp
from sim.ops.rescale import RescaleOp
from sim.ops.table16 import Table16Op
from sim.program import Program
from sim.requantizers.exact_add import ExactAdd
from sim.requantizers.tosa import TosaDouble, TosaSingle

Arrays = Mapping[str, np.ndarray]
S4, S16, S32 = (IntFormat(bits, signed=True) for bits in (4, 16, 32))
RULES = {"S": TosaSingle, "D": TosaDouble}
"""What follows rm in the name of a rescale test: single or double rounding."""
_DIGITS = re.compile(r"_([a-z]+)(\d+)(?=_|$)")
X, OTHER = "x", "other"


def find(folder: Folder) -> Iterator[Case]:
    """Archives with in0 and out that are called as tests of an operation are."""
    for path, names in folder.archives.items():
        if names >= {"in0", "out"}:
            operation = next((name for name in OPERATIONS if path.stem.startswith(name + "_")), None)
            if operation is not None:
                yield Case(path.stem, operation, partial(_make, path, OPERATIONS[operation]))


def _make(path: Path, operation: Callable[[str, Arrays], Golden]) -> Golden:
    arrays = read_archive(path)
    if not arrays["out"].size:
        raise UnsupportedError("its int48 results are not stored: Arm's own library cannot give them out")
    try:
        return operation(path.stem, arrays)
    except KeyError as error:
        raise UnsupportedError(f"it has no {error.args[0]}") from None


def _rescale(name: str, arrays: Arrays) -> Golden:
    """(v - zero) multiplier 2^-shift, rounded once or twice, of any width; constants per channel or one for all."""
    rounding = _word(name, "rm")
    if rounding not in RULES:
        raise UnsupportedError("INEXACT rounding is the implementation's own, by the specification")
    is_unsigned = {key: _word(name, key) == "1" for key in ("iu", "ou")}
    x, zero = (_typed(arrays[key], is_unsigned["iu"]) for key in ("in0", "const-2"))
    out, out_zero = (_typed(arrays[key], is_unsigned["ou"]) for key in ("out", "const-3"))
    source = _input(X, _image(x.shape), x, zero)
    channels = source.shape[2]
    requant = RULES[rounding](np.zeros(channels, np.int64), *(
        np.broadcast_to(arrays[key].astype(np.int64), channels).copy() for key in ("const-0", "const-1")))
    op = RescaleOp("rescaled", X, source.shape, _format(out), requant, source.zero_point, zero_point=_first(out_zero))
    return _golden(requant.name, source, op, x, out)


def _average(name: str, arrays: Arrays) -> Golden:
    """Of valid positions, half away from zero."""
    x, (taps, strides, paddings) = arrays["in0"], _window(name)
    source = _input(X, _sides(x), x, arrays["const-0"])
    op = AverageOp("average", X, _sides(arrays["out"]), source.format, taps, strides, paddings, "valid", "half_away",
                   source.zero_point, zero_point=_first(arrays["const-1"]))
    return _golden("half_away", source, op, x, arrays["out"])


def _largest(name: str, arrays: Arrays) -> Golden:
    """Of valid positions."""
    x, (taps, strides, paddings) = arrays["in0"], _window(name)
    source = _input(X, _sides(x), x)
    op = MaxPoolOp("largest", X, _sides(arrays["out"]), source.format, taps[0], strides[0], 0, taps[1],
                   stride_width=strides[1], paddings=paddings)
    return _golden("copy", source, op, x, arrays["out"])


def _conv(name: str, arrays: Arrays) -> Golden:
    """Weights [channels, rows, columns, depth]."""
    return _convolution(name, arrays, arrays["const-0"].transpose(1, 2, 3, 0), 1)


def _depthwise(name: str, arrays: Arrays) -> Golden:
    """Weights [rows, columns, depth, multiplier]."""
    weights = arrays["const-0"]
    return _convolution(name, arrays, weights.reshape(*weights.shape[:2], 1, -1), weights.shape[2])


def _convolution(name: str, arrays: Arrays, weights: np.ndarray, groups: int) -> Golden:
    """Sums of 32 bits, bias included; weights lose their zero point here."""
    x, weight_zero = arrays["in0"], _first(arrays["const-3"])
    _, strides, paddings = _window(name, *weights.shape[:2])
    spread = dilated(weights.astype(np.int32) - weight_zero, _pair(name, "dilat"))
    form = S4 if "xi4" in name else _format(weights)
    form = IntFormat(form.bits + 1, signed=True) if weight_zero else form
    source = _input(X, _sides(x), x, arrays["const-2"])
    requant = ExactAdd.of(spread.shape[3], bias=np.broadcast_to(arrays["const-1"], spread.shape[3:]).astype(np.int64))
    op = ConvOp("sums", X, _sides(arrays["out"]), S32, skip="", weights=spread, stride=strides[0], stride_width=strides[1],
                padding=0, paddings=paddings, groups=groups, operand=source.format or S16, operand_zero=source.zero_point,
                weight_format=form, weight_bits=form.bits, accumulator=Accumulator(), requant=requant)
    return _golden("exact", source, op, x, arrays["out"])


def _matmul(name: str, arrays: Arrays) -> Golden:
    """[N, rows, depth] times [N, depth, columns]."""
    a = _input(X, arrays["in0"].shape, arrays["in0"], arrays["const-0"])
    b = _input(OTHER, arrays["in1"].shape, arrays["in1"], arrays["const-1"])
    assert a.format is not None
    assert b.format is not None
    shape = arrays["out"].shape
    op = MatMulOp("sums", X, shape, S32, OTHER, a.format, b.format, a.shape[2], False, Accumulator(),
                  ExactAdd.of(shape[2]), a.zero_point, b.zero_point)
    given = {X: arrays["in0"][None], OTHER: arrays["in1"][None]}
    return Golden("exact", Program((a, b, op)), given, {op.name: arrays["out"]})


def _table(name: str, arrays: Arrays) -> Golden:
    """256 codes, or 513 samples of 16 bits with seven bits of interpolation."""
    x, table = arrays["in0"], arrays["const-0"]
    source = _input(X, _image(x.shape), x)
    op: Op
    if source.format == S16:
        op = Table16Op("looked up", X, source.shape, S32, table.astype(np.int32), "tosa")
    else:
        op = TableOp("looked up", X, source.shape, _format(table), table, -128)
    return _golden("tosa" if source.format == S16 else "table", source, op, x, arrays["out"])


OPERATIONS: Mapping[str, Callable[[str, Arrays], Golden]] = {
    "rescale": _rescale, "avg_pool2d": _average, "max_pool2d": _largest, "conv2d_3x3": _conv,
    "depthwise_conv2d_3x3": _depthwise, "matmul": _matmul, "table": _table,
}
"""What a test's name begins with -> how it is made."""


def _golden(rule: str, source: Op, op: Op, x: np.ndarray, expected: np.ndarray) -> Golden:
    return Golden(rule, Program((source, op)), {X: x.reshape(-1, *source.shape)}, {op.name: expected.reshape(-1)})


def _input(name: str, shape: Shape, array: np.ndarray, zero: np.ndarray | None = None) -> CodesInputOp:
    return CodesInputOp(name, "", shape, _format(array), zero_point=0 if zero is None else _first(zero))


def _format(array: np.ndarray) -> IntFormat:
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 4:
        raise UnsupportedError(f"codes of {array.dtype}")
    return IntFormat(8 * array.dtype.itemsize, array.dtype.kind == "i")


def _typed(array: np.ndarray, unsigned: bool) -> np.ndarray:
    """The same bits, as unsigned integers if they are."""
    return array.view(np.dtype(f"u{array.dtype.itemsize}")) if unsigned else array


def _first(array: np.ndarray) -> int:
    return int(array.reshape(-1)[0])


def _image(sides: tuple[int, ...]) -> Shape:
    """Any number of axes as one image whose channels are the last."""
    return (math.prod(sides[:-1]), 1, sides[-1]) if sides else (1, 1, 1)


def _sides(array: np.ndarray) -> Shape:
    """Of [N, height, width, channels]."""
    if array.ndim != 4:
        raise UnsupportedError(f"{array.ndim} axes")
    _, height, width, channels = array.shape
    return height, width, channels


def _window(name: str, rows: int = 0, columns: int = 0) -> tuple[
        tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Taps (as given, or of the name), strides, paddings."""
    top, bottom, left, right = _numbers(name, "pad", 4)
    return (rows, columns) if rows else _pair(name, "kern"), _pair(name, "st"), (top, bottom, left, right)


def _pair(name: str, key: str) -> tuple[int, int]:
    first, second = _numbers(name, key, 2)
    return first, second


def _numbers(name: str, key: str, count: int) -> list[int]:
    """Digits that follow a key in a test's name."""
    digits = dict(_DIGITS.findall(name)).get(key, "")
    if len(digits) != count:
        raise UnsupportedError(f"its name does not say what its {key} is")
    return [int(digit) for digit in digits]


def _word(name: str, key: str) -> str:
    """The letter or digit behind a key."""
    found = re.search(rf"_{key}(\w)(?=_|$)", name)
    if found is None:
        raise UnsupportedError(f"its name does not say what its {key} is")
    return found[1]
