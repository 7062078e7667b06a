"""Loops of a training step between two convolutions, on the threads of torch.

There a step is bound by memory.  torch takes a pass over the tensor for every operation; here batch norm, residual, clip and
rounding read the sums twice and write codes, and their gradient reads sums and gradient twice and writes one.

The loops are compiled C functions.  torch's OpenMP threads spin between its operations, so that a second pool would have to
fight them for the cores; the library that torch itself has loaded is asked to run these loops instead.  Blocks of a tensor
are fixed and every reduction goes through them in order: results do not depend on the number of threads.

All compiled code is in this file, as numba's cache looks at no other.
"""

import ctypes
import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic
from torch import Tensor

from sim.kernels.jit import c_function, inline, specialize
from sim.lazy import cached_property

BLOCK = 1 << 14
"""Values of a block, about: its inputs and outputs stay in a core's own cache."""
SPAN = 512
"""Values whose constants are laid out one after the other, so that the innermost loop is long for few channels, too."""


if hasattr(os, "register_at_fork"):
    # a forked child has none of its parent's OpenMP threads, and GNU's library would wait for them for ever
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class Loop:
    """A compiled function of a job, which works on blocks until none is left.  Any number of threads may run it at once.

    A job is int64: its next block, the number of blocks, then address and length of each array.
    """

    def __init__(self, function: Callable[[Any], None]) -> None:
        self._function = function

    @cached_property
    def _address(self) -> int:
        signature = types.void(types.CPointer(types.int64))
        self._code = c_function(self._function, signature)
        return int(self._code.address or 0)

    def __call__(self, blocks: int, *arrays: Tensor) -> None:
        """Do all blocks; each array is one piece of memory of the type that the function expects."""
        numbers = [0, blocks]
        for array in arrays:
            numbers += (array.data_ptr(), array.numel())
        run = _runtime()
        assert run is not None
        job = (ctypes.c_int64 * len(numbers))(*numbers)
        run(self._address, ctypes.addressof(job), max(1, min(torch.get_num_threads(), blocks)), 0)


@functools.cache
def _runtime() -> Callable[[int, int, int, int], None] | None:
    """GOMP_parallel of the OpenMP library that torch has loaded; None if it uses another one."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    folder = Path(torch.__file__).parent
    for path in sorted([*folder.glob("lib/libgomp*.so*"), *folder.glob("../torch.libs/libgomp*.so*")]):
        try:
            run = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_NOLOAD).GOMP_parallel  # the one in use or none
        except (OSError, AttributeError):
            continue
        run.argtypes, run.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
        return run
    return None


def is_available() -> bool:
    """Whether these loops can run here; torch's own operations do the same in more time."""
    return not getattr(numba.config, "DISABLE_JIT", 0) and _runtime() is not None


@intrinsic
def _fetch_and_add(typing_context: Any, address: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.CPointer(types.int64)), emit


_take: Any = _fetch_and_add
"""The next block of a job, which is then nobody else's."""


def _array_of(element: Any) -> Callable[[Any, int], Any]:
    """A function that finds array number `index` of a job."""
    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(types.int64), emit

    return specialize(_array, f"array_of_{element}", inline, _pointer=pointer)


_pointer: Any = _array_of


def _array(job: Any, index: int) -> Any:
    return carray(_pointer(job[2 + 2 * index]), job[3 + 2 * index])


# What the loops below are made of: numbers in and out, and what ends a row.

_values: Any = _array
_read = _write = _steps = _values
_HAS_SKIP, _LEARNS = True, True

_integers, _bytes, _halves = _array_of(types.int64), _array_of(types.uint8), _array_of(types.uint16)
_reals, _doubles = _array_of(types.float32), _array_of(types.float64)


@inline
def _same(value: Any) -> Any:
    return np.float32(value)


@inline
def _from_bfloat16(half: Any) -> Any:
    return np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)


@inline
def _to_bfloat16(value: Any) -> Any:
    """Ties to even."""
    bits = np.float32(value).view(np.uint32)
    odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
    if np.isnan(np.float32(value)):  # adding to its bits could make a number of it
        return np.uint16(0x7FC0)
    return np.uint16(np.uint32(bits + np.uint32(np.uint32(0x7FFF) + odd)) >> np.uint32(16))


@inline
def _steps_alone(sums: Any, gain: Any, offset: Any, residue: Any, skip_gain: Any, c: int) -> Any:
    return np.float32(np.float32(sums[c] * gain[c]) + offset[c])


