"""The keys of qonnx's `inference_cost`, as it finds them in the QONNX file that sim.export writes of a program.

    op_mac_A_W   products of an input of type A with weights of type W     mem_w_W   weights    mem_o_T   results
    total_bops, total_macs, total_mem_w_bits, total_mem_w_elems, total_mem_o_bits, total_mem_o_elems
    unsupported  operators that it knows no cost of, as a text             discount_sparsity

Sums are of type INT32 there, an average is a convolution with weights of 1, and of weights that are 0 neither products nor
memory count.  The arithmetic is qonnx's own, in float64 and in its order, so that every bit of a number is the same
(qonnx.util.inference_cost, release 1.0).
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.program import Op, Program

SUM_TYPE, FLOAT = "INT32", "FLOAT32"
_FLOAT_BITS = 32


def type_name(form: IntFormat, is_weight: bool = False) -> str:
    """What qonnx calls an integer type.

    >>> type_name(IntFormat(4, signed=False)), type_name(IntFormat(1, signed=False)), type_name(IntFormat(8, signed=True))
    ('UINT4', 'BINARY', 'INT8')
    """
    if form.bits == 1:
        return "BIPOLAR" if form.signed and is_weight else "INT1" if form.signed else "BINARY"
    return f"{'' if form.signed else 'U'}INT{form.bits}"


def bits_of(name: str) -> int:
    """Of a type's name."""
    if name in ("BINARY", "BIPOLAR"):
        return 1
    return _FLOAT_BITS if name == FLOAT else int(re.sub(r"\D", "", name))


def _input_type(op: Op) -> str:
    """Of a tensor that is read: what enters as codes has no quantizer, and so no type, in the file."""
    return FLOAT if op.kind == "codes" or op.format is None else type_name(op.format)


def _conv(op: Any, ops: Mapping[str, Op]) -> tuple[str, str, int, int, int]:
    nonzero = int(np.count_nonzero(op.weights))
    return _input_type(ops[op.source]), type_name(op.weight_format, True), op.macs, op.weights.size, nonzero


def _pool(op: Any, ops: Mapping[str, Op]) -> tuple[str, str, int, int, int]:
    taps = op.window[0] * op.window[1] * op.shape[2]
    return _input_type(ops[op.source]), "INT2", op.shape[0] * op.shape[1] * taps, taps, taps


def _matmul(op: Any, ops: Mapping[str, Op]) -> tuple[str, str, int, int, int]:
    return type_name(op.operand), type_name(op.other_operand), op.macs, 0, 0


PRODUCTS: Mapping[str, Callable[[Any, Mapping[str, Op]], tuple[str, str, int, int, int]]] = {
    "conv": _conv, "pool": _pool, "matmul": _matmul}
"""Operations with products there -> types of both factors, products, weights, weights that are not 0."""


def _unsupported(op: Any) -> set[str]:
    """Operators of its export that qonnx has no cost of."""
    found: set[str] = set()
    requant = getattr(op, "requant", None)
    if op.kind in ("input", "table", "concat") or (requant is not None and requant.name != "fp32" and op.format is not None):
        found.add("MultiThreshold")
    if op.kind == "shortcut" and op.stride > 1:
        found.add("Slice")
    return found


def inference_cost(program: Program, discount_sparsity: bool = True) -> dict[str, Any]:
    """The total cost of one image under qonnx's keys."""
    ops = {op.name: op for op in program.ops}
    total: dict[str, Any] = {}
    unsupported: set[str] = set()
    for op in program.ops:
        unsupported |= _unsupported(op)
        if op.kind in PRODUCTS:
            for key, amount in _entries(op, PRODUCTS[op.kind](op, ops), discount_sparsity):
                total[key] = total.get(key, 0.0) + amount
    counted = dict(total)
    total["unsupported"] = "{" + ", ".join(map(repr, sorted(unsupported))) + "}" if unsupported else str(set())
    total["discount_sparsity"] = discount_sparsity
    for group in ("mem_w", "mem_o"):
        entries = [(bits_of(key.split("_")[2]), amount) for key, amount in counted.items() if key.startswith(group)]
        total[f"total_{group}_bits"] = sum((bits * amount for bits, amount in entries), 0.0)
        total[f"total_{group}_elems"] = sum((amount for _, amount in entries), 0.0)
    macs = [(key.split("_"), amount) for key, amount in counted.items() if key.startswith("op_mac")]
    total["total_bops"] = sum((bits_of(parts[2]) * bits_of(parts[3]) * amount for parts, amount in macs), 0.0)
    total["total_macs"] = sum((amount for _, amount in macs), 0.0)
    return total


def _entries(op: Op, found: tuple[str, str, int, int, int], discount: bool) -> Iterator[tuple[str, float]]:
    a, w, macs, weights, nonzero = found
    density = nonzero / weights if discount and weights else 1.0
    sums = SUM_TYPE if a != FLOAT else FLOAT
    yield f"op_mac_{a}_{w}", float(macs) * density
    yield f"mem_w_{w}", float(weights) * density
    yield f"mem_o_{sums}", float(math.prod(op.shape))
