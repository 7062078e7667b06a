"""One layer with registers: which of them do the same to each of its sums."""

from dataclasses import replace
from typing import Any

from sim.accumulator import END, Accumulator
from sim.lazy import cached_property
from sim.orders import DEFAULT
from sim.program import ConvOp
from sim.simplify import Extremes, fitting, simplified
from sim.steps.loops import LOOPS


def products_of(op: Any) -> int:
    """How many products each sum of an operation has."""
    return int(op.weights[..., 0].size) if isinstance(op, ConvOp) else int(op.depth)


class Layer:
    """An operation whose products go through registers, looked at once."""

    def __init__(self, op: Any) -> None:
        self.op, self.products = op, products_of(op)
        self._extremes: dict[str, Extremes] = {}

    def asked(self, register: Accumulator) -> Accumulator:
        """The registers as they are, whose counters tell of each; unlimited where all of them always hold their sums."""
        if not register.before:
            return register if self.simplest(register).is_limited else Accumulator()
        return Accumulator() if all(fitting(register, self._extremes_in(register))) else register

    def simplest(self, register: Accumulator) -> Accumulator:
        """Registers that do the same to every sum, the same ones for all that do; unlimited where no sum can be wrong."""
        if not register.before and (register.bits is None or register.bits >= self._safe_bits):
            return Accumulator()
        found = register if not register.before else simplified(register, self._extremes_in(register))
        is_one = not found.before and found.is_limited and found.is_whole(self.products)
        return replace(found, tile=END, order=DEFAULT) if is_one else found

    @cached_property
    def _safe_bits(self) -> int:
        """The width that can never overflow."""
        return int(self.op.safe_bits)

    def _extremes_in(self, register: Accumulator) -> Extremes:
        """The least and the largest value of each product, in the order of the registers."""
        if register.order not in self._extremes:
            self._extremes[register.order] = LOOPS[self.op.kind](self.op, register).extremes
        return self._extremes[register.order]
