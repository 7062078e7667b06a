"""LLVM IR that register tiles are made of.

Vectors may have any length: LLVM splits them into the registers that the processor has.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()

Emit = Callable[[Any, Sequence[Any]], None]


def machine_code(count: int, emit: Emit) -> Callable[..., None]:
    """A function of one tuple of `count` addresses and integers; `emit(builder, values)` writes its body."""

    @intrinsic
    def code(context: Any, arguments: Any) -> Any:
        if len(arguments) != count:
            raise TypeError(f"{count} integers expected, not {arguments}")

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            emit(builder, [context.cast(builder, builder.extract_value(values[0], index), kind, types.int64)
                           for index, kind in enumerate(arguments)])
            return context.get_dummy_value()

        return types.void(arguments), generate

    return code


def constant(value: int) -> Any:
    """An address or a stride."""
    return ir.Constant(I64, value)


def every(number: int, kind: Any) -> Any:
    """A vector of equal constants."""
    return ir.Constant(kind, [number] * kind.count)


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """The same value in every lane."""
    kind = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def halves(builder: Any, vector: Any) -> list[Any]:
    """Its first lanes, and its last ones."""
    lanes = range(vector.type.count)
    parts = lanes[: len(lanes) // 2], lanes[len(lanes) // 2 :]
    return [builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, len(part)), list(part))) for part in parts]


def joined(builder: Any, parts: Sequence[Any]) -> Any:
    """The lanes of two vectors, one behind the other."""
    lanes = range(sum(part.type.count for part in parts))
    return builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def load(builder: Any, address: Any, kind: Any, alignment: int) -> Any:
    """Whatever lies at an address."""
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = alignment
    return value


def store(builder: Any, value: Any, address: Any, alignment: int) -> None:
    """Write to an address."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = alignment


def registers(builder: Any, kind: Any, *shape: int) -> Any:
    """Nested lists of zeroed variables, which LLVM keeps in registers."""
    if shape:
        return [registers(builder, kind, *shape[1:]) for _ in range(shape[0])]
    variable = cgutils.alloca_once(builder, kind)
    builder.store(ir.Constant(kind, None), variable)
    return variable


def stored(builder: Any, kind: Any, *shape: int) -> Any:
    """The same, which stay in memory: what is seldom used leaves the registers to what is not."""
    if shape:
        return [stored(builder, kind, *shape[1:]) for _ in range(shape[0])]
    variable = cgutils.alloca_once(builder, kind)
    same = ir.FunctionType(variable.type, [variable.type])
    hidden = builder.asm(same, "", "=r,0", [variable], False)  # LLVM does not know that this is its address
    builder.store(ir.Constant(kind, None), hidden)
    return hidden


def call(builder: Any, name: str, kind: Any, arguments: Sequence[Any]) -> Any:
    """An LLVM intrinsic with a result of type `kind`."""
    signature = ir.FunctionType(kind, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def loop(builder: Any, count: Any) -> Any:
    """`with loop(...) as l:` repeats the block with l.index = 0 .. count - 1."""
    return cgutils.for_range(builder, constant(count) if isinstance(count, int) else count, intp=I64)


@contextlib.contextmanager
def window(builder: Any, x: tuple[Any, Any, Any, int], counts: tuple[Any, Any, Any], w: Any, w_step: int,
           at_segment: Callable[[], None] = lambda: None) -> Iterator[tuple[Any, Any]]:
    """`with window(...) as (codes, weights):` repeats the block for every step of a window, with the addresses of both.

    `x` is the address of the first code and the strides of rows, segments and steps, `counts` how many there are of each;
    `w` a variable with the address of the weights, which follow each other every `w_step` bytes.  `at_segment` writes what
    happens before each segment.
    """
    first, row_stride, segment_stride, step_bytes = x
    rows, segments, steps = counts
    with loop(builder, rows) as row:
        in_row = offset(builder, first, row.index, row_stride)
        with loop(builder, segments) as segment:
            at_segment()
            in_segment = offset(builder, in_row, segment.index, segment_stride)
            with loop(builder, steps) as step:
                weights = builder.load(w)
                yield offset(builder, in_segment, step.index, step_bytes), weights
                builder.store(offset(builder, weights, 1, w_step), w)


def opaque(builder: Any, value: Any) -> Any:
    """A constant that LLVM does not know: it stays in a register, and is not moved into what is done with it."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=x,0", [value], False)


def offset(builder: Any, base: Any, index: Any, stride: Any) -> Any:
    """base + index * stride; plain integers are welcome."""
    index, stride = (constant(v) if isinstance(v, int) else v for v in (index, stride))
    return builder.add(base, builder.mul(index, stride))


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