@inline
def _steps_with_skip(sums: Any, gain: Any, offset: Any, residue: Any, skip_gain: Any, c: int) -> Any:
    steps = np.float32(np.float32(sums[c] * gain[c]) + offset[c])
    return np.float32(steps + np.float32(np.float32(residue[c]) * skip_gain))


@inline
def _clipped(steps: Any, levels: Any) -> Any:
    steps = np.float32(0.0) if steps < np.float32(0.0) else steps  # what is not a number stays so
    return levels if steps > levels else steps


@inline
def _fold(totals: Any, channels: int, out: Any) -> None:
    """[kinds, span] -> [kinds x C]."""
    kinds, span = totals.shape
    for kind in range(kinds):
        for c in range(channels):
            total = 0.0
            for k in range(c, span, channels):
                total += totals[kind, k]
            out[kind * channels + c] = total


# The loops.  `shape` is (values of a block, channels, values of a span), constants per channel are laid out for a span,
# `limits` are (largest code, gain of the residual).


def _moments(job: Any) -> None:
    """sums -> their sum and the sum of their squares [blocks, 2, C]."""
    shape, sums, out = _integers(job, 0), _reals(job, 1), _doubles(job, 2)
    size, channels, span = shape[0], shape[1], shape[2]
    block = _take(job)
    while block < job[1]:
        totals = np.zeros((2, span))
        first, second = totals[0], totals[1]
        end = min((block + 1) * size, len(sums))
        for start in range(block * size, end, span):
            line = sums[start : min(start + span, end)]
            for c in range(len(line)):
                value = np.float64(line[c])
                first[c] += value
                second[c] += value * value
        _fold(totals, channels, out[2 * block * channels : 2 * (block + 1) * channels])
        block = _take(job)


def _finish(job: Any) -> None:
    """sums * gain + offset (+ residual * its gain) -> codes, and their bytes."""
    shape, sums, gain, offset, limits = _integers(job, 0), _reals(job, 1), _reals(job, 2), _reals(job, 3), _reals(job, 4)
    skip, values, packed = _bytes(job, 5), _values(job, 6), _bytes(job, 7)
    size, span = shape[0], shape[2]
    levels, skip_gain = limits[0], limits[1]
    block = _take(job)
    while block < job[1]:
        end = min((block + 1) * size, len(sums))
        for start in range(block * size, end, span):
            stop = min(start + span, end)
            line, target, small, residue = sums[start:stop], values[start:stop], packed[start:stop], skip[start:stop]
            for c in range(len(line)):
                code = np.rint(_clipped(_steps(line, gain, offset, residue, skip_gain, c), levels))
                target[c] = _write(code)
                small[c] = np.uint8(np.int32(code))
        block = _take(job)


def _reduce(job: Any) -> None:
    """The gradient inside the clip, summed: alone, times sums, times residual, times rounding error [blocks, 4, C]."""
    shape, sums, gain, offset, limits = _integers(job, 0), _reals(job, 1), _reals(job, 2), _reals(job, 3), _reals(job, 4)
    skip, gradient, out = _bytes(job, 5), _values(job, 6), _doubles(job, 7)
    size, channels, span = shape[0], shape[1], shape[2]
    levels, skip_gain = limits[0], limits[1]
    block = _take(job)
    while block < job[1]:
        totals = np.zeros((4, span))
        plain, times_sum, times_skip, times_error = totals[0], totals[1], totals[2], totals[3]
        end = min((block + 1) * size, len(sums))
        for start in range(block * size, end, span):
            stop = min(start + span, end)
            line, slope, residue = sums[start:stop], gradient[start:stop], skip[start:stop]
            for c in range(len(line)):
                steps = _steps(line, gain, offset, residue, skip_gain, c)
                inner = np.float64(_read(slope[c]) if np.float32(0.0) <= steps <= levels else np.float32(0.0))
                plain[c] += inner
                times_sum[c] += inner * np.float64(line[c])
                if _LEARNS:
                    if _HAS_SKIP:
                        times_skip[c] += inner * np.float64(residue[c])
                    times_error[c] += inner * np.float64(steps - np.rint(steps))
        _fold(totals, channels, out[4 * block * channels : 4 * (block + 1) * channels])
        block = _take(job)


