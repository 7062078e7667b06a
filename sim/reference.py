"""A program in plain Python integers: slow, obvious, and independent.  What the kernels are checked against.

Operations (sim/ops) hand over their constants as lists; the arithmetic is here, shared only with the oracles that
requantizers and definitions bring: no numpy operation, no kernel.  Tensors of one image are nested lists
[row][column][channel].
"""

import struct
from collections.abc import Mapping
from typing import Any

Image = list[list[list[int]]]


def run(program: Any, pixels: Image | Mapping[str, Image]) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """(every operation's result, overflows per convolution and channel) for one image of pixels 0 .. 255.

    `pixels` are what each input gets, by its name, where there are several.
    """
    values: dict[str, Any] = {}
    overflows: dict[str, list[int]] = {}
    for op in program.ops:
        given = pixels[op.name] if isinstance(pixels, Mapping) and op.is_input else pixels
        inputs = [given] if op.is_input else [values[name] for name in op.sources()]
        values[op.name], counts = op.reference(*inputs)
        if counts is not None:
            overflows[op.name] = counts
    return values, overflows


def convolve(x: Image, weights: list, steps: tuple[int, int, int], paddings: tuple[int, ...], groups: int,
             register: tuple[int | None, str, int], zero: int = 0,
             starts: list[int] | None = None) -> tuple[Image, list[int]]:
    """Sums [row][column][channel] behind the registers after all products, and overflowed outputs per channel.

    weights[kernel row][kernel column][in channel of the group][channel]; steps are the strides down and across and the
    dilation, paddings top, bottom, left and right, register its bits, overflow and tile.  A border holds the code `zero`,
    whose share is taken off behind the register.  `starts` are what the registers of each channel hold before.
    """
    (down, across, dilation), (above, below, before, behind) = steps, paddings
    channels, depth = len(weights[0][0][0]), len(weights[0][0])
    height, width = len(x), len(x[0])
    tall, wide = (len(weights) - 1) * dilation + 1, (len(weights[0]) - 1) * dilation + 1
    overflows = [0] * channels
    result: Image = []
    for top in range(-above, height + below - tall + 1, down):
        result.append([])
        for left in range(-before, width + behind - wide + 1, across):
            pixel = []
            for o in range(channels):
                first = o // (channels // groups) * depth
                products = []
                for a, weight_row in enumerate(weights):
                    for b, weight in enumerate(weight_row):
                        i, j = top + a * dilation, left + b * dilation
                        inside = 0 <= i < height and 0 <= j < width
                        for c in range(depth):
                            code = x[i][j][first + c] if inside else zero
                            products.append(code * weight[c][o])
                total, overflowed = accumulate(products, *register, start=0 if starts is None else starts[o])
                overflows[o] += overflowed
                pixel.append(total - sum(zero * weight[c][o] for line in weights for weight in line for c in range(depth)))
            result[-1].append(pixel)
    return result, overflows


def matrix_product(a: Image, b: Image, transpose: bool, bits: int | None, overflow: str, tile: int,
                   zeros: tuple[int, int]) -> tuple[Image, list[int]]:
    """Sums of (a - z_a)(b - z_b) [head][row][column], and overflowed outputs per column.

    The register holds products of raw codes; what the zero points are worth is added behind it.
    """
    result: Image = []
    overflows = [0] * (len(b[0]) if transpose else len(b[0][0]))
    for rows, others in zip(a, b, strict=True):
        columns = others if transpose else [list(column) for column in zip(*others, strict=True)]
        result.append([])
        for row in rows:
            totals = []
            for index, column in enumerate(columns):
                products = [x * y for x, y in zip(row, column, strict=True)]
                total, overflowed = accumulate(products, bits, overflow, tile)
                shifted = [(x - zeros[0]) * (y - zeros[1]) for x, y in zip(row, column, strict=True)]
                overflows[index] += overflowed
                totals.append(total + sum(shifted) - sum(products))
            result[-1].append(totals)
    return result, overflows


def rearrange(x: Image, split: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, int, int]) -> Image:
    """The same numbers, read as a tensor of the sides `split`, its axes in another order, written as one of `shape`."""
    flat = [code for row in x for pixel in row for code in pixel]
    steps = [1] * len(split)
    for axis in reversed(range(len(split) - 1)):
        steps[axis] = steps[axis + 1] * split[axis + 1]
    places = [0]
    for axis in order:
        places = [place + index * steps[axis] for place in places for index in range(split[axis])]
    moved = iter([flat[place] for place in places])
    return [[[next(moved) for _ in range(shape[2])] for _ in range(shape[1])] for _ in range(shape[0])]


def accumulate(products: list[int], bits: int | None, overflow: str, tile: int, start: int = 0) -> tuple[int, bool]:
    """(what the register holds at the end, whether this output counts as overflowed); contract C6.

    `start` is loaded first: one that does not fit is clipped or wrapped, as an addition to 0 would be.
    """
    exact = start + sum(products)
    if bits is None:
        return exact, False
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    size = tile or len(products)
    register = (start - low) % 2**bits + low if overflow == "wrap" else max(low, min(high, start))
    clipped = register != start
    for first in range(0, len(products), size):
        total = register + sum(products[first : first + size])
        if overflow == "wrap":
            register = (total - low) % 2**bits + low
        else:
            register = max(low, min(high, total))
            clipped = clipped or register != total
    return register, (register != exact) if overflow == "wrap" else clipped


