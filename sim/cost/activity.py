"""What only data tell: zero operands, and bits that toggle in weights, activations and registers.

The measure is one multiplier with one register that computes one output after the other, products in their order: a bit of
an operand toggles where it differs from that of the product before, within the same output; a bit of the register where an
addition changes it.  What happens between two outputs (loading, clearing) is an array's own affair and is not counted.
Products that come sorted are sorted behind the multiplier (PQS): its operands come in the order `rows`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.cost.operands import Factors, factors_of
from sim.cost.register import Registers, paired, toggled, widths
from sim.machine import Machine
from sim.orders import SORTED

_COUNTS = ("products", "zero_activations", "zero_weights", "zero_either", "toggled_weights", "toggled_activations",
           "toggled_register")
_MOST_SORTED = 1 << 20
"""Products that are sorted at one time."""


@dataclass(frozen=True)
class Activity:
    """Of one layer on `images` images: `products`, of which so many have an activation, a weight, or either that is 0.

    Toggled bits of all products' weights, activations and of the registers, which have `register_bits` together.  In a
    product of two activations the second stands where weights do.
    """

    images: int
    products: int
    zero_activations: int
    zero_weights: int
    zero_either: int
    toggled_weights: int
    toggled_activations: int
    toggled_register: int
    register_bits: int

    def share(self, name: str) -> float:
        """Of the products, in percent: `share("zero_either")`."""
        return 100.0 * int(getattr(self, name)) / self.products

    def per_product(self, name: str) -> float:
        """Toggled bits of a product: `per_product("toggled_register")`."""
        return int(getattr(self, name)) / self.products


def activity_of(machine: Machine, pixels: Any) -> dict[str, Activity]:
    """Of every operation with registers, by name; `pixels` as `Machine.run` takes them."""
    trace: dict[str, np.ndarray] = {}
    machine.results(pixels, trace)
    return {op.name: layer_activity(op, trace) for op in machine.program.accumulating}


def layer_activity(op: Any, codes: Mapping[str, np.ndarray]) -> Activity:
    """Of one operation, given the codes [N, H, W, C] of what it reads.  Raises CostError for an unknown kind."""
    inputs = [codes[name] for name in op.sources() if name != op.residual]
    counts = np.zeros(len(_COUNTS), dtype=object)  # Python's integers: nothing overflows
    for factors in factors_of(op, inputs):
        counts += _counted(op, factors)
    return Activity(images=len(inputs[0]), register_bits=sum(widths(op.accumulator, op.safe_bits)),
                    **dict(zip(_COUNTS, map(int, counts), strict=True)))


def _counted(op: Any, factors: Factors) -> np.ndarray:
    """Those of _COUNTS."""
    left, right = factors.left, factors.right
    rows, columns = len(left), right.shape[1]
    zero_left = (left == factors.zeros[0]).sum(0, dtype=np.int64)
    zero_right = (right == factors.zeros[1]).sum(1, dtype=np.int64)
    either = zero_left * columns + (rows - zero_left) * zero_right
    return np.array([rows * columns * len(right), int(zero_left.sum()) * columns, int(zero_right.sum()) * rows,
                     int(either.sum()), toggled(right[1:], right[:-1], factors.bits[1]) * rows,
                     toggled(left[:, 1:], left[:, :-1], factors.bits[0]) * columns, _in_registers(op, factors)], object)


def _in_registers(op: Any, factors: Factors) -> int:
    """Bits of all stages: of some rows at a time, if the products of all of them are needed at once."""
    left, right = factors.left.astype(np.int64), factors.right.astype(np.int64)
    together = max(1, _MOST_SORTED // max(1, right.size)) if op.accumulator.order == SORTED else max(1, len(left))
    return sum(_of_rows(op, left[begin : begin + together], right, factors.start) for begin in range(0, len(left), together))


def _of_rows(op: Any, left: np.ndarray, right: np.ndarray, start: np.ndarray | None) -> int:
    registers = Registers((len(left), right.shape[1]), op.accumulator, op.safe_bits, start)
    each: Iterable[np.ndarray] = (codes[:, None] * weights for codes, weights in
                                  zip(np.ascontiguousarray(left.T), right, strict=True))
    for products in paired(np.stack(list(each))) if op.accumulator.order == SORTED else each:
        registers.take(products)
    registers.close()
    return sum(registers.toggled)
