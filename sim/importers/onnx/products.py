"""Matrix products: by constants as a convolution of one pixel, by activations as they are."""

import math
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.importers.onnx.graph import BatchError, Graph
from sim.importers.onnx.model import Node
from sim.importers.onnx.values import PLAIN, Codes, Sums, form_of
from sim.ops.matmul import MatMulOp, product_reach


def by_matrix(graph: Graph, node: Node, a: Codes, matrix: np.ndarray, zeros: np.ndarray,
              bias: np.ndarray | None = None) -> Sums:
    """Sums of a [..., depth] and constants [depth, columns] less their zero points, or of one matrix for each of a's.

    `bias`, one number or one per column, is in them; a stack of matrices has none.
    """
    from sim.importers.onnx.linear import filtered

    if matrix.ndim == 2:
        depth, columns = matrix.shape
        if not a.dims or a.dims[-1] != depth or zeros.size not in (1, columns):
            raise node.fail(f"a tensor {list(a.dims)} times a matrix {list(matrix.shape)}, with {zeros.size} zero points")
        a = graph.plain(a)
        whole = matrix.astype(np.int64) - zeros.reshape(-1)
        start = {} if bias is None else {"start": np.broadcast_to(bias.astype(np.int64).ravel(), columns)}
        return filtered(graph, a, whole[None, None], (*a.dims[:-1], columns), PLAIN, "fully_connected", **start)
    if zeros.size != 1:
        raise node.fail("matrices for each head with zero points of their own are not supported")
    if graph.batched and math.prod(matrix.shape[:-2]) != 1 and matrix.ndim > len(a.dims):
        raise BatchError
    heads = matrix.reshape(-1, *matrix.shape[-2:])
    form = form_of(str(matrix.dtype)) or IntFormat(16, signed=True)
    name = graph.build.constant(graph.build.name(f"{node.title}/matrix"), heads.astype(form.dtype), form, 1.0,
                                int(zeros.reshape(())))
    return by_activations(graph, node, a, Codes(name, heads.shape, PLAIN, form, int(zeros.reshape(()))))


def by_activations(graph: Graph, node: Node, a: Codes, b: Codes) -> Sums:
    """Sums of a [heads, tokens, depth] and b [heads, depth, columns]; fewer axes are one head."""
    if len(a.dims) < 2 or len(b.dims) < 2:
        if graph.batched:
            raise BatchError
        raise node.fail(f"a tensor {list(a.dims)} times a tensor {list(b.dims)}")
    left, right = _heads(graph, a), _heads(graph, b)
    (heads, tokens, depth), (others, summed, columns) = left.dims, right.dims
    if (heads, depth) != (others, summed):
        raise node.fail(f"a tensor {list(a.dims)} times a tensor {list(b.dims)}: heads or depths differ")
    reach = product_reach(left.form, right.form, depth, left.zero, right.zero)

    def emit(name: str, requant: Any, form: IntFormat | None, zero: int, scale: float) -> str:
        return graph.build.add(MatMulOp(
            graph.build.name(name), left.op, (heads, tokens, columns), form, right.op, left.form, right.form, depth, False,
            graph.build.accumulator("matmul"), requant, zero_point=zero, zero=left.zero, other_zero=right.zero), scale)

    dims = (*a.dims[:-1], columns)
    made = emit if len(dims) > 2 else _as_tokens(graph, emit, (tokens, columns))
    return Sums(made, dims, PLAIN, (-reach, reach), "matmul")


def _as_tokens(graph: Graph, emit: Any, sides: tuple[int, int]) -> Any:
    """One head's result as (tokens, 1, features), as tensors of two axes lie."""
    def emit_tokens(name: str, requant: Any, form: IntFormat | None, zero: int, scale: float) -> str:
        op = emit(f"{name}/head", requant, form, zero, scale)
        return graph.build.move(name, op, (1, *sides), (1, 0, 2), sides)

    return emit_tokens


def _heads(graph: Graph, codes: Codes) -> Codes:
    """A tensor of two axes or more as (heads, tokens, features)."""
    codes = graph.plain(codes)
    dims = (math.prod(codes.dims[:-2]), *codes.dims[-2:])
    if len(codes.dims) > 2:
        return Codes(codes.op, dims, PLAIN, codes.form, codes.zero)
    op = graph.build.move(f"{codes.op}/head", codes.op, dims, (0, 1, 2), dims)
    return Codes(op, dims, PLAIN, codes.form, codes.zero)