def windows(x: Image, taps: tuple[int, int], strides: tuple[int, int], paddings: tuple[int, ...]) -> list[list[Any]]:
    """[row][column] of an output: those pixels of its window that lie in the image, row by row.

    `taps` are rows and columns, strides down and across, paddings top, bottom, left and right.
    """
    (rows, columns), (down, across), (above, below, before, behind) = taps, strides, paddings
    height, width = len(x), len(x[0])
    return [[[x[i][j]
              for i in range(top, top + rows) if 0 <= i < height
              for j in range(left, left + columns) if 0 <= j < width]
             for left in range(-before, width + behind - columns + 1, across)]
            for top in range(-above, height + below - rows + 1, down)]


def window_sums(x: Image, taps: tuple[int, int], stride: int, padding: int) -> Image:
    """Sums of each channel over windows of so many rows and columns."""
    channels = len(x[0][0])
    return [[[sum(pixel[c] for pixel in inside) for c in range(channels)] for inside in row]
            for row in windows(x, taps, (stride, stride), (padding,) * 4)]


def less(x: Image, zero: int) -> Image:
    """Codes less their zero point."""
    return [[[code - zero for code in pixel] for pixel in row] for row in x]


def pairs(a: Image, b: Image) -> Any:
    """(number of a, number of b) at every place; of what has one row, column or channel, all places have that."""
    shape = [max(len(a), len(b)), max(len(a[0]), len(b[0])), max(len(a[0][0]), len(b[0][0]))]

    def at(x: Image, i: int, j: int, c: int) -> int:
        row = x[i if len(x) > 1 else 0]
        pixel = row[j if len(row) > 1 else 0]
        return pixel[c if len(pixel) > 1 else 0]
    return [[[(at(a, i, j, c), at(b, i, j, c)) for c in range(shape[2])] for j in range(shape[1])] for i in range(shape[0])]


def rounded(numerator: int, denominator: int, rounding: str) -> int:
    """The quotient as a whole number: to the nearest ("half_away", "half_up", "half_even": ties), "floor" or "trunc"."""
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    whole, rest = divmod(numerator, denominator)  # Python's own: down, the rest is not negative
    more = {
        "floor": False,
        "trunc": numerator < 0 and rest > 0,
        "half_up": 2 * rest >= denominator,
        "half_away": 2 * rest > denominator or (2 * rest == denominator and numerator > 0),
        "half_even": 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1),
    }[rounding]
    return whole + more


def limits_of(op: Any) -> tuple[int, int]:
    """The least and the largest code that an operation gives."""
    least, most = op.limits or _limits(op.format.bits, op.format.signed, op.format.narrow)
    return least, most


def clamped(values: Image, op: Any) -> Image:
    """Integers plus the operation's zero point, within its limits."""
    low, high = limits_of(op)
    return [[[max(low, min(high, value + op.zero_point)) for value in pixel] for pixel in row] for row in values]


def requantize(sums: Image, op: Any, skip: Image | None) -> Any:
    """Codes of the operation's format, or logits if it has none.  A requantizer may have one set of constants for all."""
    rule = rule_of(op.requant.name, op.requant)
    constants = {name: array.tolist() for name, array in op.requant.arrays().items()}
    is_shared = max(map(len, constants.values())) == 1
    zero = op.zero_point  # clamp(R + zero, low, high)
    limits = None
    if op.format is not None:
        low, high = limits_of(op)
        limits = low - zero, high - zero
    return [[[rule(total, 0 if is_shared else c, None if skip is None else skip[i][j][c], constants, limits) + zero
              for c, total in enumerate(pixel)] for j, pixel in enumerate(row)] for i, row in enumerate(sums)]


def rule_of(name: str, requantizer: Any) -> Any:
    """The scalar rule of a requantizer; one that is not built in brings its own `oracle`."""
    kind: Any = requantizer if isinstance(requantizer, type) else type(requantizer)
    rule = {"fp32": fp32, "tflite_single": tflite_single}.get(name) or kind.oracle
    if rule is None:
        raise TypeError(f"requantizer {name!r} has no `oracle`, the rule in plain Python numbers")
    return rule


def fp32(total: int, channel: int, skip: int | None, constants: Any, limits: tuple[int, int] | None) -> float:
    """Two or four float32 operations, each rounded on its own; logits are not rounded to codes."""
    steps = round_to_float32(round_to_float32(total) * constants["gain"][channel])
    steps = round_to_float32(steps + constants["offset"][channel])
    if skip is not None:
        steps = round_to_float32(steps + round_to_float32(skip * constants["skip_gain"][0]))
    if limits is None:
        return steps
    return max(limits[0], min(limits[1], round(steps)))  # Python rounds half to even


def tflite_single(total: int, channel: int, skip: int | None, constants: Any, limits: tuple[int, int] | None) -> int:
    """x * multiplier / 2^shift, ties toward plus infinity, of a sum that saturates to 32 bits with its bias."""
    pre_shift = constants["pre_shift"][channel]
    scaled = total * 2**pre_shift if pre_shift >= 0 else shift_right(total, -pre_shift)
    x = max(-(2**31), min(2**31 - 1, scaled + constants["bias"][channel]))
    code = shift_right(x * constants["multiplier"][channel], constants["shift"][channel])
    if skip is not None:
        code += shift_right(skip * constants["skip_multiplier"][0], constants["skip_shift"][0])
    low, high = limits or _limits(28, True)
    return max(low, min(high, code))


def shift_right(value: int, shift: int) -> int:
    """value / 2^shift rounded to the nearest integer, ties toward plus infinity."""
    return (2 * value + 2**shift) // 2 ** (shift + 1)


def round_to_float32(value: float) -> float:
    """The float32 nearest to a float64 (or int below 2^53), ties to even; infinite beyond the range.

    A sum or product of two float32 rounded to float64 and then to float32 equals one rounding: 53 >= 2 * 24 + 2.
    """
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded


def _limits(bits: int, signed: bool, narrow: bool = False) -> tuple[int, int]:
    return (narrow - 2 ** (bits - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
