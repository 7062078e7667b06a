"""The product of two activations: sums in floats that hold them exactly, or a register's loops."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.buffers import Padded
from sim.formats import EXACT_FLOAT32
from sim.kernels.conv import count_flags, wrap_sums
from sim.kernels.matmul import matmul_exact, matmul_saturating
from sim.ops.matmul import MatMulOp
from sim.steps.step import Step
from sim.steps.zero import requantize_into


class MatrixProduct(Step):
    """One product of a program; sums are exact below 2^24 in float32 and below 2^53 in float64, in any order."""

    def __init__(self, op: MatMulOp, isa: str) -> None:
        self.op = op
        register = op.accumulator.range
        self.register = register if register is not None and register.bits < op.safe_bits else None
        most = op.depth * op.operand.reach * op.other_operand.reach
        self.floats: Any = np.float32 if most < EXACT_FLOAT32 else np.float64

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> np.ndarray | None:
        """Codes of both factors -> codes."""
        sums, overflows = self.registers(inputs)
        if self.op.zero or self.op.other_zero:
            sums = sums + self._correction(inputs)
        requantize_into(self.op, sums, None, out)
        return overflows

    def registers(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray | None]:
        """int64 [N, heads, rows, columns], and overflows of each column."""
        a, b = self._factors(inputs)
        sums = np.empty((len(a), *self.op.shape), np.int64)
        if self.register is None:
            matmul_exact(*self._matrices(a, b, self.floats), self._flat(sums))
            return sums, None
        counts = np.empty((len(a) * self.op.shape[0], self.op.shape[2]), np.int32)
        if self.op.accumulator.overflow == "wrap":
            matmul_exact(*self._matrices(a, b, self.floats), self._flat(sums))
            wrap_sums(sums, -self.register.min, 2 * self.register.max + 1, counts)
        else:
            clipped = np.empty(sums.shape, np.uint8)
            limits = self.register.min, self.register.max
            matmul_saturating(*self._matrices(a, b, np.int64), self.op.accumulator.tile, *limits, self._flat(sums),
                              self._flat(clipped))
            count_flags(clipped, counts)
        return sums, counts.sum(0, dtype=np.int64)

    def _factors(self, inputs: Sequence[Padded]) -> tuple[np.ndarray, np.ndarray]:
        """[N, heads, rows, depth] and [N, heads, depth, columns]."""
        a, b = (x.interior for x in inputs)
        return a, b.swapaxes(2, 3) if self.op.transpose else b

    def _matrices(self, a: np.ndarray, b: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """The same, one matrix after another, in rows that lie side by side."""
        matrices = len(a) * self.op.shape[0]
        x = np.ascontiguousarray(a, dtype).reshape(matrices, *a.shape[2:])
        return x, np.ascontiguousarray(b, dtype).reshape(matrices, *b.shape[2:])

    def _flat(self, tensor: np.ndarray) -> np.ndarray:
        """[N, heads, rows, columns] as [matrices, rows, columns], the same memory."""
        return tensor.reshape(-1, *self.op.shape[1:])

    def _correction(self, inputs: Sequence[Padded]) -> np.ndarray:
        """D z_a z_b - z_a sum(b) - z_b sum(a), [N, heads, rows, columns]."""
        a, b = self._factors(inputs)
        of_a, of_b = a.sum(3, dtype=np.int64, keepdims=True), b.sum(2, dtype=np.int64, keepdims=True)
        zero, other = self.op.zero, self.op.other_zero
        correction: np.ndarray = self.op.depth * zero * other - zero * of_b - other * of_a
        return correction