def _differentiate(job: Any) -> None:
    """Gradients of the sums, inner * gain + sums * slope + shift, and of the residual, inner * its gain."""
    shape, sums, gain, offset, limits = _integers(job, 0), _reals(job, 1), _reals(job, 2), _reals(job, 3), _reals(job, 4)
    skip, gradient, slopes, shifts = _bytes(job, 5), _values(job, 6), _reals(job, 7), _reals(job, 8)
    to_sums, to_skip = _values(job, 9), _values(job, 10)
    size, span = shape[0], shape[2]
    levels, skip_gain = limits[0], limits[1]
    block = _take(job)
    while block < job[1]:
        end = min((block + 1) * size, len(sums))
        for start in range(block * size, end, span):
            stop = min(start + span, end)
            line, slope, residue = sums[start:stop], gradient[start:stop], skip[start:stop]
            target, other = to_sums[start:stop], to_skip[start:stop]
            for c in range(len(line)):
                steps = _steps(line, gain, offset, residue, skip_gain, c)
                inner = _read(slope[c]) if np.float32(0.0) <= steps <= levels else np.float32(0.0)
                target[c] = _write(np.float32(inner * gain[c] + np.float32(line[c] * slopes[c] + shifts[c])))
                if _HAS_SKIP:
                    other[c] = _write(np.float32(inner * skip_gain))
        block = _take(job)


def _normalize(job: Any) -> None:
    """Moments -> constants of a span, (mean, 1 / deviation, gain) [3, C], and running statistics; of one block.

    `numbers` are (pixels, eps, scale of the sums, momentum of the running statistics).  A constant that is no finite number
    makes every gain one that is not, and `found` 0.
    """
    shape, total, numbers = _integers(job, 0), _doubles(job, 1), _doubles(job, 4)
    weight, bias = _reals(job, 2), _reals(job, 3)
    running_mean, running_var, gains, offsets = _reals(job, 5), _reals(job, 6), _reals(job, 7), _reals(job, 8)
    saved, found = _doubles(job, 9), _integers(job, 10)
    channels, span = shape[1], shape[2]
    pixels, eps, scale, momentum = numbers[0], numbers[1], numbers[2], numbers[3]
    found[0] = 1
    for c in range(channels):
        first, second = 0.0, 0.0
        for k in range(c, len(total), 2 * channels):
            first += total[k]
            second += total[k + channels]
        mean = first / pixels
        variance = max(second / pixels - mean * mean, 0.0)
        if momentum > 0.0:
            unbiased = variance * (pixels / (pixels - 1.0))
            running_mean[c] = running_mean[c] + momentum * (mean * scale - running_mean[c])
            running_var[c] = running_var[c] + momentum * (unbiased * (scale * scale) - running_var[c])
        inverse = 1.0 / np.sqrt(variance + eps)
        gain = weight[c] * inverse
        saved[c], saved[channels + c], saved[2 * channels + c] = mean, inverse, gain
        offset = bias[c] - mean * gain
        if not np.isfinite(np.float32(gain)) or not np.isfinite(np.float32(offset)):
            found[0] = 0
        for k in range(c, span, channels):
            gains[k], offsets[k] = gain, offset
    if found[0] == 0:
        gains[:] = np.nan


def _normalize_back(job: Any) -> None:
    """Sums of `_reduce` -> slopes, shifts of a span, gradients of weight and bias, sums over all channels; of one block."""
    shape, total, saved, pixels = _integers(job, 0), _doubles(job, 1), _doubles(job, 2), _doubles(job, 3)[0]
    slopes, shifts, to_weight, to_bias = _reals(job, 4), _reals(job, 5), _reals(job, 6), _reals(job, 7)
    extra = _doubles(job, 8)
    channels, span = shape[1], shape[2]
    extra[0], extra[1] = 0.0, 0.0
    for c in range(channels):
        plain, times_sum, times_skip, times_error = 0.0, 0.0, 0.0, 0.0
        for k in range(c, len(total), 4 * channels):
            plain += total[k]
            times_sum += total[k + channels]
            times_skip += total[k + 2 * channels]
            times_error += total[k + 3 * channels]
        mean, inverse, gain = saved[c], saved[channels + c], saved[2 * channels + c]
        centered = times_sum - mean * plain
        slope = -gain * inverse * inverse * centered / pixels
        shift = -gain * plain / pixels - slope * mean
        to_weight[c], to_bias[c] = centered * inverse, plain
        extra[0] += times_skip
        extra[1] += times_error
        for k in range(c, span, channels):
            slopes[k], shifts[k] = slope, shift


def _tanh(job: Any) -> None:
    """Weights -> tanh in float64, operation by operation that of dorefa.tanh, and the largest magnitude of a block."""
    shape, weight, out, largest = _integers(job, 0), _reals(job, 1), _doubles(job, 2), _doubles(job, 3)
    size, doublings = shape[0], shape[1]
    block = _take(job)
    while block < job[1]:
        most = 0.0
        for k in range(block * size, min((block + 1) * size, len(weight))):
            y: Any = np.float64(weight[k])
            y = -20.0 if y < -20.0 else y  # what is not a number stays so
            y = (20.0 if y > 20.0 else y) * 2.0**-doublings
            z = y * y
            numerator = y * (((z + 378.0) * z + 17325.0) * z + 135135.0)
            denominator = ((z * 28.0 + 3150.0) * z + 62370.0) * z + 135135.0
            t = numerator / denominator
            for _ in range(doublings):
                t = (t + t) / (t * t + 1.0)
            out[k] = t
            most = max(most, abs(t))
        largest[block] = most
        block = _take(job)


def _tanh_codes(job: Any) -> None:
    """tanh of weights -> odd codes, and d code / d weight; `numbers` are (largest magnitude, 2^bits - 1)."""
    shape, values, numbers = _integers(job, 0), _doubles(job, 1), _doubles(job, 2)
    codes, slopes = _reals(job, 3), _reals(job, 4)
    size, largest, levels = shape[0], numbers[0], numbers[1]
    steep = levels / max(largest, 1e-300)
    block = _take(job)
    while block < job[1]:
        for k in range(block * size, min((block + 1) * size, len(values))):
            t = values[k] / largest if largest > 0.0 else values[k]
            slopes[k] = (1.0 - (t * largest) * (t * largest)) * steep
            codes[k] = np.rint((t * 0.5 + 0.5) * levels) * 2.0 - levels
        block = _take(job)


def _rescale(job: Any) -> None:
    """Bytes * gain -> clipped codes."""
    shape, codes, limits, values, packed = _integers(job, 0), _bytes(job, 1), _reals(job, 2), _values(job, 3), _bytes(job, 4)
    size, levels, gain = shape[0], limits[0], limits[1]
    block = _take(job)
    while block < job[1]:
        start, stop = block * size, min((block + 1) * size, len(codes))
        line, target, small = codes[start:stop], values[start:stop], packed[start:stop]
        for c in range(len(line)):
            code = np.rint(_clipped(np.float32(np.float32(line[c]) * gain), levels))
            target[c] = _write(code)
            small[c] = np.uint8(np.int32(code))
        block = _take(job)


def _rescale_back(job: Any) -> None:
    """The gradient of `_rescale`, and its sums [blocks, 2]: times code, times rounding error."""
    shape, codes, limits, gradient = _integers(job, 0), _bytes(job, 1), _reals(job, 2), _values(job, 3)
    result, out = _values(job, 4), _doubles(job, 5)
    size, levels, gain = shape[0], limits[0], limits[1]
    block = _take(job)
    while block < job[1]:
        start, stop = block * size, min((block + 1) * size, len(codes))
        line, slope, target = codes[start:stop], gradient[start:stop], result[start:stop]
        times_code, times_error = 0.0, 0.0
        for c in range(len(line)):
            steps = np.float32(np.float32(line[c]) * gain)
            inner = _read(slope[c]) if steps <= levels else np.float32(0.0)
            target[c] = _write(np.float32(inner * gain))
            if _LEARNS:
                times_code += np.float64(inner) * np.float64(line[c])
                times_error += np.float64(inner) * np.float64(steps - np.rint(steps))
        out[2 * block], out[2 * block + 1] = times_code, times_error
        block = _take(job)


@dataclass(frozen=True)
class Kinds:
    """What decides which loops a row needs."""

    half: bool = False
    """Values and gradients are bfloat16."""
    has_skip: bool = False
    learns: bool = False


def _by_kinds(template: Callable[[Any], None]) -> Callable[[Kinds], Loop]:
    """The loops made of a template, each compiled when it first runs."""
    @functools.cache
    def loop(kinds: Kinds) -> Loop:
        chosen = [name for name, is_so in dataclasses.asdict(kinds).items() if is_so]
        name = "_".join([template.__name__.strip("_"), *chosen])
        made: Loop = specialize(
            template, name, Loop, _HAS_SKIP=kinds.has_skip, _LEARNS=kinds.learns,
            _steps=_steps_with_skip if kinds.has_skip else _steps_alone, _values=_halves if kinds.half else _reals,
            _read=_from_bfloat16 if kinds.half else _same, _write=_to_bfloat16 if kinds.half else _same)
        return made

    return loop


moments, normalize, normalize_back = Loop(_moments), Loop(_normalize), Loop(_normalize_back)
tanh, tanh_codes = Loop(_tanh), Loop(_tanh_codes)
finish, reduce, differentiate = _by_kinds(_finish), _by_kinds(_reduce), _by_kinds(_differentiate)
rescale, rescale_back = _by_kinds(_rescale), _by_kinds(_rescale_back)
